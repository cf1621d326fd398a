//! What members say to each other about health.

use serde::{Deserialize, Serialize};

use super::attestation::SignedAttestation;
use crate::health::{PingMessage, PongMessage};
use crate::id::NodeId;

/// Heartbeats between members, and what third members carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationWire {
    /// Are you well?
    Ping(PingMessage),
    /// I am, or not.
    Pong(PongMessage),
    /// I do not hear from a member: please ask it for me. Carried one step, from its author to the target.
    Probe {
        /// Whom the author does not hear.
        target: NodeId,
        /// Who asks, with a statement for the target to echo.
        asker: Box<SignedAttestation>,
    },
    /// The target's statement on its way to who asked. Carried one step, from its author to the asker.
    Attest {
        /// For whom it is.
        to: NodeId,
        /// What the target states.
        statement: Box<SignedAttestation>,
    },
}
