//! Implements `alys-node backup`: copies the chain from a running member.
//!
//! A restored journal would miss the signatures made since the backup, so the copy gets a new journal: a restored
//! member does not know what it signed before and signs nothing where it may have signed already.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alys_node::config::NodeConfig;
use alys_node::consensus::guard::Journal;
use alys_node::consensus::{Block, BlockHash, Certificate, StateRoot};
use alys_node::genesis::Genesis;
use alys_node::keys::Signature;
use alys_node::ops::view::{BlockView, HeadView};
use alys_node::ports::{BlockStore as _, Observed, StoredBlock};
use alys_node::store::RedbStore;
use alys_node::top::Target;
use anyhow::{Context as _, bail, ensure};
use clap::Args;

use super::member::{get, reachable};
use crate::ConfigFile;

/// Source and destination of the copy.
#[derive(Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    file: ConfigFile,
    /// The member to copy from, such as `http://127.0.0.1:3001`; any member of the federation. Default: the
    /// configuration's own `ops.address`.
    #[arg(long, value_name = "URL")]
    from: Option<Target>,
    /// The directory of the copy. Created if missing; an earlier copy is updated.
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn run(command: &Backup) -> anyhow::Result<ExitCode> {
    let (config, genesis) = NodeConfig::load(&command.file.config, &command.file.overrides())?;
    let target = reachable(command.from.clone().unwrap_or_else(|| config.ops.address.into()));
    let out = command.out.display();
    std::fs::create_dir_all(&command.out).with_context(|| format!("directory {out}"))?;
    let _alone = alone_in(&command.out)?;
    let identity = genesis.identity_of(&config.identity.name).expect("a configuration that was loaded");
    let journal = command.out.join("signatures.journal");
    if !journal.exists() {
        Journal::create(&journal, identity).with_context(|| format!("{}", journal.display()))?;
    }
    // An older journal beside newer blocks would match them, and let the key sign twice.
    ensure!(
        Journal::is_new(&journal, identity)?,
        "{} remembers signatures; expected a directory that `backup` made, never a copy of a data directory",
        journal.display()
    );
    let mut store = RedbStore::open(&command.out.join("chain.redb"), genesis.hash())?;
    let first = store.head().height + 1;
    let head: HeadView = get(&target, "/chain/head")?;
    for height in first..=head.height {
        let path = format!("/chain/blocks/{height}");
        let stored = stored(&get(&target, &path)?, &genesis).with_context(|| format!("{target}{path}"))?;
        stored.certificate.verify(&genesis).with_context(|| format!("{target}{path}"))?;
        store.append(&stored)?;
    }
    let (height, more) = (store.head().height, (store.head().height + 1).saturating_sub(first));
    println!("{out} holds the chain up to height {height}, {more} blocks more than before");
    Ok(ExitCode::SUCCESS)
}

/// Locks the directory against other writers: a member that uses it as its data directory, or another backup, whose
/// temporary files have the same names.
fn alone_in(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.with_context(|| format!("file {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("directory {} is in use by another process", directory.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("file {}", path.display())),
    }
}

/// Converts a block from the API. Its hash must be the one that its certificate is for.
fn stored(view: &BlockView, genesis: &Genesis) -> anyhow::Result<StoredBlock> {
    let proposer = genesis.members().iter().position(|member| member.name.as_str() == view.proposer);
    let proposer = proposer.with_context(|| format!("the proposer {:?} is no member", view.proposer))?;
    let transactions = view.transactions.iter().map(hex::decode).collect::<Result<_, _>>();
    let block = Block {
        height: view.height,
        parent: BlockHash(bytes("parent", &view.parent)?),
        timestamp_ms: view.timestamp_ms,
        proposer: u8::try_from(proposer)?,
        state_root: StateRoot(bytes("state_root", &view.state_root)?),
        transactions: transactions.context("a transaction is no hexadecimal text")?,
    };
    let certificate = Certificate {
        height: view.height,
        round: view.certificate.round,
        block: BlockHash(bytes("certificate.block", &view.certificate.block)?),
        signers: view.certificate.bitmap,
        signature: Signature(bytes("certificate.signature", &view.certificate.signature)?),
    };
    let hash = block.hash();
    ensure!(hash == certificate.block, "the block is {hash}, its certificate is of {}", certificate.block);
    let BlockView { proposal_at_ms, decided_at_ms, adopted, .. } = *view;
    Ok(StoredBlock { block, certificate, observed: Observed { proposal_at_ms, decided_at_ms, adopted } })
}

fn bytes<const N: usize>(field: &str, text: &str) -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes)
        .with_context(|| format!("`{field}` is {text:?}; expected {N} bytes as hexadecimal"))?;
    Ok(bytes)
}
