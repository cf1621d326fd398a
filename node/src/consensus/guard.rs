//! The signer guard: the last word on what this member's key signs.
//!
//! It keeps a journal of every statement ever signed, in a file of its own that is locked while open, and
//! makes it durable **before** the signature exists for anyone else: once for all that one step signs. It refuses what contradicts the journal, what
//! lies before the last signed step, and everything while the gate is closed; it does so even when consensus
//! itself is wrong, has lost its log, or runs twice.
//!
//! A refused contradiction is not an error of the guard: the member abstains in that step, and may sign in a
//! later one.
//!
//! The road not taken is a signer as an actor of its own: consensus signs in the middle of a step, and a
//! mailbox between the decision and the journal would add a time-out whose outcome is unknown.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_cluster::clock::{Clock, WallTime};
use alys_cluster::federation::{GateReader, Halt, OperationClass};
use alys_cluster::id::Incarnation;
use thiserror::Error;

use super::block::BlockHash;
use super::context::{Statement, Step};
use crate::keys::{SecretKey, Signature};
use crate::storage::Disk;

/// Bytes of one record: incarnation, height, round, step, block flag, block, polka round, time, gate
/// sequence, CRC-32 of the rest.
const RECORD_BYTES: usize = 8 + 8 + 4 + 1 + 1 + 32 + 8 + 8 + 8 + 4;
/// Records kept in memory, and kept in the file when it is compacted.
const RECORDS_KEPT: usize = 4_096;
/// The file is compacted on opening when it has grown to this size.
const COMPACT_AT_BYTES: u64 = 4 * 1024 * 1024;

/// One statement that was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// The incarnation that signed.
    pub incarnation: Incarnation,
    /// What was signed.
    pub statement: Statement,
    /// When.
    pub at: WallTime,
    /// The gate decision that admitted it.
    pub gate_sequence: u64,
}

impl SignedStatement {
    fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let Statement { step, height, round, block, pol_round } = self.statement;
        let mut bytes = Vec::with_capacity(RECORD_BYTES);
        bytes.extend(self.incarnation.0.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend(round.to_be_bytes());
        bytes.push(step as u8);
        bytes.push(u8::from(block.is_some()));
        bytes.extend(block.unwrap_or_default().0);
        bytes.extend(pol_round.to_be_bytes());
        bytes.extend(self.at.0.to_be_bytes());
        bytes.extend(self.gate_sequence.to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.try_into().expect("the fields have the record's size")
    }

    fn from_bytes(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (fields, crc) = bytes.split_at(RECORD_BYTES - 4);
        if crc32fast::hash(fields).to_be_bytes() != crc {
            return None;
        }
        let mut rest = fields;
        let mut take = |n: usize| {
            let (head, tail) = rest.split_at(n);
            rest = tail;
            head
        };
        let u64_of = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
        let incarnation = Incarnation(u64_of(take(8)));
        let height = u64_of(take(8));
        let round = u32::from_be_bytes(take(4).try_into().expect("four bytes"));
        let step = match take(1) {
            [1] => Step::Proposal,
            [2] => Step::Prevote,
            [3] => Step::Precommit,
            _ => return None,
        };
        let is_some = take(1) == [1];
        let block = BlockHash(take(32).try_into().expect("32 bytes"));
        let pol_round = u64_of(take(8)) as i64;
        let at = WallTime(u64_of(take(8)));
        let gate_sequence = u64_of(take(8));
        let statement = Statement { step, height, round, block: is_some.then_some(block), pol_round };
        Some(Self { incarnation, statement, at, gate_sequence })
    }
}

/// Why the journal can not be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file could not be read or written.
    #[error("the signer's journal {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another consensus actor, has it open.
    #[error("the signer's journal {path} is in use: another process signs with this data directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There is no journal, but a chain: this member has signed what it does not remember.
    #[error(
        "the signer's journal {path} is missing, but the chain is at height {height}: this member may have \
         signed what it does not remember; restore the journal, or retire this member's key"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The chain's height.
        height: u64,
    },
    /// A record in the middle is damaged: the file was altered. A torn record at the end is not this error.
    #[error("the signer's journal {path} is damaged at byte {at}; restore it, or retire this member's key")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        at: usize,
    },
}

/// Why a statement was not signed.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The gate is closed.
    #[error(transparent)]
    Gate(Halt),
    /// The gate is open, but more members must be healthy for what was asked: this one passes its turn.
    #[error(transparent)]
    Demand(Halt),
    /// Something else was signed for the same height, round and step.
    #[error("{} at height {}, round {} was signed for {signed:?}; asked to sign for {asked:?}", .at.step.as_str(), .at.height, .at.round)]
    Conflict {
        /// Where.
        at: Statement,
        /// What was signed.
        signed: Option<BlockHash>,
        /// What was asked for.
        asked: Option<BlockHash>,
    },
    /// A later step was signed already, and this one was not.
    #[error("{} at height {}, round {} lies before the last signature", .0.step.as_str(), .0.height, .0.round)]
    Regression(Statement),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Every statement signed, on disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    records: VecDeque<SignedStatement>,
    /// Whether records were written that are not yet durable.
    dirty: bool,
    disk: Option<Disk>,
}

impl Journal {
    /// Opens and locks the journal of a member whose chain is at `chain_height`; only a chain without blocks
    /// may be without a journal. A record torn by a crash at the end is dropped: its signature was never given
    /// away.
    pub fn open(path: &Path, chain_height: u64) -> Result<Self, JournalError> {
        let error = |source| JournalError::File { path: path.into(), source };
        if chain_height > 0 && !path.exists() {
            return Err(JournalError::Missing { path: path.into(), height: chain_height });
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(error)?;
        let records = Self::parse(path, &bytes)?;
        let whole = records.len() * RECORD_BYTES;
        if whole < bytes.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(error)?;
        }
        let mut journal = Self { path: path.into(), file, records: records.into(), dirty: false, disk: None };
        if whole as u64 >= COMPACT_AT_BYTES {
            journal.compact().map_err(error)?;
        }
        journal.forget_old();
        Ok(journal)
    }

    /// Reads a journal without locking or changing it, for audits.
    pub fn read(path: &Path) -> Result<Vec<SignedStatement>, JournalError> {
        let bytes = std::fs::read(path).map_err(|source| JournalError::File { path: path.into(), source })?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<SignedStatement>, JournalError> {
        let (chunks, _torn) = bytes.as_chunks::<RECORD_BYTES>();
        let mut records = Vec::with_capacity(chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            match SignedStatement::from_bytes(chunk) {
                Some(record) => records.push(record),
                // The size of a file can reach the disk before its bytes do.
                None if index + 1 == chunks.len() => break,
                None => {
                    return Err(JournalError::Damaged { path: path.into(), at: index * RECORD_BYTES });
                }
            }
        }
        Ok(records)
    }

    /// Keeps the newest records only, in a new file that replaces the old one at once.
    fn compact(&mut self) -> io::Result<()> {
        self.forget_old();
        let new_path = self.path.with_extension("new");
        let mut new = OpenOptions::new().read(true).append(true).create(true).open(&new_path)?;
        new.set_len(0)?;
        for record in &self.records {
            new.write_all(&record.to_bytes())?;
        }
        new.sync_all()?;
        new.try_lock()?;
        std::fs::rename(&new_path, &self.path)?;
        sync_directory(&self.path)?;
        self.file = new;
        Ok(())
    }

    fn forget_old(&mut self) {
        while self.records.len() > RECORDS_KEPT {
            self.records.pop_front();
        }
    }

    /// The newest records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &SignedStatement> {
        self.records.iter()
    }

    /// Whether `statement` may be signed, and whether it already was.
    fn check(&self, statement: &Statement) -> Result<bool, Refusal> {
        let key = |s: &Statement| (s.height, s.round, s.step);
        for record in self.records.iter().rev() {
            let signed = &record.statement;
            if key(signed) == key(statement) {
                return if signed == statement {
                    Ok(true)
                } else {
                    Err(Refusal::Conflict { at: *statement, signed: signed.block, asked: statement.block })
                };
            }
            if key(signed) < key(statement) {
                break;
            }
        }
        match self.records.back() {
            Some(last) if key(&last.statement) > key(statement) => Err(Refusal::Regression(*statement)),
            _ => Ok(false),
        }
    }

    /// The same, whose syncs `disk` measures.
    #[must_use]
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Writes a record, which is not yet durable.
    fn append(&mut self, record: SignedStatement) -> Result<(), JournalError> {
        let error = |source| JournalError::File { path: self.path.clone(), source };
        self.file.write_all(&record.to_bytes()).map_err(error)?;
        self.dirty = true;
        self.records.push_back(record);
        self.forget_old();
        Ok(())
    }

    /// Makes every record durable. Costs nothing if all are.
    fn flush(&mut self) -> Result<(), JournalError> {
        if self.dirty {
            let sync = || self.file.sync_data();
            let outcome = self.disk.as_ref().map_or_else(sync, |disk| disk.sync(sync));
            outcome.map_err(|source| JournalError::File { path: self.path.clone(), source })?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Makes a rename or a new file in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Signs statements, or refuses.
pub trait Signer: Send {
    /// The signature over `statement`, or why there is none. It may leave the member only after [`Self::flush`].
    fn sign(&mut self, statement: &Statement) -> Result<Signature, Refusal>;
    /// Makes the journal durable of everything signed so far, if there is one. An error means that nothing of it may
    /// leave.
    fn flush(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
    /// Everything ever signed for `height`.
    fn signed_at(&self, height: u64) -> Vec<Statement>;
}

/// This member's key behind the journal and the gate.
pub struct GuardedSigner {
    key: SecretKey,
    chain_id: String,
    incarnation: Incarnation,
    journal: Journal,
    gate: GateReader,
    clock: Arc<dyn Clock>,
    /// Signed since the last flush.
    unflushed: Vec<Statement>,
}

impl GuardedSigner {
    /// A signer for `chain_id`.
    pub fn new(
        key: SecretKey,
        chain_id: &str,
        incarnation: Incarnation,
        journal: Journal,
        gate: GateReader,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { key, chain_id: chain_id.to_owned(), incarnation, journal, gate, clock, unflushed: Vec::new() }
    }

    /// What was signed.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The number of the gate's decision that admits `statement`.
    fn admit(&self, statement: &Statement) -> Result<u64, Refusal> {
        let now = self.clock.now();
        let (class, vote) = (operation(statement.step), OperationClass::Vote);
        self.gate.admit(now, class).map_err(|halt| {
            let is_open_to_votes = class != vote && self.gate.admit(now, vote).is_ok();
            if is_open_to_votes { Refusal::Demand(halt) } else { Refusal::Gate(halt) }
        })
    }
}

/// What kind of operation a step is to the gate.
fn operation(step: Step) -> OperationClass {
    match step {
        Step::Proposal => OperationClass::Propose,
        Step::Prevote | Step::Precommit => OperationClass::Vote,
    }
}

impl Signer for GuardedSigner {
    fn sign(&mut self, statement: &Statement) -> Result<Signature, Refusal> {
        let at = self.clock.wall();
        let gate_sequence = self.admit(statement)?;
        let signed_before = self.journal.check(statement)?;
        if !signed_before {
            let incarnation = self.incarnation;
            let statement = *statement;
            self.journal.append(SignedStatement { incarnation, statement, at, gate_sequence })?;
            self.unflushed.push(statement);
        }
        Ok(self.key.sign(&statement.bytes(&self.chain_id)))
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.journal.flush()?;
        // A disk takes its time, and the gate does not wait: what was signed meanwhile under a gate that has closed
        // does not leave, and is signed again when the step is taken again.
        for statement in std::mem::take(&mut self.unflushed) {
            self.admit(&statement).map_err(|refusal| match refusal {
                Refusal::Demand(halt) => Refusal::Gate(halt),
                refusal => refusal,
            })?;
        }
        Ok(())
    }

    fn signed_at(&self, height: u64) -> Vec<Statement> {
        let statements = self.journal.records().map(|record| record.statement);
        statements.filter(|statement| statement.height == height).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(height: u64, round: u32, step: Step, block: Option<u8>) -> Statement {
        let block = block.map(|tag| BlockHash([tag; 32]));
        Statement { step, height, round, block, pol_round: -1 }
    }

    fn record(statement: Statement) -> SignedStatement {
        SignedStatement { incarnation: Incarnation(3), statement, at: WallTime(1_000), gate_sequence: 2 }
    }

    fn journal_in(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("signatures.journal")
    }

    fn sign(journal: &mut Journal, statement: Statement) -> Result<(), Refusal> {
        if !journal.check(&statement)? {
            journal.append(record(statement))?;
        }
        Ok(())
    }

    #[test]
    fn steps_forward_are_signed_repetitions_repeated_and_conflicts_and_steps_back_refused() {
        use Step::{Precommit, Prevote, Proposal};
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::open(&journal_in(&dir), 0).expect("opens");
        sign(&mut journal, statement(1, 0, Proposal, Some(1))).expect("first");
        sign(&mut journal, statement(1, 0, Prevote, Some(1))).expect("a later step");
        sign(&mut journal, statement(1, 0, Prevote, Some(1))).expect("the same again");
        for conflict in [Some(2), None] {
            let refusal = sign(&mut journal, statement(1, 0, Prevote, conflict));
            assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
        }
        sign(&mut journal, statement(1, 2, Precommit, None)).expect("a later round");
        let refusal = sign(&mut journal, statement(1, 1, Prevote, Some(1)));
        assert!(matches!(refusal, Err(Refusal::Regression(_))), "{refusal:?}");
        sign(&mut journal, statement(2, 0, Prevote, Some(9))).expect("a later height");
        let refusal = sign(&mut journal, statement(1, 7, Precommit, Some(1)));
        assert!(matches!(refusal, Err(Refusal::Regression(_))), "{refusal:?}");
        sign(&mut journal, statement(1, 2, Precommit, None)).expect("an old one repeated");
        assert_eq!(journal.records().count(), 4);
    }

    #[test]
    fn a_reopened_journal_refuses_what_the_first_one_would() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = Journal::open(&path, 0).expect("opens");
        sign(&mut journal, statement(4, 1, Step::Precommit, Some(1))).expect("first");
        drop(journal);
        let mut journal = Journal::open(&path, 0).expect("opens again");
        let refusal = sign(&mut journal, statement(4, 1, Step::Precommit, Some(2)));
        assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
        assert_eq!(journal.records().copied().collect::<Vec<_>>(), Journal::read(&path).expect("reads"));
    }

    #[test]
    fn a_chain_without_its_journal_is_refused_and_a_new_member_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = Journal::open(&journal_in(&dir), 7).expect_err("forgotten signatures");
        assert!(error.to_string().contains("is missing, but the chain is at height 7"), "{error}");
        assert!(!journal_in(&dir).exists());
        Journal::open(&journal_in(&dir), 0).expect("a new member");
    }

    #[test]
    fn only_one_can_hold_the_journal() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = Journal::open(&journal_in(&dir), 0).expect("opens");
        let second = Journal::open(&journal_in(&dir), 0);
        assert!(matches!(second, Err(JournalError::InUse { .. })), "{second:?}");
    }

    #[test]
    fn a_torn_end_is_dropped_and_damage_before_it_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = Journal::open(&path, 0).expect("opens");
        (1..=3)
            .for_each(|height| sign(&mut journal, statement(height, 0, Step::Prevote, None)).expect("signs"));
        drop(journal);
        let whole = std::fs::read(&path).expect("reads");
        for torn_at in 2 * RECORD_BYTES + 1..3 * RECORD_BYTES {
            std::fs::write(&path, &whole[..torn_at]).expect("writes");
            assert_eq!(Journal::open(&path, 0).expect("opens").records().count(), 2, "torn at {torn_at}");
            assert_eq!(std::fs::read(&path).expect("reads").len(), 2 * RECORD_BYTES);
        }
        let mut zeros = whole.clone();
        zeros[2 * RECORD_BYTES..].fill(0);
        std::fs::write(&path, &zeros).expect("writes");
        assert_eq!(Journal::open(&path, 0).expect("opens").records().count(), 2, "size before bytes");
        let mut damaged = whole.clone();
        damaged[RECORD_BYTES + 9] ^= 1;
        std::fs::write(&path, &damaged).expect("writes");
        let error = Journal::open(&path, 0).expect_err("damaged");
        assert!(matches!(error, JournalError::Damaged { at: RECORD_BYTES, .. }), "{error}");
        assert_eq!(std::fs::read(&path).expect("reads"), damaged, "nothing was changed");
    }

    #[test]
    fn a_large_journal_is_compacted_without_forgetting_the_last_signatures() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let count = COMPACT_AT_BYTES / RECORD_BYTES as u64 + 10;
        let bytes: Vec<u8> = (1..=count)
            .flat_map(|height| record(statement(height, 0, Step::Prevote, Some(1))).to_bytes())
            .collect();
        std::fs::write(&path, bytes).expect("writes");
        let mut journal = Journal::open(&path, 0).expect("opens");
        let size = std::fs::metadata(&path).expect("exists").len();
        assert_eq!(size, (RECORDS_KEPT * RECORD_BYTES) as u64);
        let refusal = sign(&mut journal, statement(count, 0, Step::Prevote, Some(2)));
        assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
        sign(&mut journal, statement(count + 1, 0, Step::Prevote, Some(2))).expect("goes on");
        let second = Journal::open(&path, 0);
        assert!(matches!(second, Err(JournalError::InUse { .. })), "the new file is locked too: {second:?}");
        drop(journal);
        assert_eq!(Journal::open(&path, 0).expect("opens").records().count(), RECORDS_KEPT);
    }
}
