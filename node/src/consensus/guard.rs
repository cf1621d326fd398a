//! The signer guard has the final decision on what this member's key signs.
//!
//! It keeps a journal of every statement ever signed, in a file of its own that is locked while open. The journal is
//! durable **before** a signature leaves the member; it is synced once for all that one step signs. The guard refuses
//! what contradicts the journal, what lies before the last signed step, and everything while the gate is closed. It
//! does so even if consensus itself is wrong, has lost its log, or runs twice.
//!
//! The journal and the chain check each other. The journal starts with a header, which holds its owner's identity and
//! the number of records it has dropped; each block is stored with the number of records that were durable by then. So
//! a journal that was emptied, shortened, replaced by an older copy or taken from another member is refused with a
//! specific error.
//!
//! A new journal remembers nothing, but the member may have signed before, on a disk that was lost. The same holds for
//! a journal that peers know to be an older copy, because they have met a later incarnation of the member. Such a
//! member signs nothing until it knows its peers' heights, and nothing up to the **floor** above these, which the
//! header keeps.
//!
//! A refused contradiction is not an error of the guard: the member abstains in that step, and may sign in a
//! later one.
//!
//! Rejected alternative: a signer as an actor of its own. Consensus signs in the middle of a step, and a mailbox
//! between the decision and the journal would add a timeout whose outcome is unknown.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alys_cluster::clock::{Clock, WallTime};
use alys_cluster::federation::{GateClosed, GateReader, OperationClass};
use alys_cluster::id::Incarnation;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::block::BlockHash;
use super::context::{Statement, Step};
use crate::keys::{PublicKey, SecretKey, Signature};
use crate::storage::Disk;
use crate::storage::files::replace;

/// Bytes of one record: incarnation, height, round, step, block flag, block, polka round, time, gate
/// sequence, CRC-32 of the rest.
const RECORD_BYTES: usize = 8 + 8 + 4 + 1 + 1 + 32 + 8 + 8 + 8 + 4;
/// Records kept in memory, and kept in the file when it is compacted.
const RECORDS_KEPT: usize = 4_096;
/// The file is compacted when it is opened, and when it has grown to this size.
const COMPACT_AT_BYTES: u64 = 4 * 1024 * 1024;

/// First bytes of a journal.
const MAGIC: [u8; 8] = *b"ALYSSIG1";
/// Bytes of the header: magic, identity, records dropped, floor, CRC-32 of the rest.
const HEADER_BYTES: usize = 8 + 32 + 8 + 8 + 4;
/// Floor of a member that knows neither its peers' heights nor any height at which it has signed.
const FLOOR_UNKNOWN: u64 = u64::MAX;
/// Bit that marks a floor as unknown; the other bits are its lower bound.
const FLOOR_BOUND: u64 = 1 << 63;

/// Identity of the owner of a journal and a chain: the member with this key on the chain with this genesis.
pub fn identity(genesis: [u8; 32], key: &PublicKey) -> BlockHash {
    let hash = Sha256::new().chain_update(b"alys signer").chain_update(genesis).chain_update(key.to_bytes());
    BlockHash(hash.finalize().into())
}

/// Record counts by which the chain and the journal check each other. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct JournalMark(Arc<Marks>);

#[derive(Debug, Default)]
struct Marks {
    durable: AtomicU64,
    stored: AtomicU64,
}

impl JournalMark {
    /// Sets the number of statements that were ever signed and are durable.
    fn set_durable(&self, records: u64) {
        self.0.durable.fetch_max(records, Ordering::AcqRel);
    }

    /// Record count to store with the next block; never less than the stored one.
    pub fn next(&self) -> u64 {
        self.0.durable.load(Ordering::Acquire).max(self.stored())
    }

    /// Sets the record count that the chain holds.
    pub fn set_stored(&self, records: u64) {
        self.0.stored.fetch_max(records, Ordering::AcqRel);
    }

    /// Record count that the chain holds.
    pub fn stored(&self) -> u64 {
        self.0.stored.load(Ordering::Acquire)
    }
}

/// Header of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    identity: BlockHash,
    /// Records that were dropped when the file was compacted.
    compacted: u64,
    /// Nothing is signed for heights up to this one. From [`FLOOR_BOUND`] on, the floor is unknown.
    floor: u64,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.identity.0);
        bytes.extend(self.compacted.to_be_bytes());
        bytes.extend(self.floor.to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.try_into().expect("the fields have the header's size")
    }

    /// Parses a header; `None` if the bytes are not a valid one.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fields, crc) = bytes.get(..HEADER_BYTES)?.split_at(HEADER_BYTES - 4);
        let (magic, rest) = fields.split_at(MAGIC.len());
        if magic != MAGIC || crc32fast::hash(fields).to_be_bytes() != crc {
            return None;
        }
        let u64_at = |at: usize| Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        let identity = BlockHash(rest.get(..32)?.try_into().ok()?);
        Some(Self { identity, compacted: u64_at(32)?, floor: u64_at(40)? })
    }
}

/// A signed statement, as recorded in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// Incarnation that signed the statement.
    pub incarnation: Incarnation,
    /// Statement that was signed.
    pub statement: Statement,
    /// Wall-clock time of signing.
    pub at: WallTime,
    /// Sequence number of the gate decision that admitted the signature.
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

/// Advice for a journal that is not intact. Any copy of it may be older than what the key has signed since.
const ANEW: &str = "delete the whole data directory, never restore an older journal: the member fetches the chain again, and signs \
                    nothing where it may have signed before";

/// Why the journal can not be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file could not be read or written.
    #[error("the signer's journal {path}: {source}")]
    File {
        /// Path of the journal.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Another process, or another consensus actor, has it open.
    #[error("the signer's journal {path} is in use: another process signs with this data directory")]
    InUse {
        /// Path of the journal.
        path: PathBuf,
    },
    /// The journal is missing, but the chain has blocks: this member has signed statements that it does not remember.
    #[error(
        "the signer's journal {path} is missing, but the chain is at height {height}: this member may have \
         signed what it does not remember; {ANEW}"
    )]
    Missing {
        /// Path of the journal.
        path: PathBuf,
        /// Height of the chain.
        height: u64,
    },
    /// The file is empty, which a journal never is, because it starts with its header.
    #[error(
        "the signer's journal {path} is empty, which it never was: this member may have signed what it does not \
         remember; {ANEW}"
    )]
    Empty {
        /// Path of the journal.
        path: PathBuf,
    },
    /// The journal belongs to another member or another chain.
    #[error("the signer's journal {path} is of another member, or of another chain; expected this member's")]
    Foreign {
        /// Path of the journal.
        path: PathBuf,
    },
    /// The journal is older than the chain, or was shortened.
    #[error(
        "the signer's journal {path} tells of {found} signatures, but the chain of {stored}: it was shortened, or is an older \
         copy; {ANEW}"
    )]
    Short {
        /// Path of the journal.
        path: PathBuf,
        /// Records that the journal accounts for.
        found: u64,
        /// Records that the chain accounts for.
        stored: u64,
    },
    /// The consensus log holds a signature that the journal does not.
    #[error(
        "the signer's journal {path} does not have {} at height {}, round {}, which the consensus log has: it was emptied, \
         shortened or replaced; {ANEW}",
        .statement.step.as_str(), .statement.height, .statement.round
    )]
    Forgetful {
        /// Path of the journal.
        path: PathBuf,
        /// Statement in the log.
        statement: Statement,
    },
    /// A record in the middle is damaged: the file was altered. A torn record at the end is not this error.
    #[error("the signer's journal {path} is damaged at byte {at}; {ANEW}")]
    Damaged {
        /// Path of the journal.
        path: PathBuf,
        /// Byte offset of the damaged record.
        at: usize,
    },
}

/// Why a statement was not signed.
#[derive(Debug, Error)]
pub enum SigningRefusal {
    /// The gate is closed.
    #[error(transparent)]
    Gate(GateClosed),
    /// The gate is open, but requires more healthy members for this operation: the member skips its proposal.
    #[error(transparent)]
    Demand(GateClosed),
    /// Another block was signed for the same height, round and step.
    #[error("{} at height {}, round {} was signed for {signed:?}; asked to sign for {asked:?}", .at.step.as_str(), .at.height, .at.round)]
    Conflict {
        /// Statement that was refused.
        at: Statement,
        /// Block that was signed before; `None` for nil.
        signed: Option<BlockHash>,
        /// Block that was refused; `None` for nil.
        asked: Option<BlockHash>,
    },
    /// This member does not remember what it signed at this height.
    #[error("height {height} is not above {}, up to which this member may have signed what it does not remember", shown(*.floor))]
    Memory {
        /// Height of the statement.
        height: u64,
        /// Floor, above which this member's memory starts.
        floor: u64,
    },
    /// A later step was signed already, and this one was not.
    #[error("{} at height {}, round {} lies before the last signature", .0.step.as_str(), .0.height, .0.round)]
    Regression(Statement),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn shown(floor: u64) -> String {
    if floor < FLOOR_BOUND { floor.to_string() } else { "a height that is not known yet".to_owned() }
}

/// The journal of every statement signed, on disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    /// The newest of the `count` records that were ever written.
    records: VecDeque<SignedStatement>,
    count: u64,
    mark: JournalMark,
    /// Whether records were written that are not yet durable.
    dirty: bool,
    disk: Option<Disk>,
}

impl Journal {
    /// Opens and locks this member's journal. The chain is at `chain_height`, and its `mark` says how many records the
    /// journal must account for; only while the chain has no blocks may the journal be missing. A record that a crash
    /// tore at the end is dropped: its signature never left the member.
    pub fn open(
        path: &Path,
        identity: BlockHash,
        chain_height: u64,
        mark: JournalMark,
    ) -> Result<Self, JournalError> {
        let error = |source| JournalError::File { path: path.into(), source };
        if !path.exists() {
            if chain_height > 0 {
                return Err(JournalError::Missing { path: path.into(), height: chain_height });
            }
            Self::create(path, identity).map_err(error)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => return Err(error(source)),
        }
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(error)?;
        let (header, records) = Self::parse(path, &bytes, identity)?;
        let count = header.compacted + records.len() as u64;
        if count < mark.stored() {
            return Err(JournalError::Short { path: path.into(), found: count, stored: mark.stored() });
        }
        let (path, records) = (path.into(), records.into());
        let mut journal = Self { path, file, header, records, count, mark, dirty: false, disk: None };
        // Bytes that can be read need not be on disk: after a sync that failed, the next one succeeds without writing
        // them. Only rewritten records are durable.
        journal.compact().map_err(|source| journal.failed(source))?;
        journal.mark.set_durable(count);
        Ok(journal)
    }

    /// Creates a journal that remembers nothing, atomically.
    pub fn create(path: &Path, identity: BlockHash) -> io::Result<()> {
        let header = Header { identity, compacted: 0, floor: FLOOR_UNKNOWN };
        replace(path, &header.to_bytes()).map(drop)
    }

    /// Whether the journal remembers nothing, as created by [`Self::create`].
    pub fn is_new(path: &Path, identity: BlockHash) -> Result<bool, JournalError> {
        let bytes = std::fs::read(path).map_err(|source| JournalError::File { path: path.into(), source })?;
        let (header, records) = Self::parse(path, &bytes, identity)?;
        Ok(records.is_empty() && header.compacted == 0 && header.floor >= FLOOR_BOUND)
    }

    /// Reads a journal without locking or changing it, for audits. Returns the number of records it accounts for, and
    /// those it holds.
    pub fn read(path: &Path, identity: BlockHash) -> Result<(u64, Vec<SignedStatement>), JournalError> {
        let bytes = std::fs::read(path).map_err(|source| JournalError::File { path: path.into(), source })?;
        let (header, records) = Self::parse(path, &bytes, identity)?;
        Ok((header.compacted + records.len() as u64, records))
    }

    fn parse(
        path: &Path,
        bytes: &[u8],
        identity: BlockHash,
    ) -> Result<(Header, Vec<SignedStatement>), JournalError> {
        if bytes.is_empty() {
            return Err(JournalError::Empty { path: path.into() });
        }
        let damaged = |at| JournalError::Damaged { path: path.into(), at };
        let header = Header::from_bytes(bytes).ok_or_else(|| damaged(0))?;
        if header.identity != identity {
            return Err(JournalError::Foreign { path: path.into() });
        }
        let (chunks, _torn) = bytes[HEADER_BYTES..].as_chunks::<RECORD_BYTES>();
        let mut records = Vec::with_capacity(chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let rest = &chunks[index..];
            match SignedStatement::from_bytes(chunk) {
                Some(record) => records.push(record),
                // A file's new size can reach the disk before its bytes do. This affects all records that one step
                // signed, since they are synced together.
                None if rest.len() == 1 || rest.as_flattened().iter().all(|byte| *byte == 0) => break,
                None => return Err(damaged(HEADER_BYTES + index * RECORD_BYTES)),
            }
        }
        Ok((header, records))
    }

    fn is_large(&self) -> bool {
        let in_file = self.count - self.header.compacted;
        in_file * RECORD_BYTES as u64 >= COMPACT_AT_BYTES
    }

    /// Keeps only the newest records, in a new file that atomically replaces the old one.
    fn compact(&mut self) -> io::Result<()> {
        self.trim();
        self.header.compacted = self.count - self.records.len() as u64;
        let mut bytes = self.header.to_bytes().to_vec();
        self.records.iter().for_each(|record| bytes.extend(record.to_bytes()));
        self.file = replace(&self.path, &bytes)?;
        Ok(())
    }

    /// Highest height for which nothing is signed. While it is `None` it is unknown, and nothing is signed at all.
    pub fn floor(&self) -> Option<u64> {
        Some(self.header.floor).filter(|floor| *floor < FLOOR_BOUND)
    }

    /// Durably sets the floor to this one, or to the height of a forgotten signature if that is higher.
    pub fn set_floor(&mut self, floor: u64) -> Result<(), JournalError> {
        self.keep_floor(floor.max(self.least_floor()))
    }

    /// Highest height at which this key is known to have signed a forgotten statement; 0 if there is none.
    fn least_floor(&self) -> u64 {
        match self.header.floor {
            FLOOR_UNKNOWN => 0,
            floor => floor.saturating_sub(FLOOR_BOUND),
        }
    }

    fn keep_floor(&mut self, floor: u64) -> Result<(), JournalError> {
        self.header.floor = floor;
        self.compact().map_err(|source| self.failed(source))
    }

    /// Whether the journal holds everything that was signed at `height`: the height is above the floor, and its records
    /// were not dropped.
    pub fn remembers(&self, height: u64) -> bool {
        height > self.header.floor && !is_dropped(self.count, self.records.iter(), height)
    }

    /// Whether the journal should hold this statement and does not.
    pub fn lacks(&self, height: u64, step: Step, block: BlockHash) -> bool {
        if !self.remembers(height) {
            return false;
        }
        let signed = (height, step, Some(block));
        !self.records.iter().rev().any(|SignedStatement { statement, .. }| {
            (statement.height, statement.step, statement.block) == signed
        })
    }

    /// Durably marks the journal as one that remembers nothing, because it is an older copy. Its key is known to have
    /// signed at `height`.
    pub fn forget(&mut self, height: u64) -> Result<(), JournalError> {
        self.keep_floor(FLOOR_BOUND | height.max(self.least_floor()))
    }

    /// Returns an error if the journal lacks a statement of this member that its consensus log holds.
    pub fn require(&self, statement: Statement) -> Result<(), JournalError> {
        require(&self.path, self.count, self.records.iter(), statement)
    }

    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::File { path: self.path.clone(), source }
    }

    fn trim(&mut self) {
        while self.records.len() > RECORDS_KEPT {
            self.records.pop_front();
        }
    }

    /// The newest records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &SignedStatement> {
        self.records.iter()
    }

    /// Returns whether `statement` was signed before, or why it must not be signed.
    fn check(&self, statement: &Statement) -> Result<bool, SigningRefusal> {
        let key = |s: &Statement| (s.height, s.round, s.step);
        for record in self.records.iter().rev() {
            let signed = &record.statement;
            if key(signed) == key(statement) {
                return if signed == statement {
                    Ok(true)
                } else {
                    Err(SigningRefusal::Conflict {
                        at: *statement,
                        signed: signed.block,
                        asked: statement.block,
                    })
                };
            }
            if key(signed) < key(statement) {
                break;
            }
        }
        match self.records.back() {
            Some(last) if key(&last.statement) > key(statement) => {
                Err(SigningRefusal::Regression(*statement))
            }
            _ => Ok(false),
        }
    }

    /// Returns this journal, with its disk syncs measured by `disk`.
    #[must_use]
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Writes a record without making it durable.
    fn append(&mut self, record: SignedStatement) -> Result<(), JournalError> {
        let error = |source| JournalError::File { path: self.path.clone(), source };
        self.file.write_all(&record.to_bytes()).map_err(error)?;
        self.dirty = true;
        self.count += 1;
        self.records.push_back(record);
        self.trim();
        Ok(())
    }

    /// Makes every record durable. Does nothing if all are.
    fn flush(&mut self) -> Result<(), JournalError> {
        if self.dirty {
            let sync = || self.file.sync_data();
            let outcome = self.disk.as_ref().map_or_else(sync, |disk| disk.sync(sync));
            outcome.map_err(|source| self.failed(source))?;
            self.dirty = false;
            self.mark.set_durable(self.count);
            if self.is_large() {
                self.compact().map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }
}

/// Whether compaction dropped records of this height from a journal that holds the last `records` of `count` written.
fn is_dropped<'a>(
    count: u64,
    mut records: impl ExactSizeIterator<Item = &'a SignedStatement>,
    height: u64,
) -> bool {
    count > records.len() as u64 && records.next().is_none_or(|oldest| height <= oldest.statement.height)
}

/// Returns an error if a journal should hold a statement of its member's consensus log and does not. The journal holds
/// the last `records` of `count` written.
pub fn require<'a>(
    path: &Path,
    count: u64,
    records: impl ExactSizeIterator<Item = &'a SignedStatement> + Clone,
    statement: Statement,
) -> Result<(), JournalError> {
    let is_known = records.clone().any(|record| record.statement == statement);
    if is_known || is_dropped(count, records, statement.height) {
        return Ok(());
    }
    Err(JournalError::Forgetful { path: path.into(), statement })
}

/// Describes the blocks missing from a chain that ends at `height` although its member has signed `last`: before it
/// signs for a height, a member stores the block below. This is harmless, because others have the blocks too.
pub fn missing_blocks(last: Option<&SignedStatement>, height: u64) -> Option<String> {
    let signed = last.map(|last| last.statement.height).filter(|signed| *signed > height + 1)?;
    Some(format!(
        "the chain ends at height {height}, and this member has signed for height {signed}: the chain is an older copy or was \
         lost, and is fetched from peers"
    ))
}

/// Signs statements, or refuses to.
pub trait Signer: Send {
    /// Signs `statement`, or returns why not. The signature may leave the member only after [`Self::flush`].
    fn sign(&mut self, statement: &Statement) -> Result<Signature, SigningRefusal>;
    /// Makes the journal of everything signed so far durable, if there is a journal. After an error, none of these
    /// signatures may leave the member.
    fn flush(&mut self) -> Result<(), SigningRefusal> {
        Ok(())
    }
    /// Every statement signed for `height`.
    fn signed_at(&self, height: u64) -> Vec<Statement>;
    /// Highest height for which nothing is signed. While it is `None` it is unknown, and nothing is signed at all.
    fn floor(&self) -> Option<u64> {
        Some(0)
    }
    /// Durably sets a floor.
    fn set_floor(&mut self, floor: u64) -> Result<(), SigningRefusal> {
        let _ = floor;
        Ok(())
    }
    /// Whether this key has signed `step` for this block, as the chain shows, and the journal should hold that and does
    /// not.
    fn lacks(&self, height: u64, step: Step, block: BlockHash) -> bool {
        let _ = (height, step, block);
        false
    }
    /// Whether every statement signed at `height` is remembered.
    fn remembers(&self, height: u64) -> bool {
        let _ = height;
        true
    }
    /// Durably discards the memory of everything signed so far. The floor becomes unknown, but is no less than
    /// `height`, at which this key has signed.
    fn forget(&mut self, height: u64) -> Result<(), SigningRefusal> {
        let _ = height;
        Ok(())
    }
}

/// This member's key, guarded by the journal and the gate.
pub struct GuardedSigner {
    key: SecretKey,
    chain_id: String,
    incarnation: Incarnation,
    journal: Journal,
    gate: GateReader,
    clock: Arc<dyn Clock>,
    /// Statements signed since the last flush.
    unflushed: Vec<Statement>,
}

impl GuardedSigner {
    /// Creates a signer for `chain_id`.
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

    /// The journal of signed statements.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Sequence number of the gate decision that admits `statement`.
    fn admit(&self, statement: &Statement) -> Result<u64, SigningRefusal> {
        let now = self.clock.now();
        let (class, vote) = (operation(statement.step), OperationClass::Vote);
        self.gate.admit(now, class).map_err(|halt| {
            let is_open_to_votes = class != vote && self.gate.admit(now, vote).is_ok();
            if is_open_to_votes { SigningRefusal::Demand(halt) } else { SigningRefusal::Gate(halt) }
        })
    }
}

/// Operation class of a step for the gate.
fn operation(step: Step) -> OperationClass {
    match step {
        Step::Proposal => OperationClass::Propose,
        Step::Prevote | Step::Precommit => OperationClass::Vote,
    }
}

impl Signer for GuardedSigner {
    fn sign(&mut self, statement: &Statement) -> Result<Signature, SigningRefusal> {
        let at = self.clock.wall();
        let gate_sequence = self.admit(statement)?;
        let (height, floor) = (statement.height, self.journal.header.floor);
        if height <= floor {
            return Err(SigningRefusal::Memory { height, floor });
        }
        let signed_before = self.journal.check(statement)?;
        if !signed_before {
            let incarnation = self.incarnation;
            let statement = *statement;
            self.journal.append(SignedStatement { incarnation, statement, at, gate_sequence })?;
            self.unflushed.push(statement);
        }
        Ok(self.key.sign(&statement.bytes(&self.chain_id)))
    }

    fn flush(&mut self) -> Result<(), SigningRefusal> {
        self.journal.flush()?;
        // A disk sync takes time, and the gate may close meanwhile. Then the signatures do not leave; the statements
        // are signed again when the step is repeated.
        for statement in std::mem::take(&mut self.unflushed) {
            self.admit(&statement).map_err(|refusal| match refusal {
                SigningRefusal::Demand(halt) => SigningRefusal::Gate(halt),
                refusal => refusal,
            })?;
        }
        Ok(())
    }

    fn signed_at(&self, height: u64) -> Vec<Statement> {
        let statements = self.journal.records().map(|record| record.statement);
        statements.filter(|statement| statement.height == height).collect()
    }

    fn floor(&self) -> Option<u64> {
        self.journal.floor()
    }

    fn set_floor(&mut self, floor: u64) -> Result<(), SigningRefusal> {
        Ok(self.journal.set_floor(floor)?)
    }

    fn lacks(&self, height: u64, step: Step, block: BlockHash) -> bool {
        self.journal.lacks(height, step, block)
    }

    fn remembers(&self, height: u64) -> bool {
        self.journal.remembers(height)
    }

    fn forget(&mut self, height: u64) -> Result<(), SigningRefusal> {
        Ok(self.journal.forget(height)?)
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

    const OWN: BlockHash = BlockHash([3; 32]);

    fn open(path: &Path, height: u64) -> Result<Journal, JournalError> {
        Journal::open(path, OWN, height, JournalMark::default())
    }

    fn sign(journal: &mut Journal, statement: Statement) -> Result<(), SigningRefusal> {
        if !journal.check(&statement)? {
            journal.append(record(statement))?;
        }
        Ok(())
    }

    #[test]
    fn steps_forward_are_signed_repetitions_repeated_and_conflicts_and_steps_back_refused() {
        use Step::{Precommit, Prevote, Proposal};
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = open(&journal_in(&dir), 0).expect("opens");
        sign(&mut journal, statement(1, 0, Proposal, Some(1))).expect("first");
        sign(&mut journal, statement(1, 0, Prevote, Some(1))).expect("a later step");
        sign(&mut journal, statement(1, 0, Prevote, Some(1))).expect("the same again");
        for conflict in [Some(2), None] {
            let refusal = sign(&mut journal, statement(1, 0, Prevote, conflict));
            assert!(matches!(refusal, Err(SigningRefusal::Conflict { .. })), "{refusal:?}");
        }
        sign(&mut journal, statement(1, 2, Precommit, None)).expect("a later round");
        let refusal = sign(&mut journal, statement(1, 1, Prevote, Some(1)));
        assert!(matches!(refusal, Err(SigningRefusal::Regression(_))), "{refusal:?}");
        sign(&mut journal, statement(2, 0, Prevote, Some(9))).expect("a later height");
        let refusal = sign(&mut journal, statement(1, 7, Precommit, Some(1)));
        assert!(matches!(refusal, Err(SigningRefusal::Regression(_))), "{refusal:?}");
        sign(&mut journal, statement(1, 2, Precommit, None)).expect("an old one repeated");
        assert_eq!(journal.records().count(), 4);
    }

    #[test]
    fn a_reopened_journal_refuses_what_the_first_one_would() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = open(&path, 0).expect("opens");
        sign(&mut journal, statement(4, 1, Step::Precommit, Some(1))).expect("first");
        drop(journal);
        let mut journal = open(&path, 0).expect("opens again");
        let refusal = sign(&mut journal, statement(4, 1, Step::Precommit, Some(2)));
        assert!(matches!(refusal, Err(SigningRefusal::Conflict { .. })), "{refusal:?}");
        assert_eq!(
            journal.records().copied().collect::<Vec<_>>(),
            Journal::read(&path, OWN).expect("reads").1
        );
    }

    #[test]
    fn a_chain_without_its_journal_is_refused_and_a_new_member_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = open(&journal_in(&dir), 7).expect_err("forgotten signatures");
        assert!(error.to_string().contains("is missing, but the chain is at height 7"), "{error}");
        assert!(!journal_in(&dir).exists());
        open(&journal_in(&dir), 0).expect("a new member");
    }

    #[test]
    fn a_journal_that_was_emptied_shortened_or_is_another_s_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mark = JournalMark::default();
        let mut journal = Journal::open(&path, OWN, 0, mark.clone()).expect("opens");
        for height in 1..=3 {
            sign(&mut journal, statement(height, 0, Step::Prevote, Some(1))).expect("signs");
        }
        assert_eq!(mark.next(), 0, "nothing is durable yet");
        journal.flush().expect("durable");
        assert_eq!(mark.next(), 3);
        journal.require(statement(3, 0, Step::Prevote, Some(1))).expect("it is there");
        let error =
            journal.require(statement(3, 0, Step::Prevote, Some(2))).expect_err("another").to_string();
        assert!(error.contains("does not have prevote at height 3, round 0"), "{error}");
        drop(journal);

        let whole = std::fs::read(&path).expect("reads");
        let after_two = JournalMark::default();
        after_two.set_stored(2);
        let opened = |bytes: &[u8], identity| {
            std::fs::write(&path, bytes).expect("writes");
            let opened = Journal::open(&path, identity, 2, after_two.clone());
            opened.map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(opened(&whole, OWN), Ok(()));
        assert_eq!(
            opened(&whole[..HEADER_BYTES + 2 * RECORD_BYTES], OWN),
            Ok(()),
            "what came after the block"
        );
        for (bytes, identity, says) in [
            (&whole[..0], OWN, "is empty"),
            (&whole[..HEADER_BYTES], OWN, "tells of 0 signatures, but the chain of 2"),
            (&whole[..HEADER_BYTES + RECORD_BYTES], OWN, "tells of 1 signatures, but the chain of 2"),
            (&whole[..HEADER_BYTES - 1], OWN, "is damaged at byte 0"),
            (&whole[1..], OWN, "is damaged at byte 0"),
            (&whole[HEADER_BYTES..], OWN, "is damaged at byte 0"),
            (&whole, BlockHash([9; 32]), "is of another member, or of another chain"),
        ] {
            let error = opened(bytes, identity).expect_err(says);
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[test]
    fn a_new_journal_has_no_floor_until_it_is_told_and_keeps_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = open(&path, 0).expect("opens");
        assert_eq!(journal.floor(), None);
        drop(journal);
        journal = open(&path, 0).expect("opens again");
        assert_eq!(journal.floor(), None, "it still remembers nothing");
        journal.set_floor(7).expect("kept");
        sign(&mut journal, statement(8, 0, Step::Prevote, Some(1))).expect("signs");
        drop(journal);
        let journal = open(&path, 0).expect("opens again");
        assert_eq!((journal.floor(), journal.records().count()), (Some(7), 1));
    }

    #[test]
    fn what_the_chain_shows_and_the_journal_should_know_is_missed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = open(&journal_in(&dir), 0).expect("opens");
        let block = |tag| BlockHash([tag; 32]);
        assert!(!journal.lacks(9, Step::Precommit, block(1)), "it remembers nothing, and is not asked");
        journal.set_floor(3).expect("kept");
        sign(&mut journal, statement(5, 0, Step::Precommit, Some(1))).expect("signs");
        for (height, step, tag, lacks) in [
            (3, Step::Precommit, 1, false),
            (4, Step::Precommit, 1, true),
            (5, Step::Precommit, 1, false),
            (5, Step::Precommit, 2, true),
            (5, Step::Proposal, 1, true),
            (6, Step::Precommit, 1, true),
        ] {
            assert_eq!(journal.lacks(height, step, block(tag)), lacks, "{step:?} of {tag} at {height}");
        }
        // Nothing is known about dropped records.
        for height in 6..6 + RECORDS_KEPT as u64 {
            sign(&mut journal, statement(height, 0, Step::Prevote, None)).expect("signs");
        }
        assert!(!journal.lacks(4, Step::Precommit, block(1)) && !journal.lacks(6, Step::Precommit, block(1)));
        journal.forget(0).expect("kept");
        assert!(!journal.lacks(4_000, Step::Precommit, block(1)) && journal.floor().is_none());
    }

    #[test]
    fn a_forgotten_signature_keeps_the_floor_at_its_height_or_above() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        for (forgotten, laid, floor) in
            [(&[9_u64] as &[u64], 0, 9), (&[9, 4], 7, 9), (&[0], 7, 7), (&[4, 9], 12, 12)]
        {
            let mut journal = open(&path, 0).expect("opens");
            for height in forgotten {
                journal.forget(*height).expect("kept");
                assert_eq!(journal.floor(), None);
                assert!(!journal.remembers(u64::from(u32::MAX)));
            }
            drop(journal);
            let mut journal = open(&path, 0).expect("opens again");
            assert_eq!(journal.floor(), None);
            journal.set_floor(laid).expect("kept");
            assert_eq!(journal.floor(), Some(floor), "{forgotten:?}, then {laid}");
        }
    }

    #[test]
    fn a_journal_that_grows_is_compacted_while_it_is_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = open(&path, 0).expect("opens");
        let count = COMPACT_AT_BYTES / RECORD_BYTES as u64 * 2;
        for height in 1..=count {
            sign(&mut journal, statement(height, 0, Step::Prevote, Some(1))).expect("signs");
            if height % 1_000 == 0 {
                journal.flush().expect("durable");
                let size = std::fs::metadata(&path).expect("it is there").len();
                assert!(size < COMPACT_AT_BYTES + 1_000 * RECORD_BYTES as u64, "{size} bytes");
            }
        }
        drop(journal);
        let (told, records) = Journal::read(&path, OWN).expect("reads");
        assert_eq!((told, records.last().map(|last| last.statement.height)), (count, Some(count)));
    }

    #[test]
    fn only_one_can_hold_the_journal() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = open(&journal_in(&dir), 0).expect("opens");
        let second = open(&journal_in(&dir), 0);
        assert!(matches!(second, Err(JournalError::InUse { .. })), "{second:?}");
    }

    #[test]
    fn a_torn_end_is_dropped_and_damage_before_it_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let mut journal = open(&path, 0).expect("opens");
        (1..=3)
            .for_each(|height| sign(&mut journal, statement(height, 0, Step::Prevote, None)).expect("signs"));
        drop(journal);
        let whole = std::fs::read(&path).expect("reads");
        let after = |records| HEADER_BYTES + records * RECORD_BYTES;
        for torn_at in after(2) + 1..after(3) {
            std::fs::write(&path, &whole[..torn_at]).expect("writes");
            assert_eq!(open(&path, 0).expect("opens").records().count(), 2, "torn at {torn_at}");
            assert_eq!(std::fs::read(&path).expect("reads").len(), after(2));
        }
        for left in [2, 1] {
            let mut zeros = whole.clone();
            zeros[after(left)..].fill(0);
            std::fs::write(&path, &zeros).expect("writes");
            assert_eq!(open(&path, 0).expect("opens").records().count(), left, "size before bytes");
        }
        let mut damaged = whole.clone();
        damaged[after(1) + 9] ^= 1;
        std::fs::write(&path, &damaged).expect("writes");
        let error = open(&path, 0).expect_err("damaged");
        assert!(matches!(error, JournalError::Damaged { at, .. } if at == after(1)), "{error}");
        assert_eq!(std::fs::read(&path).expect("reads"), damaged, "nothing was changed");
    }

    #[test]
    fn a_large_journal_is_compacted_without_forgetting_the_last_signatures() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = journal_in(&dir);
        let count = COMPACT_AT_BYTES / RECORD_BYTES as u64 + 10;
        let header = Header { identity: OWN, compacted: 0, floor: 0 };
        let records =
            (1..=count).flat_map(|height| record(statement(height, 0, Step::Prevote, Some(1))).to_bytes());
        let bytes: Vec<u8> = header.to_bytes().into_iter().chain(records).collect();
        std::fs::write(&path, bytes).expect("writes");
        let mut journal = open(&path, 0).expect("opens");
        let size = std::fs::metadata(&path).expect("exists").len();
        assert_eq!(size, (HEADER_BYTES + RECORDS_KEPT * RECORD_BYTES) as u64);
        let refusal = sign(&mut journal, statement(count, 0, Step::Prevote, Some(2)));
        assert!(matches!(refusal, Err(SigningRefusal::Conflict { .. })), "{refusal:?}");
        sign(&mut journal, statement(count + 1, 0, Step::Prevote, Some(2))).expect("goes on");
        let second = open(&path, 0);
        assert!(matches!(second, Err(JournalError::InUse { .. })), "the new file is locked too: {second:?}");
        drop(journal);
        assert_eq!(open(&path, 0).expect("opens").records().count(), RECORDS_KEPT);
    }
}
