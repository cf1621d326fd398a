//! Reads of the chain and submission of transactions: `/chain/{head,blocks}`, `/genesis` and `/transactions`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::extract::{Admitted, Body, NoQuery};
use super::router::{DEADLINE, JsonAnswer, Ops};
use super::view::{
    BlockView, CertificateView, GenesisMemberView, GenesisView, HeadView, Problem, TransactionReceipt,
    TransactionRequest,
};
use crate::actors::chain::ChainMessage;
use crate::actors::engine::EngineMessage;
use crate::consensus::block::transaction_hash;
use crate::ports::{StoredBlock, TransactionError};

/// The last committed block
#[utoipa::path(
    get,
    path = "/chain/head",
    tag = "chain",
    responses((status = OK, description = "The last committed block", body = HeadView))
)]
pub(super) async fn chain_head(State(ops): State<Ops>, _: NoQuery) -> Json<HeadView> {
    let head = ops.context().head.head();
    Json(HeadView {
        height: head.height,
        hash: head.hash.to_string(),
        state_root: head.state_root.to_string(),
        timestamp_ms: head.timestamp_ms,
    })
}

fn block_view(ops: &Ops, stored: StoredBlock) -> BlockView {
    let StoredBlock { block, certificate, observed } = stored;
    BlockView {
        height: block.height,
        hash: block.hash().to_string(),
        parent: block.parent.to_string(),
        timestamp_ms: block.timestamp_ms,
        proposer: ops.member_name(usize::from(block.proposer)),
        state_root: block.state_root.to_string(),
        transactions: block.transactions.iter().map(hex::encode).collect(),
        certificate: CertificateView {
            round: certificate.round,
            block: certificate.block.to_string(),
            signers: certificate.signer_indexes().map(|index| ops.member_name(index)).collect(),
            bitmap: certificate.signers,
            signature: hex::encode(certificate.signature.0),
        },
        proposal_at_ms: observed.proposal_at_ms,
        decided_at_ms: observed.decided_at_ms,
        adopted: observed.adopted,
    }
}

/// Parses a height from a path or a query.
pub(super) fn height_of(field: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        let detail = format!("field `{field}` is {text:?}; expected a whole number from 0 to {}", u64::MAX);
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// A block with its certificate
#[utoipa::path(
    get,
    path = "/chain/blocks/{height}",
    tag = "chain",
    params(("height" = u64, Path, minimum = 0, maximum = 18_446_744_073_709_551_615_u64, description = "The block's height, from 1")),
    responses(
        (status = OK, description = "The block", body = BlockView),
        (status = NOT_FOUND, description = "There is none at this height", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn chain_block(
    State(ops): State<Ops>,
    height: Result<Path<String>, PathRejection>,
    _: NoQuery,
) -> JsonAnswer<BlockView> {
    let Path(height) = height.map_err(|rejection| {
        Problem::new(rejection.status(), format!("field `height`: {}", rejection.body_text()))
    })?;
    let height = height_of("height", &height)?;
    let found =
        ops.context().addresses.chain.ask(DEADLINE, |reply| ChainMessage::Block(height, reply)).await?;
    let found = found.map_err(|reason| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
    found.map(|stored| Json(block_view(&ops, stored))).ok_or_else(|| {
        let detail = match ops.context().head.head().height {
            0 => {
                format!("there is no block at height {height}; expected one that is decided, and none is yet")
            }
            head => format!("there is no block at height {height}; expected 1 to {head}"),
        };
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// The genesis that all members agree on
#[utoipa::path(
    get,
    path = "/genesis",
    tag = "chain",
    responses((status = OK, description = "What all members agree on", body = GenesisView))
)]
pub(super) async fn genesis(State(ops): State<Ops>, _: NoQuery) -> Json<GenesisView> {
    let genesis = &ops.context().genesis;
    let members = genesis.members().iter().map(|member| GenesisMemberView {
        name: member.name.to_string(),
        public_key: member.public_key.to_string(),
    });
    Json(GenesisView {
        chain_id: genesis.chain_id().to_owned(),
        hash: hex::encode(genesis.hash()),
        block_time_ms: genesis.block_time().as_millis() as u64,
        members: members.collect(),
    })
}

/// Submit a transaction
///
/// Requires the token if the member has one.
#[utoipa::path(
    post,
    path = "/transactions",
    tag = "chain",
    request_body = TransactionRequest,
    security((), ("token" = [])),
    responses(
        (status = ACCEPTED, description = "It waits in this member's pool", body = TransactionReceipt),
        (status = CONFLICT, description = "It is known already", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn submit(
    State(ops): State<Ops>,
    _: Admitted,
    _: NoQuery,
    Body(TransactionRequest { payload }): Body<TransactionRequest>,
) -> Result<Response, Problem> {
    let transaction = hex::decode(&payload).map_err(|error| {
        let detail = format!("field `payload`: {error}; expected hexadecimal digits, two for each byte");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let hash = hex::encode(transaction_hash(&transaction));
    let submit = |reply| EngineMessage::Submit(transaction, reply);
    let pooled = ops.context().addresses.engine.ask(DEADLINE, submit).await?.map_err(|error| {
        let status = match error {
            TransactionError::Size { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            TransactionError::Known => StatusCode::CONFLICT,
            TransactionError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, format!("field `payload`: {error}"))
    })?;
    Ok((StatusCode::ACCEPTED, Json(TransactionReceipt { hash, pooled })).into_response())
}
