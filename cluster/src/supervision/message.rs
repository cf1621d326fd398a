//! Messages of a supervisor and their replies.

use ractor::{ActorCell, ActorId, RpcReplyPort};
use thiserror::Error;

use super::child::{Child, ChildKey, ChildPhase};
use super::command::{Command, CommandError};
use super::decision::RestartDecision;
use super::failure::Failure;
use super::spec::{ChildSpec, RestartType};
use super::state::Wakeup;
use crate::config::FieldError;
use crate::id::ActorName;
use crate::registry::RegistryError;

/// Message to a supervisor.
pub enum SupervisorMessage {
    /// An attempt to start a child completed.
    Attempted(ChildKey, Result<ActorCell, Failure>),
    /// A timer fired.
    Wake(Wakeup),
    /// The stop deadline of a child passed.
    Kill(ChildKey, ActorId),
    /// A child that was asked to stop has ended.
    Gone(ChildKey, ActorId),
    /// A killed child did not end.
    Abandon(ChildKey, ActorId),
    /// Adds a last child; answered when it runs or failed to start.
    StartChild(Box<ChildSpec>, RpcReplyPort<Result<(), AdminError>>),
    /// A command about a child; answered when it is done.
    Command(ActorName, Command, RpcReplyPort<Result<(), AdminError>>),
    /// Someone else found that a child failed; answered with the decision.
    Report(ActorName, Report, RpcReplyPort<Result<RestartDecision, AdminError>>),
    /// Lists the children, in start order.
    List(RpcReplyPort<Vec<ChildInfo>>),
    /// Counts the children.
    Count(RpcReplyPort<ChildCounts>),
}

/// A failure of a child that someone else found.
#[derive(Clone, Debug)]
pub enum Report {
    /// The child failed: decide as if it had failed by itself.
    Failed(Failure),
    /// The child failed, and restarting it alone does not help: take the next escalation step.
    Escalated(Failure),
}

/// Why an administrative call was refused or failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AdminError {
    /// The command was refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// The child's spec contains an invalid value; nothing was changed.
    #[error(transparent)]
    Spec(#[from] FieldError),
    /// The child failed to start.
    #[error("child {child} {failure}")]
    Start {
        /// Child that failed to start.
        child: ActorName,
        /// Failure of the start.
        failure: Failure,
    },
    /// The supervisor does not answer: it ended, is being restarted, or is overloaded. It is unknown whether anything
    /// was changed.
    #[error("supervisor {supervisor} does not answer: {reason}")]
    Silent {
        /// Supervisor that was called.
        supervisor: ActorName,
        /// Error of the call.
        reason: String,
    },
}

/// Why a supervisor without a parent was not started.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StartError {
    /// A value of the spec is invalid.
    #[error(transparent)]
    Spec(#[from] FieldError),
    /// A child failed to start; those before it were stopped.
    #[error("{0}")]
    Child(Failure),
    /// The registry refused its name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// ractor did not start it: its name is taken in this process, or it panicked.
    #[error("{0}")]
    NotSpawned(String),
}

/// One child in the answer to `list`.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildInfo {
    /// Name of the child.
    pub name: ActorName,
    /// Current phase.
    pub phase: ChildPhase,
    /// Whether it is restarted after it ended.
    pub restart: RestartType,
    /// Whether it is a supervisor.
    pub is_supervisor: bool,
    /// Number of automatic restarts.
    pub restarts: u64,
}

impl From<&Child> for ChildInfo {
    fn from(child: &Child) -> Self {
        Self {
            name: child.policy.name.clone(),
            phase: child.phase,
            restart: child.policy.restart,
            is_supervisor: child.policy.is_supervisor,
            restarts: child.restarts,
        }
    }
}

/// Numbers of children (Erlang/OTP's `count_children`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// Number of all children.
    pub specs: usize,
    /// Number of running children.
    pub active: usize,
    /// Number of children that are supervisors.
    pub supervisors: usize,
    /// Number of children that are not supervisors.
    pub workers: usize,
}

impl ChildCounts {
    /// Counts `children`.
    pub(super) fn of<'a>(children: impl Iterator<Item = &'a Child>) -> Self {
        children.fold(Self::default(), |counts, child| Self {
            specs: counts.specs + 1,
            active: counts.active + usize::from(child.phase == ChildPhase::Running),
            supervisors: counts.supervisors + usize::from(child.policy.is_supervisor),
            workers: counts.workers + usize::from(!child.policy.is_supervisor),
        })
    }
}
