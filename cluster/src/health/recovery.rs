//! Decides when to request a restart of an actor, and when to give up.
//!
//! Requests are made only for a *silent* actor: one that answers can trigger its own restart by returning an error, and
//! one that is not running is already its supervisor's responsibility. They are made only after a delay (`patience`),
//! because handlers have deadlines, which detect a hang sooner and with more detail. What remains are loops that never
//! yield, and actors without deadlines.
//!
//! ```text
//!   well ──silent──► ailing ──patience──► asked ──restart decided──► recovering ──answers──► well
//!                      ▲                    │ not now                    │ timeout
//!                      ├────────────────────┴────────────────────────────┘
//!                      └── attempts used up ──► escalated; no requests until it answers
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::config::{FieldError, require, require_between};
use crate::id::ActorName;
use crate::ping::HealthStatus;
use crate::port::RestartOutcome;

/// Policy for restart requests of silent actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// Whether restarts are requested at all. Default true.
    pub enabled: bool,
    /// How long an actor must be unhealthy before its restart is requested. 100 ms to 1 h. Default 20 s: longer than
    /// any handler's deadline, so that the deadline fires first.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How long a restarted actor may take to answer a check. 100 ms to 1 h. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Maximum number of restart requests within `within`; then the failure is escalated. 1 to 100. Default 3.
    pub attempts_max: u32,
    /// Window for `attempts_max`. 1 s to 24 h. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// How long the monitor may report no check before its own restart is requested. 1 s to 1 h. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub monitor_patience: Duration,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            patience: Duration::from_secs(20),
            deadline: Duration::from_secs(30),
            attempts_max: 3,
            within: Duration::from_mins(10),
            monitor_patience: Duration::from_secs(15),
        }
    }
}

impl RecoveryConfig {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        let hour = Duration::from_hours(1);
        let range = (Duration::from_millis(100), hour);
        require_between("recovery.patience", self.patience, range, "between 100ms and 1h")?;
        require_between("recovery.deadline", self.deadline, range, "between 100ms and 1h")?;
        let attempts = self.attempts_max;
        require((1..=100).contains(&attempts), "recovery.attempts_max", attempts, "1 to 100")?;
        let range = (Duration::from_secs(1), hour * 24);
        require_between("recovery.within", self.within, range, "between 1s and 24h")?;
        let range = (Duration::from_secs(1), hour);
        require_between("recovery.monitor_patience", self.monitor_patience, range, "between 1s and 1h")
    }
}

/// Input to the recovery policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Result of a check.
    Found {
        /// Name of the checked actor.
        actor: ActorName,
        /// Current status of the actor.
        status: HealthStatus,
        /// Number of consecutive failed checks.
        failures: u32,
        /// Whether the actor is running and did not answer.
        is_silent: bool,
    },
    /// Result of a restart request.
    Answered(ActorName, RestartOutcome),
    /// The node shuts down: no further restarts.
    Shutdown,
    /// Periodic tick.
    Tick,
}

/// Action that the recovery agent must perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the actor's supervisor for a restart, with the number of consecutive failed checks.
    Ask(ActorName, u32),
    /// Report to the supervisor that restarting the actor alone does not help.
    Escalate(ActorName, u32),
    /// Report the stage of an actor's recovery.
    Tell(ActorName, Stage, String),
}

/// Stage of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The supervisor decided to restart the actor.
    Begun,
    /// The actor answers again.
    Recovered,
    /// The actor did not answer in time after its restart.
    Failed,
    /// No further restarts are requested until the actor answers.
    GaveUp,
}

impl Stage {
    /// Name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Recovered => "recovered",
            Self::Failed => "failed",
            Self::GaveUp => "gave_up",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RecoveryState {
    #[default]
    Well,
    Ailing {
        since: Moment,
    },
    Asked,
    Recovering {
        until: Moment,
    },
    GaveUp,
}

#[derive(Clone, Debug, Default)]
struct RecoveryRecord {
    state: RecoveryState,
    failures: u32,
    attempts: VecDeque<Moment>,
}

/// Recovery state of every actor that was ever silent, including the monitor.
#[derive(Clone, Debug)]
pub struct Recovery {
    config: RecoveryConfig,
    monitor: ActorName,
    heard: Moment,
    records: BTreeMap<ActorName, RecoveryRecord>,
    is_over: bool,
}

impl Recovery {
    /// Creates the state with no silent actor; `monitor` must report checks from now on.
    pub fn new(now: Moment, config: RecoveryConfig, monitor: ActorName) -> Self {
        Self { config, monitor, heard: now, records: BTreeMap::new(), is_over: false }
    }

    /// Applies `input` and returns the resulting actions.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Found { actor, status, failures, is_silent } => {
                self.heard = now;
                if self.records.get(&self.monitor).is_some_and(|monitor| monitor.state != RecoveryState::Well)
                {
                    self.found(now, self.monitor.clone(), HealthStatus::Healthy, 0, false, &mut effects);
                }
                self.found(now, actor, status, failures, is_silent, &mut effects);
            }
            Input::Answered(actor, remedy) => self.answered(now, actor, remedy, &mut effects),
            Input::Shutdown => self.is_over = true,
            Input::Tick => self.tick(now, &mut effects),
        }
        if self.is_over || !self.config.enabled { Vec::new() } else { effects }
    }

    fn found(
        &mut self,
        now: Moment,
        actor: ActorName,
        status: HealthStatus,
        failures: u32,
        is_silent: bool,
        effects: &mut Vec<Effect>,
    ) {
        if status.is_serving() {
            let Some(record) = self.records.get_mut(&actor) else { return };
            if matches!(record.state, RecoveryState::Recovering { .. } | RecoveryState::GaveUp) {
                effects.push(Effect::Tell(actor, Stage::Recovered, "it answers again".to_owned()));
            }
            record.state = RecoveryState::Well;
        } else if is_silent && matches!(status, HealthStatus::Unhealthy | HealthStatus::Recovering) {
            // It may be recovering without a request of this agent: a previous incarnation of the agent made one, or
            // its report that it gave up was lost.
            let record = self.records.entry(actor).or_default();
            record.failures = failures;
            if record.state == RecoveryState::Well {
                record.state = RecoveryState::Ailing { since: now };
            }
        } else if let Some(record) = self.records.get_mut(&actor)
            && matches!(record.state, RecoveryState::Ailing { .. })
        {
            // It is handled by its supervisor, or reports its health itself.
            record.state = RecoveryState::Well;
        }
    }

    fn answered(&mut self, now: Moment, actor: ActorName, remedy: RestartOutcome, effects: &mut Vec<Effect>) {
        let Some(record) = self.records.get_mut(&actor).filter(|p| p.state == RecoveryState::Asked) else {
            return;
        };
        match remedy {
            RestartOutcome::Restarts => {
                record.state = RecoveryState::Recovering { until: now + self.config.deadline };
                let note = format!("its supervisor restarts it: {} checks failed in a row", record.failures);
                effects.push(Effect::Tell(actor, Stage::Begun, note));
            }
            RestartOutcome::NotNow(_) => {
                // A request without a decision does not count as an attempt.
                record.attempts.pop_back();
                record.state = RecoveryState::Ailing { since: now };
            }
            RestartOutcome::Otherwise(decision) => {
                record.state = RecoveryState::GaveUp;
                let note = format!("its supervisor decided otherwise: {decision}");
                effects.push(Effect::Tell(actor, Stage::GaveUp, note));
            }
        }
    }

    fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let config = self.config;
        if now.since(self.heard) >= config.monitor_patience {
            let monitor = self.records.entry(self.monitor.clone()).or_default();
            if monitor.state == RecoveryState::Well {
                monitor.state = RecoveryState::Ailing { since: self.heard };
            }
        }
        for (actor, record) in &mut self.records {
            let patience = if *actor == self.monitor { config.monitor_patience } else { config.patience };
            match record.state {
                RecoveryState::Ailing { since } if now.since(since) >= patience => {
                    while record.attempts.front().is_some_and(|at| now.since(*at) > config.within) {
                        record.attempts.pop_front();
                    }
                    if record.attempts.len() < config.attempts_max as usize {
                        record.attempts.push_back(now);
                        record.state = RecoveryState::Asked;
                        effects.push(Effect::Ask(actor.clone(), record.failures));
                    } else {
                        record.state = RecoveryState::GaveUp;
                        let note = format!(
                            "{} restarts within {:?} did not help",
                            config.attempts_max, config.within
                        );
                        effects.push(Effect::Tell(actor.clone(), Stage::GaveUp, note));
                        effects.push(Effect::Escalate(actor.clone(), record.failures));
                    }
                }
                RecoveryState::Recovering { until } if now >= until => {
                    record.state = RecoveryState::Ailing { since: now };
                    let note = format!("it does not answer {:?} after its restart", config.deadline);
                    effects.push(Effect::Tell(actor.clone(), Stage::Failed, note));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthStatus::{Degraded, Healthy, Unhealthy};

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn chain() -> ActorName {
        ActorName::literal("chain")
    }

    fn agent() -> Recovery {
        let config = RecoveryConfig {
            patience: Duration::from_secs(5),
            deadline: Duration::from_secs(4),
            attempts_max: 2,
            within: Duration::from_mins(1),
            monitor_patience: Duration::from_hours(1),
            ..RecoveryConfig::default()
        };
        Recovery::new(at(0), config, ActorName::literal("health"))
    }

    fn found(status: HealthStatus, is_silent: bool) -> Input {
        Input::Found { actor: chain(), status, failures: 3, is_silent }
    }

    #[test]
    fn a_silent_actor_is_restarted_after_patience_and_followed_until_it_answers() {
        let mut agent = agent();
        assert_eq!(agent.handle(at(10), found(Unhealthy, true)), []);
        assert_eq!(agent.handle(at(14), Input::Tick), []);
        assert_eq!(agent.handle(at(15), Input::Tick), [Effect::Ask(chain(), 3)]);
        assert_eq!(agent.handle(at(16), Input::Tick), [], "it was asked once");
        let begun = agent.handle(at(16), Input::Answered(chain(), RestartOutcome::Restarts));
        assert!(matches!(&begun[..], [Effect::Tell(_, Stage::Begun, _)]), "{begun:?}");
        let recovered = agent.handle(at(17), found(Healthy, false));
        assert!(matches!(&recovered[..], [Effect::Tell(_, Stage::Recovered, _)]), "{recovered:?}");
        assert_eq!(agent.handle(at(100), Input::Tick), []);
    }

    #[test]
    fn whoever_answers_or_does_not_run_is_left_to_itself_and_its_supervisor() {
        for (status, is_silent) in [(Unhealthy, false), (Degraded, true), (Healthy, false)] {
            let mut agent = agent();
            agent.handle(at(10), found(Unhealthy, true));
            agent.handle(at(12), found(status, is_silent));
            assert_eq!(agent.handle(at(30), Input::Tick), [], "{status} {is_silent}");
        }
    }

    #[test]
    fn a_supervisor_that_is_at_it_already_is_not_pressed_and_costs_no_attempt() {
        let mut agent = agent();
        agent.handle(at(10), found(Unhealthy, true));
        for n in 0..5 {
            let now = at(15 + n * 6);
            assert_eq!(agent.handle(now, Input::Tick), [Effect::Ask(chain(), 3)], "round {n}");
            let not_now = RestartOutcome::NotNow("child chain is restarting".to_owned());
            assert_eq!(agent.handle(now, Input::Answered(chain(), not_now)), []);
        }
    }

    #[test]
    fn restarts_that_do_not_help_are_escalated_once_and_then_left_alone() {
        let mut agent = agent();
        agent.handle(at(10), found(Unhealthy, true));
        for second in [15, 25] {
            assert_eq!(agent.handle(at(second), Input::Tick), [Effect::Ask(chain(), 3)]);
            agent.handle(at(second), Input::Answered(chain(), RestartOutcome::Restarts));
            let failed = agent.handle(at(second + 5), Input::Tick);
            assert!(matches!(&failed[..], [Effect::Tell(_, Stage::Failed, _)]), "{failed:?}");
        }
        let gave_up = agent.handle(at(35), Input::Tick);
        assert!(
            matches!(&gave_up[..], [Effect::Tell(_, Stage::GaveUp, _), Effect::Escalate(_, 3)]),
            "{gave_up:?}"
        );
        assert_eq!(agent.handle(at(200), Input::Tick), []);
        let back = agent.handle(at(201), found(Healthy, false));
        assert!(matches!(&back[..], [Effect::Tell(_, Stage::Recovered, _)]), "{back:?}");
        agent.handle(at(300), found(Unhealthy, true));
        assert_eq!(agent.handle(at(305), Input::Tick), [Effect::Ask(chain(), 3)], "the window has slid on");
    }

    #[test]
    fn one_that_recovers_and_that_this_agent_does_not_know_is_taken_care_of() {
        let mut agent = agent();
        assert_eq!(agent.handle(at(10), found(HealthStatus::Recovering, true)), []);
        assert_eq!(agent.handle(at(14), Input::Tick), []);
        assert_eq!(agent.handle(at(15), Input::Tick), [Effect::Ask(chain(), 3)], "nobody else follows it");
        agent.handle(at(15), Input::Answered(chain(), RestartOutcome::Restarts));
        // For an actor already recovering, a repeated status changes nothing.
        for secs in 16..19 {
            assert_eq!(agent.handle(at(secs), found(HealthStatus::Recovering, true)), []);
            assert_eq!(agent.handle(at(secs), Input::Tick), []);
        }
        let failed = agent.handle(at(19), Input::Tick);
        assert!(matches!(&failed[..], [Effect::Tell(_, Stage::Failed, _)]), "{failed:?}");
    }

    #[test]
    fn a_monitor_that_tells_nothing_is_a_patient_too_and_nobody_is_restarted_in_a_shutdown() {
        let mut agent = Recovery::new(at(0), RecoveryConfig::default(), ActorName::literal("health"));
        assert_eq!(agent.handle(at(14), Input::Tick), []);
        assert_eq!(agent.handle(at(15), Input::Tick), [Effect::Ask(ActorName::literal("health"), 0)]);
        agent.handle(at(16), Input::Answered(ActorName::literal("health"), RestartOutcome::Restarts));
        let back = agent.handle(at(17), found(Healthy, false));
        assert!(matches!(&back[..], [Effect::Tell(_, Stage::Recovered, _)]), "{back:?}");
        agent.handle(at(18), Input::Shutdown);
        assert_eq!(agent.handle(at(100), Input::Tick), []);
    }

    #[test]
    fn the_defaults_are_valid_and_values_out_of_range_are_named() {
        assert_eq!(RecoveryConfig::default().validate(), Ok(()));
        let none = RecoveryConfig { attempts_max: 0, ..RecoveryConfig::default() };
        assert_eq!(none.validate().expect_err("too few").field, "recovery.attempts_max");
    }
}
