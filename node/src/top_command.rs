//! Implements `alys-node top`: shows a running federation in the terminal, or once as a table.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use alys_node::config::{NodeConfig, OPS_PORT};
use alys_node::top::{self, Target, TopOptions};
use clap::Args;

use crate::cli::member;

/// Number of members of a default `alys-node testnet init`.
const TESTNET: u16 = 4;

/// Members to watch, and display options.
#[derive(Args)]
pub(crate) struct Top {
    /// A member's ops address; repeat for each further member. Default: the members of a testnet on loopback.
    #[arg(long = "url", visible_alias = "ops", value_name = "URL", value_delimiter = ',')]
    urls: Vec<Target>,
    /// A member's configuration file, for its ops address; repeat for each further member.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    options: TopOptions,
}

pub(crate) fn run(top: Top) -> anyhow::Result<ExitCode> {
    let mut targets = top.urls;
    for file in &top.config {
        targets.push(member::reachable(NodeConfig::ops(file)?.address.into()));
    }
    if targets.is_empty() {
        let at = |n| Target::from(SocketAddr::from((Ipv4Addr::LOCALHOST, OPS_PORT + n)));
        targets.extend((0..TESTNET).map(at));
    }
    Ok(ExitCode::from(top::run(targets, top.options)?.code()))
}
