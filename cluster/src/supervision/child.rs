//! One child as its supervisor knows it: what was told of it, where it stands, and what is to become of it.

use std::sync::Arc;

use super::failure::Failure;
use super::slot::Spared;
use super::spec::ChildPolicy;
use crate::clock::Moment;

/// Which child, for the life of its supervisor; later children have greater keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(u64);

impl ChildKey {
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Where a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildPhase {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// It ended and is going to be started again.
    Restarting,
    /// It ended and stays so, until someone starts it or its siblings cycle.
    Stopped,
    /// It was stopped until someone resumes it; cycles leave it alone.
    Suspended,
    /// It failed, and consensus is halted until someone starts it.
    Halted,
}

impl ChildPhase {
    /// Whether the child does not run, and is not about to: one that waits for its restart does neither.
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

/// What follows when a child that was asked to stop has ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum After {
    Rest,
    Suspend,
    Start,
    Fail(Failure),
    Escalate(Failure),
    Cycle,
}

/// What a cycle still has to do with a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Stop,
    Start,
}

/// Who wanted a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Asked,
    Restart,
}

/// One child as its supervisor knows it.
#[derive(Clone, Debug)]
pub struct Child {
    /// What was told of it.
    pub policy: Arc<ChildPolicy>,
    /// Where it stands.
    pub phase: ChildPhase,
    /// Automatic restarts, failed attempts included.
    pub restarts: u64,
    /// Why it last ended, if it ever did.
    pub last_failure: Option<Failure>,
    /// Why it last ended, also when it was asked to.
    pub last_exit: Option<Failure>,
    /// It never ran yet.
    pub(super) is_new: bool,
    /// It was halted, and has not run since.
    pub(super) is_halted: bool,
    /// Counts starts and waits, so that what belongs to an earlier one is recognised.
    pub(super) generation: u64,
    pub(super) attempt: u32,
    /// Since when it runs, or is away.
    pub(super) since: Moment,
    /// Slots of its being away that are not charged.
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

    /// Why it last ended; empty if it never did.
    pub fn last_failure(&self) -> String {
        self.last_failure.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}
