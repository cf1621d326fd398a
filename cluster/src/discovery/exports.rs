//! What other members may reach: an allow-list, with how each is asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::advert::{Actors, Advertised};
use crate::clock::Moment;
use crate::id::{ActorName, NodeId};
use crate::registry::ThreadSafeActorRegistry;
use crate::transport::codec;

/// How questions to an actor and their answers are written.
pub trait Protocol: Send + Sync + 'static {
    /// Its name with its version, such as `chain/1`.
    const NAME: &'static str;
    /// A question.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// An answer.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

type Serve = Arc<dyn Fn(NodeId, &[u8]) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

#[derive(Clone)]
struct Export {
    protocol: &'static str,
    serve: Serve,
}

/// What other members may reach of this one.
#[derive(Clone, Default)]
pub struct Exports {
    exports: BTreeMap<ActorName, Export>,
}

impl Exports {
    /// Lets other members ask `actor`: `serve` is given who asks and the question, and answers or says why not.
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
                async move { codec::encode(&answer.await?).map_err(|error| error.to_string()) }.boxed()
            }
        });
        self.exports.insert(actor, Export { protocol: P::NAME, serve });
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

    /// Whether `actor` is published.
    pub(super) fn contains(&self, actor: &ActorName) -> bool {
        self.exports.contains_key(actor)
    }

    /// The answer to a question, or why there is none.
    pub(super) fn serve(
        &self,
        from: NodeId,
        actor: &ActorName,
        protocol: &str,
        question: &[u8],
    ) -> Result<BoxFuture<'static, Result<Vec<u8>, String>>, String> {
        let export =
            self.exports.get(actor).ok_or_else(|| format!("{actor} may not be reached from outside"))?;
        if export.protocol != protocol {
            let expected = export.protocol;
            return Err(format!(
                "{actor} is asked in {expected}; found {:?}",
                protocol.chars().take(64).collect::<String>()
            ));
        }
        Ok((export.serve)(from, question))
    }
}
