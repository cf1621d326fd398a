//! Traits for what the node needs from outside: an execution engine and a block store.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::consensus::{Block, BlockHash, Certificate, StateRoot};

/// Head of the chain: the properties of the last block that the next block builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Height of the last block; 0 for genesis.
    pub height: u64,
    /// Hash of the last block; the genesis hash for genesis.
    pub hash: BlockHash,
    /// State root after the last block.
    pub state_root: StateRoot,
    /// Timestamp of the last block, milliseconds since the Unix epoch; 0 for genesis.
    pub timestamp_ms: u64,
}

impl Head {
    /// Head of a chain without blocks.
    pub fn genesis(hash: [u8; 32]) -> Self {
        Self { height: 0, hash: BlockHash(hash), state_root: StateRoot::default(), timestamp_ms: 0 }
    }

    /// Head of a chain that ends with `block`.
    pub fn of(block: &Block) -> Self {
        Self {
            height: block.height,
            hash: block.hash(),
            state_root: block.state_root,
            timestamp_ms: block.timestamp_ms,
        }
    }
}

/// Result of the execution of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadStatus {
    /// The execution gives the state root that the block declares.
    Valid,
    /// The block is invalid, for this reason.
    Invalid(String),
    /// The engine does not know the parent.
    Syncing,
}

/// Contents of a block to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Transactions in order.
    pub transactions: Vec<Vec<u8>>,
    /// State root after the transactions.
    pub state_root: StateRoot,
}

/// Why a transaction was rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// The transaction has no bytes, or too many.
    #[error("the transaction has {bytes} bytes; expected 1 to {max}")]
    Size {
        /// Size of the transaction, in bytes.
        bytes: usize,
        /// Maximum size, in bytes.
        max: usize,
    },
    /// The transaction is in the pool already, or was executed recently.
    #[error("the transaction is known already")]
    Known,
    /// The pool is full; holds its capacity.
    #[error("the pool is full ({0} transactions); try again after the next block")]
    Full(usize),
}

/// Execution engine with the operations of the Engine API (`newPayload`, `forkchoiceUpdated`, `getPayload`), so that an
/// external engine can implement the same trait.
pub trait ExecutionEngine: Send + 'static {
    /// Executes `block` on its parent without making it the head.
    fn new_payload(&mut self, block: &Block) -> PayloadStatus;
    /// Makes `block`, whose execution was valid, the head.
    fn forkchoice_updated(&mut self, block: &Block);
    /// Builds a payload on `parent` from the pool; `None` if the parent is not the head.
    fn get_payload(&mut self, parent: &BlockHash) -> Option<Payload>;
    /// Adds a transaction to the pool; returns the number of transactions in it.
    fn add_transaction(&mut self, transaction: Vec<u8>) -> Result<usize, TransactionError>;
    /// Last block that was made the head.
    fn head(&self) -> Head;
}

/// Block with its certificate, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// Certificate that proves the decision.
    pub certificate: Certificate,
    /// Times observed by this member; not part of consensus.
    pub observed: Observed,
}

/// Times at which this member observed a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Time at which the proposal was received, milliseconds since the Unix epoch; absent if it was not.
    pub proposal_at_ms: Option<u64>,
    /// Time at which the block was decided or adopted, milliseconds since the Unix epoch.
    pub decided_at_ms: u64,
    /// Whether the block was fetched from a peer.
    pub adopted: bool,
}

/// Why the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reading or writing the file failed.
    #[error("the block store: {0}")]
    Io(#[source] std::io::Error),
    /// The database reports a damaged file.
    #[error("the block store is damaged: {0}")]
    Corrupt(String),
    /// Other error of the database.
    #[error("the block store: {0}")]
    Database(String),
    /// A stored value cannot be decoded: another program wrote the file.
    #[error("the block store, {what}: {reason}")]
    Value {
        /// Name of the value.
        what: String,
        /// Reason of the decoding error.
        reason: String,
    },
    /// The store belongs to another chain.
    #[error("the block store is of the chain with genesis {found}; expected {expected}")]
    Chain {
        /// Genesis hash of the store.
        found: BlockHash,
        /// Genesis hash of this member.
        expected: BlockHash,
    },
    /// Another member wrote the store.
    #[error("the block store is of another member, or of a former key of this one; expected this member's")]
    Foreign,
    /// A block does not follow the head.
    #[error("block {height} on parent {parent} does not follow the head {head_hash} at height {head}")]
    Order {
        /// Height of the block.
        height: u64,
        /// Parent hash of the block.
        parent: BlockHash,
        /// Height of the head.
        head: u64,
        /// Hash of the head.
        head_hash: BlockHash,
    },
}

/// Persistent store of blocks. An appended block survives a crash; appending is atomic.
pub trait BlockStore: Send + 'static {
    /// Head of the stored chain.
    fn head(&self) -> Head;
    /// Appends a block to the head: block, certificate and head in one transaction.
    fn append(&mut self, block: &StoredBlock) -> Result<(), StoreError>;
    /// Returns the block at `height`, if it is stored.
    fn block(&self, height: u64) -> Result<Option<StoredBlock>, StoreError>;
}
