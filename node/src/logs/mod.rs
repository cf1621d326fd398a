//! Sets up the log of a member on standard error: which lines are written, and in which format.
//!
//! Lines are human-readable on a terminal and JSON elsewhere ([`mod@line`]). Each names the member and the height of
//! its chain. Directives ([`directives`]) select the lines; a caller may change them while the member runs, temporarily
//! or permanently ([`levels`]). There is one log per process: [`init`] sets it up, and [`LogControl`] changes it. A
//! thread of its own writes the lines ([`writer`]), so that logging never waits for standard error.
//!
//! Other subscribers to spans and events, such as an exporter of traces, are layers of their own, which `init`
//! installs: the directives select lines only, not what these layers receive.

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

/// Another layer that receives spans and events.
pub type Further = Box<dyn Layer<Registry> + Send + Sync>;

/// The layers below the one that writes lines.
type Below = Layered<Option<Further>, Registry>;

/// Why the log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The configured directives are not valid.
    #[error("configuration field `log.level`: {0}")]
    Level(#[from] BadDirective),
    /// The process already has a log.
    #[error("the log of this process is set up already")]
    SetUp,
    /// Standard error, or the thread that writes to it, is not available.
    #[error("the log can not write to standard error: {0}")]
    Output(#[from] io::Error),
}

/// Changes what is logged. Cheap to clone.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    handle: reload::Handle<EnvFilter, Below>,
    levels: Mutex<Levels>,
    /// Task that ends temporary directives.
    timer: Mutex<Option<AbortHandle>>,
    head: Arc<OnceLock<HeadReader>>,
    writer: LineWriter,
}

/// Directives in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Directives, as they were given.
    pub directives: String,
    /// Directives that follow and the time until then, if the current ones are temporary.
    pub reverts: Option<(String, Duration)>,
}

/// Sets up the log of this process for the member `node`, along with another layer.
pub fn init(config: &LogConfig, node: &NodeId, further: Option<Further>) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(directives::filter(&config.level)?);
    let is_terminal = io::stderr().is_terminal();
    // A descriptor of its own: the standard library's handle is locked by a writer that blocks on it.
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

/// Whether `NO_COLOR` is unset or empty.
pub fn is_colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Logs panics like everything else. The standard library's own hook would block on standard error, in the panicking
/// thread.
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
    /// Adds the height of this chain to every line from now on.
    pub fn follow(&self, head: HeadReader) {
        // A process logs for its first member.
        let _ = self.0.head.set(head);
    }

    /// Writes a line as it is, regardless of the level.
    pub fn tell(&self, text: &str) {
        self.0.writer.take(format!("{text}\n").as_bytes());
    }

    /// Waits until every line is written, or until `within` has passed.
    pub fn flush(&self, within: Duration) {
        // A slower reader is not waited for.
        let _ = self.0.writer.flush(within);
    }

    /// Counters of the lines that could not be written.
    pub fn lost(&self) -> Arc<LostLines> {
        self.0.writer.lost()
    }

    /// Directives in effect at `now`.
    pub fn level(&self, now: Moment) -> Level {
        let levels = self.levels();
        Level { directives: levels.current().to_owned(), reverts: levels.reverts(now) }
    }

    /// Changes the directives, permanently or for `lasts`. Must be called within a tokio runtime.
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
        // The levels stay locked until here: of two concurrent changes, the one in effect has its timer.
        let mut timer = self.0.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = std::mem::replace(&mut *timer, later) {
            earlier.abort();
        }
        Ok(())
    }

    /// Ends the temporary directives of this generation.
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
        // This fails only if the subscriber is gone, and then nothing is logged.
        let _ = self.0.handle.reload(filter);
    }
}
