//! Configures the health checks of actors.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::recovery::RecoveryConfig;
use super::status::Thresholds;
use crate::config::{FieldError, require, require_between};
use crate::id::ActorPriority;

/// Maximum age of a node's own health report. It detects a monitor that hangs.
pub const REPORT_MAX_AGE: Duration = Duration::from_millis(1_500);
const CRITICAL_INTERVAL_MAX: Duration = Duration::from_secs(1);
const CRITICAL_TIMEOUT_MAX: Duration = Duration::from_millis(400);
// Every check of a critical actor renews the report, even if it times out.
const _: () = assert!(
    CRITICAL_INTERVAL_MAX.as_millis() + CRITICAL_TIMEOUT_MAX.as_millis() < REPORT_MAX_AGE.as_millis()
);

/// Intervals and thresholds of the health checks of a node's own actors.
///
/// With the defaults, a critical actor that hangs is unhealthy within 1.15 s: the rest of an interval (500 ms), a tick
/// (50 ms), and two consecutive checks (300 ms each), because an actor that does not answer is checked again at once.
/// Its member then stops counting towards the gate, locally at once, and at the peers when they receive its next
/// heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Interval between two checks of a critical actor. 100 ms to 1 s. Default 500 ms: a quarter of a slot, because the
    /// member's own health counts towards the gate.
    #[serde(with = "humantime_serde")]
    pub critical_interval: Duration,
    /// Interval between two checks of a high-priority actor. 100 ms to 10 min. Default 10 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub high_interval: Duration,
    /// Interval between two checks of a normal actor. 100 ms to 10 min. Default 30 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub normal_interval: Duration,
    /// Interval between two checks of a background actor. 100 ms to 10 min. Default 60 s (specification, Phase 5).
    #[serde(with = "humantime_serde")]
    pub background_interval: Duration,
    /// Timeout of a check of a critical actor. 10 to 400 ms. Default 300 ms: the gate reacts after `unhealthy_after`
    /// timeouts.
    #[serde(with = "humantime_serde")]
    pub critical_timeout: Duration,
    /// Timeout of a check of any other actor. 10 ms to 10 s. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Maximum age of the oldest unanswered check of a critical actor that still handles messages. Beyond it the actor
    /// is unhealthy and its member does not count. It is not restarted for that, because it works, and it is degraded
    /// again once it answers a newer check. 100 ms to 1 min. Default 2 s: a slot.
    #[serde(with = "humantime_serde")]
    pub busy_max: Duration,
    /// Consecutive failed checks after which an actor is unhealthy; before, it is degraded. 1 to 100. Default 2.
    pub unhealthy_after: u32,
    /// Consecutive good checks after which an actor that failed one is healthy again; before, it is degraded. A
    /// restarted actor starts without failures. 1 to 100. Default 2.
    pub healthy_after: u32,
    /// Lower bound of the adaptive threshold above which a response is slow. 1 ms to `slow_max`. Default 250 ms.
    #[serde(with = "humantime_serde")]
    pub slow_min: Duration,
    /// Upper bound of that threshold. Up to 10 s; has no effect above the timeout. Default 800 ms.
    #[serde(with = "humantime_serde")]
    pub slow_max: Duration,
    /// Policy for restart requests of silent actors.
    pub recovery: RecoveryConfig,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            critical_interval: Duration::from_millis(500),
            high_interval: Duration::from_secs(10),
            normal_interval: Duration::from_secs(30),
            background_interval: Duration::from_mins(1),
            critical_timeout: Duration::from_millis(300),
            timeout: Duration::from_secs(1),
            busy_max: Duration::from_secs(2),
            unhealthy_after: 2,
            healthy_after: 2,
            slow_min: Duration::from_millis(250),
            slow_max: Duration::from_millis(800),
            recovery: RecoveryConfig::default(),
        }
    }
}

impl HealthConfig {
    /// Interval between two checks of an actor of this priority.
    pub fn interval(&self, priority: ActorPriority) -> Duration {
        match priority {
            ActorPriority::Critical => self.critical_interval,
            ActorPriority::High => self.high_interval,
            ActorPriority::Normal => self.normal_interval,
            ActorPriority::Background => self.background_interval,
        }
    }

    /// Timeout of a check of an actor of this priority.
    pub fn timeout(&self, priority: ActorPriority) -> Duration {
        if priority == ActorPriority::Critical { self.critical_timeout } else { self.timeout }
    }

    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        let (least, minute) = (Duration::from_millis(100), Duration::from_mins(1));
        require_between(
            "critical_interval",
            self.critical_interval,
            (least, CRITICAL_INTERVAL_MAX),
            "between 100ms and 1s",
        )?;
        for (field, value) in [
            ("high_interval", self.high_interval),
            ("normal_interval", self.normal_interval),
            ("background_interval", self.background_interval),
        ] {
            require_between(field, value, (least, minute * 10), "between 100ms and 10m")?;
        }
        let range = (Duration::from_millis(10), CRITICAL_TIMEOUT_MAX);
        require_between("critical_timeout", self.critical_timeout, range, "between 10ms and 400ms")?;
        let range = (Duration::from_millis(10), Duration::from_secs(10));
        require_between("timeout", self.timeout, range, "between 10ms and 10s")?;
        require_between("busy_max", self.busy_max, (least, minute), "between 100ms and 1m")?;
        require(
            (1..=100).contains(&self.unhealthy_after),
            "unhealthy_after",
            self.unhealthy_after,
            "1 to 100",
        )?;
        require((1..=100).contains(&self.healthy_after), "healthy_after", self.healthy_after, "1 to 100")?;
        let range = (Duration::from_millis(1), self.slow_max);
        require_between("slow_min", self.slow_min, range, "between 1ms and `slow_max`")?;
        let range = (self.slow_min, Duration::from_secs(10));
        require_between("slow_max", self.slow_max, range, "between `slow_min` and 10s")?;
        self.recovery.validate()
    }

    /// Numbers of checks that change a status.
    pub fn thresholds(&self) -> Thresholds {
        Thresholds { unhealthy_after: self.unhealthy_after, healthy_after: self.healthy_after }
    }
}
