//! Views of the federation: `/readyz` and `/federation/{status,gate,links,decisions}`.

use std::time::Duration;

use alys_cluster::federation::coordinator::{MemberState, MemberStatus};
use alys_cluster::federation::{Decision, FederationMessage, FederationStatus, SinkStats, believed};
use alys_cluster::id::{Incarnation, NodeId};
use alys_cluster::shutdown::ShutdownState;
use alys_cluster::transport::LinkMessage;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::extract::NoQuery;
use super::links;
use super::router::{DEADLINE, Ops};
use super::view::{
    ClassView, DecisionView, DecisionsView, DiskView, FederationView, GateDecision, GateRecord, GateView,
    LinkView, LinksView, MemberView, Problem, ReadyView,
};
use crate::actors::consensus::height_driver::STALLED_SLOTS;
use crate::storage::DiskReading;
use crate::storage::disk::Room;

/// Number of blocks that a member may be behind and still be ready.
const CAUGHT_UP_WITHIN: u64 = 1;
/// Reason why the chain is stalled, if it is: its last block is `age` old and the gate has been open for `open_for`,
/// both at least `STALLED_SLOTS` slots.
fn stall(age: Duration, open_for: Option<Duration>, block_time: Duration) -> Option<String> {
    let without = age.min(open_for?);
    let is_stalled = without >= block_time * STALLED_SLOTS;
    is_stalled.then(|| format!("no block for {} s although the gate is open", without.as_secs()))
}

async fn ask(ops: &Ops) -> Result<FederationStatus, Problem> {
    Ok(ops.context().addresses.federation.ask(DEADLINE, FederationMessage::Status).await?)
}

/// Status of every link. If a link's actor does not reply, the view contains what is known without it.
async fn link_views(ops: &Ops) -> Vec<LinkView> {
    let context = ops.context();
    let asked = context.addresses.links.iter().map(|(peer, link)| async move {
        let (line, dials) = (&context.channels[peer], context.roster.own() > peer);
        match link.ask(DEADLINE, LinkMessage::Status).await {
            Ok(status) => links::view(line, status.phase.as_str(), dials, status.last_loss),
            Err(error) => links::view(line, "unknown", dials, error.to_string()),
        }
    });
    futures::future::join_all(asked).await
}

/// Readiness: gate open, chain caught up, critical actors healthy
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "member",
    responses(
        (status = OK, description = "It takes part", body = ReadyView),
        (status = SERVICE_UNAVAILABLE, description = "It does not, and why", body = ReadyView)
    )
)]
pub(super) async fn readyz(State(ops): State<Ops>) -> Response {
    let mut reasons = Vec::new();
    if ops.shutdown().progress().state != ShutdownState::Running {
        reasons.push("shutting down".to_owned());
    }
    let context = ops.context();
    let now = context.clock.now();
    let verdict = context.gate.verdict(now);
    reasons.extend(stall(context.head.age(now), context.gate.open_for(now), context.genesis.block_time()));
    if verdict.decision == Decision::Closed {
        reasons.push(format!("the gate is closed: {}", verdict.reason));
    }
    match ask(&ops).await {
        Err(problem) => reasons.push(problem.detail),
        Ok(status) => {
            let own = context.head.head().height;
            let heights = status
                .members
                .iter()
                .filter(|m| m.state.is_known() && m.state != MemberState::Own)
                .filter_map(|m| m.height);
            // A height counts only if an honest member must have claimed it or more.
            let reached = believed(heights.map(|height| height.0).collect(), context.roster.tolerated());
            if let Some(reached) = reached.filter(|reached| *reached > own + CAUGHT_UP_WITHIN) {
                reasons.push(format!("catching up: at height {own}, others are at {reached}"));
            }
            let own = status.members.iter().find(|member| member.state == MemberState::Own);
            // A clock that is off by more than the tolerated drift keeps this member out of every block certificate.
            let drift = context.config.consensus.max_clock_drift.as_millis();
            let is_off = |own: &MemberStatus| {
                own.clock_offset_ms.is_some_and(|error| u128::from(error.unsigned_abs()) > drift)
            };
            if let Some(own) = own.filter(|own| !own.healthy || is_off(own)) {
                reasons.push(own.reason.clone());
            }
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready: reasons.is_empty(), reasons })).into_response()
}

fn decision_view(decision: Decision) -> GateDecision {
    match decision {
        Decision::Open => GateDecision::Open,
        Decision::Closed => GateDecision::Closed,
    }
}

fn member_view(member: MemberStatus, published: &[(NodeId, Incarnation, usize)]) -> MemberView {
    let known = published.iter().find(|(node, ..)| *node == member.name).map_or(0, |(.., actors)| *actors);
    MemberView {
        name: member.name.to_string(),
        healthy: member.healthy,
        state: member.state.as_str().to_owned(),
        through: member.through.map(|node| node.to_string()),
        incarnation: member.incarnation.map(|incarnation| incarnation.0),
        last_seen_ms: member.last_seen.map(|ago| ago.as_millis() as u64),
        phi: (member.state != MemberState::Own).then_some(member.phi),
        clock_offset_ms: member.clock_offset_ms,
        height: member.height.map(|height| height.0),
        published: (member.state != MemberState::Own).then_some(known),
        reason: member.reason,
    }
}

/// Links to the other members: round trips, bytes, queues, drops, redials, refusals
#[utoipa::path(
    get,
    path = "/federation/links",
    tag = "federation",
    responses((status = OK, description = "Every link of this member", body = LinksView))
)]
pub(super) async fn federation_links(State(ops): State<Ops>, _: NoQuery) -> Json<LinksView> {
    let refusals = ops.context().rejections.total();
    Json(LinksView { node: ops.node(), links: link_views(&ops).await, refusals })
}

/// State of every member and link as this member sees them
#[utoipa::path(
    get,
    path = "/federation/status",
    tag = "federation",
    responses((status = OK, description = "Every member and every link", body = FederationView))
)]
pub(super) async fn federation_status(State(ops): State<Ops>, _: NoQuery) -> Json<FederationView> {
    // If the federation actor is down, the gate still knows the current verdict and its reason.
    let unknown = |_| FederationStatus {
        verdict: ops.context().gate.verdict(ops.context().clock.now()),
        members: Vec::new(),
    };
    let FederationStatus { verdict, members } = ask(&ops).await.unwrap_or_else(unknown);
    let published = ops.context().discovery.directory.members();
    Json(FederationView {
        node: ops.node(),
        chain_id: ops.context().genesis.chain_id().to_owned(),
        incarnation: ops.context().incarnation.0,
        uptime_ms: ops.context().clock.now().since(ops.started()).as_millis() as u64,
        height: ops.context().head.head().height,
        gate: decision_view(verdict.decision),
        healthy: verdict.healthy,
        required: verdict.required,
        reason: verdict.reason,
        members: members.into_iter().map(|member| member_view(member, &published)).collect(),
        links: link_views(&ops).await,
        disk: disk_view(ops.context().storage.disk().reading()),
    })
}

fn disk_view(DiskReading { room, latency, .. }: DiskReading) -> Option<DiskView> {
    let Room { free, data, .. } = room?;
    Some(DiskView { free_bytes: free, data_bytes: data, sync_us: latency.as_micros() as u64 })
}

/// Gate decision, its reason, and what would change it
#[utoipa::path(
    get,
    path = "/federation/gate",
    tag = "federation",
    responses((status = OK, description = "The gate now, and its last decisions", body = GateView))
)]
pub(super) async fn federation_gate(State(ops): State<Ops>, _: NoQuery) -> Json<GateView> {
    let now = ops.context().clock.now();
    let verdict = ops.context().gate.verdict(now);
    let classes = ops.context().gate.classes(now).into_iter().map(|outcome| ClassView {
        class: outcome.class.to_string(),
        demand: outcome.demand,
        decision: decision_view(outcome.decision),
    });
    let history = ops.context().gate.history(now).into_iter().map(|record| GateRecord {
        sequence: record.sequence,
        at_ms: record.at.0,
        decision: decision_view(record.decision),
        healthy: record.healthy,
        required: record.required,
        reason: record.reason,
    });
    Json(GateView {
        node: ops.node(),
        incarnation: ops.context().incarnation.0,
        decision: decision_view(verdict.decision),
        healthy: verdict.healthy,
        required: verdict.required,
        reason: verdict.reason,
        would_change: verdict.would_change,
        classes: classes.collect(),
        history: history.collect(),
    })
}

/// Decisions of the gate with their inputs, for replay
#[utoipa::path(
    get,
    path = "/federation/decisions",
    tag = "federation",
    responses((status = OK, description = "The last decisions, each with its inputs", body = DecisionsView))
)]
pub(super) async fn federation_decisions(State(ops): State<Ops>, _: NoQuery) -> Json<DecisionsView> {
    let decisions =
        ops.context().gate.history(ops.context().clock.now()).into_iter().map(|record| DecisionView {
            sequence: record.sequence,
            at_ms: record.at.0,
            inputs: (*record.inputs).clone(),
            outcome: (*record.outcome).clone(),
        });
    let SinkStats { written, dropped } = ops.context().gate.stats();
    Json(DecisionsView {
        node: ops.node(),
        incarnation: ops.context().incarnation.0,
        written,
        dropped,
        decisions: decisions.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_stands_still_behind_an_open_gate_makes_its_member_not_ready() {
        let (slot, secs) = (Duration::from_secs(2), Duration::from_secs);
        for (age, open_for, expected) in [
            (5, Some(60), None),
            (6, Some(60), Some("no block for 6 s although the gate is open")),
            (600, Some(5), None),
            (600, Some(7), Some("no block for 7 s although the gate is open")),
            (600, None, None),
        ] {
            assert_eq!(stall(secs(age), open_for.map(secs), slot).as_deref(), expected, "{age} {open_for:?}");
        }
    }

    #[test]
    fn the_height_that_is_believed_is_the_one_that_more_than_can_lie_claim() {
        for (heights, height) in
            [(vec![], None), (vec![9], None), (vec![9, 1_000_000, 8], Some(9)), (vec![5, 5, 5], Some(5))]
        {
            assert_eq!(believed(heights.clone(), 1), height, "{heights:?}");
        }
    }
}
