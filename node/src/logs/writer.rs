//! Writes lines on a thread of its own, so that logging never waits for a terminal, a pipe or a disk.
//!
//! Lines wait in a queue that is bounded in bytes. When it is full, new lines are dropped, so that the lines that led
//! to the problem stay readable. Lines that can not be written are dropped as well. Both are counted ([`LostLines`]),
//! and once the queue is empty again, a line says how many are missing.
//!
//! `tracing-appender` has such a writer too. It bounds lines, not bytes, and does not count lines whose write failed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum bytes that wait: about ten thousand lines.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Pause between attempts to write to a non-blocking output that is not ready.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Why a line was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The queue was full.
    QueueFull,
    /// The output failed: nobody reads a pipe any more, or a disk is full.
    WriteFailed,
}

impl Lost {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::QueueFull, Self::WriteFailed];

    /// Name of the reason in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteFailed => "write_failed",
        }
    }
}

/// Counters of the lines that were not written.
#[derive(Debug, Default)]
pub struct LostLines([AtomicU64; 2]);

impl LostLines {
    fn count(&self, why: Lost) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Number of lost lines, by reason.
    pub fn by_reason(&self) -> [(&'static str, u64); 2] {
        Lost::ALL.map(|why| (why.as_str(), self.0[why as usize].load(Ordering::Relaxed)))
    }

    /// Number of all lost lines.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

/// Queues lines for the thread that writes them. Cheap to clone.
#[derive(Clone)]
pub struct LineWriter(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Signals that a line is queued.
    filled: Condvar,
    /// Signals that no line is queued or being written.
    emptied: Condvar,
    lost: Arc<LostLines>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    is_writing: bool,
}

impl LineWriter {
    /// Starts the thread that writes to `output`.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: Arc::default(),
        };
        let writer = Self(Arc::new(shared));
        let shared = Arc::clone(&writer.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_to(output))?;
        Ok(writer)
    }

    /// Queues a line, or drops it if the queue is full. Never waits for the output.
    pub fn take(&self, line: &[u8]) {
        let mut queue = self.0.queue();
        if queue.bytes + line.len() > WAITING_BYTES_MAX {
            self.0.lost.count(Lost::QueueFull);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until every queued line is written, or until `within` has passed. Returns whether all are written.
    pub fn flush(&self, within: Duration) -> bool {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        let waited = self.0.emptied.wait_timeout_while(self.0.queue(), within, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Counters of the lines lost so far.
    pub fn lost(&self) -> Arc<LostLines> {
        Arc::clone(&self.0.lost)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, output: impl Write) {
        let mut output = Output { output, is_torn: false };
        let mut told = 0;
        loop {
            let line = self.next();
            let is_written = output.write_line(&line).is_ok();
            if !is_written {
                self.lost.count(Lost::WriteFailed);
            }
            let mut queue = self.queue();
            queue.is_writing = false;
            let is_empty = queue.lines.is_empty();
            drop(queue);
            let lost = self.lost.total();
            if is_empty && is_written && lost > told {
                // This line is queued like any other, and written next.
                tracing::warn!(
                    lines = lost - told,
                    "log lines are missing: they could not be written in time"
                );
                told = lost;
            }
            if self.queue().lines.is_empty() {
                self.emptied.notify_all();
            }
        }
    }

    /// Waits for the next line and marks it as being written.
    fn next(&self) -> Vec<u8> {
        let is_empty = |queue: &mut Queue| queue.lines.is_empty();
        let waited = self.filled.wait_while(self.queue(), is_empty);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let line = queue.lines.pop_front().unwrap_or_default();
        queue.bytes -= line.len();
        queue.is_writing = true;
        line
    }
}

/// The output of the lines.
struct Output<W> {
    output: W,
    /// Whether the last line is incomplete.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.write(b"\n")?;
            self.is_torn = false;
        }
        self.write(line)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another user of the output made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_EVERY),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Queues one line for a `tracing` subscriber.
pub struct Taker<'a>(&'a LineWriter);

impl Write for Taker<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Taker<'a>;

    fn make_writer(&'a self) -> Taker<'a> {
        Taker(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// Writes as much as it is permitted, one permission per call, and reports what it wrote.
    struct Gated {
        permissions: Receiver<io::Result<usize>>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.permissions.recv().map_err(io::Error::other)??;
            let count = bytes.len().min(most);
            let _ = self.written.send(bytes[..count].to_owned());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LineWriter, SyncSender<io::Result<usize>>, Receiver<Vec<u8>>) {
        let (permit, permissions) = sync_channel(10_000);
        let (written, seen) = sync_channel(10_000);
        (LineWriter::start(Gated { permissions, written }).expect("a thread"), permit, seen)
    }

    #[test]
    fn whoever_logs_does_not_wait_for_an_output_that_takes_nothing_and_what_is_lost_is_counted() {
        let (writer, permit, seen) = gated();
        let line = [b'x'; 1 << 10];
        let lines = 2 * WAITING_BYTES_MAX / line.len();
        for _ in 0..lines {
            writer.take(&line);
        }
        let lost = writer.lost().by_reason();
        assert!(!writer.flush(Duration::from_millis(10)), "nothing is written");
        let (reason, full) = lost[0];
        assert_eq!((reason, lost[1].1), ("queue_full", 0));
        let kept = lines - full as usize;
        let room = WAITING_BYTES_MAX / line.len();
        assert!((room..=room + 1).contains(&kept), "{kept} of {lines} kept");
        for _ in 0..kept {
            permit.send(Ok(usize::MAX)).expect("it is there");
        }
        assert!(writer.flush(LONG), "all are written");
        assert_eq!(seen.try_iter().count(), kept);
    }

    #[test]
    fn a_line_that_fails_is_counted_and_one_cut_short_does_not_run_into_the_next() {
        let (writer, permit, seen) = gated();
        let permissions = [
            Ok(3),
            Err(ErrorKind::StorageFull.into()),
            Err(ErrorKind::StorageFull.into()),
            Ok(9),
            Err(ErrorKind::Interrupted.into()),
            Err(ErrorKind::WouldBlock.into()),
            Ok(9),
        ];
        for permission in permissions {
            permit.send(permission).expect("it is there");
        }
        for line in ["first\n", "second\n", "third\n"] {
            writer.take(line.as_bytes());
        }
        assert!(writer.flush(LONG));
        let text: Vec<u8> = seen.try_iter().flatten().collect();
        assert_eq!(String::from_utf8(text).expect("text"), "fir\nthird\n");
        assert_eq!(writer.lost().by_reason(), [("queue_full", 0), ("write_failed", 2)]);
    }
}
