//! Measures how long disk syncs take, and whether the disk responds at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment};
use alys_cluster::health::HealthCheckResult;

/// Recent syncs of which the median is taken.
const RECENT: usize = 16;
/// Time without progress after which the disk is reported as hanging.
const HUNG_AFTER: Duration = Duration::from_secs(2);
/// Divisor of the block time that gives the longest acceptable sync. A block needs about seven syncs in a row, so syncs
/// of an eighth of the block time leave nothing over.
const SLOW_SHARE: u32 = 8;
/// Bytes kept free on the file system: with less, nothing is written. More than a block and what the store needs to add
/// it, so that no write fails in the middle.
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// How long a measurement of the free space stays valid.
pub(super) const ROOM_AGE: Duration = Duration::from_millis(100);
/// Interval at which allocating [`RESERVE_BYTES`] is tried, which costs the file system some work. A failed write
/// triggers a try at once.
const TRIED_EVERY: Duration = Duration::from_secs(30);
/// The same interval while the allocation is refused.
const REFUSED_STEP: Duration = Duration::from_secs(1);
/// Interval at which a delayed sync checks whether its delay was changed.
const DELAY_STEP: Duration = Duration::from_millis(10);

/// The disk under the data directory, as observed by the member's syncs.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

/// Free space on a file system, and the space that the member's files use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes free for this user.
    pub free: u64,
    /// Bytes used by the data directory.
    pub data: u64,
    /// Error number if the system refuses to allocate space: because of a quota, a file size limit, a read-only file
    /// system, or a missing directory.
    pub refused: Option<i32>,
}

impl Room {
    /// Reason why nothing should be written, if there is one.
    pub fn shortage(&self) -> Option<String> {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        if let Some(refused) = self.refused {
            let error = std::io::Error::from_raw_os_error(refused);
            Some(format!("the disk takes no writes: {error}; goes on when it does"))
        } else if self.free < RESERVE_BYTES {
            Some(format!(
                "the disk is full: {:.1} MiB are free; expected at least {:.0} MiB; goes on when there is room",
                mib(self.free),
                mib(RESERVE_BYTES)
            ))
        } else {
            None
        }
    }
}

/// Measures the free space and, if asked, whether the system allocates [`RESERVE_BYTES`]; `None` if that can not be
/// determined.
pub type Space = Arc<dyn Fn(Look) -> Option<Room> + Send + Sync>;

/// How the space on a disk is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Ask the file system for its free space.
    Free,
    /// Also try to allocate space, which costs more and detects quotas and limits.
    Reserve,
}

struct Shared {
    clock: Arc<dyn Clock>,
    space: Space,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    recent: VecDeque<Duration>,
    /// Time at which the current request last made progress, or at which a measurement of the space began.
    progress: Option<Moment>,
    delay: Duration,
    syncs: u64,
    room: Option<Room>,
    /// Time of the last measurement of the space.
    looked: Option<Moment>,
    /// Time of the last attempt to allocate space.
    tried: Option<Moment>,
}

/// A snapshot of what is known about the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReading {
    /// Median duration of the recent syncs.
    pub latency: Duration,
    /// Time since the current request last made progress; zero if there is none.
    pub stuck: Duration,
    /// Number of syncs so far.
    pub syncs: u64,
    /// Space on the disk, if it can be determined.
    pub room: Option<Room>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disk").field(&self.reading()).finish()
    }
}

impl Disk {
    /// Creates a disk without measurements. `space` measures the free space.
    pub fn new(clock: Arc<dyn Clock>, space: Space) -> Self {
        Self(Arc::new(Shared { clock, space, state: Mutex::default() }))
    }

    /// Whether there is enough space to write. Must be called on the storage thread.
    pub(super) fn has_room(&self) -> bool {
        let now = self.0.clock.now();
        let is_due = |last: Option<Moment>, every| last.is_none_or(|last| now.since(last) >= every);
        let (looked, tried, before) = {
            let state = self.state();
            (state.looked, state.tried, state.room)
        };
        if is_due(looked, ROOM_AGE) {
            let refused = before.and_then(|before| before.refused);
            let every = if refused.is_some() { REFUSED_STEP } else { TRIED_EVERY };
            let look = if is_due(tried, every) { Look::Reserve } else { Look::Free };
            // A hanging disk may hang here, too.
            self.progress();
            let mut room = (self.0.space)(look);
            self.rest();
            let mut state = self.state();
            state.looked = Some(now);
            if look == Look::Reserve {
                state.tried = Some(now);
            } else if let Some(room) = &mut room {
                room.refused = room.refused.or(refused);
            }
            state.room = room;
        }
        self.state().room.is_none_or(|room| room.shortage().is_none())
    }

    /// A write failed: the last measurement of the space is no longer trusted.
    pub fn suspect(&self) {
        let mut state = self.state();
        (state.looked, state.tried) = (None, None);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a sync and measures it. Must be called on the storage thread.
    pub fn sync<T>(&self, sync: impl FnOnce() -> T) -> T {
        let began = self.progress();
        self.delay(began);
        let outcome = sync();
        let ended = self.progress();
        let took = ended.since(began);
        let mut state = self.state();
        if state.recent.len() == RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(took);
        state.syncs += 1;
        outcome
    }

    /// Waits for the delay that fault injection adds to every sync, even if the delay changes meanwhile.
    fn delay(&self, began: Moment) {
        while self.0.clock.now().since(began) < self.state().delay {
            std::thread::sleep(DELAY_STEP);
        }
    }

    /// Makes every sync from now on take this much longer, for fault injection.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// Records that a request started or made progress. Returns the current time.
    pub(super) fn progress(&self) -> Moment {
        let now = self.0.clock.now();
        self.state().progress = Some(now);
        now
    }

    /// Records that the current request is done.
    pub(super) fn rest(&self) {
        self.state().progress = None;
    }

    /// Returns the current snapshot.
    pub fn reading(&self) -> DiskReading {
        let now = self.0.clock.now();
        let state = self.state();
        let mut recent: Vec<_> = state.recent.iter().copied().collect();
        recent.sort_unstable();
        DiskReading {
            latency: recent.get(recent.len() / 2).copied().unwrap_or_default(),
            stuck: state.progress.map(|progress| now.since(progress)).unwrap_or_default(),
            syncs: state.syncs,
            room: state.room,
        }
    }
}

impl DiskReading {
    /// Health of a member with this disk that makes a block every `block_time`.
    pub fn health(&self, block_time: Duration) -> HealthCheckResult {
        if let Some(shortage) = self.room.and_then(|room| room.shortage()) {
            HealthCheckResult::unhealthy(shortage)
        } else if self.stuck >= HUNG_AFTER {
            let secs = self.stuck.as_secs_f64();
            HealthCheckResult::unhealthy(format!("the disk hangs: it has not answered for {secs:.1} s"))
        } else if self.latency > block_time / SLOW_SHARE {
            let (ms, limit) = (self.latency.as_secs_f64() * 1e3, (block_time / SLOW_SHARE).as_millis());
            HealthCheckResult::degraded(format!(
                "the disk is slow: a sync takes {ms:.1} ms; expected at most {limit} ms for blocks of {block_time:?}"
            ))
        } else {
            HealthCheckResult::healthy()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alys_cluster::health::HealthStatus;

    #[test]
    fn a_slow_disk_degrades_and_one_that_hangs_is_unhealthy_by_name() {
        let block_time = Duration::from_secs(2);
        let ms = Duration::from_millis;
        for (latency, stuck, status, says) in [
            (ms(40), ms(0), HealthStatus::Healthy, ""),
            (ms(250), ms(300), HealthStatus::Healthy, ""),
            (ms(251), ms(0), HealthStatus::Degraded, "the disk is slow: a sync takes 251.0 ms"),
            (ms(1), ms(2_000), HealthStatus::Unhealthy, "the disk hangs: it has not answered for 2.0 s"),
        ] {
            let health = DiskReading { latency, stuck, ..DiskReading::default() }.health(block_time);
            assert_eq!(health.status, status, "{latency:?} {stuck:?}");
            assert!(health.reason.starts_with(says), "{}", health.reason);
        }
    }

    #[test]
    fn what_was_refused_stays_so_until_it_is_tried_again_and_a_failure_is_a_reason_to_try() {
        let clock = Arc::new(alys_cluster::clock::ManualClock::default());
        let looks = Arc::new(Mutex::new(Vec::new()));
        let seen = looks.clone();
        let space: Space = Arc::new(move |look| {
            seen.lock().expect("not poisoned").push(look);
            let refused = (look == Look::Reserve).then_some(28);
            Some(Room { free: RESERVE_BYTES, data: 1, refused })
        });
        let disk = Disk::new(clock.clone(), space);
        let taken = || std::mem::take(&mut *looks.lock().expect("not poisoned"));
        assert!(!disk.has_room());
        assert!(!disk.has_room(), "it was just looked at");
        assert_eq!(taken(), [Look::Reserve]);
        clock.advance(ROOM_AGE);
        assert!(!disk.has_room(), "what is free says nothing of a quota");
        assert_eq!(taken(), [Look::Free]);
        disk.suspect();
        assert!(!disk.has_room());
        clock.advance(REFUSED_STEP);
        assert!(!disk.has_room());
        assert_eq!(taken(), [Look::Reserve; 2]);
        let health = disk.reading().health(Duration::from_secs(2));
        assert!(health.reason.starts_with("the disk takes no writes: No space left"), "{}", health.reason);
    }

    #[test]
    fn the_median_of_the_last_syncs_is_their_latency() {
        let clock = Arc::new(alys_cluster::clock::SystemClock::default());
        let disk = Disk::new(clock, Arc::new(|_| None));
        assert_eq!(disk.reading(), DiskReading::default());
        disk.set_delay(Duration::from_millis(20));
        (0..2).for_each(|_| disk.sync(|| ()));
        disk.set_delay(Duration::ZERO);
        (0..3).for_each(|_| disk.sync(|| ()));
        let reading = disk.reading();
        assert!(reading.latency < Duration::from_millis(20), "{reading:?}");
        assert!(reading.syncs == 5, "{reading:?}");
    }
}
