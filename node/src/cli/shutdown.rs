//! Implements `alys-node shutdown`: asks a running member to shut down, or previews the effect.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use alys_cluster::shutdown::QuorumImpact;
use alys_node::ops::token::Token;
use alys_node::ops::view::{FederationView, Problem, ShutdownRequest, ShutdownView};
use alys_node::top::Target;
use anyhow::Context as _;
use clap::Args;

use super::member::{MemberArgs, REQUEST, agent, get};
use crate::exit;

/// Longest possible shutdown: the maximum `stop_deadline`, plus a minute.
const SHUTDOWN_MAX: Duration = Duration::from_mins(11);

/// Interval and number of checks whether the process has ended.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// Member to shut down, and options.
#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct Shutdown {
    #[command(flatten)]
    member: MemberArgs,
    /// The file with the member's token, mode 0600. Default: `ops.token_file` of `--config`.
    #[arg(long, env = "ALYS_OPS__TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Shut down even if the federation cannot work without the member; if a shutdown runs already, force it.
    #[arg(long)]
    force: bool,
    /// Send the token unencrypted to an address that is not loopback. Only for networks where everyone on the path may
    /// shut the member down.
    #[arg(long)]
    insecure: bool,
    /// Return when the shutdown has finished, and print the result of each task.
    #[arg(long)]
    wait: bool,
    /// Print what would happen, without changing anything: exit code 0 if the member would shut down, 1 if it would
    /// refuse. Needs no token.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    /// The reason, for logs and events.
    #[arg(long, default_value = "")]
    reason: String,
}

/// Asks a member to shut down and, with `--wait`, waits until it is gone.
pub(crate) fn run(command: &Shutdown) -> anyhow::Result<ExitCode> {
    let Shutdown { force, wait, insecure, .. } = *command;
    let target = command.member.target()?;
    if command.dry_run {
        return foresee(&target, force);
    }
    anyhow::ensure!(
        target.is_loopback() || insecure,
        "the member's address is {target}; expected a loopback address, for the token is not encrypted on its way (or \
         `--insecure`)"
    );
    let token_file = match &command.token_file {
        Some(file) => Some(file.clone()),
        None => command.member.token_file()?,
    };
    let token_file =
        token_file.context("no token file; expected `--token-file`, or `--config` with `ops.token_file`")?;
    let token = Token::read(&token_file)?;
    let request = ShutdownRequest { force, reason: command.reason.clone(), wait };
    let header = token.header();
    let patience = if wait { SHUTDOWN_MAX } else { REQUEST };
    let post = agent(patience).post(target.url("/shutdown")).header("authorization", header.as_str());
    let mut answer = post.send_json(&request).with_context(|| {
        format!(
            "{target} does not answer; it may still leave, if it does not learn that the request was given up"
        )
    })?;
    if !answer.status().is_success() {
        let problem: Problem = answer.body_mut().read_json().context("the answer makes no sense")?;
        eprintln!("alys-node: {}", problem.detail);
        return Ok(ExitCode::from(exit::FAILED));
    }
    let view: ShutdownView = answer.body_mut().read_json().context("the answer makes no sense")?;
    println!("{} leaves: {}", view.node, view.reason);
    if wait {
        for task in view.phases.iter().flat_map(|phase| &phase.tasks) {
            println!("{}: {}: {}", task.name, task.state, task.note);
        }
        until_gone(&target, &command.member)?;
        println!("{} is gone{}", view.node, if view.forced { ", by force" } else { "" });
    }
    Ok(if view.forced { ExitCode::from(exit::FAILED) } else { ExitCode::SUCCESS })
}

/// Waits, for a limited time, until the member no longer answers and, if the configuration shows its data directory,
/// until no process uses that directory: the process closes its files after its last response, and a successor needs
/// them free.
fn until_gone(target: &Target, member: &MemberArgs) -> anyhow::Result<()> {
    let data_dir = member.data_dir()?;
    for _ in 0..LOOKS {
        let answers = agent(REQUEST).get(target.url("/livez")).call().is_ok();
        let is_used = || data_dir.as_deref().is_some_and(alys_node::is_in_use);
        if !answers && !is_used() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Prints what a shutdown request would do now. The result may change: other members may ask to leave meanwhile.
fn foresee(target: &Target, force: bool) -> anyhow::Result<ExitCode> {
    let status: FederationView = get(target, "/federation/status")?;
    let shutdown: ShutdownView = get(target, "/shutdown")?;
    let node = &status.node;
    if shutdown.state != "running" {
        println!("{node} is leaving already ({}): {}", shutdown.state, shutdown.reason);
        return Ok(ExitCode::SUCCESS);
    }
    let impact = QuorumImpact {
        healthy: status.members.iter().filter(|member| member.healthy).count(),
        required: status.required,
        is_counted: status.members.iter().any(|member| member.name == *node && member.healthy),
        unsure: status.members.iter().filter(|member| member.healthy && member.state == "leaving").count(),
        told: 0,
    };
    let refusal = impact.refusal();
    match refusal {
        Some(refusal) if !force => {
            println!("{node} would stay: {refusal}; expected `--force` where that is meant");
            return Ok(ExitCode::from(exit::FAILED));
        }
        Some(refusal) => println!(
            "{node} would leave, and the federation would halt: {} of {} required would be left",
            refusal.without, refusal.required
        ),
        None => {
            let left = impact.healthy.saturating_sub(usize::from(impact.is_counted));
            println!(
                "{node} would leave: {left} healthy members would be left, {} are required",
                status.required
            );
        }
    }
    for phase in &shutdown.phases {
        let tasks: Vec<_> = phase.tasks.iter().map(|task| task.name.as_str()).collect();
        let deadline = humantime::format_duration(Duration::from_millis(phase.deadline_ms));
        println!("{}: {}, within {deadline}", phase.name, tasks.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
