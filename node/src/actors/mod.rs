//! The domain actors of a member. `alys-cluster` holds what every cluster needs (federation, health, links, telemetry);
//! this module holds what makes this cluster a blockchain.
//!
//! [`chain`] owns the block store, [`engine`] the execution engine and the transaction pool, [`consensus`] decides
//! blocks and is the only one that adds them, [`sync`] fetches missed blocks.
//!
//! Every folder has the same files: `message` (its messages), `state` (its decisions as pure code, where there are
//! any), `actor` (the actor itself).

pub mod chain;
pub mod consensus;
pub mod engine;
pub mod sync;
