//! The coordinator as an actor.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::attestation::ActorState;
use super::config::HeartbeatConfig;
use super::coordinator::{Coordinator, Effect, Input};
use super::message::{FederationMessage, FederationStatus};
use super::roster::Roster;
use super::verdict::{GateReader, Verdict};
use super::wire::FederationWire;
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::health::message::answer;
use crate::health::{HealthCheckResult, HealthMessage};
use crate::id::{ActorPriority, Incarnation};
use crate::mailbox::{Address, Mail, send_self_after};
use crate::port::{Outbox, PeerChange, PeerWatcher, Progress, Signer};

/// How often silence is looked at: a fifth of the default interval between heartbeats.
const TICK: Duration = Duration::from_millis(50);

/// The longest the health monitor is waited for with the state of each critical actor.
const BOARD_DEADLINE: Duration = Duration::from_secs(1);

/// What the federation actor works with.
#[derive(Clone)]
pub struct FederationActor {
    /// Where it is reached.
    pub address: Address<FederationMessage>,
    /// The configured members.
    pub roster: Roster,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// Heartbeats and thresholds.
    pub config: HeartbeatConfig,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of changes.
    pub events: EventBus,
    /// Takes heartbeats to peers.
    pub outbox: Arc<dyn Outbox<FederationWire>>,
    /// Where the verdict is published.
    pub gate: GateReader,
    /// Signs what this member attests, and checks what others do.
    pub signer: Arc<dyn Signer>,
    /// Knows each critical actor's health, which this member attests.
    pub health: Address<HealthMessage>,
    /// How far the chain has come.
    pub progress: Arc<dyn Progress>,
    /// Whom a lost or returned peer concerns.
    pub watchers: Arc<[PeerWatcher]>,
}

impl FederationActor {
    fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, wire) => self.outbox.send(&to, wire),
                Effect::Peer(change) => self.tell_watchers(&change),
                Effect::Publish(verdict) => self.publish(verdict),
                Effect::TellRefused { member, from, reason } => {
                    self.events.tell(ClusterEvent::AttestationRefused { member, from, reason });
                }
                Effect::TellClock { is_wrong, error_ms } => {
                    self.events.tell(ClusterEvent::ClockJudged { is_wrong, error_ms });
                }
                Effect::TellDoubt { begins, reason } => {
                    self.events.tell(ClusterEvent::SelfDoubted { begins, reason });
                }
            }
        }
    }

    fn tell_watchers(&self, change: &PeerChange) {
        let event = match change.clone() {
            PeerChange::Up { node, incarnation } => Some(ClusterEvent::PeerUp { node, incarnation }),
            PeerChange::Down { node, reason } => Some(ClusterEvent::PeerDown { node, reason }),
            PeerChange::Left { node, reason } => Some(ClusterEvent::PeerLeft { node, reason }),
            PeerChange::Indirect { node, through, .. } => Some(ClusterEvent::PeerAttested { node, through }),
            PeerChange::Unknown { .. } | PeerChange::Apart { .. } | PeerChange::Together { .. } => None,
        };
        if let Some(event) = event {
            self.events.tell(event);
        }
        for watcher in self.watchers.iter() {
            watcher(change);
        }
    }

    /// Learns of each critical actor's health, outside the handler: who is slow to answer is not waited for.
    fn ask_for_actors(&self, me: &ActorRef<Mail<FederationMessage>>) {
        let (me, health) = (me.clone(), self.health.clone());
        tokio::spawn(async move {
            // Without an answer the last one is attested further; the summary does not depend on it.
            let Ok(board) = health.call(BOARD_DEADLINE, HealthMessage::Board).await else { return };
            let critical = board.into_iter().filter(|actor| actor.priority == ActorPriority::Critical);
            let states = critical.map(|actor| ActorState { name: actor.name, status: actor.status });
            // An actor that ended meanwhile is followed by one that asks anew.
            let _ = me.cast(Mail::to_self(FederationMessage::OwnActors(states.collect())));
        });
    }

    fn publish(&self, verdict: Verdict) {
        let now = self.clock.now();
        for record in self.gate.publish(verdict, now, self.clock.wall()) {
            self.events.tell(record.into());
        }
    }
}

impl Actor for FederationActor {
    type Msg = Mail<FederationMessage>;
    type State = Coordinator;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Coordinator, ActorProcessingErr> {
        // What a predecessor of this actor knew is gone, which is no peer's fault. Those that are not heard in time are
        // told lost then: a loss that falls between the two is not missed.
        for node in self.roster.peers() {
            let change = PeerChange::Unknown { node: node.clone(), reason: "not heard of yet".to_owned() };
            self.watchers.iter().for_each(|watcher| watcher(&change));
        }
        self.address.bind(me.clone());
        send_self_after(&me, Duration::ZERO, FederationMessage::Tick);
        Ok(Coordinator::new(self.roster.clone(), self.incarnation, self.config, self.signer.clone()))
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        coordinator: &mut Coordinator,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.clock.now();
        let wall = self.clock.wall();
        match mail.open() {
            FederationMessage::Tick => {
                send_self_after(&me, TICK, FederationMessage::Tick);
                let height = self.progress.height();
                self.apply(coordinator.handle(now, Input::Tick { wall, height }));
            }
            FederationMessage::Wire(from, wire) => {
                self.apply(coordinator.handle(now, Input::Wire { from, wire, wall }));
            }
            FederationMessage::OwnHealth(report) => {
                self.ask_for_actors(&me);
                self.apply(coordinator.handle(now, Input::OwnHealth(report)));
            }
            FederationMessage::OwnActors(actors) => {
                self.apply(coordinator.handle(now, Input::OwnActors(actors)));
            }
            FederationMessage::Link(peer, is_up) => {
                self.apply(coordinator.handle(now, Input::Link { peer, is_up, wall }));
            }
            FederationMessage::Want(told, reply) => {
                self.apply(coordinator.handle(now, Input::Want { told, wall }));
                let _ = reply.send((self.gate.verdict(now), coordinator.staying(now)));
            }
            FederationMessage::Stay => self.apply(coordinator.handle(now, Input::Stay)),
            FederationMessage::Leave(reason, reply) => {
                self.apply(coordinator.handle(now, Input::Leave { reason, wall }));
                let _ = reply.send(coordinator.unaware());
            }
            FederationMessage::Status(reply) => {
                let verdict = self.gate.verdict(now);
                let _ = reply.send(FederationStatus { verdict, members: coordinator.members(now) });
            }
            FederationMessage::Ping(ping, reply) => {
                let health = HealthCheckResult::healthy();
                answer(self.address.name(), &*self.clock, &ping, health, reply);
            }
        }
        Ok(())
    }
}
