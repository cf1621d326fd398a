//! What travels between members.

use serde::{Deserialize, Serialize};

use super::trace::TraceContext;
use crate::id::{ActorName, Incarnation, NodeId};

/// The version of batches and envelopes. A batch of another version is refused with both numbers.
pub const VERSION: u8 = 1;

/// One message to one actor of another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who sends.
    pub source: NodeId,
    /// The sender's incarnation; what an earlier one said is refused.
    pub incarnation: Incarnation,
    /// The actor on the receiving member.
    pub destination: ActorName,
    /// Which trace it belongs to.
    pub trace: TraceContext,
    /// The message, in its actor's encoding.
    pub payload: Vec<u8>,
}

/// Envelopes that travel together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    version: u8,
    envelopes: Vec<Envelope>,
}

impl Batch {
    /// A batch of the present version.
    pub fn new(envelopes: Vec<Envelope>) -> Self {
        Self { version: VERSION, envelopes }
    }

    /// The envelopes, if this version is understood.
    pub fn open(self) -> Result<Vec<Envelope>, String> {
        if self.version == VERSION {
            Ok(self.envelopes)
        } else {
            Err(format!("a batch of version {}; expected version {VERSION}", self.version))
        }
    }
}

/// How much a message matters when not all can be sent, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Heartbeats: a member whose heartbeats wait looks dead.
    Heartbeat,
    /// Proposals and votes.
    Consensus,
    /// Blocks for who is behind, transactions.
    Bulk,
}

impl Class {
    /// Every class, most important first.
    pub const ALL: [Self; 3] = [Self::Heartbeat, Self::Consensus, Self::Bulk];
}
