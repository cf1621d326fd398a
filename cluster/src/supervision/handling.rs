//! Creates a span for each traced message that an actor handles, with the actor's name and the duration.

use std::sync::Arc;

use super::panic::PanicSlot;
use crate::event::EventBus;
use crate::id::ActorName;
use crate::mailbox::Mail;
use crate::trace::{ParentSpan, SpanBuilder, SpanGuard, SpanKind, TraceContext, span_id};

/// Reads the parent span from a message.
type CauseOf<M> = fn(&M) -> Option<ParentSpan>;

/// Creates spans for the messages of one actor.
pub(super) struct Traced<M> {
    actor: ActorName,
    events: EventBus,
    cause_of: CauseOf<M>,
}

impl<M: Send + 'static> Traced<Mail<M>> {
    pub(super) fn new(actor: ActorName, events: EventBus) -> Self {
        Self { actor, events, cause_of: Mail::cause }
    }
}

impl<M> Traced<M> {
    /// The parent span for the handler of `message`, and the span to record. A message from another member gets no span
    /// here: its actor creates one, because only the actor knows the meaning of the message.
    pub(super) fn begin(
        &self,
        message: &M,
        slot: &Arc<PanicSlot>,
    ) -> (Option<ParentSpan>, Option<SpanGuard>) {
        let cause = (self.cause_of)(message);
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
