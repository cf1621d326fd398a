//! Writes the log in the data directory: a queue, and a thread that appends.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use alys_cluster::federation::{DecisionSink, GateRecord, SinkStats};
use alys_cluster::id::Incarnation;

use super::line::DecisionLine;
use super::replay::Replay;
use super::{FILE, OLD_FILE};
use crate::storage::files;

/// Size at which a file is rotated: about two thousand decisions.
const FILE_MAX: u64 = 8 * 1024 * 1024;
/// Maximum number of decisions that wait for the disk. A flapping federation makes four per second.
const QUEUE_MAX: usize = 1_024;
/// How long dropping the log waits for its last lines.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The log while it is written. After it is dropped, every accepted decision is on file, unless the disk hangs.
pub struct DecisionFile {
    queue: Arc<Queue>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<Infallible>>,
}

/// Queue between the gate and the thread.
struct Queue {
    incarnation: Incarnation,
    /// `None` when the log is closed.
    sender: Mutex<Option<SyncSender<DecisionLine>>>,
    written: AtomicU64,
    /// Decisions refused because too many were waiting.
    refused: AtomicU64,
    /// Decisions accepted but not written.
    failed: AtomicU64,
}

impl DecisionFile {
    /// Opens the log in `dir` for the decisions of `incarnation`. Removes an incomplete last line that a killed process
    /// left.
    pub fn open(dir: &Path, incarnation: Incarnation) -> io::Result<Self> {
        Self::open_with(dir, incarnation, FILE_MAX, QUEUE_MAX)
    }

    fn open_with(dir: &Path, incarnation: Incarnation, file_max: u64, queue_max: usize) -> io::Result<Self> {
        let writer = Writer::open(dir, file_max)?;
        let (sender, receiver) = sync_channel(queue_max);
        let queue = Arc::new(Queue {
            incarnation,
            sender: Mutex::new(Some(sender)),
            written: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let counts = queue.clone();
        let thread = thread::Builder::new().name("decisions".to_owned());
        let (ends, ended) = sync_channel(0);
        thread.spawn(move || {
            write_all(writer, &receiver, &counts);
            drop::<SyncSender<Infallible>>(ends);
        })?;
        Ok(Self { queue, ended: Mutex::new(ended) })
    }

    /// The sink to which the gate sends its decisions.
    pub fn sink(&self) -> Arc<dyn DecisionSink> {
        self.queue.clone()
    }

    /// Decides everything in `dir` again. A running member may be writing meanwhile.
    pub fn replay(dir: &Path) -> io::Result<Replay> {
        let (old, new) = (read(&dir.join(OLD_FILE))?, read(&dir.join(FILE))?);
        let is_complete = old.is_none();
        let files = [(OLD_FILE, old), (FILE, new)];
        let files: Vec<_> =
            files.iter().filter_map(|(name, bytes)| Some((*name, bytes.as_deref()?))).collect();
        if files.is_empty() {
            let reason = format!("{FILE} is missing; expected the data directory of a member that has run");
            return Err(io::Error::new(ErrorKind::NotFound, reason));
        }
        Ok(Replay::of(&files, is_complete))
    }
}

impl Drop for DecisionFile {
    fn drop(&mut self) {
        drop(self.queue.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Returns when the thread ends, however it ends. A hanging disk is not waited for.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(CLOSE_DEADLINE);
    }
}

impl DecisionSink for Queue {
    fn keep(&self, record: &GateRecord) {
        let refused = self.refused.load(Ordering::Relaxed);
        let line = DecisionLine::of(record, self.incarnation, refused);
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|sender| sender.try_send(line).is_err()) {
            self.refused.store(refused + 1, Ordering::Relaxed);
        }
    }

    fn stats(&self) -> SinkStats {
        let dropped = self.refused.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed);
        SinkStats { written: self.written.load(Ordering::Relaxed), dropped }
    }
}

/// Contents of a file; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_all(mut writer: Writer, receiver: &Receiver<DecisionLine>, counts: &Queue) {
    for line in receiver {
        let failed = counts.failed.load(Ordering::Relaxed);
        let line = DecisionLine { dropped: line.dropped + failed, ..line };
        match writer.append(&line) {
            Ok(()) => {
                counts.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, sequence = line.sequence, "a decision of the gate is not on file");
                counts.failed.store(failed + 1, Ordering::Relaxed);
            }
        }
    }
}

/// Appends lines, and rotates the file when it is full.
struct Writer {
    dir: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
}

impl Writer {
    fn open(dir: &Path, size_max: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let file = files::options().append(true).open(&path)?;
        let bytes = fs::read(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let size = whole as u64;
        if whole < bytes.len() {
            file.set_len(size)?;
        }
        Ok(Self { dir: dir.to_owned(), file, size, size_max })
    }

    fn append(&mut self, line: &DecisionLine) -> io::Result<()> {
        let text = line.to_text() + "\n";
        let added = text.len() as u64;
        if self.size > 0 && self.size + added > self.size_max {
            fs::rename(self.dir.join(FILE), self.dir.join(OLD_FILE))?;
            self.file = files::options().append(true).open(self.dir.join(FILE))?;
            self.size = 0;
        }
        // The remains of a failed write would corrupt the next line.
        self.file.write_all(text.as_bytes()).inspect_err(|_| drop(self.file.set_len(self.size)))?;
        self.size += added;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alys_cluster::clock::WallTime;
    use alys_cluster::federation::decision::Gates;
    use alys_cluster::federation::{GateInputs, decide};

    use super::*;

    fn record(sequence: u64) -> GateRecord {
        let inputs = GateInputs::unknown(Gates::new(3, 1, |_| 3));
        let outcome = decide(&inputs);
        GateRecord {
            sequence,
            at: WallTime(1_000 + sequence),
            decision: outcome.decision,
            healthy: outcome.healthy,
            required: outcome.required,
            reason: outcome.reason.clone(),
            inputs: inputs.into(),
            outcome: outcome.into(),
        }
    }

    fn write(
        dir: &Path,
        incarnation: u64,
        file_max: u64,
        sequences: std::ops::RangeInclusive<u64>,
    ) -> SinkStats {
        let log = DecisionFile::open_with(dir, Incarnation(incarnation), file_max, QUEUE_MAX).expect("opens");
        let sink = log.sink();
        sequences.for_each(|sequence| sink.keep(&record(sequence)));
        drop(log);
        sink.stats()
    }

    #[test]
    fn what_was_taken_is_on_file_when_the_log_is_closed_and_the_next_start_goes_on_below() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(write(dir.path(), 1, FILE_MAX, 1..=20), SinkStats { written: 20, dropped: 0 });
        write(dir.path(), 2, FILE_MAX, 1..=5);
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert_eq!((replay.decisions, replay.incarnations), (25, 2));
        assert!(replay.findings.is_empty() && !replay.is_torn, "{replay:?}");
    }

    #[test]
    fn a_line_that_was_not_finished_is_tolerated_and_removed_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), 1, FILE_MAX, 1..=3);
        let path = dir.path().join(FILE);
        let whole = fs::metadata(&path).expect("a file").len();
        File::options().write(true).open(&path).and_then(|file| file.set_len(whole - 9)).expect("torn");
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert!(replay.is_torn && replay.decisions == 2 && replay.findings.is_empty(), "{replay:?}");
        write(dir.path(), 2, FILE_MAX, 1..=1);
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert!(!replay.is_torn && replay.decisions == 3 && replay.findings.is_empty(), "{replay:?}");
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_what_is_left_replays() {
        let dir = tempfile::tempdir().expect("a directory");
        let size = DecisionLine::of(&record(1), Incarnation(1), 0).to_text().len() as u64;
        let size_max = size * 4;
        assert_eq!(write(dir.path(), 1, size_max, 1..=50).written, 50);
        let names = fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(names, 2, "the one that is written to, and the one before");
        for name in [FILE, OLD_FILE] {
            let found = fs::metadata(dir.path().join(name)).expect("a file").len();
            assert!((1..=size_max).contains(&found), "{name} has {found} bytes");
        }
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert!((3..=7).contains(&replay.decisions) && replay.findings.is_empty(), "{replay:?}");
    }

    #[test]
    fn what_waits_for_no_disk_is_dropped_counted_and_told_by_the_next_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let (sender, receiver) = sync_channel(2);
        let queue = Queue {
            incarnation: Incarnation(1),
            sender: Mutex::new(Some(sender)),
            written: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        // Nothing reads from the queue yet.
        (1..=5).for_each(|sequence| queue.keep(&record(sequence)));
        assert_eq!(queue.stats(), SinkStats { written: 0, dropped: 3 });
        let waiting: Vec<_> = receiver.try_iter().collect();
        queue.keep(&record(6));
        queue.sender.lock().expect("not poisoned").take();
        queue.keep(&record(7));
        let mut writer = Writer::open(dir.path(), FILE_MAX).expect("opens");
        for line in &waiting {
            writer.append(line).expect("writes");
        }
        write_all(writer, &receiver, &queue);
        assert_eq!(queue.stats(), SinkStats { written: 1, dropped: 4 }, "who comes after the end is dropped");
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert_eq!((replay.decisions, replay.dropped), (3, 3));
        assert!(replay.findings.is_empty(), "{replay:?}");
    }

    #[test]
    fn what_can_not_be_written_is_counted_and_told_by_the_next_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = DecisionFile::open_with(dir.path(), Incarnation(1), 1, QUEUE_MAX).expect("opens");
        let sink = log.sink();
        sink.keep(&record(1));
        // The second line rotates the file, but a non-empty directory blocks the rename.
        fs::create_dir_all(dir.path().join(OLD_FILE).join("full")).expect("a directory");
        sink.keep(&record(2));
        drop(log);
        assert_eq!(sink.stats(), SinkStats { written: 1, dropped: 1 });
        fs::remove_dir_all(dir.path().join(OLD_FILE)).expect("removes");
        let replay = DecisionFile::replay(dir.path()).expect("a log");
        assert!(replay.decisions == 1 && replay.findings.is_empty(), "{replay:?}");
    }

    #[test]
    fn a_directory_without_a_log_is_no_log_without_findings() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = DecisionFile::replay(dir.path()).expect_err("nothing there").to_string();
        assert!(error.contains("decisions.jsonl is missing"), "{error}");
    }
}
