//! What can be asked of a supervisor about a child, and how it is refused.

use thiserror::Error;

use super::failure::Failure;
use crate::id::ActorName;

/// What can be asked of a supervisor about a child.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start it; it must not run.
    Start,
    /// Stop it; it keeps its place.
    Stop,
    /// Stop it if it runs, and start it. Costs no budget.
    Restart,
    /// Stop it, and leave it so until it is resumed.
    Suspend,
    /// Start it again after a suspension.
    Resume,
    /// Forget it; it must not run.
    Delete,
    /// It failed, as someone else found: stop it, and decide as if it had failed by itself.
    Fail(Failure),
    /// The same, but without another restart: take the next step of the escalation.
    Escalate(Failure),
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// There is no such child.
    #[error("supervisor {supervisor} has no child {child}")]
    Unknown {
        /// Who was asked.
        supervisor: ActorName,
        /// For whom.
        child: ActorName,
    },
    /// There is one of this name already.
    #[error("supervisor {supervisor} has a child {child} already, which is {phase}")]
    Known {
        /// Who was asked.
        supervisor: ActorName,
        /// For whom.
        child: ActorName,
        /// Where the child stands.
        phase: &'static str,
    },
    /// The child's state does not allow it.
    #[error("child {child} is {phase}; expected {expected}")]
    Phase {
        /// Which child.
        child: ActorName,
        /// Where it stands.
        phase: &'static str,
        /// Where it would have to stand.
        expected: &'static str,
    },
}
