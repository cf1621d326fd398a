//! The write-ahead log of consensus: every input that may lead to a signature, on disk before the signature
//! leaves.
//!
//! It holds one height. After a crash the same inputs lead the core to the same signatures; without it, a
//! member that crashed between two votes could contradict itself.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use alys_cluster::transport::codec::{self, CodecError};
use malachite_wal::Log;
use thiserror::Error;

use super::context::Statement;
use super::message::LogEntry;
use crate::storage::Disk;
use crate::storage::files::touch;

/// Bytes of the library's header: version and height. A file that is shorter was never written to.
const HEADER_BYTES: u64 = 4 + 8;

/// Why the log can not be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file could not be read or written.
    #[error("the consensus log {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An entry is whole but means nothing: the file was written by something else.
    #[error("the consensus log {path}, entry {entry}: {source}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry, from 0.
        entry: usize,
        /// Why.
        source: CodecError,
    },
    /// The log is of a height whose parent is not in the store.
    #[error("the consensus log {path} is of height {log}, but the chain ends below at height {head}")]
    Ahead {
        /// The file.
        path: PathBuf,
        /// The log's height.
        log: u64,
        /// The chain's height.
        head: u64,
    },
}

/// Remembers inputs.
pub trait MessageLog: Send {
    /// Adds an entry, which is not yet durable.
    fn append(&mut self, entry: &LogEntry) -> Result<(), LogError>;
    /// Makes everything added durable. Costs nothing if nothing was.
    fn flush(&mut self) -> Result<(), LogError>;
}

/// The log as a file.
#[derive(Debug)]
pub struct WriteAheadLog {
    path: PathBuf,
    log: Log,
    dirty: bool,
    disk: Option<Disk>,
}

impl WriteAheadLog {
    /// Opens and locks the log.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let log = touch(path).and_then(|()| clear_unfinished(path)).and_then(|()| Log::open(path));
        let log = log.map_err(|source| LogError::File { path: path.into(), source })?;
        Ok(Self { path: path.into(), log, dirty: false, disk: None })
    }

    /// The same, whose syncs `disk` measures.
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

    /// The entries of `height`, the one above the chain's head. A log of an earlier height is emptied: its
    /// block is in the store. An entry torn by a crash at the end is dropped, as it was never acted upon.
    pub fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError> {
        let found = self.log.sequence();
        if found > height {
            return Err(LogError::Ahead { path: self.path.clone(), log: found, head: height - 1 });
        }
        if found < height {
            self.restart(height)?;
            return Ok(Vec::new());
        }
        let (entries, is_torn) = self.read()?;
        if is_torn {
            self.log.truncate(entries.len() as u64).map_err(|e| self.error(e))?;
        }
        Ok(entries)
    }

    /// What the member at this place of genesis signed, of what it holds.
    pub fn statements_of(&mut self, own: usize) -> Result<Vec<Statement>, LogError> {
        let entries = self.read()?.0.into_iter();
        let statement = |entry| match entry {
            LogEntry::Message(message) => message.statement_of(own),
            _ => None,
        };
        Ok(entries.filter_map(statement).collect())
    }

    /// Whether it holds entries of `height` or above: what a start on a chain that ends below would replay.
    pub fn holds(&self, height: u64) -> bool {
        self.log.sequence() >= height && !self.log.is_empty()
    }

    /// The whole entries there are, of whatever height, and whether a torn one follows. Changes nothing.
    ///
    /// The size of a file can reach the disk before its bytes do, and zeros read as an entry without bytes,
    /// which is never written: such an entry is a torn one.
    pub fn read(&mut self) -> Result<(Vec<LogEntry>, bool), LogError> {
        let raw: io::Result<Vec<io::Result<Vec<u8>>>> = self.log.iter().map(Iterator::collect);
        let raw = raw.map_err(|e| self.error(e))?;
        let is_whole = |bytes: &&io::Result<Vec<u8>>| bytes.as_ref().is_ok_and(|bytes| !bytes.is_empty());
        let whole = raw.iter().take_while(is_whole).count();
        let is_torn = whole < raw.len();
        let decode = |(entry, bytes): (usize, Vec<u8>)| {
            let path = self.path.clone();
            codec::decode(&bytes).map_err(|source| LogError::Entry { path, entry, source })
        };
        let entries = raw.into_iter().take(whole).map_while(Result::ok).enumerate().map(decode);
        Ok((entries.collect::<Result<_, _>>()?, is_torn))
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

/// Empties a file that a killed process left with a part of its header: nothing was ever in it.
fn clear_unfinished(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if file.metadata()?.len() < HEADER_BYTES { file.set_len(0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use malachite_types::{Round, Timeout};

    fn entry(round: u32) -> LogEntry {
        LogEntry::Timeout(Timeout::propose(Round::new(round)))
    }

    #[test]
    fn a_process_that_is_killed_while_it_begins_a_log_starts_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path).expect("opens");
        log.begin(5).expect("begins");
        drop(log);
        let whole = std::fs::read(&path).expect("reads");
        for bytes in 0..HEADER_BYTES as usize {
            std::fs::write(&path, &whole[..bytes]).expect("writes");
            let mut log = WriteAheadLog::open(&path).unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
            assert_eq!(log.begin(5).expect("begins"), [], "{bytes} bytes");
        }
    }

    #[test]
    fn entries_of_the_height_come_back_and_those_of_a_lower_one_do_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("consensus.log");
        let mut log = WriteAheadLog::open(&path).expect("opens");
        assert_eq!(log.begin(5).expect("begins"), []);
        (0..3).for_each(|round| log.append(&entry(round)).expect("appends"));
        log.flush().expect("flushes");
        drop(log);
        let mut log = WriteAheadLog::open(&path).expect("opens again");
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
        let mut log = WriteAheadLog::open(&path).expect("opens");
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
            let mut log = WriteAheadLog::open(&path).expect("opens");
            assert_eq!(log.begin(1).expect("begins"), [entry(0)], "torn at {torn_at}");
            log.append(&entry(2)).and_then(|()| log.flush()).expect("appends");
            drop(log);
            let mut log = WriteAheadLog::open(&path).expect("opens");
            assert_eq!(log.begin(1).expect("begins"), [entry(0), entry(2)], "torn at {torn_at}");
        }
    }
}
