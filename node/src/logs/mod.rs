//! What a member writes to standard error: which lines, and how they look.
//!
//! Lines are for people on a terminal and JSON elsewhere ([`mod@line`]), and each names the member and the height of its
//! chain. Which are written is said by directives ([`directives`]) that a caller may change while the member runs, for a
//! time or for good ([`levels`]). There is one log for a process: [`init`] sets it up, and [`LogControl`] changes it.
//! A thread of its own writes them ([`writer`]): nobody who logs waits for standard error.
//!
//! Whatever else wants to hear spans and events, such as an exporter of traces, is a layer of its own that `init` takes
//! along: the directives choose lines, not what others hear.

pub mod directives;
mod format;
pub mod levels;
pub mod line;
pub mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::id::NodeId;
use thiserror::Error;
use tokio::task::AbortHandle;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::actors::chain::HeadReader;
use crate::config::{LogConfig, LogFormat};
use directives::BadDirective;
use format::LineFormat;
use levels::Levels;
use writer::{LineWriter, LostLines};

/// Something else that hears spans and events.
pub type Further = Box<dyn Layer<Registry> + Send + Sync>;

/// What lies below the layer that writes lines.
type Below = Layered<Option<Further>, Registry>;

/// Why the log was not set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The configured directives are none.
    #[error("configuration field `log.level`: {0}")]
    Level(#[from] BadDirective),
    /// Somebody else has set one up in this process.
    #[error("the log of this process is set up already")]
    SetUp,
    /// Standard error, or a thread that writes to it, is not to be had.
    #[error("the log can not write to standard error: {0}")]
    Output(#[from] io::Error),
}

/// Changes what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    handle: reload::Handle<EnvFilter, Below>,
    levels: Mutex<Levels>,
    /// Ends a level that was set for a time.
    timer: Mutex<Option<AbortHandle>>,
    head: Arc<OnceLock<HeadReader>>,
    writer: LineWriter,
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The directives, as they were given.
    pub directives: String,
    /// What they go back to, and when, if they were given for a time.
    pub reverts: Option<(String, Duration)>,
}

/// Sets up the log of this process for the member `node`, and whatever else is to hear it.
pub fn init(config: &LogConfig, node: &NodeId, further: Option<Further>) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(directives::filter(&config.level)?);
    let is_terminal = io::stderr().is_terminal();
    // A descriptor of its own: the lock of the standard library's is held by whoever writes there and waits.
    let writer = LineWriter::start(File::from(io::stderr().as_fd().try_clone_to_owned()?))?;
    let is_human = match config.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let head = Arc::default();
    let lines = LineFormat::new(node, Arc::clone(&head), is_human);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer.clone())
        .log_internal_errors(false)
        .with_ansi(is_human && is_terminal && is_colour_wanted())
        .event_format(lines)
        .with_filter(filter);
    let subscriber = tracing_subscriber::registry().with(further).with(layer);
    subscriber.try_init().map_err(|_| LogError::SetUp)?;
    let levels = Mutex::new(Levels::new(config.level.clone()));
    log_panics();
    Ok(LogControl(Arc::new(Shared { handle, levels, timer: Mutex::default(), head, writer })))
}

/// Whether `NO_COLOR` says nothing.
pub fn is_colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Panics are told like everything else. The standard library's own hook waits for standard error, within the thread that
/// panics.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let message = info.payload_as_str().unwrap_or("without a text");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(backtrace));
        tracing::error!(thread, location, backtrace, "a thread panicked: {message}");
    }));
}

impl LogControl {
    /// Every line names the height of this chain from now on.
    pub fn follow(&self, head: HeadReader) {
        // The first member of a process is the one whose log it is.
        let _ = self.0.head.set(head);
    }

    /// Writes a line as it is, whatever the level.
    pub fn tell(&self, text: &str) {
        self.0.writer.take(format!("{text}\n").as_bytes());
    }

    /// Waits until every line is written, or until `within` is over.
    pub fn flush(&self, within: Duration) {
        // Whoever reads too slowly for that is not waited for.
        let _ = self.0.writer.flush(within);
    }

    /// The lines that could not be written.
    pub fn lost(&self) -> Arc<LostLines> {
        self.0.writer.lost()
    }

    /// What is logged at `now`.
    pub fn level(&self, now: Moment) -> Level {
        let levels = self.levels();
        Level { directives: levels.current().to_owned(), reverts: levels.reverts(now) }
    }

    /// Logs by other directives from now on, or for a time. Must be called within a runtime.
    pub fn change(
        &self,
        directives: &str,
        lasts: Option<Duration>,
        clock: &dyn Clock,
        events: &EventBus,
    ) -> Result<(), BadDirective> {
        let filter = directives::filter(directives)?;
        let mut levels = self.levels();
        let from = levels.current().to_owned();
        let until = lasts.map(|lasts| clock.now() + lasts);
        let generation = levels.set(directives.to_owned(), until);
        self.apply(filter);
        let to = directives.to_owned();
        events.tell(ClusterEvent::LogLevelChanged { from, to, lasts, by: "a caller" });
        let later = lasts.map(|lasts| {
            let (control, events) = (self.clone(), events.clone());
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                control.lapse(generation, &events);
            })
            .abort_handle()
        });
        // The levels are held until here: of two changes at a time, the one that holds has its timer.
        let mut timer = self.0.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = std::mem::replace(&mut *timer, later) {
            earlier.abort();
        }
        Ok(())
    }

    /// The time is over that the level of this generation was set for.
    fn lapse(&self, generation: u64, events: &EventBus) {
        let mut levels = self.levels();
        let Some((from, to)) = levels.lapse(generation) else { return };
        self.apply(directives::filter(&to).expect("they were directives when they were set"));
        drop(levels);
        events.tell(ClusterEvent::LogLevelChanged { from, to, lasts: None, by: "the end of its time" });
    }

    fn levels(&self) -> MutexGuard<'_, Levels> {
        self.0.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, filter: EnvFilter) {
        // It fails only when the subscriber is gone, and then nobody logs anything.
        let _ = self.0.handle.reload(filter);
    }
}
