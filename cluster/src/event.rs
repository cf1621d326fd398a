//! Every fact worth telling, one closed enum, and the bus that carries it to whoever tells.
//!
//! Events are told, never asked for: no decision waits for one, and a listener that is slow misses some and
//! is told how many.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::clock::{Clock, WallTime};
use crate::health::HealthStatus;
use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};
use crate::supervision::decision::DecisionRecord;
use crate::trace::{SpanBuilder, SpanGuard, TraceContext, Tracer, current_context};

/// Events a slow listener may lag behind before it loses the oldest.
const BUS_CAPACITY: usize = 4096;

/// A fact.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterEvent {
    /// A child runs.
    ChildStarted {
        /// Its supervisor.
        supervisor: ActorName,
        /// The child.
        child: ActorName,
        /// Automatic restarts so far; 0 for the first start.
        restarts: u64,
    },
    /// A child ended, or failed to start.
    ChildEnded {
        /// Its supervisor.
        supervisor: ActorName,
        /// The child.
        child: ActorName,
        /// Why.
        reason: String,
    },
    /// A supervisor decided about a failure. With its inputs, so that the decision can be replayed.
    RestartDecided {
        /// The supervisor.
        supervisor: ActorName,
        /// What happened, what the decision depends on, and the decision.
        record: Arc<DecisionRecord>,
        /// How long deciding took.
        took: Duration,
    },
    /// A supervisor restarted too often and ends itself.
    SupervisorGaveUp {
        /// The supervisor.
        supervisor: ActorName,
        /// Why.
        reason: String,
    },
    /// An actor's health changed.
    ActorHealthChanged {
        /// The actor.
        actor: ActorName,
        /// What it is now.
        status: HealthStatus,
        /// Why; empty when healthy.
        reason: String,
    },
    /// The recovery of an actor that did not answer its checks went on.
    RecoveryChanged {
        /// The actor.
        actor: ActorName,
        /// `begun`, `recovered`, `failed` or `gave_up`.
        stage: &'static str,
        /// What happened.
        note: String,
    },
    /// The shutdown of this node went on.
    ShutdownChanged {
        /// The state it is in now, in `snake_case`.
        state: &'static str,
        /// Why it began.
        reason: String,
    },
    /// The node was asked to shut down and stays.
    ShutdownRefused {
        /// Why.
        reason: String,
    },
    /// A task of the shutdown is over.
    ShutdownTaskEnded {
        /// Its phase.
        phase: &'static str,
        /// Which.
        task: String,
        /// Whether it is done; otherwise it failed, or was given up.
        is_done: bool,
        /// What became of it; may be empty.
        note: String,
    },
    /// A member answers heartbeats.
    PeerUp {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A member is lost.
    PeerDown {
        /// The member.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A member that does not answer attests its health through another.
    PeerAttested {
        /// The member.
        node: NodeId,
        /// Who brought its word.
        through: NodeId,
    },
    /// A statement of health was refused.
    AttestationRefused {
        /// Whose it is said to be.
        member: NodeId,
        /// Who brought it.
        from: NodeId,
        /// Why.
        reason: String,
    },
    /// This member hears none of its peers, and doubts itself before it calls them lost; or it is over that.
    SelfDoubted {
        /// Whether the doubt begins.
        begins: bool,
        /// Why.
        reason: String,
    },
    /// This member's clock is wrong by the median of its peers' clocks, or is right again.
    ClockJudged {
        /// Whether it is wrong.
        is_wrong: bool,
        /// How far it is ahead, in milliseconds; negative if it is behind.
        error_ms: i64,
    },
    /// A member that said it was leaving is gone.
    PeerLeft {
        /// The member.
        node: NodeId,
        /// Why it left, in its own words.
        reason: String,
    },
    /// The gate decided anew, or the number of healthy members changed.
    VerdictChanged {
        /// Counts this incarnation's decisions from 1.
        sequence: u64,
        /// Whether the federation may work.
        open: bool,
        /// Healthy members.
        healthy: usize,
        /// Healthy members required.
        required: usize,
        /// Why.
        reason: String,
    },
    /// A link carries envelopes.
    LinkUp {
        /// To whom.
        peer: NodeId,
    },
    /// A link was lost.
    LinkDown {
        /// To whom.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// A connection or an envelope was refused.
    LinkRefused {
        /// Whose, as far as known.
        peer: String,
        /// Why.
        reason: String,
    },
    /// A height is final on this node.
    HeightCommitted {
        /// The height.
        height: BlockHeight,
        /// The round that decided it.
        round: u32,
        /// Whether it was fetched from a peer instead of decided here.
        adopted: bool,
        /// Since the height before was committed, where this process saw it.
        interval: Option<Duration>,
        /// From seeing the proposal to the decision, where this process saw both.
        deciding: Option<Duration>,
    },
    /// A round of a height began on this node.
    RoundStarted {
        /// The height.
        height: BlockHeight,
        /// The round.
        round: u32,
    },
    /// Two processes hold one member's key at the same time.
    DuplicateMember {
        /// The member.
        member: NodeId,
        /// What is known of them, and which of them goes on.
        reason: String,
    },
    /// A signature was asked for and refused.
    SignatureRefused {
        /// The height.
        height: BlockHeight,
        /// Why.
        reason: String,
    },
    /// A member has signed two different things for the same height, round and step.
    Equivocated {
        /// Whose signatures they are.
        member: NodeId,
        /// The height.
        height: BlockHeight,
        /// The round.
        round: u32,
        /// `proposal`, `prevote` or `precommit`.
        step: &'static str,
    },
    /// Another member sent what this member's key has signed, and the signer's journal does not know it: somebody else
    /// has the key, or the journal is not whole.
    SignatureUnknown {
        /// The height.
        height: BlockHeight,
        /// The round.
        round: u32,
        /// `proposal`, `prevote` or `precommit`.
        step: &'static str,
    },
    /// What this member logs is another than before.
    LogLevelChanged {
        /// The directives before.
        from: String,
        /// The directives now.
        to: String,
        /// How long they hold, if not until somebody changes them.
        lasts: Option<Duration>,
        /// Who changed them: a caller, or the end of the time that others were for.
        by: &'static str,
    },
}

impl ClusterEvent {
    /// Every kind there is.
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

    /// The kind, in `snake_case`; one of [`Self::KINDS`].
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

    /// Whether it is remembered when many routine events have come since: everything but blocks, rounds, and what links
    /// and strangers can cause without end.
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

    /// Whether an operator should look at it.
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

/// An event and when it was observed.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// On this node's wall clock.
    pub at: WallTime,
    /// The fact.
    pub event: ClusterEvent,
    /// What it was part of; all zeros for nothing that is traced.
    pub trace: TraceContext,
}

/// Where events are told, and spans. Cheap to clone; telling never waits.
#[derive(Clone)]
pub struct EventBus {
    clock: Arc<dyn Clock>,
    sender: broadcast::Sender<Arc<Recorded>>,
    tracer: Tracer,
}

impl EventBus {
    /// A bus without listeners.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sender: broadcast::Sender::new(BUS_CAPACITY), tracer: Tracer::default() }
    }

    /// The same bus, with somebody who takes spans.
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Where spans are told.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Something that is told when it is over.
    pub fn begin(&self, draft: SpanBuilder) -> SpanGuard {
        SpanGuard::new(draft, self.tracer.clone(), self.clock.clone())
    }

    /// Reads the time of what is told.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Tells every listener there is.
    pub fn tell(&self, event: ClusterEvent) {
        // An error only says that nobody listens.
        let _ =
            self.sender.send(Arc::new(Recorded { at: self.clock.wall(), event, trace: current_context() }));
    }

    /// Hears everything told from now on.
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
