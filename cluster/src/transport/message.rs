//! What links, the network actor and the gateways of other members are told and asked.

use std::net::SocketAddr;
use std::sync::Arc;

use ractor::{ActorRef, RpcReplyPort};
use ractor_cluster::node::NodeServerSessionInformation;
use ractor_cluster::{NodeSessionMessage, RactorClusterMessage};

use super::connection::Connection;
use super::handshake::AuthenticatedPeer;
use super::peer::{LinkPhase, SessionId};
use crate::health::{PingMessage, PongMessage};
use crate::id::{Incarnation, NodeId};

/// What a link is told and asked.
pub enum LinkMessage {
    /// Time passes.
    Tick,
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
        session: Session,
    },
    /// A session with the peer shows the peer's gateway.
    Shown {
        /// The session.
        session: Session,
        /// The peer's gateway.
        gateway: ActorRef<GatewayMessage>,
    },
    /// The gateway said which start of the peer it belongs to, or why not.
    Confirmed {
        /// On which session.
        session: SessionId,
        /// See above.
        outcome: Result<Incarnation, String>,
    },
    /// The connection of a session has ended.
    Closed(SessionId),
    /// How does it stand?
    Status(RpcReplyPort<LinkStatus>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// A session of `ractor_cluster`, and the connection under it.
#[derive(Clone)]
pub struct Session {
    /// The session's actor.
    pub actor: ActorRef<NodeSessionMessage>,
    /// The connection.
    pub connection: Arc<Connection>,
}

impl Session {
    /// Its number in this process.
    pub fn id(&self) -> SessionId {
        self.actor.get_id().pid()
    }

    /// Ends both.
    pub fn stop(&self, reason: &str) {
        self.connection.end(reason);
        self.actor.stop(Some(reason.to_owned()));
    }
}

/// How a link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Where it stands.
    pub phase: LinkPhase,
    /// Whether this member dials.
    pub dials: bool,
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
    /// A member was met on a connection that it made, or that was made to it (then `attempt` is the link's).
    Connected {
        /// The connection.
        authenticated: Box<AuthenticatedPeer>,
        /// See above.
        attempt: Option<u64>,
        /// Whether no other process of the member answers any more.
        alone: bool,
    },
    /// A link wants a connection to its peer.
    Dial {
        /// To whom.
        peer: NodeId,
        /// Where.
        address: SocketAddr,
        /// Repeated in the answer.
        attempt: u64,
    },
    /// The link to this peer begins, and knows of no session.
    LinkStarted(NodeId),
    /// Something happened to a session.
    Session(SessionEvent, NodeServerSessionInformation),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// What `ractor_cluster` may bring from other nodes.
#[derive(RactorClusterMessage)]
pub enum GatewayMessage {
    /// Which start of your node do you belong to?
    #[rpc]
    Incarnation(RpcReplyPort<u64>),
}
