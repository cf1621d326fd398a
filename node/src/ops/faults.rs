//! Fault injection for tests: `/faults`.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::extract::{Admitted, Body, NoQuery};
use super::router::Ops;
use super::view::{ClockRequest, DiskFaultRequest, FaultRequest, MisbehaviourRequest, Problem};

/// Extractor that requires `faults.enabled`.
pub(super) struct Drilled;

impl FromRequestParts<Ops> for Drilled {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, ops: &Ops) -> Result<Self, Problem> {
        if cfg!(feature = "fault-injection") && ops.context().config.faults.enabled {
            return Ok(Self);
        }
        let detail = "field `faults.enabled` is false; expected true on a member that takes part in a drill";
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

/// Inject a fault into an actor: panic, hang or kill
///
/// Available only if `faults.enabled` is true. Requires the token if the member has one.
#[utoipa::path(
    post,
    path = "/faults",
    tag = "supervision",
    request_body = FaultRequest,
    security((), ("token" = [])),
    responses(
        (status = ACCEPTED, description = "It was done", body = FaultRequest),
        (status = NOT_FOUND, description = "There is no such actor", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn inject_fault(
    State(ops): State<Ops>,
    _: Admitted,
    _: Drilled,
    _: NoQuery,
    Body(request): Body<FaultRequest>,
) -> Result<Response, Problem> {
    inject(&ops, &request)?;
    Ok((StatusCode::ACCEPTED, Json(request)).into_response())
}

#[cfg(feature = "fault-injection")]
fn inject(ops: &Ops, request: &FaultRequest) -> Result<(), Problem> {
    use super::view::FaultKind;

    let targets = ops.context().addresses.fault_targets();
    let Some(actor) = targets.iter().find(|actor| actor.name().as_str() == request.actor) else {
        let known: Vec<_> = targets.iter().map(|actor| actor.name().as_str()).collect();
        let detail = format!("field `actor` is {:?}; expected one of {}", request.actor, known.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let outcome = match request.fault {
        FaultKind::Panic => actor.panic("a panic on order, as a drill"),
        FaultKind::Hang => actor.hang(),
        FaultKind::Kill => actor.kill(),
    };
    outcome.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// `faults.enabled` is refused by a binary that is built without faults.
#[cfg(not(feature = "fault-injection"))]
fn inject(_: &Ops, _: &FaultRequest) -> Result<(), Problem> {
    Err(Problem::new(StatusCode::FORBIDDEN, "this binary is built without fault injection"))
}

/// Make this member Byzantine, as fault injection
///
/// The member signs and sends what no honest member does, until another request ends it or the member stops. Available
/// only if `faults.enabled` is true. Requires the token if the member has one.
#[utoipa::path(
    post,
    path = "/faults/consensus",
    tag = "supervision",
    request_body = MisbehaviourRequest,
    security((), ("token" = [])),
    responses((status = ACCEPTED, description = "It was ordered", body = MisbehaviourRequest))
)]
pub(super) async fn misbehave(
    State(ops): State<Ops>,
    _: Admitted,
    _: Drilled,
    _: NoQuery,
    Body(request): Body<MisbehaviourRequest>,
) -> Result<Response, Problem> {
    tracing::warn!(misbehaviour = ?request.misbehaviour, "this member is told how to behave, as a drill");
    ops.context().drill.order(request.misbehaviour);
    Ok((StatusCode::ACCEPTED, Json(request)).into_response())
}

/// Delay every sync of the member's disk, as fault injection
///
/// Available only if `faults.enabled` is true. Requires the token if the member has one. A delay of hours simulates a
/// disk that hangs. A new delay also applies to a sync in progress.
#[utoipa::path(
    post,
    path = "/faults/disk",
    tag = "supervision",
    request_body = DiskFaultRequest,
    security((), ("token" = [])),
    responses((status = ACCEPTED, description = "It holds from now on", body = DiskFaultRequest))
)]
pub(super) async fn inject_disk_fault(
    State(ops): State<Ops>,
    _: Admitted,
    _: Drilled,
    _: NoQuery,
    Body(request): Body<DiskFaultRequest>,
) -> Response {
    ops.context().storage.disk().set_delay(Duration::from_millis(u64::from(request.sync_delay_ms)));
    (StatusCode::ACCEPTED, Json(request)).into_response()
}

/// Set this member's wall clock, as fault injection
///
/// Its monotonic clock and the clocks of other members do not change. Available only if `faults.enabled` is true.
/// Requires the token if the member has one.
#[utoipa::path(
    post,
    path = "/faults/clock",
    tag = "supervision",
    request_body = ClockRequest,
    security((), ("token" = [])),
    responses((status = ACCEPTED, description = "It is set", body = ClockRequest))
)]
pub(super) async fn set_clock(
    State(ops): State<Ops>,
    _: Admitted,
    _: Drilled,
    _: NoQuery,
    Body(request): Body<ClockRequest>,
) -> Result<Response, Problem> {
    tracing::warn!(ahead_ms = request.ahead_ms, "this member's clock is set, as a drill");
    if let Some(clock) = &ops.context().drill_clock {
        clock.set_ahead(request.ahead_ms);
    }
    Ok((StatusCode::ACCEPTED, Json(request)).into_response())
}
