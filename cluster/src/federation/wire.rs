//! Defines the health messages between members.

use serde::{Deserialize, Serialize};

use super::attestation::SignedAttestation;
use crate::id::NodeId;
use crate::ping::{PingMessage, PongMessage};

/// Heartbeats between members, and forwarded attestations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FederationWire {
    /// Asks for the receiver's health.
    Ping(PingMessage),
    /// Answers a ping with the sender's health.
    Pong(PongMessage),
    /// Asks the receiver to forward a probe to a member that does not answer. Forwarded once, to the target.
    Probe {
        /// Member that does not answer the author.
        target: NodeId,
        /// Statement of the author, for the target to echo.
        asker: Box<SignedAttestation>,
    },
    /// Statement of a probed member for the author of the probe. Forwarded once, to that author.
    Attest {
        /// Recipient of the statement.
        to: NodeId,
        /// Statement of the probed member.
        statement: Box<SignedAttestation>,
    },
}
