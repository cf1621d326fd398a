//! What other members may reach: an allow-list, with how each is asked.

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

/// How questions to an actor and their answers are written.
pub trait Protocol: Send + Sync + 'static {
    /// Its name with its version, such as `chain/1`.
    const NAME: &'static str;
    /// A question.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// An answer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// Questions of one member that may be under way at once; more are refused.
pub const SERVED_MAX: usize = 1_024;
/// The bytes of such questions together; more are refused.
pub const SERVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest question or answer, in bytes: what a message may carry, less what is wrapped around it.
const BYTES_MAX: usize = codec::MESSAGE_BYTES_MAX - 1_024;

/// The bytes of a question or an answer, if they fit into a message.
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

/// What other members may reach of this one.
#[derive(Clone)]
pub struct Exports {
    exports: BTreeMap<ActorName, Export>,
    /// Questions under way by who asks; they outlive a restart of the actor that passes them on.
    served: SenderQuota,
}

impl Default for Exports {
    fn default() -> Self {
        let most = Load { messages: SERVED_MAX, bytes: SERVED_BYTES_MAX };
        Self { exports: BTreeMap::new(), served: SenderQuota::new(most) }
    }
}

impl Exports {
    /// Lets other members ask `actor`: `serve` is given who asks and the question, and answers or says why not.
    ///
    /// # Panics
    ///
    /// If these are more actors than a member may publish.
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

    /// Those that are registered, as they are published.
    pub(super) fn actors(&self, now: Moment, registry: &ThreadSafeActorRegistry) -> Actors {
        let published = self
            .exports
            .iter()
            .filter_map(|(name, export)| Some(Advertised::of(now, &registry.entry(name)?, export.protocol)));
        Actors(published.collect())
    }

    /// Counts one more question of `by`; an error if too many are under way.
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

    /// Who is published.
    pub(super) fn names(&self) -> impl Iterator<Item = &ActorName> {
        self.exports.keys()
    }

    /// The answer to a question, or why there is none. Names are as they came.
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

/// A name as a member wrote it, cut to what can be read.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(64).collect()
}
