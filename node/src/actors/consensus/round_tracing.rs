//! Tells the rounds of a member to whoever takes spans, if anybody does.

use alys_cluster::clock::Moment;
use alys_cluster::event::EventBus;
use alys_cluster::trace::{ParentSpan, Span, TraceContext};

use super::round_traces::RoundTraces;

/// The rounds under way, where somebody listens; nothing where nobody does. What is under way when this is dropped is
/// told as abandoned.
pub(super) struct RoundTracing(Option<TracedRounds>);

struct TracedRounds {
    rounds: RoundTraces,
    events: EventBus,
}

impl RoundTracing {
    /// Tells `rounds` to whoever listens on `events`.
    pub(super) fn new(events: &EventBus, rounds: impl FnOnce() -> RoundTraces) -> Self {
        Self(events.tracer().is_on().then(|| TracedRounds { rounds: rounds(), events: events.clone() }))
    }

    /// Lets the rounds take a step; gives what it gives.
    pub(super) fn step<R: Default>(&mut self, step: impl FnOnce(&mut RoundTraces, Moment) -> R) -> R {
        self.0.as_mut().map_or_else(R::default, |told| step(&mut told.rounds, told.events.clock().now()))
    }

    /// Lets the rounds take a step, and tells what is over by it.
    pub(super) fn tell(&mut self, step: impl FnOnce(&mut RoundTraces, Moment) -> Vec<Span>) {
        if let Some(told) = &mut self.0 {
            let over = step(&mut told.rounds, told.events.clock().now());
            told.events.tracer().record_all(over);
        }
    }

    /// What is worked on.
    pub(super) fn cause(&self, context: impl FnOnce(&RoundTraces) -> TraceContext) -> Option<ParentSpan> {
        let context = context(&self.0.as_ref()?.rounds);
        context.is_sampled().then(|| ParentSpan::local(context))
    }
}

impl Drop for RoundTracing {
    fn drop(&mut self) {
        self.tell(RoundTraces::abandoned);
    }
}
