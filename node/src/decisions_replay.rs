//! Implements `alys-node decisions`: replays the gate decisions in a member's data directory.

use std::path::PathBuf;
use std::process::ExitCode;

use alys_node::config::{NodeConfig, Overrides};
use alys_node::decisions::{DecisionFile, Replay};
use anyhow::Context as _;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum Decisions {
    /// Replay every decision in the data directory from its inputs. Exit code 1 if an outcome differs or a decision is
    /// missing; a last line that a killed process left unfinished does not count.
    Replay(Where),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Where {
    /// The configuration file, for its `data_dir`.
    #[arg(long, env = "ALYS_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// The data directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(command: &Decisions) -> anyhow::Result<ExitCode> {
    let Decisions::Replay(Where { config, data_dir }) = command;
    let dir = match (data_dir, config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(config)) => NodeConfig::load(config, &Overrides::default())?.0.data_dir,
        (None, None) => unreachable!("one of them is required"),
    };
    let replay = DecisionFile::replay(&dir).with_context(|| format!("data directory {}", dir.display()))?;
    let Replay { decisions, incarnations, dropped, is_torn, ref findings, .. } = replay;
    println!(
        "{decisions} decisions of {incarnations} starts, taken again with the same bytes; {dropped} never written"
    );
    if is_torn {
        println!("the last line is unfinished");
    }
    for finding in findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(crate::exit::FAILED) })
}
