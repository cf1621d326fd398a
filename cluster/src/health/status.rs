//! Implements the specification's status machine for one actor as one transition table.
//!
//! | status       | well                | limited, slow, busy | says unwell, behind | silent                | absent    | restart asked for | restart failed | told to stop |
//! |--------------|---------------------|---------------------|---------------------|-----------------------|-----------|-------------------|----------------|--------------|
//! | unknown      | healthy             | degraded            | unhealthy           | degraded¹             | unhealthy |                   |                | shutting down |
//! | healthy      | healthy             | degraded            | unhealthy           | degraded¹             | unhealthy |                   |                | shutting down |
//! | degraded     | degraded, healthy²  | degraded            | unhealthy           | degraded, unhealthy¹  | unhealthy |                   |                | shutting down |
//! | unhealthy    | degraded, healthy²  | degraded            | unhealthy           | unhealthy             | unhealthy | recovering        |                | shutting down |
//! | recovering   | degraded, healthy²  | degraded³           | unhealthy³          | recovering            | recovering|                   | unhealthy      | shutting down |
//!
//! ¹ Unhealthy after [`Thresholds::unhealthy_after`] consecutive silent checks. ² After failed checks, healthy after
//! [`Thresholds::healthy_after`] consecutive good ones; the first answer of an incarnation counts at once. ³ A busy
//! actor, or one that is behind, is still recovering: it has not answered yet. An actor that was told to stop stays so.

use crate::ping::HealthStatus;

/// Numbers of checks that change a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Consecutive silent checks that make an actor unhealthy.
    pub unhealthy_after: u32,
    /// Consecutive good checks that make an actor that failed one healthy again.
    pub healthy_after: u32,
}

/// Observation about an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The actor answered without a problem.
    Well,
    /// The actor answered that it is degraded, or answered slowly.
    Limited(String),
    /// The actor did not answer, but handles messages.
    Busy(String),
    /// The actor handles messages, but so late that nothing critical can rely on it.
    Behind(String),
    /// The actor answered that it does not work.
    Unwell(String),
    /// The actor did not answer and shows no progress.
    Silent(String),
    /// The actor is not running.
    Absent(String),
    /// Another incarnation of the actor is running.
    Reborn,
    /// The actor's supervisor was asked to restart it.
    RecoveryBegun(String),
    /// The restart did not help in time.
    RecoveryFailed(String),
    /// The actor was told to stop.
    ShutdownBegun(String),
}

/// Health of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRecord {
    /// Status according to the checks.
    pub status: HealthStatus,
    /// Why the status is not healthy; empty if it is.
    pub reason: String,
    /// Number of consecutive failed checks.
    pub failures: u32,
    /// Number of good checks still needed before the actor is healthy.
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
    /// Applies `signal`; returns whether the status changed.
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
                // The next answer comes from another incarnation.
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
