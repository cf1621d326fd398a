//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use alys_node::top::TopOptions;
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use federation_sim::scenario;

/// Brings up a federation of four members, hurts it, and judges what it does.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = false, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit codes: 0 passed; 1 failed; 2 usage; 3 (top --once) halted; 4 could not be set up; 130, 143 on signals."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a scenario.
    Run {
        /// A shipped scenario, or a file that ends in .toml.
        #[arg(default_value = scenario::DEFAULT)]
        scenario: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Makes the page of a report that `run --output json` wrote.
    Report {
        /// The report.
        file: PathBuf,
        /// The page: one HTML file that needs nothing besides itself. One that is there is written over.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Watches a running federation in the terminal, such as one that `run --keep-running` left.
    Top {
        /// The directory that was given as `run --dir`, or that `alys-node testnet init --out` made.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        options: TopOptions,
    },
    /// Looks at scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Kills who is left when standard input ends.
    #[command(name = federation_sim::guard::SUBCOMMAND, hide = true)]
    Guard,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScenarioCommand {
    /// Lists the shipped scenarios.
    List,
    /// Says whether a scenario makes sense, and what it does; runs nothing.
    Check {
        /// A shipped scenario, or a file that ends in .toml.
        name: String,
    },
    /// Shows a scenario as TOML.
    Show {
        /// A shipped scenario, or a file that ends in .toml.
        name: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// Where all chance comes from; random and printed if not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Leaves the federation running after the scenario, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep_running: bool,
    /// A new or empty directory for everything the members have, kept afterwards. Without it, a temporary one
    /// that is removed if the scenario passes.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// How the report is written to standard output.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Also writes the report as one HTML page that needs nothing besides itself. A file that is there is written over.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How long the scenario may take, such as 5m; the scenario's own limit if not given.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// How often what the scenario repeats is repeated; as often as the scenario says if not given.
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<usize>,
    /// The executable alys-node; by default the one beside this one, built first when run through cargo.
    #[arg(long, value_name = "FILE")]
    pub(crate) node_binary: Option<PathBuf>,
    /// More in the members' logs.
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Nothing but the report, and what went wrong.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// When to use colours; `NO_COLOR` is respected.
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl RunOptions {
    /// The command that repeats a run.
    pub(crate) fn repeat(&self, scenario: &str, seed: u64) -> String {
        let program = if std::env::var_os("CARGO").is_some() {
            "cargo run --release -p federation-sim --".to_owned()
        } else {
            std::env::args().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned())
        };
        let timeout =
            self.timeout.map(|timeout| format!(" --timeout '{}'", humantime::format_duration(timeout)));
        let times = self.times.map(|times| format!(" --times {times}"));
        let binary = self.node_binary.as_ref().map(|binary| format!(" --node-binary {}", binary.display()));
        let options = timeout.into_iter().chain(times).chain(binary).collect::<String>();
        format!("{program} run {scenario} --seed {seed}{options}")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_need_no_subcommand() {
        let cli = Cli::try_parse_from(["federation-sim", "--seed", "7", "-q"]).expect("accepted");
        assert!(cli.command.is_none() && cli.options.quiet);
        assert_eq!(cli.options.seed, Some(7));
    }
}
