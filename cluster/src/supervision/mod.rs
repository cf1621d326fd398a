//! Supervision: every failure is classified, answered by policy, restarted for real, and explained.
//!
//! It decides: what a failure is ([`failure`]), whether and when the child comes back ([`strategy`], [`slot`],
//! [`intensity`]), with whom ([`spec::RestartGroup`]), and what is done when restarting is not the answer
//! ([`escalation`]). The semantics are those of Erlang/OTP's `supervisor`. It never looks into what a child does,
//! and never sleeps: what is for later is a message to itself.
//!
//! Reading order: [`failure`], [`strategy`], [`slot`], [`intensity`], [`escalation`] (the policies), [`decision`]
//! (one failure, one decision, as plain data), [`spec`] (what a child is, as data), [`child`] and [`command`] (what is known of it, and asked),
//! [`state`] (who starts and stops when), `census` (what the registry is told of it),
//! [`pattern`] and [`memory`] (what is remembered), [`mod@panic`] and [`guard`] (what stands around every actor),
//! [`actor`] (the shell on ractor), [`board`] (the tree from outside), [`enhanced`] (the face), [`healer`] (the face for whoever watches health).

pub mod actor;
pub mod board;
mod census;
pub mod child;
pub mod command;
pub mod config;
pub mod context;
pub mod decision;
pub mod enhanced;
pub mod escalation;
pub mod failure;
pub mod guard;
mod handling;
pub mod healer;
pub mod intensity;
pub mod memory;
pub mod message;
pub mod panic;
pub mod pattern;
mod recall;
mod restart_trace;
pub mod slot;
pub mod spec;
pub mod state;
pub mod strategy;

pub use actor::Supervisor;
pub use board::TreeBoard;
pub use config::SupervisionConfig;
pub use context::Context;
pub use enhanced::{EnhancedSupervision, SupervisedActorConfig};
pub use escalation::{EscalationStep, EscalationTable};
pub use failure::{ActorFailureType, Failure, FailureClass};
pub use guard::Watch;
pub use healer::TreeHealer;
pub use intensity::{RestartIntensity, SlotBudget};
pub use memory::SupervisionMemory;
pub use message::{AdminError, SupervisorMessage};
pub use panic::blame;
pub use pattern::{FailurePatternDetector, PatternConfig};
pub use slot::{SlotReader, SlotTiming};
pub use spec::{AutoShutdown, ChildSpec, RestartGroup, RestartType, Shutdown, SupervisorSpec};
pub use strategy::{ExponentialBackoffConfig, FixedDelayConfig, RestartStrategy};
