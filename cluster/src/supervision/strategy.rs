//! Delay before a failed child is restarted, and the number of attempts in a row.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::slot::align_delay_to_block_boundary;
use crate::config::{FieldError, require, require_between};

/// Upper limit for a configured delay.
const DELAY_MAX: Duration = Duration::from_hours(1);
/// Description of the valid delays.
const DELAY_EXPECTED: &str = "between 1ms and 1h";

/// Exponential backoff: the delay grows with each failure in a row (specification, "Exponential Backoff
/// Configuration").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExponentialBackoffConfig {
    /// Delay before the first restart. 1 ms to 1 h. Default 100 ms.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// Maximum delay, before alignment to blocks. `initial_delay` to 1 h. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
    /// Ratio of each delay to the one before. 1.0 to 10.0; the specification suggests 1.5 to 3.0. Default 2.0.
    pub multiplier: f64,
    /// Number of restarts in a row after which the next escalation step is taken. At least 1; default no limit except
    /// the budget.
    pub max_attempts: Option<usize>,
    /// Maximum random variation, up or down, as a fraction of the delay, so that actors that failed together do not
    /// restart together. 0.0 to 1.0. Default 0.1.
    pub jitter: f64,
    /// Whether the delay is rounded up to whole block intervals. Default false.
    pub align_to_block_boundary: bool,
    /// Whether the restart is kept out of the slot's consensus window. Default false.
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
        // NaN is in no range.
        require((1.0..=10.0).contains(&self.multiplier), "multiplier", self.multiplier, "1.0 to 10.0")?;
        require((0.0..=1.0).contains(&self.jitter), "jitter", self.jitter, "0.0 to 1.0")?;
        require(self.max_attempts != Some(0), "max_attempts", 0, "at least 1")
    }

    /// The delay before restart `attempt`, counted from 1: `initial_delay · multiplier^(attempt − 1)`, varied by
    /// `jitter` according to `random` (0 the least, 0.5 none, 1 the most), at most `max_delay`; then rounded up to
    /// whole blocks if configured. Values out of range count as the nearest bound.
    pub fn delay(&self, attempt: u32, random: f64, block_time: Duration) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let swing = self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0);
        let raw = self.initial_delay.as_secs_f64() * self.multiplier.powi(exponent);
        let most = self.max_delay.as_secs_f64();
        // Capped before and after: the variation must not move a capped delay above the cap.
        let secs = (raw.min(most) * (1.0 + swing)).min(most);
        // An unvalidated configuration may yield no valid duration; then the maximum applies.
        let delay = Duration::try_from_secs_f64(secs.max(0.0)).unwrap_or(self.max_delay).min(self.max_delay);
        if self.align_to_block_boundary { align_delay_to_block_boundary(delay, block_time) } else { delay }
    }
}

/// A fixed delay after each failure, optionally increased by a constant each time (specification, "Fixed Delay
/// Configuration").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FixedDelayConfig {
    /// Delay before the first restart. 1 ms to 1 h. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// Number of restarts in a row after which the next escalation step is taken. At least 1; default no limit except
    /// the budget.
    pub max_attempts: Option<usize>,
    /// Time added for each restart in a row after the first. At most 1 h. Default none.
    #[serde(with = "humantime_serde")]
    pub progressive_increment: Option<Duration>,
    /// Maximum delay, before alignment to blocks. `delay` to 1 h. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub max_delay: Option<Duration>,
    /// Whether the delay is rounded up to whole block intervals. Default false.
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

    /// The delay before restart `attempt`, counted from 1: `delay + (attempt − 1) · progressive_increment`, at most
    /// `max_delay`; then rounded up to whole blocks if configured.
    pub fn delay(&self, attempt: u32, block_time: Duration) -> Duration {
        let increment = self.progressive_increment.unwrap_or_default();
        let added = increment.saturating_mul(attempt.saturating_sub(1));
        let delay = self.delay.saturating_add(added).min(self.max_delay.unwrap_or(DELAY_MAX));
        if self.blockchain_aligned { align_delay_to_block_boundary(delay, block_time) } else { delay }
    }
}

/// When a failed child is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartStrategy {
    /// Immediately, as often as the budget allows.
    #[default]
    Immediate,
    /// After an exponentially growing delay.
    ExponentialBackoff(ExponentialBackoffConfig),
    /// After a fixed or linearly growing delay.
    FixedDelay(FixedDelayConfig),
    /// Never: the next escalation step is taken at once.
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

    /// The delay before restart `attempt` in a row, counted from 1; `None` if no further attempt is allowed.
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
