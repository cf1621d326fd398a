//! Reads the clock; no other file does.
//!
//! Members timestamp their actions with their wall clocks. All processes share the clock of this machine, so wall-clock
//! milliseconds of different processes are comparable. Only the proxy needs a monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Current time, milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a time in milliseconds since the Unix epoch as a UTC date, to the second.
pub(crate) fn date(epoch_ms: u64) -> String {
    // The last second of the year 9999: dates have four-digit years.
    let last = Duration::from_secs(253_402_300_799);
    let at = UNIX_EPOCH + Duration::from_millis(epoch_ms).min(last);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Current time of the monotonic clock.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
