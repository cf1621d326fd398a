//! Time, as a port; no other file reads a clock.
//!
//! Policies take a [`Moment`] as an argument and never read a clock. A [`Clock`] has two readings that must not be
//! mixed. The monotonic reading measures durations. The wall clock produces timestamps for people and other members,
//! and decides whether a certificate is currently valid.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on one process's monotonic clock: the time since that clock's origin. Moments of different processes cannot
/// be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(Duration::ZERO);

    /// The moment that is `since_origin` after the origin.
    pub const fn at(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(after))
    }
}

/// Milliseconds since the Unix epoch on a wall clock, which may be wrong and may jump. It is the timestamp of blocks
/// and bounds credible timestamps of proposals, the validity of certificates, and incarnation numbers. Durations are
/// measured with [`Moment`] only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads the time.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic reading. It continues while the process is stopped by a signal.
    fn now(&self) -> Moment;
    /// The wall clock's reading.
    fn wall(&self) -> WallTime;
    /// The wall clock at its finest resolution: the time since the Unix epoch. For timestamps only.
    fn since_epoch(&self) -> Duration {
        Duration::from_millis(self.wall().0)
    }
}

/// The machine's clocks. The monotonic one is tokio's, so it is virtual in a paused runtime.
#[derive(Debug)]
pub struct SystemClock {
    origin: tokio::time::Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    fn wall(&self) -> WallTime {
        WallTime(self.since_epoch().as_millis() as u64)
    }

    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Wraps another clock and shifts its wall clock by an offset: for fault injection.
pub struct OffsetClock {
    clock: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
}

impl OffsetClock {
    /// Starts with the same time as `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead_ms: AtomicI64::new(0) }
    }

    /// Sets how far the wall clock is ahead of the wrapped clock, in milliseconds; negative if it is behind.
    pub fn set_ahead(&self, milliseconds: i64) {
        self.ahead_ms.store(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for OffsetClock {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn wall(&self) -> WallTime {
        WallTime(self.clock.wall().0.saturating_add_signed(self.ahead_ms.load(Ordering::SeqCst)))
    }
}

/// A clock that only moves when a test advances it.
#[derive(Debug, Default)]
pub struct ManualClock {
    millis: AtomicU64,
}

impl ManualClock {
    /// Moves both readings forward.
    pub fn advance(&self, by: Duration) {
        self.millis.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        Moment(Duration::from_millis(self.millis.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> WallTime {
        WallTime(self.millis.load(Ordering::SeqCst))
    }
}
