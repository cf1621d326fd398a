//! Runs the health monitor as an actor: it pings all actors that are due concurrently and never waits in its handler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use ractor::{ActorProcessingErr, RpcReplyPort};

use super::config::HealthConfig;
use super::message::{HealthMessage, MemberReading};
use super::state::{ActorHealth, Check, CheckOutcome, HealthBoard, Reading, Receipt};
use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, ActorPriority, Incarnation};
use crate::mailbox::{Address, CallError, MailError};
use crate::ping::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
use crate::port::LastWords;

/// Interval at which the monitor determines which actors are due.
const TICK: Duration = Duration::from_millis(50);
/// How long after its timeout a pong is still accepted. It bounds the pings queued at an actor that hangs: one per
/// interval for this long.
const LATE: Duration = Duration::from_secs(10);
/// Interval between two queries of the other members.
const MEMBERS_EVERY: Duration = Duration::from_secs(1);
/// Maximum number of outcomes sent to the monitor in one message.
const OUTCOMES_MAX: usize = 256;
/// Maximum number of callers waiting for a batch; one more replaces the oldest.
const BATCHES_MAX: usize = 8;

type Asking = BoxFuture<'static, Result<PongMessage, CallError>>;
type Ask = Arc<dyn Fn(PingMessage, Duration) -> Asking + Send + Sync>;
type Read = Arc<dyn Fn() -> Reading + Send + Sync>;

/// An actor that can be pinged through its mailbox.
#[derive(Clone)]
pub struct Pingable {
    name: ActorName,
    priority: ActorPriority,
    ask: Ask,
    read: Read,
}

impl Pingable {
    /// The actor that is reached at `address`.
    pub fn new<M: Send + 'static>(address: &Address<M>, priority: ActorPriority) -> Self {
        let name = address.name().clone();
        let (asked, seen) = (address.clone(), address.clone());
        let ask: Ask = Arc::new(move |ping, timeout| {
            let address = asked.clone();
            Box::pin(async move { address.ping(timeout, ping).await })
        });
        let read = Arc::new(move || Reading {
            incarnation: seen.target().map_or(0, |actor| actor.get_id().pid()),
            handled: seen.handled(),
            waiting: seen.depth(),
        });
        Self { name, priority, ask, read }
    }
}

/// Records the result of each check of an actor. Must not wait.
pub type Recorder = Arc<dyn Fn(&ActorName, HealthStatus) + Send + Sync>;
/// Receives the node's own health after every check of a critical actor. Must not wait.
pub type SummaryListener = Arc<dyn Fn(HealthCheckResult) + Send + Sync>;
/// Receives the results of checks, whether they changed or not. Must not wait.
pub type Follower = Arc<dyn Fn(Vec<ActorHealth>) + Send + Sync>;
/// Queries the state of the other members, with a deadline.
pub type AskMembers = Arc<dyn Fn() -> BoxFuture<'static, Vec<MemberReading>> + Send + Sync>;

/// Optional collaborators of the monitor. By default none.
#[derive(Clone, Default)]
pub struct MonitorHooks {
    /// Receives the results of checks: the recovery agent.
    pub follower: Option<Follower>,
    /// Queries the other members.
    pub members: Option<AskMembers>,
    /// Provides the reason why an actor that is not running stopped.
    pub last_words: Option<LastWords>,
    /// The node's score in thousandths, for display: see [`super::trend::node_score`].
    pub score: Arc<AtomicU64>,
    /// Counter of checks that survives restarts of the monitor: ping ids are unique within an incarnation.
    pub ids: Arc<AtomicU64>,
}

/// Configuration and dependencies of the monitor.
#[derive(Clone)]
pub struct HealthMonitor {
    /// Address of this actor.
    pub address: Address<HealthMessage>,
    /// Intervals and thresholds.
    pub config: HealthConfig,
    /// Incarnation of this node.
    pub incarnation: Incarnation,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Receives health changes.
    pub events: EventBus,
    /// Actors to check.
    pub actors: Arc<[Pingable]>,
    /// Records the result of each check.
    pub recorder: Recorder,
    /// Receives the node's own health.
    pub listener: SummaryListener,
    /// Optional collaborators.
    pub hooks: MonitorHooks,
}

/// State of the monitor actor.
pub struct HealthMonitorState {
    board: HealthBoard,
    batches: Vec<RpcReplyPort<Vec<ActorHealth>>>,
    /// When the other members are queried next.
    members_due: Moment,
}

type Me = SelfRef<HealthMessage>;

impl HealthMonitor {
    /// Checks these actors concurrently in one task.
    fn check(&self, me: &Me, board: &mut HealthBoard, due: &[usize]) {
        if due.is_empty() {
            return;
        }
        let checks: FuturesUnordered<_> = due.iter().map(|index| self.one(me, board, *index)).collect();
        let me = me.clone();
        tokio::spawn(async move {
            let mut outcomes = checks.ready_chunks(OUTCOMES_MAX);
            while let Some(outcomes) = outcomes.next().await {
                // If the monitor has stopped meanwhile, its next incarnation repeats the checks.
                if !me.cast(HealthMessage::Checked(outcomes)) {
                    return;
                }
            }
        });
    }

    fn one(
        &self,
        me: &Me,
        board: &mut HealthBoard,
        index: usize,
    ) -> impl Future<Output = CheckOutcome> + use<> {
        let id = self.hooks.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let actor = &self.actors[index];
        let asked = self.clock.now();
        board.asked(asked, index, id, (actor.read)());
        let ping = PingMessage {
            id,
            timestamp: self.clock.wall(),
            source: self.address.name().to_string(),
            incarnation: self.incarnation,
            federation_check: false,
            metadata: BTreeMap::new(),
        };
        let (me, clock, read) = (me.clone(), self.clock.clone(), actor.read.clone());
        let (name, deadline) = (actor.name.clone(), self.config.timeout(actor.priority));
        let last_words = self.hooks.last_words.clone();
        let mut asking = (actor.ask)(ping, deadline + LATE);
        async move {
            let check = match tokio::time::timeout(deadline, &mut asking).await {
                Ok(Ok(pong)) if pong.ping_id == id => {
                    Check::Answered { result: pong.status, response_time: clock.now().since(asked) }
                }
                Ok(Ok(pong)) => Check::Silent(format!("answered ping {} instead of {id}", pong.ping_id)),
                Ok(Err(error @ CallError::Mail(MailError::Absent(_)))) => {
                    let why = last_words.and_then(|last_words| last_words(&name));
                    Check::Absent(why.map_or(error.to_string(), |why| format!("{error}: {why}")))
                }
                Ok(Err(error)) => Check::Silent(error.to_string()),
                Err(_) => {
                    tokio::spawn(async move {
                        if let Ok(pong) = asking.await {
                            me.cast(HealthMessage::Late(index, pong));
                        }
                    });
                    Check::Silent(CallError::Deadline { name, deadline }.to_string())
                }
            };
            CheckOutcome { index, id, check, reading: read() }
        }
    }

    fn checked(&self, me: &Me, shell: &mut HealthMonitorState, outcomes: Vec<CheckOutcome>) {
        let now = self.clock.now();
        let mut found = Vec::new();
        let mut is_critical = false;
        for outcome in outcomes {
            let index = outcome.index;
            let is_news = shell.board.over(now, outcome);
            let actor = &shell.board.actors()[index];
            if is_news {
                self.tell(&shell.board, index);
            } else {
                // Recorded even if unchanged: the actor may be a new incarnation with the same status as before.
                (self.recorder)(&actor.name, actor.status);
            }
            is_critical |= actor.priority == ActorPriority::Critical;
            if self.hooks.follower.is_some() {
                found.push(actor.clone());
            }
        }
        self.hooks.score.store((shell.board.score() * 1_000.0).round() as u64, Ordering::Relaxed);
        if let Some(follower) = &self.hooks.follower {
            follower(found);
        }
        if is_critical {
            self.summarise(shell);
        }
        // Checks that are due again at once start now and not with the next tick.
        let due = shell.board.due(now);
        self.check(me, &mut shell.board, &due);
        if shell.board.under_way() == 0 {
            for waiting in shell.batches.drain(..) {
                let _ = waiting.send(shell.board.actors().to_vec());
            }
        }
    }

    fn tell(&self, board: &HealthBoard, index: usize) {
        let actor = &board.actors()[index];
        (self.recorder)(&actor.name, actor.status);
        self.events.tell(ClusterEvent::ActorHealthChanged {
            actor: actor.name.clone(),
            status: actor.status,
            reason: actor.reason.clone(),
        });
    }

    fn summarise(&self, shell: &HealthMonitorState) {
        let critical = |actor: &&ActorHealth| actor.priority == ActorPriority::Critical;
        let mut actors = shell.board.actors().iter().filter(critical);
        if actors.all(|actor| actor.status != HealthStatus::Unknown) {
            (self.listener)(shell.board.summary());
        }
    }

    fn look_at_members(&self, me: &Me, shell: &mut HealthMonitorState) {
        let now = self.clock.now();
        if let Some(ask) = self.hooks.members.as_ref().filter(|_| now >= shell.members_due) {
            shell.members_due = now + MEMBERS_EVERY;
            let (me, asking) = (me.clone(), ask());
            tokio::spawn(async move {
                me.cast(HealthMessage::Members(asking.await));
            });
        }
    }
}

impl Actor for HealthMonitor {
    type Msg = HealthMessage;
    type State = HealthMonitorState;
    type Arguments = ();

    async fn pre_start(&self, me: Me, (): ()) -> Result<HealthMonitorState, ActorProcessingErr> {
        me.send_after(Duration::ZERO, HealthMessage::Tick);
        let actors = self.actors.iter().map(|actor| (actor.name.clone(), actor.priority));
        let board = HealthBoard::new(self.config, actors);
        Ok(HealthMonitorState { board, batches: Vec::new(), members_due: Moment::ORIGIN })
    }

    async fn handle(
        &self,
        me: Me,
        message: Self::Msg,
        shell: &mut HealthMonitorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HealthMessage::Tick => {
                let due = shell.board.due(self.clock.now());
                self.check(&me, &mut shell.board, &due);
                self.look_at_members(&me, shell);
                me.send_after(TICK, HealthMessage::Tick);
            }
            HealthMessage::Checked(outcomes) => self.checked(&me, shell, outcomes),
            HealthMessage::Late(index, pong) => {
                let (receipt, changed) = shell.board.late(index, &pong, self.incarnation);
                if receipt != Receipt::Late {
                    tracing::debug!(
                        source = pong.source,
                        ping = pong.ping_id,
                        ?receipt,
                        "a pong is not taken"
                    );
                }
                if changed {
                    self.tell(&shell.board, index);
                    self.summarise(shell);
                }
            }
            HealthMessage::Board(reply) => {
                let _ = reply.send(shell.board.actors().to_vec());
            }
            HealthMessage::Batch(reply) => {
                if shell.batches.len() == BATCHES_MAX {
                    shell.batches.remove(0);
                }
                shell.batches.push(reply);
                let due = shell.board.all_due(self.clock.now());
                self.check(&me, &mut shell.board, &due);
            }
            HealthMessage::Trends(reply) => {
                let _ = reply.send(shell.board.trends());
            }
            HealthMessage::Recovery(actor, stage, note) => {
                if let Some(index) = shell.board.recovery(&actor, stage, note) {
                    self.tell(&shell.board, index);
                    self.summarise(shell);
                }
            }
            HealthMessage::Members(readings) => shell.board.members(self.clock.now(), readings),
            HealthMessage::Shutdown(reason) => {
                for index in shell.board.shut_down(&reason) {
                    self.tell(&shell.board, index);
                }
                self.summarise(shell);
            }
        }
        Ok(())
    }

    async fn health(&self, shell: &mut HealthMonitorState) -> HealthCheckResult {
        shell.board.own(self.clock.now())
    }
}
