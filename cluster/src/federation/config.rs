//! Configures heartbeats between members.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decision::{Gates, OperationClass};
use super::roster::Roster;
use crate::config::{FieldError, require, require_between};
use crate::health::accrual::AccrualConfig;

/// How members monitor each other, and how soon the gate reacts.
///
/// With the defaults, a silent member is detected after about 1.0 s: the mean interval (250 ms), the acceptable pause
/// (500 ms), and the 5 standard deviations (50 ms each) that phi 8 requires; after 1.2 s if its heartbeats were
/// irregular before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// Interval between two pings of a peer, and between two rounds of the gate. 20 ms to 10 s. Default 250 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Silence beyond the mean interval that raises no suspicion. At least one interval. Default 500 ms.
    #[serde(with = "humantime_serde")]
    pub acceptable_pause: Duration,
    /// Lower bound of the standard deviation used by the detector. 1 ms to 10 s. Default 50 ms.
    #[serde(with = "humantime_serde")]
    pub min_std_deviation: Duration,
    /// Silence after which a peer is lost however irregular its heartbeats were: an upper bound for what the detector
    /// learns. More than `interval` and `acceptable_pause` together, at most 10 min. Default 1.2 s.
    #[serde(with = "humantime_serde")]
    pub silence_max: Duration,
    /// Phi at which a peer is lost. 1 to 100. Default 8: one false alarm in 10⁸ heartbeats.
    pub threshold: f64,
    /// Number of intervals in the detector's window. 2 to 10,000. Default 100.
    pub window: usize,
    /// Consecutive rounds with enough healthy members before the gate opens. 1 to 100. Default 2.
    pub stable_rounds: u32,
    /// Validity of a verdict that is not renewed (every round renews it). More than two intervals, less than a block
    /// time. Default 800 ms.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long an unresponsive peer counts because of its attestations through others, from the time it was asked. At
    /// least two intervals, at most 10 s. A longer time tolerates slower routes, but keeps a member that died behind
    /// one counting for that long. Default 1 s, the time it takes to detect silence.
    #[serde(with = "humantime_serde")]
    pub attestation_validity: Duration,
    /// Number of healthy members that each class of operations demands.
    pub demand: DemandConfig,
}

/// Number of healthy members that an operation demands, by class. Default: the number the federation requires, more
/// than two thirds of the roster; a smaller number, or one above the number of members, is rejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemandConfig {
    /// To propose a block. A proposer that may not propose passes its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propose: Option<usize>,
    /// To vote on a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote: Option<usize>,
    /// To sign a transfer of funds across the bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_for_bridge: Option<usize>,
    /// To change the membership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_membership: Option<usize>,
}

impl DemandConfig {
    /// Demand of `class`, if configured.
    pub fn of(&self, class: OperationClass) -> Option<usize> {
        match class {
            OperationClass::Propose => self.propose,
            OperationClass::Vote => self.vote,
            OperationClass::SignForBridge => self.sign_for_bridge,
            OperationClass::ChangeMembership => self.change_membership,
        }
    }

    /// Checks every demand against a federation of `members` that requires `required`.
    pub fn validate(&self, required: usize, members: usize) -> Result<(), FieldError> {
        let expected = "no fewer healthy members than the federation requires, and no more than it has";
        OperationClass::ALL.into_iter().try_for_each(|class| {
            self.of(class).map_or(Ok(()), |demand| {
                require((required..=members).contains(&demand), class.as_str(), demand, expected)
            })
        })
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            acceptable_pause: Duration::from_millis(500),
            min_std_deviation: Duration::from_millis(50),
            silence_max: Duration::from_millis(1_200),
            threshold: 8.0,
            window: 100,
            stable_rounds: 2,
            lease: Duration::from_millis(800),
            attestation_validity: Duration::from_secs(1),
            demand: DemandConfig::default(),
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
        self.accrual().validate()?;
        let calm = self.interval + self.acceptable_pause;
        let range = (calm + Duration::from_millis(1), Duration::from_mins(10));
        let expected = "more than interval and acceptable_pause together, and at most 10min";
        require_between("silence_max", self.silence_max, range, expected)?;
        require((1.0..=100.0).contains(&self.threshold), "threshold", self.threshold, "1 to 100")?;
        require((1..=100).contains(&self.stable_rounds), "stable_rounds", self.stable_rounds, "1 to 100")?;
        require(self.lease > self.interval * 2, "lease", self.lease, "more than two heartbeat intervals")?;
        let range = (self.interval * 2, ten_secs.max(self.interval * 2));
        let expected = "between two heartbeat intervals and 10s";
        require_between("attestation_validity", self.attestation_validity, range, expected)
    }

    /// Creates closed gates for `roster` with the demand of each class.
    pub fn gates(&self, roster: &Roster) -> Gates {
        let required = roster.required();
        Gates::new(required, self.stable_rounds, |class| self.demand.of(class).unwrap_or(required))
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
        let silence_max = Duration::from_millis(750);
        let error = HeartbeatConfig { silence_max, ..HeartbeatConfig::default() }.validate();
        assert_eq!(error.expect_err("no longer than what means nothing").field, "silence_max");
        let attestation_validity = Duration::from_millis(499);
        let error = HeartbeatConfig { attestation_validity, ..HeartbeatConfig::default() }.validate();
        assert_eq!(error.expect_err("too short").field, "attestation_validity");
    }

    #[test]
    fn demands_go_upward_only() {
        assert_eq!(DemandConfig::default().validate(3, 4), Ok(()));
        for (demand, is_right) in [(2, false), (3, true), (4, true), (5, false)] {
            let config = DemandConfig { change_membership: Some(demand), ..DemandConfig::default() };
            match config.validate(3, 4) {
                Ok(()) => assert!(is_right, "{demand}"),
                Err(error) => {
                    assert!(!is_right, "{error}");
                    assert_eq!((error.field, error.value), ("change_membership", demand.to_string()));
                }
            }
        }
    }
}
