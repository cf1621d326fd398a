//! Runs discovery as an actor: publishes this member's exports and processes the adverts of others.

use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use ractor::ActorProcessingErr;
use tokio::task::JoinHandle;

use super::advert::Advert;
use super::exports::Exports;
use super::face::Discovery;
use super::message::DiscoveryMessage;
use super::state::{Effect, Exchange, Input};
use super::wire::DiscoveryWire;
use crate::clock::Clock;
use crate::id::{Incarnation, NodeId};
use crate::mailbox::Address;
use crate::port::Outbox;
use crate::registry::{ActorQuery, RegistryChange, ThreadSafeActorRegistry};
use crate::transport::RejectionLog;

/// Interval at which pending advertisements are checked.
const TICK: Duration = Duration::from_millis(100);

/// Configuration and dependencies of the discovery actor.
#[derive(Clone)]
pub struct DiscoveryActor {
    /// Address of this actor.
    pub address: Address<DiscoveryMessage>,
    /// Incarnation of this node.
    pub incarnation: Incarnation,
    /// Registry of this member's actors.
    pub registry: ThreadSafeActorRegistry,
    /// Actors that other members may reach.
    pub exports: Exports,
    /// Actors that other members publish.
    pub discovery: Discovery,
    /// Sends messages to the other members.
    pub outbox: Arc<dyn Outbox<DiscoveryWire>>,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Log of rejected input.
    pub rejections: RejectionLog,
}

/// State of the discovery actor.
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

    /// Sends [`DiscoveryMessage::Changed`] to this actor whenever a published actor changes.
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
                    // If the mailbox is full, the change is published with the next refresh.
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
    type Msg = DiscoveryMessage;
    type State = DiscoveryActorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: SelfRef<Self::Msg>,
        (): (),
    ) -> Result<DiscoveryActorState, ActorProcessingErr> {
        let shell = DiscoveryActorState { exchange: Exchange::default(), watching: self.watch() };
        me.send_after(Duration::ZERO, DiscoveryMessage::Tick);
        Ok(shell)
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        shell: &mut DiscoveryActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DiscoveryMessage::Tick => {
                me.send_after(TICK, DiscoveryMessage::Tick);
                let members = self.discovery.directory.members().into_iter();
                self.handle(
                    shell,
                    Input::Tick(members.map(|(node, incarnation, _)| (node, incarnation)).collect()),
                );
            }
            DiscoveryMessage::Changed => self.handle(shell, Input::Changed),
            DiscoveryMessage::Wire(from, wire) => self.wire(shell, from, wire),
        }
        Ok(())
    }
}
