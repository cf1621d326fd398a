//! Catches up: fetches blocks that other members decided while this one was away.
//!
//! It decides which member to ask for which blocks, and serves others. It never judges a block: consensus verifies each
//! certificate and executes each block before it adds it.

pub mod actor;
pub mod message;
pub mod state;

pub use actor::SyncActor;
pub use message::{SyncMessage, SyncWire};
