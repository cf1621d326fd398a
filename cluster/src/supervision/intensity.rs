//! How often a supervisor restarts before it gives up: Erlang/OTP's restart intensity.
//!
//! A supervisor gives up when its restarts within the period **exceed** the maximum, so that 0 means that the
//! first failure ends it. The window slides: a restart counts until it is older than the period. Resetting a
//! counter after a quiet gap instead would let a slow crash loop run for ever.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::config::{FieldError, require, require_between};

/// The budget: at most `max_restarts` within any `within`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartIntensity {
    /// Restarts allowed, failed attempts to start included. 0 to 1,000. Default 3.
    pub max_restarts: u32,
    /// The window. 1 s to 1 h. Default 10 s: five block times, so that a child failing in every slot ends it.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self { max_restarts: 3, within: Duration::from_secs(10) }
    }
}

impl RestartIntensity {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        require(self.max_restarts <= 1_000, "max_restarts", self.max_restarts, "0 to 1000")?;
        let hour = Duration::from_hours(1);
        require_between("within", self.within, (Duration::from_secs(1), hour), "between 1s and 1h")
    }
}

/// The restarts still inside the window.
#[derive(Clone, Debug)]
pub struct RestartWindow {
    intensity: RestartIntensity,
    restarts: VecDeque<Moment>,
}

impl RestartWindow {
    /// An empty window.
    pub fn new(intensity: RestartIntensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart at `now`; false if it is one too many.
    pub fn allows(&mut self, now: Moment) -> bool {
        self.restarts.push_back(now);
        while self.restarts.front().is_some_and(|&oldest| now.since(oldest) > self.intensity.within) {
            self.restarts.pop_front();
        }
        self.restarts.len() <= self.intensity.max_restarts as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(max_restarts: u32, at_secs: &[u64]) -> Vec<bool> {
        let within = Duration::from_secs(10);
        let mut window = RestartWindow::new(RestartIntensity { max_restarts, within });
        at_secs.iter().map(|&s| window.allows(Moment::at(Duration::from_secs(s)))).collect()
    }

    #[test]
    fn the_budget_is_exceeded_not_reached() {
        assert_eq!(allowed(3, &[1, 2, 3, 4]), [true, true, true, false]);
    }

    #[test]
    fn a_budget_of_zero_ends_with_the_first_failure() {
        assert_eq!(allowed(0, &[5]), [false]);
    }

    #[test]
    fn the_window_slides_so_that_old_restarts_are_forgotten_one_by_one() {
        assert_eq!(allowed(2, &[0, 6, 11, 17, 22]), [true, true, true, true, true]);
        assert_eq!(allowed(2, &[0, 6, 10]), [true, true, false]);
    }

    #[test]
    fn a_slow_crash_loop_is_caught() {
        assert_eq!(allowed(2, &[0, 4, 8, 12]), [true, true, false, false]);
    }
}
