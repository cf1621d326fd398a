//! The link to one peer as an actor: it holds the queue, keeps few batches in flight, and does what
//! [`Peer`] says about sessions.
//!
//! Batches in flight are the flow control that `ractor_cluster` lacks: a peer that is stopped or slow
//! acknowledges nothing, so that at most [`IN_FLIGHT_MAX`] batches lie in `ractor_cluster`'s unbounded queues
//! and the rest waits, and is dropped, here.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::NodeSessionMessage;

use super::config::LinkConfig;
use super::envelope::Batch;
use super::message::{GatewayMessage, LinkMessage, LinkStatus, NetworkMessage, Wire};
use super::peer::{Effect, Input, Peer, SessionId};
use super::queue::SendQueue;
use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::{ActorName, NodeId};
use crate::mailbox::{Address, Mail, remind};

/// Batches sent and not yet acknowledged.
pub const IN_FLIGHT_MAX: usize = 8;
/// How often dials and stale sessions are looked at.
const TICK: Duration = Duration::from_millis(20);

/// What a link works with.
#[derive(Clone)]
pub struct LinkActor {
    /// Where it is reached.
    pub address: Address<LinkMessage>,
    /// To whom.
    pub peer: NodeId,
    /// Where the peer listens.
    pub peer_address: SocketAddr,
    /// Whether this member dials.
    pub dials: bool,
    /// Time-outs and bounds.
    pub config: LinkConfig,
    /// Makes connections.
    pub network: Address<NetworkMessage>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of sessions won and lost.
    pub events: EventBus,
}

struct InFlight {
    sent: Moment,
    envelopes: u64,
}

/// The shell's memory.
pub struct Shell {
    peer: Peer,
    queue: SendQueue,
    sessions: HashMap<SessionId, ActorRef<NodeSessionMessage>>,
    gateway: Option<ActorRef<GatewayMessage>>,
    in_flight: BTreeMap<u64, InFlight>,
    last_batch: u64,
    sessions_won: u64,
    delivered: u64,
    unsendable: u64,
}

impl LinkActor {
    /// The name of the link to `peer`.
    pub fn name(peer: &NodeId) -> ActorName {
        ActorName::new(&format!("link/{peer}")).expect("a member's name with a prefix is a name")
    }

    fn apply(&self, shell: &mut Shell, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { attempt } => {
                    let (peer, address) = (self.peer.clone(), self.peer_address);
                    let timeout = self.config.handshake_timeout;
                    let dial = NetworkMessage::Dial { peer, address, attempt, timeout };
                    if let Err(error) = self.network.cast(dial) {
                        let reason = error.to_string();
                        shell.peer.handle(self.clock.now(), Input::DialFailed { attempt, reason });
                    }
                }
                Effect::StopSession(id, reason) => {
                    if let Some(session) = shell.sessions.remove(&id) {
                        session.stop(Some(reason.to_owned()));
                    }
                }
                Effect::Up(_) => {
                    shell.sessions_won += 1;
                    self.events.tell(ClusterEvent::LinkUp { peer: self.peer.clone() });
                }
                Effect::Down(reason) => {
                    shell.gateway = None;
                    shell.queue.clear();
                    shell.in_flight.clear();
                    self.events.tell(ClusterEvent::LinkDown { peer: self.peer.clone(), reason });
                }
            }
        }
    }

    fn pump(&self, me: &ActorRef<Mail<LinkMessage>>, shell: &mut Shell) {
        let Some(gateway) = shell.gateway.clone() else {
            return;
        };
        while shell.in_flight.len() < IN_FLIGHT_MAX {
            let envelopes = shell.queue.next_batch();
            if envelopes.is_empty() {
                return;
            }
            shell.last_batch += 1;
            let batch = shell.last_batch;
            let sent = self.clock.now();
            shell.in_flight.insert(batch, InFlight { sent, envelopes: envelopes.len() as u64 });
            // The session is given up before this deadline; it only bounds the life of the task.
            let deadline = self.config.stale_after * 2;
            let (gateway, me) = (gateway.clone(), me.clone());
            tokio::spawn(async move {
                let deliver = |reply| GatewayMessage::Deliver(Wire(Ok(Batch::new(envelopes))), reply);
                let outcome = gateway.call(deliver, Some(deadline)).await;
                let acknowledged = matches!(outcome, Ok(CallResult::Success(_)));
                // The link may have ended meanwhile.
                let _ = me.cast(Mail::to_self(LinkMessage::Delivered { batch, acknowledged }));
            });
        }
    }

    fn input(&self, shell: &mut Shell, input: Input) {
        let effects = shell.peer.handle(self.clock.now(), input);
        self.apply(shell, effects);
    }
}

impl Actor for LinkActor {
    type Msg = Mail<LinkMessage>;
    type State = Shell;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Shell, ActorProcessingErr> {
        self.address.bind(me.clone());
        remind(&me, Duration::ZERO, LinkMessage::Tick);
        // Sessions that the link's predecessor knew are made anew. Without a network actor there are none.
        let _ = self.network.cast(NetworkMessage::LinkStarted(self.peer.clone()));
        Ok(Shell {
            peer: Peer::new(self.dials, &self.config, self.clock.now(), rand::random()),
            queue: SendQueue::new(self.config.queue),
            sessions: HashMap::new(),
            gateway: None,
            in_flight: BTreeMap::new(),
            last_batch: 0,
            sessions_won: 0,
            delivered: 0,
            unsendable: 0,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            LinkMessage::Tick => {
                remind(&me, TICK, LinkMessage::Tick);
                let oldest_unacknowledged = shell.in_flight.values().map(|flight| flight.sent).min();
                self.input(shell, Input::Tick { oldest_unacknowledged });
            }
            LinkMessage::Send(class, envelope) => {
                if shell.gateway.is_some() {
                    shell.queue.push(class, envelope);
                    self.pump(&me, shell);
                } else {
                    shell.unsendable += 1;
                }
            }
            LinkMessage::DialFailed { attempt, reason } => {
                self.input(shell, Input::DialFailed { attempt, reason });
            }
            LinkMessage::Opened { attempt, session } => {
                let id = session.get_id().pid();
                shell.sessions.insert(id, session);
                self.input(shell, Input::Opened { attempt, session: id });
            }
            LinkMessage::Ready { session, gateway } => {
                let id = session.get_id().pid();
                shell.sessions.insert(id, session);
                self.input(shell, Input::Ready(id));
                shell.gateway = Some(gateway);
                self.pump(&me, shell);
            }
            LinkMessage::Closed(id) => {
                shell.sessions.remove(&id);
                self.input(shell, Input::Closed(id));
            }
            LinkMessage::Delivered { batch, acknowledged } => {
                // A batch of an earlier session is no longer known.
                if let Some(flight) = shell.in_flight.remove(&batch) {
                    if acknowledged {
                        shell.delivered += flight.envelopes;
                    } else {
                        shell.unsendable += flight.envelopes;
                        self.input(shell, Input::Refused);
                    }
                }
                self.pump(&me, shell);
            }
            LinkMessage::Status(reply) => {
                let _ = reply.send(LinkStatus {
                    peer: self.peer.clone(),
                    phase: shell.peer.phase(),
                    dials: self.dials,
                    sessions: shell.sessions_won,
                    queued: shell.queue.len(),
                    delivered: shell.delivered,
                    dropped: shell.queue.dropped() + shell.unsendable,
                    last_loss: shell.peer.last_loss().to_owned(),
                });
            }
            LinkMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
