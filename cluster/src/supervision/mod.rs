//! Supervision: classifies every failure, decides by policy, restarts the actor, and explains each decision.
//!
//! It decides what a failure is ([`failure`]), whether and when the child is restarted ([`strategy`], [`slot`],
//! [`intensity`]), which siblings restart with it ([`spec::SupervisionStrategy`]), and what to do when a restart does
//! not help ([`escalation`]). The semantics are those of Erlang/OTP's `supervisor`. It never inspects what a child does
//! and never sleeps: for later work it sends itself a delayed message.
//!
//! Reading order: [`failure`], [`strategy`], [`slot`], [`intensity`], [`escalation`] (the policies); [`decision`] (one
//! decision about one failure, as plain data); [`spec`] (specifications of children and supervisors, as data);
//! [`child`] and [`command`] (a child's state, and requests about it); [`state`] (who starts and stops when);
//! `registry_sync` (keeps the registry in step with the children); [`pattern`] and [`memory`] (failure history);
//! [`mod@panic`] and [`supervised_actor`] (the wrapper around every actor); [`actor`] (the supervisor as a ractor
//! actor); [`tree`] (read-only view of the tree); [`enhanced`] (the public API); [`restart_requester`] (the API for
//! health monitoring).

pub mod actor;
pub mod child;
pub mod command;
pub mod config;
pub mod context;
pub mod decision;
pub mod enhanced;
pub mod escalation;
pub mod failure;
mod handling;
pub mod intensity;
pub mod memory;
pub mod message;
pub mod panic;
pub mod pattern;
mod registry_sync;
pub mod restart_requester;
mod restart_trace;
pub mod slot;
pub mod spec;
mod start_cancellation;
pub mod state;
pub mod strategy;
pub mod supervised_actor;
pub mod tree;

pub use actor::Supervisor;
pub use config::SupervisionConfig;
pub use context::Context;
pub use enhanced::{EnhancedSupervision, Root, RootEnd, SupervisedActorConfig};
pub use escalation::{EscalationStep, EscalationTable};
pub use failure::{ActorFailureType, Failure, FailureClass};
pub use intensity::{RestartIntensity, SlotBudget};
pub use memory::SupervisionMemory;
pub use message::{AdminError, StartError, SupervisorMessage};
pub use panic::set_cause;
pub use pattern::{FailurePatternDetector, PatternConfig};
pub use restart_requester::TreeRestartRequester;
pub use slot::{SlotReader, SlotTiming};
pub use spec::{AutoShutdown, ChildSpec, RestartType, Shutdown, SupervisionStrategy, SupervisorSpec};
pub use strategy::{ExponentialBackoffConfig, FixedDelayConfig, RestartStrategy};
pub use supervised_actor::{HandlerLimits, spawn};
pub use tree::TreeReader;
