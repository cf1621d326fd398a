//! What the monitor is told and asked, and how any actor answers a ping.

use std::collections::BTreeMap;
use std::time::Duration;

use ractor::RpcReplyPort;

use super::ping::{HealthCheckResult, PingMessage, PongMessage};
use super::recovery::Stage;
use super::state::{ActorHealth, CheckOutcome, Trends};
use crate::clock::Clock;
use crate::id::{ActorName, NodeId};

/// What the monitor is told and asked.
pub enum HealthMessage {
    /// Look who is due.
    Tick,
    /// Checks are over.
    Checked(Vec<CheckOutcome>),
    /// A pong that comes after its check was over, by the actor's place.
    Late(usize, PongMessage),
    /// The board, in the order of the actors.
    Board(RpcReplyPort<Vec<ActorHealth>>),
    /// Check everybody now; the board when all checks are over.
    Batch(RpcReplyPort<Vec<ActorHealth>>),
    /// How the checks develop.
    Trends(RpcReplyPort<Trends>),
    /// The recovery of an actor is at this point.
    Recovery(ActorName, Stage, String),
    /// What is known of the other members now.
    Members(Vec<MemberReading>),
    /// The node shuts down, for this reason: whoever ends now has not failed.
    Shutdown(String),
    /// Is the monitor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// What the recovery agent is told and asked.
pub enum RecoveryMessage {
    /// Time passes.
    Tick,
    /// What checks found.
    Found(Vec<ActorHealth>),
    /// What came of a request for a restart.
    Answered(ActorName, crate::port::RestartOutcome),
    /// The node shuts down: nobody is restarted any more.
    Shutdown,
    /// Is the agent itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// What is known of another member at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReading {
    /// The member.
    pub name: NodeId,
    /// Whether it counts towards the gate.
    pub healthy: bool,
    /// Time since its last answer; `None` if there was none, or it is lost.
    pub silence: Option<Duration>,
}

/// Answers `ping` for an actor of this node with what it says of itself.
pub fn answer(
    name: &ActorName,
    clock: &dyn Clock,
    ping: &PingMessage,
    status: HealthCheckResult,
    reply: RpcReplyPort<PongMessage>,
) {
    // A caller that gave up no longer listens, which is its own affair.
    let _ = reply.send(PongMessage {
        ping_id: ping.id,
        timestamp: clock.wall(),
        source: name.to_string(),
        incarnation: ping.incarnation,
        status,
        metadata: BTreeMap::new(),
    });
}
