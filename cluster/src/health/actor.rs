//! The monitor as an actor: it asks whoever is due, all at once, and never waits in its handler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::config::HealthConfig;
use super::message::{HealthMessage, answer};
use super::ping::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
use super::state::{ActorHealth, Check, HealthBoard};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, ActorPriority, Incarnation};
use crate::mailbox::{Address, CallError, Mail, remind};

/// How often the monitor looks who is due.
const TICK: Duration = Duration::from_millis(50);

type Ask =
    Arc<dyn Fn(PingMessage, Duration) -> BoxFuture<'static, Result<PongMessage, CallError>> + Send + Sync>;

/// An actor that can be asked for its health through its own mailbox.
#[derive(Clone)]
pub struct Pingable {
    name: ActorName,
    priority: ActorPriority,
    ask: Ask,
}

impl Pingable {
    /// `wrap` makes the actor's message of a ping.
    pub fn new<M: Send + 'static>(
        address: &Address<M>,
        priority: ActorPriority,
        wrap: fn(PingMessage, RpcReplyPort<PongMessage>) -> M,
    ) -> Self {
        let name = address.name().clone();
        let address = address.clone();
        let ask: Ask = Arc::new(move |ping, timeout| {
            let address = address.clone();
            Box::pin(async move { address.call(timeout, |reply| wrap(ping, reply)).await })
        });
        Self { name, priority, ask }
    }
}

/// Notes what each check of an actor says. Must not wait.
pub type Recorder = Arc<dyn Fn(&ActorName, HealthStatus) + Send + Sync>;

/// Hears what the node says of itself after every check of a critical actor. Must not wait.
pub type SummaryListener = Arc<dyn Fn(HealthCheckResult) + Send + Sync>;

/// What the monitor works with.
#[derive(Clone)]
pub struct HealthMonitor {
    /// Where it is reached.
    pub address: Address<HealthMessage>,
    /// Its intervals.
    pub config: HealthConfig,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of changes.
    pub events: EventBus,
    /// Whom it asks.
    pub actors: Arc<[Pingable]>,
    /// Where the outcome of each check is noted.
    pub recorder: Recorder,
    /// Who hears the summary.
    pub listener: SummaryListener,
}

/// The shell's memory.
pub struct Shell {
    board: HealthBoard,
    last_id: u64,
}

impl HealthMonitor {
    fn check(&self, me: &ActorRef<Mail<HealthMessage>>, index: usize, id: u64) {
        let ping = PingMessage {
            id,
            timestamp: self.clock.wall(),
            source: self.address.name().to_string(),
            incarnation: self.incarnation,
            federation_check: false,
            metadata: BTreeMap::new(),
        };
        let (me, clock, timeout) = (me.clone(), self.clock.clone(), self.config.timeout);
        let ask = self.actors[index].ask.clone();
        tokio::spawn(async move {
            let asked = clock.now();
            let check = match ask(ping, timeout).await {
                Ok(pong) if pong.ping_id == id => {
                    Check::Answered { result: pong.status, response_time: clock.now().since(asked) }
                }
                Ok(pong) => Check::Silent(format!("answered ping {} instead of {id}", pong.ping_id)),
                Err(error @ CallError::Mail(crate::mailbox::MailError::Absent(_))) => {
                    Check::Absent(error.to_string())
                }
                Err(error) => Check::Silent(error.to_string()),
            };
            // The monitor may have ended meanwhile; its successor checks anew.
            let _ = me.cast(Mail::to_self(HealthMessage::Checked(index, check)));
        });
    }

    fn checked(&self, shell: &mut Shell, index: usize, check: Check) {
        if shell.board.checked(index, check) {
            let actor = &shell.board.actors()[index];
            self.events.tell(ClusterEvent::ActorHealthChanged {
                actor: actor.name.clone(),
                status: actor.status,
                reason: actor.reason.clone(),
            });
        }
        let actors = shell.board.actors();
        // Each time: a new incarnation of the actor is noted although its status is the same as before.
        (self.recorder)(&actors[index].name, actors[index].status);
        let critical = |actor: &ActorHealth| actor.priority == ActorPriority::Critical;
        let all_known = actors.iter().filter(|a| critical(a)).all(|a| a.status != HealthStatus::Unknown);
        if critical(&actors[index]) && all_known {
            (self.listener)(shell.board.summary());
        }
    }
}

impl Actor for HealthMonitor {
    type Msg = Mail<HealthMessage>;
    type State = Shell;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Shell, ActorProcessingErr> {
        self.address.bind(me.clone());
        remind(&me, Duration::ZERO, HealthMessage::Tick);
        let actors = self.actors.iter().map(|actor| (actor.name.clone(), actor.priority));
        Ok(Shell { board: HealthBoard::new(self.config, actors), last_id: 0 })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            HealthMessage::Tick => {
                for index in shell.board.due(self.clock.now()) {
                    shell.last_id += 1;
                    self.check(&me, index, shell.last_id);
                }
                remind(&me, TICK, HealthMessage::Tick);
            }
            HealthMessage::Checked(index, check) => self.checked(shell, index, check),
            HealthMessage::Board(reply) => {
                let _ = reply.send(shell.board.actors().to_vec());
            }
            HealthMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
