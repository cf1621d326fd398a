//! Reads and changes the log level: `/logs/level`.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::extract::{Authorised, Body, NoQuery};
use super::router::{JsonAnswer, Ops};
use super::view::{LogLevelRequest, LogLevelView, Problem};
use crate::logs::LogControl;

/// Allowed durations of a temporary log level.
const LASTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

fn control(ops: &Ops) -> Result<&LogControl, Problem> {
    ops.logs().ok_or_else(|| {
        let detail = "the log of the process that this member runs in is not the member's";
        Problem::new(StatusCode::CONFLICT, detail)
    })
}

fn show(ops: &Ops, control: &LogControl) -> LogLevelView {
    let level = control.level(ops.context().clock.now());
    let (reverts_to, reverts_in_ms) = match level.reverts {
        Some((to, left)) => (Some(to), Some(left.as_millis() as u64)),
        None => (None, None),
    };
    LogLevelView { node: ops.node(), level: level.directives, reverts_to, reverts_in_ms }
}

/// Current log level
#[utoipa::path(
    get,
    path = "/logs/level",
    tag = "telemetry",
    responses(
        (status = OK, description = "The directives", body = LogLevelView),
        (status = CONFLICT, description = "The log is not the member's", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn log_level(State(ops): State<Ops>, _: NoQuery) -> JsonAnswer<LogLevelView> {
    Ok(Json(show(&ops, control(&ops)?)))
}

/// Change the log level, permanently or temporarily
///
/// The change emits the event `log_level_changed`. It is lost when the member restarts.
#[utoipa::path(
    put,
    path = "/logs/level",
    tag = "telemetry",
    request_body = LogLevelRequest,
    responses(
        (status = OK, description = "The directives that hold now", body = LogLevelView),
        (status = CONFLICT, description = "The log is not the member's", body = Problem, content_type = "application/problem+json")
    ),
    security(("token" = []))
)]
pub(super) async fn set_log_level(
    State(ops): State<Ops>,
    _: Authorised,
    _: NoQuery,
    Body(request): Body<LogLevelRequest>,
) -> JsonAnswer<LogLevelView> {
    let control = control(&ops)?;
    let wrong = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let lasts = request.lasts.as_deref().map(|text| {
        let lasts = humantime::parse_duration(text).ok().filter(|lasts| LASTS.contains(lasts));
        lasts.ok_or_else(|| {
            wrong(format!("field `for` is {text:?}; expected a time from 1s to 24h, such as `10m`"))
        })
    });
    let context = ops.context();
    control
        .change(&request.level, lasts.transpose()?, &*context.clock, &context.events)
        .map_err(|error| wrong(format!("field `level`: {error}")))?;
    Ok(Json(show(&ops, control)))
}
