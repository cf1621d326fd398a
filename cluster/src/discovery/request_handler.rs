//! Handles requests of other members: forwards them to the published actors, and watches those actors.

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

/// Answers requests for the published actors.
pub struct RequestHandler {
    exports: Exports,
    registry: ThreadSafeActorRegistry,
    last_words: LastWords,
    events: EventBus,
    changes: Arc<Changes>,
}

/// Notifies watches of changes to published actors: one registry subscription serves all watches of all members.
struct Changes {
    of: BTreeMap<ActorName, watch::Sender<()>>,
    /// Task that follows the registry; started by the first watch.
    follower: OnceLock<AbortHandle>,
}

impl Changes {
    /// Notifies of every change to `actor` from now on; `None` if it is not published.
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
            // A new listing: the changes in between are unknown, so notify all.
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
    /// Creates a handler for `exports`. `registry` provides their status, `last_words` the reason why they stopped;
    /// `events` receives the spans of traced requests.
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

/// Span of a traced request while it is being answered.
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

/// Whether the actor is not running.
fn has_ended(standing: EntryStatus) -> bool {
    use ActorLifecycleState::{Failed, Suspended, Terminated};
    [Failed, Terminated, Suspended].contains(&standing.state)
}

/// Whether incarnation `life` of the actor has stopped.
fn is_over(standing: Option<EntryStatus>, life: Incarnation) -> bool {
    standing.is_none_or(|standing| standing.incarnation != life || has_ended(standing))
}

/// Whether `life` is the latest incarnation that stopped.
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
                // Never fails: `changes` keeps the sender alive.
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
