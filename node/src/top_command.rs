//! `alys-node top`: a running federation in the terminal, or once as a table.

use std::process::ExitCode;

use alys_node::top::{self, Target, TopOptions};
use clap::Args;

/// Where the members of `alys-node testnet init` answer.
const TESTNET: [&str; 4] =
    ["http://127.0.0.1:3001", "http://127.0.0.1:3002", "http://127.0.0.1:3003", "http://127.0.0.1:3004"];

/// Whom to watch, and how.
#[derive(Args)]
pub(crate) struct Top {
    /// A member's ops address; again for each further one. By default those of a testnet on loopback.
    #[arg(
        long = "url",
        value_name = "URL",
        value_delimiter = ',',
        default_values = TESTNET
    )]
    urls: Vec<Target>,
    #[command(flatten)]
    options: TopOptions,
}

pub(crate) fn run(top: Top) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::from(top::run(top.urls, top.options)?.code()))
}
