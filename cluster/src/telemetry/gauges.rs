//! Values of gauges, read on request, so that a missed event cannot leave a gauge wrong.

use std::sync::Arc;
use std::time::Duration;

use crate::id::{ActorName, NodeId};
use crate::registry::RegistryStats;

/// Values that can be read without waiting for another actor.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Restarts left in each supervisor's budget.
    pub budgets: Vec<(ActorName, u64)>,
    /// Number of failure patterns within the window, by kind; includes every kind.
    pub patterns: Vec<(&'static str, usize)>,
    /// Statistics of the registry.
    pub registry: RegistryStats,
    /// Number of actors that each peer published.
    pub remote_actors: Vec<(NodeId, usize)>,
    /// Weighted mean of the actors' health, in thousandths.
    pub health_score: u64,
    /// The height of the last committed block.
    pub height: u64,
    /// Timestamp of the last committed block, since the epoch; 0 before the first block.
    pub head_time: Duration,
    /// Time since the last block was committed, or the chain was opened, on the monotonic clock.
    pub head_age: Duration,
    /// Whether the gate is open.
    pub gate_open: bool,
    /// Number of healthy members.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Operation classes: name, number of healthy members required, and whether operations are admitted.
    pub classes: Vec<(&'static str, usize, bool)>,
    /// Statistics of the links.
    pub links: Vec<LinkReading>,
    /// Expiry of this member's link certificate, since the epoch, and the lifetime of a certificate; `None` for links
    /// without certificates.
    pub certificate: Option<(Duration, Duration)>,
    /// State of the disk with the data directory.
    pub storage: StorageReading,
    /// Number of spans that a collector accepted.
    pub spans_exported: u64,
    /// Number of lost spans, by reason; includes every reason.
    pub spans_lost: [(&'static str, u64); 4],
    /// Number of log lines that could not be written, by reason; includes every reason.
    pub log_lines_lost: [(&'static str, u64); 2],
}

/// Disk metrics, measured on the member's syncs.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageReading {
    /// Median duration of the last syncs.
    pub sync_latency: Duration,
    /// Time for which the current write has made no progress; zero if there is none.
    pub stuck: Duration,
    /// Number of syncs since the process started.
    pub syncs: u64,
    /// Free bytes on the file system and bytes used by the data directory; `None` if unknown.
    pub room: Option<(u64, u64)>,
}

/// Reads the gauges. Must not block.
pub type ReadGauges = Arc<dyn Fn() -> Gauges + Send + Sync>;

/// Readings about the other members, provided by the federation actor; `None` if it did not answer.
pub type Asked = Option<Vec<PeerReading>>;

/// Readings about another member.
#[derive(Clone, Debug)]
pub struct PeerReading {
    /// Name of the member.
    pub peer: String,
    /// State in `snake_case`, one of [`PEER_STATES`].
    pub state: &'static str,
    /// Suspicion level of the phi accrual failure detector.
    pub phi: f64,
    /// How far its clock is ahead of this member's clock, in milliseconds; `None` if unknown.
    pub clock_offset_ms: Option<i64>,
    /// Time since its last answer; `None` if it never answered.
    pub silence: Option<Duration>,
    /// Last known height; `None` if unknown.
    pub height: Option<u64>,
}

/// All states of a peer.
pub const PEER_STATES: [&str; 6] = ["unknown", "up", "attested", "suspected", "down", "left"];

/// Statistics of a link since the process started.
#[derive(Clone, Debug, Default)]
pub struct LinkReading {
    /// Name of the member at the other end.
    pub peer: String,
    /// Number of times this member dialled.
    pub dials: u64,
    /// Number of sessions that became usable.
    pub sessions: u64,
    /// Number of queued envelopes, and their bytes.
    pub queued: (u64, u64),
    /// Number of sent envelopes, and their bytes.
    pub sent: (u64, u64),
    /// Number of received envelopes, and their bytes.
    pub received: (u64, u64),
    /// Number of received envelopes that were rejected.
    pub refused: u64,
    /// Number of envelopes dropped or rejected because a queue was full, by class.
    pub dropped: Vec<(&'static str, u64)>,
    /// Number of envelopes lost because there was no link.
    pub lost: u64,
    /// Round-trip time of the last ping; `None` before the first.
    pub round_trip: Option<Duration>,
}
