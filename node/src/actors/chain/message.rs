//! What the chain is told and asked.

use alys_cluster::health::{PingMessage, PongMessage};
use ractor::RpcReplyPort;

use crate::ports::{Head, StoreError, StoredBlock};

/// Who reads blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// This member, which can not go on without.
    Own,
    /// Peers and users, of whom only so many may wait.
    Others,
}

/// What the chain is told and asked. Answers that can fail say why, as a sentence.
pub enum ChainMessage {
    /// Add this block above the head, durably.
    Commit(Box<StoredBlock>, RpcReplyPort<Result<Head, String>>),
    /// The block at this height, for others.
    Block(u64, RpcReplyPort<Result<Option<StoredBlock>, String>>),
    /// Blocks from a height on, as many as fit.
    Range {
        /// Who needs them.
        reader: Reader,
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
