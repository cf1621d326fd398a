//! Heartbeats between members.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{FieldError, require, require_between};
use crate::health::accrual::AccrualConfig;

/// How members watch each other, and how soon the gate follows.
///
/// With the defaults a silent member is found in about 1.0 s: the mean interval (250 ms), the acceptable
/// pause (500 ms), and the 5 standard deviations (50 ms each) that phi 8 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// Between two pings of a peer, and between two rounds of the gate. 20 ms to 10 s. Default 250 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Silence beyond the usual interval that means nothing. At least one interval. Default 500 ms.
    #[serde(with = "humantime_serde")]
    pub acceptable_pause: Duration,
    /// Floor of the deviation the detector assumes. 1 ms to 10 s. Default 50 ms.
    #[serde(with = "humantime_serde")]
    pub min_std_deviation: Duration,
    /// Suspicion at which a peer is lost. 1 to 100. Default 8: one false alarm in 10⁸ heartbeats.
    pub threshold: f64,
    /// Intervals the detector remembers. 2 to 10,000. Default 100.
    pub window: usize,
    /// Rounds in a row with enough healthy members before the gate opens. 1 to 100. Default 2.
    pub stable_rounds: u32,
    /// How long a verdict holds without being renewed (it is, every round). More than two intervals, less
    /// than a block time. Default 800 ms.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            acceptable_pause: Duration::from_millis(500),
            min_std_deviation: Duration::from_millis(50),
            threshold: 8.0,
            window: 100,
            stable_rounds: 2,
            lease: Duration::from_millis(800),
        }
    }
}

impl HeartbeatConfig {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        let ten_secs = Duration::from_secs(10);
        let range = (Duration::from_millis(20), ten_secs);
        require_between("interval", self.interval, range, "between 20ms and 10s")?;
        let range = (self.interval, Duration::from_mins(1));
        require_between("acceptable_pause", self.acceptable_pause, range, "between one interval and 60s")?;
        let range = (Duration::from_millis(1), ten_secs);
        require_between("min_std_deviation", self.min_std_deviation, range, "between 1ms and 10s")?;
        require((1.0..=100.0).contains(&self.threshold), "threshold", self.threshold, "1 to 100")?;
        require((2..=10_000).contains(&self.window), "window", self.window, "2 to 10000")?;
        require((1..=100).contains(&self.stable_rounds), "stable_rounds", self.stable_rounds, "1 to 100")?;
        require(self.lease > self.interval * 2, "lease", self.lease, "more than two heartbeat intervals")
    }

    pub(super) fn accrual(&self) -> AccrualConfig {
        AccrualConfig {
            expected_interval: self.interval,
            acceptable_pause: self.acceptable_pause,
            min_std_deviation: self.min_std_deviation,
            window: self.window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_values_out_of_range_are_named() {
        assert_eq!(HeartbeatConfig::default().validate(), Ok(()));
        let lease = Duration::from_millis(500);
        let error =
            HeartbeatConfig { lease, ..HeartbeatConfig::default() }.validate().expect_err("too short");
        assert_eq!((error.field, error.value.as_str()), ("lease", "500ms"));
    }
}
