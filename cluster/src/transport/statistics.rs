//! Counts the activity of a link over all its connections.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::envelope::Lane;
use super::rejection_log::RejectionLog;

/// Kind of counter. Every counter is monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Envelopes written to the socket.
    EnvelopesSent,
    /// Bytes written, before encryption; includes control frames and pings.
    BytesSent,
    /// Envelopes received.
    EnvelopesReceived,
    /// Received envelopes that were refused.
    EnvelopesRefused,
    /// Bytes received.
    BytesReceived,
    /// Envelopes not sent because there was no link, or lost from the queue when the link was lost.
    Lost,
    /// Dial attempts by this member.
    Dials,
    /// Sessions that became ready.
    Sessions,
}

impl Count {
    /// Every kind of counter.
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

/// Counters of one link. Shared by its channel and its connections.
pub struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    dropped: [AtomicU64; Lane::ALL.len()],
    /// Round trip time of the last answered ping, in nanoseconds; 0 before the first.
    round_trip_nanos: AtomicU64,
    /// Log of rejected input.
    pub rejections: RejectionLog,
}

impl Counters {
    /// Creates counters that are all zero.
    pub fn new(rejections: RejectionLog) -> Self {
        let (counts, dropped) = Default::default();
        Self { counts, dropped, round_trip_nanos: AtomicU64::new(0), rejections }
    }

    /// Adds `more` to a counter.
    pub fn add(&self, count: Count, more: u64) {
        self.counts[count as usize].fetch_add(more, Relaxed);
    }

    /// Value of a counter.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// Counts one envelope that a full queue dropped or refused.
    pub fn drop_one(&self, lane: Lane) {
        self.dropped[lane as usize].fetch_add(1, Relaxed);
    }

    /// Number of envelopes that a full queue dropped or refused, per lane.
    pub fn dropped(&self) -> [(Lane, u64); Lane::ALL.len()] {
        Lane::ALL.map(|lane| (lane, self.dropped[lane as usize].load(Relaxed)))
    }

    /// Records the round trip time of a ping.
    pub fn round_trip(&self, took: Duration) {
        self.round_trip_nanos.store((took.as_nanos() as u64).max(1), Relaxed);
    }

    /// Round trip time of the last answered ping, if any.
    pub fn last_round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip_nanos.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}
