//! Determines which members of the federation are healthy, and whether work may continue, as seen by one member.
//!
//! This module decides which members of the configured roster are healthy, and from their number alone what the
//! [`gate`] admits. The required number is a share of the roster, not of the visible members, and is never lowered: in
//! a 2|2 partition both sides halt. It sends to other members through an [`Outbox`](crate::port::Outbox) and does not
//! depend on the transport; it signs through a [`Signer`](crate::port::Signer) and does not depend on a curve.
//!
//! Reading order: [`wire`], [`message`], [`roster`], [`gate`] (counts → open or closed), [`decision`] (inputs →
//! outcome, replayable), [`verdict`] (outcome with a lease, and the log), [`attestation`] (forwarded statements),
//! `departure` (who may leave), [`coordinator`] (heartbeats → inputs), [`actor`] (the actor), [`config`].
//!
//! ```text
//!   ping ──► peer ──► pong ──► accrual detector ─► up/down ──┐
//!   probe ──► third member ──► silent peer ─► attestation ──┼─► healthy ─► decide ─► Verdict with a lease
//!   own critical actors ─► HealthMonitor ─► own report ─────┘               └─► log of inputs
//! ```

pub mod actor;
pub mod attestation;
pub mod config;
pub mod coordinator;
pub mod decision;
mod departure;
pub mod gate;
pub mod message;
pub mod roster;
#[cfg(test)]
mod simulation;
pub mod verdict;
pub mod wire;

pub use actor::FederationActor;
pub use config::{DemandConfig, HeartbeatConfig};
pub use decision::{GateInputs, GateOutcome, OperationClass, decide};
pub use departure::WISH_MAX;
pub use gate::Decision;
pub use message::{FederationMessage, FederationStatus, Staying};
pub use roster::{Roster, believed};
pub use verdict::{DecisionSink, GateClosed, GateHold, GateReader, GateRecord, SinkStats, Verdict};
pub use wire::FederationWire;
