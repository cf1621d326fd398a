//! Where questions of other members arrive: passed on to the actors that are published, and watched for them.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::exports::{Exports, shown};
use crate::event::EventBus;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::registry::{ActorLifecycleState, ActorQuery, Pattern, Standing, ThreadSafeActorRegistry};
use crate::trace::{Cause, Draft, Ongoing, SpanKind, current, span_id, within, within_sync};
use crate::transport::gateway::{Answer, Answers};

/// Why an actor ended, as far as its supervisor knows.
pub type LastWords = Arc<dyn Fn(&ActorName) -> Option<String> + Send + Sync>;

/// Answers for the actors that are published.
pub struct Reception {
    /// Which.
    pub exports: Exports,
    /// Knows how they are.
    pub registry: ThreadSafeActorRegistry,
    /// Knows why they ended.
    pub last_words: LastWords,
    /// Hears of questions that are traced.
    pub events: EventBus,
}

/// A question that is traced, while it is answered.
struct Asked {
    ongoing: Ongoing,
    cause: Option<Cause>,
}

impl Asked {
    fn of(events: &EventBus, from: &NodeId, to: &[u8]) -> Option<Self> {
        let cause = current().filter(|_| events.tracer().is_on())?;
        let draft = Draft::child(cause.context, span_id(), "answer", events.clock().now())
            .kind(SpanKind::Server)
            .with("rpc.system", "ractor")
            .with("alys.actor", shown(to))
            .with("alys.peer", from.to_string());
        let cause = cause.passed_on(draft.context());
        Some(Self { ongoing: events.begin(draft), cause })
    }

    fn answered(self, outcome: &Result<Vec<u8>, String>) {
        self.ongoing.over(outcome.as_ref().err().cloned());
    }
}

/// Whether the actor leads no life at present.
fn has_ended(standing: Standing) -> bool {
    use ActorLifecycleState::{Failed, Suspended, Terminated};
    [Failed, Terminated, Suspended].contains(&standing.state)
}

/// Whether that life is over.
fn is_over(standing: Option<Standing>, life: Incarnation) -> bool {
    standing.is_none_or(|standing| standing.incarnation != life || has_ended(standing))
}

/// Whether it was the last to end.
fn ended_last(standing: Option<Standing>, life: Incarnation) -> bool {
    standing.is_none_or(|standing| match standing.incarnation.0.checked_sub(life.0) {
        Some(0) => true,
        Some(1) => !has_ended(standing),
        _ => false,
    })
}

impl Answers for Reception {
    fn answer(&self, from: &NodeId, to: &[u8], protocol: &[u8], question: &[u8]) -> Result<Answer, String> {
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
        let name = name.filter(|name| self.exports.contains(name));
        let name = name.ok_or_else(|| format!("{} may not be watched from outside", shown(to)))?;
        let pattern = Pattern::glob(name.as_str()).map_err(|error| error.to_string())?;
        let mut changes =
            self.registry.subscribe(ActorQuery::Name(pattern)).map_err(|error| error.to_string())?;
        let (registry, last_words) = (self.registry.clone(), self.last_words.clone());
        Ok(async move {
            while !is_over(registry.standing(&name), life) {
                changes.next().await;
            }
            let standing = registry.standing(&name);
            let words = if ended_last(standing, life) { last_words(&name) } else { None };
            words.unwrap_or_else(|| format!("life {life} of it is over"))
        }
        .boxed())
    }
}
