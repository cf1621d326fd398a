//! Traces of restarts: one for each decision, from the failure until the child runs again, linked to what the child
//! was at work on when it failed.

use std::collections::HashMap;

use super::child::ChildKey;
use super::decision::DecisionRecord;
use crate::clock::Moment;
use crate::event::EventBus;
use crate::id::ActorName;
use crate::trace::{Span, SpanBuilder, TraceContext, new_trace, span_id};

/// Restarts under way, at most one of each child. Those that are not over when this is dropped are told as failed.
pub(super) struct Restarts {
    events: EventBus,
    under_way: HashMap<ChildKey, Restart>,
    last: TraceContext,
}

/// A restart that was decided and is not over.
struct Restart {
    whole: SpanBuilder,
    part: SpanBuilder,
    over: Vec<Span>,
}

impl Restart {
    fn end(mut self, now: Moment, error: Option<String>) -> Vec<Span> {
        self.over.extend(match error {
            None => [self.part.end(now), self.whole.end(now)],
            Some(reason) => [self.part.fail(now, reason.clone()), self.whole.fail(now, reason)],
        });
        self.over
    }
}

impl Restarts {
    pub(super) fn new(events: EventBus) -> Self {
        Self { events, under_way: HashMap::new(), last: TraceContext::default() }
    }

    fn now(&self) -> Moment {
        self.events.clock().now()
    }

    /// A failure was decided about. Gives the trace of what follows.
    pub(super) fn decided(
        &mut self,
        key: ChildKey,
        supervisor: &ActorName,
        record: &DecisionRecord,
        cause: TraceContext,
    ) -> TraceContext {
        if !self.events.tracer().is_on() {
            return TraceContext::default();
        }
        let (at, failure, decision) = (record.inputs.now, &record.failure, &record.decision);
        let mut whole = SpanBuilder::root(new_trace(), "restart", at)
            .with("alys.actor", record.child.to_string())
            .with("alys.supervisor", supervisor.to_string())
            .with("alys.failure", failure.kind().kind())
            .with("alys.failure.class", failure.class().as_str())
            .with("alys.failure.message", failure.message().to_owned())
            .with("alys.decision", decision.step.as_str())
            .with("alys.strategy", record.inputs.strategy.as_str())
            .with("alys.attempt", record.inputs.attempt)
            .with("alys.delay_ms", decision.due.since(at).as_millis() as u64)
            .with("alys.halts_consensus", decision.halts);
        if let Some(obstacle) = decision.obstacle {
            whole.set("alys.obstacle", obstacle.to_string());
        }
        whole.link(cause);
        if let Some(before) = self.under_way.remove(&key) {
            // It did not come to run: this one follows from that one.
            whole.link(before.whole.context());
            self.events.tracer().record_all(before.end(self.now(), Some(failure.to_string())));
        }
        self.last = whole.context();
        if decision.step.is_restart() {
            let part = SpanBuilder::child(whole.context(), span_id(), "wait", at);
            self.under_way.insert(key, Restart { whole, part, over: Vec::new() });
        } else {
            self.events.tracer().record(whole.fail(self.now(), failure.to_string()));
        }
        self.last
    }

    /// A child is about to be started.
    pub(super) fn starting(&mut self, key: ChildKey) {
        let now = self.now();
        if let Some(restart) = self.under_way.get_mut(&key) {
            let start = SpanBuilder::child(restart.whole.context(), span_id(), "start", now);
            let waited = std::mem::replace(&mut restart.part, start);
            restart.over.push(waited.end(now));
        }
    }

    /// It runs. Gives the trace in which it was brought back, if it was.
    pub(super) fn started(&mut self, key: ChildKey) -> TraceContext {
        let Some(restart) = self.under_way.remove(&key) else { return TraceContext::default() };
        let context = restart.whole.context();
        self.events.tracer().record_all(restart.end(self.now(), None));
        context
    }

    /// It does not come back by itself, for it is `phase` now.
    pub(super) fn given_up(&mut self, key: ChildKey, phase: &str) {
        if let Some(restart) = self.under_way.remove(&key) {
            self.events.tracer().record_all(restart.end(self.now(), Some(format!("the child is {phase}"))));
        }
    }

    /// The last decision.
    pub(super) fn last(&self) -> TraceContext {
        self.last
    }
}

impl Drop for Restarts {
    fn drop(&mut self) {
        for (_, restart) in std::mem::take(&mut self.under_way) {
            let reason = "the supervisor ended before the child ran again".to_owned();
            self.events.tracer().record_all(restart.end(self.now(), Some(reason)));
        }
    }
}
