//! The actor cluster: supervised actors, their health, the links between members, and the gate that says
//! whether the federation may work. It knows no blockchain but heights and rounds.
//!
//! Layers, each using only those above it:
//!
//! 1. ground: [`id`], [`clock`], [`config`], [`trace`], [`event`], [`port`], [`mailbox`]
//! 2. policies: pure, told what time it is (`supervision::intensity`, `health::accrual`, `federation::gate`,
//!    `transport::queue`, …)
//! 3. state: one per subsystem, `handle(now, Input)` giving effects (`supervision::state`, `health::state`,
//!    `federation::coordinator`, `transport::peer`)
//! 4. actors: thin shells that read the clock, call the state and apply its effects
//! 5. [`transport`]: the links, over `ractor_cluster`; [`discovery`]: actors of other members, over the links;
//!    [`telemetry`]: told of every event
//!
//! The [`registry`] is a shared structure that everyone may read and supervisors write.
//!
//! Start with [`federation`], which says what all this is for.

pub mod clock;
pub mod config;
pub mod discovery;
pub mod event;
pub mod federation;
pub mod health;
pub mod id;
pub mod mailbox;
pub mod port;
pub mod registry;
pub mod shutdown;
pub mod supervision;
pub mod telemetry;
pub mod trace;
pub mod transport;
