//! Implements `alys-node actors`: lists the registry of a running member, for people and for programs.

use std::process::ExitCode;
use std::time::Duration;

use alys_node::ops::view::{ActorView, ActorsView, Problem};
use alys_node::top::clean;
use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::cli::member::{MemberArgs, agent};

/// Query for actors, and output format.
#[derive(Args)]
pub(crate) struct Actors {
    /// The query, such as `tag=network and state=active`, `name=link/*` or `@consensus-critical`. Default: all actors.
    query: Option<String>,
    #[command(flatten)]
    member: MemberArgs,
    /// The sort order: name, priority, uptime or failures.
    #[arg(long)]
    order: Option<String>,
    /// The maximum number of actors, 1 to 1000.
    #[arg(long)]
    limit: Option<usize>,
    /// The cursor after which to continue, as printed with the previous page.
    #[arg(long)]
    after: Option<String>,
    /// Include the actors that other members publish.
    #[arg(long)]
    federation: bool,
    /// Print the query plan.
    #[arg(long)]
    explain: bool,
    /// The output format.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Table for people.
    Table,
    /// JSON of the member's answer.
    Json,
}

/// Timeout of the request.
const REQUEST: Duration = Duration::from_secs(5);
/// Exit code of an invalid query.
const USAGE: u8 = 2;

/// Queries the member and prints the result.
pub(crate) fn list(actors: &Actors) -> anyhow::Result<ExitCode> {
    let target = actors.member.target()?;
    let limit = actors.limit.map(|limit| limit.to_string());
    let parameters = [
        ("query", actors.query.as_deref()),
        ("order", actors.order.as_deref()),
        ("limit", limit.as_deref()),
        ("after", actors.after.as_deref()),
        ("scope", actors.federation.then_some("federation")),
        ("explain", actors.explain.then_some("true")),
    ];
    let given = parameters.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let request = agent(REQUEST).get(target.url("/registry/actors")).query_pairs(given);
    let mut answer = request.call().with_context(|| format!("{target} does not answer"))?;
    let status = answer.status();
    let broke_off = || format!("{target} answered otherwise than a member does");
    if !status.is_success() {
        let problem: Problem = answer.body_mut().read_json().with_context(broke_off)?;
        eprintln!("alys-node: {}", problem.detail);
        return Ok(ExitCode::from(if status.is_client_error() { USAGE } else { super::exit::FAILED }));
    }
    let text = match actors.output {
        Output::Json => format!("{}\n", answer.body_mut().read_to_string().with_context(broke_off)?),
        Output::Table => table(&answer.body_mut().read_json().with_context(broke_off)?, actors.federation),
    };
    crate::output::print(format_args!("{text}"));
    Ok(ExitCode::SUCCESS)
}

fn uptime(actor: &ActorView) -> String {
    let seconds = |ms| humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string();
    actor.uptime_ms.map_or_else(|| "-".to_owned(), seconds)
}

fn row(actor: &ActorView, federation: bool) -> Vec<String> {
    let mailbox = actor.mailbox.as_ref();
    let mut row = if federation { vec![actor.member.clone()] } else { Vec::new() };
    row.extend([
        actor.name.clone(),
        actor.actor_type.clone(),
        actor.priority.clone(),
        actor.state.clone(),
        actor.health.clone(),
        actor.incarnation.to_string(),
        actor.failures.to_string(),
        uptime(actor),
        mailbox.map_or_else(|| "-".to_owned(), |mailbox| format!("{}/{}", mailbox.depth, mailbox.capacity)),
        actor.tags.join(","),
    ]);
    // Control characters in the member's answer must not reach the terminal.
    row.iter().map(|cell| clean(cell)).collect()
}

fn table(view: &ActorsView, federation: bool) -> String {
    let columns = ["NAME", "TYPE", "PRIORITY", "STATE", "HEALTH", "LIFE", "FAILED", "UPTIME", "MAIL", "TAGS"];
    let mut rows =
        vec![federation.then_some("MEMBER").into_iter().chain(columns).map(str::to_owned).collect()];
    rows.extend(view.actors.iter().map(|actor| row(actor, federation)));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if view.actors.len() < view.matched {
        let more = view.next.as_ref().map(|next| format!("; more with --after {next}")).unwrap_or_default();
        lines.push(format!("{} of {} actors{more}", view.actors.len(), view.matched));
    }
    lines.extend(view.plan.iter().map(|plan| format!("plan: {plan}")));
    lines.join("\n") + "\n"
}
