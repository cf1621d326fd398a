//! What an actor is here: plain messages in, state changed, nothing else.
//!
//! [`Actor`] is ractor's actor without its mailbox. The supervisor runs it inside a shell
//! (`supervision::supervised_actor`) that unwraps the mailbox's envelope, binds the actor's
//! [`Address`](crate::mailbox::Address), answers health checks, applies handler deadlines, carries the trace, reports
//! panics and injects faults.

use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::mailbox::{Mail, MailboxMessage};
use crate::ping::HealthCheckResult;

/// An actor with plain messages. Its methods run one at a time, in the order of ractor's lifecycle.
///
/// An error or a panic of any method ends this incarnation; the supervisor decides what follows.
pub trait Actor: Sized + Send + Sync + 'static {
    /// The messages it handles.
    type Msg: Send + 'static;
    /// What one incarnation remembers.
    type State: Send + 'static;
    /// What a start is given.
    type Arguments: Send + 'static;

    /// Makes the state of a new incarnation. The actor is reachable once this has succeeded.
    fn pre_start(
        &self,
        myself: SelfRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> impl Future<Output = Result<Self::State, ActorProcessingErr>> + Send;

    /// Runs once the actor is reachable, before its first message.
    fn post_start(
        &self,
        myself: SelfRef<Self::Msg>,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let _ = (myself, state);
        async { Ok(()) }
    }

    /// Handles one message. Its mailbox slot is free from here on.
    fn handle(
        &self,
        myself: SelfRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send;

    /// Takes one message with its mailbox slot. An actor that defers messages overrides this and keeps the [`Mail`], so
    /// that what it defers counts as waiting.
    fn receive(
        &self,
        myself: SelfRef<Self::Msg>,
        mail: Mail<Self::Msg>,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        self.handle(myself, mail.open(), state)
    }

    /// Answers a health check between two messages. Healthy unless overridden: that it answers says that it runs.
    fn health(&self, state: &mut Self::State) -> impl Future<Output = HealthCheckResult> + Send {
        let _ = state;
        async { HealthCheckResult::healthy() }
    }

    /// Runs when the actor stops in order, not when it is killed or panics.
    fn post_stop(
        &self,
        myself: SelfRef<Self::Msg>,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let _ = (myself, state);
        async { Ok(()) }
    }

    /// Handles an event of an actor that this one started or monitors in ractor. As in ractor, an actor that ends takes
    /// this one with it unless this is overridden.
    fn handle_supervisor_evt(
        &self,
        myself: SelfRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send {
        let _ = state;
        if matches!(event, SupervisionEvent::ActorTerminated(..) | SupervisionEvent::ActorFailed(..)) {
            myself.stop(None);
        }
        async { Ok(()) }
    }
}

/// A running incarnation, as it sees itself: for messages and timers to itself.
pub struct SelfRef<M>(ActorRef<MailboxMessage<M>>);

impl<M> Clone for SelfRef<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Send + 'static> SelfRef<M> {
    pub(crate) fn new(actor: ActorRef<MailboxMessage<M>>) -> Self {
        Self(actor)
    }

    /// Sends this incarnation a message. It takes no mailbox slot, because refusing it would stop the actor's clockwork;
    /// an actor bounds what it sends itself. Returns whether the incarnation still runs and took it.
    pub fn cast(&self, message: M) -> bool {
        self.0.cast(MailboxMessage::to_self(message)).is_ok()
    }

    /// Sends this incarnation a message after `delay`. It can not be cancelled: a message that may come too late carries
    /// what identifies it.
    pub fn send_after(&self, delay: Duration, message: M) {
        // The handle only serves to abort; the timer ends with the actor.
        drop(self.0.send_after(delay, move || MailboxMessage::to_self(message)));
    }

    /// Stops this incarnation in order, after the message at hand.
    pub fn stop(&self, reason: Option<String>) {
        self.0.stop(reason);
    }

    /// Identifies this incarnation within the process.
    pub fn id(&self) -> ActorId {
        self.0.get_id()
    }

    /// The incarnation as ractor knows it: to link actors to it.
    pub fn cell(&self) -> ActorCell {
        self.0.get_cell()
    }
}
