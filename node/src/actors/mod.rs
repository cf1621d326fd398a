//! The domain actors of a member. What every cluster has (federation, health, links, telemetry) is in
//! `alys-cluster`; here is what makes this one a blockchain.
//!
//! [`chain`] owns the block store, [`engine`] the execution engine and the pool, [`consensus`] decides and is
//! the only one that adds blocks, [`sync`] fetches what was missed.
//!
//! Each folder has the same furniture: `message` (what it is told and asked), `state` (its decisions, pure,
//! where it has any), `actor` (the shell).

pub mod chain;
pub mod consensus;
pub mod engine;
pub mod sync;
