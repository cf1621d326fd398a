//! When a failed child is started again, and how often that is tried in a row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slot::align_delay_to_block_boundary;
use crate::config::{FieldError, require, require_between};

/// The longest delay a strategy may ask for.
const DELAY_MAX: Duration = Duration::from_hours(1);
/// What a delay must be.
const DELAY_EXPECTED: &str = "between 1ms and 1h";

/// Waits longer after each failure in a row (specification, "Exponential Backoff Configuration").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExponentialBackoffConfig {
    /// Before the first restart. 1 ms to 1 h. Default 100 ms.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// The most, before alignment to blocks. `initial_delay` to 1 h. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// Each delay over the one before. 1.0 to 10.0; the specification suggests 1.5 to 3.0. Default 2.0.
    pub multiplier: f64,
    /// Restarts in a row, after which the next step of the escalation is taken. At least 1; default no limit
    /// but the budget.
    pub max_attempts: Option<usize>,
    /// The delay is varied by at most this share of it, up or down, so that actors that failed together do not
    /// return together. 0.0 to 1.0. Default 0.1.
    pub jitter: f64,
    /// Round the delay up to whole block intervals. Default false.
    pub align_to_block_boundary: bool,
    /// Keep the restart out of the consensus window of the slot. Default false.
    pub respect_consensus_timing: bool,
}

impl Default for ExponentialBackoffConfig {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_millis(100),
            max_delay: Duration::from_secs(10),
            multiplier: 2.0,
            max_attempts: None,
            jitter: 0.1,
            align_to_block_boundary: false,
            respect_consensus_timing: false,
        }
    }
}

impl ExponentialBackoffConfig {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        let least = Duration::from_millis(1);
        require_between("initial_delay", self.initial_delay, (least, DELAY_MAX), DELAY_EXPECTED)?;
        let range = (self.initial_delay, DELAY_MAX);
        require_between("max_delay", self.max_delay, range, "between `initial_delay` and 1h")?;
        // Not a number lies in no range.
        require((1.0..=10.0).contains(&self.multiplier), "multiplier", self.multiplier, "1.0 to 10.0")?;
        require((0.0..=1.0).contains(&self.jitter), "jitter", self.jitter, "0.0 to 1.0")?;
        require(self.max_attempts != Some(0), "max_attempts", 0, "at least 1")
    }

    /// The delay before restart `attempt`, counted from 1: `initial_delay · multiplier^(attempt − 1)`, varied by
    /// `jitter` as `random` says (0 the least, 0.5 none, 1 the most), at most `max_delay`; then rounded up to
    /// whole blocks if the configuration says so. What is out of range counts as its nearest bound.
    pub fn delay(&self, attempt: u32, random: f64, block_time: Duration) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let swing = self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        let raw = self.initial_delay.as_secs_f64() * self.multiplier.powi(exponent);
        let most = self.max_delay.as_secs_f64();
        // Capped before and after: the swing must not move a capped delay above the cap.
        let secs = (raw.min(most) * (1.0 + swing)).min(most);
        // Whatever was not checked, and is no duration, is as long as it may be.
        let delay = Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(self.max_delay).min(self.max_delay);
        if self.align_to_block_boundary { align_delay_to_block_boundary(delay, block_time) } else { delay }
    }
}

/// Waits the same time after each failure, or a little longer each time (specification, "Fixed Delay
/// Configuration").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FixedDelayConfig {
    /// Before the first restart. 1 ms to 1 h. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// Restarts in a row, after which the next step of the escalation is taken. At least 1; default no limit
    /// but the budget.
    pub max_attempts: Option<usize>,
    /// Added for each restart in a row after the first. At most 1 h. Default none.
    #[serde(with = "humantime_serde")]
    pub progressive_increment: Option<Duration>,
    /// The most, before alignment to blocks. `delay` to 1 h. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub max_delay: Option<Duration>,
    /// Round the delay up to whole block intervals. Default false.
    pub blockchain_aligned: bool,
}

impl Default for FixedDelayConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(1),
            max_attempts: None,
            progressive_increment: None,
            max_delay: None,
            blockchain_aligned: false,
        }
    }
}

impl FixedDelayConfig {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        require_between("delay", self.delay, (Duration::from_millis(1), DELAY_MAX), DELAY_EXPECTED)?;
        let increment = self.progressive_increment.unwrap_or_default();
        require_between("progressive_increment", increment, (Duration::ZERO, DELAY_MAX), "at most 1h")?;
        let most = self.max_delay.unwrap_or(DELAY_MAX);
        require_between("max_delay", most, (self.delay, DELAY_MAX), "between `delay` and 1h")?;
        require(self.max_attempts != Some(0), "max_attempts", 0, "at least 1")
    }

    /// The delay before restart `attempt`, counted from 1: `delay + (attempt − 1) · progressive_increment`, at
    /// most `max_delay`; then rounded up to whole blocks if the configuration says so.
    pub fn delay(&self, attempt: u32, block_time: Duration) -> Duration {
        let increment = self.progressive_increment.unwrap_or_default();
        let added = increment.saturating_mul(attempt.saturating_sub(1));
        let delay = self.delay.saturating_add(added).min(self.max_delay.unwrap_or(DELAY_MAX));
        if self.blockchain_aligned { align_delay_to_block_boundary(delay, block_time) } else { delay }
    }
}

/// When a failed child is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartStrategy {
    /// At once, as often as the budget allows.
    #[default]
    Immediate,
    /// After a delay that grows.
    ExponentialBackoff(ExponentialBackoffConfig),
    /// After a delay that stays, or grows by steps.
    FixedDelay(FixedDelayConfig),
    /// Not at all: the next step of the escalation is taken at once.
    Never,
}

impl RestartStrategy {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        match self {
            Self::Immediate | Self::Never => Ok(()),
            Self::ExponentialBackoff(config) => config.validate(),
            Self::FixedDelay(config) => config.validate(),
        }
    }

    /// The name in `snake_case`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::ExponentialBackoff(_) => "exponential_backoff",
            Self::FixedDelay(_) => "fixed_delay",
            Self::Never => "never",
        }
    }

    /// The delay before restart `attempt` in a row, counted from 1; `None` if there is none any more.
    pub fn delay(&self, attempt: u32, random: f64, block_time: Duration) -> Option<Duration> {
        let within = |most: Option<usize>| most.is_none_or(|most| attempt as usize <= most);
        match self {
            Self::Immediate => Some(Duration::ZERO),
            Self::ExponentialBackoff(config) => {
                within(config.max_attempts).then(|| config.delay(attempt, random, block_time))
            }
            Self::FixedDelay(config) => {
                within(config.max_attempts).then(|| config.delay(attempt, block_time))
            }
            Self::Never => None,
        }
    }

    /// Whether the restart is kept out of the consensus window.
    pub fn respects_consensus_timing(&self) -> bool {
        matches!(self, Self::ExponentialBackoff(config) if config.respect_consensus_timing)
    }
}
