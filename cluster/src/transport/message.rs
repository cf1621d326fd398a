//! Defines the messages of links, of the network actor and of gateways.

use std::net::SocketAddr;
use std::sync::Arc;

use ractor::{ActorRef, RpcReplyPort};
use ractor_cluster::node::NodeServerSessionInformation;
use ractor_cluster::{NodeSessionMessage, RactorClusterMessage};

use super::connection::Connection;
use super::handshake::AuthenticatedPeer;
use super::peer::{LinkPhase, SessionId};
use crate::id::{Incarnation, NodeId};

/// Messages of a link actor.
pub enum LinkMessage {
    /// Periodic tick.
    Tick,
    /// A connection could not be made.
    DialFailed {
        /// Number of the dial attempt.
        attempt: u64,
        /// Reason for the failure.
        reason: String,
    },
    /// A connection that this link dialled became a session.
    Opened {
        /// Number of the dial attempt.
        attempt: u64,
        /// The new session.
        session: Session,
    },
    /// A session with the peer advertises the peer's gateway.
    Shown {
        /// Session that advertises the gateway.
        session: Session,
        /// The peer's gateway.
        gateway: ActorRef<GatewayMessage>,
    },
    /// The gateway reported its peer's incarnation, or failed to.
    Confirmed {
        /// Session on which the gateway was asked.
        session: SessionId,
        /// Incarnation of the peer, or why the gateway did not report it.
        outcome: Result<Incarnation, String>,
    },
    /// The connection of a session has ended.
    Closed(SessionId),
    /// Asks for the link's status.
    Status(RpcReplyPort<LinkStatus>),
}

/// A session of `ractor_cluster` and the connection that carries it.
#[derive(Clone)]
pub struct Session {
    /// Actor of the session.
    pub actor: ActorRef<NodeSessionMessage>,
    /// The authenticated connection.
    pub connection: Arc<Connection>,
}

impl Session {
    /// Number of the session within this process.
    pub fn id(&self) -> SessionId {
        self.actor.get_id().pid()
    }

    /// Ends the session and the connection.
    pub fn stop(&self, reason: &str) {
        self.connection.end(reason);
        self.actor.stop(Some(reason.to_owned()));
    }
}

/// Status of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Peer of the link.
    pub peer: NodeId,
    /// Current phase of the link.
    pub phase: LinkPhase,
    /// Whether this member dials.
    pub dials: bool,
    /// Reason of the last loss; empty if the link was never lost.
    pub last_loss: String,
}

/// What happened to a session.
pub enum SessionEvent {
    /// A connection became a session.
    Opened,
    /// The peer stated its name and proved the cookie.
    Authenticated,
    /// Both sides exchanged their lists of remotable actors.
    Ready,
    /// The session ended.
    Closed,
}

/// Messages of the network actor.
pub enum NetworkMessage {
    /// Periodic tick.
    Tick,
    /// A peer was authenticated on a connection, inbound or dialled by this member.
    Connected {
        /// The authenticated connection.
        authenticated: Box<AuthenticatedPeer>,
        /// Dial attempt of the link; `None` for an inbound connection.
        attempt: Option<u64>,
        /// Whether no other process of the same member responds any more.
        alone: bool,
    },
    /// A link requests a connection to its peer.
    Dial {
        /// Peer to connect to.
        peer: NodeId,
        /// Address of the peer.
        address: SocketAddr,
        /// Dial attempt of the link, repeated in the reply.
        attempt: u64,
    },
    /// The link to this peer has started and has no session yet.
    LinkStarted(NodeId),
    /// A session changed state.
    Session(SessionEvent, NodeServerSessionInformation),
}

/// Messages that `ractor_cluster` may deliver from other nodes.
#[derive(RactorClusterMessage)]
pub enum GatewayMessage {
    /// Asks for the incarnation of the node that the gateway belongs to.
    #[rpc]
    Incarnation(RpcReplyPort<u64>),
}
