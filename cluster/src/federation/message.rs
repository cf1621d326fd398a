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
    /// This member wants to leave, if it may: peers are told. Answers with what it thinks of everyone, and the healthy
    /// members that it may not count on to stay; may be asked again, until all have answered.
    Want(RpcReplyPort<(FederationStatus, Vec<NodeId>)>),
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

/// What this member thinks of everyone, and its verdict.
#[derive(Clone, Debug)]
pub struct FederationStatus {
    /// The verdict now.
    pub verdict: Verdict,
    /// Every member, in roster order.
    pub members: Vec<MemberStatus>,
}
