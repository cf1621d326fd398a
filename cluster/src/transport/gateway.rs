//! The one actor of a node that other nodes can reach: it takes batches apart and hands each envelope to the
//! local actor it is addressed to.
//!
//! `ractor_cluster` advertises every remotable actor to every peer, and any peer may message it; so there is
//! one, and it refuses what comes from strangers, from earlier incarnations, or for actors that take nothing
//! from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::de::DeserializeOwned;

use super::codec;
use super::envelope::{Batch, Envelope};
use super::message::GatewayMessage;
use crate::event::{ClusterEvent, EventBus};
use crate::federation::Roster;
use crate::id::{ActorName, Incarnation, NodeId};

/// The gateway's name within its node.
pub const GATEWAY: &str = "gateway";

/// Takes an envelope's payload to a local actor, or says why not.
pub type Route = Arc<dyn Fn(NodeId, &[u8]) -> Result<(), String> + Send + Sync>;

/// Which local actors may be reached from outside.
#[derive(Clone, Default)]
pub struct Routes {
    routes: BTreeMap<ActorName, Route>,
}

impl Routes {
    /// Adds a route: `take` gets the sender and the decoded message.
    #[must_use]
    pub fn with<W: DeserializeOwned>(
        mut self,
        destination: ActorName,
        take: impl Fn(NodeId, W) -> Result<(), crate::mailbox::MailError> + Send + Sync + 'static,
    ) -> Self {
        let route: Route = Arc::new(move |source, payload| {
            let message = codec::decode(payload).map_err(|e| e.to_string())?;
            take(source, message).map_err(|e| e.to_string())
        });
        self.routes.insert(destination, route);
        self
    }
}

/// What the gateway works with.
#[derive(Clone)]
pub struct Gateway {
    /// Whom it listens to.
    pub roster: Roster,
    /// Where envelopes go.
    pub routes: Routes,
    /// Hears of refusals.
    pub events: EventBus,
}

impl Gateway {
    fn take(&self, envelope: Envelope, newest: &mut BTreeMap<NodeId, Incarnation>) -> Result<(), String> {
        let Envelope { source, incarnation, destination, payload, .. } = envelope;
        if !self.roster.is_peer(&source) {
            return Err("it is no other member of the federation".to_owned());
        }
        let known = newest.entry(source.clone()).or_insert(incarnation);
        if incarnation < *known {
            return Err(format!("incarnation {incarnation} speaks after incarnation {known}"));
        }
        *known = incarnation;
        let route = self.routes.routes.get(&destination);
        route.ok_or_else(|| format!("{destination} takes nothing from outside"))?(source, &payload)
    }

    fn refuse(&self, peer: &impl std::fmt::Display, reason: String) {
        self.events.tell(ClusterEvent::LinkRefused { peer: peer.to_string(), reason });
    }
}

impl Actor for Gateway {
    type Msg = GatewayMessage;
    /// The newest incarnation heard of each member.
    type State = BTreeMap<NodeId, Incarnation>;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(BTreeMap::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: GatewayMessage,
        newest: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let GatewayMessage::Deliver(batch, reply) = message;
        let mut taken = 0;
        match batch.0.and_then(Batch::open) {
            Err(reason) => self.refuse(&"an unknown sender", reason),
            Ok(envelopes) => {
                for envelope in envelopes {
                    let source = envelope.source.clone();
                    match self.take(envelope, newest) {
                        Ok(()) => taken += 1,
                        Err(reason) => self.refuse(&source, reason),
                    }
                }
            }
        }
        // The sender may have given up; then it sends anew.
        let _ = reply.send(taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Wire;
    use super::*;
    use crate::clock::SystemClock;
    use std::sync::Mutex;
    use std::time::Duration;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn envelope(source: &str, incarnation: u64, destination: &'static str, payload: Vec<u8>) -> Envelope {
        Envelope {
            source: node(source),
            incarnation: Incarnation(incarnation),
            destination: ActorName::literal(destination),
            trace: super::super::trace::TraceContext::default(),
            payload,
        }
    }

    #[tokio::test]
    async fn envelopes_reach_the_actor_they_are_addressed_to_and_everything_else_is_refused_with_a_reason() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let routes = Routes::default().with(ActorName::literal("chain"), {
            let seen = seen.clone();
            move |source, number: u32| {
                seen.lock().expect("not poisoned").push((source.to_string(), number));
                Ok(())
            }
        });
        let events = EventBus::new(Arc::new(SystemClock::default()));
        let mut refusals = events.listen();
        let members = ["node-1", "node-2", "node-3", "node-4"].map(node).to_vec();
        let roster = Roster::new(members, &node("node-1")).expect("a member");
        let gateway = Gateway { roster, routes, events };
        let (gateway, _) = Actor::spawn(None, gateway, ()).await.expect("starts");

        let good = codec::encode(&7u32).expect("encodes");
        let batch = Batch::new(vec![
            envelope("node-2", 5, "chain", good.clone()),
            envelope("node-2", 4, "chain", good.clone()),
            envelope("node-9", 1, "chain", good.clone()),
            envelope("node-1", 1, "chain", good.clone()),
            envelope("node-3", 1, "engine", good.clone()),
            envelope("node-3", 1, "chain", vec![0xff; 9]),
        ]);
        let deliver = |batch| {
            gateway.call(|reply| GatewayMessage::Deliver(Wire(batch), reply), Some(Duration::from_secs(5)))
        };
        assert_eq!(deliver(Ok(batch)).await.expect("lives").expect("answers"), 1);
        assert_eq!(deliver(Err("garbage".into())).await.expect("lives").expect("answers"), 0);
        assert_eq!(*seen.lock().expect("not poisoned"), [("node-2".to_owned(), 7)]);

        let mut reasons = vec![];
        while let Ok(recorded) = refusals.try_recv() {
            reasons.push(recorded.event.to_string());
        }
        for (reason, expected) in reasons.iter().zip([
            "refused node-2: incarnation 4 speaks after incarnation 5",
            "refused node-9: it is no other member",
            "refused node-1: it is no other member",
            "refused node-3: engine takes nothing from outside",
            "refused node-3: the message could not be decoded",
            "refused an unknown sender: garbage",
        ]) {
            assert!(reason.starts_with(expected), "{reason}");
        }
        assert_eq!(reasons.len(), 6);
    }
}
