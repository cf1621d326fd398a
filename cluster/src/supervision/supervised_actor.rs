//! The shell around every actor: unwraps the mailbox's envelope, binds the address, answers health checks, applies
//! handler deadlines and the overflow limit, carries the trace, and has panics leave a report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::Either;
use ractor::concurrency::JoinHandle;
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::failure::ActorFailureType;
use super::handling::Traced;
use super::panic::{PanicSlot, watched};
use crate::actor::{Actor, SelfRef};
use crate::clock::{Clock, SystemClock};
#[cfg(feature = "fault-injection")]
use crate::mailbox::Fault;
use crate::mailbox::{Address, MailboxMessage, MailboxStats};
use crate::ping::{HealthCheckResult, PingMessage, PongMessage};
use crate::trace::within;

/// The longest a handler may take over this message; `None` for no limit.
type DeadlineOf<M> = Arc<dyn Fn(&M) -> Option<Duration> + Send + Sync>;

/// Limits of an actor's handlers. By default there are none.
pub struct HandlerLimits<M> {
    deadline: Option<Duration>,
    deadline_of: Option<DeadlineOf<M>>,
    refusals_max: Option<u64>,
}

impl<M> Default for HandlerLimits<M> {
    fn default() -> Self {
        Self { deadline: None, deadline_of: None, refusals_max: None }
    }
}

impl<M> HandlerLimits<M> {
    /// A handler that takes longer than `deadline` fails with [`ActorFailureType::Timeout`], at its next await: nothing
    /// interrupts a loop that never yields.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The same, by message; what has no deadline here has the common one.
    #[must_use]
    pub fn deadline_of(mut self, deadline: impl Fn(&M) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.deadline_of = Some(Arc::new(deadline));
        self
    }

    /// An incarnation whose mailbox refused more than `refusals_max` messages fails with
    /// [`ActorFailureType::MailboxOverflow`] after the message at hand. What waited is dropped with it; the mailbox
    /// itself refuses the newest.
    #[must_use]
    pub fn overflow(self, refusals_max: u64) -> Self {
        Self { refusals_max: Some(refusals_max), ..self }
    }
}

/// What the shells of one child's incarnations share.
pub(super) struct ShellConfig<M> {
    pub(super) address: Address<M>,
    pub(super) limits: HandlerLimits<M>,
    /// Where panics are reported; without it they are printed by the process's panic hook.
    pub(super) panic: Option<Arc<PanicSlot>>,
    pub(super) traced: Option<Traced>,
    pub(super) clock: Arc<dyn Clock>,
    /// Messages refused before this incarnation started.
    pub(super) refused_before: AtomicU64,
}

impl<M: Send + 'static> ShellConfig<M> {
    fn watched<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F, M> {
        match &self.panic {
            Some(slot) => Either::Left(watched(slot.clone(), future)),
            None => Either::Right(future),
        }
    }

    fn deadline(&self, message: &MailboxMessage<M>) -> Option<Duration> {
        let by_message = match (message, &self.limits.deadline_of) {
            (MailboxMessage::User(mail), Some(deadline_of)) => deadline_of(mail.peek()),
            _ => None,
        };
        by_message.or(self.limits.deadline)
    }

    fn check_mailbox(&self) -> Result<(), ActorProcessingErr> {
        let Some(refusals_max) = self.limits.refusals_max else { return Ok(()) };
        if self.address.refused() - self.refused_before.load(Ordering::Relaxed) <= refusals_max {
            return Ok(());
        }
        let (capacity, pending) = (self.address.capacity(), self.address.depth());
        Err(ActorFailureType::MailboxOverflow { capacity, pending }.into())
    }

    fn pong(&self, ping: &PingMessage, status: HealthCheckResult) -> PongMessage {
        PongMessage {
            ping_id: ping.id,
            timestamp: self.clock.wall(),
            source: self.address.name().to_string(),
            incarnation: ping.incarnation,
            status,
            metadata: std::collections::BTreeMap::new(),
        }
    }
}

/// A state that catches a panic of its own drop.
///
/// ractor drops an actor's state where it handles the exit, for example inside the supervisor, which must not panic.
pub(crate) struct Contained<S>(Option<S>);

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

/// An actor in its shell: what ractor runs.
pub(crate) struct SupervisedActor<A: Actor> {
    actor: A,
    config: Arc<ShellConfig<A::Msg>>,
}

impl<A: Actor> SupervisedActor<A> {
    pub(super) fn new(actor: A, config: Arc<ShellConfig<A::Msg>>) -> Self {
        Self { actor, config }
    }

    async fn open(
        &self,
        myself: SelfRef<A::Msg>,
        message: MailboxMessage<A::Msg>,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MailboxMessage::User(mail) => self.actor.receive(myself, mail, state).await,
            MailboxMessage::Ping(ping, reply, slot) => {
                drop(slot);
                let status = self.actor.health(state).await;
                // A caller that gave up no longer listens.
                let _ = reply.send(self.config.pong(&ping, status));
                Ok(())
            }
            #[cfg(feature = "fault-injection")]
            MailboxMessage::Fault(fault, _, slot) => {
                drop(slot);
                match fault {
                    Fault::Panic(reason) => panic!("{reason}"),
                    Fault::Hang => std::future::pending().await,
                }
            }
        }
    }
}

impl<A: Actor> ractor::Actor for SupervisedActor<A> {
    type Msg = MailboxMessage<A::Msg>;
    type State = Contained<A::State>;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        arguments: A::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let config = &self.config;
        config.refused_before.store(config.address.refused(), Ordering::Relaxed);
        let starting = self.actor.pre_start(SelfRef::new(me.clone()), arguments);
        let state = config.watched(starting).await?;
        config.address.bind(me);
        Ok(Contained(Some(state)))
    }

    async fn post_start(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        self.config.watched(self.actor.post_start(SelfRef::new(me), state)).await
    }

    async fn post_stop(
        &self,
        me: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        self.config.watched(self.actor.post_stop(SelfRef::new(me), state)).await
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        let (config, deadline) = (&self.config, self.config.deadline(&message));
        let (cause, span) = match (&config.traced, &config.panic) {
            (Some(traced), Some(slot)) => traced.begin(message.cause(), slot),
            _ => (None, None),
        };
        let handling = config.watched(self.open(SelfRef::new(me), message, state));
        let outcome = if cause.is_some() {
            within(cause, in_time(deadline, handling)).await
        } else {
            in_time(deadline, handling).await
        };
        if let Some(span) = span {
            span.over(outcome.as_ref().err().map(ToString::to_string));
        }
        outcome?;
        config.check_mailbox()
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = &mut state.0 else { return Ok(()) };
        let handling = self.actor.handle_supervisor_evt(SelfRef::new(me), event, state);
        self.config.watched(handling).await
    }
}

/// Starts an actor that nobody supervises, under a name in ractor's registry if one is given: the root of a tree, or an
/// actor of a test.
///
/// # Errors
///
/// If its `pre_start` fails, or the name is taken.
pub async fn spawn<A: Actor>(
    name: Option<String>,
    address: &Address<A::Msg>,
    actor: A,
    arguments: A::Arguments,
) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
    let config = ShellConfig {
        address: address.clone(),
        limits: HandlerLimits::default(),
        panic: None,
        traced: None,
        clock: Arc::new(SystemClock::default()),
        refused_before: AtomicU64::new(0),
    };
    let shell = SupervisedActor::new(actor, Arc::new(config));
    let (actor, ended) = ractor::Actor::spawn(name, shell, arguments).await?;
    Ok((actor.get_cell(), ended))
}
