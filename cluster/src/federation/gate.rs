//! Counts stable rounds: the gate closes at once, but opens only after a number of stable rounds, so that a flapping
//! member does not make the chain run in bursts.

use serde::{Deserialize, Serialize};

/// State of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Operations are admitted.
    Open,
    /// Operations are not admitted.
    Closed,
}

/// A gate that is open while enough members are healthy and have been for long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    required: usize,
    stable_rounds: u32,
    rounds: u32,
    decision: Decision,
}

impl Gate {
    /// Creates a closed gate.
    pub fn new(required: usize, stable_rounds: u32) -> Self {
        Self { required, stable_rounds, rounds: 0, decision: Decision::Closed }
    }

    /// Last decision.
    pub fn decision(&self) -> Decision {
        self.decision
    }

    /// Number of healthy members required.
    pub fn required(&self) -> usize {
        self.required
    }

    /// Stable rounds still missing before the gate opens; 0 if it is open.
    pub fn rounds_missing(&self) -> u32 {
        match self.decision {
            Decision::Open => 0,
            Decision::Closed => self.stable_rounds.saturating_sub(self.rounds),
        }
    }

    /// Closes the gate and restarts the count if too few members are healthy; otherwise changes nothing.
    pub fn observe(&mut self, healthy: usize) -> Decision {
        if healthy < self.required {
            self.rounds = 0;
            self.decision = Decision::Closed;
        }
        self.decision
    }

    /// Counts a whole round with this many healthy members; opens after enough stable rounds in a row.
    pub fn round(&mut self, healthy: usize) -> Decision {
        self.observe(healthy);
        if healthy >= self.required {
            self.rounds = self.rounds.saturating_add(1).min(self.stable_rounds);
            if self.rounds == self.stable_rounds {
                self.decision = Decision::Open;
            }
        }
        self.decision
    }

    /// Closes the gate without a count, because the counts can not be trusted.
    pub fn close(&mut self) {
        self.rounds = 0;
        self.decision = Decision::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_gate_closes_at_once_and_opens_after_stable_rounds() {
        let mut gate = Gate::new(3, 2);
        assert_eq!(gate.round(4), Decision::Closed);
        assert_eq!(gate.round(3), Decision::Open);
        assert_eq!(gate.observe(2), Decision::Closed);
        assert_eq!(gate.observe(4), Decision::Closed, "a glimpse is not a round");
        assert_eq!(gate.round(3), Decision::Closed);
        assert_eq!(gate.observe(2), Decision::Closed);
        assert_eq!(gate.round(3), Decision::Closed, "the rounds are counted anew");
        assert_eq!(gate.round(3), Decision::Open);
    }

    proptest! {
        #[test]
        fn an_open_gate_has_seen_enough_healthy_members_since_it_last_saw_too_few(
            steps in prop::collection::vec((any::<bool>(), 0usize..=4), 0..60),
            stable_rounds in 1u32..5,
        ) {
            let mut gate = Gate::new(3, stable_rounds);
            let mut in_a_row = 0;
            for (is_round, healthy) in steps {
                let decision = if is_round { gate.round(healthy) } else { gate.observe(healthy) };
                if healthy < 3 { in_a_row = 0 } else if is_round { in_a_row += 1 }
                let expected = if in_a_row >= stable_rounds { Decision::Open } else { Decision::Closed };
                prop_assert_eq!(decision, expected);
            }
        }
    }
}
