//! What became of spans.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why spans did not reach a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Too many waited.
    QueueFull,
    /// The collector did not take them, however often it was asked.
    Unreachable,
    /// It said that it does not take these, and would not later either.
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

/// Counts spans.
#[derive(Debug, Default)]
pub struct SpanCounters {
    exported: AtomicU64,
    lost: [AtomicU64; 4],
}

impl SpanCounters {
    /// A collector took so many.
    pub fn exported(&self, count: u64) {
        self.exported.fetch_add(count, Ordering::Relaxed);
    }

    /// So many were lost.
    pub fn lost(&self, why: Lost, count: u64) {
        self.lost[why as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What a collector took.
    pub fn exported_total(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// What was lost, by reason.
    pub fn lost_total(&self) -> [(&'static str, u64); 4] {
        Lost::ALL.map(|why| (why.as_str(), self.lost[why as usize].load(Ordering::Relaxed)))
    }
}
