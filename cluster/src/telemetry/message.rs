//! Messages of the telemetry actors.

use std::sync::Arc;

use ractor::RpcReplyPort;

use super::gauges::Asked;
use crate::event::Recorded;

/// Message to the logger.
pub enum LoggingMessage {
    /// An event, or the number of missed events; answered when it was handled.
    Event(Result<Arc<Recorded>, u64>, RpcReplyPort<()>),
    /// Asks for the stored events with their numbers, oldest first.
    History(RpcReplyPort<Vec<(u64, Arc<Recorded>)>>),
}

/// Message to the metrics collector.
pub enum MetricsMessage {
    /// An event, or the number of missed events; answered when it was handled.
    Event(Result<Arc<Recorded>, u64>, RpcReplyPort<()>),
    /// Asks for all metrics in Prometheus' text format, given the readings of other actors.
    Render(Asked, RpcReplyPort<String>),
}
