//! Audits the data of a stopped member: checks that its chain, its consensus log, and all signatures by its key agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::consensus::BlockHash;
use crate::consensus::context::Statement;
use crate::consensus::guard::{self, Journal, JournalError, JournalMark};
use crate::consensus::log::{self, LogError};
use crate::genesis::Genesis;
use crate::ports::{BlockStore as _, StoreError};
use crate::store::RedbStore;
use crate::{incarnation, is_in_use};

/// Audited files.
const FILES: [&str; 3] = ["chain.redb", "signatures.journal", "consensus.log"];

/// Result of an audit: what was checked, and every disagreement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Number of blocks whose parent and certificate were checked.
    pub blocks: u64,
    /// Number of signed statements in the journal.
    pub statements: usize,
    /// Number of the member's own signed messages in the consensus log.
    pub logged: usize,
    /// All disagreements, one sentence each.
    pub findings: Vec<String>,
}

/// Why an audit was not possible.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A file is missing: this is not a member's data directory, or it is incomplete.
    #[error("{path} is missing; expected the data directory of a member that has run")]
    Missing {
        /// Path of the file.
        path: PathBuf,
    },
    /// A process uses the directory.
    #[error("data directory {path} is in use by a process; stop the member first")]
    InUse {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A process started to use the directory during the audit; its findings are void.
    #[error(
        "data directory {path} came into use during the audit, which says nothing then; stop the member, and repeat it"
    )]
    Started {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The signer's journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The consensus log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The block store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Audits the data directory of the member with index `own` in genesis. The audit locks and changes nothing: a member
/// can start meanwhile, which makes the audit void.
pub fn audit(data_dir: &Path, genesis: &Genesis, own: usize) -> Result<Audit, AuditError> {
    let last_start = || incarnation::last(data_dir).ok();
    let path = || data_dir.to_owned();
    let before = last_start();
    if is_in_use(data_dir) {
        return Err(AuditError::InUse { path: path() });
    }
    let outcome = look(data_dir, genesis, own);
    if is_in_use(data_dir) || last_start() != before {
        return Err(AuditError::Started { path: path() });
    }
    outcome
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
    let chain = data_dir.join("chain.redb");
    let mut store = RedbStore::look(&chain, genesis.hash())?.beside(identity, mark.clone())?;
    let head = store.head();
    match store.is_whole() {
        Ok(true) => {}
        Ok(false) => audit.findings.push(format!("{} is damaged: pages are not as written", chain.display())),
        Err(error) => audit.findings.push(format!("{}: {error}", chain.display())),
    }
    let mut parent = BlockHash(genesis.hash());
    for height in 1..=head.height {
        audit.blocks += 1;
        let stored = match store.block(height) {
            Ok(Some(stored)) => stored,
            found => {
                let why = found.err().map_or("it is missing".to_owned(), |error| error.to_string());
                audit.findings.push(format!("block {height} of {}: {why}", head.height));
                break;
            }
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
    let path = data_dir.join("consensus.log");
    let log = log::read(&path, identity)?;
    if let Some(at) = log.damaged_at {
        audit.findings.push(format!(
            "{} is damaged at byte {at}, and not only torn at its end; what follows is lost",
            path.display()
        ));
    }
    for statement in log.statements_of(own) {
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
