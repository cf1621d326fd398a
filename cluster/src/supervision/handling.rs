//! Creates a span for each traced message that an actor handles, with the actor's name and the duration.

use std::sync::Arc;

use super::panic::PanicSlot;
use crate::event::EventBus;
use crate::id::ActorName;
use crate::trace::{ParentSpan, SpanBuilder, SpanGuard, SpanKind, TraceContext, span_id};

/// Makes the spans of one actor.
pub(super) struct Traced {
    actor: ActorName,
    events: EventBus,
}

impl Traced {
    /// Spans of the actor `name`, if traces are on.
    pub(super) fn of(name: &ActorName, events: &EventBus) -> Option<Self> {
        events.tracer().is_on().then(|| Self { actor: name.clone(), events: events.clone() })
    }

    /// The parent of what the handler of a message caused by `cause` does, and the span of handling it. A message of
    /// another member gets no span here: its actor makes one, because it knows what the message means.
    pub(super) fn begin(
        &self,
        cause: Option<ParentSpan>,
        slot: &Arc<PanicSlot>,
    ) -> (Option<ParentSpan>, Option<SpanGuard>) {
        let Some(cause) = cause.filter(|cause| !cause.is_remote && self.events.tracer().is_on()) else {
            slot.set_cause(cause.map_or_else(TraceContext::default, |cause| cause.context));
            return (cause.and_then(ParentSpan::handed_on), None);
        };
        let draft = SpanBuilder::child(cause.context, span_id(), "handle", self.events.clock().now())
            .kind(SpanKind::Consumer)
            .with("messaging.system", "ractor")
            .with("messaging.operation.type", "process")
            .with("messaging.destination.name", self.actor.to_string())
            .with("alys.actor", self.actor.to_string());
        slot.set_cause(draft.context());
        let passed_on = cause.passed_on(draft.context());
        (passed_on, Some(self.events.begin(draft)))
    }
}
