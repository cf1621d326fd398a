//! The federation as one member sees it: who is healthy, and whether work may go on.
//!
//! It decides which members of the configured roster are healthy, and from their number alone whether the
//! [`gate`] is open. It never counts over who happens to be visible, and never lowers what is required: with
//! 2|2 both sides halt. It speaks to other members through an [`Outbox`](crate::port::Outbox) and knows no
//! transport.
//!
//! Reading order: [`wire`], [`message`], [`roster`], [`gate`] (count → decision → verdict), [`coordinator`] (heartbeats
//! → counts), [`actor`] (the shell), [`config`].
//!
//! ```text
//!   ping ──►  peer  ──► pong ──► accrual detector ─► up/down ─┐
//!   own critical actors ──► HealthMonitor ──► own report ─────┼─► healthy ─► gate ─► Verdict with a lease
//! ```

pub mod actor;
pub mod config;
pub mod coordinator;
pub mod gate;
pub mod message;
pub mod roster;
pub mod wire;

pub use actor::FederationActor;
pub use config::HeartbeatConfig;
pub use gate::{Decision, GateHold, GateReader, GateRecord, Halt, Verdict};
pub use message::{FederationMessage, FederationStatus};
pub use roster::Roster;
pub use wire::FederationWire;
