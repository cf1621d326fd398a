//! Messages of the chain actor.

use ractor::RpcReplyPort;

use crate::ports::{Head, StoreError, StoredBlock};

/// Kind of caller that reads blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// This member, which can not proceed without the blocks.
    Own,
    /// Peers and users, of whom only a limited number may wait.
    Others,
}

/// Messages of the chain actor. Replies that can fail carry the reason as a sentence.
pub enum ChainMessage {
    /// Add this block above the head, durably.
    Commit(Box<StoredBlock>, RpcReplyPort<Result<Head, String>>),
    /// Read the block at this height, for peers and users.
    Block(u64, RpcReplyPort<Result<Option<StoredBlock>, String>>),
    /// Read blocks from a height on, as many as fit.
    Range {
        /// Kind of caller.
        reader: Reader,
        /// First height.
        from: u64,
        /// Maximum number of blocks.
        max: usize,
        /// Maximum number of transaction bytes. The first block is returned even if it is larger.
        max_bytes: usize,
        /// Reply port for the blocks.
        reply: RpcReplyPort<Result<Vec<StoredBlock>, String>>,
    },
    /// The storage thread failed to write: the store must be reopened.
    Failed(StoreError),
}
