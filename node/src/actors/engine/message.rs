//! What the engine is told and asked.

use alys_cluster::health::{PingMessage, PongMessage};
use alys_cluster::id::NodeId;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

use crate::consensus::{Block, BlockHash};
use crate::ports::{Payload, PayloadStatus, TransactionError};

/// What engines of different members say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineWire {
    /// A transaction that was submitted to the sender.
    Transaction(Vec<u8>),
}

/// Takes an answer; called once, must not wait.
pub type Responder<T> = Box<dyn FnOnce(T) + Send>;

/// What the engine is told and asked.
pub enum EngineMessage {
    /// Build a payload on this parent; `None` if the engine does not know it.
    Build(BlockHash, Responder<Option<Payload>>),
    /// Execute this block.
    Check(Block, Responder<PayloadStatus>),
    /// This block is final.
    Committed(Box<Block>),
    /// A client submits a transaction; the answer is how many wait.
    Submit(Vec<u8>, RpcReplyPort<Result<usize, TransactionError>>),
    /// Another member's engine says something.
    Wire(NodeId, EngineWire),
    /// Is the actor well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
