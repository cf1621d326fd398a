//! The coordinator as an actor.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::config::HeartbeatConfig;
use super::coordinator::{Coordinator, Effect, Input};
use super::gate::{GateReader, Verdict};
use super::message::{FederationMessage, FederationStatus};
use super::roster::Roster;
use super::wire::FederationWire;
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::Incarnation;
use crate::mailbox::{Address, Mail, remind};
use crate::port::{Outbox, PeerChange, PeerWatcher, Progress};

/// How often silence is looked at: a fifth of the default interval between heartbeats.
const TICK: Duration = Duration::from_millis(50);

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
            }
        }
    }

    fn tell_watchers(&self, change: &PeerChange) {
        self.events.tell(match change.clone() {
            PeerChange::Up { node, incarnation } => ClusterEvent::PeerUp { node, incarnation },
            PeerChange::Down { node, reason } => ClusterEvent::PeerDown { node, reason },
            PeerChange::Left { node, reason } => ClusterEvent::PeerLeft { node, reason },
        });
        for watcher in self.watchers.iter() {
            watcher(change);
        }
    }

    fn publish(&self, verdict: Verdict) {
        if let Some(record) = self.gate.publish(verdict, self.clock.wall()) {
            self.events.tell(record.into());
        }
    }
}

impl Actor for FederationActor {
    type Msg = Mail<FederationMessage>;
    type State = Coordinator;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Coordinator, ActorProcessingErr> {
        self.address.bind(me.clone());
        remind(&me, Duration::ZERO, FederationMessage::Tick);
        Ok(Coordinator::new(self.roster.clone(), self.incarnation, self.config))
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
                remind(&me, TICK, FederationMessage::Tick);
                let height = self.progress.height();
                self.apply(coordinator.handle(now, Input::Tick { wall, height }));
            }
            FederationMessage::Wire(from, wire) => {
                self.apply(coordinator.handle(now, Input::Wire { from, wire, wall }));
            }
            FederationMessage::OwnHealth(report) => {
                self.apply(coordinator.handle(now, Input::OwnHealth(report)));
            }
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
