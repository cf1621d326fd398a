//! Discovery as an actor: it publishes, and takes what others publish.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

use super::advert::Advert;
use super::exports::Exports;
use super::face::Discovery;
use super::message::DiscoveryMessage;
use super::state::{Effect, Exchange, Input};
use super::wire::DiscoveryWire;
use crate::clock::Clock;
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::{Incarnation, NodeId};
use crate::mailbox::{Address, Mail, send_self_after};
use crate::port::Outbox;
use crate::registry::{ActorQuery, RegistryChange, ThreadSafeActorRegistry};
use crate::transport::RejectionLog;

/// How often it is looked whether something is to be told.
const TICK: Duration = Duration::from_millis(100);

/// What discovery works with.
#[derive(Clone)]
pub struct DiscoveryActor {
    /// Where it is reached.
    pub address: Address<DiscoveryMessage>,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// Knows this member's actors.
    pub registry: ThreadSafeActorRegistry,
    /// Which of them may be reached.
    pub exports: Exports,
    /// What other members publish.
    pub discovery: Discovery,
    /// Takes messages to the other members.
    pub outbox: Arc<dyn Outbox<DiscoveryWire>>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Tells of what is refused.
    pub rejections: RejectionLog,
}

/// The actor's state.
pub struct DiscoveryActorState {
    exchange: Exchange,
    watching: JoinHandle<()>,
}

impl Drop for DiscoveryActorState {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl DiscoveryActor {
    fn handle(&self, shell: &mut DiscoveryActorState, input: Input) {
        let now = self.clock.now();
        for effect in shell.exchange.handle(now, input) {
            match effect {
                Effect::Ask(node) => self.outbox.send(&node, DiscoveryWire::Ask),
                Effect::Advertise(node) => {
                    let (version, actors) =
                        (self.discovery.next_version(), self.exports.actors(now, &self.registry));
                    let advert = Advert { incarnation: self.incarnation, version, actors };
                    self.outbox.send(&node, DiscoveryWire::Advert(advert));
                }
            }
        }
    }

    /// Tells this actor when one that is published changes.
    fn watch(&self) -> JoinHandle<()> {
        let (registry, exports, address) =
            (self.registry.clone(), self.exports.clone(), self.address.clone());
        tokio::spawn(async move {
            let Ok(mut changes) = registry.subscribe(ActorQuery::All) else { return };
            loop {
                let is_published = match changes.next().await {
                    RegistryChange::Listing(_) => true,
                    RegistryChange::Added(entry) | RegistryChange::Changed(entry) => {
                        exports.contains(entry.name())
                    }
                    RegistryChange::Removed(name) => exports.contains(&name),
                };
                if is_published {
                    // A full mailbox has a tick in it, which tells everybody sooner or later.
                    let _ = address.cast(DiscoveryMessage::Changed);
                }
            }
        })
    }

    fn wire(&self, shell: &mut DiscoveryActorState, from: NodeId, wire: DiscoveryWire) {
        match wire {
            DiscoveryWire::Ask => self.handle(shell, Input::Asked(from)),
            DiscoveryWire::Advert(advert) => {
                if let Err(reason) = self.discovery.directory.publish(self.clock.now(), &from, advert) {
                    self.rejections.of_member(&from, &reason);
                }
            }
        }
    }
}

impl Actor for DiscoveryActor {
    type Msg = Mail<DiscoveryMessage>;
    type State = DiscoveryActorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<DiscoveryActorState, ActorProcessingErr> {
        self.address.bind(me.clone());
        let shell = DiscoveryActorState { exchange: Exchange::default(), watching: self.watch() };
        send_self_after(&me, Duration::ZERO, DiscoveryMessage::Tick);
        Ok(shell)
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut DiscoveryActorState,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            DiscoveryMessage::Tick => {
                send_self_after(&me, TICK, DiscoveryMessage::Tick);
                let members = self.discovery.directory.members().into_iter();
                self.handle(
                    shell,
                    Input::Tick(members.map(|(node, incarnation, _)| (node, incarnation)).collect()),
                );
            }
            DiscoveryMessage::Changed => self.handle(shell, Input::Changed),
            DiscoveryMessage::Wire(from, wire) => self.wire(shell, from, wire),
            DiscoveryMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
