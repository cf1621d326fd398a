//! Traces restarts: one trace per decision, from the failure until the child runs again, linked to the span that the
//! child was handling when it failed.

use std::collections::HashMap;

use super::child::ChildKey;
use super::decision::DecisionRecord;
use crate::clock::Moment;
use crate::event::EventBus;
use crate::id::ActorName;
use crate::trace::{Span, SpanBuilder, TraceContext, new_trace, span_id};

/// Restarts in progress, at most one per child. Those still in progress on drop are recorded as failed.
pub(super) struct Restarts {
    events: EventBus,
    under_way: HashMap<ChildKey, Restart>,
    last: TraceContext,
}

/// A restart that was decided and is in progress.
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

    /// Begins the trace of a decision. Returns its context.
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
            // The previous restart failed before the child ran: link this one to it.
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

    /// Ends the wait before a start and begins the start itself.
    pub(super) fn starting(&mut self, key: ChildKey) {
        let now = self.now();
        if let Some(restart) = self.under_way.get_mut(&key) {
            let start = SpanBuilder::child(restart.whole.context(), span_id(), "start", now);
            let waited = std::mem::replace(&mut restart.part, start);
            restart.over.push(waited.end(now));
        }
    }

    /// Ends the restart because the child runs. Returns the context of its trace, if it was restarted.
    pub(super) fn started(&mut self, key: ChildKey) -> TraceContext {
        let Some(restart) = self.under_way.remove(&key) else { return TraceContext::default() };
        let context = restart.whole.context();
        self.events.tracer().record_all(restart.end(self.now(), None));
        context
    }

    /// Ends the restart as failed: the child is `phase` and is not restarted automatically.
    pub(super) fn given_up(&mut self, key: ChildKey, phase: &str) {
        if let Some(restart) = self.under_way.remove(&key) {
            self.events.tracer().record_all(restart.end(self.now(), Some(format!("the child is {phase}"))));
        }
    }

    /// Trace context of the last decision.
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
