//! Signed consensus statements: `/consensus/{signatures,received,evidence}`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::chain::height_of;
use super::extract::{Asked, NoQuery};
use super::router::{DEADLINE, JsonAnswer, Ops};
use super::view::{
    EquivocationView, EvidenceView, ReceivedStatementView, ReceivedView, SignatureView, SignaturesView,
    SignedView,
};
use crate::actors::consensus::ConsensusMessage;
use crate::consensus::evidence::Signed;

/// Lower bound of the heights.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FromHeight {
    /// Lowest height to return; 0 if absent
    #[param(value_type = Option<u64>, minimum = 0, maximum = 18_446_744_073_709_551_615_u64)]
    from_height: Option<String>,
}

/// Statements signed by this member's key
#[utoipa::path(
    get,
    path = "/consensus/signatures",
    tag = "chain",
    params(FromHeight),
    responses((status = OK, description = "At most 4,096 signatures, oldest first", body = SignaturesView))
)]
pub(super) async fn consensus_signatures(
    State(ops): State<Ops>,
    Asked(FromHeight { from_height }): Asked<FromHeight>,
) -> JsonAnswer<SignaturesView> {
    let from_height = from_height.map_or(Ok(0), |text| height_of("from_height", &text))?;
    let ask = |reply| ConsensusMessage::Signatures(from_height, reply);
    let signed = ops.context().addresses.consensus.ask(DEADLINE, ask).await?;
    let signatures = signed.into_iter().map(|signed| SignatureView {
        incarnation: signed.incarnation.0,
        height: signed.statement.height,
        round: signed.statement.round,
        step: signed.statement.step.as_str().to_owned(),
        block: signed.statement.block.map(|block| block.to_string()),
        at_ms: signed.at.0,
        gate_sequence: signed.gate_sequence,
    });
    Ok(Json(SignaturesView { node: ops.node(), signatures: signatures.collect() }))
}

/// Statements received from other members
///
/// Shows what a member signed even if that member denies it. Not kept across restarts.
#[utoipa::path(
    get,
    path = "/consensus/received",
    tag = "chain",
    params(FromHeight),
    responses((status = OK, description = "Statements with verified signatures, in the order of heights", body = ReceivedView))
)]
pub(super) async fn consensus_received(
    State(ops): State<Ops>,
    Asked(FromHeight { from_height }): Asked<FromHeight>,
) -> JsonAnswer<ReceivedView> {
    let from_height = from_height.map_or(Ok(0), |text| height_of("from_height", &text))?;
    let ask = |reply| ConsensusMessage::Received(from_height, reply);
    let received = ops.context().addresses.consensus.ask(DEADLINE, ask).await?;
    let statements = received.into_iter().map(|received| {
        let statement = received.signed.statement;
        ReceivedStatementView {
            member: ops.member_name(received.author),
            height: statement.height,
            round: statement.round,
            step: statement.step.as_str().to_owned(),
            block: statement.block.map(|block| block.to_string()),
            at_ms: received.at.0,
        }
    });
    Ok(Json(ReceivedView { node: ops.node(), statements: statements.collect() }))
}

/// Evidence of equivocation
///
/// Two different statements of one member for the same height, round and step, each with its signature: anyone who has
/// the genesis can verify them.
#[utoipa::path(
    get,
    path = "/consensus/evidence",
    tag = "chain",
    responses((status = OK, description = "At most 16 pieces for each member, oldest first", body = EvidenceView))
)]
pub(super) async fn consensus_evidence(State(ops): State<Ops>, _: NoQuery) -> JsonAnswer<EvidenceView> {
    let kept = ops.context().addresses.consensus.ask(DEADLINE, ConsensusMessage::Evidence).await?;
    let evidence = kept.into_iter().map(|equivocation| {
        let (height, round, step) = equivocation.first.statement.place();
        EquivocationView {
            member: ops.member_name(usize::from(equivocation.author)),
            height,
            round,
            step: step.as_str().to_owned(),
            first: signed_view(&equivocation.first),
            second: signed_view(&equivocation.second),
            seen_at_ms: equivocation.seen.0,
        }
    });
    Ok(Json(EvidenceView { node: ops.node(), evidence: evidence.collect() }))
}

fn signed_view(signed: &Signed) -> SignedView {
    SignedView {
        block: signed.statement.block.map(|block| block.to_string()),
        pol_round: signed.statement.pol_round,
        signature: hex::encode(signed.signature.0),
    }
}
