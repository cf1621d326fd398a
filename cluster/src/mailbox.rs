//! Bounded mailboxes and addresses that outlive the actor.
//!
//! A ractor mailbox is unbounded and does not report its depth. Here every message between actors travels as [`Mail`],
//! which occupies a slot of its mailbox until it is handled or dropped; an [`Address`] rejects new mail when all slots
//! are occupied. The address is created before the actor and stays valid across restarts: the new actor binds itself to
//! the same address, so callers keep their address.
//!
//! The alternative was ractor's name registry. It is global to the process, so two nodes in one process would share it,
//! and it knows no message types.

use std::any::{Any, type_name};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{ActorCell, ActorRef, RpcReplyPort};
use thiserror::Error;
use tokio::sync::Notify;

use crate::id::ActorName;
use crate::ping::{PingMessage, PongMessage};
use crate::trace::{ParentSpan, current};

/// A message with its mailbox slot, which is taken until this is opened or dropped.
pub struct Mail<M> {
    message: M,
    cause: Option<Box<ParentSpan>>,
    _slot: Option<MailboxSlot>,
    _permit: Option<Permit>,
}

/// A resource that is released together with a message.
type Permit = Box<dyn Any + Send>;

impl<M> Mail<M> {
    /// The message; releases the slot.
    pub fn open(self) -> M {
        self.message
    }

    /// The message, whose slot stays taken.
    pub fn peek(&self) -> &M {
        &self.message
    }

    /// The span that caused the message, if it is traced.
    pub fn cause(&self) -> Option<ParentSpan> {
        self.cause.as_deref().copied()
    }
}

/// The envelope: all that a mailbox carries. Only the shell around an actor opens it.
pub(crate) enum MailboxMessage<M> {
    /// A message for the actor.
    User(Mail<M>),
    /// A health check.
    Ping(PingMessage, RpcReplyPort<PongMessage>, MailboxSlot),
    /// A fault to inject.
    #[cfg(feature = "fault-injection")]
    Fault(Fault, Option<Box<ParentSpan>>, MailboxSlot),
}

/// A fault that the shell injects into a handler.
#[cfg(feature = "fault-injection")]
pub(crate) enum Fault {
    /// Panics with this reason.
    Panic(String),
    /// Never completes.
    Hang,
}

impl<M> MailboxMessage<M> {
    pub(crate) fn to_self(message: M) -> Self {
        Self::User(Mail { message, cause: None, _slot: None, _permit: None })
    }

    /// The span that caused it, if it is traced.
    pub(crate) fn cause(&self) -> Option<ParentSpan> {
        match self {
            Self::User(mail) => mail.cause(),
            Self::Ping(..) => None,
            #[cfg(feature = "fault-injection")]
            Self::Fault(_, cause, _) => cause.as_deref().copied(),
        }
    }
}

impl<M: Send + 'static> ractor::Message for MailboxMessage<M> {}

/// A request with a typed reply.
pub trait Request: Send + 'static {
    /// The reply.
    type Reply: Send + 'static;
}

/// A request as an actor receives it. An actor with several messages has a variant for it and `From<Call<R>>`; one with
/// a single request takes it as its message.
pub struct Call<R: Request> {
    /// The request.
    pub request: R,
    reply: RpcReplyPort<R::Reply>,
}

impl<R: Request> Call<R> {
    /// Replies. A caller that gave up no longer listens.
    pub fn reply(self, reply: R::Reply) {
        let _ = self.reply.send(reply);
    }

    /// The request, and where its reply goes, for one that is answered later.
    pub fn into_parts(self) -> (R, RpcReplyPort<R::Reply>) {
        (self.request, self.reply)
    }
}

/// A call that is sent when it is awaited. It waits 5 s for the reply, as Erlang/OTP's `gen_server:call` does, unless
/// [`timeout`](Self::timeout) says otherwise.
#[must_use = "a call is sent when it is awaited"]
pub struct PendingCall<M, R> {
    address: Address<M>,
    request: R,
    timeout: Duration,
}

/// Default timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

impl<M, R> PendingCall<M, R> {
    /// Waits up to `timeout` for the reply.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

impl<M, R> PendingCall<M, R>
where
    R: Request + Clone + Sync,
    M: From<Call<R>> + Send + 'static,
{
    /// Sends it again, within the same timeout, whenever the actor is absent or ends before it replies. For requests that may
    /// be handled twice.
    pub async fn retrying(self) -> Result<R::Reply, CallError> {
        let Self { address, request, timeout } = self;
        address.ask_retrying(timeout, |reply| Call { request: request.clone(), reply }.into()).await
    }
}

impl<M, R> IntoFuture for PendingCall<M, R>
where
    R: Request,
    M: From<Call<R>> + Send + 'static,
{
    type Output = Result<R::Reply, CallError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { address, request, timeout } = self;
        Box::pin(async move { address.ask(timeout, |reply| Call { request, reply }.into()).await })
    }
}

/// Mailbox counters that can be read from outside.
#[derive(Default)]
struct Gauge {
    depth: AtomicUsize,
    handled: AtomicU64,
}

pub(crate) struct MailboxSlot(Arc<Gauge>);

impl Drop for MailboxSlot {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::AcqRel);
        self.0.handled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why mail was rejected. The message is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MailError {
    /// No actor is bound: it has not started, has ended, or is being restarted.
    #[error("actor {0} is not running")]
    Absent(ActorName),
    /// Every slot is occupied.
    #[error("the mailbox of actor {name} is full ({capacity} messages)")]
    Full {
        /// The actor that owns the mailbox.
        name: ActorName,
        /// Number of slots.
        capacity: usize,
    },
}

impl MailError {
    /// The actor that owns the mailbox.
    pub fn name(&self) -> &ActorName {
        match self {
            Self::Absent(name) | Self::Full { name, .. } => name,
        }
    }
}

/// Why a call has no answer. It is unknown whether the message was handled, except for [`CallError::Mail`]: it was not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The message was rejected.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The deadline passed without an answer.
    #[error("actor {name} did not answer within {deadline:?}")]
    Deadline {
        /// The actor that was called.
        name: ActorName,
        /// How long the caller waited.
        deadline: Duration,
    },
    /// The actor dropped the request, or ended while it held it.
    #[error("actor {0} ended without an answer")]
    Dropped(ActorName),
}

impl CallError {
    /// The actor that was called.
    pub fn name(&self) -> &ActorName {
        match self {
            Self::Mail(error) => error.name(),
            Self::Deadline { name, .. } | Self::Dropped(name) => name,
        }
    }
}

/// Usage counters of a mailbox.
pub trait MailboxStats: Send + Sync {
    /// Number of slots.
    fn capacity(&self) -> usize;
    /// Number of messages that wait or are being handled.
    fn depth(&self) -> usize;
    /// Number of messages rejected since the mailbox was created because every slot was occupied.
    fn refused(&self) -> u64;
    /// Number of messages taken out since the mailbox was created, whether handled or dropped. If it does not change
    /// while messages wait, the time since its last change is the minimum age of the message in the handler.
    fn handled(&self) -> u64;
}

/// An actor into which faults are injected.
#[cfg(feature = "fault-injection")]
pub trait FaultTarget: Send + Sync {
    /// Name of the actor.
    fn name(&self) -> &ActorName;
    /// Makes its handler panic: see [`Address::inject_panic`].
    fn panic(&self, reason: &str) -> Result<(), MailError>;
    /// Makes its handler wait forever: see [`Address::inject_hang`].
    fn hang(&self) -> Result<(), MailError>;
    /// Kills the actor: it ends at its next await, without running its `post_stop`.
    fn kill(&self) -> Result<(), MailError>;
}

#[cfg(feature = "fault-injection")]
impl<M: Send + 'static> FaultTarget for Address<M> {
    fn name(&self) -> &ActorName {
        Self::name(self)
    }

    fn panic(&self, reason: &str) -> Result<(), MailError> {
        self.inject_panic(reason)
    }

    fn hang(&self) -> Result<(), MailError> {
        self.inject_hang()
    }

    fn kill(&self) -> Result<(), MailError> {
        let alive = self.target().filter(|actor| actor.get_status() == ractor::ActorStatus::Running);
        alive.map(|actor| actor.kill()).ok_or_else(|| MailError::Absent(self.shared.name.clone()))
    }
}

impl<M: Send + 'static> MailboxStats for Shared<M> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn depth(&self) -> usize {
        self.gauge.depth.load(Ordering::Acquire)
    }

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn handled(&self) -> u64 {
        self.gauge.handled.load(Ordering::Relaxed)
    }
}

impl<M: Send + 'static> MailboxStats for Address<M> {
    fn capacity(&self) -> usize {
        self.shared.capacity()
    }

    fn depth(&self) -> usize {
        self.shared.depth()
    }

    fn refused(&self) -> u64 {
        self.shared.refused()
    }

    fn handled(&self) -> u64 {
        self.shared.handled()
    }
}

trait AnyShared: Any + MailboxStats {
    fn message_type(&self) -> &'static str;
}

impl<M: Send + 'static> AnyShared for Shared<M> {
    fn message_type(&self) -> &'static str {
        type_name::<M>()
    }
}

/// An [`Address`] with its message type erased, so that the registry can store the addresses of all actors.
#[derive(Clone)]
pub struct AnyAddress(Arc<dyn AnyShared>);

impl AnyAddress {
    /// The typed address, if it takes messages of type `M`.
    pub fn downcast<M: Send + 'static>(&self) -> Option<Address<M>> {
        let any: Arc<dyn Any + Send + Sync> = self.0.clone();
        any.downcast().ok().map(|shared| Address { shared })
    }

    /// Whether both reach the same mailbox.
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }

    /// Type of the messages that the address takes.
    pub fn message_type(&self) -> &'static str {
        self.0.message_type()
    }
}

impl MailboxStats for AnyAddress {
    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn depth(&self) -> usize {
        self.0.depth()
    }

    fn refused(&self) -> u64 {
        self.0.refused()
    }

    fn handled(&self) -> u64 {
        self.0.handled()
    }
}

impl std::fmt::Debug for AnyAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnyAddress({})", self.message_type())
    }
}

/// Address of an actor; it stays the same for every incarnation of the actor.
pub struct Address<M> {
    shared: Arc<Shared<M>>,
}

struct Shared<M> {
    name: ActorName,
    capacity: usize,
    gauge: Arc<Gauge>,
    refused: AtomicU64,
    target: RwLock<Option<ActorRef<MailboxMessage<M>>>>,
    bound: Notify,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<M> std::fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Address({})", self.shared.name)
    }
}

impl<M: Send + 'static> Address<M> {
    /// An address with `capacity` slots that no actor is bound to yet.
    pub fn new(name: ActorName, capacity: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                name,
                capacity,
                gauge: Arc::default(),
                refused: AtomicU64::new(0),
                target: RwLock::new(None),
                bound: Notify::new(),
            }),
        }
    }

    /// The actor's name within its node.
    pub fn name(&self) -> &ActorName {
        &self.shared.name
    }

    /// The same address with its message type erased.
    pub fn any(&self) -> AnyAddress {
        AnyAddress(self.shared.clone())
    }

    /// Number of messages that wait or are being handled.
    pub fn depth(&self) -> usize {
        self.shared.depth()
    }

    /// Number of messages taken out of the mailbox since the address was created.
    pub fn handled(&self) -> u64 {
        self.shared.handled()
    }

    /// Number of messages rejected since the address was created because the mailbox was full.
    pub fn refused(&self) -> u64 {
        self.shared.refused()
    }

    /// Makes `actor` the one that is reached. The shell does this when a start has succeeded.
    pub(crate) fn bind(&self, actor: ActorRef<MailboxMessage<M>>) {
        *self.shared.target.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
        self.shared.bound.notify_waiters();
    }

    /// The incarnation that is reached now, if one ever started; it may have ended.
    pub fn target(&self) -> Option<ActorCell> {
        let target = self.shared.target.read().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().map(ActorRef::get_cell)
    }

    /// Sends `message`, or says why not.
    pub fn cast(&self, message: M) -> Result<(), MailError> {
        self.send_user(message, None)
    }

    /// Sends `message`, and holds `permit` until it is handled or dropped: a resource beside the mailbox slot.
    pub fn cast_holding(&self, message: M, permit: impl Any + Send) -> Result<(), MailError> {
        self.send_user(message, Some(Box::new(permit)))
    }

    /// Injects a fault: the actor panics with `reason` in its handler.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, reason: &str) -> Result<(), MailError> {
        self.inject(Fault::Panic(reason.to_owned()))
    }

    /// Injects a fault: the actor's handler never completes. Its deadline applies.
    #[cfg(feature = "fault-injection")]
    pub fn inject_hang(&self) -> Result<(), MailError> {
        self.inject(Fault::Hang)
    }

    #[cfg(feature = "fault-injection")]
    fn inject(&self, fault: Fault) -> Result<(), MailError> {
        let cause = current().map(Box::new);
        self.send(|slot| MailboxMessage::Fault(fault, cause, slot))
    }

    fn send_user(&self, message: M, permit: Option<Permit>) -> Result<(), MailError> {
        let cause = current().map(Box::new);
        self.send(|slot| MailboxMessage::User(Mail { message, cause, _slot: Some(slot), _permit: permit }))
    }

    fn send(&self, wrap: impl FnOnce(MailboxSlot) -> MailboxMessage<M>) -> Result<(), MailError> {
        let shared = &self.shared;
        let absent = || MailError::Absent(shared.name.clone());
        let target =
            shared.target.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(absent)?;
        let slot = self.take_slot().ok_or_else(|| {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            MailError::Full { name: shared.name.clone(), capacity: shared.capacity }
        })?;
        target.cast(wrap(slot)).map_err(|_| absent())
    }

    /// Sends a health check, and waits for the answer until the deadline.
    pub async fn ping(&self, deadline: Duration, ping: PingMessage) -> Result<PongMessage, CallError> {
        self.answered(deadline, |reply| self.send(|slot| MailboxMessage::Ping(ping, reply, slot))).await
    }

    /// Calls the actor with a request that has a typed reply. Nothing is sent until this is awaited.
    pub fn call<R>(&self, request: R) -> PendingCall<M, R>
    where
        R: Request,
        M: From<Call<R>>,
    {
        PendingCall { address: self.clone(), request, timeout: CALL_TIMEOUT }
    }

    /// Sends a request and waits for the answer until the deadline.
    pub async fn ask<R: Send + 'static>(
        &self,
        deadline: Duration,
        question: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, CallError> {
        self.answered(deadline, |reply| self.cast(question(reply))).await
    }

    async fn answered<R>(
        &self,
        deadline: Duration,
        send: impl FnOnce(RpcReplyPort<R>) -> Result<(), MailError>,
    ) -> Result<R, CallError> {
        let (sender, receiver) = ractor::concurrency::oneshot();
        send(sender.into())?;
        match tokio::time::timeout(deadline, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(CallError::Dropped(self.shared.name.clone())),
            Err(_) => Err(CallError::Deadline { name: self.shared.name.clone(), deadline }),
        }
    }

    /// Like [`ask`](Self::ask), but retries until the deadline: if the actor is absent or ends before it answers, the request is
    /// sent again as soon as a new incarnation is bound. So the request must be idempotent.
    pub async fn ask_retrying<R: Send + 'static>(
        &self,
        deadline: Duration,
        question: impl Fn(RpcReplyPort<R>) -> M,
    ) -> Result<R, CallError> {
        let asking = async {
            loop {
                let mut bound = pin!(self.shared.bound.notified());
                // Register before the call, so that a bind during the call is not missed.
                bound.as_mut().enable();
                match self.ask(deadline, &question).await {
                    Err(CallError::Mail(MailError::Absent(_)) | CallError::Dropped(_)) => bound.await,
                    outcome => return outcome,
                }
            }
        };
        let late = |_| Err(CallError::Deadline { name: self.shared.name.clone(), deadline });
        tokio::time::timeout(deadline, asking).await.unwrap_or_else(late)
    }

    fn take_slot(&self) -> Option<MailboxSlot> {
        let gauge = &self.shared.gauge;
        gauge
            .depth
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < self.shared.capacity).then_some(n + 1)
            })
            .is_ok()
            .then(|| MailboxSlot(gauge.clone()))
    }
}

#[cfg(test)]
mod tests {
    use ractor::ActorProcessingErr;

    use super::*;
    use crate::actor::{Actor, SelfRef};
    use crate::supervision::spawn;

    enum Question {
        Echo(u32, RpcReplyPort<u32>),
        Ignore(RpcReplyPort<u32>),
        Hold(tokio::sync::oneshot::Receiver<()>),
        Panic,
    }

    struct Echo;

    impl Actor for Echo {
        type Msg = Question;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<Question>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: SelfRef<Question>,
            question: Question,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            match question {
                Question::Echo(n, reply) => reply.send(n)?,
                Question::Ignore(reply) => drop(reply),
                Question::Hold(until) => drop(until.await),
                Question::Panic => panic!("on purpose"),
            }
            Ok(())
        }
    }

    async fn echo(address: &Address<Question>) -> ractor::concurrency::JoinHandle<()> {
        spawn(None, address, Echo, ()).await.expect("starts").1
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn an_address_reaches_the_actor_that_replaced_a_dead_one() {
        let address = Address::new(ActorName::literal("echo"), 4);
        let first = echo(&address).await;
        assert_eq!(address.ask(SOON, |reply| Question::Echo(1, reply)).await, Ok(1));
        address.cast(Question::Panic).expect("taken");
        first.await.expect("ended");
        let absent = address.ask(SOON, |reply| Question::Echo(2, reply)).await;
        assert_eq!(absent, Err(MailError::Absent(ActorName::literal("echo")).into()));
        let _second = echo(&address).await;
        assert_eq!(address.ask(SOON, |reply| Question::Echo(3, reply)).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_retrying_call_is_answered_by_the_successor_of_an_actor_that_died_over_its_question() {
        let address = Address::new(ActorName::literal("echo"), 4);
        let first = echo(&address).await;
        // The request waits behind this message and is dropped with the mailbox.
        let (_never, permit) = tokio::sync::oneshot::channel();
        address.cast(Question::Hold(permit)).expect("taken");
        let asking = {
            let address = address.clone();
            tokio::spawn(async move { address.ask_retrying(SOON, |reply| Question::Echo(7, reply)).await })
        };
        while address.depth() == 0 {
            tokio::task::yield_now().await;
        }
        address.target().expect("bound").kill();
        first.await.expect("ended");
        let _second = echo(&address).await;
        assert_eq!(asking.await.expect("joined"), Ok(7));

        let nobody = Address::new(ActorName::literal("nobody"), 4);
        let late = nobody.ask_retrying(SOON, |reply| Question::Echo(1, reply)).await;
        assert_eq!(late, Err(CallError::Deadline { name: ActorName::literal("nobody"), deadline: SOON }));
    }

    #[cfg(feature = "fault-injection")]
    #[tokio::test]
    async fn an_injected_panic_ends_the_actor_in_its_own_handler() {
        let address = Address::new(ActorName::literal("echo"), 4);
        let actor = echo(&address).await;
        address.inject_panic("a drill").expect("taken");
        actor.await.expect("ended");
        assert!(address.ask(SOON, |reply| Question::Echo(1, reply)).await.is_err());
    }

    #[tokio::test]
    async fn a_full_mailbox_refuses_and_counts_and_takes_again_when_emptied() {
        let address = Address::new(ActorName::literal("echo"), 2);
        let _actor = echo(&address).await;
        let (release, permit) = tokio::sync::oneshot::channel();
        address.cast(Question::Hold(permit)).expect("handled at once");
        while address.depth() > 0 {
            tokio::task::yield_now().await;
        }
        let ask = |n| {
            let address = address.clone();
            tokio::spawn(async move { address.ask(SOON, |reply| Question::Echo(n, reply)).await })
        };
        let (one, two) = (ask(1), ask(2));
        while address.depth() < 2 {
            tokio::task::yield_now().await;
        }
        let refusal = address.ask(SOON, |reply| Question::Echo(3, reply)).await;
        let full = MailError::Full { name: ActorName::literal("echo"), capacity: 2 };
        assert_eq!((refusal, address.refused()), (Err(full.into()), 1));
        release.send(()).expect("still held");
        assert_eq!((one.await.expect("joined"), two.await.expect("joined")), (Ok(1), Ok(2)));
        assert_eq!(address.ask(SOON, |reply| Question::Echo(4, reply)).await, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_at_its_deadline_or_when_its_question_is_dropped() {
        let address = Address::new(ActorName::literal("echo"), 4);
        let _actor = echo(&address).await;
        let dropped = address.ask(SOON, Question::Ignore).await;
        assert_eq!(dropped, Err(CallError::Dropped(ActorName::literal("echo"))));
        let (_never, permit) = tokio::sync::oneshot::channel();
        address.cast(Question::Hold(permit)).expect("taken");
        let late = address.ask(SOON, |reply| Question::Echo(1, reply)).await;
        assert_eq!(late, Err(CallError::Deadline { name: ActorName::literal("echo"), deadline: SOON }));
    }
}
