//! Routes messages from other members to local actors, and defines the only actor that `ractor_cluster` exposes.
//!
//! `ractor_cluster` advertises every remotable actor to every peer, and any peer may message it. So there is exactly
//! one, the [`Gateway`], and all it does is report its node's incarnation: a link is up once the peer's gateway has
//! answered, and down once the gateway has stopped. Envelopes go through the [`InboundRouter`], which delivers only to
//! listed actors, and only from the members listed for that actor.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::connection::{Connection, Ending, Inbound};
use super::envelope::{Body, Envelope, Lane};
use super::message::GatewayMessage;
use super::sender_quota::{Load, SenderQuota};
use crate::id::{ActorName, Incarnation, NAME_BYTES_MAX, NodeId};
use crate::mailbox::Address;
use crate::trace::{ParentSpan, within_sync};

/// Name of the gateway within its node.
pub const GATEWAY: &str = "gateway";
/// Maximum time to work on one request.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Maximum load that one member may have queued at one actor.
pub const SHARE: Load = Load { messages: 256, bytes: 4 * 1024 * 1024 };
/// Lower bound of the message count in a quota: several rounds of consensus.
const SHARE_MIN: usize = 64;

/// Returns the mailbox capacity, at least `least`, of an actor that `peers` peers may reach, and the quota of each
/// peer. All quotas together leave a quarter of the mailbox to the actor's own node; otherwise peers could crowd out
/// its health checks while the actor is blocked.
pub fn mailbox(least: usize, peers: usize) -> (usize, Load) {
    let messages = (least / 4 * 3 / peers.max(1)).clamp(SHARE_MIN, SHARE.messages);
    (least.max((messages * peers).div_ceil(3) * 4), Load { messages, ..SHARE })
}

/// Delivers an envelope's payload to a local actor, or returns why not.
pub type Route = Arc<dyn Fn(NodeId, &[u8]) -> Result<(), String> + Send + Sync>;

/// Members that may reach an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Every other member.
    Members,
    /// Only these members.
    Only(BTreeSet<NodeId>),
}

impl Admits {
    fn admits(&self, peer: &NodeId) -> bool {
        match self {
            Self::Members => true,
            Self::Only(members) => members.contains(peer),
        }
    }
}

/// Local actors that are reachable from other members, and by whom.
#[derive(Clone, Default)]
pub struct Routes {
    routes: BTreeMap<ActorName, (Admits, Route)>,
}

impl Routes {
    /// Adds a route open to every member: `take` receives the sender and the decoded message.
    #[must_use]
    pub fn with<W: DeserializeOwned + 'static>(
        self,
        destination: ActorName,
        take: impl Fn(NodeId, W) -> Result<(), crate::mailbox::MailError> + Send + Sync + 'static,
    ) -> Self {
        self.admitting(Admits::Members, destination, take)
    }

    /// Adds a route open to every member, for messages that are hashed or signed: any encoding but the canonical one is
    /// rejected.
    #[must_use]
    pub fn canonical<W: Serialize + DeserializeOwned + 'static>(
        self,
        destination: ActorName,
        take: impl Fn(NodeId, W) -> Result<(), crate::mailbox::MailError> + Send + Sync + 'static,
    ) -> Self {
        self.decoding(Admits::Members, destination, codec::decode_canonical, take)
    }

    /// Adds a route to the actor at `address`, where each member may have `share` queued: a flooding member starves
    /// neither the others nor the actor's own node.
    #[must_use]
    pub fn to<W: 'static, M: Send + 'static>(
        mut self,
        address: &Address<M>,
        share: Load,
        decode: fn(&[u8]) -> Result<W, codec::CodecError>,
        wrap: fn(NodeId, W) -> M,
    ) -> Self {
        let (to, shares) = (address.clone(), SenderQuota::new(share));
        let route: Route = Arc::new(move |from, payload| {
            let taken = shares.take(&from, payload.len()).map_err(|Load { messages, bytes }| {
                let (Load { messages: most, bytes: bytes_most }, to) = (share, to.name());
                format!("{messages} messages of {bytes} bytes wait for {to}; expected at most {most} of {bytes_most}")
            })?;
            let message = decode(payload).map_err(|error| error.to_string())?;
            to.cast_holding(wrap(from, message), taken).map_err(|error| error.to_string())
        });
        self.routes.insert(address.name().clone(), (Admits::Members, route));
        self
    }

    /// Adds a route open to the members in `admits`.
    #[must_use]
    pub fn admitting<W: DeserializeOwned + 'static>(
        self,
        admits: Admits,
        destination: ActorName,
        take: impl Fn(NodeId, W) -> Result<(), crate::mailbox::MailError> + Send + Sync + 'static,
    ) -> Self {
        self.decoding(admits, destination, codec::decode, take)
    }

    fn decoding<W>(
        mut self,
        admits: Admits,
        destination: ActorName,
        decode: impl Fn(&[u8]) -> Result<W, codec::CodecError> + Send + Sync + 'static,
        take: impl Fn(NodeId, W) -> Result<(), crate::mailbox::MailError> + Send + Sync + 'static,
    ) -> Self {
        let route: Route = Arc::new(move |source, payload| {
            let message = decode(payload).map_err(|e| e.to_string())?;
            take(source, message).map_err(|e| e.to_string())
        });
        self.routes.insert(destination, (admits, route));
        self
    }

    fn take(&self, from: &NodeId, to: &[u8], payload: &[u8]) -> Result<(), String> {
        let name = std::str::from_utf8(to).unwrap_or_default();
        let Some((admits, route)) = self.routes.get(name) else {
            // The sender may use a name as long as an envelope; valid names are shorter.
            let shown = String::from_utf8_lossy(&to[..to.len().min(NAME_BYTES_MAX)]);
            return Err(format!("{shown:?} takes nothing from outside"));
        };
        if !admits.admits(from) {
            return Err(format!("{name} takes nothing from {from}"));
        }
        route(from.clone(), payload)
    }
}

/// Future answer of an actor.
pub type PendingAnswer = BoxFuture<'static, Result<Vec<u8>, String>>;

/// Answers requests of other members, and watches actors for them.
pub trait Answers: Send + Sync + 'static {
    /// Returns the answer to `question`, or why there is none.
    fn answer(
        &self,
        from: &NodeId,
        to: &[u8],
        protocol: &[u8],
        question: &[u8],
    ) -> Result<PendingAnswer, String>;
    /// Resolves with the reason once this incarnation of `to` has stopped; fails if it may not be watched.
    fn watch(
        &self,
        from: &NodeId,
        to: &[u8],
        incarnation: Incarnation,
    ) -> Result<BoxFuture<'static, String>, String>;
}

/// Delivers messages of other members to local actors.
pub struct InboundRouter {
    /// Reachable actors.
    pub routes: Routes,
    /// Answers requests.
    pub answers: Arc<dyn Answers>,
}

impl InboundRouter {
    fn ask(
        from: &Arc<Connection>,
        id: u64,
        answer: Result<PendingAnswer, String>,
        patience: Duration,
    ) -> Result<(), String> {
        // Commands are not answered. A caller that is gone, or has no room for the answer, sends the request again.
        let send = move |connection: &Connection, outcome: Result<Vec<u8>, String>| {
            if id != 0 {
                let outcome = outcome.map(Into::into);
                let _ = connection.send(Lane::Request, Body::Answer { id, outcome });
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(reason) => {
                send(from, Err(reason.clone()));
                return Err(reason);
            }
        };
        let deadline = if patience.is_zero() { ANSWER_DEADLINE } else { patience.min(ANSWER_DEADLINE) };
        let connection = from.clone();
        from.serve(async move {
            let late = |_| Ok(Err(format!("it was not answered within {deadline:?}")));
            let answer = AssertUnwindSafe(answer).catch_unwind();
            let outcome = tokio::time::timeout(deadline, answer).await.unwrap_or_else(late);
            let outcome = outcome.unwrap_or_else(|_| Err("answering it panicked".to_owned()));
            send(&connection, outcome);
        })
    }
}

impl Inbound for InboundRouter {
    fn take(&self, from: &Arc<Connection>, envelope: Envelope) -> Result<(), String> {
        let cause = envelope.trace.is_sampled().then(|| ParentSpan::remote(envelope.trace));
        within_sync(cause, || self.let_in(from, envelope.body))
    }
}

impl InboundRouter {
    fn let_in(&self, from: &Arc<Connection>, body: Body) -> Result<(), String> {
        match body {
            Body::Tell { to, payload } => self.routes.take(from.peer(), &to, &payload),
            Body::Ask { id, to, protocol, question, patience } => {
                let answer = self.answers.answer(from.peer(), &to, &protocol, &question);
                Self::ask(from, id, answer, patience)
            }
            Body::Watch { id, to, incarnation } => {
                let watched = self.answers.watch(from.peer(), &to, Incarnation(incarnation));
                let connection = from.clone();
                let served = watched.and_then(|watched| {
                    from.serve_watch(id, async move {
                        connection.tell_ending(id, &Ending::Down(watched.await));
                    })
                });
                if let Err(reason) = &served {
                    from.tell_ending(id, &Ending::Refused(reason.clone()));
                }
                served
            }
            Body::Unwatch { id } => {
                from.unwatch(id);
                Ok(())
            }
            Body::Answer { .. } | Body::Down { .. } => Ok(()),
        }
    }
}

/// The only remotable actor of a node.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    /// Incarnation of the node.
    pub incarnation: Incarnation,
}

impl Actor for Gateway {
    type Msg = GatewayMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: GatewayMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let GatewayMessage::Incarnation(reply) = message;
        // The caller may have timed out.
        let _ = reply.send(self.incarnation.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::{Actor, SelfRef};
    use crate::mailbox::Mail;
    use crate::supervision::spawn;

    /// Handles its first message for ever.
    struct Stuck;

    impl Actor for Stuck {
        type Msg = u64;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<u64>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(&self, _: SelfRef<u64>, _: u64, (): &mut ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn receive(
            &self,
            _: SelfRef<u64>,
            _held: Mail<u64>,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn whoever_sends_without_end_keeps_neither_the_others_nor_the_own_node_out() {
        let address: Address<u64> = Address::new(ActorName::literal("stuck"), 1_024);
        let (actor, _) = spawn(None, &address, Stuck, ()).await.expect("it starts");
        let routes = Routes::default().to(&address, SHARE, codec::decode::<u64>, |_, number| number);
        let [flooder, other] = ["node-1", "node-2"].map(|name| NodeId::new(name).expect("a name"));
        let payload = codec::encode(&7u64).expect("small");
        let taken = (0..10_000).filter(|_| routes.take(&flooder, b"stuck", &payload).is_ok()).count();
        assert_eq!((taken, address.depth()), (SHARE.messages, SHARE.messages));
        let refused = routes.take(&flooder, b"stuck", &payload).expect_err("full");
        assert_eq!(refused, "256 messages of 256 bytes wait for stuck; expected at most 256 of 4194304");
        assert_eq!(routes.take(&other, b"stuck", &payload), Ok(()));
        assert_eq!(address.cast(8), Ok(()), "its own node");
        actor.kill();
    }

    #[tokio::test]
    async fn whatever_all_peers_send_the_own_node_is_heard() {
        for peers in [1, 3, 4, 12, 63] {
            let (slots, share) = mailbox(1_024, peers);
            let address: Address<u64> = Address::new(ActorName::literal("stuck"), slots);
            let (actor, _) = spawn(None, &address, Stuck, ()).await.expect("it starts");
            let routes = Routes::default().to(&address, share, codec::decode::<u64>, |_, number| number);
            let payload = codec::encode(&7u64).expect("small");
            for peer in 0..peers {
                let peer = NodeId::new(&format!("node-{peer}")).expect("a name");
                let taken = (0..1_000).filter(|_| routes.take(&peer, b"stuck", &payload).is_ok()).count();
                assert!(taken >= SHARE_MIN, "{taken} of one of {peers} peers");
            }
            let free = (0..slots).filter(|_| address.cast(8).is_ok()).count();
            assert!(free >= slots / 4, "{free} of {slots} are free beside {peers} peers");
            actor.kill();
        }
    }
}
