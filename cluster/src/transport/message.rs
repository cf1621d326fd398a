//! What links, the network actor and the gateways of other members are told and asked.

use std::net::SocketAddr;
use std::time::Duration;

use ractor::{ActorRef, BytesConvertable, RpcReplyPort};
use ractor_cluster::node::NodeServerSessionInformation;
use ractor_cluster::{NodeSessionMessage, RactorClusterMessage};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::codec;
use super::envelope::{Batch, Class, Envelope};
use super::peer::{Phase, SessionId};
use crate::health::{PingMessage, PongMessage};
use crate::id::NodeId;

/// What a link is told and asked.
pub enum LinkMessage {
    /// Time passes.
    Tick,
    /// Send this.
    Send(Class, Envelope),
    /// A connection could not be made.
    DialFailed {
        /// Which attempt.
        attempt: u64,
        /// Why.
        reason: String,
    },
    /// A connection this link asked for became a session.
    Opened {
        /// Which attempt.
        attempt: u64,
        /// The session.
        session: ActorRef<NodeSessionMessage>,
    },
    /// A session with the peer can carry envelopes to its gateway.
    Ready {
        /// The session.
        session: ActorRef<NodeSessionMessage>,
        /// The peer's gateway.
        gateway: ActorRef<GatewayMessage>,
    },
    /// A session ended.
    Closed(SessionId),
    /// A batch was acknowledged, or will not be.
    Delivered {
        /// Which batch.
        batch: u64,
        /// Whether the peer acknowledged it.
        acknowledged: bool,
    },
    /// How does it stand?
    Status(RpcReplyPort<LinkStatus>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Where it stands.
    pub phase: Phase,
    /// Whether this member dials.
    pub dials: bool,
    /// Sessions that became usable.
    pub sessions: u64,
    /// Envelopes waiting.
    pub queued: usize,
    /// Envelopes acknowledged.
    pub delivered: u64,
    /// Envelopes dropped.
    pub dropped: u64,
    /// Why it was last lost.
    pub last_loss: String,
}

/// What happened to a session.
pub enum SessionEvent {
    /// A connection became a session.
    Opened,
    /// Its peer said a name and proved the cookie.
    Authenticated,
    /// Both sides told each other their remotable actors.
    Ready,
    /// It ended.
    Closed,
}

/// What the network actor is told and asked.
pub enum NetworkMessage {
    /// Time passes.
    Tick,
    /// A connection was accepted.
    Accepted(TcpStream, SocketAddr),
    /// A link wants a connection to its peer.
    Dial {
        /// To whom.
        peer: NodeId,
        /// Where.
        address: SocketAddr,
        /// Repeated in the answer.
        attempt: u64,
        /// How long it may take.
        timeout: Duration,
    },
    /// The link to this peer begins, and knows of no session.
    LinkStarted(NodeId),
    /// The connection a link wanted, or why there is none.
    Dialled {
        /// To whom.
        peer: NodeId,
        /// Which attempt.
        attempt: u64,
        /// The connection.
        outcome: Result<TcpStream, String>,
    },
    /// Something happened to a session.
    Session(SessionEvent, NodeServerSessionInformation),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// A value that arrived over the wire, or why it is none: `from_bytes` can not fail, so that the failure
/// travels as a value.
#[derive(Debug)]
pub struct Wire<T>(pub Result<T, String>);

impl<T: Serialize + DeserializeOwned> BytesConvertable for Wire<T> {
    fn into_bytes(self) -> Vec<u8> {
        // Only checked values are sent; the empty bytes of a failure decode to a failure again.
        self.0.and_then(|value| codec::encode(&value).map_err(|e| e.to_string())).unwrap_or_default()
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(codec::decode(&bytes).map_err(|e| e.to_string()))
    }
}

/// What other nodes may say.
#[derive(RactorClusterMessage)]
pub enum GatewayMessage {
    /// Take these; the answer says how many were handed on.
    #[rpc]
    Deliver(Wire<Batch>, RpcReplyPort<u64>),
}
