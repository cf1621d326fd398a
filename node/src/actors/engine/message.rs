//! Messages of the engine actor.

use alys_cluster::id::NodeId;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

use crate::consensus::{Block, BlockHash};
use crate::ports::{Payload, PayloadStatus, TransactionError};

/// Messages between the engines of different members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineWire {
    /// A transaction that a client submitted to the sender.
    Transaction(Vec<u8>),
}

/// Callback for a result. Called once; must not block.
pub type Responder<T> = Box<dyn FnOnce(T) + Send>;

/// Messages of the engine actor.
pub enum EngineMessage {
    /// Build a payload on this parent. The result is `None` if the engine does not know the parent.
    Build(BlockHash, Responder<Option<Payload>>),
    /// Execute this block.
    Check(Block, Responder<PayloadStatus>),
    /// This block is final.
    Committed(Box<Block>),
    /// A client submits a transaction. The reply is the number of transactions in the pool.
    Submit(Vec<u8>, RpcReplyPort<Result<usize, TransactionError>>),
    /// A message from another member's engine.
    Wire(NodeId, EngineWire),
}
