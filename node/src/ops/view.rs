//! The JSON of the ops API: every body the HTTP server writes, as plain types.
//!
//! The types also read what they write, so that a client in Rust (the simulator, `alys-node healthcheck`)
//! uses the very same definitions and the two can not drift apart. Times named `…_at_ms` are milliseconds
//! since the Unix epoch on the answering member's wall clock; durations are named `…_ms`.

use std::collections::BTreeMap;

use alys_cluster::federation::{GateInputs, GateOutcome};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actors::consensus::byzantine::Misbehaviour;

/// What a gate says: the federation may work, or it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateDecision {
    /// At least the required number of members is healthy, for long enough.
    Open,
    /// Too few members are healthy, or they have not been for long enough.
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
    /// Counts this incarnation's decisions from 1.
    pub sequence: u64,
    /// When it was taken.
    pub at_ms: u64,
    /// What was decided.
    pub decision: GateDecision,
    /// Healthy members, this one included.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Why, as a sentence.
    pub reason: String,
}

/// `GET /federation/gate`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateView {
    /// The answering member.
    pub node: String,
    /// Which start of this member this is; grows with each, and is never used twice.
    pub incarnation: u64,
    /// What holds now. Closed as well when the last verdict has outlived its lease.
    pub decision: GateDecision,
    /// Healthy members, this one included.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Why, as a sentence.
    pub reason: String,
    /// What would change the decision, as a sentence.
    pub would_change: String,
    /// What is admitted, by class of operations.
    #[serde(default)]
    pub classes: Vec<ClassView>,
    /// The last decisions that differed from the one before, oldest first, at most 1,024.
    pub history: Vec<GateRecord>,
}

/// What the gate says of one class of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClassView {
    /// `propose`, `vote`, `sign_for_bridge` or `change_membership`.
    pub class: String,
    /// Healthy members it demands.
    pub demand: usize,
    /// Whether it is admitted now.
    pub decision: GateDecision,
}

/// `GET /federation/decisions`: the log of this member's gate. The cluster's `decide` of a record's inputs
/// gives its outcome again, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionsView {
    /// The answering member.
    pub node: String,
    /// Which start of this member this is; grows with each, and is never used twice.
    pub incarnation: u64,
    /// How many this incarnation has written to its file.
    #[serde(default)]
    pub written: u64,
    /// How many it could not.
    #[serde(default)]
    pub dropped: u64,
    /// The last decisions that differed from the one before, oldest first, at most 1,024.
    pub decisions: Vec<DecisionView>,
}

/// One decision with what it was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionView {
    /// Counts this incarnation's decisions from 1; `GateRecord::sequence`.
    pub sequence: u64,
    /// When it was taken.
    pub at_ms: u64,
    /// Everything it was taken from, for `alys-node decisions replay`.
    #[schema(value_type = Object)]
    pub inputs: GateInputs,
    /// Everything that was decided.
    #[schema(value_type = Object)]
    pub outcome: GateOutcome,
}

/// What this member thinks of one member of the roster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// The member's name in genesis.
    pub name: String,
    /// Whether it counts towards the gate.
    pub healthy: bool,
    /// `self`, `up`, `attested` (answers through others only), `suspected` (silent as everyone is), `down`, `left`
    /// (gone in order) or `unknown` (never heard of in this incarnation).
    pub state: String,
    /// Who last brought its word, if it is attested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// Its incarnation, where known.
    pub incarnation: Option<u64>,
    /// Time since its last answer, where there was one.
    pub last_seen_ms: Option<u64>,
    /// Suspicion by the accrual detector: phi, 0 when unsuspected; absent for this member itself.
    pub phi: Option<f64>,
    /// How far its wall clock is ahead of this member's, in milliseconds; negative if it is behind, absent where its
    /// answers have not shown it. Of this member itself: how far it is off the others' median, while that is wrong.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// The height of its chain, as last heard.
    pub height: Option<u64>,
    /// How many of its actors it publishes, as far as known here: none while it is lost; absent for this member
    /// itself.
    pub published: Option<usize>,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
}

/// The link to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// The peer's name.
    pub peer: String,
    /// `idle`, `dialling`, `awaiting`, `up`; `unknown` while the link's actor does not answer, `last_loss` says why.
    pub state: String,
    /// Whether this member dials (the greater name does) or waits to be dialled.
    pub dials: bool,
    /// The version of the link that both speak; absent while there is none.
    pub version: Option<u32>,
    /// The last round trip of a ping on the connection, in microseconds; absent before the first.
    pub round_trip_us: Option<u64>,
    /// Times this member dialled since start.
    pub dialled: u64,
    /// Sessions that became usable since start.
    pub sessions: u64,
    /// Envelopes waiting to be sent.
    pub queued: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// Envelopes written to the peer.
    pub sent: u64,
    /// Bytes written, before encryption.
    pub sent_bytes: u64,
    /// Envelopes of the peer that arrived.
    pub received: u64,
    /// Bytes that arrived.
    pub received_bytes: u64,
    /// Envelopes that arrived and were refused.
    pub refused: u64,
    /// Envelopes dropped or refused because the queue was full, by class.
    pub dropped: BTreeMap<String, u64>,
    /// Envelopes not sent because the link was down, or lost with it.
    pub lost: u64,
    /// Why the link was last lost; empty if it never was.
    pub last_loss: String,
}

/// `GET /federation/links`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinksView {
    /// The answering member.
    pub node: String,
    /// One for each peer, by name.
    pub links: Vec<LinkView>,
    /// Connections and envelopes refused since start, of members and strangers.
    pub refusals: u64,
}

/// `GET /federation/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FederationView {
    /// The answering member.
    pub node: String,
    /// The chain id of its genesis.
    pub chain_id: String,
    /// Which start of this member this is; grows with each, and is never used twice.
    pub incarnation: u64,
    /// Time since this process started.
    pub uptime_ms: u64,
    /// The height of the last committed block; 0 before the first.
    pub height: u64,
    /// The gate's decision now.
    pub gate: GateDecision,
    /// Healthy members, this one included.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// The gate's reason.
    pub reason: String,
    /// The whole roster, in genesis order.
    pub members: Vec<MemberView>,
    /// One link per peer, in genesis order.
    pub links: Vec<LinkView>,
    /// The disk under its data directory; absent if the system does not tell.
    #[serde(default)]
    pub disk: Option<DiskView>,
}

/// The disk under a member's data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskView {
    /// What is free to the member on the file system.
    pub free_bytes: u64,
    /// What the member's files take.
    pub data_bytes: u64,
    /// What a sync takes: the median of the last ones.
    pub sync_us: u64,
}

/// The aggregate certificate of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// The round in which the block was decided.
    pub round: u32,
    /// The block's hash, hexadecimal, 32 bytes.
    pub block: String,
    /// Names of the members whose precommits are aggregated, in genesis order.
    pub signers: Vec<String>,
    /// The same as a bitmap over the genesis order; bit 0 is the first member.
    pub bitmap: u64,
    /// The aggregate BLS signature, hexadecimal, 96 bytes.
    pub signature: String,
}

/// `GET /chain/blocks/{height}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    /// The block's height, from 1.
    pub height: u64,
    /// The block's hash, hexadecimal, 32 bytes.
    pub hash: String,
    /// The parent's hash; the genesis hash for height 1.
    pub parent: String,
    /// The proposer's wall clock when it built the block.
    pub timestamp_ms: u64,
    /// The name of the member that built the block.
    pub proposer: String,
    /// The state root after the block, hexadecimal, 32 bytes.
    pub state_root: String,
    /// The transactions, hexadecimal, in order.
    pub transactions: Vec<String>,
    /// Proof that a quorum precommitted this block.
    pub certificate: CertificateView,
    /// When this member first saw the proposal; absent if it fetched the block from a peer.
    pub proposal_at_ms: Option<u64>,
    /// When this member decided or adopted the block.
    pub decided_at_ms: u64,
    /// Whether this member fetched the block from a peer instead of deciding it itself.
    pub adopted: bool,
}

/// `GET /chain/head`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// The height of the last committed block; 0 before the first.
    pub height: u64,
    /// Its hash; the genesis hash before the first.
    pub hash: String,
    /// Its state root; zeros before the first.
    pub state_root: String,
    /// Its timestamp; 0 before the first.
    pub timestamp_ms: u64,
}

/// One signature this member's key has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureView {
    /// The incarnation that signed.
    pub incarnation: u64,
    /// The height signed for.
    pub height: u64,
    /// The round signed for.
    pub round: u32,
    /// `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// The block's hash; absent for a nil vote.
    pub block: Option<String>,
    /// When it was signed.
    pub at_ms: u64,
    /// The number of the gate decision (`GateRecord::sequence`) that admitted it.
    pub gate_sequence: u64,
}

/// `GET /consensus/signatures?from_height=H`: from the signer guard's journal, every incarnation's, oldest
/// first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignaturesView {
    /// The answering member.
    pub node: String,
    /// At most 4,096 signatures with `height >= from_height`.
    pub signatures: Vec<SignatureView>,
}

/// A statement with its author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedView {
    /// The block's hash; absent for a nil vote.
    pub block: Option<String>,
    /// Of a proposal: the earlier round in which the block got a quorum of prevotes; -1 for none, and for votes.
    pub pol_round: i64,
    /// The author's signature over the statement, hexadecimal.
    pub signature: String,
}

/// Two statements of one member for the same height, round and step that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EquivocationView {
    /// Whose signatures they are.
    pub member: String,
    /// The height signed for.
    pub height: u64,
    /// The round signed for.
    pub round: u32,
    /// `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// The statement received first.
    pub first: SignedView,
    /// The statement received second.
    pub second: SignedView,
    /// When the second was received.
    pub seen_at_ms: u64,
}

/// `GET /consensus/evidence`: verified when it was received, kept across restarts, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// The answering member.
    pub node: String,
    /// At most 16 of each member, each of another height.
    pub evidence: Vec<EquivocationView>,
}

/// A statement that this member received, with a verified signature of its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivedStatementView {
    /// Whose statement it is.
    pub member: String,
    /// The height signed for.
    pub height: u64,
    /// The round signed for.
    pub round: u32,
    /// `proposal`, `prevote` or `precommit`.
    pub step: String,
    /// The block's hash; absent for a nil vote.
    pub block: Option<String>,
    /// When it was received first.
    pub at_ms: u64,
}

/// `GET /consensus/received?from_height=H`: what other members were heard to state since this member's consensus
/// started, in the order of heights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceivedView {
    /// The answering member.
    pub node: String,
    /// Statements with `height >= from_height`; of each author at most 96 for a height, of the last 128 heights.
    pub statements: Vec<ReceivedStatementView>,
}

/// `GET /genesis`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenesisView {
    /// The chain id.
    pub chain_id: String,
    /// SHA-256 over the genesis, hexadecimal.
    pub hash: String,
    /// The time between blocks.
    pub block_time_ms: u64,
    /// Members in genesis order.
    pub members: Vec<GenesisMemberView>,
}

/// A member in `GET /genesis`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GenesisMemberView {
    /// The member's name.
    pub name: String,
    /// Its BLS public key, hexadecimal, 48 bytes.
    pub public_key: String,
}

/// What can be done to an actor in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// It panics in its handler.
    Panic,
    /// Its handler waits for ever, or until its deadline.
    Hang,
    /// It is killed at its next await.
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
    /// Which actor, by its name in the supervision tree.
    pub actor: String,
    /// What happens to it.
    pub fault: FaultKind,
}

/// `POST /faults/consensus`, and its answer
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MisbehaviourRequest {
    /// How this member breaks the protocol from now on; absent for not at all.
    pub misbehaviour: Option<Misbehaviour>,
}

/// `POST /faults/disk`, and its answer
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskFaultRequest {
    /// How much longer every sync takes from now on, in milliseconds; 0 ends the drill.
    pub sync_delay_ms: u32,
}

/// `POST /faults/clock`, and its answer
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockRequest {
    /// How far this member's wall clock is ahead of its machine's, in milliseconds; negative if it is behind.
    pub ahead_ms: i64,
}

/// One node of the supervision tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TreeView {
    /// The child's name.
    pub name: String,
    /// `supervisor` or `worker`.
    pub kind: String,
    /// `starting`, `running`, `stopping`, `restarting`, `stopped`, `suspended`, `halted`.
    pub state: String,
    /// Automatic restarts of this child by its supervisor, failed attempts included.
    pub restarts: u64,
    /// Why it last ended; empty if it never did.
    pub last_failure: String,
    /// `permanent`, `transient` or `temporary`.
    pub restart: String,
    /// How its restarts are spaced: `immediate`, `exponential_backoff`, `fixed_delay`, `never`.
    pub strategy: String,
    /// Whether it starts again with a slot only.
    pub at_boundary: bool,
    /// For a supervisor: who is restarted when one fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// For a supervisor: restarts allowed within `within_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// For a supervisor: the window of the restart intensity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
    /// For a supervisor: how many children it has; more than are shown, if they are very many.
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
    /// The answering member.
    pub node: String,
    /// Every supervisor's restart budget.
    pub supervisors: Vec<BudgetView>,
    /// Restarts in the whole tree, and their bound.
    pub bound: BudgetView,
    /// Every actor that ever failed and is remembered, those that failed last first.
    pub actors: Vec<ActorStatsView>,
}

/// How much of a restart budget is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetView {
    /// Whose.
    pub name: String,
    /// Restarts within the window.
    pub used: u64,
    /// Restarts that are still allowed.
    pub left: u64,
}

/// Sums over an actor's failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorStatsView {
    /// The actor.
    pub name: String,
    /// Failures.
    pub failures: u64,
    /// Restarts decided.
    pub restarts: u64,
    /// Failures that were answered otherwise.
    pub escalations: u64,
    /// Restarts after which it ran.
    pub recoveries: u64,
    /// Time away before those, all together.
    pub away_ms: u64,
}

/// `GET /supervision/patterns`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PatternsView {
    /// The answering member.
    pub node: String,
    /// Patterns of late, those seen last first.
    pub patterns: Vec<PatternView>,
    /// Failures that were not answered by a restart, the last first: why something stays down.
    pub escalations: Vec<AttemptView>,
}

/// A pattern of failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PatternView {
    /// `repeat`, `cascade` or `correlation`.
    pub kind: String,
    /// Who is in it; for a cascade, who failed first comes first.
    pub actors: Vec<String>,
    /// How often it was seen.
    pub times: u64,
    /// What it multiplies the delay of the next restart with.
    pub delay_factor: f64,
    /// Whether it keeps the next restart back for a while.
    pub circuit_open: bool,
    /// The failures that show it, oldest first.
    pub evidence: Vec<FailureView>,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureView {
    /// When.
    pub at_ms: u64,
    /// Whose.
    pub actor: String,
    /// The kind of failure: `panic`, `timeout`, `killed`, …
    pub kind: String,
    /// `transient`, `exhausted`, `corrupt`, `configuration`, `consensus_fatal`.
    pub class: String,
    /// What it says.
    pub message: String,
    /// The place in the source, for a panic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// How it came to it, for a panic that was captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backtrace: Option<String>,
}

/// `GET /supervision/memory`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SupervisionMemoryView {
    /// The answering member.
    pub node: String,
    /// Actors remembered.
    pub actors: usize,
    /// The most that are.
    pub actors_max: usize,
    /// Failures remembered of all of them.
    pub attempts: usize,
    /// The most of one of them.
    pub attempts_max: usize,
    /// Actors forgotten to make room.
    pub forgotten: u64,
    /// The failures, by actor, those that failed last first.
    pub history: Vec<HistoryView>,
}

/// What is remembered of one actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// The actor.
    pub name: String,
    /// Its last failures and what was decided, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One failure and what was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The failure.
    #[serde(flatten)]
    pub failure: FailureView,
    /// What was decided: `restart`, `restart_siblings`, `raise_to_parent`, `stay_down`, `stop_node`.
    pub decision: String,
    /// Which restart in a row this was, from 1.
    pub attempt: u32,
    /// How long the restart was put off.
    pub delay_ms: u64,
    /// How long the actor was away, once it runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_ms: Option<u64>,
}

/// The health of one actor of this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorHealthView {
    /// The actor's name.
    pub name: String,
    /// `critical`, `high`, `normal` or `background`.
    pub priority: String,
    /// `unknown`, `healthy`, `degraded`, `unhealthy`, `recovering` or `shutting_down`.
    pub status: String,
    /// Checks failed in a row.
    pub consecutive_failures: u32,
    /// Time from ping to pong of the last check that was answered.
    pub response_time_us: Option<u64>,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// Messages in its mailbox when it was last checked.
    pub waiting: usize,
}

/// `GET /health/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// The answering member.
    pub node: String,
    /// Whether every critical actor is healthy.
    pub healthy: bool,
    /// The weighted mean of the statuses of its actors, from 0 to 1: critical 8, high 4, normal 2, background 1.
    pub score: f64,
    /// Every actor under health checks.
    pub actors: Vec<ActorHealthView>,
}

/// `GET /health/trends`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendsView {
    /// The answering member.
    pub node: String,
    /// Its score, as in `/health/status`.
    pub score: f64,
    /// Every actor under health checks.
    pub actors: Vec<TrendView>,
    /// Every other member, looked at once a second; its response time is the silence since its last answer.
    pub members: Vec<TrendView>,
}

/// What the last checks of one actor or member, at most 64, add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrendView {
    /// Whose.
    pub name: String,
    /// Checks in the window.
    pub samples: usize,
    /// From the first to the last of them.
    pub span_ms: u64,
    /// The share that had no answer, from 0 to 1.
    pub failure_rate: f64,
    /// The mean response time.
    pub response_mean_us: u64,
    /// The longest response time.
    pub response_max_us: u64,
    /// How the response time changes, in milliseconds a second.
    pub response_slope_ms_per_s: f64,
    /// The mean score, from 0 to 1.
    pub score: f64,
    /// How the score changes, a second.
    pub score_slope_per_s: f64,
    /// Above this an answer is slow: what is usual, within the configured limits. Absent for a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_above_us: Option<u64>,
    /// When the response time reaches the time-out of checks, if it goes on like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crosses_in_ms: Option<u64>,
}

/// `POST /shutdown`, with the header `authorization: Bearer <token>`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownRequest {
    /// Whether the member leaves even if that takes the federation below the members it requires.
    pub force: bool,
    /// Why, for those who read it later, at most 200 characters; empty for no reason.
    #[schema(max_length = 200)]
    pub reason: String,
    /// Whether the answer comes when the shutdown is over.
    pub wait: bool,
}

/// `GET /shutdown`, and what `POST /shutdown` answers: 202 when the shutdown runs, 200 when it was waited for
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownView {
    /// The answering member.
    pub node: String,
    /// `running`, `initiated`, `preparation`, `actor_shutdown`, `cleanup`, `finalization`, `forced_shutdown`,
    /// `complete`.
    pub state: String,
    /// Why it began; empty while it has not.
    pub reason: String,
    /// Whether it is forced.
    pub forced: bool,
    /// Since when it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_for_ms: Option<u64>,
    /// How long is left until it is forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
    /// Why it was last refused; empty if it was not, or began since.
    pub refusal: String,
    /// Its phases, in order.
    pub phases: Vec<ShutdownPhaseView>,
}

/// One phase of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownPhaseView {
    /// Its name.
    pub name: String,
    /// The state it belongs to.
    pub state: String,
    /// The longest it may take.
    pub deadline_ms: u64,
    /// Its tasks, which run in parallel.
    pub tasks: Vec<ShutdownTaskView>,
}

/// One task of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShutdownTaskView {
    /// Its name, unique in its phase.
    pub name: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    /// What became of it, or what went wrong; may be empty.
    pub note: String,
}

/// `GET /readyz`: 200 when ready, 503 when not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// Whether the member takes part: gate open, caught up, critical actors healthy.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
}

/// `POST /transactions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionRequest {
    /// The transaction's bytes, hexadecimal, 1 to 4,096 bytes.
    #[schema(min_length = 2, max_length = 8192)]
    pub payload: String,
}

/// 202 of `POST /transactions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionReceipt {
    /// SHA-256 of the payload, hexadecimal.
    pub hash: String,
    /// Transactions now waiting in this member's pool.
    pub pooled: usize,
}

/// One entry of `GET /events`, oldest first, at most 2,048.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `INCARNATION-NUMBER`, as in a stream.
    #[serde(default)]
    pub id: String,
    /// When it was observed.
    pub at_ms: u64,
    /// What kind it is, in `snake_case`.
    pub kind: String,
    /// The event as a sentence.
    pub message: String,
    /// What the sentence says, for programs: names of actors (`actor`, `child`, `supervisor`) and members (`member`,
    /// `through`), `reason`, `height` and others, by kind.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// The trace that it is part of, as 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Of a supervisor's decision, everything it was taken from: the same inputs give the same decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<String>,
}

/// Whose actors are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the answering member.
    Member,
    /// Those, and what the other members publish.
    Federation,
}

/// How full an actor's mailbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MailboxView {
    /// Its slots.
    pub capacity: usize,
    /// Messages waiting or being handled.
    pub depth: usize,
    /// Messages refused since the node started because every slot was taken.
    pub refused: u64,
    /// The Rust type of its messages.
    pub message_type: String,
}

/// One registered actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorView {
    /// The member it is one of.
    pub member: String,
    /// Its name, unique in its member.
    pub name: String,
    /// What it is.
    pub actor_type: String,
    /// `critical`, `high`, `normal` or `background`.
    pub priority: String,
    /// The words it is found by.
    pub tags: Vec<String>,
    /// Anything else worth knowing.
    pub metadata: std::collections::BTreeMap<String, String>,
    /// Who supervises it; nobody supervises the root, and other members do not tell.
    pub supervisor: Option<String>,
    /// `registering`, `active`, `suspended`, `shutting_down`, `failed` or `terminated`.
    pub state: String,
    /// What the health checks say of this incarnation: `unknown`, `healthy`, `degraded` or `unhealthy`.
    pub health: String,
    /// Which start of it this is, from 1.
    pub incarnation: u64,
    /// How long it has been active; absent while it is not.
    pub uptime_ms: Option<u64>,
    /// Times it failed.
    pub failures: u64,
    /// Its mailbox, where it has one of bounded size, in this member.
    pub mailbox: Option<MailboxView>,
    /// How other members ask it, where they may.
    pub protocol: Option<String>,
}

/// `GET /registry/actors`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActorsView {
    /// The answering member.
    pub node: String,
    /// How many actors the query holds for, on all pages.
    pub matched: usize,
    /// This page of them, in order.
    pub actors: Vec<ActorView>,
    /// What `after` is on the next page, if there is one.
    pub next: Option<String>,
    /// How the query was answered, if asked for.
    pub plan: Option<String>,
}

/// How many there are of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountView {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// What another member publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedView {
    /// The member.
    pub member: String,
    /// Its incarnation.
    pub incarnation: u64,
    /// How many of its actors it publishes.
    pub actors: usize,
}

/// `GET /registry/stats`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegistryStatsView {
    /// The answering member.
    pub node: String,
    /// Registered actors.
    pub actors: usize,
    /// By where they stand in their lives.
    pub by_state: Vec<CountView>,
    /// By their priority.
    pub by_priority: Vec<CountView>,
    /// Types that any of them has.
    pub types: usize,
    /// Tags that any of them has.
    pub tags: usize,
    /// Who is told of changes.
    pub subscriptions: usize,
    /// Registrations since the node started, those of actors that came back included.
    pub registrations: u64,
    /// Removals since the node started.
    pub removals: u64,
    /// Moves from one state to another since the node started.
    pub moves: u64,
    /// What the other members that are there publish.
    pub published: Vec<PublishedView>,
    /// Questions to other members' actors that wait for their answers.
    pub questions_under_way: usize,
}

/// Every error body (`application/problem+json`, RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem: `about:blank`, the status says it all.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// A short name of the problem.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong: the field, the value, and what was expected.
    pub detail: String,
    /// What was asked for: the path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

/// `GET /`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexView {
    /// The answering member.
    pub node: String,
    /// Every operation.
    pub links: Vec<IndexLink>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexLink {
    /// Its method; what answers `GET` answers `HEAD` as well.
    pub method: String,
    /// Its path; a name in braces is to be filled in.
    pub path: String,
    /// What it is about.
    pub summary: String,
}

/// What an event of type `lagged` on a stream of `GET /events` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lagged {
    /// How many events were missed, where that is known.
    pub missed: Option<u64>,
    /// Why.
    pub reason: String,
}

/// `PUT /logs/level`, with the header `authorization: Bearer <token>`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// A level such as `info`, or directives such as `info,alys_node=debug`.
    #[schema(min_length = 1)]
    pub level: String,
    /// For how long, such as `10m`, 1s to 24h; until somebody changes it if it is not there.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 2)]
    pub lasts: Option<String>,
}

/// `GET /logs/level`, and what `PUT /logs/level` answers
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLevelView {
    /// The answering member.
    pub node: String,
    /// The directives that hold now.
    pub level: String,
    /// Those that will hold again, if these are for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts_to: Option<String>,
    /// In how long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts_in_ms: Option<u64>,
}
