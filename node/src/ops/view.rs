//! Defines the JSON of the ops API: every body that the HTTP server reads or writes, as plain types.
//!
//! The types implement both `Serialize` and `Deserialize`, so that a client in Rust (the simulator, `alys-node
//! healthcheck`) uses the same definitions and cannot drift from the server. Times named `…_at_ms` are milliseconds
//! since the Unix epoch on the answering member's wall clock; durations are named `…_ms`.

use std::collections::BTreeMap;

use alys_cluster::federation::{GateInputs, GateOutcome};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::consensus::byzantine::Misbehaviour;

/// State of a gate: whether the federation may work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateDecision {
    /// At least the required number of members has been healthy for long enough.
    Open,
    /// Too few members are healthy, or they have not been healthy for long enough.
    Closed,
}

impl std::fmt::Display for GateDecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closed => "closed",
        })
    }
}

/// One decision of this member's gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateRecord {
    /// Sequence number within this incarnation, from 1.
    pub sequence: u64,
    /// Time of the decision.
    pub at_ms: u64,
    /// State of the gate after the decision.
    pub decision: GateDecision,
    /// Number of healthy members, this one included.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason of the decision, as a sentence.
    pub reason: String,
}

/// `GET /federation/gate`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// Name of the answering member.
    pub node: String,
    /// Incarnation of the answering member: grows with every start and is never reused.
    pub incarnation: u64,
    /// Current state of the gate. Also closed if the lease of the last verdict has expired.
    pub decision: GateDecision,
    /// Number of healthy members, this one included.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason of the state, as a sentence.
    pub reason: String,
    /// What would change the state, as a sentence.
    pub would_change: String,
    /// Admission for each class of operations.
    #[serde(default)]
    pub classes: Vec<ClassView>,
    /// Last decisions that differ from the one before, oldest first, at most 1,024.
    pub history: Vec<GateRecord>,
}

/// Admission of one class of operations by the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassView {
    /// Class of operations: `propose`, `vote`, `sign_for_bridge` or `change_membership`.
    pub class: String,
    /// Number of healthy members that the class requires.
    pub demand: usize,
    /// Whether the class is admitted now.
    pub decision: GateDecision,
}

/// `GET /federation/decisions`: decision log of this member's gate. Calling the cluster's `decide` with a record's
/// inputs reproduces its outcome byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionsView {
    /// Name of the answering member.
    pub node: String,
    /// Incarnation of the answering member: grows with every start and is never reused.
    pub incarnation: u64,
    /// Number of decisions that this incarnation has written to its file.
    #[serde(default)]
    pub written: u64,
    /// Number of decisions that it could not write.
    #[serde(default)]
    pub dropped: u64,
    /// Last decisions that differ from the one before, oldest first, at most 1,024.
    pub decisions: Vec<DecisionView>,
}

/// One decision of the gate with its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// Sequence number within this incarnation, from 1; equals `GateRecord::sequence`.
    pub sequence: u64,
    /// Time of the decision.
    pub at_ms: u64,
    /// All inputs of the decision, for `alys-node decisions replay`.
    #[schema(value_type = Object)]
    pub inputs: GateInputs,
    /// Complete outcome of the decision.
    #[schema(value_type = Object)]
    pub outcome: GateOutcome,
}

/// State of one member of the roster as this member sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The member's name in genesis.
    pub name: String,
    /// Whether the member counts as healthy for the gate.
    pub healthy: bool,
    /// `self`, `up`, `attested` (reachable through other members only), `suspected` (silent, but so is every other
    /// member, so this member suspects itself), `down`, `left` (shut down gracefully) or `unknown` (no message received
    /// in this incarnation).
    pub state: String,
    /// Member that relayed its last attestation, if the state is `attested`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Incarnation of the member, if known.
    pub incarnation: Option<u64>,
    /// Time since its last response, if there was one.
    pub last_seen_ms: Option<u64>,
    /// Suspicion level phi of the accrual failure detector, 0 if unsuspected; absent for this member itself.
    pub phi: Option<f64>,
    /// Offset of the member's wall clock from this member's, in milliseconds: positive if ahead, negative if behind,
    /// absent if not measured yet. For this member itself: offset from the median of the other members' clocks, present
    /// only while it is wrong.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// Height of its chain, as last received.
    pub height: Option<u64>,
    /// Number of its actors that it publishes, as last received: 0 while the member is down; absent for this member
    /// itself.
    pub published: Option<usize>,
    /// Why the member is not healthy; empty if it is.
    pub reason: String,
}

/// State and counters of the link to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// Name of the peer.
    pub peer: String,
    /// State of the link: `idle`, `dialling`, `awaiting` or `up`; `unknown` if the link's actor does not reply, with
    /// the reason in `last_loss`.
    pub state: String,
    /// Whether this member dials the peer. The member with the greater name dials; the other accepts.
    pub dials: bool,
    /// Negotiated version of the link protocol; absent without a connection.
    pub version: Option<u32>,
    /// Last round-trip time of a ping on this connection, in microseconds; absent before the first.
    pub round_trip_us: Option<u64>,
    /// Number of dials by this member since its start.
    pub dialled: u64,
    /// Number of established sessions since its start.
    pub sessions: u64,
    /// Number of envelopes in the send queue.
    pub queued: usize,
    /// Size of the envelopes in the send queue, in bytes.
    pub queued_bytes: usize,
    /// Number of envelopes sent to the peer.
    pub sent: u64,
    /// Number of bytes sent, before encryption.
    pub sent_bytes: u64,
    /// Number of envelopes received from the peer.
    pub received: u64,
    /// Number of bytes received.
    pub received_bytes: u64,
    /// Number of received envelopes that were rejected.
    pub refused: u64,
    /// Number of envelopes dropped or rejected because the queue was full, by class.
    pub dropped: BTreeMap<String, u64>,
    /// Number of envelopes that were not sent because the link was down, or that were lost with the connection.
    pub lost: u64,
    /// Reason of the last loss of the link; empty if it was never lost.
    pub last_loss: String,
}

/// `GET /federation/links`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinksView {
    /// Name of the answering member.
    pub node: String,
    /// Links by name of the peer.
    pub links: Vec<LinkView>,
    /// Number of connections and envelopes rejected since the start, from members and from strangers.
    pub refusals: u64,
}

/// `GET /federation/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FederationView {
    /// Name of the answering member.
    pub node: String,
    /// Chain id of its genesis.
    pub chain_id: String,
    /// Incarnation of the answering member: grows with every start and is never reused.
    pub incarnation: u64,
    /// Time since this process started.
    pub uptime_ms: u64,
    /// Height of the last committed block; 0 before the first.
    pub height: u64,
    /// Current state of the gate.
    pub gate: GateDecision,
    /// Number of healthy members, this one included.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason of the gate's state.
    pub reason: String,
    /// All members of the roster, in genesis order.
    pub members: Vec<MemberView>,
    /// One link per peer, in genesis order.
    pub links: Vec<LinkView>,
    /// File system of its data directory; absent if the operating system does not report it.
    #[serde(default)]
    pub disk: Option<DiskView>,
}

/// File system of a member's data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskView {
    /// Space that is free for the member on the file system, in bytes.
    pub free_bytes: u64,
    /// Size of the member's files, in bytes.
    pub data_bytes: u64,
    /// Median duration of the last syncs, in microseconds.
    pub sync_us: u64,
}

/// Aggregate certificate of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// Round in which the block was decided.
    pub round: u32,
    /// Hash of the block, hexadecimal, 32 bytes.
    pub block: String,
    /// Names of the members whose precommits are aggregated, in genesis order.
    pub signers: Vec<String>,
    /// The same members as a bitmap over the genesis order; bit 0 is the first member.
    pub bitmap: u64,
    /// Aggregate BLS signature, hexadecimal, 96 bytes.
    pub signature: String,
}

/// `GET /chain/blocks/{height}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// Height of the block, from 1.
    pub height: u64,
    /// Hash of the block, hexadecimal, 32 bytes.
    pub hash: String,
    /// Hash of the parent; the genesis hash for height 1.
    pub parent: String,
    /// Time at which the proposer built the block, on the proposer's wall clock, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Name of the member that built the block.
    pub proposer: String,
    /// State root after the block, hexadecimal, 32 bytes.
    pub state_root: String,
    /// Transactions in order, hexadecimal.
    pub transactions: Vec<String>,
    /// Proof that a quorum precommitted this block.
    pub certificate: CertificateView,
    /// Time at which this member first received the proposal; absent if it fetched the block from a peer.
    pub proposal_at_ms: Option<u64>,
    /// Time at which this member decided or adopted the block.
    pub decided_at_ms: u64,
    /// Whether this member fetched the block from a peer instead of deciding it itself.
    pub adopted: bool,
}

/// `GET /chain/head`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// Height of the last committed block; 0 before the first.
    pub height: u64,
    /// Hash of that block; the genesis hash before the first.
    pub hash: String,
    /// State root after that block; zeros before the first.
    pub state_root: String,
    /// Timestamp of that block; 0 before the first.
    pub timestamp_ms: u64,
}

/// One signature by this member's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureView {
    /// Incarnation that signed.
    pub incarnation: u64,
    /// Height of the statement.
    pub height: u64,
    /// Round of the statement.
    pub round: u32,
    /// Step of the statement: `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// Hash of the block; absent for a nil vote.
    pub block: Option<String>,
    /// Time of the signature.
    pub at_ms: u64,
    /// Sequence number (`GateRecord::sequence`) of the gate decision that admitted the signature.
    pub gate_sequence: u64,
}

/// `GET /consensus/signatures?from_height=H`: signatures of all incarnations from the signer guard's journal, oldest
/// first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignaturesView {
    /// Name of the answering member.
    pub node: String,
    /// At most 4,096 signatures with `height >= from_height`.
    pub signatures: Vec<SignatureView>,
}

/// Content of a statement with its author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedView {
    /// Hash of the block; absent for a nil vote.
    pub block: Option<String>,
    /// For a proposal: earlier round in which the block got a quorum of prevotes; -1 for none, and for votes.
    pub pol_round: i64,
    /// The author's signature over the statement, hexadecimal.
    pub signature: String,
}

/// Equivocation: two different statements of one member for the same height, round and step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EquivocationView {
    /// Name of the member that signed both statements.
    pub member: String,
    /// Height of both statements.
    pub height: u64,
    /// Round of both statements.
    pub round: u32,
    /// Step of both statements: `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// Statement received first.
    pub first: SignedView,
    /// Statement received second.
    pub second: SignedView,
    /// Time at which the second statement was received.
    pub seen_at_ms: u64,
}

/// `GET /consensus/evidence`: evidence of equivocation, verified on receipt, kept across restarts, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// Name of the answering member.
    pub node: String,
    /// At most 16 pieces of evidence per member, each for a different height.
    pub evidence: Vec<EquivocationView>,
}

/// Statement that this member received, with a verified signature of its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivedStatementView {
    /// Name of the author.
    pub member: String,
    /// Height of the statement.
    pub height: u64,
    /// Round of the statement.
    pub round: u32,
    /// Step of the statement: `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// Hash of the block; absent for a nil vote.
    pub block: Option<String>,
    /// Time at which the statement was first received.
    pub at_ms: u64,
}

/// `GET /consensus/received?from_height=H`: statements received from other members since this member's consensus
/// started, by height.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivedView {
    /// Name of the answering member.
    pub node: String,
    /// Statements with `height >= from_height`: at most 96 per author and height, for the last 128 heights.
    pub statements: Vec<ReceivedStatementView>,
}

/// `GET /genesis`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenesisView {
    /// Chain id.
    pub chain_id: String,
    /// SHA-256 of the genesis, hexadecimal.
    pub hash: String,
    /// Time between blocks.
    pub block_time_ms: u64,
    /// Members in genesis order.
    pub members: Vec<GenesisMemberView>,
}

/// Member in `GET /genesis`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenesisMemberView {
    /// Name of the member.
    pub name: String,
    /// BLS public key of the member, hexadecimal, 48 bytes.
    pub public_key: String,
}

/// Kind of fault that can be injected into an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The actor's handler panics.
    Panic,
    /// The actor's handler blocks forever, or until the handler's deadline.
    Hang,
    /// The actor is killed at its next await point.
    Kill,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Kill => "kill",
        })
    }
}

/// `POST /faults`, and its answer
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FaultRequest {
    /// Name of the actor in the supervision tree.
    pub actor: String,
    /// Fault to inject.
    pub fault: FaultKind,
}

/// `POST /faults/consensus`, and its answer
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MisbehaviourRequest {
    /// How this member violates the protocol from now on; absent for not at all.
    pub misbehaviour: Option<Misbehaviour>,
}

/// `POST /faults/disk`, and its answer
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskFaultRequest {
    /// Delay added to every sync from now on, in milliseconds; 0 ends the fault.
    pub sync_delay_ms: u32,
}

/// `POST /faults/clock`, and its answer
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockRequest {
    /// Offset of this member's wall clock from its machine's clock, in milliseconds: positive if ahead, negative if
    /// behind.
    pub ahead_ms: i64,
}

/// One node of the supervision tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeView {
    /// Name of the child.
    pub name: String,
    /// `supervisor` or `worker`.
    pub kind: String,
    /// Lifecycle state: `starting`, `running`, `stopping`, `restarting`, `stopped`, `suspended` or `halted`.
    pub state: String,
    /// Number of automatic restarts of this child by its supervisor, failed attempts included.
    pub restarts: u64,
    /// Reason of its last failure; empty if it never failed.
    pub last_failure: String,
    /// Restart type: `permanent`, `transient` or `temporary`.
    pub restart: String,
    /// Restart strategy: `immediate`, `exponential_backoff`, `fixed_delay` or `never`.
    pub strategy: String,
    /// Whether restarts wait for the next slot boundary.
    pub at_boundary: bool,
    /// For a supervisor: supervision strategy, which children restart when one fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// For a supervisor: maximum number of restarts within `within_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// For a supervisor: window of the restart intensity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// For a supervisor: number of its children; `children` shows at most 256 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_count: Option<usize>,
    /// Children in start order, at most 256; empty for a worker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(no_recursion)]
    pub children: Vec<TreeView>,
}

/// `GET /supervision/stats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupervisionStatsView {
    /// Name of the answering member.
    pub node: String,
    /// Restart budget of every supervisor.
    pub supervisors: Vec<BudgetView>,
    /// Restart budget of the whole tree.
    pub bound: BudgetView,
    /// Actors with recorded failures, the most recent failure first.
    pub actors: Vec<ActorStatsView>,
}

/// Usage of a restart budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// Name of the supervisor that the budget belongs to.
    pub name: String,
    /// Number of restarts within the window.
    pub used: u64,
    /// Number of restarts that are still allowed.
    pub left: u64,
}

/// Failure statistics of one actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorStatsView {
    /// Name of the actor.
    pub name: String,
    /// Number of failures.
    pub failures: u64,
    /// Number of restarts decided.
    pub restarts: u64,
    /// Number of failures that were not answered with a restart.
    pub escalations: u64,
    /// Number of restarts after which the actor ran again.
    pub recoveries: u64,
    /// Total downtime before those recoveries.
    pub away_ms: u64,
}

/// `GET /supervision/patterns`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PatternsView {
    /// Name of the answering member.
    pub node: String,
    /// Recent patterns, the last seen first.
    pub patterns: Vec<PatternView>,
    /// Failures that were not answered with a restart, most recent first: they explain why an actor stays down.
    pub escalations: Vec<AttemptView>,
}

/// Pattern of failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PatternView {
    /// Kind of pattern: `repeat`, `cascade` or `correlation`.
    pub kind: String,
    /// Actors of the pattern; in a cascade, in the order in which they failed.
    pub actors: Vec<String>,
    /// Number of times the pattern was seen.
    pub times: u64,
    /// Factor by which the delay of the next restart is multiplied.
    pub delay_factor: f64,
    /// Whether the pattern's circuit breaker currently blocks restarts.
    pub circuit_open: bool,
    /// Failures that form the pattern, oldest first.
    pub evidence: Vec<FailureView>,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// Time of the failure.
    pub at_ms: u64,
    /// Name of the actor that failed.
    pub actor: String,
    /// Kind of failure: `panic`, `timeout`, `killed`, …
    pub kind: String,
    /// Failure class: `transient`, `exhausted`, `corrupt`, `configuration` or `consensus_fatal`.
    pub class: String,
    /// Error message.
    pub message: String,
    /// Source location of a panic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Backtrace of a panic, if captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

/// `GET /supervision/memory`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupervisionMemoryView {
    /// Name of the answering member.
    pub node: String,
    /// Number of actors with recorded failures.
    pub actors: usize,
    /// Maximum number of actors with recorded failures.
    pub actors_max: usize,
    /// Number of recorded failures of all actors.
    pub attempts: usize,
    /// Maximum number of recorded failures per actor.
    pub attempts_max: usize,
    /// Number of actors evicted to make room.
    pub forgotten: u64,
    /// Failures by actor, the actor that failed last first.
    pub history: Vec<HistoryView>,
}

/// Recorded failures of one actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// Name of the actor.
    pub name: String,
    /// Last failures and decisions, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One failure and the decision about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The failure.
    #[serde(flatten)]
    pub failure: FailureView,
    /// Decision: `restart`, `restart_siblings`, `raise_to_parent`, `stay_down` or `stop_node`.
    pub decision: String,
    /// Number of consecutive restarts including this one, from 1.
    pub attempt: u32,
    /// Delay of the restart.
    pub delay_ms: u64,
    /// Downtime of the actor; absent until it runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
}

/// Health of one actor of this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorHealthView {
    /// Name of the actor.
    pub name: String,
    /// Priority: `critical`, `high`, `normal` or `background`.
    pub priority: String,
    /// Health status: `unknown`, `healthy`, `degraded`, `unhealthy`, `recovering` or `shutting_down`.
    pub status: String,
    /// Number of consecutive failed checks.
    pub consecutive_failures: u32,
    /// Response time from ping to pong of the last answered check.
    pub response_time_us: Option<u64>,
    /// Why the actor is not healthy; empty if it is.
    pub reason: String,
    /// Number of messages in its mailbox at the last check.
    pub waiting: usize,
}

/// `GET /health/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// Name of the answering member.
    pub node: String,
    /// Whether every critical actor is healthy or degraded.
    pub healthy: bool,
    /// Weighted mean of the actors' statuses, from 0 to 1. Weights: critical 8, high 4, normal 2, background 1.
    pub score: f64,
    /// All actors under health checks.
    pub actors: Vec<ActorHealthView>,
}

/// `GET /health/trends`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendsView {
    /// Name of the answering member.
    pub node: String,
    /// Health score, as in `/health/status`.
    pub score: f64,
    /// Trends of all actors under health checks.
    pub actors: Vec<TrendView>,
    /// Trends of the other members, sampled once a second; their response time is the time since their last response.
    pub members: Vec<TrendView>,
}

/// Statistics over the last checks of one actor or member, at most 64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendView {
    /// Name of the actor or member.
    pub name: String,
    /// Number of checks in the window.
    pub samples: usize,
    /// Time from the first to the last check of the window.
    pub span_ms: u64,
    /// Fraction of checks without a response, from 0 to 1.
    pub failure_rate: f64,
    /// Mean response time.
    pub response_mean_us: u64,
    /// Longest response time.
    pub response_max_us: u64,
    /// Slope of the response time, in milliseconds per second.
    pub response_slope_ms_per_s: f64,
    /// Mean score, from 0 to 1.
    pub score: f64,
    /// Slope of the score, per second.
    pub score_slope_per_s: f64,
    /// Response time above which a response counts as slow: derived from the usual one within the configured limits.
    /// Absent for a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_above_us: Option<u64>,
    /// Time until the response time reaches the timeout of checks if the trend continues; absent if it does not rise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crosses_in_ms: Option<u64>,
}

/// `POST /shutdown`, with the header `authorization: Bearer <token>`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownRequest {
    /// Whether to shut down even if the federation then has fewer healthy members than it requires.
    pub force: bool,
    /// Reason for logs and events, at most 200 characters; empty for none.
    #[schema(max_length = 200)]
    pub reason: String,
    /// Whether the response is sent only when the shutdown has finished.
    pub wait: bool,
}

/// `GET /shutdown`, and the response of `POST /shutdown`: 202 while the shutdown runs, 200 if `wait` was set
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownView {
    /// Name of the answering member.
    pub node: String,
    /// State: `running`, `initiated`, `preparation`, `actor_shutdown`, `cleanup`, `finalization`, `forced_shutdown` or
    /// `complete`.
    pub state: String,
    /// Reason of the shutdown; empty before it starts.
    pub reason: String,
    /// Whether the shutdown is forced.
    pub forced: bool,
    /// Time since the shutdown started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_for_ms: Option<u64>,
    /// Time left until the shutdown is forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Why the last request was refused; empty if none was refused or the shutdown has started since.
    pub refusal: String,
    /// Phases in order.
    pub phases: Vec<ShutdownPhaseView>,
}

/// One phase of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownPhaseView {
    /// Name of the phase.
    pub name: String,
    /// Shutdown state that the phase belongs to.
    pub state: String,
    /// Deadline of the phase.
    pub deadline_ms: u64,
    /// Tasks of the phase, which run in parallel.
    pub tasks: Vec<ShutdownTaskView>,
}

/// One task of a shutdown phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownTaskView {
    /// Name of the task, unique in its phase.
    pub name: String,
    /// State: `waiting`, `running`, `done` or `failed`.
    pub state: String,
    /// Result or error message; may be empty.
    pub note: String,
}

/// `GET /readyz`: 200 if ready, 503 if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// Whether the member is ready: gate open, chain caught up, critical actors healthy.
    pub ready: bool,
    /// Why the member is not ready; empty if it is.
    pub reasons: Vec<String>,
}

/// `POST /transactions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionRequest {
    /// Bytes of the transaction, hexadecimal, 1 to 4,096 bytes.
    #[schema(min_length = 2, max_length = 8192)]
    pub payload: String,
}

/// Response 202 of `POST /transactions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionReceipt {
    /// SHA-256 of the payload, hexadecimal.
    pub hash: String,
    /// Number of transactions in this member's pool.
    pub pooled: usize,
}

/// One event of `GET /events`; the list has at most 2,048, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Event id `INCARNATION-NUMBER`, the same as in a stream.
    #[serde(default)]
    pub id: String,
    /// Time at which the event was recorded.
    pub at_ms: u64,
    /// Kind of event in `snake_case`.
    pub kind: String,
    /// The event as a sentence.
    pub message: String,
    /// The event's data for programs: names of actors (`actor`, `child`, `supervisor`) and members (`member`,
    /// `through`), `reason`, `height` and others, depending on the kind.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// Trace id of the event, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// For a restart decision: all of its inputs. The same inputs give the same decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
}

/// Set of actors that a query covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Actors of the answering member.
    Member,
    /// Actors of the answering member, and those that the other members publish.
    Federation,
}

/// Mailbox statistics of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailboxView {
    /// Maximum number of messages.
    pub capacity: usize,
    /// Number of messages that wait or are being handled.
    pub depth: usize,
    /// Number of messages rejected since the node started because the mailbox was full.
    pub refused: u64,
    /// Rust type of its messages.
    pub message_type: String,
}

/// One registered actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorView {
    /// Member that the actor runs on.
    pub member: String,
    /// Name of the actor, unique in its member.
    pub name: String,
    /// Type of the actor.
    pub actor_type: String,
    /// Priority: `critical`, `high`, `normal` or `background`.
    pub priority: String,
    /// Tags by which queries find the actor.
    pub tags: Vec<String>,
    /// Further metadata as key-value pairs.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Supervisor of the actor; absent for the root and for actors of other members, which do not publish it.
    pub supervisor: Option<String>,
    /// Lifecycle state: `registering`, `active`, `suspended`, `shutting_down`, `failed` or `terminated`.
    pub state: String,
    /// Health status of this incarnation: `unknown`, `healthy`, `degraded` or `unhealthy`.
    pub health: String,
    /// Incarnation of the actor: number of its current start, from 1.
    pub incarnation: u64,
    /// Time since the actor became active; absent if it is not.
    pub uptime_ms: Option<u64>,
    /// Number of failures.
    pub failures: u64,
    /// Mailbox statistics; present only for actors of this member with a bounded mailbox.
    pub mailbox: Option<MailboxView>,
    /// Protocol by which other members can call the actor, if there is one.
    pub protocol: Option<String>,
}

/// `GET /registry/actors`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorsView {
    /// Name of the answering member.
    pub node: String,
    /// Number of actors that match the query, on all pages.
    pub matched: usize,
    /// Actors of this page, in order.
    pub actors: Vec<ActorView>,
    /// Value of `after` for the next page; absent on the last page.
    pub next: Option<String>,
    /// Query plan, if requested by `explain`.
    pub plan: Option<String>,
}

/// Number of actors in one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountView {
    /// Name of the group.
    pub name: String,
    /// Number of actors.
    pub count: u64,
}

/// Actors that another member publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedView {
    /// Name of the member.
    pub member: String,
    /// Incarnation of the member.
    pub incarnation: u64,
    /// Number of actors that it publishes.
    pub actors: usize,
}

/// `GET /registry/stats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryStatsView {
    /// Name of the answering member.
    pub node: String,
    /// Number of registered actors.
    pub actors: usize,
    /// Number of actors by lifecycle state.
    pub by_state: Vec<CountView>,
    /// Number of actors by priority.
    pub by_priority: Vec<CountView>,
    /// Number of different actor types.
    pub types: usize,
    /// Number of different tags.
    pub tags: usize,
    /// Number of subscriptions to registry changes.
    pub subscriptions: usize,
    /// Number of registrations since the node started, restarts included.
    pub registrations: u64,
    /// Number of removals since the node started.
    pub removals: u64,
    /// Number of state transitions since the node started.
    pub moves: u64,
    /// Actors that the other reachable members publish.
    pub published: Vec<PublishedView>,
    /// Number of pending requests to actors of other members.
    pub questions_under_way: usize,
}

/// Every error body (`application/problem+json`, RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Problem type: always `about:blank`, as the status is specific enough.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// Short title of the problem.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong: the field, its value, and what was expected.
    pub detail: String,
    /// Path of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// `GET /`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexView {
    /// Name of the answering member.
    pub node: String,
    /// All operations.
    pub links: Vec<IndexLink>,
}

/// One operation of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexLink {
    /// HTTP method; operations that answer `GET` also answer `HEAD`.
    pub method: String,
    /// Path; a name in braces is a parameter.
    pub path: String,
    /// Summary of the operation.
    pub summary: String,
}

/// Data of an event of type `lagged` on a stream of `GET /events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lagged {
    /// Number of missed events, if known.
    pub missed: Option<u64>,
    /// Why events were missed.
    pub reason: String,
}

/// `PUT /logs/level`, with the header `authorization: Bearer <token>`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// A level such as `info`, or directives such as `info,alys_node=debug`.
    #[schema(min_length = 1)]
    pub level: String,
    /// Duration of the change, such as `10m`, from 1s to 24h; permanent if absent.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 2)]
    pub lasts: Option<String>,
}

/// `GET /logs/level`, and what `PUT /logs/level` answers
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLevelView {
    /// Name of the answering member.
    pub node: String,
    /// Log directives in effect.
    pub level: String,
    /// Directives that take effect when a temporary change expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts_to: Option<String>,
    /// Time until a temporary change expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts_in_ms: Option<u64>,
}
