//! Read-only views of supervision: `/supervision/{tree,stats,patterns,memory}`.
//!
//! Everything is read from shared state and no supervisor is called, so the endpoints also answer while a supervisor
//! hangs.

use std::time::Duration;

use alys_cluster::clock::WallTime;
use alys_cluster::id::ActorName;
use alys_cluster::supervision::child::Child;
use alys_cluster::supervision::memory::{ACTORS_MAX, ATTEMPTS_MAX, RestartAttemptInfo};
use alys_cluster::supervision::{ActorFailureType, Context, Failure};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::NoQuery;
use super::router::{JsonAnswer, Ops};
use super::view::{
    ActorStatsView, AttemptView, BudgetView, FailureView, HistoryView, PatternView, PatternsView, Problem,
    SupervisionMemoryView, SupervisionStatsView, TreeView,
};

/// Maximum number of children shown for one supervisor.
const CHILDREN_MAX: usize = 256;

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Returns the tree below `name`; `None` if that supervisor has never started.
fn tree(context: &Context, name: &ActorName) -> Option<TreeView> {
    let row = context.tree.row(name, CHILDREN_MAX)?;
    let children = row.children.iter().map(|child| {
        let own = child_view(child);
        let below = child.policy.is_supervisor.then(|| tree(context, &child.policy.name)).flatten();
        below.map_or(own.clone(), |below| TreeView {
            group: below.group,
            max_restarts: below.max_restarts,
            within_ms: below.within_ms,
            child_count: below.child_count,
            children: below.children,
            ..own
        })
    });
    Some(TreeView {
        name: name.to_string(),
        kind: "supervisor".to_owned(),
        state: if row.gave_up.is_some() { "stopped" } else { "running" }.to_owned(),
        restarts: 0,
        restart: "permanent".to_owned(),
        strategy: "never".to_owned(),
        at_boundary: false,
        last_failure: row.gave_up.clone().unwrap_or_default(),
        group: Some(row.group.as_str().to_owned()),
        max_restarts: Some(row.intensity.max_restarts),
        within_ms: Some(millis(row.intensity.within)),
        child_count: Some(row.count),
        children: children.collect(),
    })
}

fn child_view(child: &Child) -> TreeView {
    let policy = &child.policy;
    TreeView {
        name: policy.name.to_string(),
        kind: if policy.is_supervisor { "supervisor" } else { "worker" }.to_owned(),
        state: child.phase.as_str().to_owned(),
        restarts: child.restarts,
        last_failure: child.last_failure(),
        restart: policy.restart.as_str().to_owned(),
        strategy: policy.strategy.as_str().to_owned(),
        at_boundary: policy.at_boundary,
        group: None,
        max_restarts: None,
        within_ms: None,
        child_count: None,
        children: Vec::new(),
    }
}

/// Returns restart budgets and per-actor totals.
fn stats(node: String, context: &Context) -> SupervisionStatsView {
    let budget = |name: &str, used, left| BudgetView { name: name.to_owned(), used, left };
    let supervisors = context.tree.budgets(context.clock.now()).into_iter();
    let bound = context.bound_left();
    let actors = context.memory.histories().into_iter().map(|(name, history)| ActorStatsView {
        name: name.to_string(),
        failures: history.statistics.failures,
        restarts: history.statistics.restarts,
        escalations: history.statistics.escalations,
        recoveries: history.statistics.recoveries,
        away_ms: millis(history.statistics.away),
    });
    SupervisionStatsView {
        node,
        supervisors: supervisors.map(|(name, left)| budget(name.as_str(), left.used, left.left())).collect(),
        bound: budget("whole tree", bound.used, bound.left()),
        actors: actors.collect(),
    }
}

fn failure_view(at: WallTime, actor: &ActorName, failure: &Failure) -> FailureView {
    FailureView {
        at_ms: at.0,
        actor: actor.to_string(),
        kind: failure.kind().kind().to_owned(),
        class: failure.class().to_string(),
        message: failure.message().to_owned(),
        location: failure.location().map(str::to_owned),
        backtrace: match failure.kind() {
            ActorFailureType::Panic { backtrace } => backtrace.clone(),
            _ => None,
        },
    }
}

fn attempt_view(actor: &ActorName, attempt: &RestartAttemptInfo) -> AttemptView {
    AttemptView {
        failure: failure_view(attempt.at, actor, &attempt.failure),
        decision: attempt.step.as_str().to_owned(),
        attempt: attempt.attempt,
        delay_ms: millis(attempt.delay),
        away_ms: attempt.away.map(millis),
    }
}

/// Returns failure patterns with their evidence, and escalations.
fn patterns(node: String, context: &Context) -> PatternsView {
    let now = context.clock.now();
    let patterns = context.memory.findings(now).into_iter().map(|finding| PatternView {
        kind: finding.pattern.kind().to_owned(),
        actors: finding.pattern.actors().into_iter().map(ToString::to_string).collect(),
        times: finding.times,
        delay_factor: finding.tightening.factor,
        circuit_open: finding.tightening.open_until.is_some_and(|until| until > now),
        evidence: finding.evidence.iter().map(|e| failure_view(e.wall, &e.actor, &e.failure)).collect(),
    });
    let mut escalations = Vec::new();
    for (name, history) in context.memory.histories() {
        let escalated = history.attempts.iter().filter(|attempt| !attempt.step.is_restart());
        escalations.extend(escalated.map(|attempt| attempt_view(&name, attempt)));
    }
    escalations.sort_by_key(|attempt| std::cmp::Reverse(attempt.failure.at_ms));
    PatternsView { node, patterns: patterns.collect(), escalations }
}

/// Returns the recorded failures and how much memory they use.
fn memory(node: String, context: &Context) -> SupervisionMemoryView {
    let usage = context.memory.usage();
    let history = context.memory.histories().into_iter().map(|(name, history)| HistoryView {
        attempts: history.attempts.iter().map(|attempt| attempt_view(&name, attempt)).collect(),
        name: name.to_string(),
    });
    SupervisionMemoryView {
        node,
        actors: usage.actors,
        actors_max: ACTORS_MAX.get(),
        attempts: usage.attempts,
        attempts_max: ATTEMPTS_MAX,
        forgotten: usage.forgotten,
        history: history.collect(),
    }
}

/// Supervision tree with restarts and last failures
#[utoipa::path(
    get,
    path = "/supervision/tree",
    tag = "supervision",
    responses((status = OK, description = "The tree below the root", body = TreeView))
)]
pub(super) async fn supervision_tree(State(ops): State<Ops>, _: NoQuery) -> JsonAnswer<TreeView> {
    let starting = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the supervision tree is starting");
    tree(&ops.context().supervision, &ActorName::literal("root")).map(Json).ok_or_else(starting)
}

/// Restart budgets and their use
#[utoipa::path(
    get,
    path = "/supervision/stats",
    tag = "supervision",
    responses((status = OK, description = "Budgets and sums", body = SupervisionStatsView))
)]
pub(super) async fn supervision_stats(State(ops): State<Ops>, _: NoQuery) -> Json<SupervisionStatsView> {
    Json(stats(ops.node(), &ops.context().supervision))
}

/// Failure patterns with their evidence, and escalations
#[utoipa::path(
    get,
    path = "/supervision/patterns",
    tag = "supervision",
    responses((status = OK, description = "Patterns and escalations", body = PatternsView))
)]
pub(super) async fn supervision_patterns(State(ops): State<Ops>, _: NoQuery) -> Json<PatternsView> {
    Json(patterns(ops.node(), &ops.context().supervision))
}

/// Recorded failures of each actor
#[utoipa::path(
    get,
    path = "/supervision/memory",
    tag = "supervision",
    responses((status = OK, description = "Failures and what was decided about them", body = SupervisionMemoryView))
)]
pub(super) async fn supervision_memory(State(ops): State<Ops>, _: NoQuery) -> Json<SupervisionMemoryView> {
    Json(memory(ops.node(), &ops.context().supervision))
}
