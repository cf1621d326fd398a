//! What the listeners are told and asked.

use std::sync::Arc;

use ractor::RpcReplyPort;

use super::gauges::Asked;
use crate::event::Recorded;
use crate::health::{PingMessage, PongMessage};

/// What the logger is told and asked.
pub enum LoggingMessage {
    /// An event, or how many were missed; answered when it was dealt with.
    Event(Result<Arc<Recorded>, u64>, RpcReplyPort<()>),
    /// The events remembered with their numbers, oldest first.
    History(RpcReplyPort<Vec<(u64, Arc<Recorded>)>>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// What the collector is told and asked.
pub enum MetricsMessage {
    /// An event, or how many were missed; answered when it was dealt with.
    Event(Result<Arc<Recorded>, u64>, RpcReplyPort<()>),
    /// Everything in Prometheus' text format, with what was asked of others for it.
    Render(Asked, RpcReplyPort<String>),
    /// Is the actor itself well?
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}
