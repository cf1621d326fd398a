//! The engine: executes blocks, keeps the transaction pool, and forwards new transactions to the other members.

pub mod actor;
pub mod message;

pub use actor::EngineActor;
pub use message::{EngineMessage, EngineWire};
