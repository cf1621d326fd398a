//! Records the round traces of a member, if tracing is on.

use alys_cluster::clock::Moment;
use alys_cluster::event::EventBus;
use alys_cluster::trace::{ParentSpan, Span, TraceContext};

use super::round_traces::RoundTraces;

/// The rounds in progress; `None` if nothing records spans. A round still in progress when this is dropped is recorded
/// as abandoned.
pub(super) struct RoundTracing(Option<TracedRounds>);

struct TracedRounds {
    rounds: RoundTraces,
    events: EventBus,
}

impl RoundTracing {
    /// Records the spans of `rounds` through the tracer of `events`.
    pub(super) fn new(events: &EventBus, rounds: impl FnOnce() -> RoundTraces) -> Self {
        Self(events.tracer().is_on().then(|| TracedRounds { rounds: rounds(), events: events.clone() }))
    }

    /// Updates the rounds and returns the result.
    pub(super) fn step<R: Default>(&mut self, step: impl FnOnce(&mut RoundTraces, Moment) -> R) -> R {
        self.0.as_mut().map_or_else(R::default, |told| step(&mut told.rounds, told.events.clock().now()))
    }

    /// Updates the rounds, and records the spans that ended.
    pub(super) fn tell(&mut self, step: impl FnOnce(&mut RoundTraces, Moment) -> Vec<Span>) {
        if let Some(told) = &mut self.0 {
            let over = step(&mut told.rounds, told.events.clock().now());
            told.events.tracer().record_all(over);
        }
    }

    /// The span to use as the parent of outgoing work.
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
