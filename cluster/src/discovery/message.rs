//! What the discovery actor is told and asked.

use ractor::RpcReplyPort;

use super::wire::DiscoveryWire;
use crate::health::{PingMessage, PongMessage};
use crate::id::NodeId;

/// What the discovery actor is told and asked.
pub enum DiscoveryMessage {
    /// Time passes.
    Tick,
    /// What this member publishes may have changed.
    Changed,
    /// A member says something.
    Wire(NodeId, DiscoveryWire),
    /// Is the actor well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
