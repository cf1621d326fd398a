//! Shutdown progress and shutdown requests: `/shutdown`.

use std::time::Duration;

use alys_cluster::shutdown::state::TaskState;
use alys_cluster::shutdown::{Progress, Requester, ShutdownAnswer};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::extract::{Authorised, Body, NoQuery};
use super::router::Ops;
use super::view::{Problem, ShutdownPhaseView, ShutdownRequest, ShutdownTaskView, ShutdownView};

/// Maximum length of a shutdown reason, in characters.
const REASON_MAX: usize = 200;

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// Converts the shutdown progress of `node` to JSON.
pub(super) fn view(node: String, progress: Progress) -> ShutdownView {
    let task = |(name, state): (String, TaskState)| {
        let (state, note) = match state {
            TaskState::Waiting => ("waiting", String::new()),
            TaskState::Running => ("running", String::new()),
            TaskState::Done(note) => ("done", note),
            TaskState::Failed(error) => ("failed", error),
        };
        ShutdownTaskView { name, state: state.to_owned(), note }
    };
    let phases = progress.phases.into_iter().map(|(phase, tasks)| ShutdownPhaseView {
        name: phase.name.to_owned(),
        state: phase.state.to_string(),
        deadline_ms: millis(phase.deadline),
        tasks: tasks.into_iter().map(task).collect(),
    });
    ShutdownView {
        node,
        state: progress.state.to_string(),
        reason: progress.reason,
        forced: progress.forced,
        running_for_ms: progress.running_for.map(millis),
        left_ms: progress.left.map(millis),
        refusal: progress.refusal.map(|refusal| refusal.to_string()).unwrap_or_default(),
        phases: phases.collect(),
    }
}

/// State, phases and tasks of this member's shutdown
#[utoipa::path(
    get,
    path = "/shutdown",
    tag = "member",
    responses((status = OK, description = "Its state, phases and tasks", body = ShutdownView))
)]
pub(super) async fn shutdown_progress(State(ops): State<Ops>, _: NoQuery) -> Json<ShutdownView> {
    Json(view(ops.node(), ops.shutdown().progress()))
}

/// Shut down gracefully
#[utoipa::path(
    post,
    path = "/shutdown",
    tag = "member",
    request_body = ShutdownRequest,
    security(("token" = [])),
    responses(
        (status = ACCEPTED, description = "It runs", body = ShutdownView),
        (status = OK, description = "It was waited for", body = ShutdownView),
        (status = CONFLICT, description = "The federation could not work without this member, and force was not asked for", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn shut_down(
    State(ops): State<Ops>,
    _: Authorised,
    _: NoQuery,
    Body(ShutdownRequest { force, reason, wait }): Body<ShutdownRequest>,
) -> Result<Response, Problem> {
    let length = reason.chars().count();
    if length > REASON_MAX || reason.chars().any(char::is_control) {
        let detail = format!(
            "field `reason` has {length} characters; expected at most {REASON_MAX}, none of them a control character"
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let reason = if reason.is_empty() { "the operator asked for it" } else { &reason };
    match crate::shutdown::request(ops.context(), ops.shutdown(), Requester::Call, reason, force).await {
        ShutdownAnswer::Refused(refusal) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!("{refusal}; expected `force` where that is meant"),
        )),
        ShutdownAnswer::Begun | ShutdownAnswer::Runs(_) | ShutdownAnswer::Forced(_) => {
            let status = if wait { StatusCode::OK } else { StatusCode::ACCEPTED };
            if wait {
                // The shutdown's own deadline bounds this wait: it is forced then.
                ops.shutdown().finished().await;
            }
            let view = view(ops.node(), ops.shutdown().progress());
            Ok((status, Json(view)).into_response())
        }
    }
}
