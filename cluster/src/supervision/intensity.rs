//! Limits how often a supervisor restarts children before it gives up: Erlang/OTP's restart intensity.
//!
//! A supervisor gives up when its restarts within the period **exceed** the maximum; with a maximum of 0 the first
//! failure ends it. The window slides: a restart counts until it is older than the period. Resetting a counter after a
//! quiet gap instead would let a slow crash loop run forever.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::config::{FieldError, require, require_between};

/// Restart budget: at most `max_restarts` within any period of length `within`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartIntensity {
    /// Number of restarts allowed, including failed attempts to start. 0 to 1,000. Default 3.
    pub max_restarts: u32,
    /// Length of the window. 1 s to 1 h. Default 10 s: five block times, so a child that fails in every slot exceeds
    /// it.
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

/// Restarts inside the sliding window.
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

    /// The state of the budget at `now`.
    pub fn budget(&mut self, now: Moment) -> Budget {
        while self.restarts.front().is_some_and(|&oldest| now.since(oldest) > self.intensity.within) {
            self.restarts.pop_front();
        }
        Budget { used: self.restarts.len() as u64, most: self.intensity.max_restarts.into() }
    }

    /// Counts a restart at `now`.
    pub fn spend(&mut self, now: Moment) {
        self.restarts.push_back(now);
    }
}

/// Usage of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Amount used inside the window.
    pub used: u64,
    /// Maximum amount.
    pub most: u64,
}

impl Budget {
    /// No limit.
    pub const UNLIMITED: Self = Self { used: 0, most: u64::MAX };

    /// Whether `more` can be used. Reaching the maximum is allowed, exceeding it is not.
    pub fn allows(&self, more: u64) -> bool {
        self.used.saturating_add(more) <= self.most
    }

    /// The amount that can still be used.
    pub fn left(&self) -> u64 {
        self.most.saturating_sub(self.used)
    }
}

/// Slot budget: how many slots may begin while children are down for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotBudget {
    /// Number of missed slots allowed. 0 to 10,000. Default 5.
    pub max_missed: u32,
    /// Window of `max_missed`, in slots. 1 to 100,000. Default 30: one minute of 2-second slots.
    pub within_slots: u32,
}

impl Default for SlotBudget {
    fn default() -> Self {
        Self { max_missed: 5, within_slots: 30 }
    }
}

impl SlotBudget {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        require(self.max_missed <= 10_000, "max_missed", self.max_missed, "0 to 10000")?;
        let range = 1..=100_000;
        require(range.contains(&self.within_slots), "within_slots", self.within_slots, "1 to 100000")
    }
}

/// Missed slots inside the sliding window.
#[derive(Clone, Debug)]
pub struct SlotWindow {
    budget: SlotBudget,
    missed: VecDeque<(Moment, u64)>,
}

impl SlotWindow {
    /// An empty window.
    pub fn new(budget: SlotBudget) -> Self {
        Self { budget, missed: VecDeque::new() }
    }

    /// The state of the budget at `now`, for slots of length `block_time`.
    pub fn budget(&mut self, now: Moment, block_time: Duration) -> Budget {
        let within = block_time.saturating_mul(self.budget.within_slots);
        while self.missed.front().is_some_and(|&(at, _)| now.since(at) > within) {
            self.missed.pop_front();
        }
        let used = self.missed.iter().map(|(_, slots)| slots).sum();
        Budget { used, most: self.budget.max_missed.into() }
    }

    /// Counts `slots` that began while a child was down until `now`.
    pub fn spend(&mut self, now: Moment, slots: u64) {
        if slots > 0 {
            self.missed.push_back((now, slots));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(max_restarts: u32, at_secs: &[u64]) -> Vec<bool> {
        let within = Duration::from_secs(10);
        let mut window = RestartWindow::new(RestartIntensity { max_restarts, within });
        let allows = |s: &u64| {
            let now = Moment::at(Duration::from_secs(*s));
            let allowed = window.budget(now).allows(1);
            window.spend(now);
            allowed
        };
        at_secs.iter().map(allows).collect()
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

    #[test]
    fn slots_missed_are_counted_until_they_are_old() {
        let block = Duration::from_secs(2);
        let at = |slot: u32| Moment::at(block * slot);
        let mut window = SlotWindow::new(SlotBudget { max_missed: 3, within_slots: 10 });
        window.spend(at(1), 2);
        window.spend(at(4), 0);
        window.spend(at(5), 1);
        let budget = window.budget(at(11), block);
        assert_eq!((budget, budget.allows(0), budget.allows(1)), (Budget { used: 3, most: 3 }, true, false));
        assert_eq!(window.budget(at(12), block).left(), 2);
        assert_eq!(window.budget(at(16), block).left(), 3);
    }
}
