//! How long syncs take, and whether the disk answers at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment};
use alys_cluster::health::HealthCheckResult;

/// Syncs of which the median is taken.
const RECENT: usize = 16;
/// A request that makes no progress for so long waits for a disk that hangs.
const HUNG_AFTER: Duration = Duration::from_secs(2);
/// A block needs about seven syncs in a row: one that takes an eighth of the block time leaves nothing over.
const SLOW_SHARE: u32 = 8;
/// What is left free of the file system: with less, nothing is written. It is more than a block and what the store needs to
/// take one in, so that no write fails in the middle.
pub const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// For how long the room that was found is taken for the room that there is.
pub(super) const ROOM_AGE: Duration = Duration::from_millis(100);
/// How often it is tried whether room can be set aside, which costs the file system something; at once where a write fails.
const TRIED_EVERY: Duration = Duration::from_secs(30);
/// The same while it is refused.
const REFUSED_STEP: Duration = Duration::from_secs(1);
/// How often a delayed sync looks whether its delay was changed.
const DELAY_STEP: Duration = Duration::from_millis(10);

/// The disk under the data directory, as the member's syncs meet it.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

/// The room there is on a file system, and what the member's files take of it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free to this user.
    pub free: u64,
    /// Taken by the data directory.
    pub data: u64,
    /// The number of the system's error, where it refuses to set room aside: for a quota, a limit of file sizes, a file system
    /// that is read-only, a directory that is gone.
    pub refused: Option<i32>,
}

impl Room {
    /// Why nothing should be written, if so.
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

/// Looks at the room there is, and whether the system sets [`RESERVE_BYTES`] aside if that is asked for; none if that can not
/// be told.
pub type Space = Arc<dyn Fn(Look) -> Option<Room> + Send + Sync>;

/// How the room on a disk is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// What the file system says is free.
    Free,
    /// The same, and whether room can be set aside: costs more, and finds quotas and limits.
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
    /// The last sign of progress of the request in hand, or when a look at the room began.
    progress: Option<Moment>,
    delay: Duration,
    syncs: u64,
    room: Option<Room>,
    /// When that was looked at.
    looked: Option<Moment>,
    /// When room was last to be set aside.
    tried: Option<Moment>,
}

/// What is known of the disk at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReading {
    /// The median of the last syncs.
    pub latency: Duration,
    /// How long the request in hand has made no progress; zero if there is none.
    pub stuck: Duration,
    /// Syncs so far.
    pub syncs: u64,
    /// The room there is, if that can be told.
    pub room: Option<Room>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Disk").field(&self.reading()).finish()
    }
}

impl Disk {
    /// A disk of which nothing is known yet, but for where to look for the room there is.
    pub fn new(clock: Arc<dyn Clock>, space: Space) -> Self {
        Self(Arc::new(Shared { clock, space, state: Mutex::default() }))
    }

    /// Whether there is room enough to write. To be called on the storage thread.
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
            // A disk that hangs may hang over this, too.
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

    /// Something could not be written: the room that was found is not believed any longer.
    pub fn suspect(&self) {
        let mut state = self.state();
        (state.looked, state.tried) = (None, None);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a sync, and measures it. To be called on the storage thread.
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

    /// Waits as long as a drill wants every sync to take, even if that is changed meanwhile.
    fn delay(&self, began: Moment) {
        while self.0.clock.now().since(began) < self.state().delay {
            std::thread::sleep(DELAY_STEP);
        }
    }

    /// From now on every sync takes so much longer, as a drill.
    pub fn set_delay(&self, delay: Duration) {
        self.state().delay = delay;
    }

    /// A request began, or got on.
    pub(super) fn progress(&self) -> Moment {
        let now = self.0.clock.now();
        self.state().progress = Some(now);
        now
    }

    /// The request in hand is done.
    pub(super) fn rest(&self) {
        self.state().progress = None;
    }

    /// What is known now.
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
    /// What the disk means to a member that makes a block each `block_time`.
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
