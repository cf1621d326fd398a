//! The only file that reads a clock.
//!
//! Members stamp what they do with their wall clocks; all of them share this machine's, so wall-clock
//! milliseconds of different processes compare. The proxy alone needs a clock that never jumps.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// A moment as a date in UTC, to the second.
pub(crate) fn date(epoch_ms: u64) -> String {
    // As far as dates of four digits go.
    let last = Duration::from_secs(253_402_300_799);
    let at = UNIX_EPOCH + Duration::from_millis(epoch_ms).min(last);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// A moment that only moves forward.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
