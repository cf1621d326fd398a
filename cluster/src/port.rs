//! Interfaces (ports) that the cluster needs from outside, and that its subsystems use to call each other without
//! depending on the implementation.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};

/// Returns the reason of an actor's last exit, if it is known. Must not block.
pub type LastWords = Arc<dyn Fn(&ActorName) -> Option<String> + Send + Sync>;

/// Sends messages of one kind to the same actor on another member.
///
/// Delivery is at most once and sending never waits: a message is dropped when the link is down or its queue is full.
/// Callers that need an answer retry.
pub trait Outbox<W>: Send + Sync + 'static {
    /// Queues `message` for the member `to`.
    fn send(&self, to: &NodeId, message: W);
}

impl<W, T: Outbox<W>> Outbox<W> for Arc<T> {
    fn send(&self, to: &NodeId, message: W) {
        (**self).send(to, message);
    }
}

/// A change in the status of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// The member answers heartbeats.
    Up {
        /// Member that changed.
        node: NodeId,
        /// Current incarnation of the member.
        incarnation: Incarnation,
    },
    /// The member is lost; reported once per loss.
    Down {
        /// Member that changed.
        node: NodeId,
        /// Why the member counts as lost.
        reason: String,
    },
    /// The status of the member is unknown, for a reason on this member's side: its process was paused, or its
    /// federation actor was restarted. Followed by `Up`, `Indirect` or, after a while, `Down`.
    Unknown {
        /// Member that changed.
        node: NodeId,
        /// Why the status is unknown.
        reason: String,
    },
    /// The member does not answer heartbeats, but a third member relays its signed health attestation.
    Indirect {
        /// Member that changed.
        node: NodeId,
        /// Member that relayed the attestation.
        through: NodeId,
        /// Whether messages from the member still arrive here.
        heard: bool,
    },
    /// Two other members, both linked to this one, cannot reach each other.
    Apart {
        /// Member that asks for the attestation of `other` through this member.
        one: NodeId,
        /// Member that `one` cannot reach.
        other: NodeId,
    },
    /// `one` no longer asks for `other` through this member.
    Together {
        /// Member that asked.
        one: NodeId,
        /// Member it asked for.
        other: NodeId,
    },
    /// The member left as announced; this is not a failure.
    Left {
        /// Member that left.
        node: NodeId,
        /// Reason that the member gave.
        reason: String,
    },
}

/// Receives every status change of every member. Must not block.
pub type PeerWatcher = Arc<dyn Fn(&PeerChange) + Send + Sync>;

/// Signs this member's statements about itself, and verifies those of other members.
pub trait Signer: Send + Sync + 'static {
    /// This member's signature over `statement`.
    fn sign(&self, statement: &[u8]) -> Vec<u8>;
    /// Whether `signature` is `member`'s signature over `statement`. May take a millisecond.
    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool;
}

/// Reads the height of this node's chain.
pub trait Progress: Send + Sync + 'static {
    /// The height of the last committed block.
    fn height(&self) -> BlockHeight;
}

/// Outcome of a request for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The supervisor stops the actor and starts it again.
    Restarts,
    /// The supervisor decided not to restart it; holds its decision.
    Otherwise(String),
    /// The supervisor made no decision: it is already restarting or stopping the actor, or does not answer.
    NotNow(String),
}

/// Asks an actor's supervisor to restart it.
pub trait RestartRequester: Send + Sync + 'static {
    /// Asks for a restart, because the actor failed `failures` health checks in a row.
    fn restart(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome>;
    /// Asks to escalate, because restarting the actor alone does not help.
    fn escalate(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome>;
}

/// Makes a supervised actor fail together with an actor it depends on.
pub trait LinkTarget: Send + Sync + 'static {
    /// Makes `actor` fail because its `partner` is down for `reason`.
    fn fail(&self, actor: &ActorName, partner: String, reason: String) -> BoxFuture<'static, RestartOutcome>;
}

/// Halts consensus operations on this member, regardless of the members' health.
pub trait ConsensusHalt: Send + Sync + 'static {
    /// Halts on behalf of `by`, for `reason`, until the same actor resumes.
    fn halt(&self, by: &ActorName, reason: &str);
    /// Ends the halt on behalf of `by`; does nothing if there is none.
    fn resume(&self, by: &ActorName);
}

/// Does nothing: for nodes without consensus.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConsensus;

impl ConsensusHalt for NoConsensus {
    fn halt(&self, _: &ActorName, _: &str) {}

    fn resume(&self, _: &ActorName) {}
}
