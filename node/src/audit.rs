//! Whether what a stopped member has on disk agrees with itself: its chain, its consensus log, and everything
//! its key ever signed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::consensus::BlockHash;
use crate::consensus::context::Statement;
use crate::consensus::guard::{self, Journal, JournalError, JournalMark};
use crate::consensus::log::{LogError, WriteAheadLog};
use crate::genesis::Genesis;
use crate::ports::{BlockStore as _, StoreError};
use crate::store::RedbStore;

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
}

/// Audits the data directory of the member at place `own` of genesis.
pub fn audit(data_dir: &Path, genesis: &Genesis, own: usize) -> Result<Audit, AuditError> {
    let identity = guard::identity(genesis.hash(), &genesis.members()[own].public_key);
    let mark = JournalMark::default();
    let mut audit = Audit::default();
    for file in ["chain.redb", "signatures.journal", "consensus.log"] {
        let path = data_dir.join(file);
        if !path.is_file() {
            return Err(AuditError::Missing { path });
        }
    }
    let store = open_chain(&data_dir.join("chain.redb"), genesis.hash())?.beside(identity, mark.clone())?;
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
    for statement in logged(&data_dir.join("consensus.log"), own)? {
        audit.logged += 1;
        if signed.get(&key(&statement)) != Some(&statement) {
            audit.findings.push(format!("in the log but not in the journal: {statement:?}"));
        }
    }
    Ok(audit)
}

/// Whether a file can be read and not written.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

fn open_chain(path: &Path, genesis: [u8; 32]) -> Result<RedbStore, StoreError> {
    match RedbStore::open(path, genesis) {
        Err(StoreError::Io(error)) if is_read_only(&error) => RedbStore::open_read_only(path, genesis),
        opened => opened,
    }
}

/// What the member at place `own` signed, of what the consensus log holds. The log is a library's, which opens it for writing:
/// one that may not be written is read from a copy.
fn logged(path: &Path, own: usize) -> Result<Vec<Statement>, LogError> {
    match WriteAheadLog::open(path) {
        Err(LogError::File { source, .. }) if is_read_only(&source) => {}
        opened => return opened?.statements_of(own),
    }
    let copy = std::env::temp_dir().join(format!("alys-audit-{}.log", std::process::id()));
    let failed = |source| LogError::File { path: path.into(), source };
    let copied = std::fs::read(path).and_then(|bytes| std::fs::write(&copy, bytes)).map_err(failed);
    let statements = copied.and_then(|()| WriteAheadLog::open(&copy)?.statements_of(own));
    let _ = std::fs::remove_file(&copy);
    statements
}

fn key(statement: &Statement) -> (u64, u32, u8) {
    (statement.height, statement.round, statement.step as u8)
}
