//! Counts exported and lost spans.

use std::sync::atomic::{AtomicU64, Ordering};

/// Reason why spans did not reach a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The export queue was full.
    QueueFull,
    /// The collector did not accept them after all retries.
    Unreachable,
    /// The collector rejected them permanently.
    Refused,
    /// The process ended before they were sent.
    Ended,
}

impl Lost {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::Unreachable, Self::Refused, Self::Ended];

    /// The reason in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

/// Counters of exported and lost spans.
#[derive(Debug, Default)]
pub struct SpanCounters {
    exported: AtomicU64,
    lost: [AtomicU64; 4],
}

impl SpanCounters {
    /// Counts spans that a collector accepted.
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts lost spans.
    pub fn lost(&self, why: Lost, count: u64) {
        self.lost[why as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Number of spans that a collector accepted.
    pub fn exported_total(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Number of lost spans, by reason.
    pub fn lost_total(&self) -> [(&'static str, u64); 4] {
        Lost::ALL.map(|why| (why.as_str(), self.lost[why as usize].load(Ordering::Relaxed)))
    }
}
