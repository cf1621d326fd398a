//! What the checks of one actor add up to.
//!
//! | status    | answered well | answered degraded | failed                        |
//! |-----------|---------------|-------------------|-------------------------------|
//! | any       | healthy       | degraded          | degraded, then unhealthy      |
//!
//! A failed check makes a serving actor degraded; [`HealthConfig::unhealthy_after`] failures in a row make
//! it unhealthy. An actor that is not running, or says so itself, is unhealthy at once: that is no lost
//! message but a fact.

use std::time::Duration;

use super::config::HealthConfig;
use super::ping::{HealthCheckResult, HealthStatus};
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority};

/// How one check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The actor answered.
    Answered {
        /// What it said of itself.
        result: HealthCheckResult,
        /// From ping to pong.
        response_time: Duration,
    },
    /// It did not answer in time.
    Silent(String),
    /// It is not running.
    Absent(String),
}

/// One actor under health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorHealth {
    /// The actor.
    pub name: ActorName,
    /// How much depends on it.
    pub priority: ActorPriority,
    /// What the checks say.
    pub status: HealthStatus,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// Checks failed in a row.
    pub consecutive_failures: u32,
    /// Of the last check that was answered.
    pub response_time: Option<Duration>,
    next_check: Moment,
    checking: bool,
}

/// Every actor of the node under health checks.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    config: HealthConfig,
    actors: Vec<ActorHealth>,
}

impl HealthBoard {
    /// Nobody checked yet; all are due at once.
    pub fn new(config: HealthConfig, actors: impl IntoIterator<Item = (ActorName, ActorPriority)>) -> Self {
        let actors = actors
            .into_iter()
            .map(|(name, priority)| ActorHealth {
                name,
                priority,
                status: HealthStatus::Unknown,
                reason: "not checked yet".to_owned(),
                consecutive_failures: 0,
                response_time: None,
                next_check: Moment::ORIGIN,
                checking: false,
            })
            .collect();
        Self { config, actors }
    }

    /// The actors, in the order given.
    pub fn actors(&self) -> &[ActorHealth] {
        &self.actors
    }

    /// The actors to check now, by their place. Each is due again an interval later, and not while a check of
    /// it is under way.
    pub fn due(&mut self, now: Moment) -> Vec<usize> {
        let mut due = Vec::new();
        for (index, actor) in self.actors.iter_mut().enumerate() {
            if !actor.checking && now >= actor.next_check {
                actor.checking = true;
                actor.next_check = now + self.config.interval(actor.priority);
                due.push(index);
            }
        }
        due
    }

    /// Takes the outcome of a check; true if the status changed.
    pub fn checked(&mut self, index: usize, check: Check) -> bool {
        let unhealthy_after = self.config.unhealthy_after;
        let actor = &mut self.actors[index];
        let before = actor.status;
        actor.checking = false;
        match check {
            Check::Answered { result, response_time } => {
                actor.consecutive_failures = 0;
                actor.response_time = Some(response_time);
                (actor.status, actor.reason) = (result.status, result.reason);
            }
            Check::Silent(reason) => {
                actor.consecutive_failures += 1;
                let unhealthy = actor.consecutive_failures >= unhealthy_after;
                actor.status = if unhealthy { HealthStatus::Unhealthy } else { HealthStatus::Degraded };
                actor.reason = reason;
            }
            Check::Absent(reason) => {
                actor.consecutive_failures += 1;
                (actor.status, actor.reason) = (HealthStatus::Unhealthy, reason);
            }
        }
        actor.status != before
    }

    /// What the node says of itself: healthy if every critical actor serves.
    pub fn summary(&self) -> HealthCheckResult {
        let critical = self.actors.iter().filter(|actor| actor.priority == ActorPriority::Critical);
        let failing: Vec<_> = critical.filter(|actor| !actor.status.is_serving()).collect();
        if failing.is_empty() {
            return HealthCheckResult::healthy();
        }
        let reasons: Vec<_> = failing
            .iter()
            .map(|actor| format!("{} is {}: {}", actor.name, actor.status, actor.reason))
            .collect();
        HealthCheckResult::unhealthy(reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> HealthBoard {
        let actors = [("chain", ActorPriority::Critical), ("logging", ActorPriority::Background)];
        HealthBoard::new(
            HealthConfig::default(),
            actors.map(|(name, priority)| (ActorName::literal(name), priority)),
        )
    }

    fn well() -> Check {
        Check::Answered { result: HealthCheckResult::healthy(), response_time: Duration::from_micros(20) }
    }

    #[test]
    fn checks_are_due_by_priority_and_never_twice_at_once() {
        let mut board = board();
        let at = |ms| Moment::at(Duration::from_millis(ms));
        assert_eq!(board.due(at(0)), [0, 1]);
        assert_eq!(board.due(at(600)), [0_usize; 0], "both checks are under way");
        board.checked(0, well());
        board.checked(1, well());
        assert_eq!(board.due(at(600)), [0]);
        board.checked(0, well());
        assert_eq!(board.due(at(60_000)), [0, 1]);
    }

    #[test]
    fn the_status_follows_the_table() {
        let degraded = || Check::Answered {
            result: HealthCheckResult::degraded("catching up"),
            response_time: Duration::from_micros(20),
        };
        let silent = || Check::Silent("no answer".into());
        let absent = || Check::Absent("not running".into());
        for (checks, status) in [
            (vec![well()], HealthStatus::Healthy),
            (vec![degraded()], HealthStatus::Degraded),
            (vec![silent()], HealthStatus::Degraded),
            (vec![well(), silent()], HealthStatus::Degraded),
            (vec![well(), silent(), silent()], HealthStatus::Unhealthy),
            (vec![silent(), well(), silent()], HealthStatus::Degraded),
            (vec![well(), absent()], HealthStatus::Unhealthy),
            (vec![absent(), silent(), well()], HealthStatus::Healthy),
        ] {
            let mut board = board();
            for check in &checks {
                board.checked(0, check.clone());
            }
            assert_eq!(board.actors()[0].status, status, "after {checks:?}");
        }
    }

    #[test]
    fn only_critical_actors_decide_the_summary_and_it_names_them() {
        let mut board = board();
        board.checked(0, well());
        board.checked(1, Check::Absent("not running".into()));
        assert_eq!(board.summary().status, HealthStatus::Healthy);
        board.checked(0, Check::Absent("not running".into()));
        let summary = board.summary();
        assert_eq!(summary.status, HealthStatus::Unhealthy);
        assert!(summary.reason.contains("chain is unhealthy: not running"), "{}", summary.reason);
    }
}
