//! Embedded execution engine that orders opaque transactions and folds them into a state root.
//!
//! The state root after a block is the SHA-256 fold over the previous root and each transaction. This is all that
//! consensus needs of an engine: equal blocks give equal roots, and a wrong root is detected. A virtual machine can
//! replace this engine behind the same trait.
//!
//! The pool rejects a transaction that is among the last [`RECENT_MAX`] executed ones. This filters this member's pool;
//! it is not a rule of the chain.

use std::collections::{HashSet, VecDeque};

use sha2::{Digest as _, Sha256};

use crate::consensus::block::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX, transaction_hash};
use crate::consensus::{Block, BlockHash, StateRoot};
use crate::ports::{ExecutionEngine, Head, Payload, PayloadStatus, TransactionError};

/// Maximum number of transactions in the pool.
pub const POOL_MAX: usize = 4_096;
/// Number of executed transactions that the pool remembers.
pub const RECENT_MAX: usize = 16_384;

/// Engine that orders transactions without interpreting them; see the module documentation.
pub struct OrderingEngine {
    head: Head,
    pool: VecDeque<Vec<u8>>,
    waiting: HashSet<[u8; 32]>,
    recent: VecDeque<[u8; 32]>,
    executed: HashSet<[u8; 32]>,
}

impl OrderingEngine {
    /// Creates an engine at `head` with an empty pool.
    pub fn new(head: Head) -> Self {
        Self {
            head,
            pool: VecDeque::new(),
            waiting: HashSet::new(),
            recent: VecDeque::new(),
            executed: HashSet::new(),
        }
    }
}

fn execute(root: StateRoot, transactions: &[Vec<u8>]) -> StateRoot {
    let fold = |root: StateRoot, transaction: &Vec<u8>| {
        let hasher = Sha256::new_with_prefix(b"alys/state/1");
        let hasher = hasher.chain_update(root.0).chain_update(transaction_hash(transaction));
        StateRoot(hasher.finalize().into())
    };
    transactions.iter().fold(root, fold)
}

impl ExecutionEngine for OrderingEngine {
    fn new_payload(&mut self, block: &Block) -> PayloadStatus {
        if block.parent != self.head.hash {
            return PayloadStatus::Syncing;
        }
        if block.height != self.head.height + 1 {
            return PayloadStatus::Invalid(format!(
                "height {}; expected {}",
                block.height,
                self.head.height + 1
            ));
        }
        if let Some(size) =
            block.transactions.iter().map(Vec::len).find(|size| !(1..=TRANSACTION_BYTES_MAX).contains(size))
        {
            return PayloadStatus::Invalid(format!("a transaction of {size} bytes"));
        }
        let bytes = block.transaction_bytes();
        if bytes > BLOCK_BYTES_MAX {
            return PayloadStatus::Invalid(format!(
                "{bytes} transaction bytes; expected at most {BLOCK_BYTES_MAX}"
            ));
        }
        let mut seen = HashSet::new();
        if !block.transactions.iter().all(|transaction| seen.insert(transaction)) {
            return PayloadStatus::Invalid("the same transaction twice".to_owned());
        }
        let state_root = execute(self.head.state_root, &block.transactions);
        if block.state_root != state_root {
            return PayloadStatus::Invalid(format!("state root {}; expected {state_root}", block.state_root));
        }
        PayloadStatus::Valid
    }

    fn forkchoice_updated(&mut self, block: &Block) {
        self.head = Head::of(block);
        for transaction in &block.transactions {
            let hash = transaction_hash(transaction);
            self.waiting.remove(&hash);
            if self.executed.insert(hash) {
                self.recent.push_back(hash);
            }
        }
        while self.recent.len() > RECENT_MAX {
            if let Some(oldest) = self.recent.pop_front() {
                self.executed.remove(&oldest);
            }
        }
        let waiting = &self.waiting;
        self.pool.retain(|transaction| waiting.contains(&transaction_hash(transaction)));
    }

    fn get_payload(&mut self, parent: &BlockHash) -> Option<Payload> {
        if *parent != self.head.hash {
            return None;
        }
        let mut bytes = 0;
        let fits = |transaction: &&Vec<u8>| {
            bytes += transaction.len();
            bytes <= BLOCK_BYTES_MAX
        };
        let transactions: Vec<_> = self.pool.iter().take_while(fits).cloned().collect();
        let state_root = execute(self.head.state_root, &transactions);
        Some(Payload { transactions, state_root })
    }

    fn add_transaction(&mut self, transaction: Vec<u8>) -> Result<usize, TransactionError> {
        let bytes = transaction.len();
        if !(1..=TRANSACTION_BYTES_MAX).contains(&bytes) {
            return Err(TransactionError::Size { bytes, max: TRANSACTION_BYTES_MAX });
        }
        let hash = transaction_hash(&transaction);
        if self.waiting.contains(&hash) || self.executed.contains(&hash) {
            return Err(TransactionError::Known);
        }
        if self.pool.len() == POOL_MAX {
            return Err(TransactionError::Full(POOL_MAX));
        }
        self.waiting.insert(hash);
        self.pool.push_back(transaction);
        Ok(self.pool.len())
    }

    fn head(&self) -> Head {
        self.head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> OrderingEngine {
        OrderingEngine::new(Head::genesis([1; 32]))
    }

    fn built(engine: &mut OrderingEngine) -> Block {
        let head = engine.head;
        let payload = engine.get_payload(&head.hash).expect("on the head");
        Block {
            height: head.height + 1,
            parent: head.hash,
            timestamp_ms: 5,
            proposer: 0,
            state_root: payload.state_root,
            transactions: payload.transactions,
        }
    }

    #[test]
    fn what_one_engine_builds_another_finds_valid_and_both_end_at_the_same_root() {
        let (mut one, mut other) = (engine(), engine());
        for tag in 1..=3 {
            one.add_transaction(vec![tag; 8]).expect("pooled");
        }
        let block = built(&mut one);
        assert_eq!(block.transactions.len(), 3);
        assert_eq!(other.new_payload(&block), PayloadStatus::Valid);
        one.forkchoice_updated(&block);
        other.forkchoice_updated(&block);
        assert_eq!(one.head, other.head);
        assert_eq!(built(&mut one).transactions, Vec::<Vec<u8>>::new(), "executed ones do not wait any more");
        assert_eq!(other.add_transaction(vec![1; 8]), Err(TransactionError::Known));
    }

    #[test]
    fn a_block_that_lies_about_anything_is_invalid_with_the_reason() {
        type Lie = fn(&mut Block);
        let mut engine = engine();
        engine.add_transaction(vec![1; 8]).expect("pooled");
        let good = built(&mut engine);
        let lies: [(&str, Lie); 6] = [
            ("state root", |b| b.state_root.0[0] ^= 1),
            ("state root", |b| b.transactions.clear()),
            ("height 9; expected 1", |b| b.height = 9),
            ("the same transaction twice", |b| b.transactions.push(b.transactions[0].clone())),
            ("a transaction of 0 bytes", |b| b.transactions.push(vec![])),
            ("transaction bytes", |b| b.transactions = (0..40u8).map(|n| vec![n; 4_000]).collect()),
        ];
        for (reason, lie) in lies {
            let mut block = good.clone();
            lie(&mut block);
            let PayloadStatus::Invalid(found) = engine.new_payload(&block) else { panic!("{reason}") };
            assert!(found.contains(reason), "{found}");
        }
        let orphan = Block { parent: BlockHash([9; 32]), ..good };
        assert_eq!(engine.new_payload(&orphan), PayloadStatus::Syncing);
    }

    #[test]
    fn the_pool_and_the_block_are_bounded() {
        let mut engine = engine();
        for n in 0..POOL_MAX as u32 {
            engine.add_transaction([&n.to_be_bytes()[..], &[0; 96]].concat()).expect("pooled");
        }
        assert_eq!(engine.add_transaction(vec![1]), Err(TransactionError::Full(POOL_MAX)));
        assert_eq!(
            engine.add_transaction(vec![0; TRANSACTION_BYTES_MAX + 1]),
            Err(TransactionError::Size { bytes: TRANSACTION_BYTES_MAX + 1, max: TRANSACTION_BYTES_MAX })
        );
        let block = built(&mut engine);
        assert_eq!(engine.new_payload(&block), PayloadStatus::Valid);
        engine.forkchoice_updated(&block);
        let left = POOL_MAX - block.transactions.len();
        assert_eq!(engine.add_transaction(vec![1]), Ok(left + 1));
    }
}
