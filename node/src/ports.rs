//! What the node asks of the outside: an execution engine and a block store, as traits.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::consensus::{Block, BlockHash, Certificate, StateRoot};

/// The end of a chain: its last block, in what the next one must build on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its height; 0 for genesis.
    pub height: u64,
    /// Its hash; the genesis hash for genesis.
    pub hash: BlockHash,
    /// The state after it.
    pub state_root: StateRoot,
    /// Its time stamp; 0 for genesis.
    pub timestamp_ms: u64,
}

impl Head {
    /// The head of a chain without blocks.
    pub fn genesis(hash: [u8; 32]) -> Self {
        Self { height: 0, hash: BlockHash(hash), state_root: StateRoot::default(), timestamp_ms: 0 }
    }

    /// The head of a chain that ends with `block`.
    pub fn of(block: &Block) -> Self {
        Self {
            height: block.height,
            hash: block.hash(),
            state_root: block.state_root,
            timestamp_ms: block.timestamp_ms,
        }
    }
}

/// What an engine found of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadStatus {
    /// Executing it gives what it says.
    Valid,
    /// It does not, for this reason.
    Invalid(String),
    /// The engine does not know the parent.
    Syncing,
}

/// The contents of a block to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// In order.
    pub transactions: Vec<Vec<u8>>,
    /// The state after them.
    pub state_root: StateRoot,
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// It has no bytes, or too many.
    #[error("the transaction has {bytes} bytes; expected 1 to {max}")]
    Size {
        /// Its size.
        bytes: usize,
        /// The largest size.
        max: usize,
    },
    /// It waits already, or was executed lately.
    #[error("the transaction is known already")]
    Known,
    /// The pool is full.
    #[error("the pool is full ({0} transactions); try again after the next block")]
    Full(usize),
}

/// Executes blocks. Shaped like the Engine API (`newPayload`, `forkchoiceUpdated`, `getPayload`), so that an
/// external engine can follow behind the same trait.
pub trait ExecutionEngine: Send + 'static {
    /// Executes `block` on its parent without making it the head.
    fn new_payload(&mut self, block: &Block) -> PayloadStatus;
    /// Makes `block`, whose execution was valid, the head.
    fn forkchoice_updated(&mut self, block: &Block);
    /// Builds a payload on `parent` from what waits; `None` if the parent is not known.
    fn get_payload(&mut self, parent: &BlockHash) -> Option<Payload>;
    /// Adds a transaction to what waits; returns how many do.
    fn add_transaction(&mut self, transaction: Vec<u8>) -> Result<usize, TransactionError>;
    /// The last block it was told of.
    fn head(&self) -> Head;
}

/// A block as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// Its proof.
    pub certificate: Certificate,
    /// What this member observed of it; no part of consensus.
    pub observed: Observed,
}

/// When this member saw a block come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// When the proposal was seen, in milliseconds since the Unix epoch.
    pub proposal_at_ms: Option<u64>,
    /// When the block was decided or adopted.
    pub decided_at_ms: u64,
    /// Whether it was fetched from a peer.
    pub adopted: bool,
}

/// Why the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file could not be read or written.
    #[error("the block store: {0}")]
    Io(#[source] std::io::Error),
    /// The database says that its file is damaged.
    #[error("the block store is damaged: {0}")]
    Corrupt(String),
    /// Something else the database says.
    #[error("the block store: {0}")]
    Database(String),
    /// A stored value means nothing: the file was written by something else.
    #[error("the block store, {what}: {reason}")]
    Value {
        /// Which value.
        what: String,
        /// Why.
        reason: String,
    },
    /// The store belongs to another chain.
    #[error("the block store is of the chain with genesis {found}; expected {expected}")]
    Chain {
        /// The genesis it belongs to.
        found: BlockHash,
        /// The genesis of this member.
        expected: BlockHash,
    },
    /// The store was written by another member.
    #[error("the block store is of another member, or of a former key of this one; expected this member's")]
    Foreign,
    /// A block does not follow the head.
    #[error("block {height} on parent {parent} does not follow the head {head_hash} at height {head}")]
    Order {
        /// The block's height.
        height: u64,
        /// Its parent.
        parent: BlockHash,
        /// The head's height.
        head: u64,
        /// The head's hash.
        head_hash: BlockHash,
    },
}

/// Keeps blocks. What was appended survives a crash, as a whole or not at all.
pub trait BlockStore: Send + 'static {
    /// The last block.
    fn head(&self) -> Head;
    /// Adds a block above the head: block, certificate and head in one transaction.
    fn append(&mut self, block: &StoredBlock) -> Result<(), StoreError>;
    /// The block at `height`.
    fn block(&self, height: u64) -> Result<Option<StoredBlock>, StoreError>;
}
