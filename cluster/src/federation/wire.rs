//! What members say to each other about health.

use serde::{Deserialize, Serialize};

use crate::health::{PingMessage, PongMessage};

/// Heartbeats between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationWire {
    /// Are you well?
    Ping(PingMessage),
    /// I am, or not.
    Pong(PongMessage),
}
