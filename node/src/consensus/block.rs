//! Defines blocks and the hashes that identify them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0[..4]))
            }
        }
    };
}

hash_type! {
    /// Identifies a block: SHA-256 over all its fields. The parent of the first block is the genesis hash.
    BlockHash
}
hash_type! {
    /// Digest of the state after a block.
    StateRoot
}

/// Maximum size of a transaction, in bytes.
pub const TRANSACTION_BYTES_MAX: usize = 4_096;
/// Maximum number of transaction bytes in a block: what one envelope carries well within a slot.
pub const BLOCK_BYTES_MAX: usize = 128 * 1024;

/// A block: a sequence of opaque transactions and the state after them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Block {
    /// Height of the block, from 1.
    pub height: u64,
    /// Hash of the block below.
    pub parent: BlockHash,
    /// Milliseconds since the Unix epoch on the proposer's wall clock; greater than the parent's.
    pub timestamp_ms: u64,
    /// Index of the block's builder in genesis.
    pub proposer: u8,
    /// Digest of the state after the block.
    pub state_root: StateRoot,
    /// Transactions, in the order of execution.
    pub transactions: Vec<Vec<u8>>,
}

impl Block {
    /// Hash that identifies the block.
    pub fn hash(&self) -> BlockHash {
        let mut hasher = Sha256::new_with_prefix(b"alys/block/1");
        hasher.update(self.height.to_be_bytes());
        hasher.update(self.parent.0);
        hasher.update(self.timestamp_ms.to_be_bytes());
        hasher.update([self.proposer]);
        hasher.update(self.state_root.0);
        hasher.update((self.transactions.len() as u64).to_be_bytes());
        for transaction in &self.transactions {
            hasher.update((transaction.len() as u64).to_be_bytes());
            hasher.update(transaction);
        }
        BlockHash(hasher.finalize().into())
    }

    /// Total number of bytes of all transactions.
    pub fn transaction_bytes(&self) -> usize {
        self.transactions.iter().map(Vec::len).sum()
    }
}

/// Identifies a transaction: SHA-256 of its bytes.
pub fn transaction_hash(transaction: &[u8]) -> [u8; 32] {
    Sha256::digest(transaction).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_and_every_boundary_between_transactions_is_in_the_hash() {
        let block = Block {
            height: 7,
            parent: BlockHash([1; 32]),
            timestamp_ms: 99,
            proposer: 2,
            state_root: StateRoot([3; 32]),
            transactions: vec![vec![1, 2], vec![3]],
        };
        let changes: [fn(&mut Block); 7] = [
            |b| b.height = 8,
            |b| b.parent.0[31] = 0,
            |b| b.timestamp_ms = 100,
            |b| b.proposer = 3,
            |b| b.state_root.0[0] = 0,
            |b| b.transactions = vec![vec![1], vec![2, 3]],
            |b| b.transactions = vec![vec![1, 2, 3]],
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = block.clone();
            change(&mut other);
            assert_ne!(other.hash(), block.hash(), "change {index}");
        }
    }
}
