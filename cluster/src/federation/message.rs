//! Defines the messages of the federation actor.

use ractor::RpcReplyPort;

use super::attestation::ActorState;
use super::coordinator::MemberStatus;
use super::verdict::Verdict;
use super::wire::FederationWire;
use crate::id::NodeId;
use crate::ping::HealthCheckResult;

/// Messages of the federation actor.
pub enum FederationMessage {
    /// Periodic tick.
    Tick,
    /// A message from another member.
    Wire(NodeId, FederationWire),
    /// Health of this node according to its health monitor.
    OwnHealth(HealthCheckResult),
    /// Health of each critical actor according to the health monitor.
    OwnActors(Vec<ActorState>),
    /// The link to this peer is up (`true`), or its connection has ended (`false`).
    Link(NodeId, bool),
    /// This member wants to leave if it may, and announces that to its peers; with `true` it was told to, so the wish
    /// survives a refusal. Replies with the verdict and who would stay; may be repeated until all peers have answered.
    Want(bool, RpcReplyPort<(Verdict, Staying)>),
    /// This member withdraws its wish to leave.
    Stay,
    /// This member is leaving, for this reason, and announces that to its peers. Replies with the members that answer
    /// heartbeats and have not acknowledged it yet; may be repeated.
    Leave(String, RpcReplyPort<Vec<NodeId>>),
    /// Asks for this member's view of all members.
    Status(RpcReplyPort<FederationStatus>),
}

/// Members that would stay if this member left, according to their announcements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staying {
    /// Number of healthy members, including this one if it is healthy.
    pub healthy: usize,
    /// Whether this member is one of them.
    pub is_counted: bool,
    /// Number of healthy peers that may not stay: they want to leave as well, or have not answered since this member
    /// announced that it wants to leave.
    pub unsure: usize,
    /// Number of healthy peers that were told to leave, and do so once they may.
    pub told: usize,
}

/// This member's view of all members, and its verdict.
#[derive(Clone, Debug)]
pub struct FederationStatus {
    /// Current verdict.
    pub verdict: Verdict,
    /// Every member, in roster order.
    pub members: Vec<MemberStatus>,
}
