//! What the federation actor is told and asked.

use ractor::RpcReplyPort;

use super::attestation::ActorState;
use super::coordinator::MemberStatus;
use super::verdict::Verdict;
use super::wire::FederationWire;
use crate::health::{HealthCheckResult, PingMessage, PongMessage};
use crate::id::NodeId;

/// What the federation actor is told and asked.
pub enum FederationMessage {
    /// Time passes.
    Tick,
    /// A member says something.
    Wire(NodeId, FederationWire),
    /// What this node's health monitor says of it.
    OwnHealth(HealthCheckResult),
    /// What this node's health monitor says of each critical actor.
    OwnActors(Vec<ActorState>),
    /// The link to this peer is up, or its connection has ended.
    Link(NodeId, bool),
    /// This member wants to leave, if it may, and keeps that wish when it is refused if it was told to (`true`): peers
    /// are told. Answers with the verdict, and who would stay; may be asked again, until all have answered.
    Want(bool, RpcReplyPort<(Verdict, Staying)>),
    /// It stays after all.
    Stay,
    /// This member is going to leave, for this reason: peers are told. Answers with the members that answer
    /// heartbeats and have not confirmed yet that they know; may be asked again.
    Leave(String, RpcReplyPort<Vec<NodeId>>),
    /// What this member thinks of everyone.
    Status(RpcReplyPort<FederationStatus>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// Who would stay if this member left, by what the others said of themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staying {
    /// Healthy members, this one included if it is.
    pub healthy: usize,
    /// Whether this member is one of them.
    pub is_counted: bool,
    /// Healthy peers that this member may not count on to stay: they want to leave as well, or have not answered since
    /// this member said that it wants to.
    pub unsure: usize,
    /// Healthy peers that were told to leave, and do so once they may.
    pub told: usize,
}

/// What this member thinks of everyone, and its verdict.
#[derive(Clone, Debug)]
pub struct FederationStatus {
    /// The verdict now.
    pub verdict: Verdict,
    /// Every member, in roster order.
    pub members: Vec<MemberStatus>,
}
