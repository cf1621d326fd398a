//! What gauges show is read when it is asked for: an event that was missed must not leave it wrong.

use std::sync::Arc;
use std::time::Duration;

use crate::id::{ActorName, NodeId};
use crate::registry::RegistryStats;

/// What can be read without waiting for anybody.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// What is left of each supervisor's restart budget.
    pub budgets: Vec<(ActorName, u64)>,
    /// Patterns of failures found of late, by kind; every kind is there.
    pub patterns: Vec<(&'static str, usize)>,
    /// The registry's numbers.
    pub registry: RegistryStats,
    /// Actors that each peer published.
    pub remote_actors: Vec<(NodeId, usize)>,
    /// The weighted mean of the actors' statuses, in thousandths.
    pub health_score: u64,
    /// The height of the last committed block.
    pub height: u64,
    /// Its time stamp since the epoch; 0 before the first block.
    pub head_time: Duration,
    /// Since the last block was committed, or the chain opened, on the monotonic clock.
    pub head_age: Duration,
    /// Whether the gate is open.
    pub gate_open: bool,
    /// Healthy members.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Every class of operations: its name, how many healthy members it demands, whether it is admitted.
    pub classes: Vec<(&'static str, usize, bool)>,
    /// The links.
    pub links: Vec<LinkReading>,
    /// Until when, since the epoch, this member's certificate for links holds, and how long one does; none for links
    /// without.
    pub certificate: Option<(Duration, Duration)>,
    /// The disk under the data directory.
    pub storage: StorageReading,
    /// Spans that a collector took.
    pub spans_exported: u64,
    /// Spans that were lost, by reason; every reason is there.
    pub spans_lost: [(&'static str, u64); 4],
    /// Lines of the log that could not be written, by reason; every reason is there.
    pub log_lines_lost: [(&'static str, u64); 2],
}

/// What the member's syncs say of its disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct StorageReading {
    /// The median of the last syncs.
    pub sync_latency: Duration,
    /// How long the write in hand has made no progress; zero if there is none.
    pub stuck: Duration,
    /// Syncs since the process started.
    pub syncs: u64,
    /// Bytes free on the file system, and taken by the data directory, if that can be told.
    pub room: Option<(u64, u64)>,
}

/// Reads the gauges. Must not wait.
pub type ReadGauges = Arc<dyn Fn() -> Gauges + Send + Sync>;

/// What another actor had to be asked for: the other members; `None` if nobody watches them.
pub type Asked = Option<Vec<PeerReading>>;

/// Another member.
#[derive(Clone, Debug)]
pub struct PeerReading {
    /// Which.
    pub peer: String,
    /// Its state in `snake_case`, one of [`PEER_STATES`].
    pub state: &'static str,
    /// Suspicion.
    pub phi: f64,
    /// How far its clock is ahead of this member's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Since its last answer.
    pub silence: Option<Duration>,
    /// Its height, as last heard.
    pub height: Option<u64>,
}

/// Every state a peer can be in.
pub const PEER_STATES: [&str; 6] = ["unknown", "up", "attested", "suspected", "down", "left"];

/// A link's numbers since the process started.
#[derive(Clone, Debug, Default)]
pub struct LinkReading {
    /// To whom.
    pub peer: String,
    /// Times this member dialled.
    pub dials: u64,
    /// Sessions that became usable.
    pub sessions: u64,
    /// Envelopes waiting, and their bytes.
    pub queued: (u64, u64),
    /// Envelopes written, and bytes.
    pub sent: (u64, u64),
    /// Envelopes that arrived, and bytes.
    pub received: (u64, u64),
    /// Envelopes that arrived and were refused.
    pub refused: u64,
    /// Envelopes that a full queue dropped or refused, by class.
    pub dropped: Vec<(&'static str, u64)>,
    /// Envelopes lost for want of a link.
    pub lost: u64,
    /// How long the last ping took.
    pub round_trip: Option<Duration>,
}
