//! What a supervisor is told and asked.

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

/// What a supervisor is told and asked.
pub enum SupervisorMessage {
    /// An attempt to start a child is over.
    Attempted(ChildKey, Result<ActorCell, Failure>),
    /// Something is due.
    Wake(Wakeup),
    /// A child's deadline to stop has passed.
    Kill(ChildKey, ActorId),
    /// A child that was told to stop has ended.
    Gone(ChildKey, ActorId),
    /// A child did not even yield to a kill.
    Abandon(ChildKey, ActorId),
    /// A new last child; answered when it runs or failed to start.
    StartChild(Box<ChildSpec>, RpcReplyPort<Result<(), AdminError>>),
    /// Something about a child; answered when it is done.
    Command(ActorName, Command, RpcReplyPort<Result<(), AdminError>>),
    /// A child failed, as someone else found; answered with what was decided.
    Report(ActorName, Report, RpcReplyPort<Result<RestartDecision, AdminError>>),
    /// The children, in start order.
    List(RpcReplyPort<Vec<ChildInfo>>),
    /// How many children there are.
    Count(RpcReplyPort<ChildCounts>),
}

/// What someone else found of a child.
#[derive(Clone, Debug)]
pub enum Report {
    /// It failed: decide as if it had by itself.
    Failed(Failure),
    /// The same, but without another restart of it alone.
    Escalated(Failure),
}

/// Why an administrative call was refused, or failed.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AdminError {
    /// Nothing was changed.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// A value of the child's spec is wrong; nothing was changed.
    #[error(transparent)]
    Spec(#[from] FieldError),
    /// The child was to start, and did not.
    #[error("child {child} {failure}")]
    Start {
        /// Which child.
        child: ActorName,
        /// Why.
        failure: Failure,
    },
    /// The supervisor does not answer: it ended, is being restarted, or has too much to do. Whether anything was
    /// changed is not known.
    #[error("supervisor {supervisor} does not answer: {reason}")]
    Silent {
        /// Who was asked.
        supervisor: ActorName,
        /// How it fails to answer.
        reason: String,
    },
}

/// One child, as `list` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildInfo {
    /// Its name.
    pub name: ActorName,
    /// Where it stands.
    pub phase: ChildPhase,
    /// Whether it is started again.
    pub restart: RestartType,
    /// Whether it supervises others.
    pub is_supervisor: bool,
    /// Automatic restarts.
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

/// How many children there are (Erlang/OTP's `count_children`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// All of them.
    pub specs: usize,
    /// Those that run.
    pub active: usize,
    /// Those that supervise others.
    pub supervisors: usize,
    /// The others.
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
