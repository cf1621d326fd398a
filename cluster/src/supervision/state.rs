//! The decisions of a supervisor.

use super::intensity::RestartWindow;
use super::spec::RestartType;
use crate::clock::Moment;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, or because it was stopped.
    Normal(String),
    /// By an error, a panic, a kill, or by failing to start.
    Abnormal(String),
}

impl Exit {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Self::Normal(reason) | Self::Abnormal(reason) => reason,
        }
    }
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildPhase {
    /// Not started yet, or being started for the first time.
    Starting,
    /// It runs.
    Running,
    /// It ended and is being started again.
    Restarting,
    /// It ended and stays so.
    Stopped,
}

impl ChildPhase {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// One child as its supervisor knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    restart: RestartType,
    /// Where it stands.
    pub phase: ChildPhase,
    /// Automatic restarts, failed attempts included.
    pub restarts: u64,
    /// Why it last ended; empty if it never did.
    pub last_failure: String,
}

/// What a supervisor learns. Children are named by their place in the start order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The child runs.
    Started(usize),
    /// The child ended or failed to start.
    Ended(usize, Exit),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start the child.
    Start(usize),
    /// Stop every child in reverse order, then end as a shutdown, for this reason.
    GiveUp(String),
}

/// A supervisor's memory.
#[derive(Clone, Debug)]
pub struct SupervisorState {
    children: Vec<Child>,
    window: RestartWindow,
    gave_up: bool,
}

impl SupervisorState {
    /// Before the first start.
    pub fn new(restart_types: impl IntoIterator<Item = RestartType>, window: RestartWindow) -> Self {
        let children = restart_types
            .into_iter()
            .map(|restart| Child {
                restart,
                phase: ChildPhase::Starting,
                restarts: 0,
                last_failure: String::new(),
            })
            .collect();
        Self { children, window, gave_up: false }
    }

    /// The children in start order.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// What follows from `input`.
    pub fn handle(&mut self, now: Moment, input: Input) -> Option<Effect> {
        match input {
            Input::Started(index) => {
                self.children[index].phase = ChildPhase::Running;
                None
            }
            Input::Ended(index, exit) => self.ended(now, index, &exit),
        }
    }

    fn ended(&mut self, now: Moment, index: usize, exit: &Exit) -> Option<Effect> {
        let child = &mut self.children[index];
        exit.reason().clone_into(&mut child.last_failure);
        let again = match (child.restart, exit) {
            (RestartType::Permanent, _) | (RestartType::Transient, Exit::Abnormal(_)) => true,
            (RestartType::Transient, Exit::Normal(_)) | (RestartType::Temporary, _) => false,
        };
        if !again || self.gave_up {
            child.phase = ChildPhase::Stopped;
            return None;
        }
        if self.window.allows(now) {
            child.phase = ChildPhase::Restarting;
            child.restarts += 1;
            Some(Effect::Start(index))
        } else {
            child.phase = ChildPhase::Stopped;
            self.gave_up = true;
            Some(Effect::GiveUp(format!(
                "restart intensity exceeded; the last reason was: {}",
                exit.reason()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervision::RestartIntensity;
    use std::time::Duration;

    fn supervisor(restart: RestartType, max_restarts: u32) -> SupervisorState {
        let intensity = RestartIntensity { max_restarts, within: Duration::from_secs(10) };
        SupervisorState::new([restart, RestartType::Permanent], RestartWindow::new(intensity))
    }

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    #[test]
    fn restart_types_decide_who_comes_back() {
        use RestartType::{Permanent, Temporary, Transient};
        let normal = Exit::Normal("done".into());
        let abnormal = Exit::Abnormal("panicked".into());
        for (restart, exit, comes_back) in [
            (Permanent, &normal, true),
            (Permanent, &abnormal, true),
            (Transient, &normal, false),
            (Transient, &abnormal, true),
            (Temporary, &normal, false),
            (Temporary, &abnormal, false),
        ] {
            let mut state = supervisor(restart, 3);
            let effect = state.handle(at(1), Input::Ended(0, exit.clone()));
            assert_eq!(effect, comes_back.then_some(Effect::Start(0)), "{restart:?} after {exit:?}");
        }
    }

    #[test]
    fn failures_of_all_children_count_together_and_the_last_reason_is_told() {
        let mut state = supervisor(RestartType::Permanent, 1);
        let ended = |index, why: &str| Input::Ended(index, Exit::Abnormal(why.into()));
        assert_eq!(state.handle(at(1), ended(0, "a")), Some(Effect::Start(0)));
        let Some(Effect::GiveUp(reason)) = state.handle(at(2), ended(1, "disk full")) else {
            panic!("the second failure exceeds a budget of one");
        };
        assert!(reason.contains("disk full"), "{reason}");
        assert_eq!(state.handle(at(30), ended(0, "killed with its supervisor")), None);
    }

    #[test]
    fn a_child_that_ends_normally_for_good_costs_nothing() {
        let mut state = supervisor(RestartType::Temporary, 0);
        assert_eq!(state.handle(at(1), Input::Ended(0, Exit::Normal("done".into()))), None);
        assert_eq!(state.children()[0].phase, ChildPhase::Stopped);
        assert_eq!(state.children()[0].restarts, 0);
    }
}
