//! Runs the reads and writes of the member's files on one thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use super::OPEN_DEADLINE;
use super::disk::{Disk, ROOM_AGE};

/// Maximum number of waiting requests. Consensus has one at a time and the chain few; further requests are refused.
const QUEUE_MAX: usize = 256;
/// Of these, the maximum number of reads for peers and users, so that they never use the queue space of the member
/// itself.
const READS_MAX: usize = 32;
/// Interval at which the disk space is checked while there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Interval at which an opening checks whether it is waiting for disk space.
const OPEN_STEP: Duration = Duration::from_secs(1);

type Task = Box<dyn FnOnce() + Send>;

enum Request {
    /// A request that may write, for which the disk must have space.
    Write(Task),
    /// A request that only reads.
    Read(Task),
}

/// Why a request was not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StorageError {
    /// Too many requests are waiting. This one was not started.
    #[error("too many requests wait for the disk already; this one was not begun")]
    Full,
    /// The request panicked, or the thread has ended. The effect of the request is unknown.
    #[error("a request to the disk ended without an answer")]
    Lost,
    /// The request exceeded its deadline. It will still run, sooner or later.
    #[error("the disk has not answered within {0:?}")]
    Deadline(Duration),
}

/// A handle to the storage thread, which ends with its last handle.
#[derive(Clone)]
pub struct Storage {
    queue: SyncSender<Request>,
    reads: Arc<Semaphore>,
    disk: Disk,
}

impl Storage {
    /// Starts the thread.
    pub fn start(disk: Disk) -> std::io::Result<Self> {
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let measured = disk.clone();
        std::thread::Builder::new().name("storage".to_owned()).spawn(move || work(&requests, &measured))?;
        Ok(Self { queue, reads: Arc::new(Semaphore::new(READS_MAX)), disk })
    }

    /// The disk that the thread writes to.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Queues `request` behind earlier ones. Never blocks.
    pub fn submit(&self, request: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        self.enqueue(Request::Write(Box::new(request)))
    }

    /// Queues a request that writes nothing: a full disk does not delay it.
    pub fn submit_own_read(&self, request: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        self.enqueue(Request::Read(Box::new(request)))
    }

    /// Queues a request that reads for peers or users, of which fewer may wait.
    pub fn submit_read(&self, request: impl FnOnce() + Send + 'static) -> Result<(), StorageError> {
        let permit = self.reads.clone().try_acquire_owned().map_err(|_| StorageError::Full)?;
        self.enqueue(Request::Read(Box::new(move || {
            request();
            drop(permit);
        })))
    }

    fn enqueue(&self, request: Request) -> Result<(), StorageError> {
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::Full,
            TrySendError::Disconnected(_) => StorageError::Lost,
        })
    }

    /// Runs `request` on the thread and returns its result. A result that nobody awaits any more is dropped on the
    /// thread.
    pub async fn run<T: Send + 'static>(
        &self,
        request: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let (answer, answered) = oneshot::channel();
        self.submit(move || drop(answer.send(request())))?;
        answered.await.map_err(|_| StorageError::Lost)
    }

    /// Runs a request that opens files. Its deadline is [`OPEN_DEADLINE`], from when there is space on the disk.
    pub async fn open<T: Send + 'static>(
        &self,
        request: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let mut opened = pin!(self.run(request));
        let mut waited = Duration::ZERO;
        while waited < OPEN_DEADLINE {
            match tokio::time::timeout(OPEN_STEP, &mut opened).await {
                Ok(outcome) => return outcome,
                Err(_) if self.disk.reading().room.is_some_and(|room| room.shortage().is_some()) => {
                    waited = Duration::ZERO;
                }
                Err(_) => waited += OPEN_STEP,
            }
        }
        Err(StorageError::Deadline(OPEN_DEADLINE))
    }

    /// Runs `request` on the thread and returns its result, with a deadline.
    pub async fn run_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        request: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StorageError> {
        let late = |_| Err(StorageError::Deadline(deadline));
        tokio::time::timeout(deadline, self.run(request)).await.unwrap_or_else(late)
    }
}

fn work(requests: &Receiver<Request>, disk: &Disk) {
    // Writes that would fail for lack of space wait for it, as they would for a hanging disk.
    let mut held = VecDeque::new();
    loop {
        if disk.has_room()
            && let Some(task) = held.pop_front()
        {
            perform(task, disk);
            continue;
        }
        let patience = if held.is_empty() { LOOK_EVERY } else { ROOM_AGE };
        if held.len() == QUEUE_MAX {
            std::thread::sleep(patience);
            continue;
        }
        match requests.recv_timeout(patience) {
            Ok(Request::Write(task)) if !held.is_empty() || !disk.has_room() => held.push_back(task),
            Ok(Request::Write(task) | Request::Read(task)) => perform(task, disk),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn perform(task: Task, disk: &Disk) {
    disk.progress();
    // The panic drops the reply channel, which informs the caller.
    if catch_unwind(AssertUnwindSafe(task)).is_err() {
        tracing::error!("a request to the disk panicked");
    }
    disk.rest();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    use alys_cluster::clock::SystemClock;
    use alys_cluster::health::HealthStatus;

    use crate::storage::disk::{RESERVE_BYTES, Room, Space};

    fn storage_with(space: Space) -> Storage {
        Storage::start(Disk::new(Arc::new(SystemClock::default()), space)).expect("starts")
    }

    fn storage() -> Storage {
        storage_with(Arc::new(|_| None))
    }

    #[tokio::test]
    async fn a_request_waits_for_room_on_the_disk_and_is_done_when_there_is_some() {
        let free = Arc::new(AtomicU64::new(RESERVE_BYTES - 1));
        let looked = free.clone();
        let storage = storage_with(Arc::new(move |_| {
            Some(Room { free: looked.load(Ordering::Relaxed), data: 5, refused: None })
        }));
        let deadline = Duration::from_millis(20);
        assert_eq!(storage.run_within(deadline, || 1).await, Err(StorageError::Deadline(deadline)));
        let health = storage.disk().reading().health(Duration::from_secs(2));
        assert_eq!(health.status, HealthStatus::Unhealthy);
        assert!(health.reason.starts_with("the disk is full: 16.0 MiB are free"), "{}", health.reason);
        let (answer, answered) = oneshot::channel();
        storage.submit_read(move || assert_eq!(answer.send(3), Ok(()))).expect("there is room in the queue");
        assert_eq!(answered.await, Ok(3), "what is on the disk can be read");
        let after = storage.run(|| 7);
        free.store(RESERVE_BYTES, Ordering::Relaxed);
        assert_eq!(after.await, Ok(7));
        assert_eq!(storage.disk().reading().health(Duration::from_secs(2)).status, HealthStatus::Healthy);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_while_its_room_is_looked_at_hangs_by_name() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let storage = storage_with(Arc::new(move |_| {
            let _ = held.lock().expect("not poisoned").recv();
            None
        }));
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while storage.disk().reading().stuck < Duration::from_millis(20) {
            assert!(std::time::Instant::now() < until, "nobody says that it hangs");
            tokio::task::yield_now().await;
        }
        drop(release);
        assert_eq!(storage.run(|| 7).await, Ok(7));
        while storage.disk().reading().stuck > Duration::ZERO {
            assert!(std::time::Instant::now() < until, "it hangs for ever");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_have_all_their_time_to_be_opened_once_there_is_room() {
        let free = Arc::new(AtomicU64::new(RESERVE_BYTES - 1));
        let looked = free.clone();
        let storage = storage_with(Arc::new(move |_| {
            Some(Room { free: looked.load(Ordering::Relaxed), data: 5, refused: None })
        }));
        let is_short = || storage.disk().reading().room.is_none_or(|room| room.shortage().is_some());
        while storage.disk().reading().room.is_none() {
            tokio::task::yield_now().await;
        }
        let (_release, held) = std::sync::mpsc::channel::<()>();
        let mut opened = pin!(storage.open(move || held.recv().is_err()));
        let most = OPEN_DEADLINE.checked_sub(Duration::from_secs(2)).expect("longer");
        assert!(tokio::time::timeout(most, &mut opened).await.is_err(), "there is no room");
        free.store(RESERVE_BYTES, Ordering::Relaxed);
        while is_short() {
            tokio::task::yield_now().await;
        }
        assert!(tokio::time::timeout(most, &mut opened).await.is_err(), "its time began with the room");
        let late = tokio::time::timeout(OPEN_DEADLINE, &mut opened).await.expect("its time is over");
        assert_eq!(late, Err(StorageError::Deadline(OPEN_DEADLINE)));
    }

    #[tokio::test]
    async fn a_deadline_fires_while_the_disk_hangs_and_the_request_is_done_when_it_answers() {
        let storage = storage();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let deadline = Duration::from_millis(20);
        let outcome = storage.run_within(deadline, move || held.recv().is_err()).await;
        assert_eq!(outcome, Err(StorageError::Deadline(deadline)));
        while storage.disk().reading().stuck < deadline {
            tokio::task::yield_now().await;
        }
        let after = storage.run(|| 7);
        release.send(()).expect("the thread waits");
        assert_eq!(after.await, Ok(7));
    }

    #[tokio::test]
    async fn a_request_that_panics_is_lost_and_the_next_one_done() {
        let storage = storage();
        let lost = storage.run(|| panic!("on order")).await;
        assert_eq!(lost, Err::<(), _>(StorageError::Lost));
        assert_eq!(storage.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn who_asks_for_more_than_may_wait_is_refused() {
        let storage = storage();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel::<()>();
        storage
            .submit(move || {
                let _ = begun.send(());
                let _ = held.recv();
            })
            .expect("taken");
        begins.recv().expect("begun");
        (0..READS_MAX).for_each(|_| storage.submit_read(|| ()).expect("waits"));
        assert_eq!(storage.submit_read(|| ()), Err(StorageError::Full));
        (READS_MAX..QUEUE_MAX).for_each(|_| storage.submit(|| ()).expect("waits"));
        assert_eq!(storage.submit(|| ()), Err(StorageError::Full));
        drop(release);
        while storage.reads.available_permits() < READS_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(storage.submit_read(|| ()), Ok(()));
    }
}
