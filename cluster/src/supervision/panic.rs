//! Keeps what a panic says, where it happened and how it came to it, for the supervisor of the actor.
//!
//! ractor hands a supervisor the text of a panic only. A hook, installed once for the process, notices a panic
//! inside a watched future and leaves a [`PanicReport`] in that actor's slot; any other panic goes to the
//! hook that was there before. The supervisor tells of the panic, so nothing is printed here.
//!
//! A backtrace costs milliseconds. Of the panics at one place of the source, the 1st, 2nd, 4th, 8th and so on
//! are kept with one, so that a storm of panics does not stop the process.

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

/// Places of the source whose panics are counted; further ones are told without a backtrace.
const PLACES_MAX: usize = 256;
/// The most of a backtrace that is kept, in bytes.
const BACKTRACE_BYTES_MAX: usize = 16 * 1024;
/// What ractor says of a panic without a text.
const WITHOUT_TEXT: &str = "Unknown panic occurred which couldn't be coerced to a string";

/// A panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicReport {
    /// What it said.
    pub message: String,
    /// File, line and column.
    pub location: String,
    /// How it came to it, if this panic was one of those that are captured.
    pub backtrace: Option<String>,
}

impl PanicReport {
    /// The panic as a failure.
    pub(super) fn into_failure(self) -> Failure {
        Failure::panic(self.message, self.location, self.backtrace)
    }
}

/// Where an actor's last panic is left.
#[derive(Debug, Default)]
pub struct PanicSlot {
    report: Mutex<Option<PanicReport>>,
    /// What it worked on last, as far as that is traced.
    cause: Mutex<TraceContext>,
    has_cause: AtomicBool,
}

impl PanicSlot {
    /// Notes what its actor works on from here on. Costs nothing as long as that is nothing.
    pub(super) fn set_cause(&self, cause: TraceContext) {
        if cause.is_sampled() || self.has_cause.load(Ordering::Relaxed) {
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
            self.has_cause.store(cause.is_sampled(), Ordering::Relaxed);
        }
    }

    /// What its actor worked on last.
    pub(super) fn take_cause(&self) -> TraceContext {
        self.has_cause.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.cause.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the panic that says `message`. Another one was caught by the actor itself, and is not why it ended.
    pub fn take(&self, message: &str) -> Option<PanicReport> {
        self.take_any().filter(|report| report.message == message)
    }

    /// Takes whatever panic was left.
    pub(super) fn take_any(&self) -> Option<PanicReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

tokio::task_local! {
    static WATCHED: Arc<PanicSlot>;
}

/// Runs `future`; a panic inside is left in `slot`.
///
/// No async function of its own: that would store the future once more, and move it for every message.
pub(super) fn watched<F: Future>(slot: Arc<PanicSlot>, future: F) -> TaskLocalFuture<Arc<PanicSlot>, F> {
    WATCHED.scope(slot, future)
}

/// The actor whose handler this is works on `cause` from here on: should it fail, that is why it was at work.
pub fn set_cause(cause: TraceContext) {
    // Nobody asks about an actor that is not supervised.
    let _ = WATCHED.try_with(|slot| slot.set_cause(cause));
}

/// Installs the hook, once for the process. Calls again do nothing.
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
