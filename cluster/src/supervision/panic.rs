//! Captures the message, location and backtrace of a panic for the actor's supervisor.
//!
//! ractor passes only the text of a panic to a supervisor. A panic hook, installed once per process, detects a panic
//! inside a watched future and stores a [`PanicReport`] in that actor's slot; for any other panic it calls the previous
//! hook. The supervisor reports the panic, so the hook prints nothing.
//!
//! Capturing a backtrace takes milliseconds. Per source location, only the 1st, 2nd, 4th, 8th, … panic is captured with
//! a backtrace, so that a storm of panics does not stall the process.

use std::any::Any;
use std::backtrace::Backtrace;
use std::collections::HashMap;
use std::future::Future;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use tokio::task::futures::TaskLocalFuture;

use super::failure::Failure;
use crate::trace::TraceContext;

/// Number of source locations whose panics are counted; panics at further ones are reported without a backtrace.
const PLACES_MAX: usize = 256;
/// Maximum length of a backtrace, in bytes.
const BACKTRACE_BYTES_MAX: usize = 16 * 1024;
/// ractor's text for a panic without a message.
const WITHOUT_TEXT: &str = "Unknown panic occurred which couldn't be coerced to a string";

/// A captured panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicReport {
    /// Panic message.
    pub message: String,
    /// File, line and column.
    pub location: String,
    /// Backtrace, if one was captured for this panic.
    pub backtrace: Option<String>,
}

impl PanicReport {
    /// Converts the report into a failure.
    pub(super) fn into_failure(self) -> Failure {
        Failure::panic(self.message, self.location, self.backtrace)
    }
}

/// Holds the last panic of an actor.
#[derive(Debug, Default)]
pub struct PanicSlot {
    report: Mutex<Option<PanicReport>>,
    /// Trace context of the message that the actor handled last, if it was traced.
    cause: Mutex<TraceContext>,
    has_cause: AtomicBool,
}

impl PanicSlot {
    /// Stores the trace context of the message the actor handles. Takes no lock while nothing is traced.
    pub(super) fn set_cause(&self, cause: TraceContext) {
        if cause.is_sampled() || self.has_cause.load(Ordering::Relaxed) {
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
            self.has_cause.store(cause.is_sampled(), Ordering::Relaxed);
        }
    }

    /// Takes the trace context of the message that the actor handled last.
    pub(super) fn take_cause(&self) -> TraceContext {
        self.has_cause.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.cause.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the panic whose message is `message`. A different one was caught by the actor itself and did not end it.
    pub fn take(&self, message: &str) -> Option<PanicReport> {
        self.take_any().filter(|report| report.message == message)
    }

    /// Takes the stored panic, whatever its message.
    pub(super) fn take_any(&self) -> Option<PanicReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

tokio::task_local! {
    static WATCHED: Arc<PanicSlot>;
}

/// Runs `future` and stores a panic inside it in `slot`.
///
/// Not an async function: that would store the future a second time and move it for every message.
pub(super) fn watched<F: Future>(slot: Arc<PanicSlot>, future: F) -> TaskLocalFuture<Arc<PanicSlot>, F> {
    WATCHED.scope(slot, future)
}

/// Sets the trace context of the message that the current actor handles, as the cause to report if the actor fails.
pub fn set_cause(cause: TraceContext) {
    // An error means that the actor is not supervised; then there is no slot.
    let _ = WATCHED.try_with(|slot| slot.set_cause(cause));
}

/// Installs the hook once per process. Further calls do nothing.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        let seen = Mutex::new(HashMap::new());
        set_hook(Box::new(move |info| {
            let left = WATCHED.try_with(|slot| {
                let report = report(info, &seen);
                *slot.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            });
            if left.is_err() {
                previous(info);
            }
        }));
    });
}

fn report(info: &PanicHookInfo<'_>, seen: &Mutex<HashMap<String, u64>>) -> PanicReport {
    let location = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let times = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains_key(&location);
        if known || seen.len() < PLACES_MAX {
            let times = seen.entry(location.clone()).or_default();
            *times += 1;
            *times
        } else {
            0
        }
    };
    let backtrace = times.is_power_of_two().then(|| {
        let mut text = Backtrace::force_capture().to_string();
        let end = text.floor_char_boundary(BACKTRACE_BYTES_MAX);
        text.truncate(end);
        text
    });
    PanicReport { message: text_of(info.payload()).to_owned(), location, backtrace }
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or(WITHOUT_TEXT)
}
