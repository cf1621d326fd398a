//! What the checks of one actor add up to: the specification's status machine as one table.
//!
//! | status       | well                | limited, slow, busy | says unwell, behind | silent                | absent    | restart asked for | restart failed | told to stop |
//! |--------------|---------------------|---------------------|---------------------|-----------------------|-----------|-------------------|----------------|--------------|
//! | unknown      | healthy             | degraded            | unhealthy           | degraded¹             | unhealthy |                   |                | shutting down |
//! | healthy      | healthy             | degraded            | unhealthy           | degraded¹             | unhealthy |                   |                | shutting down |
//! | degraded     | degraded, healthy²  | degraded            | unhealthy           | degraded, unhealthy¹  | unhealthy |                   |                | shutting down |
//! | unhealthy    | degraded, healthy²  | degraded            | unhealthy           | unhealthy             | unhealthy | recovering        |                | shutting down |
//! | recovering   | degraded, healthy²  | degraded³           | unhealthy³          | recovering            | recovering|                   | unhealthy      | shutting down |
//!
//! ¹ Unhealthy with [`Thresholds::unhealthy_after`] silent checks in a row. ² After checks that failed, healthy with
//! [`Thresholds::healthy_after`] good ones in a row; the first answer of an incarnation counts at once.
//! ³ A busy one, or one that is behind, is recovering still: it has not answered yet. Whoever was told to stop stays so.

use super::ping::HealthStatus;

/// How many checks make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Silent checks in a row that make an actor unhealthy.
    pub unhealthy_after: u32,
    /// Good checks in a row that make one that failed healthy again.
    pub healthy_after: u32,
}

/// What is learnt of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It answered that all is well.
    Well,
    /// It answered that it works with restrictions, or late.
    Limited(String),
    /// It did not answer, but deals with its messages.
    Busy(String),
    /// It deals with its messages, but so late that nothing critical can rely on it.
    Behind(String),
    /// It answered that it does not work.
    Unwell(String),
    /// It did not answer, and nothing shows that it does anything.
    Silent(String),
    /// It is not running.
    Absent(String),
    /// Another incarnation runs.
    Reborn,
    /// Its supervisor was asked to restart it.
    RecoveryBegun(String),
    /// That did not help in time.
    RecoveryFailed(String),
    /// It was told to stop.
    ShutdownBegun(String),
}

/// Where an actor stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRecord {
    /// What the checks say.
    pub status: HealthStatus,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// Checks failed in a row.
    pub failures: u32,
    /// Good checks it still has to show before it is healthy.
    owes: u32,
    /// Whether this incarnation has ever answered.
    has_answered: bool,
}

impl Default for HealthRecord {
    fn default() -> Self {
        Self {
            status: HealthStatus::Unknown,
            reason: "not checked yet".to_owned(),
            failures: 0,
            owes: 0,
            has_answered: false,
        }
    }
}

impl HealthRecord {
    /// Takes `signal` in; true if the status changed.
    pub fn take(&mut self, thresholds: Thresholds, signal: Signal) -> bool {
        use HealthStatus::{Degraded, Healthy, Recovering, ShuttingDown, Unhealthy};
        let before = self.status;
        let (status, reason) = match (before, signal) {
            (ShuttingDown, _) => return false,
            (_, Signal::ShutdownBegun(reason)) => (ShuttingDown, reason),
            (_, Signal::Reborn) => {
                (self.owes, self.has_answered) = (0, false);
                return false;
            }
            (Unhealthy, Signal::RecoveryBegun(reason))
            | (Recovering, Signal::Busy(reason) | Signal::Behind(reason)) => (Recovering, reason),
            (Recovering, Signal::RecoveryFailed(reason)) | (_, Signal::Behind(reason)) => (Unhealthy, reason),
            (_, Signal::RecoveryBegun(_) | Signal::RecoveryFailed(_)) => return false,
            (_, Signal::Well) => {
                (self.failures, self.has_answered) = (0, true);
                self.owes = self.owes.saturating_sub(1);
                let wanted = thresholds.healthy_after;
                match self.owes {
                    0 => (Healthy, String::new()),
                    owes => (Degraded, format!("answers again: {} of {wanted} checks", wanted - owes)),
                }
            }
            (_, Signal::Limited(reason)) => {
                (self.failures, self.has_answered) = (0, true);
                (Degraded, reason)
            }
            (_, Signal::Busy(reason)) => (Degraded, reason),
            (_, Signal::Unwell(reason)) => {
                (self.failures, self.has_answered) = (0, true);
                (Unhealthy, reason)
            }
            (status, Signal::Silent(reason)) => {
                self.failures = self.failures.saturating_add(1);
                // The first answer of an incarnation counts at once.
                self.owes = if self.has_answered { thresholds.healthy_after } else { 0 };
                let too_often = self.failures >= thresholds.unhealthy_after;
                let status = match status {
                    Recovering | Unhealthy => status,
                    _ if too_often => Unhealthy,
                    _ => Degraded,
                };
                (status, reason)
            }
            (status, Signal::Absent(reason)) => {
                self.failures = self.failures.saturating_add(1);
                // Whoever answers next is another incarnation.
                (self.owes, self.has_answered) = (0, false);
                (if status == Recovering { Recovering } else { Unhealthy }, reason)
            }
        };
        (self.status, self.reason) = (status, reason);
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthStatus::{Degraded, Healthy, Recovering, ShuttingDown, Unhealthy, Unknown};
    use proptest::prelude::*;

    const LIMITS: Thresholds = Thresholds { unhealthy_after: 2, healthy_after: 2 };

    fn signal(name: &str) -> Signal {
        let why = || "because".to_owned();
        match name {
            "well" => Signal::Well,
            "limited" => Signal::Limited(why()),
            "busy" => Signal::Busy(why()),
            "behind" => Signal::Behind(why()),
            "unwell" => Signal::Unwell(why()),
            "silent" => Signal::Silent(why()),
            "absent" => Signal::Absent(why()),
            "reborn" => Signal::Reborn,
            "begun" => Signal::RecoveryBegun(why()),
            "failed" => Signal::RecoveryFailed(why()),
            _ => Signal::ShutdownBegun(why()),
        }
    }

    #[test]
    fn every_path_of_the_table() {
        for (path, statuses) in [
            ("well", vec![Healthy]),
            ("limited well", vec![Degraded, Healthy]),
            ("silent silent", vec![Degraded, Unhealthy]),
            ("well silent well well", vec![Healthy, Degraded, Degraded, Healthy]),
            ("silent well silent silent", vec![Degraded, Healthy, Degraded, Unhealthy]),
            ("well unwell well", vec![Healthy, Unhealthy, Healthy]),
            ("unwell silent", vec![Unhealthy, Unhealthy]),
            ("absent well", vec![Unhealthy, Healthy]),
            ("absent silent well", vec![Unhealthy, Unhealthy, Healthy]),
            ("busy busy busy well", vec![Degraded, Degraded, Degraded, Healthy]),
            ("busy behind busy well", vec![Degraded, Unhealthy, Degraded, Healthy]),
            ("silent silent begun behind well", vec![Degraded, Unhealthy, Recovering, Recovering, Healthy]),
            (
                "well silent silent busy well well",
                vec![Healthy, Degraded, Unhealthy, Degraded, Degraded, Healthy],
            ),
            ("silent silent reborn well", vec![Degraded, Unhealthy, Unhealthy, Healthy]),
            (
                "silent silent begun absent reborn well",
                vec![Degraded, Unhealthy, Recovering, Recovering, Recovering, Healthy],
            ),
            ("silent silent begun busy failed", vec![Degraded, Unhealthy, Recovering, Recovering, Unhealthy]),
            ("silent silent begun unwell", vec![Degraded, Unhealthy, Recovering, Unhealthy]),
            ("begun failed well begun", vec![Unknown, Unknown, Healthy, Healthy]),
            ("well stop well absent", vec![Healthy, ShuttingDown, ShuttingDown, ShuttingDown]),
        ] {
            let mut standing = HealthRecord::default();
            let found: Vec<_> = path
                .split(' ')
                .map(|name| {
                    standing.take(LIMITS, signal(name));
                    standing.status
                })
                .collect();
            assert_eq!(found, statuses, "{path}");
        }
    }

    proptest! {
        #[test]
        fn healthy_means_that_the_last_answer_was_good_and_a_change_is_told(
            path in prop::collection::vec(
                prop::sample::select(vec!["well", "limited", "busy", "behind", "unwell", "silent", "absent", "reborn", "begun", "failed"]),
                1..40,
            ),
        ) {
            let mut standing = HealthRecord::default();
            for name in path {
                let before = standing.status;
                let changed = standing.take(LIMITS, signal(name));
                prop_assert_eq!(changed, standing.status != before);
                if standing.status == Healthy {
                    prop_assert!(name == "well" || before == Healthy);
                    prop_assert_eq!(standing.reason.as_str(), "");
                }
                if ["limited", "busy", "behind", "unwell", "silent", "absent"].contains(&name) {
                    prop_assert_ne!(standing.status, Healthy);
                }
            }
        }
    }
}
