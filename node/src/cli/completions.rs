//! `alys-node completions` and `alys-node manual`: what shells and `man` are told of the command line.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Cli;

#[derive(Args)]
pub(crate) struct Completions {
    /// For which shell.
    shell: Shell,
}

/// Prints the script for a shell.
pub(crate) fn completions(command: &Completions) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "alys-node", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

#[derive(Args)]
pub(crate) struct Manual {
    /// The directory for the pages, one for each command; made if it is missing.
    #[arg(long)]
    out: PathBuf,
}

/// Writes the pages.
pub(crate) fn manual(command: &Manual) -> anyhow::Result<ExitCode> {
    let Manual { out } = command;
    fs::create_dir_all(out).with_context(|| format!("directory {}", out.display()))?;
    clap_mangen::generate_to(Cli::command(), out).with_context(|| format!("directory {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}
