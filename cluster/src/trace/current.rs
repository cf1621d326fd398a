//! The parent span of the current task.
//!
//! Messages sent by the task carry it, and so do envelopes to other members and events on the bus. Messages that an
//! actor sends to itself do not: timers are not a consequence of the current message, and would carry a trace forever.

use std::future::Future;

use tokio::task::futures::TaskLocalFuture;

use super::context::TraceContext;

/// Span that the current work belongs to, and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSpan {
    /// Context of the span.
    pub context: TraceContext,
    /// Whether the span came from another member.
    pub is_remote: bool,
    /// Number of actors that have passed it on.
    pub hops: u8,
}

/// Maximum number of actors that pass on a parent span, so that two actors that answer each other endlessly do not
/// carry a trace forever.
const HOPS_MAX: u8 = 16;

impl ParentSpan {
    /// A span of this member.
    pub fn local(context: TraceContext) -> Self {
        Self { context, is_remote: false, hops: 0 }
    }

    /// A span from another member.
    pub fn remote(context: TraceContext) -> Self {
        Self { context, is_remote: true, hops: 0 }
    }

    /// The parent span for a handler that records the span `context`; `None` if the limit of hops is reached.
    #[must_use]
    pub fn passed_on(self, context: TraceContext) -> Option<Self> {
        Some(Self { context, is_remote: false, ..self.handed_on()? })
    }

    /// The parent span for a handler that records no span: the same span with one more hop.
    #[must_use]
    pub fn handed_on(self) -> Option<Self> {
        (self.hops < HOPS_MAX).then_some(Self { hops: self.hops + 1, ..self })
    }
}

tokio::task_local! {
    static CURRENT: Option<ParentSpan>;
}

/// The parent span of the current task, if it is traced.
pub fn current() -> Option<ParentSpan> {
    CURRENT.try_with(|cause| *cause).ok().flatten()
}

/// The context of the current task's parent span; all zeros if there is none.
pub fn current_context() -> TraceContext {
    current().map_or_else(TraceContext::default, |cause| cause.context)
}

/// Runs `future` with `cause` as its parent span.
pub fn within<F: Future>(cause: Option<ParentSpan>, future: F) -> TaskLocalFuture<Option<ParentSpan>, F> {
    CURRENT.scope(cause, future)
}

/// Runs `work` with `cause` as its parent span.
pub fn within_sync<R>(cause: Option<ParentSpan>, work: impl FnOnce() -> R) -> R {
    match (cause, current()) {
        // The usual case, without overhead.
        (None, None) => work(),
        _ => CURRENT.sync_scope(cause, work),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cause_holds_within_and_comes_to_an_end() {
        let cause = ParentSpan::local(TraceContext::sampled([1; 16], [2; 8]));
        assert_eq!(current(), None);
        within(Some(cause), async {
            tokio::task::yield_now().await;
            assert_eq!(current(), Some(cause));
            within_sync(None, || assert_eq!(current(), None));
            assert_eq!(tokio::spawn(async { current() }).await.ok(), Some(None), "not another task's");
        })
        .await;
        assert_eq!(current_context(), TraceContext::default());
        let steps: [fn(ParentSpan) -> Option<ParentSpan>; 2] =
            [|cause| cause.passed_on(cause.context), ParentSpan::handed_on];
        for step in steps {
            let hops = std::iter::successors(Some(ParentSpan::remote(cause.context)), |cause| step(*cause))
                .count()
                - 1;
            assert_eq!(hops, 16);
        }
    }
}
