//! What the cluster asks of the outside, and what its subsystems ask of each other without knowing who
//! answers.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};

/// Says why an actor ended last, if that is known. Must not wait.
pub type LastWords = Arc<dyn Fn(&ActorName) -> Option<String> + Send + Sync>;

/// Takes messages of one kind to the same actor on another member.
///
/// Sending is at most once and never waits: a message is dropped when the link is down or its queue is full.
/// Whoever needs an answer asks again.
pub trait Outbox<W>: Send + Sync + 'static {
    /// Hands `message` over for `to`.
    fn send(&self, to: &NodeId, message: W);
}

impl<W, T: Outbox<W>> Outbox<W> for Arc<T> {
    fn send(&self, to: &NodeId, message: W) {
        (**self).send(to, message);
    }
}

/// What became of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It answers heartbeats.
    Up {
        /// The member.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// It is lost; told once for each loss.
    Down {
        /// The member.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Whether it is there is not known, for a reason that lies with this member: it stood still, or its federation
    /// actor was restarted. Followed by `Up`, `Indirect` or, after a while, `Down`.
    Unknown {
        /// The member.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// It does not answer, but attests through a third that it lives.
    Indirect {
        /// The member.
        node: NodeId,
        /// Who brought its word.
        through: NodeId,
        /// Whether what it sends arrives here nevertheless.
        heard: bool,
    },
    /// Two other members, both linked with this one, do not reach each other.
    Apart {
        /// Who asks for `other` through this member.
        one: NodeId,
        /// Whom it does not reach.
        other: NodeId,
    },
    /// `one` no longer asks for `other` through this member.
    Together {
        /// Who asked.
        one: NodeId,
        /// For whom.
        other: NodeId,
    },
    /// It is gone, as it had said it would be: no failure of its.
    Left {
        /// The member.
        node: NodeId,
        /// Why, in its own words.
        reason: String,
    },
}

/// Hears of every change of every member. Must not wait.
pub type PeerWatcher = Arc<dyn Fn(&PeerChange) + Send + Sync>;

/// Signs what this member states about itself, and checks what others state about themselves.
pub trait Signer: Send + Sync + 'static {
    /// This member's signature over `statement`.
    fn sign(&self, statement: &[u8]) -> Vec<u8>;
    /// Whether `signature` is `member`'s over `statement`. May cost a millisecond.
    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool;
}

/// How far this node's chain has come.
pub trait Progress: Send + Sync + 'static {
    /// The height of the last committed block.
    fn height(&self) -> BlockHeight;
}

/// What became of a request for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartOutcome {
    /// The supervisor stops the actor and starts it again.
    Restarts,
    /// It decided otherwise.
    Otherwise(String),
    /// It did not decide: it restarts or stops the actor already, or does not answer.
    NotNow(String),
}

/// Asks whoever supervises an actor to restart it.
pub trait RestartRequester: Send + Sync + 'static {
    /// The actor failed this many health checks in a row: it is to be restarted.
    fn restart(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome>;
    /// Restarting it alone is not the answer.
    fn escalate(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome>;
}

/// Has a supervised actor fail with one that it can not be without.
pub trait LinkTarget: Send + Sync + 'static {
    /// `partner` of `actor` is down, for this reason: `actor` fails as well.
    fn fail(&self, actor: &ActorName, partner: String, reason: String) -> BoxFuture<'static, RestartOutcome>;
}

/// Stops consensus operations on this member, whatever the members' health says.
pub trait ConsensusHalt: Send + Sync + 'static {
    /// Halts in the name of `by`, for `reason`, until the same name resumes.
    fn halt(&self, by: &ActorName, reason: &str);
    /// What `by` halted it for is over; without a halt in that name nothing happens.
    fn resume(&self, by: &ActorName);
}

/// Nothing to halt.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConsensus;

impl ConsensusHalt for NoConsensus {
    fn halt(&self, _: &ActorName, _: &str) {}

    fn resume(&self, _: &ActorName) {}
}
