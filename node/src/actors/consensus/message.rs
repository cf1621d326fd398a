//! Messages of the consensus actor.

use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::id::NodeId;
use alys_cluster::port::PeerChange;
use ractor::RpcReplyPort;

use super::actor::StepState;
use super::height_driver::Action;
use crate::consensus::context::Step;
use crate::consensus::core::{CoreError, RoundTimer};
use crate::consensus::evidence::Equivocation;
use crate::consensus::guard::SignedStatement;
use crate::consensus::message::ConsensusWire;
use crate::consensus::received::ReceivedStatement;
use crate::consensus::{Block, Certificate};
use crate::ports::{Head, Payload, PayloadStatus};
use crate::storage::StorageError;

/// Messages of the consensus actor.
pub enum ConsensusMessage {
    /// Check the gate and whether the next height is due.
    Tick,
    /// A message from another member.
    Wire(NodeId, ConsensusWire),
    /// The timer set with this generation elapsed.
    Timer(RoundTimer, u64),
    /// The engine answered a build request.
    Built {
        /// Height for which the block was requested.
        height: u64,
        /// Round for which the block was requested.
        round: u32,
        /// Payload, or `None` if the engine could not build on the parent.
        payload: Option<Payload>,
    },
    /// The engine executed a block.
    Checked {
        /// The executed block.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
        /// Result of the execution.
        status: PayloadStatus,
    },
    /// Retry a request that the engine could not serve.
    Retry {
        /// Height of the request.
        height: u64,
        /// Request to repeat.
        request: EngineRequest,
    },
    /// Heights reported by peers.
    PeersAt {
        /// Highest height claimed by more members than may be Byzantine.
        height: u64,
        /// Number of peers that reported a height.
        heard: usize,
    },
    /// A block that other members decided. Consensus verifies its certificate.
    Adopt(Box<(Block, Certificate)>, RpcReplyPort<Result<(), String>>),
    /// The reachability of a member changed.
    Peer(PeerChange),
    /// Query for the statements signed at this height and above, oldest first.
    Signatures(u64, RpcReplyPort<Vec<SignedStatement>>),
    /// Send this delayed message to the member at this index in genesis, or to every other member: this member is
    /// Byzantine by fault injection.
    Deliver(Option<usize>, ConsensusWire),
    /// Query for the evidence against members that sign twice.
    Evidence(RpcReplyPort<Vec<Equivocation>>),
    /// Query for the statements received from others at this height and above, in the order of heights.
    Received(u64, RpcReplyPort<Vec<ReceivedStatement>>),
    /// This member is shutting down: no further height starts. Answered when the current height is decided, or can not
    /// be.
    Leave(RpcReplyPort<DrainResult>),
    /// The storage thread finished a step.
    Stepped(Result<StepTaken, StorageError>),
    /// The chain stored a block, or failed to.
    Committed(Box<Committed>),
}

/// A finished step and its actions.
pub struct StepTaken {
    /// Time at which the step began.
    pub(super) began: Moment,
    pub(super) state: Box<StepState>,
    pub(super) actions: Result<Vec<Action>, CoreError>,
}

/// Result of storing a block.
pub struct Committed {
    pub(super) result: Result<Head, String>,
    pub(super) block: Block,
    pub(super) round: u32,
    pub(super) adopted: bool,
    pub(super) shown: Option<Step>,
    pub(super) deciding: Option<Duration>,
    pub(super) adopter: Option<RpcReplyPort<Result<(), String>>>,
}

/// State of the current height when this member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainResult {
    /// The chain ends at this height; nothing above it has to be replayed.
    Finished(u64),
    /// This height was aborted in the middle: its log is replayed at the next start.
    GivenUp(u64),
}

/// Requests to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineRequest {
    /// Build a block on the head.
    Build {
        /// Round to build for.
        round: u32,
    },
    /// Execute a block.
    Check {
        /// The executed block.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
    },
}
