//! Every event of the cluster, as one closed enum, and the bus that delivers events to subscribers.
//!
//! Events only report: no decision waits for one. A slow subscriber loses events and learns how many.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::clock::{Clock, WallTime};
use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};
use crate::ping::HealthStatus;
use crate::supervision::decision::DecisionRecord;
use crate::trace::{SpanBuilder, SpanGuard, TraceContext, Tracer, current_context};

/// Number of events a slow subscriber may lag behind before it loses the oldest.
const BUS_CAPACITY: usize = 4096;

/// Something that happened on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterEvent {
    /// A child started.
    ChildStarted {
        /// Supervisor of the child.
        supervisor: ActorName,
        /// Child that started.
        child: ActorName,
        /// Number of automatic restarts so far; 0 for the first start.
        restarts: u64,
    },
    /// A child ended, or failed to start.
    ChildEnded {
        /// Supervisor of the child.
        supervisor: ActorName,
        /// Child that ended.
        child: ActorName,
        /// Reason of the exit.
        reason: String,
    },
    /// A supervisor decided about a failure. The event includes the inputs, so the decision can be replayed.
    RestartDecided {
        /// Supervisor that decided.
        supervisor: ActorName,
        /// The failure, the inputs of the decision, and the decision.
        record: Arc<DecisionRecord>,
        /// Time the decision took.
        took: Duration,
    },
    /// A supervisor gave up and ends itself.
    SupervisorGaveUp {
        /// Supervisor that ends.
        supervisor: ActorName,
        /// Why it gave up.
        reason: String,
    },
    /// An actor's health changed.
    ActorHealthChanged {
        /// Actor whose health changed.
        actor: ActorName,
        /// New health status.
        status: HealthStatus,
        /// Reason of the change; empty when healthy.
        reason: String,
    },
    /// The recovery of an actor that failed its health checks entered a new stage.
    RecoveryChanged {
        /// Actor being recovered.
        actor: ActorName,
        /// New stage: `begun`, `recovered`, `failed` or `gave_up`.
        stage: &'static str,
        /// Description of what happened.
        note: String,
    },
    /// The shutdown of this node entered a new state.
    ShutdownChanged {
        /// New state, in `snake_case`.
        state: &'static str,
        /// Why the shutdown began.
        reason: String,
    },
    /// A request to shut down was refused; the node keeps running.
    ShutdownRefused {
        /// Why the request was refused.
        reason: String,
    },
    /// A shutdown task ended.
    ShutdownTaskEnded {
        /// Shutdown phase of the task.
        phase: &'static str,
        /// Name of the task.
        task: String,
        /// Whether the task completed; otherwise it failed or was abandoned.
        is_done: bool,
        /// Details of the outcome; may be empty.
        note: String,
    },
    /// A member answers heartbeats.
    PeerUp {
        /// Member that is up.
        node: NodeId,
        /// Incarnation of the member.
        incarnation: Incarnation,
    },
    /// A member is lost.
    PeerDown {
        /// Member that is down.
        node: NodeId,
        /// Why the member counts as lost.
        reason: String,
    },
    /// A member does not answer, but another member relays its health attestation.
    PeerAttested {
        /// Member that does not answer.
        node: NodeId,
        /// Member that relayed the attestation.
        through: NodeId,
    },
    /// A health attestation was rejected.
    AttestationRefused {
        /// Member that the attestation claims to be from.
        member: NodeId,
        /// Member that delivered it.
        from: NodeId,
        /// Why it was rejected.
        reason: String,
    },
    /// This member receives nothing from any peer and suspects itself before it reports them lost, or it no longer
    /// suspects itself.
    SelfDoubted {
        /// Whether the suspicion begins or ends.
        begins: bool,
        /// Reason of the change.
        reason: String,
    },
    /// This member's clock deviates from the median of its peers' clocks, or agrees with it again.
    ClockJudged {
        /// Whether the clock is wrong.
        is_wrong: bool,
        /// Deviation in milliseconds; negative if this member's clock is behind.
        error_ms: i64,
    },
    /// A member that announced its leave is gone.
    PeerLeft {
        /// Member that left.
        node: NodeId,
        /// Reason that the member gave.
        reason: String,
    },
    /// The gate made a new decision, or the number of healthy members changed.
    VerdictChanged {
        /// Number of the decision in this incarnation, from 1.
        sequence: u64,
        /// Whether the gate is open: the federation may operate.
        open: bool,
        /// Number of healthy members.
        healthy: usize,
        /// Number of healthy members required.
        required: usize,
        /// Reason of the decision.
        reason: String,
    },
    /// A link is ready for envelopes.
    LinkUp {
        /// Member at the other end of the link.
        peer: NodeId,
    },
    /// A link was lost.
    LinkDown {
        /// Member at the other end of the link.
        peer: NodeId,
        /// Why the link was lost.
        reason: String,
    },
    /// A connection or an envelope was rejected.
    LinkRefused {
        /// Sender of the connection or envelope, as far as known.
        peer: String,
        /// Why it was rejected.
        reason: String,
    },
    /// A height is final on this node.
    HeightCommitted {
        /// Height that was committed.
        height: BlockHeight,
        /// Round that decided the height.
        round: u32,
        /// Whether the block was fetched from a peer instead of decided on this node.
        adopted: bool,
        /// Time since the previous height was committed; `None` if this process did not see that commit.
        interval: Option<Duration>,
        /// Time from the proposal to the decision; `None` unless this process saw both.
        deciding: Option<Duration>,
    },
    /// This node entered a round of a height.
    RoundStarted {
        /// Height of the round.
        height: BlockHeight,
        /// Round that was entered.
        round: u32,
    },
    /// Two processes use one member's key at the same time.
    DuplicateMember {
        /// Member whose key is used twice.
        member: NodeId,
        /// What is known of both processes, and which of them continues.
        reason: String,
    },
    /// A requested signature was refused.
    SignatureRefused {
        /// Height of the statement to be signed.
        height: BlockHeight,
        /// Why it was refused.
        reason: String,
    },
    /// A member has signed two different statements for the same height, round and step.
    Equivocated {
        /// Member that signed both.
        member: NodeId,
        /// Height of both statements.
        height: BlockHeight,
        /// Round of both statements.
        round: u32,
        /// Step of both statements: `proposal`, `prevote` or `precommit`.
        step: &'static str,
    },
    /// Another member sent a statement with this member's valid signature that is not in the signer's journal: either
    /// someone else has the key, or the journal is incomplete.
    SignatureUnknown {
        /// Height of the statement.
        height: BlockHeight,
        /// Round of the statement.
        round: u32,
        /// Step of the statement: `proposal`, `prevote` or `precommit`.
        step: &'static str,
    },
    /// The log filter of this member changed.
    LogLevelChanged {
        /// Directives before the change.
        from: String,
        /// Directives after the change.
        to: String,
        /// Time until the new directives expire; `None` if they hold until the next change.
        lasts: Option<Duration>,
        /// Cause of the change: a caller, or the expiry of temporary directives.
        by: &'static str,
    },
}

impl ClusterEvent {
    /// All event kinds.
    pub const KINDS: &[&str] = &[
        "child_started",
        "child_ended",
        "restart_decided",
        "supervisor_gave_up",
        "actor_health_changed",
        "recovery_changed",
        "shutdown_changed",
        "shutdown_refused",
        "shutdown_task_ended",
        "peer_left",
        "peer_up",
        "peer_down",
        "peer_attested",
        "attestation_refused",
        "self_doubted",
        "clock_judged",
        "verdict_changed",
        "link_up",
        "link_down",
        "link_refused",
        "height_committed",
        "round_started",
        "duplicate_member",
        "signature_refused",
        "equivocated",
        "signature_unknown",
        "log_level_changed",
    ];

    /// Kind of the event, in `snake_case`; one of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ChildStarted { .. } => "child_started",
            Self::ChildEnded { .. } => "child_ended",
            Self::RestartDecided { .. } => "restart_decided",
            Self::SupervisorGaveUp { .. } => "supervisor_gave_up",
            Self::ActorHealthChanged { .. } => "actor_health_changed",
            Self::RecoveryChanged { .. } => "recovery_changed",
            Self::ShutdownChanged { .. } => "shutdown_changed",
            Self::ShutdownRefused { .. } => "shutdown_refused",
            Self::ShutdownTaskEnded { .. } => "shutdown_task_ended",
            Self::PeerLeft { .. } => "peer_left",
            Self::PeerUp { .. } => "peer_up",
            Self::PeerDown { .. } => "peer_down",
            Self::PeerAttested { .. } => "peer_attested",
            Self::AttestationRefused { .. } => "attestation_refused",
            Self::SelfDoubted { .. } => "self_doubted",
            Self::ClockJudged { .. } => "clock_judged",
            Self::VerdictChanged { .. } => "verdict_changed",
            Self::LinkUp { .. } => "link_up",
            Self::LinkDown { .. } => "link_down",
            Self::LinkRefused { .. } => "link_refused",
            Self::HeightCommitted { .. } => "height_committed",
            Self::RoundStarted { .. } => "round_started",
            Self::DuplicateMember { .. } => "duplicate_member",
            Self::SignatureRefused { .. } => "signature_refused",
            Self::Equivocated { .. } => "equivocated",
            Self::SignatureUnknown { .. } => "signature_unknown",
            Self::LogLevelChanged { .. } => "log_level_changed",
        }
    }

    /// Whether the event is kept when many routine events follow: everything except blocks, rounds, and events that
    /// links or unauthenticated peers can cause in any number.
    pub fn is_failure_or_decision(&self) -> bool {
        !matches!(
            self,
            Self::HeightCommitted { .. }
                | Self::RoundStarted { .. }
                | Self::LinkUp { .. }
                | Self::LinkDown { .. }
                | Self::LinkRefused { .. }
                | Self::AttestationRefused { .. }
                | Self::PeerAttested { .. }
        )
    }

    /// Whether an operator should look at the event.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::ChildEnded { .. }
            | Self::RestartDecided { .. }
            | Self::SupervisorGaveUp { .. }
            | Self::PeerDown { .. }
            | Self::AttestationRefused { .. }
            | Self::LinkDown { .. }
            | Self::LinkRefused { .. }
            | Self::RecoveryChanged { .. }
            | Self::ShutdownRefused { .. }
            | Self::Equivocated { .. }
            | Self::SignatureUnknown { .. }
            | Self::DuplicateMember { .. }
            | Self::SignatureRefused { .. } => true,
            Self::ShutdownTaskEnded { is_done, .. } => !is_done,
            Self::ActorHealthChanged { status, .. } => {
                !matches!(status, HealthStatus::Healthy | HealthStatus::ShuttingDown)
            }
            Self::SelfDoubted { begins, .. } => *begins,
            Self::ClockJudged { is_wrong, .. } => *is_wrong,
            Self::VerdictChanged { open, .. } => !open,
            Self::ChildStarted { restarts, .. } => *restarts > 0,
            Self::ShutdownChanged { .. }
            | Self::PeerUp { .. }
            | Self::PeerLeft { .. }
            | Self::PeerAttested { .. }
            | Self::LinkUp { .. }
            | Self::HeightCommitted { .. }
            | Self::RoundStarted { .. }
            | Self::LogLevelChanged { .. } => false,
        }
    }
}

impl fmt::Display for ClusterEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChildStarted { supervisor, child, restarts: 0 } => {
                write!(f, "{supervisor} started {child}")
            }
            Self::ChildStarted { supervisor, child, restarts } => {
                write!(f, "{supervisor} restarted {child} (restart {restarts})")
            }
            Self::ChildEnded { supervisor, child, reason } => {
                write!(f, "{child} under {supervisor} ended: {reason}")
            }
            Self::RestartDecided { supervisor, record, .. } => write!(f, "{supervisor} decided: {record}"),
            Self::SupervisorGaveUp { supervisor, reason } => write!(f, "{supervisor} gave up: {reason}"),
            Self::ActorHealthChanged { actor, status, reason } if reason.is_empty() => {
                write!(f, "{actor} is {status}")
            }
            Self::ActorHealthChanged { actor, status, reason } => write!(f, "{actor} is {status}: {reason}"),
            Self::RecoveryChanged { actor, stage, note } => {
                write!(f, "the recovery of {actor}: {stage}: {note}")
            }
            Self::ShutdownChanged { state, reason } => write!(f, "the shutdown is {state} ({reason})"),
            Self::ShutdownRefused { reason } => write!(f, "the shutdown was {reason}"),
            Self::ShutdownTaskEnded { phase, task, is_done, note } => {
                let outcome = if *is_done { "is done" } else { "failed" };
                write!(f, "task {task} of phase {phase} {outcome}")?;
                if note.is_empty() { Ok(()) } else { write!(f, ": {note}") }
            }
            Self::PeerLeft { node, reason } => write!(f, "{node} left: {reason}"),
            Self::PeerUp { node, incarnation } => write!(f, "{node} is up (incarnation {incarnation})"),
            Self::PeerDown { node, reason } => write!(f, "{node} is down: {reason}"),
            Self::PeerAttested { node, through } => {
                write!(f, "{node} does not answer, but attests its health through {through}")
            }
            Self::AttestationRefused { member, from, reason } => {
                write!(f, "an attestation of {member}, brought by {from}, was refused: {reason}")
            }
            Self::SelfDoubted { begins: true, reason } => write!(f, "this member doubts itself: {reason}"),
            Self::SelfDoubted { begins: false, reason } => {
                write!(f, "this member no longer doubts itself: {reason}")
            }
            Self::ClockJudged { is_wrong, error_ms } => {
                let is = if *is_wrong { "wrong" } else { "right again" };
                let (size, side) =
                    (error_ms.unsigned_abs(), if *error_ms < 0 { "behind" } else { "ahead of" });
                write!(f, "this member's clock is {is}: {size} ms {side} the median of its peers' clocks")
            }
            Self::VerdictChanged { open, healthy, required, reason, .. } => {
                let decision = if *open { "open" } else { "closed" };
                write!(f, "the gate is {decision}, {healthy} healthy, {required} required: {reason}")
            }
            Self::LinkUp { peer } => write!(f, "the link to {peer} is up"),
            Self::LinkDown { peer, reason } => write!(f, "the link to {peer} is down: {reason}"),
            Self::LinkRefused { peer, reason } => write!(f, "refused {peer}: {reason}"),
            Self::HeightCommitted { height, round, adopted: false, .. } => {
                write!(f, "height {height} decided in round {round}")
            }
            Self::HeightCommitted { height, round, adopted: true, .. } => {
                write!(f, "height {height} adopted from a peer, decided in round {round}")
            }
            Self::RoundStarted { height, round } => write!(f, "height {height} entered round {round}"),
            Self::DuplicateMember { member, reason } => {
                write!(f, "two processes hold the key of {member}: {reason}")
            }
            Self::SignatureRefused { height, reason } => {
                write!(f, "a signature at height {height} was refused: {reason}")
            }
            Self::Equivocated { member, height, round, step } => {
                write!(f, "{member} has signed two different {step}s for height {height}, round {round}")
            }
            Self::SignatureUnknown { height, round, step } => write!(
                f,
                "this member's key has signed a {step} for height {height}, round {round} that its journal does not know"
            ),
            Self::LogLevelChanged { from, to, lasts, by } => {
                write!(f, "{by} changed the log level from {from:?} to {to:?}")?;
                lasts.map_or(Ok(()), |lasts| write!(f, " for {} s", lasts.as_secs()))
            }
        }
    }
}

/// An event with its time and trace context.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Time of the event on this node's wall clock.
    pub at: WallTime,
    /// The event.
    pub event: ClusterEvent,
    /// Trace context the event belongs to; all zeros if it is not traced.
    pub trace: TraceContext,
}

/// Publishes events and spans. Cheap to clone; publishing never waits.
#[derive(Clone)]
pub struct EventBus {
    clock: Arc<dyn Clock>,
    sender: broadcast::Sender<Arc<Recorded>>,
    tracer: Tracer,
}

impl EventBus {
    /// A bus without subscribers.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sender: broadcast::Sender::new(BUS_CAPACITY), tracer: Tracer::default() }
    }

    /// The same bus with a tracer that records spans.
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// The tracer that records spans.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Starts a span, which is recorded when the guard ends.
    pub fn begin(&self, draft: SpanBuilder) -> SpanGuard {
        SpanGuard::new(draft, self.tracer.clone(), self.clock.clone())
    }

    /// The clock for the timestamps of events and spans.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sends `event` to every subscriber.
    pub fn tell(&self, event: ClusterEvent) {
        // An error only means that there are no subscribers.
        let _ =
            self.sender.send(Arc::new(Recorded { at: self.clock.wall(), event, trace: current_context() }));
    }

    /// Subscribes to all events from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.sender.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::ClusterEvent;

    #[test]
    fn every_kind_is_listed_once() {
        let source = include_str!("event.rs");
        let from = source.split_once("pub fn kind(").expect("the method").1;
        let body = from.split_once("\n    }\n").expect("its end").0;
        let kinds: Vec<_> =
            body.split("=> \"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0)).collect();
        assert_eq!(kinds, ClusterEvent::KINDS);
    }
}
