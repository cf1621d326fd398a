//! Runs the coordinator as an actor.

use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use ractor::ActorProcessingErr;

use super::attestation::ActorState;
use super::config::HeartbeatConfig;
use super::coordinator::{Coordinator, Effect, Input};
use super::message::{FederationMessage, FederationStatus};
use super::roster::Roster;
use super::verdict::{GateReader, Verdict};
use super::wire::FederationWire;
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::health::HealthMessage;
use crate::id::{ActorPriority, Incarnation};
use crate::mailbox::Address;
use crate::port::{Outbox, PeerChange, PeerWatcher, Progress, Signer};

/// Interval at which silence is checked: a fifth of the default heartbeat interval.
const TICK: Duration = Duration::from_millis(50);

/// Timeout of the request to the health monitor for the state of each critical actor.
const BOARD_DEADLINE: Duration = Duration::from_secs(1);

/// Configuration and dependencies of the federation actor.
#[derive(Clone)]
pub struct FederationActor {
    /// Configured members.
    pub roster: Roster,
    /// Incarnation of this node.
    pub incarnation: Incarnation,
    /// Heartbeat intervals and thresholds.
    pub config: HeartbeatConfig,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Receives membership and gate events.
    pub events: EventBus,
    /// Sends heartbeats to peers.
    pub outbox: Arc<dyn Outbox<FederationWire>>,
    /// Gate to which verdicts are published.
    pub gate: GateReader,
    /// Signs this member's attestations and verifies those of others.
    pub signer: Arc<dyn Signer>,
    /// Health monitor, which reports the critical actors that this member attests.
    pub health: Address<HealthMessage>,
    /// Provides the height of the chain.
    pub progress: Arc<dyn Progress>,
    /// Called on every membership change.
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

    /// Requests the health of each critical actor in a separate task, so that a slow monitor does not block the
    /// handler.
    fn ask_for_actors(&self, me: &SelfRef<FederationMessage>) {
        let (me, health) = (me.clone(), self.health.clone());
        tokio::spawn(async move {
            // Without an answer, the last known states are attested; the summary does not depend on them.
            let Ok(board) = health.ask(BOARD_DEADLINE, HealthMessage::Board).await else { return };
            let critical = board.into_iter().filter(|actor| actor.priority == ActorPriority::Critical);
            let states = critical.map(|actor| ActorState { name: actor.name, status: actor.status });
            // If this actor has stopped meanwhile, its next incarnation requests them again.
            me.cast(FederationMessage::OwnActors(states.collect()));
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
    type Msg = FederationMessage;
    type State = Coordinator;
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<Coordinator, ActorProcessingErr> {
        // A restart of this actor loses its state, which is no peer's fault. Peers that do not respond in time are then
        // reported lost, so that a loss during the restart is not missed.
        for node in self.roster.peers() {
            let change = PeerChange::Unknown { node: node.clone(), reason: "not heard of yet".to_owned() };
            self.watchers.iter().for_each(|watcher| watcher(&change));
        }
        me.send_after(Duration::ZERO, FederationMessage::Tick);
        Ok(Coordinator::new(self.roster.clone(), self.incarnation, self.config, self.signer.clone()))
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        coordinator: &mut Coordinator,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.clock.now();
        let wall = self.clock.wall();
        match message {
            FederationMessage::Tick => {
                me.send_after(TICK, FederationMessage::Tick);
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
        }
        Ok(())
    }
}
