//! Defines the states of a shutdown, and the phases it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// State of a shutdown (specification, Phase 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShutdownState {
    /// No shutdown was requested.
    #[default]
    Running,
    /// A shutdown was requested and accepted.
    Initiated,
    /// Pending work is finished or abandoned, and peers are notified.
    Preparation,
    /// Actors stop.
    ActorShutdown,
    /// Resources left by the actors are cleaned up.
    Cleanup,
    /// The last tasks: what observed the shutdown stops.
    Finalization,
    /// A deadline passed or the end was forced: everything left is ended at once.
    ForcedShutdown,
    /// The shutdown is complete.
    Complete,
}

impl ShutdownState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Initiated,
        Self::Preparation,
        Self::ActorShutdown,
        Self::Cleanup,
        Self::Finalization,
        Self::ForcedShutdown,
        Self::Complete,
    ];

    /// Name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Initiated => "initiated",
            Self::Preparation => "preparation",
            Self::ActorShutdown => "actor_shutdown",
            Self::Cleanup => "cleanup",
            Self::Finalization => "finalization",
            Self::ForcedShutdown => "forced_shutdown",
            Self::Complete => "complete",
        }
    }

    /// Whether `next` may follow this state. States without phases are skipped.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Running, next) => next == Self::Initiated,
            (Self::Complete, _) | (_, Self::Running | Self::Initiated) => false,
            (Self::ForcedShutdown, next) => next == Self::Complete,
            (_, Self::ForcedShutdown | Self::Complete) => true,
            (from, next) => next > from,
        }
    }

    /// Whether phases can belong to this state.
    fn has_phases(self) -> bool {
        matches!(self, Self::Preparation | Self::ActorShutdown | Self::Cleanup | Self::Finalization)
    }
}

impl fmt::Display for ShutdownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A phase: its tasks run in parallel, and it ends when all of them have, or at its deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutdownPhase {
    /// Name, unique among the phases.
    pub name: &'static str,
    /// State that the phase belongs to.
    pub state: ShutdownState,
    /// Phases that must have ended before this one begins.
    pub after: Vec<&'static str>,
    /// Maximum duration of the phase. The deadline of the whole shutdown applies as well.
    pub deadline: Duration,
    /// Whether the shutdown continues if a task fails or times out; otherwise it is forced.
    pub recovers: bool,
}

/// Why a list of phases or tasks is invalid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PhaseError {
    /// Two phases have the same name.
    #[error("phase {0} is named twice; expected each name once")]
    Twice(&'static str),
    /// A phase depends on a phase that does not exist.
    #[error("phase {phase} comes after {after}, which is no phase")]
    Unknown {
        /// Name of the dependent phase.
        phase: &'static str,
        /// Name of the missing phase.
        after: &'static str,
    },
    /// A phase belongs to a state without phases.
    #[error(
        "phase {phase} belongs to state {state}; expected preparation, actor_shutdown, cleanup or finalization"
    )]
    State {
        /// Name of the phase.
        phase: &'static str,
        /// State of the phase.
        state: ShutdownState,
    },
    /// A phase of an earlier state depends on a phase of a later state.
    #[error("phase {phase} of state {state} comes after {after} of state {later}; states only go forward")]
    Backwards {
        /// Name of the dependent phase.
        phase: &'static str,
        /// State of the dependent phase.
        state: ShutdownState,
        /// Phase it depends on.
        after: &'static str,
        /// State of the phase it depends on.
        later: ShutdownState,
    },
    /// Phases depend on each other in a cycle.
    #[error("the phases {} wait for each other; expected an order without cycles", .0.join(", "))]
    Cycle(Vec<&'static str>),
    /// A task's phase does not exist, or already has a task of that name.
    #[error("task {task} of phase {phase}: expected a phase that is there, and each name once in it")]
    Task {
        /// Name of the task.
        task: String,
        /// Name of the phase.
        phase: String,
    },
}

/// Orders the phases for execution: each after those it depends on; where that leaves a choice, by state and then in
/// the given order.
pub fn in_order(phases: Vec<ShutdownPhase>) -> Result<Vec<ShutdownPhase>, PhaseError> {
    let mut states = BTreeMap::new();
    for phase in &phases {
        if !phase.state.has_phases() {
            return Err(PhaseError::State { phase: phase.name, state: phase.state });
        }
        if states.insert(phase.name, phase.state).is_some() {
            return Err(PhaseError::Twice(phase.name));
        }
    }
    for phase in &phases {
        for after in &phase.after {
            match states.get(after) {
                None => return Err(PhaseError::Unknown { phase: phase.name, after }),
                Some(&later) if later > phase.state => {
                    return Err(PhaseError::Backwards {
                        phase: phase.name,
                        state: phase.state,
                        after,
                        later,
                    });
                }
                Some(_) => {}
            }
        }
    }
    let mut waiting = phases;
    let mut ordered: Vec<ShutdownPhase> = Vec::new();
    while !waiting.is_empty() {
        let is_over = |name: &&str| ordered.iter().any(|phase| phase.name == *name);
        let ready = waiting.iter().enumerate().filter(|(_, phase)| phase.after.iter().all(is_over));
        let Some((next, _)) = ready.min_by_key(|(at, phase)| (phase.state, *at)) else {
            return Err(PhaseError::Cycle(waiting.iter().map(|phase| phase.name).collect()));
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &'static str, state: ShutdownState, after: &[&'static str]) -> ShutdownPhase {
        ShutdownPhase { name, state, after: after.to_vec(), deadline: Duration::from_secs(1), recovers: true }
    }

    #[test]
    fn states_follow_the_specification_and_nothing_else() {
        use ShutdownState::{
            ActorShutdown, Cleanup, Complete, Finalization, ForcedShutdown, Initiated, Preparation, Running,
        };
        let legal = [
            (Running, vec![Initiated]),
            (Initiated, vec![Preparation, ActorShutdown, Cleanup, Finalization, ForcedShutdown, Complete]),
            (Preparation, vec![ActorShutdown, Cleanup, Finalization, ForcedShutdown, Complete]),
            (ActorShutdown, vec![Cleanup, Finalization, ForcedShutdown, Complete]),
            (Cleanup, vec![Finalization, ForcedShutdown, Complete]),
            (Finalization, vec![ForcedShutdown, Complete]),
            (ForcedShutdown, vec![Complete]),
            (Complete, vec![]),
        ];
        for (from, allowed) in legal {
            let found: Vec<_> =
                ShutdownState::ALL.into_iter().filter(|next| from.may_become(*next)).collect();
            assert_eq!(found, allowed, "from {from}");
        }
    }

    #[test]
    fn phases_run_after_those_they_wait_for() {
        use ShutdownState::{ActorShutdown, Cleanup, Preparation};
        let phases = vec![
            phase("tidy", Cleanup, &["actors"]),
            phase("actors", ActorShutdown, &["tell", "finish"]),
            phase("finish", Preparation, &["tell"]),
            phase("tell", Preparation, &[]),
        ];
        let names: Vec<_> = in_order(phases).expect("an order").iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["tell", "finish", "actors", "tidy"]);
    }

    #[test]
    fn phases_that_make_no_sense_are_refused_with_their_names() {
        use ShutdownState::{Cleanup, ForcedShutdown, Preparation};
        let refused = |phases| in_order(phases).expect_err("refused").to_string();
        for (phases, said) in [
            (vec![phase("a", Cleanup, &["b"]), phase("b", Cleanup, &["a"])], "a, b wait for each other"),
            (vec![phase("a", Cleanup, &["a"])], "the phases a wait"),
            (vec![phase("a", Cleanup, &["x"])], "a comes after x, which is no phase"),
            (vec![phase("a", Cleanup, &[]), phase("a", Cleanup, &[])], "a is named twice"),
            (vec![phase("a", Preparation, &["b"]), phase("b", Cleanup, &[])], "states only go forward"),
            (vec![phase("a", ForcedShutdown, &[])], "belongs to state forced_shutdown"),
        ] {
            let error = refused(phases);
            assert!(error.contains(said), "{said:?} in {error:?}");
        }
    }
}
