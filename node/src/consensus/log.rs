//! The write-ahead log of consensus: every input that may lead to a signature is on disk before the signature leaves
//! the member.
//!
//! The log holds one height. After a crash the same inputs lead the core to the same signatures; without the log, a
//! member that crashed between two votes could contradict itself.
//!
//! The library writes the log, and truncates what it can not read when it opens it. So this module reads the file
//! first: another member's log is refused, and damage is reported, not only truncated.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use alys_cluster::transport::codec::{self, CodecError, MESSAGE_BYTES_MAX};
use malachite_wal::Log;
use thiserror::Error;

use super::block::BlockHash;
use super::context::Statement;
use super::message::LogEntry;
use crate::storage::Disk;
use crate::storage::files::touch;

/// The version of the library's format.
const VERSION: [u8; 4] = 1_u32.to_be_bytes();
/// Bytes of the library's header: version and height. A shorter file was never written to.
const HEADER_BYTES: usize = 4 + 8;
/// Bytes before an entry's payload: compression flag (never set), payload length, CRC-32 of the payload.
const ENTRY_HEADER_BYTES: usize = 1 + 8 + 4;
/// First bytes of the first entry, followed by the owner's identity. No other entry starts with these bytes.
const OWNER_MAGIC: [u8; 8] = *b"ALYSLOG1";

/// Why the log can not be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file could not be read or written.
    #[error("the consensus log {path}: {source}")]
    File {
        /// Path of the log.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// An entry is complete but can not be decoded: another program wrote the file.
    #[error("the consensus log {path}, entry {entry}: {source}")]
    Entry {
        /// Path of the log.
        path: PathBuf,
        /// Index of the entry, from 0.
        entry: usize,
        /// Decoding error.
        source: CodecError,
    },
    /// The log belongs to another member or another chain.
    #[error("the consensus log {path} is of another member, or of another chain; expected this member's")]
    Foreign {
        /// Path of the log.
        path: PathBuf,
    },
    /// The log is for a height whose parent is not in the store.
    #[error("the consensus log {path} is of height {log}, but the chain ends below at height {head}")]
    Ahead {
        /// Path of the log.
        path: PathBuf,
        /// Height of the log.
        log: u64,
        /// Height of the chain.
        head: u64,
    },
}

/// Contents of a log file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Height of the entries.
    pub height: u64,
    /// Complete entries, up to the first one that is not.
    pub entries: Vec<LogEntry>,
    /// Offset of the first byte that is not part of a complete entry, if a crash can not explain it.
    pub damaged_at: Option<usize>,
    /// Number of complete entries in the file: these, and the one that names the owner.
    in_file: u64,
    /// Whether anything follows the complete entries.
    is_cut: bool,
}

impl Contents {
    /// Statements in the log that the member at this index in genesis signed.
    pub fn statements_of(&self, own: usize) -> impl Iterator<Item = Statement> {
        self.entries.iter().filter_map(move |entry| match entry {
            LogEntry::Message(message) => message.statement_of(own),
            _ => None,
        })
    }
}

/// Reads the log of the member with this identity, without locking or changing it. A log that does not name its owner
/// was written by an earlier version, or is empty.
pub fn read(path: &Path, identity: BlockHash) -> Result<Contents, LogError> {
    let bytes = std::fs::read(path).map_err(|source| LogError::File { path: path.into(), source })?;
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(Contents::default()) };
    let (version, height) = header.split_at(VERSION.len());
    if version != VERSION {
        let source = io::Error::new(io::ErrorKind::InvalidData, "it does not begin like a consensus log");
        return Err(LogError::File { path: path.into(), source });
    }
    let (mut whole, rest) = split(body);
    let in_file = whole.len() as u64;
    if let Some(owner) = whole.first().and_then(|first| first.strip_prefix(&OWNER_MAGIC)) {
        if owner != identity.0 {
            return Err(LogError::Foreign { path: path.into() });
        }
        whole.remove(0);
    }
    let decode = |(entry, bytes): (usize, &[u8])| {
        codec::decode(bytes).map_err(|source| LogError::Entry { path: path.into(), entry, source })
    };
    Ok(Contents {
        height: u64::from_be_bytes(height.try_into().expect("eight bytes")),
        entries: whole.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?,
        damaged_at: (!is_torn(rest)).then(|| bytes.len() - rest.len()),
        in_file,
        is_cut: !rest.is_empty(),
    })
}

/// The complete entries at the start of `bytes`, and the rest.
fn split(mut bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut whole = Vec::new();
    while let Some((entry, rest)) = first(bytes) {
        whole.push(entry);
        bytes = rest;
    }
    (whole, bytes)
}

/// The entry at the start of `bytes`, if it is complete, and the rest. Empty entries are never written.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(ENTRY_HEADER_BYTES)?;
    let (entry, rest) = rest.split_at_checked(length(header)?)?;
    let is_whole = header[0] == 0 && crc32fast::hash(entry).to_be_bytes() == header[9..];
    (is_whole && !entry.is_empty()).then_some((entry, rest))
}

/// Payload length in this entry header, if it is plausible.
fn length(header: &[u8]) -> Option<usize> {
    let length = u64::from_be_bytes(header.get(1..9)?.try_into().ok()?);
    usize::try_from(length).ok().filter(|length| *length <= MESSAGE_BYTES_MAX)
}

/// Whether a crash can leave these bytes behind the complete entries: part of an entry, with zeros in place of the
/// rest, because a file's new size can reach the disk before its bytes do.
fn is_torn(rest: &[u8]) -> bool {
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let Some((header, after)) = rest.split_at_checked(ENTRY_HEADER_BYTES) else {
        return rest.first().is_none_or(|flag| *flag == 0);
    };
    let ends = |length| after.split_at_checked(length).is_none_or(|(_, next)| zero(next));
    // If the length itself is damaged, complete entries follow within it.
    let is_entry = |(entry, _): (&[u8], _)| codec::decode::<LogEntry>(entry).is_ok();
    let hides = || (1..rest.len()).any(|at| first(&rest[at..]).is_some_and(is_entry));
    let is_part = header[0] == 0 && length(header).is_some_and(|length| length > 0 && ends(length));
    zero(rest) || is_part && !hides()
}

/// Log of the inputs of a height.
pub trait MessageLog: Send {
    /// Adds an entry without making it durable.
    fn append(&mut self, entry: &LogEntry) -> Result<(), LogError>;
    /// Makes all added entries durable. Does nothing if there are none.
    fn flush(&mut self) -> Result<(), LogError>;
}

/// The log as a file.
#[derive(Debug)]
pub struct WriteAheadLog {
    path: PathBuf,
    identity: BlockHash,
    log: Log,
    dirty: bool,
    disk: Option<Disk>,
}

impl WriteAheadLog {
    /// Opens and locks the log of the member with this identity. Damaged entries are lost, and the member is silent in
    /// that height until the others have decided it.
    pub fn open(path: &Path, identity: BlockHash) -> Result<Self, LogError> {
        let error = |source| LogError::File { path: path.into(), source };
        touch(path).and_then(|()| clear_unfinished(path)).map_err(error)?;
        if let Some(at) = read(path, identity)?.damaged_at {
            tracing::warn!(path = %path.display(), at, "the consensus log is damaged; what follows in it is lost");
        }
        let log = Log::open(path).map_err(error)?;
        Ok(Self { path: path.into(), identity, log, dirty: false, disk: None })
    }

    /// Returns this log, with its disk syncs measured by `disk`.
    #[must_use]
    pub fn on(mut self, disk: Disk) -> Self {
        self.disk = Some(disk);
        self
    }

    fn synced<T>(&mut self, sync: impl FnOnce(&mut Log) -> T) -> T {
        let log = &mut self.log;
        match &self.disk {
            Some(disk) => disk.sync(|| sync(log)),
            None => sync(log),
        }
    }

    /// Returns the entries of `height`, the one above the chain's head. A log of an earlier height is emptied: its
    /// block is in the store. An entry that a crash tore at the end is dropped, because nothing followed from it.
    pub fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError> {
        let found = self.log.sequence();
        if found > height {
            return Err(LogError::Ahead { path: self.path.clone(), log: found, head: height - 1 });
        }
        if found < height {
            self.restart(height)?;
            return Ok(Vec::new());
        }
        let found = self.read()?;
        if found.is_cut {
            self.log.truncate(found.in_file).map_err(|e| self.error(e))?;
        }
        Ok(found.entries)
    }

    /// Whether the log holds entries of `height` or above, which a start on a chain that ends below would replay.
    pub fn holds(&self, height: u64) -> bool {
        self.log.sequence() >= height && !self.log.is_empty()
    }

    /// Reads the log, whatever its height. Changes nothing.
    pub fn read(&self) -> Result<Contents, LogError> {
        read(&self.path, self.identity)
    }

    /// Empties the log for `height`. The block below must be in the store.
    pub fn restart(&mut self, height: u64) -> Result<(), LogError> {
        self.dirty = false;
        self.synced(|log| log.reset(height)).map_err(|e| self.error(e))
    }

    fn error(&self, source: io::Error) -> LogError {
        LogError::File { path: self.path.clone(), source }
    }
}

impl MessageLog for WriteAheadLog {
    fn append(&mut self, entry: &LogEntry) -> Result<(), LogError> {
        let bytes = codec::encode(entry).map_err(|e| self.error(io::Error::other(e)))?;
        self.dirty = true;
        if self.log.is_empty() {
            let owner = [&OWNER_MAGIC[..], &self.identity.0].concat();
            self.log.append(owner).map_err(|e| self.error(e))?;
        }
        self.log.append(bytes).map_err(|e| self.error(e))
    }

    fn flush(&mut self) -> Result<(), LogError> {
        if self.dirty {
            self.synced(Log::flush).map_err(|e| self.error(e))?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Empties a file in which a killed process left a partial header: it never held an entry.
fn clear_unfinished(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() < HEADER_BYTES as u64 { file.set_len(0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use malachite_types::{Round, Timeout};

    const OWN: BlockHash = BlockHash([3; 32]);

    fn entry(round: u32) -> LogEntry {
        LogEntry::Timeout(Timeout::propose(Round::new(round)))
    }

    #[test]
    fn a_process_that_is_killed_while_it_begins_a_log_starts_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
        log.begin(5).expect("begins");
        drop(log);
        let whole = std::fs::read(&path).expect("reads");
        for bytes in 0..HEADER_BYTES {
            std::fs::write(&path, &whole[..bytes]).expect("writes");
            let mut log =
                WriteAheadLog::open(&path, OWN).unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
            assert_eq!(log.begin(5).expect("begins"), [], "{bytes} bytes");
        }
    }

    #[test]
    fn entries_of_the_height_come_back_and_those_of_a_lower_one_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
        assert_eq!(log.begin(5).expect("begins"), []);
        (0..3).for_each(|round| log.append(&entry(round)).expect("appends"));
        log.flush().expect("flushes");
        drop(log);
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens again");
        assert_eq!(log.begin(5).expect("begins"), [entry(0), entry(1), entry(2)]);
        assert!(matches!(log.begin(4), Err(LogError::Ahead { log: 5, head: 3, .. })));
        assert!(log.holds(5) && !log.holds(6));
        assert_eq!(log.begin(6).expect("begins"), []);
        assert!(!log.holds(6));
        assert_eq!(log.begin(6).expect("begins"), []);
    }

    #[test]
    fn a_torn_entry_is_dropped_wherever_it_is_torn_and_the_log_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
        log.begin(1).expect("begins");
        log.append(&entry(0)).and_then(|()| log.flush()).expect("appends");
        let first = std::fs::metadata(&path).expect("exists").len() as usize;
        log.append(&entry(1)).and_then(|()| log.flush()).expect("appends");
        drop(log);
        let whole = std::fs::read(&path).expect("reads");
        let zeros = [&whole[..first], &[0; 26]].concat();
        let torn = (first..whole.len()).map(|at| whole[..at].to_vec()).chain([zeros]);
        for (torn_at, bytes) in torn.enumerate() {
            std::fs::write(&path, &bytes).expect("writes");
            let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
            assert_eq!(log.begin(1).expect("begins"), [entry(0)], "torn at {torn_at}");
            log.append(&entry(2)).and_then(|()| log.flush()).expect("appends");
            drop(log);
            let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
            assert_eq!(log.begin(1).expect("begins"), [entry(0), entry(2)], "torn at {torn_at}");
        }
    }

    #[test]
    fn a_log_of_another_member_is_refused_and_one_of_an_earlier_version_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path, BlockHash([9; 32])).expect("opens");
        log.begin(1).expect("begins");
        log.append(&entry(0)).and_then(|()| log.flush()).expect("appends");
        drop(log);
        let whole = std::fs::read(&path).expect("reads");
        for error in [read(&path, OWN).err(), WriteAheadLog::open(&path, OWN).err()] {
            assert!(matches!(error, Some(LogError::Foreign { .. })), "{error:?}");
        }
        assert_eq!(std::fs::read(&path).expect("reads"), whole, "nothing was changed");

        let owner = ENTRY_HEADER_BYTES + OWNER_MAGIC.len() + 32;
        let earlier = [&whole[..HEADER_BYTES], &whole[HEADER_BYTES + owner..]].concat();
        std::fs::write(&path, earlier).expect("writes");
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
        assert_eq!(log.begin(1).expect("begins"), [entry(0)]);
        log.append(&entry(1)).expect("appends");
        assert_eq!(log.begin(2).expect("begins"), []);
        log.append(&entry(1)).expect("appends");
        let error = read(&path, BlockHash([9; 32])).expect_err("it says whose it is");
        assert!(matches!(error, LogError::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_byte_that_is_changed_before_the_last_entry_is_damage_wherever_it_is_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path, OWN).expect("opens");
        log.begin(1).expect("begins");
        let mut ends = vec![];
        for round in 0..3 {
            log.append(&entry(round)).and_then(|()| log.flush()).expect("appends");
            ends.push(std::fs::metadata(&path).expect("exists").len() as usize);
        }
        drop(log);
        let whole = std::fs::read(&path).expect("reads");
        let found = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writes");
            read(&path, OWN).expect("reads")
        };
        assert_eq!(found(&whole).damaged_at, None);
        assert_eq!(found(&whole).entries.len(), 3);
        for at in HEADER_BYTES..ends[1] {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                let found = found(&damaged);
                let of = ends.iter().filter(|end| **end <= at).count();
                assert!(found.damaged_at.is_some_and(|from| from <= at), "byte {at}, bit {bit}: {found:?}");
                assert_eq!(found.entries, (0..of as u32).map(entry).collect::<Vec<_>>(), "byte {at}");
            }
        }
        for torn_at in HEADER_BYTES..whole.len() {
            let mut zeros = whole.clone();
            zeros[torn_at..].fill(0);
            for bytes in [&whole[..torn_at], &zeros] {
                assert_eq!(found(bytes).damaged_at, None, "torn at {torn_at}");
            }
        }
    }
}
