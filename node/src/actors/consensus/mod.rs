//! Runs consensus on a member: when a height starts, what the gate holds back, and which messages are sent.
//!
//! The protocol is [`BftCore`](crate::consensus::core::BftCore). [`height_driver`] decides when it may take a step, and
//! the [`actor`] applies the effects. While the gate is closed no step is taken: nothing is started, proposed, voted
//! for or signed. Incoming messages are held, bounded, exactly as if this member were slow.

pub mod actor;
pub mod byzantine;
pub mod height_driver;
pub mod held;
pub mod message;
pub mod round_traces;
mod round_tracing;
#[cfg(test)]
mod simulation;

pub use actor::ConsensusActor;
pub use message::ConsensusMessage;
