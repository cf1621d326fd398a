//! The actor cluster: supervised actors, their health checks, the links between members, and the gate that decides
//! whether the federation may operate. Of blockchains it knows only heights and rounds.
//!
//! Layers; each uses only the layers above it:
//!
//! 1. base: [`id`], [`clock`], [`config`], [`trace`], [`event`], [`port`], [`mailbox`]
//! 2. policies: pure functions that take the current time as an argument (`supervision::intensity`, `health::accrual`,
//!    `federation::gate`, `transport::queue`, …)
//! 3. state machines: one per subsystem; `handle(now, Input)` returns effects (`supervision::state`, `health::state`,
//!    `federation::coordinator`, `transport::peer`)
//! 4. actors: thin shells that read the clock, call the state machine and apply its effects
//! 5. [`transport`]: links between members, over `ractor_cluster`; [`discovery`]: finds actors of other members over
//!    the links; [`telemetry`]: receives every event
//!
//! The [`registry`] is a shared structure: any code may read it, only supervisors write it.
//!
//! Without a blockchain, start with [`system`] (supervised actors in one process) and [`cluster`] (linked processes). For the
//! federation start with [`federation`], which explains the purpose of the crate.

pub mod actor;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod discovery;
pub mod event;
pub mod federation;
pub mod health;
pub mod id;
pub mod mailbox;
pub mod ping;
pub mod port;
pub mod registry;
pub mod shutdown;
pub mod supervision;
pub mod system;
pub mod telemetry;
pub mod trace;
pub mod transport;

pub use ractor;

/// What most users of the library need.
pub mod prelude {
    pub use ractor::ActorProcessingErr;

    pub use crate::actor::{Actor, SelfRef};
    pub use crate::cluster::{Cluster, Identity};
    pub use crate::discovery::Protocol;
    pub use crate::id::{ActorName, NodeId};
    pub use crate::mailbox::{Address, Call, CallError, MailError, Request};
    pub use crate::supervision::{EnhancedSupervision, ExponentialBackoffConfig as Backoff, Root};
    pub use crate::system::System;
}
