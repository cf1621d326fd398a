//! Supervision settings of a node.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::intensity::{RestartIntensity, SlotBudget};
use super::pattern::PatternConfig;
use super::strategy::ExponentialBackoffConfig;
use crate::config::{FieldError, require_between};

/// Budgets, backoff and patterns of every supervisor of a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisionConfig {
    /// Number of restarts allowed to each supervisor within `within`, for children of each priority; with one more it
    /// gives up. 0 to 1,000. Default 3.
    pub max_restarts: u32,
    /// Window of `max_restarts`. 1 s to 1 h. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// Number of slots that may begin while children of one supervisor are down.
    pub slots: SlotBudget,
    /// Restarts allowed in the whole tree for actors of each priority, in addition to the budget of each supervisor:
    /// those budgets multiply from level to level. Default 10 within a minute.
    pub bound: RestartIntensity,
    /// Time after the start of a slot in which the members propose and vote; restarts that respect consensus timing
    /// stay outside it. Up to 1 min. Default 600 ms, the timeout for a proposal.
    #[serde(with = "humantime_serde")]
    pub consensus_window: Duration,
    /// Time a member stays up with consensus halted before it stops, so that an operator can read the reason. Up to 24
    /// h; 0 stops at once. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub halt_for: Duration,
    /// Backoff between restarts of the consensus, sync and link actors.
    pub backoff: ExponentialBackoffConfig,
    /// Which failures count as a pattern, and how patterns delay restarts.
    pub patterns: PatternConfig,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        let RestartIntensity { max_restarts, within } = RestartIntensity::default();
        Self {
            max_restarts,
            within,
            slots: SlotBudget::default(),
            bound: RestartIntensity { max_restarts: 10, within: Duration::from_mins(1) },
            consensus_window: Duration::from_millis(600),
            halt_for: Duration::from_mins(10),
            backoff: ExponentialBackoffConfig {
                initial_delay: Duration::from_millis(50),
                max_delay: Duration::from_secs(2),
                ..ExponentialBackoffConfig::default()
            },
            patterns: PatternConfig::default(),
        }
    }
}

impl SupervisionConfig {
    /// The restart budget of each supervisor.
    pub fn intensity(&self) -> RestartIntensity {
        RestartIntensity { max_restarts: self.max_restarts, within: self.within }
    }

    /// Checks ranges and relations. Errors carry the name of the subsection, if any.
    pub fn validate(&self) -> Result<(), (&'static str, FieldError)> {
        let (minute, day) = (Duration::from_mins(1), Duration::from_hours(24));
        let none = Duration::ZERO;
        let own = |check: Result<(), FieldError>| check.map_err(|error| ("", error));
        own(self.intensity().validate())?;
        let window = require_between("consensus_window", self.consensus_window, (none, minute), "at most 1m");
        own(window)?;
        own(require_between("halt_for", self.halt_for, (none, day), "at most 24h"))?;
        self.slots.validate().map_err(|error| ("slots.", error))?;
        self.bound.validate().map_err(|error| ("bound.", error))?;
        self.backoff.validate().map_err(|error| ("backoff.", error))?;
        self.patterns.validate().map_err(|error| ("patterns.", error))
    }
}
