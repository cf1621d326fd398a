//! What a link has done, over all its connections.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::envelope::Lane;
use super::rejection_log::RejectionLog;

/// What is counted. Every count grows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Envelopes written to the socket.
    EnvelopesSent,
    /// Bytes written, before encryption; control and pings included.
    BytesSent,
    /// Envelopes that arrived.
    EnvelopesReceived,
    /// Those of them that were refused.
    EnvelopesRefused,
    /// Bytes that arrived.
    BytesReceived,
    /// Envelopes not sent because there was no link, or lost with it while they waited.
    Lost,
    /// Times this member dialled.
    Dials,
    /// Sessions that became usable.
    Sessions,
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::EnvelopesSent,
        Self::BytesSent,
        Self::EnvelopesReceived,
        Self::EnvelopesRefused,
        Self::BytesReceived,
        Self::Lost,
        Self::Dials,
        Self::Sessions,
    ];
}

/// Counts of one link. Shared by its line and its connections.
pub struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    dropped: [AtomicU64; Lane::ALL.len()],
    /// Of the last ping that was answered; 0 before the first.
    round_trip_nanos: AtomicU64,
    /// Where refusals are told.
    pub rejections: RejectionLog,
}

impl Counters {
    /// All zero.
    pub fn new(rejections: RejectionLog) -> Self {
        let (counts, dropped) = Default::default();
        Self { counts, dropped, round_trip_nanos: AtomicU64::new(0), rejections }
    }

    /// Counts `more` of them.
    pub fn add(&self, count: Count, more: u64) {
        self.counts[count as usize].fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// Counts one that a full queue dropped or refused.
    pub fn drop_one(&self, lane: Lane) {
        self.dropped[lane as usize].fetch_add(1, Relaxed);
    }

    /// How many of each class a full queue dropped or refused.
    pub fn dropped(&self) -> [(Lane, u64); Lane::ALL.len()] {
        Lane::ALL.map(|lane| (lane, self.dropped[lane as usize].load(Relaxed)))
    }

    /// Notes how long a ping took there and back.
    pub fn round_trip(&self, took: Duration) {
        self.round_trip_nanos.store((took.as_nanos() as u64).max(1), Relaxed);
    }

    /// The last round trip, if there was one.
    pub fn last_round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip_nanos.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}
