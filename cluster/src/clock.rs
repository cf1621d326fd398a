//! Time, as a port: the only file that reads a clock.
//!
//! Policies take a [`Moment`] and never ask for one. A [`Clock`] gives two readings that must not be mixed:
//! the monotonic one, which measures, and the wall clock, which labels what people and other members read, and
//! says whether a certificate is in its time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point on one process's monotonic clock: the time since that clock's origin. Moments of different
/// processes can not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(Duration::ZERO);

    /// The moment `since_origin` after the origin.
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

/// Milliseconds since the Unix epoch on a wall clock, which may be wrong and may jump. It labels blocks, says whether a
/// proposal's label is credible, whether a certificate is valid, and how high the number of a start may be; how long
/// something takes is measured with [`Moment`] only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(pub u64);

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What reads time.
pub trait Clock: Send + Sync + 'static {
    /// The monotonic reading. It goes on while the process is stopped by a signal.
    fn now(&self) -> Moment;
    /// The wall clock's reading.
    fn wall(&self) -> WallTime;
    /// The same as finely as it can be read: the time since the Unix epoch. Labels only.
    fn since_epoch(&self) -> Duration {
        Duration::from_millis(self.wall().0)
    }
}

/// The machine's clocks. The monotonic one is tokio's, so that a paused runtime makes it virtual.
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

/// Another clock, with a wall clock that can be set apart from it: for drills.
pub struct OffsetClock {
    clock: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
}

impl OffsetClock {
    /// The same time as `clock`, so far.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, ahead_ms: AtomicI64::new(0) }
    }

    /// Sets how far the wall clock is ahead of the other's, in milliseconds; negative puts it behind.
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

/// A clock that moves when told, for tests.
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
