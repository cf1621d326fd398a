//! What the chain is told and asked.

use alys_cluster::health::{PingMessage, PongMessage};
use ractor::RpcReplyPort;

use crate::ports::{Head, StoreError, StoredBlock};

/// What the chain is told and asked. Answers that can fail say why, as a sentence.
pub enum ChainMessage {
    /// Add this block above the head, durably.
    Commit(Box<StoredBlock>, RpcReplyPort<Result<Head, String>>),
    /// The block at this height.
    Block(u64, RpcReplyPort<Result<Option<StoredBlock>, String>>),
    /// Blocks from a height on, as many as fit.
    Range {
        /// The first height.
        from: u64,
        /// The most blocks.
        max: usize,
        /// The most transaction bytes, beyond which one block goes alone.
        max_bytes: usize,
        /// The blocks.
        reply: RpcReplyPort<Result<Vec<StoredBlock>, String>>,
    },
    /// The storage thread could not write: the store is opened anew.
    Failed(StoreError),
    /// Is the actor well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
