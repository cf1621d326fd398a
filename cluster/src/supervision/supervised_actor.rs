//! Wraps every supervised actor: its panics are captured, its handlers have deadlines, and an actor whose mailbox
//! overflows fails instead of falling further behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::message::SerializedMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::failure::ActorFailureType;
use super::handling::Traced;
use super::panic::{PanicSlot, watched};
use crate::event::EventBus;
use crate::id::ActorName;
use crate::mailbox::{Mail, MailboxStats};
use crate::trace::within;

/// Deadline of the handler for a message; `None` for no deadline.
pub type Deadline<M> = Arc<dyn Fn(&M) -> Option<Duration> + Send + Sync>;

/// Limits and observations of an actor's handlers, besides its panics. By default there are none.
pub struct HandlerLimits<M> {
    slot: Arc<PanicSlot>,
    deadline: Option<Deadline<M>>,
    overflow: Option<Overflow>,
    started: Option<Started<M>>,
    is_hang: Option<fn(&M) -> bool>,
    traced: Option<Traced<M>>,
}

type Started<M> = Box<dyn Fn(ActorRef<M>) + Send + Sync>;

struct Overflow {
    mailbox: Arc<dyn MailboxStats>,
    refusals_max: u64,
    /// Rejected messages when this incarnation started.
    before: AtomicU64,
}

impl<M> Default for HandlerLimits<M> {
    fn default() -> Self {
        Self {
            slot: Arc::default(),
            deadline: None,
            overflow: None,
            started: None,
            is_hang: None,
            traced: None,
        }
    }
}

impl<M> HandlerLimits<M> {
    /// Handlers that exceed `deadline` fail with [`ActorFailureType::Timeout`] at their next await; a loop that never
    /// yields cannot be interrupted.
    #[must_use]
    pub fn deadline(mut self, deadline: impl Fn(&M) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.deadline = Some(Arc::new(deadline));
        self
    }

    /// An incarnation whose `mailbox` rejected more than `refusals_max` messages fails with
    /// [`ActorFailureType::MailboxOverflow`] after the current message. The waiting messages are dropped with the
    /// actor; until then, the mailbox rejects the newest messages.
    #[must_use]
    pub fn overflow(mut self, mailbox: impl MailboxStats + 'static, refusals_max: u64) -> Self {
        self.overflow =
            Some(Overflow { mailbox: Arc::new(mailbox), refusals_max, before: AtomicU64::new(0) });
        self
    }

    /// Calls `started` for every incarnation, after its `pre_start` succeeded and before it handles a message.
    #[must_use]
    pub fn started(mut self, started: impl Fn(ActorRef<M>) + Send + Sync + 'static) -> Self {
        self.started = Some(Box::new(started));
        self
    }

    pub(super) fn reporting_to(mut self, slot: Arc<PanicSlot>) -> Self {
        self.slot = slot;
        self
    }

    fn check_mailbox(&self) -> Result<(), ActorProcessingErr> {
        let Some(overflow) = &self.overflow else { return Ok(()) };
        let refused = overflow.mailbox.refused() - overflow.before.load(Ordering::Relaxed);
        if refused <= overflow.refusals_max {
            return Ok(());
        }
        let (capacity, pending) = (overflow.mailbox.capacity(), overflow.mailbox.depth());
        Err(ActorFailureType::MailboxOverflow { capacity, pending }.into())
    }
}

/// A state that catches a panic of its own drop.
///
/// ractor drops an actor's state where it handles the exit, for example inside the supervisor, which must not panic.
pub struct Contained<S>(Option<S>);

impl<S> Drop for Contained<S> {
    fn drop(&mut self) {
        let state = self.0.take();
        // The hook has reported the panic, and the actor has already ended.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state)));
    }
}

/// The result of `handling`, or a timeout after `deadline`.
async fn in_time(
    deadline: Option<Duration>,
    handling: impl Future<Output = Result<(), ActorProcessingErr>>,
) -> Result<(), ActorProcessingErr> {
    match deadline {
        None => handling.await,
        Some(duration) => match tokio::time::timeout(duration, handling).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ActorFailureType::Timeout { duration }.into()),
        },
    }
}

/// An actor with its limits. To ractor and to callers it behaves like the actor itself.
pub struct SupervisedActor<A: Actor> {
    actor: A,
    limits: Arc<HandlerLimits<A::Msg>>,
}

impl<M: Send + 'static> HandlerLimits<Mail<M>> {
    /// Lets an injected fault hang a handler (an endless await). Deadlines apply to it as to any message.
    #[must_use]
    pub fn fault_injectable(mut self) -> Self {
        self.is_hang = Some(Mail::is_hang);
        self
    }

    /// Records spans for traced messages of the actor `name` on `events`, and passes the trace on to the messages that
    /// the handler sends.
    #[must_use]
    pub fn traced(mut self, name: &ActorName, events: &EventBus) -> Self {
        self.traced = events.tracer().is_on().then(|| Traced::new(name.clone(), events.clone()));
        self
    }
}

impl<A: Actor> SupervisedActor<A> {
    /// Wraps `actor` with `limits`.
    pub fn new(actor: A, limits: Arc<HandlerLimits<A::Msg>>) -> Self {
        Self { actor, limits }
    }
}

impl<A: Actor> Actor for SupervisedActor<A> {
    type Msg = A::Msg;
    type State = Contained<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        if let Some(overflow) = &self.limits.overflow {
            overflow.before.store(overflow.mailbox.refused(), Ordering::Relaxed);
        }
        let state = watched(self.limits.slot.clone(), self.actor.pre_start(me.clone(), arguments)).await?;
        if let Some(started) = &self.limits.started {
            started(me);
        }
        Ok(Contained(Some(state)))
    }

    async fn post_start(
        &self,
        me: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        watched(self.limits.slot.clone(), self.actor.post_start(me, state)).await
    }

    async fn post_stop(
        &self,
        me: ActorRef<A::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        watched(self.limits.slot.clone(), self.actor.post_stop(me, state)).await
    }

    async fn handle(
        &self,
        me: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        let deadline = self.limits.deadline.as_ref().and_then(|deadline| deadline(&message));
        let is_hang = self.limits.is_hang.is_some_and(|is_hang| is_hang(&message));
        let traced = self.limits.traced.as_ref();
        let (cause, span) = traced.map_or((None, None), |traced| traced.begin(&message, &self.limits.slot));
        let handling = async {
            if is_hang {
                // An opened message no longer occupies a mailbox slot.
                drop(message);
                return std::future::pending().await;
            }
            watched(self.limits.slot.clone(), self.actor.handle(me, message, state)).await
        };
        let outcome = if cause.is_some() {
            within(cause, in_time(deadline, handling)).await
        } else {
            in_time(deadline, handling).await
        };
        if let Some(span) = span {
            span.over(outcome.as_ref().err().map(ToString::to_string));
        }
        outcome?;
        self.limits.check_mailbox()
    }

    async fn handle_serialized(
        &self,
        me: ActorRef<A::Msg>,
        message: SerializedMessage,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        watched(self.limits.slot.clone(), self.actor.handle_serialized(me, message, state)).await
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        watched(self.limits.slot.clone(), self.actor.handle_supervisor_evt(me, event, state)).await
    }
}
