//! Tells the rounds of a member to whoever takes spans, if anybody does.

use alys_cluster::clock::Moment;
use alys_cluster::event::EventBus;
use alys_cluster::trace::{ParentSpan, Span, TraceContext};

use super::trace::Rounds;

/// The rounds under way, where somebody listens; nothing where nobody does. What is under way when this is dropped is
/// told as abandoned.
pub(super) struct Telling(Option<Told>);

struct Told {
    rounds: Rounds,
    events: EventBus,
}

impl Telling {
    /// Tells `rounds` to whoever listens on `events`.
    pub(super) fn new(events: &EventBus, rounds: impl FnOnce() -> Rounds) -> Self {
        Self(events.tracer().is_on().then(|| Told { rounds: rounds(), events: events.clone() }))
    }

    /// Lets the rounds take a step; gives what it gives.
    pub(super) fn step<R: Default>(&mut self, step: impl FnOnce(&mut Rounds, Moment) -> R) -> R {
        self.0.as_mut().map_or_else(R::default, |told| step(&mut told.rounds, told.events.clock().now()))
    }

    /// Lets the rounds take a step, and tells what is over by it.
    pub(super) fn tell(&mut self, step: impl FnOnce(&mut Rounds, Moment) -> Vec<Span>) {
        if let Some(told) = &mut self.0 {
            let over = step(&mut told.rounds, told.events.clock().now());
            told.events.tracer().record_all(over);
        }
    }

    /// What is worked on.
    pub(super) fn cause(&self, context: impl FnOnce(&Rounds) -> TraceContext) -> Option<ParentSpan> {
        let context = context(&self.0.as_ref()?.rounds);
        context.is_sampled().then(|| ParentSpan::local(context))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.tell(Rounds::abandoned);
    }
}
