//! Lists the actors that other members may reach (an allow-list), each with its protocol.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::advert::{ACTORS_MAX, Actors, Advertised};
use crate::clock::Moment;
use crate::id::{ActorName, NodeId};
use crate::registry::ThreadSafeActorRegistry;
use crate::transport::codec;
use crate::transport::sender_quota::{Load, SenderQuota, Share};

/// Encoding of the requests to an actor and of its replies.
pub trait Protocol: Send + Sync + 'static {
    /// Name with version, such as `chain/1`.
    const NAME: &'static str;
    /// Request type.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// Reply type.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// Maximum number of pending requests of one member; more are refused.
pub const SERVED_MAX: usize = 1_024;
/// Maximum total size of those requests, in bytes; more are refused.
pub const SERVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Maximum size of a request or reply, in bytes: the message limit minus room for the envelope.
const BYTES_MAX: usize = codec::MESSAGE_BYTES_MAX - 1_024;

/// Encodes a request or reply; fails if it does not fit into a message.
pub(super) fn bounded<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let bytes = codec::encode(value).map_err(|error| error.to_string())?;
    let length = bytes.len();
    if length <= BYTES_MAX {
        Ok(bytes)
    } else {
        Err(format!("it has {length} bytes; expected at most {BYTES_MAX}"))
    }
}

type Serve = Arc<dyn Fn(NodeId, &[u8]) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

#[derive(Clone)]
struct Export {
    protocol: &'static str,
    serve: Serve,
}

/// Actors of this member that other members may reach.
#[derive(Clone)]
pub struct Exports {
    exports: BTreeMap<ActorName, Export>,
    /// Quota of pending requests by sender; it survives a restart of the actor that forwards them.
    served: SenderQuota,
}

impl Default for Exports {
    fn default() -> Self {
        let most = Load { messages: SERVED_MAX, bytes: SERVED_BYTES_MAX };
        Self { exports: BTreeMap::new(), served: SenderQuota::new(most) }
    }
}

impl Exports {
    /// Lets other members send requests to `actor`: `serve` receives the sender and the request, and answers or says
    /// why not.
    ///
    /// # Panics
    ///
    /// If this exceeds the number of actors a member may publish.
    #[must_use]
    pub fn with<P: Protocol, F>(
        mut self,
        actor: ActorName,
        serve: impl Fn(NodeId, P::Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<P::Reply, String>> + Send + 'static,
    {
        let serve: Serve = Arc::new(move |from, question| match codec::decode(question) {
            Err(error) => std::future::ready(Err(error.to_string())).boxed(),
            Ok(question) => {
                let answer = serve(from, question);
                async move { bounded(&answer.await?) }.boxed()
            }
        });
        self.exports.insert(actor, Export { protocol: P::NAME, serve });
        assert!(self.exports.len() <= ACTORS_MAX, "more actors than a member may publish");
        self
    }

    /// The exported actors that are registered, in their published form.
    pub(super) fn actors(&self, now: Moment, registry: &ThreadSafeActorRegistry) -> Actors {
        let published = self
            .exports
            .iter()
            .filter_map(|(name, export)| Some(Advertised::of(now, &registry.entry(name)?, export.protocol)));
        Actors(published.collect())
    }

    /// Takes quota for one more request of `by`; fails if too many are pending.
    pub(super) fn one_more(&self, by: &NodeId, bytes: usize) -> Result<Share, String> {
        self.served.take(by, bytes).map_err(|Load { messages, bytes }| {
            format!(
                "{messages} questions of {bytes} bytes are under way; expected fewer than {SERVED_MAX} of at most \
                 {SERVED_BYTES_MAX} bytes together"
            )
        })
    }

    /// Whether `actor` is published.
    pub(super) fn contains(&self, actor: &ActorName) -> bool {
        self.exports.contains_key(actor)
    }

    /// Names of the published actors.
    pub(super) fn names(&self) -> impl Iterator<Item = &ActorName> {
        self.exports.keys()
    }

    /// Answers a request, or returns why not. Names are unchecked.
    pub(super) fn serve(
        &self,
        from: &NodeId,
        actor: &[u8],
        protocol: &[u8],
        question: &[u8],
    ) -> Result<BoxFuture<'static, Result<Vec<u8>, String>>, String> {
        let export = std::str::from_utf8(actor).ok().and_then(|name| self.exports.get(name));
        let export = export.ok_or_else(|| format!("{} may not be reached from outside", shown(actor)))?;
        if export.protocol.as_bytes() != protocol {
            let expected = export.protocol;
            return Err(format!("{} is asked in {expected}; found {:?}", shown(actor), shown(protocol)));
        }
        Ok((export.serve)(from.clone(), question))
    }
}

/// Makes a received name printable and truncates it.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).collect()
}
