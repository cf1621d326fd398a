//! Whether what a stopped member has on disk agrees with itself: its chain, its consensus log, and everything
//! its key ever signed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::consensus::BlockHash;
use crate::consensus::context::Statement;
use crate::consensus::guard::{self, Journal, JournalError, JournalMark};
use crate::consensus::log::{LogError, WriteAheadLog};
use crate::genesis::Genesis;
use crate::ports::{BlockStore as _, StoreError};
use crate::storage::files::PrivateDirectory;
use crate::store::RedbStore;

/// What is audited.
const FILES: [&str; 3] = ["chain.redb", "signatures.journal", "consensus.log"];

/// What was looked at, and what does not agree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Blocks whose parent and certificate were checked.
    pub blocks: u64,
    /// Signed statements in the journal.
    pub statements: usize,
    /// Own signed messages in the consensus log.
    pub logged: usize,
    /// Every disagreement, as a sentence.
    pub findings: Vec<String>,
}

/// Why an audit could not be made. A running member holds its files locked.
#[derive(Debug, Error)]
pub enum AuditError {
    /// One of the files is not there: not a member's data directory, or an incomplete one.
    #[error("{path} is missing; expected the data directory of a member that has run")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The consensus log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The block store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A directory that may not be written could not be copied.
    #[error("it may not be written, and could not be copied to a temporary directory: {0}")]
    Copy(#[source] io::Error),
}

impl AuditError {
    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Log(LogError::File { source, .. }) | Self::Store(StoreError::Io(source)) => Some(source),
            _ => None,
        }
    }
}

/// Audits the data directory of the member at place `own` of genesis. The chain's database and the consensus log are
/// libraries', which open them for writing, and mend what a kill has left: one that may not be written is audited as a copy.
pub fn audit(data_dir: &Path, genesis: &Genesis, own: usize) -> Result<Audit, AuditError> {
    let outcome = look(data_dir, genesis, own);
    let is_read_only = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
    };
    if !outcome.as_ref().err().and_then(AuditError::io).is_some_and(is_read_only) {
        return outcome;
    }
    let copy = PrivateDirectory::new().map_err(AuditError::Copy)?;
    for file in FILES {
        std::fs::copy(data_dir.join(file), copy.0.join(file)).map_err(AuditError::Copy)?;
        // The copy takes the mode along.
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(copy.0.join(file), mode).map_err(AuditError::Copy)?;
    }
    look(&copy.0, genesis, own)
}

fn look(data_dir: &Path, genesis: &Genesis, own: usize) -> Result<Audit, AuditError> {
    let identity = guard::identity(genesis.hash(), &genesis.members()[own].public_key);
    let mark = JournalMark::default();
    let mut audit = Audit::default();
    for file in FILES {
        let path = data_dir.join(file);
        if !path.is_file() {
            return Err(AuditError::Missing { path });
        }
    }
    let store =
        RedbStore::open(&data_dir.join("chain.redb"), genesis.hash())?.beside(identity, mark.clone())?;
    let head = store.head();
    let mut parent = BlockHash(genesis.hash());
    for height in 1..=head.height {
        audit.blocks += 1;
        let Some(stored) = store.block(height)? else {
            audit.findings.push(format!("block {height} is missing below the head {}", head.height));
            break;
        };
        if stored.block.parent != parent {
            audit
                .findings
                .push(format!("block {height} has parent {}; expected {parent}", stored.block.parent));
        }
        parent = stored.block.hash();
        if stored.certificate.block != parent {
            audit
                .findings
                .push(format!("the certificate of block {height} is of {}", stored.certificate.block));
        } else if let Err(error) = stored.certificate.verify(genesis) {
            audit.findings.push(format!("block {height}: {error}"));
        }
    }
    let mut signed = BTreeMap::new();
    let (told, records) = Journal::read(&data_dir.join("signatures.journal"), identity)?;
    if let Some(below) = guard::missing_blocks(records.last(), head.height) {
        audit.findings.push(below);
    }
    if told < mark.stored() {
        let stored = mark.stored();
        audit.findings.push(format!("the journal tells of {told} signatures, but the chain of {stored}"));
    }
    for record in records {
        audit.statements += 1;
        let statement = record.statement;
        let earlier = *signed.entry(key(&statement)).or_insert(statement);
        if earlier != statement {
            audit.findings.push(format!("signed twice: {earlier:?} and {statement:?}"));
        }
    }
    for statement in WriteAheadLog::open(&data_dir.join("consensus.log"))?.statements_of(own)? {
        audit.logged += 1;
        if signed.get(&key(&statement)) != Some(&statement) {
            audit.findings.push(format!("in the log but not in the journal: {statement:?}"));
        }
    }
    Ok(audit)
}

fn key(statement: &Statement) -> (u64, u32, u8) {
    (statement.height, statement.round, statement.step as u8)
}
