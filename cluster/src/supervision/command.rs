//! Requests to a supervisor about one of its children, and their errors.

use thiserror::Error;

use super::failure::Failure;
use crate::id::ActorName;

/// A request to a supervisor about a child.
#[derive(Clone, Debug)]
pub enum Command {
    /// Start the child; it must not be running.
    Start,
    /// Stop the child; the supervisor keeps its spec unless it is temporary.
    Stop,
    /// Stop the child if it runs, then start it. Not charged to the restart budget.
    Restart,
    /// Stop the child and keep it stopped until it is resumed.
    Suspend,
    /// Start the child after a suspension.
    Resume,
    /// Delete the child's spec; it must not be running.
    Delete,
    /// Treat the child as failed, as found by someone else: stop it and decide as if it had failed by itself.
    Fail(Failure),
    /// Like [`Self::Fail`], but skip another restart and take the next escalation step.
    Escalate(Failure),
}

/// Why a command was refused. A refused command changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The supervisor has no such child.
    #[error("supervisor {supervisor} has no child {child}")]
    Unknown {
        /// Supervisor that received the command.
        supervisor: ActorName,
        /// Child named in the command.
        child: ActorName,
    },
    /// The supervisor already has a child of this name.
    #[error("supervisor {supervisor} has a child {child} already, which is {phase}")]
    Known {
        /// Supervisor that received the command.
        supervisor: ActorName,
        /// Name of the existing child.
        child: ActorName,
        /// Current phase of the child.
        phase: &'static str,
    },
    /// The child's phase does not allow the command.
    #[error("child {child} is {phase}; expected {expected}")]
    Phase {
        /// Child named in the command.
        child: ActorName,
        /// Current phase of the child.
        phase: &'static str,
        /// Phases in which the command is allowed.
        expected: &'static str,
    },
}
