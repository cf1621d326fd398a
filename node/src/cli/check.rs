//! Implements `alys-node config check`: checks whether `run` would start.

use std::process::ExitCode;

use alys_node::config::NodeConfig;
use alys_node::preflight::{self, Preflight};

use crate::{ConfigFile, otlp_settings};

pub(crate) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let (config, genesis) = NodeConfig::load(&file.config, &file.overrides())?;
    alys_node::logs::directives::filter(&config.log.level)
        .map_err(|error| anyhow::anyhow!("configuration field `log.level`: {error}"))?;
    otlp_settings()?;
    if let Some(strays) = crate::strays() {
        eprintln!("alys-node: {strays}");
    }
    let found = preflight::check(&config, &genesis)?;
    let note = match found {
        Preflight::Ready => "",
        Preflight::Running => ", when the process that uses its data directory now has ended",
    };
    println!("{} may start on chain {}{note}", config.identity.name, genesis.chain_id());
    Ok(ExitCode::SUCCESS)
}
