//! `federation-sim`: parses the arguments, runs the command, and prints the report.

mod args;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use alys_node::top::{self, TopOptions};
use clap::{ColorChoice, Parser as _};
use federation_sim::live::{Progress, Style};
use federation_sim::loopback::{Loopback, Options};
use federation_sim::page_file::{PageFile, Unwritable};
use federation_sim::report::Report;
use federation_sim::scenario::{self, Scenario};
use federation_sim::{SetupError, binary, discover, guard, now_ms, page, runner};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::{Cli, Command, Output, RunOptions, ScenarioCommand};

/// Exit code: a step failed, or an invariant did not hold.
const FAILED: u8 = 1;
/// Exit code: the command line or the scenario is wrong.
const USAGE: u8 = 2;
/// Exit code: the federation could not be set up.
const SETUP: u8 = 4;
/// Time that members get to stop at the end of a run.
const STOP: Duration = Duration::from_secs(10);
/// Time that pending blocking requests get to finish before the process exits.
const LINGER: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Guard) => {
            guard::stand(std::io::stdin().lock());
            ExitCode::SUCCESS
        }
        Some(Command::Scenario(ScenarioCommand::List)) => list(),
        Some(Command::Scenario(ScenarioCommand::Check { name })) => check(&name),
        Some(Command::Scenario(ScenarioCommand::Show { name })) => show(&name),
        Some(Command::Report { file, output }) => make_page(&file, &output),
        Some(Command::Top { directory, options }) => watch(&directory, options),
        Some(Command::Run { scenario, options }) => start(&scenario, &options),
        None => start(scenario::DEFAULT, &cli.options),
    }
}

fn list() -> ExitCode {
    for name in scenario::names() {
        match Scenario::load(name) {
            Ok(scenario) => print(&format!("{name:<16} {}\n", scenario.about)),
            Err(error) => return complain(USAGE, &error),
        }
    }
    ExitCode::SUCCESS
}

/// Validates a scenario as `run` does, and prints its steps.
fn check(name: &str) -> ExitCode {
    match Scenario::load(name) {
        Ok(scenario) => {
            let mut text = format!("{scenario}\n");
            for (number, step) in (1..).zip(&scenario.steps) {
                text = format!("{text}{number:>4}  {step}\n");
            }
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => complain(USAGE, &error),
    }
}

fn show(name: &str) -> ExitCode {
    match scenario::text_of(name) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => complain(USAGE, &error),
    }
}

/// Renders the HTML page of a saved report.
fn make_page(file: &Path, output: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return complain(SETUP, &format!("report {}: {error}", file.display())),
    };
    let report = match Report::from_json(&text) {
        Ok(report) => report,
        Err(error) => return complain(USAGE, &format!("{} {error}", file.display())),
    };
    match PageFile::open(output).and_then(|page_file| page_file.write(&page::page(&report))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(SETUP, &error),
    }
}

/// Watches the federation in `directory`.
fn watch(directory: &Path, options: TopOptions) -> ExitCode {
    let members = match discover::members(directory) {
        Ok(members) => members,
        Err(error) => return complain(SETUP, &error),
    };
    match top::run(members, options) {
        Ok(end) => ExitCode::from(end.code()),
        Err(error) => complain(SETUP, &error),
    }
}

fn start(name: &str, options: &RunOptions) -> ExitCode {
    // 16 bits, so that the seed is short enough to read aloud.
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u16>()));
    let mut scenario = match Scenario::load_with(name, seed, options.times) {
        Ok(scenario) => scenario,
        Err(error) => return complain(USAGE, &error),
    };
    scenario.timeout = options.timeout.unwrap_or(scenario.timeout);
    if options.keep_running {
        scenario.leave_running();
    }
    let binary = match binary::locate(options.node_binary.as_deref(), options.quiet) {
        Ok(binary) => binary,
        Err(error) => return complain(SETUP, &error),
    };
    let page_file = match options.report.as_deref().map(PageFile::open).transpose() {
        Ok(page_file) => page_file,
        Err(error) => return complain(SETUP, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(SETUP, &error),
    };
    let code = runtime.block_on(async {
        let mut interrupts = match Interrupts::listen() {
            Ok(interrupts) => interrupts,
            Err(error) => return complain(SETUP, &error),
        };
        let directory = directory(options, &scenario, seed);
        let run = Run { name, scenario: &scenario, seed, options, binary, directory: &directory, page_file };
        let told = tokio::select! {
            told = run.tell() => told,
            code = interrupts.next() => Err(interrupted(code, &directory)),
        };
        match told {
            Ok((federation, code)) if options.keep_running => {
                keep_running(federation, &directory, &mut interrupts).await;
                code
            }
            Ok((_, code)) | Err(code) => code,
        }
    });
    runtime.shutdown_timeout(LINGER);
    code
}

/// One run of one scenario.
struct Run<'a> {
    name: &'a str,
    scenario: &'a Scenario,
    seed: u64,
    options: &'a RunOptions,
    binary: PathBuf,
    directory: &'a Path,
    /// File that receives the HTML page, if one was requested.
    page_file: Option<PageFile>,
}

impl Run<'_> {
    /// Sets up the federation, runs the scenario, stops the members unless they must keep running, and reports.
    ///
    /// If this future is dropped midway, it drops the federation, which kills its members.
    async fn tell(mut self) -> Result<(Loopback, ExitCode), ExitCode> {
        let options = self.options;
        let colour = |terminal: bool| match options.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        let on_terminal = std::io::stderr().is_terminal();
        let style = match (options.quiet, on_terminal && options.output == Output::Table) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Live,
            (false, false) => Style::Plain,
        };
        let mut progress = Progress::new(style, colour(on_terminal));
        progress.say(&self.scenario.to_string());
        progress.say(&format!("seed {}, in {}", self.seed, self.directory.display()));

        let mut federation = match self.set_up().await {
            Ok(federation) => federation,
            Err(error) => {
                eprintln!("the members' logs are in {}", self.directory.display());
                return Err(complain(SETUP, &error));
            }
        };
        let outcome = runner::run(self.scenario, self.seed, &mut federation, &mut progress).await;
        let ended_ms = now_ms();
        if !options.keep_running {
            federation.stop(STOP).await;
        }
        let report = Report::of(self.scenario, self.seed, &outcome, ended_ms);
        self.write(&report);
        match options.output {
            Output::Table => print(&report.to_table(colour(std::io::stdout().is_terminal()))),
            Output::Json => print(&(report.to_json() + "\n")),
        }
        if !report.passed {
            eprintln!("\n{}", report.complaint());
            eprintln!("logs      {}", self.directory.display());
            eprintln!("repeat    {}", options.repeat(self.name, self.seed));
        }
        let paged = self.page_file.take().map_or(Ok(()), |page_file| page_file.write(&page::page(&report)));
        if report.passed && options.dir.is_none() && !options.keep_running {
            // Failing to remove a temporary directory is harmless.
            let _ = std::fs::remove_dir_all(self.directory);
        }
        Ok((federation, exit_code(&report, paged)))
    }

    async fn set_up(&self) -> Result<Loopback, SetupError> {
        let options = Options {
            directory: self.directory.to_owned(),
            binary: self.binary.clone(),
            guard: std::env::current_exe().ok(),
            log_level: if self.options.verbose { "debug" } else { "info" }.to_owned(),
            environment: Vec::new(),
        };
        Loopback::start(&options, self.scenario, self.seed).await
    }

    /// Writes the report next to the logs, in case they are kept.
    fn write(&self, report: &Report) {
        let path = self.directory.join("report.json");
        if let Err(error) = std::fs::write(&path, report.to_json()) {
            eprintln!("{}: {error}", path.display());
        }
    }
}

/// A failed run exits with [`FAILED`], even if its page could not be written.
fn exit_code(report: &Report, paged: Result<(), Unwritable>) -> ExitCode {
    let unwritten = paged.err().map(|error| complain(SETUP, &error));
    if report.passed { unwritten.unwrap_or(ExitCode::SUCCESS) } else { ExitCode::from(FAILED) }
}

/// Prints the members' addresses until Ctrl-C, then stops the members; a second Ctrl-C kills them at once.
async fn keep_running(mut federation: Loopback, directory: &Path, interrupts: &mut Interrupts) {
    eprintln!("\nthe federation goes on until Ctrl-C");
    for (name, address, log) in federation.addresses() {
        eprintln!("  {name}  {address}/federation/status  {}", log.display());
    }
    eprintln!("watch it with: federation-sim top {}", directory.display());
    interrupts.next().await;
    tokio::select! {
        () = federation.stop(STOP) => {}
        _ = interrupts.next() => {}
    }
}

fn interrupted(code: u8, directory: &Path) -> ExitCode {
    eprintln!("\ninterrupted; the members' files are in {}", directory.display());
    ExitCode::from(code)
}

/// Signals that stop the simulator.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal and returns its exit code by shell convention.
    async fn next(&mut self) -> u8 {
        let number = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        };
        128 + u8::try_from(number.as_raw_value()).unwrap_or(0)
    }
}

/// Directory from the options, or a new name in the system's temporary directory.
fn directory(options: &RunOptions, scenario: &Scenario, seed: u64) -> PathBuf {
    options.dir.clone().unwrap_or_else(|| {
        let name = format!("federation-sim-{}-{seed}-{}", scenario.name, std::process::id());
        std::env::temp_dir().join(name)
    })
}

/// Writes to standard output. A closed pipe is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn complain(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}
