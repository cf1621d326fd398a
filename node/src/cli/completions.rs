//! Implements `alys-node completions` and `alys-node manual`: generates shell completions and manual pages.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Cli;

#[derive(Args)]
pub(crate) struct Completions {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the completion script for a shell.
pub(crate) fn completions(command: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "alys-node", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

#[derive(Args)]
pub(crate) struct Manual {
    /// The directory for the pages, one per command; created if missing.
    #[arg(long)]
    out: PathBuf,
}

/// Writes the manual pages.
pub(crate) fn manual(command: &Manual) -> anyhow::Result<ExitCode> {
    let Manual { out } = command;
    fs::create_dir_all(out).with_context(|| format!("directory {}", out.display()))?;
    clap_mangen::generate_to(Cli::command(), out).with_context(|| format!("directory {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}
