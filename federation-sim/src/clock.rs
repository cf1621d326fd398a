//! The only file that reads a clock.
//!
//! Members stamp what they do with their wall clocks; all of them share this machine's, so wall-clock
//! milliseconds of different processes compare. The proxy alone needs a clock that never jumps.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// A moment that only moves forward.
pub(crate) fn instant() -> Instant {
    Instant::now()
}
