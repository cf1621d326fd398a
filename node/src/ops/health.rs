//! Results of health checks: `/health/{status,trends}`.

use std::time::Duration;

use alys_cluster::health::HealthMessage;
use alys_cluster::health::state::{ActorHealth, Trends};
use alys_cluster::health::trend::{Summary, node_score};
use alys_cluster::id::ActorPriority;
use axum::Json;
use axum::extract::State;

use super::extract::NoQuery;
use super::router::{DEADLINE, JsonAnswer, Ops};
use super::view::{ActorHealthView, HealthView, TrendView, TrendsView};

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// Current health of the actors of `node`.
fn status(node: String, actors: Vec<ActorHealth>) -> HealthView {
    let mut critical = actors.iter().filter(|actor| actor.priority == ActorPriority::Critical);
    HealthView {
        node,
        healthy: critical.all(|actor| actor.status.is_serving()),
        score: node_score(actors.iter().map(|actor| (actor.priority, actor.status))),
        actors: actors
            .into_iter()
            .map(|actor| ActorHealthView {
                name: actor.name.to_string(),
                priority: actor.priority.to_string(),
                status: actor.status.to_string(),
                consecutive_failures: actor.consecutive_failures,
                response_time_us: actor.response_time.map(micros),
                reason: actor.reason,
                waiting: actor.waiting,
            })
            .collect(),
    }
}

/// Trends of the health checks of `node`.
fn trends(node: String, trends: Trends) -> TrendsView {
    let view = |name: String, summary: Summary, slow_above: Option<Duration>| TrendView {
        name,
        samples: summary.samples,
        span_ms: millis(summary.span),
        failure_rate: summary.failure_rate,
        response_mean_us: micros(summary.response_mean),
        response_max_us: micros(summary.response_max),
        response_slope_ms_per_s: summary.response_slope,
        score: summary.score,
        score_slope_per_s: summary.score_slope,
        slow_above_us: slow_above.map(micros),
        crosses_in_ms: summary.crosses_in.map(millis),
    };
    let actors = trends.actors.into_iter();
    let members = trends.members.into_iter();
    TrendsView {
        node,
        score: trends.score,
        actors: actors.map(|(name, summary, slow)| view(name.to_string(), summary, Some(slow))).collect(),
        members: members.map(|(name, summary)| view(name.to_string(), summary, None)).collect(),
    }
}

/// The health of this member's actors
#[utoipa::path(
    get,
    path = "/health/status",
    tag = "health",
    responses((status = OK, description = "Every actor's health", body = HealthView))
)]
pub(super) async fn health_status(State(ops): State<Ops>, _: NoQuery) -> JsonAnswer<HealthView> {
    let actors = ops.context().addresses.health.ask(DEADLINE, HealthMessage::Board).await?;
    Ok(Json(status(ops.node(), actors)))
}

/// Trends of health checks and of members' answers
#[utoipa::path(
    get,
    path = "/health/trends",
    tag = "health",
    responses((status = OK, description = "How the checks develop", body = TrendsView))
)]
pub(super) async fn health_trends(State(ops): State<Ops>, _: NoQuery) -> JsonAnswer<TrendsView> {
    let checked = ops.context().addresses.health.ask(DEADLINE, HealthMessage::Trends).await?;
    Ok(Json(trends(ops.node(), checked)))
}
