//! Where questions of other members arrive: passed on to the actors that are published, and watched for them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::exports::{Exports, shown};
use crate::event::EventBus;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::port::LastWords;
use crate::registry::{
    ActorLifecycleState, ActorQuery, EntryStatus, RegistryChange, ThreadSafeActorRegistry,
};
use crate::trace::{ParentSpan, SpanBuilder, SpanGuard, SpanKind, current, span_id, within, within_sync};
use crate::transport::gateway::{Answers, PendingAnswer};

/// Answers for the actors that are published.
pub struct RequestHandler {
    exports: Exports,
    registry: ThreadSafeActorRegistry,
    last_words: LastWords,
    events: EventBus,
    changes: Arc<Changes>,
}

/// Tells watches of changes to the actors that are published: one subscription to the registry serves all watches of all
/// members.
struct Changes {
    of: BTreeMap<ActorName, watch::Sender<()>>,
    /// Follows the registry, from the first watch on.
    follower: OnceLock<AbortHandle>,
}

impl Changes {
    /// Becomes ready with every change to `actor` from now on, if it is published.
    fn of(
        self: &Arc<Self>,
        actor: &ActorName,
        registry: &ThreadSafeActorRegistry,
    ) -> Option<watch::Receiver<()>> {
        self.follower.get_or_init(|| {
            let (changes, registry) = (Arc::downgrade(self), registry.clone());
            tokio::spawn(async move {
                let mut subscription =
                    registry.subscribe(ActorQuery::All).expect("a query that does not depend on time");
                loop {
                    let change = subscription.next().await;
                    let Some(changes) = changes.upgrade() else { return };
                    changes.tell(&change);
                }
            })
            .abort_handle()
        });
        self.of.get(actor).map(watch::Sender::subscribe)
    }

    fn tell(&self, change: &RegistryChange) {
        let name = match change {
            // What was missed is not known.
            RegistryChange::Listing(_) => return self.of.values().for_each(|told| told.send_replace(())),
            RegistryChange::Added(entry) | RegistryChange::Changed(entry) => entry.name(),
            RegistryChange::Removed(name) => name,
        };
        if let Some(told) = self.of.get(name) {
            told.send_replace(());
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}

impl RequestHandler {
    /// Answers for `exports`. `registry` knows how they are, `last_words` why they ended, and `events` hears of questions
    /// that are traced.
    pub fn new(
        exports: Exports,
        registry: ThreadSafeActorRegistry,
        last_words: LastWords,
        events: EventBus,
    ) -> Self {
        let of = exports.names().map(|name| (name.clone(), watch::Sender::new(()))).collect();
        let changes = Arc::new(Changes { of, follower: OnceLock::new() });
        Self { exports, registry, last_words, events, changes }
    }
}

/// A question that is traced, while it is answered.
struct Asked {
    guard: SpanGuard,
    cause: Option<ParentSpan>,
}

impl Asked {
    fn of(events: &EventBus, from: &NodeId, to: &[u8]) -> Option<Self> {
        let cause = current().filter(|_| events.tracer().is_on())?;
        let draft = SpanBuilder::child(cause.context, span_id(), "answer", events.clock().now())
            .kind(SpanKind::Server)
            .with("rpc.system", "ractor")
            .with("alys.actor", shown(to))
            .with("alys.peer", from.to_string());
        let cause = cause.passed_on(draft.context());
        Some(Self { guard: events.begin(draft), cause })
    }

    fn answered(self, outcome: &Result<Vec<u8>, String>) {
        self.guard.over(outcome.as_ref().err().cloned());
    }
}

/// Whether the actor leads no life at present.
fn has_ended(standing: EntryStatus) -> bool {
    use ActorLifecycleState::{Failed, Suspended, Terminated};
    [Failed, Terminated, Suspended].contains(&standing.state)
}

/// Whether that life is over.
fn is_over(standing: Option<EntryStatus>, life: Incarnation) -> bool {
    standing.is_none_or(|standing| standing.incarnation != life || has_ended(standing))
}

/// Whether it was the last to end.
fn ended_last(standing: Option<EntryStatus>, life: Incarnation) -> bool {
    standing.is_none_or(|standing| match standing.incarnation.0.checked_sub(life.0) {
        Some(0) => true,
        Some(1) => !has_ended(standing),
        _ => false,
    })
}

impl Answers for RequestHandler {
    fn answer(
        &self,
        from: &NodeId,
        to: &[u8],
        protocol: &[u8],
        question: &[u8],
    ) -> Result<PendingAnswer, String> {
        let served = self.exports.one_more(from, question.len())?;
        let asked = Asked::of(&self.events, from, to);
        let cause = asked.as_ref().and_then(|asked| asked.cause);
        let answer = within_sync(cause, || self.exports.serve(from, to, protocol, question));
        Ok(within(cause, async move {
            let outcome = match answer {
                Ok(answer) => answer.await,
                Err(reason) => Err(reason),
            };
            drop(served);
            if let Some(asked) = asked {
                asked.answered(&outcome);
            }
            outcome
        })
        .boxed())
    }

    fn watch(&self, _: &NodeId, to: &[u8], life: Incarnation) -> Result<BoxFuture<'static, String>, String> {
        let name = std::str::from_utf8(to).ok().and_then(|name| ActorName::new(name).ok());
        let watched = name.and_then(|name| Some((self.changes.of(&name, &self.registry)?, name)));
        let (mut changed, name) =
            watched.ok_or_else(|| format!("{} may not be watched from outside", shown(to)))?;
        let (registry, last_words) = (self.registry.clone(), self.last_words.clone());
        let changes = self.changes.clone();
        Ok(async move {
            while !is_over(registry.standing(&name), life) {
                // Its sender is there as long as this is.
                let _ = changed.changed().await;
            }
            drop(changes);
            let standing = registry.standing(&name);
            let words = if ended_last(standing, life) { last_words(&name) } else { None };
            words.unwrap_or_else(|| format!("life {life} of it is over"))
        }
        .boxed())
    }
}
