//! Messages between members about missing blocks, and messages of the sync actor.

use alys_cluster::id::NodeId;
use alys_cluster::port::PeerChange;
use serde::{Deserialize, Serialize};

use crate::consensus::{Block, Certificate};

/// Messages between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncWire {
    /// Send blocks from this height on, as many as fit.
    Request {
        /// Request ID, repeated in the response.
        id: u64,
        /// First height wanted.
        from: u64,
    },
    /// Blocks in the order of heights.
    Response {
        /// ID of the request.
        id: u64,
        /// Blocks with their certificates.
        blocks: Vec<(Block, Certificate)>,
    },
}

/// Messages of the sync actor.
pub enum SyncMessage {
    /// Compare heights with the peers.
    Tick,
    /// A message from another member.
    Wire(NodeId, SyncWire),
    /// Pass the next block of the current response to consensus.
    Adopt,
    /// The reachability of a member changed.
    Peer(PeerChange),
}
