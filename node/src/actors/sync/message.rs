//! What members say to each other about missing blocks, and what the sync actor is told.

use alys_cluster::health::{PingMessage, PongMessage};
use alys_cluster::id::NodeId;
use alys_cluster::port::PeerChange;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

use crate::consensus::{Block, Certificate};

/// Between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncWire {
    /// Send blocks from this height on, as many as fit.
    Request {
        /// Repeated in the answer.
        id: u64,
        /// The first height wanted.
        from: u64,
    },
    /// Blocks, in order.
    Response {
        /// Of the request.
        id: u64,
        /// The blocks with their proofs.
        blocks: Vec<(Block, Certificate)>,
    },
}

/// What the sync actor is told and asked.
pub enum SyncMessage {
    /// Compare heights.
    Tick,
    /// A member says something.
    Wire(NodeId, SyncWire),
    /// Hand the next block of the answer in hand to consensus.
    Adopt,
    /// A member was lost or came back.
    Peer(PeerChange),
    /// Is the actor well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
