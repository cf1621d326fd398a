//! The paths of the ops API.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::event::ClusterEvent;
use alys_cluster::federation::coordinator::{MemberState, MemberStatus};
use alys_cluster::federation::{Decision, FederationMessage, FederationStatus, Kept};
use alys_cluster::health::HealthMessage;
use alys_cluster::id::{ActorName, Incarnation, NodeId};
use alys_cluster::shutdown::{Answer as Reply, Caller, ShutdownCoordinator, ShutdownState};
use alys_cluster::telemetry::LoggingMessage;
use alys_cluster::transport::LinkMessage;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::token::Token;
use super::view::{
    ActorsView, BlockView, CertificateView, ClassView, DecisionView, DecisionsView, EventView, FaultKind,
    FaultRequest, FederationView, GateDecision, GateRecord, GateView, GenesisMemberView, GenesisView,
    HeadView, HealthView, LinkView, LinksView, MemberView, PatternsView, Problem, ReadyView,
    RegistryStatsView, ShutdownRequest, ShutdownView, SignatureView, SignaturesView, SupervisionMemoryView,
    SupervisionStatsView, TransactionReceipt, TransactionRequest, TreeView, TrendsView,
};
use super::{health, links, metrics, registry, shutdown, supervision, trace};
use crate::actors::chain::ChainMessage;
use crate::actors::consensus::ConsensusMessage;
use crate::actors::engine::EngineMessage;
use crate::consensus::block::{TRANSACTION_BYTES_MAX, transaction_hash};
use crate::ports::{StoredBlock, TransactionError};
use crate::tree::Parts;

/// The longest a request waits for an actor.
const DEADLINE: Duration = Duration::from_secs(1);
/// The largest request body: a transaction in hexadecimal, and some JSON around it.
const BODY_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX + 1024;
/// The paths that take something.
const TRANSACTIONS: &str = "/transactions";
const FAULTS: &str = "/faults";
/// The longest reason for a shutdown, in characters.
const REASON_MAX: usize = 200;
/// Blocks a member may be behind and still be ready.
const CAUGHT_UP_WITHIN: u64 = 1;

/// What the paths work with.
#[derive(Clone)]
pub struct Ops {
    parts: Arc<Parts>,
    shutdown: ShutdownCoordinator,
    token: Option<Arc<Token>>,
    started: Moment,
}

type Answer<T> = Result<Json<T>, Problem>;

impl Ops {
    /// The ops API of a node that has just started. Whoever knows `token` may end it; without one, nobody.
    pub fn new(parts: &Parts, shutdown: ShutdownCoordinator, token: Option<Token>) -> Self {
        let token = token.map(Arc::new);
        Self { started: parts.clock.now(), parts: Arc::new(parts.clone()), shutdown, token }
    }

    /// Every path.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "the event loop turns\n"))
            .route("/readyz", get(readyz))
            .route("/federation/status", get(federation_status))
            .route("/federation/gate", get(federation_gate))
            .route("/federation/links", get(federation_links))
            .route("/federation/decisions", get(federation_decisions))
            .route("/health/status", get(health_status))
            .route("/health/trends", get(health_trends))
            .route("/supervision/tree", get(supervision_tree))
            .route("/supervision/stats", get(supervision_stats))
            .route("/supervision/patterns", get(supervision_patterns))
            .route("/supervision/memory", get(supervision_memory))
            .route("/registry/actors", get(registry_actors))
            .route("/registry/stats", get(registry_stats))
            .route("/chain/head", get(chain_head))
            .route("/chain/blocks/{height}", get(chain_block))
            .route("/consensus/signatures", get(consensus_signatures))
            .route("/genesis", get(genesis))
            .route("/shutdown", get(shutdown_progress).post(shut_down))
            .route(TRANSACTIONS, axum::routing::post(submit))
            .route(FAULTS, axum::routing::post(inject_fault))
            .route("/events", get(events))
            .route("/metrics", get(metrics_text))
            .fallback(async |uri: Uri| {
                Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
            })
            .method_not_allowed_fallback(async |method: Method, uri: Uri| {
                let expected = if [TRANSACTIONS, FAULTS].contains(&uri.path()) { "POST" } else { "GET" };
                let detail = format!("{} does not answer {method}; expected {expected}", uri.path());
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
            })
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(axum::middleware::from_fn_with_state(self.parts.events.clone(), trace::request))
            .with_state(self)
    }

    fn node(&self) -> String {
        self.parts.roster.own().to_string()
    }

    fn member_name(&self, index: usize) -> String {
        let member = self.parts.genesis.members().get(index);
        member.map_or_else(|| format!("member {index}"), |member| member.name.to_string())
    }

    /// The answer to a request that needs the token and does not carry it.
    fn token_refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let Some(token) = &self.token else {
            let detail =
                "field `ops.token_file` is not set; expected a file with the token that callers must know";
            return Some(Problem::new(StatusCode::FORBIDDEN, detail).into_response());
        };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if given.is_some_and(|given| token.is_in(given)) {
            return None;
        }
        let detail = "header `authorization` does not carry this member's token; expected `Bearer <token>`";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
        Some(([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response())
    }

    /// The same for requests that need it only where others than this machine's users can make them.
    fn exposed_refusal(&self, headers: &HeaderMap) -> Option<Response> {
        if self.parts.config.ops.expose { self.token_refusal(headers) } else { None }
    }

    async fn federation(&self) -> Result<FederationStatus, Problem> {
        Ok(self.parts.addresses.federation.call(DEADLINE, FederationMessage::Status).await?)
    }

    async fn links(&self) -> Result<Vec<LinkView>, Problem> {
        let mut views = Vec::new();
        for (peer, link) in &*self.parts.addresses.links {
            let status = link.call(DEADLINE, LinkMessage::Status).await?;
            views.push(links::view(&self.parts.lines[peer], status));
        }
        Ok(views)
    }
}

async fn shutdown_progress(State(ops): State<Ops>) -> Json<ShutdownView> {
    Json(shutdown::view(ops.node(), ops.shutdown.progress()))
}

async fn shut_down(
    State(ops): State<Ops>,
    headers: HeaderMap,
    request: Result<Json<ShutdownRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    if let Some(refusal) = ops.token_refusal(&headers) {
        return Ok(refusal);
    }
    let Json(ShutdownRequest { force, reason, wait }) = request?;
    let length = reason.chars().count();
    if length > REASON_MAX || reason.chars().any(char::is_control) {
        let detail = format!(
            "field `reason` has {length} characters; expected at most {REASON_MAX}, none of them a control character"
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    let reason = if reason.is_empty() { "the operator asked for it" } else { &reason };
    match crate::shutdown::request(&ops.parts, &ops.shutdown, Caller::Call, reason, force).await {
        Reply::Refused(refusal) => Err(Problem::new(StatusCode::CONFLICT, refusal.to_string())),
        Reply::Begun | Reply::Runs(_) | Reply::Forced(_) => {
            let status = if wait { StatusCode::OK } else { StatusCode::ACCEPTED };
            if wait {
                // Its own deadline ends it, by force if need be.
                ops.shutdown.finished().await;
            }
            let view = shutdown::view(ops.node(), ops.shutdown.progress());
            Ok((status, Json(view)).into_response())
        }
    }
}

async fn readyz(State(ops): State<Ops>) -> Response {
    let mut reasons = Vec::new();
    if ops.shutdown.progress().state != ShutdownState::Running {
        reasons.push("shutting down".to_owned());
    }
    let verdict = ops.parts.gate.verdict(ops.parts.clock.now());
    if verdict.decision == Decision::Closed {
        reasons.push(format!("the gate is closed: {}", verdict.reason));
    }
    match ops.federation().await {
        Err(problem) => reasons.push(problem.detail),
        Ok(status) => {
            let own = ops.parts.head.head().height;
            let heights = status
                .members
                .iter()
                .filter(|m| m.state.is_known() && m.state != MemberState::Own)
                .filter_map(|m| m.height);
            let highest = heights.map(|height| height.0).max().unwrap_or(0);
            if highest > own + CAUGHT_UP_WITHIN {
                reasons.push(format!("catching up: at height {own}, others are at {highest}"));
            }
            let own = status.members.iter().find(|member| member.state == MemberState::Own);
            if let Some(own) = own.filter(|own| !own.healthy) {
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
    let state = match member.state {
        MemberState::Own => "self",
        MemberState::Unknown => "unknown",
        MemberState::Up => "up",
        MemberState::Attested => "attested",
        MemberState::Suspected => "suspected",
        MemberState::Down => "down",
        MemberState::Left => "left",
    };
    MemberView {
        name: member.name.to_string(),
        healthy: member.healthy,
        state: state.to_owned(),
        through: member.through.map(|node| node.to_string()),
        incarnation: member.incarnation.map(|incarnation| incarnation.0),
        last_seen_ms: member.last_seen.map(|ago| ago.as_millis() as u64),
        phi: (member.state != MemberState::Own).then_some(member.phi),
        height: member.height.map(|height| height.0),
        published: (member.state != MemberState::Own).then_some(known),
        reason: member.reason,
    }
}

async fn federation_links(State(ops): State<Ops>) -> Answer<LinksView> {
    let refusals = ops.parts.refusals.total();
    Ok(Json(LinksView { node: ops.node(), links: ops.links().await?, refusals }))
}

async fn federation_status(State(ops): State<Ops>) -> Answer<FederationView> {
    // A member whose federation actor is down still knows whether it may work, and why not.
    let unknown =
        |_| FederationStatus { verdict: ops.parts.gate.verdict(ops.parts.clock.now()), members: Vec::new() };
    let FederationStatus { verdict, members } = ops.federation().await.unwrap_or_else(unknown);
    let published = ops.parts.discovery.directory.members();
    Ok(Json(FederationView {
        node: ops.node(),
        chain_id: ops.parts.genesis.chain_id().to_owned(),
        incarnation: ops.parts.incarnation.0,
        uptime_ms: ops.parts.clock.now().since(ops.started).as_millis() as u64,
        height: ops.parts.head.head().height,
        gate: decision_view(verdict.decision),
        healthy: verdict.healthy,
        required: verdict.required,
        reason: verdict.reason,
        members: members.into_iter().map(|member| member_view(member, &published)).collect(),
        links: ops.links().await?,
    }))
}

async fn federation_gate(State(ops): State<Ops>) -> Json<GateView> {
    let now = ops.parts.clock.now();
    let verdict = ops.parts.gate.verdict(now);
    let classes = ops.parts.gate.classes(now).into_iter().map(|outcome| ClassView {
        class: outcome.class.to_string(),
        demand: outcome.demand,
        decision: decision_view(outcome.decision),
    });
    let history = ops.parts.gate.history(now).into_iter().map(|record| GateRecord {
        sequence: record.sequence,
        at_ms: record.at.0,
        decision: decision_view(record.decision),
        healthy: record.healthy,
        required: record.required,
        reason: record.reason,
    });
    Json(GateView {
        node: ops.node(),
        incarnation: ops.parts.incarnation.0,
        decision: decision_view(verdict.decision),
        healthy: verdict.healthy,
        required: verdict.required,
        reason: verdict.reason,
        would_change: verdict.would_change,
        classes: classes.collect(),
        history: history.collect(),
    })
}

async fn federation_decisions(State(ops): State<Ops>) -> Json<DecisionsView> {
    let decisions = ops.parts.gate.history(ops.parts.clock.now()).into_iter().map(|record| DecisionView {
        sequence: record.sequence,
        at_ms: record.at.0,
        inputs: (*record.inputs).clone(),
        outcome: (*record.outcome).clone(),
    });
    let Kept { written, dropped } = ops.parts.gate.kept();
    Json(DecisionsView {
        node: ops.node(),
        incarnation: ops.parts.incarnation.0,
        written,
        dropped,
        decisions: decisions.collect(),
    })
}

async fn health_status(State(ops): State<Ops>) -> Answer<HealthView> {
    let actors = ops.parts.addresses.health.call(DEADLINE, HealthMessage::Board).await?;
    Ok(Json(health::status(ops.node(), actors)))
}

async fn health_trends(State(ops): State<Ops>) -> Answer<TrendsView> {
    let trends = ops.parts.addresses.health.call(DEADLINE, HealthMessage::Trends).await?;
    Ok(Json(health::trends(ops.node(), trends)))
}

/// A request without a query. One with a query asks for something that it would not get.
struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut RequestParts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}

        let Query(Nothing {}) = Query::from_request_parts(parts, state).await?;
        Ok(Self)
    }
}

async fn supervision_tree(State(ops): State<Ops>, _: NoQuery) -> Answer<TreeView> {
    let starting = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the supervision tree is starting");
    supervision::tree(&ops.parts.supervision, &ActorName::literal("root")).map(Json).ok_or_else(starting)
}

async fn supervision_stats(State(ops): State<Ops>, _: NoQuery) -> Json<SupervisionStatsView> {
    Json(supervision::stats(ops.node(), &ops.parts.supervision))
}

async fn supervision_patterns(State(ops): State<Ops>, _: NoQuery) -> Json<PatternsView> {
    Json(supervision::patterns(ops.node(), &ops.parts.supervision))
}

async fn supervision_memory(State(ops): State<Ops>, _: NoQuery) -> Json<SupervisionMemoryView> {
    Json(supervision::memory(ops.node(), &ops.parts.supervision))
}

async fn registry_actors(
    State(ops): State<Ops>,
    parameters: Result<Query<registry::Parameters>, QueryRejection>,
) -> Answer<ActorsView> {
    let Query(parameters) = parameters?;
    registry::actors(&ops.parts, parameters).map(Json)
}

async fn registry_stats(State(ops): State<Ops>) -> Json<RegistryStatsView> {
    Json(registry::stats(&ops.parts))
}

async fn chain_head(State(ops): State<Ops>) -> Json<HeadView> {
    let head = ops.parts.head.head();
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

/// A height as it stands in a path or a query.
fn height_of(field: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        let detail = format!("field `{field}` is {text:?}; expected a whole number from 0 to {}", u64::MAX);
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

async fn chain_block(
    State(ops): State<Ops>,
    height: Result<Path<String>, PathRejection>,
) -> Answer<BlockView> {
    let Path(height) = height?;
    let height = height_of("height", &height)?;
    let found = ops.parts.addresses.chain.call(DEADLINE, |reply| ChainMessage::Block(height, reply)).await?;
    let found = found.map_err(|reason| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, reason))?;
    found.map(|stored| Json(block_view(&ops, stored))).ok_or_else(|| {
        let detail = match ops.parts.head.head().height {
            0 => {
                format!("there is no block at height {height}; expected one that is decided, and none is yet")
            }
            head => format!("there is no block at height {height}; expected 1 to {head}"),
        };
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FromHeight {
    #[serde(default)]
    from_height: Option<String>,
}

async fn consensus_signatures(
    State(ops): State<Ops>,
    query: Result<Query<FromHeight>, QueryRejection>,
) -> Answer<SignaturesView> {
    let Query(FromHeight { from_height }) = query?;
    let from_height = from_height.map_or(Ok(0), |text| height_of("from_height", &text))?;
    let ask = |reply| ConsensusMessage::Signatures(from_height, reply);
    let signed = ops.parts.addresses.consensus.call(DEADLINE, ask).await?;
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

async fn genesis(State(ops): State<Ops>) -> Json<GenesisView> {
    let genesis = &ops.parts.genesis;
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

async fn submit(
    State(ops): State<Ops>,
    headers: HeaderMap,
    request: Result<Json<TransactionRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    if let Some(refusal) = ops.exposed_refusal(&headers) {
        return Ok(refusal);
    }
    let Json(TransactionRequest { payload }) =
        request.map_err(|rejection| match Problem::from(rejection) {
            large if large.status == StatusCode::PAYLOAD_TOO_LARGE.as_u16() => {
                let detail = format!("the body is too large; expected at most {BODY_BYTES_MAX} bytes");
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            problem => problem,
        })?;
    let transaction = hex::decode(&payload).map_err(|error| {
        let detail = format!("field `payload`: {error}; expected hexadecimal digits, two for each byte");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let hash = hex::encode(transaction_hash(&transaction));
    let submit = |reply| EngineMessage::Submit(transaction, reply);
    let pooled = ops.parts.addresses.engine.call(DEADLINE, submit).await?.map_err(|error| {
        let status = match error {
            TransactionError::Size { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            TransactionError::Known => StatusCode::CONFLICT,
            TransactionError::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, format!("field `payload`: {error}"))
    })?;
    Ok((StatusCode::ACCEPTED, Json(TransactionReceipt { hash, pooled })).into_response())
}

async fn inject_fault(
    State(ops): State<Ops>,
    headers: HeaderMap,
    request: Result<Json<FaultRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    if let Some(refusal) = ops.exposed_refusal(&headers) {
        return Ok(refusal);
    }
    if !ops.parts.config.faults.enabled {
        let detail = "field `faults.enabled` is false; expected true on a member that takes part in a drill";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let Json(request) = request?;
    let mortals = ops.parts.addresses.mortals();
    let Some(actor) = mortals.iter().find(|actor| actor.name().as_str() == request.actor) else {
        let known: Vec<_> = mortals.iter().map(|actor| actor.name().as_str()).collect();
        let detail = format!("field `actor` is {:?}; expected one of {}", request.actor, known.join(", "));
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let outcome = match request.fault {
        FaultKind::Panic => actor.panic("a panic on order, as a drill"),
        FaultKind::Hang => actor.hang(),
        FaultKind::Kill => actor.kill(),
    };
    outcome.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, Json(request)).into_response())
}

async fn events(State(ops): State<Ops>) -> Answer<Vec<EventView>> {
    let history = ops.parts.addresses.logging.call(DEADLINE, LoggingMessage::History).await?;
    let events = history.iter().map(|recorded| EventView {
        at_ms: recorded.at.0,
        kind: recorded.event.kind().to_owned(),
        message: recorded.event.to_string(),
        inputs: match &recorded.event {
            ClusterEvent::RestartDecided { record, .. } => Some(record.inputs.to_string()),
            _ => None,
        },
    });
    Ok(Json(events.collect()))
}

async fn metrics_text(State(ops): State<Ops>) -> Result<Response, Problem> {
    metrics::text(&ops.parts).await
}
