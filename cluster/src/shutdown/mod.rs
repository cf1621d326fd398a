//! Coordinates shutdown: a node leaves in phases, within a deadline, and exactly once.
//!
//! This module decides whether a shutdown request is accepted ([`state`]), which phase runs ([`phase`]), in which order
//! actors stop ([`plan`]), and when to force the end. It stops nothing itself: tasks belong to their owners. The model
//! is Pekko's Coordinated Shutdown, plus one deadline for the whole shutdown.
//!
//! ```text
//!   running ─► initiated ─► preparation ─► actor_shutdown ─► cleanup ─► finalization ─► complete
//!                               └───────────────┴──────────────┴──► forced_shutdown ──────┘
//! ```
//!
//! Reading order: [`phase`], [`plan`], [`state`] (the policies), [`coordinator`] (runs the shutdown), [`actors`] (stops
//! the actors of a supervision tree by plan).

pub mod actors;
pub mod coordinator;
pub mod phase;
pub mod plan;
pub mod state;

pub use coordinator::{ShutdownCoordinator, Task};
pub use phase::{PhaseError, ShutdownPhase, ShutdownState};
pub use state::{Progress, QuorumImpact, QuorumRefusal, Request, Requester, ShutdownAnswer, ShutdownOutcome};
