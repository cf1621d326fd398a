//! Timeouts of consensus.

use std::time::Duration;

use alys_cluster::config::{FieldError, require_between};
use malachite_types::LinearTimeouts;
use serde::{Deserialize, Serialize};

/// Timeout of each step of a round, and the increase in each later round.
///
/// A round that fails in every step costs about `propose` + `prevote` + `precommit`; with the defaults two
/// such rounds fit into a slot of 2 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConsensusConfig {
    /// Timeout for the proposal of round 0. 10 ms to 60 s. Default 600 ms.
    #[serde(with = "humantime_serde")]
    pub propose: Duration,
    /// Timeout for more prevotes once two thirds have voted. 10 ms to 60 s. Default 300 ms.
    #[serde(with = "humantime_serde")]
    pub prevote: Duration,
    /// Timeout for more precommits once two thirds have voted. 10 ms to 60 s. Default 300 ms.
    #[serde(with = "humantime_serde")]
    pub precommit: Duration,
    /// Increase of each of these timeouts in each later round. Up to 60 s. Default 100 ms.
    #[serde(with = "humantime_serde")]
    pub round_delta: Duration,
    /// Timeout for the proposal of a member known to be lost, and for precommits for it. Up to `propose`. Default 20
    /// ms. This affects liveness only, since not waiting is always safe.
    #[serde(with = "humantime_serde")]
    pub propose_lost: Duration,
    /// Interval at which the last votes are repeated while a round does not end. 50 ms to 60 s. Default 500 ms.
    #[serde(with = "humantime_serde")]
    pub rebroadcast: Duration,
    /// How far a block's timestamp may be ahead of this member's wall clock. 100 ms to 1 h. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub max_clock_drift: Duration,
}

impl Default for ConsensusConfig {
    fn default() -> Self {
        Self {
            propose: Duration::from_millis(600),
            prevote: Duration::from_millis(300),
            precommit: Duration::from_millis(300),
            round_delta: Duration::from_millis(100),
            propose_lost: Duration::from_millis(20),
            rebroadcast: Duration::from_millis(500),
            max_clock_drift: Duration::from_secs(5),
        }
    }
}

impl ConsensusConfig {
    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        let (least, minute) = (Duration::from_millis(10), Duration::from_mins(1));
        for (field, value) in
            [("propose", self.propose), ("prevote", self.prevote), ("precommit", self.precommit)]
        {
            require_between(field, value, (least, minute), "between 10ms and 60s")?;
        }
        require_between("round_delta", self.round_delta, (Duration::ZERO, minute), "at most 60s")?;
        require_between(
            "propose_lost",
            self.propose_lost,
            (Duration::ZERO, self.propose),
            "at most `propose`",
        )?;
        let range = (Duration::from_millis(50), minute);
        require_between("rebroadcast", self.rebroadcast, range, "between 50ms and 60s")?;
        let range = (Duration::from_millis(100), minute * 60);
        require_between("max_clock_drift", self.max_clock_drift, range, "between 100ms and 1h")
    }

    /// The timeouts in the form that Malachite uses.
    pub(super) fn timeouts(&self) -> LinearTimeouts {
        LinearTimeouts {
            propose: self.propose,
            propose_delta: self.round_delta,
            prevote: self.prevote,
            prevote_delta: self.round_delta,
            precommit: self.precommit,
            precommit_delta: self.round_delta,
            rebroadcast: self.rebroadcast,
            max_timeout: Duration::from_mins(1),
        }
    }
}
