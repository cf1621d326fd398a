//! Defines the command line: subcommands and options.

use std::path::PathBuf;
use std::time::Duration;

use alys_node::top::TopOptions;
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use federation_sim::scenario;

/// Starts a federation of `alys-node` processes on loopback, injects faults, and checks how it behaves.
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
        /// Name of a shipped scenario, or a path that ends in .toml.
        #[arg(default_value = scenario::DEFAULT)]
        scenario: String,
        #[command(flatten)]
        options: RunOptions,
    },
    /// Renders a report that `run --output json` wrote as an HTML page.
    Report {
        /// The JSON report to read.
        file: PathBuf,
        /// Output file: one self-contained HTML page. An existing file is overwritten.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Watches a running federation in the terminal, such as one that `run --keep-running` left running.
    Top {
        /// Directory given as `run --dir`, or created by `alys-node testnet init --out`.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        #[command(flatten)]
        options: TopOptions,
    },
    /// Lists, validates or prints scenarios.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// Kills the remaining members when standard input closes.
    #[command(name = federation_sim::guard::SUBCOMMAND, hide = true)]
    Guard,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScenarioCommand {
    /// Lists the shipped scenarios.
    List,
    /// Validates a scenario and lists its steps, without running it.
    Check {
        /// Name of a shipped scenario, or a path that ends in .toml.
        name: String,
    },
    /// Prints a scenario as TOML.
    Show {
        /// Name of a shipped scenario, or a path that ends in .toml.
        name: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunOptions {
    /// Seed of all randomness; chosen at random and printed if not given.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Leaves the federation running after the scenario, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep_running: bool,
    /// New or empty directory for all files of the members; kept after the run. Without it, a temporary directory is
    /// used and removed if the scenario passes.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Format of the report on standard output.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Also writes the report as one self-contained HTML page to FILE. An existing file is overwritten.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Time limit for the whole scenario, such as 5m; the scenario's own limit if not given.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Number of repetitions of every repeated block of steps; the scenario's own number if not given.
    #[arg(long, value_name = "N")]
    pub(crate) times: Option<usize>,
    /// Path of the alys-node executable; by default the one next to this executable, built first when run through
    /// cargo.
    #[arg(long, value_name = "FILE")]
    pub(crate) node_binary: Option<PathBuf>,
    /// Writes more detail to the members' logs.
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Prints only the report and errors.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// When to use colours; `NO_COLOR` is respected.
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}

impl RunOptions {
    /// Command line that reproduces this run.
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
