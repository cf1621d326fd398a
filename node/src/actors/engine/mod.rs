//! The engine: executes blocks, keeps the pool, and passes new transactions on to the other members.

pub mod actor;
pub mod message;

pub use actor::EngineActor;
pub use message::{EngineMessage, EngineWire};
