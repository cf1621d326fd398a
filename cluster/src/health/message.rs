//! What the monitor is told and asked, and how any actor answers a ping.

use std::collections::BTreeMap;

use ractor::RpcReplyPort;

use super::ping::{HealthCheckResult, PingMessage, PongMessage};
use super::state::{ActorHealth, Check};
use crate::clock::Clock;
use crate::id::ActorName;

/// What the monitor is told and asked.
pub enum HealthMessage {
    /// Look who is due.
    Tick,
    /// A check is over.
    Checked(usize, Check),
    /// The board, in the order of the actors.
    Board(RpcReplyPort<Vec<ActorHealth>>),
    /// Is the monitor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
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
