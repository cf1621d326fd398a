//! A child's state, as its supervisor knows it: its policy, its phase, and pending actions.

use std::sync::Arc;

use super::failure::Failure;
use super::slot::Spared;
use super::spec::ChildPolicy;
use crate::clock::Moment;

/// Key of a child, unique during its supervisor's incarnation; later children have greater keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(u64);

impl ChildKey {
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Phase of a child's life cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildPhase {
    /// The start is in progress.
    Starting,
    /// The child runs.
    Running,
    /// The child was asked to stop.
    Stopping,
    /// The child ended and waits to be restarted.
    Restarting,
    /// The child ended and stays down until someone starts it or a restart cycle does.
    Stopped,
    /// The child was stopped until someone resumes it; restart cycles skip it.
    Suspended,
    /// The child failed, and consensus is halted until someone starts it.
    Halted,
}

impl ChildPhase {
    /// Whether the child does not run and no start is in progress; a child that waits for its restart is down.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Halted | Self::Restarting | Self::Stopped | Self::Suspended)
    }

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Halted => "halted",
        }
    }
}

/// Action after a child that was asked to stop has ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum After {
    Rest,
    Suspend,
    Start,
    Fail(Failure),
    Escalate(Failure),
    Cycle,
}

/// Action that a restart cycle still has to take on a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Stop,
    Start,
}

/// Cause of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Asked,
    Restart,
}

/// State of one child, as its supervisor knows it.
#[derive(Clone, Debug)]
pub struct Child {
    /// Policy of the child.
    pub policy: Arc<ChildPolicy>,
    /// Current phase.
    pub phase: ChildPhase,
    /// Number of automatic restarts, including failed attempts.
    pub restarts: u64,
    /// Last failure; `None` if it never failed.
    pub last_failure: Option<Failure>,
    /// Last exit, including requested ones.
    pub last_exit: Option<Failure>,
    /// Whether it never ran.
    pub(super) is_new: bool,
    /// Whether it was halted and has not run since.
    pub(super) is_halted: bool,
    /// Counter of starts and waits, to recognise messages that belong to an earlier one.
    pub(super) generation: u64,
    pub(super) attempt: u32,
    /// Moment since which it runs or is down.
    pub(super) since: Moment,
    /// Slots missed while down that are not charged.
    pub(super) spared: Spared,
    pub(super) after: Option<After>,
    pub(super) mark: Option<Mark>,
    pub(super) origin: Origin,
}

impl Child {
    /// A child that was never started.
    pub(super) fn new(now: Moment, policy: Arc<ChildPolicy>) -> Self {
        Self {
            policy,
            phase: ChildPhase::Stopped,
            restarts: 0,
            last_failure: None,
            last_exit: None,
            is_new: true,
            is_halted: false,
            generation: 0,
            attempt: 0,
            since: now,
            spared: Spared::default(),
            after: None,
            mark: None,
            origin: Origin::Asked,
        }
    }

    /// Last failure as text; empty if it never failed.
    pub fn last_failure(&self) -> String {
        self.last_failure.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}
