//! Coordinated shutdown: a node leaves in phases, in time, and once.
//!
//! It decides what happens next while a node ends: whether a request is obeyed ([`state`]), which phase runs
//! ([`phase`]), who stops when ([`plan`]), and when patience is over. It never stops anything itself: what a task
//! does is its owner's. The model is Pekko's Coordinated Shutdown; what that lacks is one deadline for all of it.
//!
//! ```text
//!   running ─► initiated ─► preparation ─► actor_shutdown ─► cleanup ─► finalization ─► complete
//!                               └───────────────┴──────────────┴──► forced_shutdown ──────┘
//! ```
//!
//! Reading order: [`phase`], [`plan`], [`state`] (the policies), [`coordinator`] (the shell), [`actors`] (stops
//! the actors of a supervision tree by plan).

pub mod actors;
pub mod coordinator;
pub mod phase;
pub mod plan;
pub mod state;

pub use coordinator::{ShutdownCoordinator, Task};
pub use phase::{PhaseError, ShutdownPhase, ShutdownState};
pub use state::{Progress, QuorumImpact, QuorumRefusal, Request, Requester, ShutdownAnswer, ShutdownOutcome};
