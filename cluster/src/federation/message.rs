//! What members say to each other about health, and what the federation actor is told.

use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

use super::actor::FederationStatus;
use crate::health::{HealthCheckResult, PingMessage, PongMessage};
use crate::id::NodeId;

/// Heartbeats between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationWire {
    /// Are you well?
    Ping(PingMessage),
    /// I am, or not.
    Pong(PongMessage),
}

/// What the federation actor is told and asked.
pub enum FederationMessage {
    /// Time passes.
    Tick,
    /// A member says something.
    Wire(NodeId, FederationWire),
    /// What this node's health monitor says of it.
    OwnHealth(HealthCheckResult),
    /// What this member thinks of everyone.
    Status(RpcReplyPort<FederationStatus>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
