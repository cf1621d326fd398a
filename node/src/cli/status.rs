//! Implements `alys-node status`: shows one member and its federation on one screen, or as JSON.

use std::process::ExitCode;
use std::time::Duration;

use alys_cluster::clock::{Clock as _, SystemClock};
use alys_node::ops::summary::SummaryView;
use alys_node::top::state::MemberAnswer;
use alys_node::top::{self, Board};
use clap::{Args, ValueEnum};

use super::member::MemberArgs;
use crate::exit;

/// Number of failures and decisions shown.
const EVENTS: usize = 6;

/// Member to query, and output format.
#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    member: MemberArgs,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people.
    Text,
    /// JSON of the member's answers, for programs.
    Json,
}

/// Queries the member; exit code 0 if it is ready, 3 if it is not ready or does not answer.
pub(crate) fn run(command: &Status) -> anyhow::Result<ExitCode> {
    let target = command.member.target()?;
    let answer = match top::ask(&target) {
        Ok(answer) => answer,
        Err(why) => {
            eprintln!("alys-node: {why}");
            return Ok(ExitCode::from(exit::UNHEALTHY));
        }
    };
    let ready = answer.ready.ready;
    let clock = SystemClock::default();
    let board = Board::of_one(target, answer.clone(), clock.now());
    let headline = board.headline(clock.now()).as_str();
    match command.output {
        Output::Text => {
            let events = board.events().rev().take(EVENTS);
            let events: Vec<_> = events.map(|told| (told.at_ms, told.message.as_str())).collect();
            print!("{}", text(&answer, headline, board.trouble(clock.now()).as_deref(), &events));
        }
        Output::Json => {
            let MemberAnswer { status, ready, restarts, version, events, .. } = *answer;
            let headline = headline.to_owned();
            let view = SummaryView { headline, version, restarts, ready, federation: status, events };
            println!("{}", view.to_json());
        }
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(exit::UNHEALTHY) })
}

fn text(answer: &MemberAnswer, headline: &str, trouble: Option<&str>, events: &[(u64, &str)]) -> String {
    let status = &answer.status;
    let seconds = |ms: u64| humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string();
    let mut lines = vec![format!("{} of {}: {headline}", status.node, status.chain_id)];
    lines.extend(trouble.map(str::to_owned));
    lines.push(String::new());
    let mut row = |name: &str, value: String| lines.push(format!("{name:<10}{value}"));
    let ready = if answer.ready.ready {
        "yes".to_owned()
    } else {
        format!("no: {}", answer.ready.reasons.join("; "))
    };
    row("ready", ready);
    row("gate", format!("{}: {}", status.gate, status.reason));
    let block = answer.blocks.last().map_or(String::new(), |block| {
        let age = answer.block_age.map(|age| format!(", {} ago", top::duration(age))).unwrap_or_default();
        format!(", by {} in round {}{age}", block.proposer, block.round)
    });
    row("chain", format!("height {}{block}", status.height));
    row(
        "version",
        format!("{}, up {}, incarnation {}", answer.version, seconds(status.uptime_ms), status.incarnation),
    );
    if let Some(disk) = status.disk {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let (free, data) = (mib(disk.free_bytes), mib(disk.data_bytes));
        let sync = Duration::from_micros(disk.sync_us);
        row("disk", format!("{free:.0} MiB free, data {data:.1} MiB, a sync takes {sync:?}"));
    }
    row("restarts", format!("{} of its actors", answer.restarts));
    lines.push(String::new());
    lines.push(format!("{:<16}{:<12}{:<10}{:<12}{}", "MEMBER", "STATE", "HEIGHT", "LINK", "REASON"));
    for member in &status.members {
        let link = status.links.iter().find(|link| link.peer == member.name);
        let link = link.map_or("-", |link| link.state.as_str());
        let height = if member.name == status.node { Some(status.height) } else { member.height };
        let height = height.map_or_else(|| "-".to_owned(), |height| height.to_string());
        let reason = if member.healthy { "" } else { &member.reason };
        let line = format!("{:<16}{:<12}{height:<10}{link:<12}{reason}", member.name, member.state);
        lines.push(line.trim_end().to_owned());
    }
    if !events.is_empty() {
        lines.extend([String::new(), "last events, the newest first (UTC)".to_owned()]);
        lines.extend(events.iter().map(|(at_ms, message)| format!("{} {message}", top::time_of_day(*at_ms))));
    }
    // Control characters in the member's answer must not reach the terminal.
    lines.iter().map(|line| top::clean(line) + "\n").collect()
}
