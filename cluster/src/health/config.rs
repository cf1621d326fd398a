//! How often actors are checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{FieldError, require, require_between};
use crate::id::ActorPriority;

/// Intervals and thresholds of the health checks of a node's own actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Between two checks of a critical actor. 100 ms to 60 s. Default 500 ms: a quarter of a slot, for the
    /// member's own health counts in the gate.
    #[serde(with = "humantime_serde")]
    pub critical_interval: Duration,
    /// Between two checks of a high-priority actor. 100 ms to 10 min. Default 10 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub high_interval: Duration,
    /// Between two checks of a normal actor. 100 ms to 10 min. Default 30 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub normal_interval: Duration,
    /// Between two checks of a background actor. 100 ms to 10 min. Default 60 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub background_interval: Duration,
    /// How long a check waits for its answer. 10 ms to 10 s. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Failed checks in a row after which an actor is unhealthy; before, it is degraded. 1 to 100. Default 2.
    pub unhealthy_after: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            critical_interval: Duration::from_millis(500),
            high_interval: Duration::from_secs(10),
            normal_interval: Duration::from_secs(30),
            background_interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
            unhealthy_after: 2,
        }
    }
}

impl HealthConfig {
    /// The time between two checks of an actor of this priority.
    pub fn interval(&self, priority: ActorPriority) -> Duration {
        match priority {
            ActorPriority::Critical => self.critical_interval,
            ActorPriority::High => self.high_interval,
            ActorPriority::Normal => self.normal_interval,
            ActorPriority::Background => self.background_interval,
        }
    }

    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        let (least, minute) = (Duration::from_millis(100), Duration::from_mins(1));
        require_between(
            "critical_interval",
            self.critical_interval,
            (least, minute),
            "between 100ms and 60s",
        )?;
        for (field, value) in [
            ("high_interval", self.high_interval),
            ("normal_interval", self.normal_interval),
            ("background_interval", self.background_interval),
        ] {
            require_between(field, value, (least, minute * 10), "between 100ms and 10m")?;
        }
        let range = (Duration::from_millis(10), Duration::from_secs(10));
        require_between("timeout", self.timeout, range, "between 10ms and 10s")?;
        require(
            (1..=100).contains(&self.unhealthy_after),
            "unhealthy_after",
            self.unhealthy_after,
            "1 to 100",
        )
    }
}
