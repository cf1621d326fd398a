//! Implements the command line of a member:
//! `alys-node run | keys | config | testnet | audit | decisions | healthcheck | status | actors | top | shutdown | version`.

#[macro_use]
mod output;

mod actors_table;
mod certificates;
mod cli;
mod decisions_replay;
mod signals;
mod top_command;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::SystemClock;
use alys_cluster::federation::WISH_MAX;
use alys_cluster::shutdown::{ShutdownAnswer, ShutdownCoordinator, ShutdownOutcome, ShutdownState};
use alys_cluster::transport::LaterStart;
use alys_node::config::{NodeConfig, OPS_PORT, Overrides};
use alys_node::genesis::Genesis;
use alys_node::incarnation;
use alys_node::keys::SecretKey;
use alys_node::logs::LogControl;
use alys_node::ops::view::ReadyView;
use alys_node::otlp::{Exporter, OtlpError, OtlpSettings};
use alys_node::testnet::Testnet;
use alys_node::{Node, NodeEnvironment};
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::signals::Signals;

/// Exit codes, the same for all commands.
mod exit {
    /// The operation failed.
    pub(crate) const FAILED: u8 = 1;
    /// The member is not ready.
    pub(crate) const UNHEALTHY: u8 = 3;
    /// Configuration, files or ports are not usable.
    pub(crate) const SETUP: u8 = 4;
}

/// One member of an Alys federation.
#[derive(Parser)]
#[command(name = "alys-node", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the member until SIGTERM, SIGINT or SIGQUIT shuts it down; a second signal, at least a second later, stops it
    /// at once. A member without which the federation could not work refuses, says so, and shuts down if the signal is
    /// repeated after at least a second and within a minute. Other signals are ignored.
    Run(Run),
    /// Create and show keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Check and show the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create a testnet.
    #[command(subcommand)]
    Testnet(TestnetCommand),
    /// Check the data of a stopped member: its chain with certificates, and whether its signatures and its log agree
    /// with it. Exit code 1 if they do not.
    Audit(ConfigFile),
    /// Inspect the decisions of the gate on disk; the member may be stopped.
    #[command(subcommand)]
    Decisions(decisions_replay::Decisions),
    /// Ask a running member whether it is ready: exit code 0 if so, 3 if not.
    Healthcheck(cli::member::MemberArgs),
    /// Show a running member and its federation on one screen, or as JSON: exit code 0 if it is ready, 3 if not.
    Status(cli::status::Status),
    /// List the actors of a running member, or of its whole federation.
    Actors(actors_table::Actors),
    /// Watch a running federation: members, gates and why they are closed, blocks, events.
    Top(top_command::Top),
    /// Ask a running member to shut down, or what would happen: exit code 0 if it does, 1 if it refuses.
    Shutdown(cli::shutdown::Shutdown),
    /// Copy the chain from a running member, to restore a member from the copy: each block with its certificate, which
    /// is verified.
    Backup(cli::backup::Backup),
    /// Let a stopped member that lost its data directory sign from the next height on. Use only if nobody can exploit
    /// what the member signed before.
    AcceptMemoryLoss(ConfigFile),
    /// Print the completion script for a shell.
    Completions(cli::completions::Completions),
    /// Write manual pages, one per command.
    Manual(cli::completions::Manual),
    /// Print the version.
    Version,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, env = "ALYS_CONFIG_FILE")]
    config: PathBuf,
    /// Overrides `data_dir`.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Overrides `log.level`.
    #[arg(long)]
    log_level: Option<String>,
    /// Overrides `log.format`: auto, human or json.
    #[arg(long)]
    log_format: Option<String>,
}

impl ConfigFile {
    fn overrides(&self) -> Overrides {
        let log = [("level", &self.log_level), ("format", &self.log_format)];
        let log = log.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        Overrides { data_dir: self.data_dir.clone(), log: log.collect() }
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Exit at once when standard input is closed, which means that the parent process has ended.
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Subcommand)]
enum Keys {
    /// Write a new secret key (mode 0600, never over an existing file) and print its public part for the genesis.
    Generate {
        /// The new key file.
        #[arg(long)]
        out: PathBuf,
    },
    /// Print the public part of an existing key for the genesis.
    Show {
        /// The key file.
        #[arg(long)]
        key: PathBuf,
    },
    /// Create a certificate for links as the member would, and print it with its contents; its private key is
    /// discarded.
    Certificate(ConfigFile),
    /// Print which member a certificate belongs to, using only a genesis file. If the certificate is invalid, print why:
    /// exit code 1.
    InspectCertificate(certificates::Inspect),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check whether a member would start with the configuration, the genesis and the key.
    Check(ConfigFile),
    /// Print every value and where it comes from.
    Show(ConfigFile),
}

#[derive(Subcommand)]
enum TestnetCommand {
    /// Write keys, one genesis and a configuration for each member, each member into a directory of its own.
    Init(TestnetInit),
}

#[derive(Args)]
struct TestnetInit {
    /// The directory in which the members' directories `node-1`, `node-2` and so on are created.
    #[arg(long)]
    out: PathBuf,
    /// The number of members, 4 to 64.
    #[arg(long, default_value_t = 4)]
    members: usize,
    /// The chain id.
    #[arg(long, default_value = "alys-testnet")]
    chain_id: String,
    /// The time between blocks, 200ms to 60s.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    block_time: Duration,
    /// The first member's IPv4 address. On loopback all members share it and their ports count up; otherwise each
    /// member has the next address, all have the same ports, and their ops APIs are exposed.
    #[arg(long, default_value = "127.0.0.1")]
    first_address: std::net::Ipv4Addr,
    /// The link port; on loopback, that of the first member.
    #[arg(long, default_value_t = 4001)]
    link_port: u16,
    /// The port of the ops API; on loopback, that of the first member.
    #[arg(long, default_value_t = OPS_PORT)]
    ops_port: u16,
    /// Change the owner of all files to this user and group, such as 65532:65532.
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    owner: Option<(u32, u32)>,
    /// Keep an existing testnet.
    #[arg(long)]
    if_missing: bool,
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let parsed =
        text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    parsed.ok_or_else(|| "expected two numbers, such as 65532:65532".to_owned())
}

/// Interval and number of checks whether threads have ended.
const THREAD_LOOK: Duration = Duration::from_millis(1);
const THREAD_LOOKS: u32 = 1_000;
/// Interval of checks whether a shutdown has started.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Time for a forced stop after the shutdown's deadline.
const FORCED_END: Duration = Duration::from_millis(1_500);
/// Longest time for the last spans to reach the collector.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// Longest wait for a signal that arrived before signals were blocked.
const LAST_SIGNAL: Duration = Duration::from_millis(50);
/// Longest time for the last log lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Number of threads beyond the runtime's workers: the log's, and those for blocking work, mostly files.
const FURTHER_THREADS: usize = 5;

fn main() -> ExitCode {
    // A write beyond the file size limit then fails with an error that names the file.
    let _ = signals::hold_too_large();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return output::said(&said),
    };
    let outcome = match cli.command {
        Command::Run(run) => run_node(&run),
        Command::Keys(Keys::Generate { out }) => generate_key(&out),
        Command::Keys(Keys::Show { key }) => show_key(&key),
        Command::Keys(Keys::Certificate(file)) => certificates::make(&file),
        Command::Keys(Keys::InspectCertificate(command)) => certificates::inspect(&command),
        Command::Config(ConfigCommand::Check(file)) => cli::check::run(&file),
        Command::Config(ConfigCommand::Show(file)) => show_config(&file),
        Command::Testnet(TestnetCommand::Init(init)) => init_testnet(&init),
        Command::Audit(file) => run_audit(&file),
        Command::Backup(command) => cli::backup::run(&command),
        Command::AcceptMemoryLoss(file) => cli::memory::accept_loss(&file),
        Command::Decisions(command) => decisions_replay::run(&command),
        Command::Healthcheck(member) => healthcheck(&member),
        Command::Status(command) => cli::status::run(&command),
        Command::Actors(actors) => actors_table::list(&actors),
        Command::Top(top) => top_command::run(top),
        Command::Shutdown(command) => cli::shutdown::run(&command),
        Command::Completions(command) => Ok(cli::completions::completions(&command)),
        Command::Manual(command) => cli::completions::manual(&command),
        Command::Version => {
            println!("alys-node {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    output::ended(outcome.unwrap_or_else(|error| {
        eprintln!("alys-node: {}", in_one_sentence(&error));
        ExitCode::from(exit::SETUP)
    }))
}

/// Formats an error with its causes, leaving out causes whose text is already included.
fn in_one_sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.contains(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

fn run_node(run: &Run) -> anyhow::Result<ExitCode> {
    signals::hold().context("signals")?;
    let (config, genesis) = NodeConfig::load(&run.file.config, &run.file.overrides())?;
    alys_node::check_clock(&SystemClock::default())?;
    try_threads()?;
    let otlp = otlp_settings()?;
    // From here on only this thread takes signals that request a shutdown; until a thread takes them they stay pending.
    signals::hold_all().context("signals")?;
    let logs = alys_node::logs::init(&config.log, &config.identity.name, None)?;
    if let Some(strays) = strays() {
        tracing::warn!("{strays}");
    }
    if run.exit_with_parent {
        watch_parent();
    }
    let end = run_logged(config, genesis, otlp, logs.clone()).unwrap_or_else(|error| {
        logs.tell(&format!("alys-node: {}", in_one_sentence(&error)));
        End::With(ExitCode::from(exit::SETUP))
    });
    logs.flush(LAST_LINES);
    match end {
        End::With(code) => Ok(code),
        // The process executes itself again, so that a service manager does not see it end.
        End::Anew => {
            let own = std::env::current_exe().ok().filter(|own| own.exists());
            // Until the next run handles signals, they would end it or be lost.
            signals::hold_all().context("signals")?;
            // A binary that was replaced or removed runs on as it is.
            let own = own.unwrap_or_else(|| "/proc/self/exe".into());
            let error = std::process::Command::new(own).args(std::env::args_os().skip(1)).exec();
            // The journal and the incarnation are already written: a restart by the service manager has the same
            // effect.
            tracing::error!(%error, "the member can not begin anew in this process");
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

/// Fails early if the limit of threads is too low: the tokio runtime panics if it cannot create a thread.
fn try_threads() -> anyhow::Result<()> {
    let count = std::thread::available_parallelism().map_or(1, usize::from) + FURTHER_THREADS;
    let threads_now = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads_now();
    // All threads exist at the same time; they end when the channel's sender is dropped.
    let (held, waits) = std::sync::mpsc::sync_channel::<()>(0);
    let waits = Arc::new(std::sync::Mutex::new(waits));
    let mut threads = Vec::new();
    let outcome = (0..count).try_for_each(|_| {
        let waits = waits.clone();
        let wait = move || {
            let _ = waits.lock().map(|waits| waits.recv());
        };
        std::thread::Builder::new().spawn(wait).map(|thread| threads.push(thread))
    });
    drop(held);
    for thread in threads {
        drop(thread.join());
    }
    // The kernel counts an ended thread for a moment longer.
    for _ in 0..THREAD_LOOKS {
        if threads_now() <= before {
            break;
        }
        std::thread::sleep(THREAD_LOOK);
    }
    outcome.with_context(|| {
        format!("the system refuses a thread; expected room for {count} more (see `ulimit -u`, `TasksMax`, `pids.max`)")
    })
}

/// How a run ends.
enum End {
    /// The process exits with this code.
    With(ExitCode),
    /// The process starts the member again, with a later incarnation.
    Anew,
}

/// Runs a member whose process has a log. From here on nothing writes to standard error directly, as it may be a full
/// pipe.
fn run_logged(
    config: NodeConfig,
    genesis: Genesis,
    otlp: Option<OtlpSettings>,
    logs: LogControl,
) -> anyhow::Result<End> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            // A thread that does not block these signals would receive them too.
            let _ = signals::hold_all();
        })
        .build()
        .context("the runtime did not start")?;
    let code = runtime.block_on(async {
        let clock = Arc::new(SystemClock::default());
        let exporter = otlp.map(|settings| Exporter::start(&settings, &config.identity.name, clock.clone()));
        let tracing = exporter.as_ref().map(Exporter::tracing).unwrap_or_default();
        let environment = NodeEnvironment { tracing, logs: Some(logs) };
        let outcome = Box::pin(live(config, genesis, clock, environment)).await;
        // In every case: the last spans show why it ended.
        if let Some(exporter) = exporter {
            exporter.finish(LAST_SPANS).await;
        }
        outcome
    })?;
    // Tasks that do not yield cannot delay the exit.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(code)
}

/// Runs a member until it ends by itself or a signal stops it.
async fn live(
    config: NodeConfig,
    genesis: Genesis,
    clock: Arc<SystemClock>,
    environment: NodeEnvironment,
) -> anyhow::Result<End> {
    let mut signals = Signals::take()?;
    let logs = environment.logs.clone();
    // On a thread of its own: a start that blocks on a file or a disk must not delay the handling of signals.
    let runtime = tokio::runtime::Handle::current();
    let starting = tokio::task::spawn_blocking(move || {
        runtime.block_on(Node::start_with(config, genesis, clock, environment))
    });
    let mut node = tokio::select! {
        started = starting => started.context("the start did not end")??,
        // The federation does not count on a member that has not started, and its files are at worst as after a crash.
        signal = signals.next() => return Ok(End::With(not_started(signal))),
    };
    let name = node.context().roster.own().clone();
    tracing::info!(node = %name, incarnation = node.context().incarnation.0, "started");
    let leaving = node.shutdown().clone();
    watch_shutdown(&leaving, node.context().config.stop_deadline, logs);
    let (duplicates, own) = (node.context().duplicates.clone(), node.context().incarnation);
    let (config, genesis) = (node.context().config.clone(), node.context().genesis.clone());
    let mut has_ended = false;
    let outdated = loop {
        let answer = tokio::select! {
            // The tree ended by itself, or because of a shutdown that has not finished yet.
            reason = node.ended(), if !has_ended => {
                if leaving.progress().state == ShutdownState::Running {
                    tracing::error!(node = %name, reason, "ended");
                    return Ok(End::With(ExitCode::from(exit::FAILED)));
                }
                has_ended = true;
                continue;
            }
            known = duplicates.outdated(), if leaving.progress().state == ShutdownState::Running => {
                let LaterStart { incarnation, is_certain } = known;
                let memory = if is_certain {
                    "its data directory is an older copy, or new; it begins anew, later, and remembers nothing of what it signed"
                } else {
                    "fewer say so than may lie; it begins anew, later, and keeps its memory"
                };
                tracing::warn!(node = %name, %own, known = %incarnation, "peers know a later start of this member: {memory}");
                break Some(known);
            }
            _ = leaving.finished() => break None,
            signal = signals.next() => node.signalled(signal).await,
        };
        match answer {
            ShutdownAnswer::Begun => {
                let reason = leaving.progress().reason;
                tracing::info!(node = %name, reason, "stopping");
            }
            ShutdownAnswer::Refused(refusal) => {
                let advice =
                    format!("the signal again, a second later, insists; else it asks on for {WISH_MAX:?}");
                tracing::warn!(node = %name, "not stopping: {refusal}; {advice}");
                tell_terminal(format!("alys-node: {name} is not stopping: {refusal}; {advice}"));
            }
            ShutdownAnswer::Runs(reason) => tracing::info!(node = %name, reason, "stopping already"),
            ShutdownAnswer::Forced(reason) => tracing::warn!(node = %name, reason, "stopping at once"),
        }
    };
    if let Some(known) = outdated {
        let mut told = None;
        let mut stopping = pin!(node.stop());
        loop {
            tokio::select! {
                _ = &mut stopping => break,
                signal = signals.next() => told = Some(signal),
            }
        }
        // First the journal, then the incarnation: after a crash in between, peers refuse this incarnation again.
        if known.is_certain {
            cli::memory::journal(&config, &genesis)?.0.forget(0)?;
        }
        incarnation::raise(&config.data_dir, known.incarnation).context("the file of the incarnation")?;
        // Signals from here on are pending for the next run.
        signals::hold_all().context("signals")?;
        let told = match told {
            None => tokio::time::timeout(LAST_SIGNAL, signals.next()).await.ok(),
            told => told,
        };
        if let Some(signal) = told {
            tracing::info!(node = %name, signal, "stopped, and does not begin anew");
            return Ok(End::With(ExitCode::SUCCESS));
        }
        return Ok(End::Anew);
    }
    // Waits for responses in progress, unless another signal arrives.
    let outcome = leaving.finished().await;
    tokio::select! {
        _ = node.left() => {}
        _ = signals.next() => {}
    }
    let in_time = outcome == ShutdownOutcome::Graceful;
    tracing::info!(node = %name, in_time, "stopped");
    Ok(End::With(if in_time { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) }))
}

/// Warning about variables that look like configuration but are not; `None` without any.
pub(crate) fn strays() -> Option<String> {
    let strays = alys_node::environment::strays(std::env::vars_os());
    (!strays.is_empty()).then(|| {
        format!(
            "no configuration in the environment: {}; expected ALYS_<SECTION>__<FIELD>",
            strays.join(", ")
        )
    })
}

/// Reads the OTLP settings from the environment. A value that is not UTF-8 is reported as an invalid endpoint.
fn otlp_settings() -> Result<Option<OtlpSettings>, OtlpError> {
    OtlpSettings::read(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
}

/// Prints a line to the terminal if the log goes elsewhere, for an operator who pressed a key. Runs on a thread,
/// because a terminal may be paused.
fn tell_terminal(line: String) {
    if std::io::stdout().is_terminal() && !std::io::stderr().is_terminal() {
        std::thread::spawn(move || writeln!(std::io::stdout(), "{line}"));
    }
}

fn not_started(signal: &str) -> ExitCode {
    tracing::info!(reason = signal, "told to stop before the start was over");
    ExitCode::SUCCESS
}

/// Ends the process when a shutdown exceeds its deadline. Runs on its own thread, so that a blocked runtime cannot
/// delay it.
fn watch_shutdown(shutdown: &ShutdownCoordinator, deadline: Duration, logs: Option<LogControl>) {
    let shutdown = shutdown.clone();
    std::thread::spawn(move || {
        while shutdown.progress().state == ShutdownState::Running {
            std::thread::sleep(WATCH_EVERY);
        }
        std::thread::sleep(deadline + FORCED_END);
        if let Some(logs) = logs {
            logs.tell(&format!("alys-node: the shutdown did not end within {deadline:?}"));
            logs.flush(LAST_LINES);
        }
        std::process::exit(i32::from(exit::FAILED));
    });
}

/// Ends the process when standard input closes. Runs on its own thread, so that it works even if the runtime is
/// blocked.
fn watch_parent() {
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while std::io::stdin().read(&mut sink).is_ok_and(|n| n > 0) {}
        std::process::exit(i32::from(exit::FAILED));
    });
}

fn print_public(key: &SecretKey) {
    println!("public_key = \"{}\"", key.public_key());
    println!("proof_of_possession = \"{}\"", key.prove_possession());
}

fn generate_key(out: &Path) -> anyhow::Result<ExitCode> {
    let key = SecretKey::generate();
    key.write(out)?;
    print_public(&key);
    Ok(ExitCode::SUCCESS)
}

fn show_key(path: &Path) -> anyhow::Result<ExitCode> {
    print_public(&SecretKey::read(path)?);
    Ok(ExitCode::SUCCESS)
}

fn show_config(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let rows = NodeConfig::sources(&file.config, &file.overrides())?;
    let width = rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
    for (key, value, source) in rows {
        println!("{key:width$} = {value}  # {source}");
    }
    Ok(ExitCode::SUCCESS)
}

fn init_testnet(init: &TestnetInit) -> anyhow::Result<ExitCode> {
    let testnet = Testnet {
        members: init.members,
        chain_id: init.chain_id.clone(),
        block_time: init.block_time,
        first_address: init.first_address,
        link_port: init.link_port,
        ops_port: init.ops_port,
        owner: init.owner,
    };
    let written = if init.if_missing {
        testnet.write_if_missing(&init.out)?
    } else {
        testnet.write(&init.out)?;
        true
    };
    let what = if written { "written" } else { "kept" };
    println!("{} members of {} {what} in {}", init.members, init.chain_id, init.out.display());
    Ok(ExitCode::SUCCESS)
}

fn run_audit(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let (config, genesis) = NodeConfig::load(&file.config, &file.overrides())?;
    let own = genesis.index_of(&config.identity.name).expect("the configuration was checked");
    let audit = alys_node::audit::audit(&config.data_dir, &genesis, own)?;
    println!(
        "{} blocks, {} signatures, {} own messages in the log",
        audit.blocks, audit.statements, audit.logged
    );
    for finding in &audit.findings {
        println!("{finding}");
    }
    Ok(if audit.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn healthcheck(member: &cli::member::MemberArgs) -> anyhow::Result<ExitCode> {
    let target = member.target()?;
    let answer = cli::member::agent(cli::member::REQUEST).get(target.url("/readyz")).call();
    let ready = answer.and_then(|mut answer| answer.body_mut().read_json::<ReadyView>());
    Ok(match ready {
        Ok(ReadyView { ready: true, .. }) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Ok(ReadyView { reasons, .. }) => {
            println!("not ready: {}", alys_node::top::clean(&reasons.join("; ")));
            ExitCode::from(exit::UNHEALTHY)
        }
        Err(error) => {
            eprintln!("alys-node: {target} does not answer: {error}");
            ExitCode::from(exit::UNHEALTHY)
        }
    })
}
