//! What consensus is told and asked.

use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::health::{PingMessage, PongMessage};
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

/// What consensus is told and asked.
pub enum ConsensusMessage {
    /// Look at the gate and at the time.
    Tick,
    /// Another member says something.
    Wire(NodeId, ConsensusWire),
    /// A timer ran out.
    Timer(RoundTimer, u64),
    /// The engine built what was asked for.
    Built {
        /// For which height.
        height: u64,
        /// For which round.
        round: u32,
        /// The payload, or `None` if the engine could not build on the parent.
        payload: Option<Payload>,
    },
    /// The engine executed a block.
    Checked {
        /// The block.
        block: Block,
        /// The round in which it was offered.
        round: u32,
        /// What the engine found.
        status: PayloadStatus,
    },
    /// Ask the engine again for what it could not give.
    Retry {
        /// At which height it was wanted.
        height: u64,
        /// What was wanted.
        request: EngineRequest,
    },
    /// What peers say of their chains.
    PeersAt {
        /// More members than can lie say that theirs has come this far.
        height: u64,
        /// Peers that said how far theirs has.
        heard: usize,
    },
    /// A block that other members decided. Its certificate is verified here.
    Adopt(Box<(Block, Certificate)>, RpcReplyPort<Result<(), String>>),
    /// A member was lost or came back.
    Peer(PeerChange),
    /// Statements signed for heights from here on, oldest first.
    Signatures(u64, RpcReplyPort<Vec<SignedStatement>>),
    /// Say this late, to the member at this place of genesis or to every other: this member misbehaves, in a drill.
    Deliver(Option<usize>, ConsensusWire),
    /// The evidence against members that sign twice.
    Evidence(RpcReplyPort<Vec<Equivocation>>),
    /// What others were heard to state for heights from here on, in the order of heights.
    Received(u64, RpcReplyPort<Vec<ReceivedStatement>>),
    /// This member is going to leave: no height begins any more. Answered when the one in hand is decided, or can
    /// not be.
    Leave(RpcReplyPort<DrainResult>),
    /// The storage thread has taken a step.
    Stepped(Result<StepTaken, StorageError>),
    /// The chain has stored a block, or says why not.
    Committed(Box<Committed>),
    /// Is the actor well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// A step that was taken, and what follows from it.
pub struct StepTaken {
    /// When it was begun.
    pub(super) began: Moment,
    pub(super) state: Box<StepState>,
    pub(super) actions: Result<Vec<Action>, CoreError>,
}

/// What became of a block that was to be stored.
pub struct Committed {
    pub(super) result: Result<Head, String>,
    pub(super) block: Block,
    pub(super) round: u32,
    pub(super) adopted: bool,
    pub(super) shown: Option<Step>,
    pub(super) deciding: Option<Duration>,
    pub(super) adopter: Option<RpcReplyPort<Result<(), String>>>,
}

/// What became of the height in hand when this member was told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainResult {
    /// The chain ends at this height, and nothing has to be replayed above it.
    Finished(u64),
    /// This height was given up in the middle: its log is replayed at the next start.
    GivenUp(u64),
}

/// What consensus wants of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineRequest {
    /// A block on the head.
    Build {
        /// For which round.
        round: u32,
    },
    /// The execution of a block.
    Check {
        /// The block.
        block: Block,
        /// The round in which it is offered.
        round: u32,
    },
}
