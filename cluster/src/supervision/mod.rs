//! Supervision: every failure is classified, answered by policy, restarted for real, and explained.
//!
//! It decides: what a failure is ([`failure`]), whether and when the child comes back ([`strategy`], [`slot`],
//! [`intensity`]), with whom ([`spec::SupervisionStrategy`]), and what is done when restarting is not the answer
//! ([`escalation`]). The semantics are those of Erlang/OTP's `supervisor`. It never looks into what a child does,
//! and never sleeps: what is for later is a message to itself.
//!
//! Reading order: [`failure`], [`strategy`], [`slot`], [`intensity`], [`escalation`] (the policies), [`decision`]
//! (one failure, one decision, as plain data), [`spec`] (what a child is, as data), [`child`] and [`command`] (what is known of it, and asked),
//! [`state`] (who starts and stops when), `registry_sync` (what the registry is told of it),
//! [`pattern`] and [`memory`] (what is remembered), [`mod@panic`] and [`supervised_actor`] (what stands around every actor),
//! [`actor`] (the shell on ractor), [`tree`] (the tree from outside), [`enhanced`] (the face), [`restart_requester`] (the face for whoever watches health).

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
pub use enhanced::{EnhancedSupervision, SupervisedActorConfig};
pub use escalation::{EscalationStep, EscalationTable};
pub use failure::{ActorFailureType, Failure, FailureClass};
pub use intensity::{RestartIntensity, SlotBudget};
pub use memory::SupervisionMemory;
pub use message::{AdminError, SupervisorMessage};
pub use panic::set_cause;
pub use pattern::{FailurePatternDetector, PatternConfig};
pub use restart_requester::TreeRestartRequester;
pub use slot::{SlotReader, SlotTiming};
pub use spec::{AutoShutdown, ChildSpec, RestartType, Shutdown, SupervisionStrategy, SupervisorSpec};
pub use strategy::{ExponentialBackoffConfig, FixedDelayConfig, RestartStrategy};
pub use supervised_actor::HandlerLimits;
pub use tree::TreeReader;
