//! Serves `GET /metrics`: the metrics of the collector, and gauges that the federation actor is asked for.

use std::time::Duration;

use alys_cluster::federation::FederationMessage;
use alys_cluster::federation::coordinator::{MemberState, MemberStatus};
use alys_cluster::telemetry::MetricsMessage;
use alys_cluster::telemetry::gauges::PeerReading;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::router::Ops;
use super::view::Problem;

/// Longest wait for the federation actor: if it hangs, the other metrics must still be served.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest wait for the collector.
const DEADLINE: Duration = Duration::from_secs(1);

/// All metrics in Prometheus text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "telemetry",
    responses((status = OK, description = "Every metric", body = String, content_type = "text/plain; version=0.0.4"))
)]
pub(super) async fn metrics(State(ops): State<Ops>) -> Result<Response, Problem> {
    let context = ops.context();
    let status = context.addresses.federation.ask(PATIENCE, FederationMessage::Status).await;
    let peers = status.ok().map(|status| status.members.iter().filter_map(peer).collect());
    let render = |reply| MetricsMessage::Render(peers, reply);
    let text = context.addresses.metrics.ask(DEADLINE, render).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Gauges of another member; `None` for this member itself.
fn peer(member: &MemberStatus) -> Option<PeerReading> {
    if member.state == MemberState::Own {
        return None;
    }
    Some(PeerReading {
        peer: member.name.to_string(),
        state: member.state.as_str(),
        phi: member.phi,
        clock_offset_ms: member.clock_offset_ms,
        silence: member.last_seen,
        height: member.height.map(|height| height.0),
    })
}
