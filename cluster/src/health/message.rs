//! Defines the messages of the health monitor and the recovery agent, and answers pings.

use std::time::Duration;

use ractor::RpcReplyPort;

use super::recovery::Stage;
use super::state::{ActorHealth, CheckOutcome, Trends};
use crate::id::{ActorName, NodeId};
use crate::ping::PongMessage;

/// Messages of the health monitor.
pub enum HealthMessage {
    /// Periodic tick.
    Tick,
    /// Outcomes of checks.
    Checked(Vec<CheckOutcome>),
    /// A pong that arrived after its check timed out, with the index of the actor.
    Late(usize, PongMessage),
    /// Asks for the health of all actors, in their order.
    Board(RpcReplyPort<Vec<ActorHealth>>),
    /// Checks all actors now; replies with their health when all checks are complete.
    Batch(RpcReplyPort<Vec<ActorHealth>>),
    /// Asks for the trends of the checks.
    Trends(RpcReplyPort<Trends>),
    /// Stage of an actor's recovery, with a note.
    Recovery(ActorName, Stage, String),
    /// Current state of the other members.
    Members(Vec<MemberReading>),
    /// The node shuts down, for this reason: an actor that stops now has not failed.
    Shutdown(String),
}

/// Messages of the recovery agent.
pub enum RecoveryMessage {
    /// Periodic tick.
    Tick,
    /// Results of checks.
    Found(Vec<ActorHealth>),
    /// Result of a restart request.
    Answered(ActorName, crate::port::RestartOutcome),
    /// The node shuts down: no further restarts.
    Shutdown,
}

/// State of another member at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReading {
    /// Name of the member.
    pub name: NodeId,
    /// Whether it counts towards the gate.
    pub healthy: bool,
    /// Time since its last response; `None` if there was none, or the member is lost.
    pub silence: Option<Duration>,
}
