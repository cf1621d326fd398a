//! What the present task does, and for which span.
//!
//! Mail that is sent meanwhile carries it, and so does what goes to other members and what is told on the event bus.
//! What an actor sends itself does not: its clockwork is nobody's consequence, and would carry a trace for ever.

use std::future::Future;

use tokio::task::futures::TaskLocalFuture;

use super::context::TraceContext;

/// The span that is worked on, and whence it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSpan {
    /// The span.
    pub context: TraceContext,
    /// Whether another member brought it.
    pub is_remote: bool,
    /// How many actors have passed it on.
    pub hops: u8,
}

/// A cause is passed on by so many actors and no more: two that answer each other for ever do not carry a trace for
/// ever.
const HOPS_MAX: u8 = 16;

impl ParentSpan {
    /// A span of this member.
    pub fn local(context: TraceContext) -> Self {
        Self { context, is_remote: false, hops: 0 }
    }

    /// A span that another member brought.
    pub fn remote(context: TraceContext) -> Self {
        Self { context, is_remote: true, hops: 0 }
    }

    /// What an actor that handles a message of this cause works on: `context`; none if it has come far enough.
    #[must_use]
    pub fn passed_on(self, context: TraceContext) -> Option<Self> {
        Some(Self { context, is_remote: false, ..self.handed_on()? })
    }

    /// The same, of an actor whose work is no span: what it sends comes from as far, and one further.
    #[must_use]
    pub fn handed_on(self) -> Option<Self> {
        (self.hops < HOPS_MAX).then_some(Self { hops: self.hops + 1, ..self })
    }
}

tokio::task_local! {
    static CURRENT: Option<ParentSpan>;
}

/// What the present task works on, if that is recorded.
pub fn current() -> Option<ParentSpan> {
    CURRENT.try_with(|cause| *cause).ok().flatten()
}

/// The span that the present task works on; the zero context for none.
pub fn current_context() -> TraceContext {
    current().map_or_else(TraceContext::default, |cause| cause.context)
}

/// Runs `future` for `cause`.
pub fn within<F: Future>(cause: Option<ParentSpan>, future: F) -> TaskLocalFuture<Option<ParentSpan>, F> {
    CURRENT.scope(cause, future)
}

/// Runs `work` for `cause`.
pub fn within_sync<R>(cause: Option<ParentSpan>, work: impl FnOnce() -> R) -> R {
    match (cause, current()) {
        // The usual case, which costs nothing.
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
