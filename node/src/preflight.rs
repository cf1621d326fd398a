//! Checks whether a member would start with a configuration. It performs the same checks as [`crate::Node::start`] but
//! creates nothing: no directory, journal or chain.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use alys_cluster::clock::SystemClock;
use thiserror::Error;

use crate::config::NodeConfig;
use crate::consensus::BlockHash;
use crate::consensus::guard::{self, Journal, JournalError, JournalMark};
use crate::consensus::log::{self, LogError};
use crate::genesis::Genesis;
use crate::ports::{BlockStore as _, StoreError};
use crate::store::RedbStore;
use crate::{Purpose, StartError, check_clock, check_key, check_token, has_room, incarnation, lock_data_dir};

/// Temporary file that shows whether the data directory is writable.
const PROBE: &str = "check.new";

/// Why the member would not start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The key, token, data directory or an address is not usable.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The block store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signer's journal is missing or damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The consensus log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Result of a successful check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// The member can start.
    Ready,
    /// The member is running already; its data and addresses were not checked.
    Running,
}

/// Checks the clock, key, token, data directory and addresses.
pub fn check(config: &NodeConfig, genesis: &Genesis) -> Result<Preflight, PreflightError> {
    check_clock(&SystemClock::default())?;
    check_key(config, genesis)?;
    check_token(config)?;
    if config.data_dir.exists() {
        if !config.data_dir.is_dir() {
            return Err(data_dir(config, io::ErrorKind::NotADirectory.into()).into());
        }
        has_room(&config.data_dir).map_err(|error| data_dir(config, error))?;
        writable(&config.data_dir).map_err(|error| data_dir(config, error))?;
        // Held until the data is checked; a starting member waits for this lock.
        let _lock = match lock_data_dir(config, Purpose::Look) {
            Err(StartError::InUse { .. }) => return Ok(Preflight::Running),
            locked => locked?,
        };
        check_data(config, genesis)?;
    } else {
        let begun = config.data_dir.ancestors().skip(1).find(|path| path.exists());
        let begun = begun.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        has_room(begun).map_err(|error| data_dir(config, error))?;
        writable(begun).map_err(|error| data_dir(config, error))?;
    }
    // Both listeners are held at the same time, because the two addresses may be equal.
    let _link = bind("link.listen", config.link.listen)?;
    let _ops = bind("ops.address", config.ops.address)?;
    Ok(Preflight::Ready)
}

fn data_dir(config: &NodeConfig, source: io::Error) -> StartError {
    StartError::DataDir { path: config.data_dir.clone(), source }
}

/// Creates and removes a file: permission bits alone do not reveal a read-only mount.
fn writable(directory: &Path) -> io::Result<()> {
    let probe = directory.join(PROBE);
    File::create(&probe)?;
    fs::remove_file(&probe)
}

/// Checks the files of a member that has run before.
fn check_data(config: &NodeConfig, genesis: &Genesis) -> Result<(), PreflightError> {
    incarnation::last(&config.data_dir).map_err(|error| data_dir(config, error))?;
    let (chain, journal) = (config.data_dir.join("chain.redb"), config.data_dir.join("signatures.journal"));
    let identity = genesis.identity_of(&config.identity.name).expect("a configuration that was loaded");
    let mark = JournalMark::default();
    // A dangling symbolic link counts as an existing store, and opening it fails.
    let height = if chain.symlink_metadata().is_ok() {
        RedbStore::open(&chain, genesis.hash())?.beside(identity, mark.clone())?.head().height
    } else {
        0
    };
    let log = config.data_dir.join("consensus.log");
    let log = log.exists().then(|| read_log(&log, identity)).transpose()?;
    if journal.exists() {
        // A journal that is only readable suffices for an audit, not for a member.
        let opened = OpenOptions::new().append(true).open(&journal);
        opened.map_err(|source| JournalError::File { path: journal.clone(), source })?;
        let (found, records) = Journal::read(&journal, identity)?;
        if found < mark.stored() {
            return Err(JournalError::Short { path: journal, found, stored: mark.stored() }.into());
        }
        if let (Some(log), Some(own)) = (log, genesis.index_of(&config.identity.name)) {
            for statement in log.statements_of(own) {
                guard::require(&journal, found, records.iter(), statement)?;
            }
        }
    } else if height > 0 {
        return Err(JournalError::Missing { path: journal, height }.into());
    }
    Ok(())
}

/// Opens the log for writing first, as a start does, then reads it.
fn read_log(path: &Path, identity: BlockHash) -> Result<log::Contents, LogError> {
    let opened = OpenOptions::new().write(true).open(path);
    opened.map_err(|source| LogError::File { path: path.into(), source })?;
    log::read(path, identity)
}

fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Listen { field, address, source })
}
