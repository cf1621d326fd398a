//! Implements `alys-node accept-memory-loss`: the operator confirms that a member may sign although its journal was
//! lost.

use std::process::ExitCode;

use alys_node::config::NodeConfig;
use alys_node::consensus::guard::{Journal, JournalMark};
use alys_node::genesis::Genesis;
use alys_node::ports::BlockStore as _;
use alys_node::store::RedbStore;

use anyhow::ensure;

use crate::{ConfigFile, exit};

/// Opens the journal of a stopped member; also returns the height of its chain.
pub(crate) fn journal(config: &NodeConfig, genesis: &Genesis) -> anyhow::Result<(Journal, u64)> {
    let identity = genesis.identity_of(&config.identity.name).expect("a configuration that was loaded");
    let mark = JournalMark::default();
    let of = |file| config.data_dir.join(file);
    // Fails if a running member holds the locks.
    let store = RedbStore::open(&of("chain.redb"), genesis.hash())?.beside(identity, mark.clone())?;
    let height = store.head().height;
    Ok((Journal::open(&of("signatures.journal"), identity, height, mark)?, height))
}

pub(crate) fn accept_loss(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let (config, genesis) = NodeConfig::load(&file.config, &file.overrides())?;
    let name = &config.identity.name;
    let (mut journal, height) = journal(&config, &genesis)?;
    if journal.floor().is_some_and(|floor| floor <= height) {
        println!("{name} remembers what it signed; there is nothing to accept");
        return Ok(ExitCode::from(exit::FAILED));
    }
    // Without a block, blocks fetched from peers later could contain signatures that were not accepted here.
    ensure!(
        height > 0,
        "{name} has no block: start it first, so that it fetches the chain, and stop it; while nobody has one, there is nothing \
         to accept"
    );
    // Signatures in the chain up to this height are accepted as known; later ones are not.
    journal.set_floor(height)?;
    println!("{name} signs from height {} on when it is started", height + 1);
    Ok(ExitCode::SUCCESS)
}
