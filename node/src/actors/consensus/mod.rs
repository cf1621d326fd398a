//! Consensus as a member does it: when a height begins, what the gate holds up, and who is told.
//!
//! The protocol is [`BftCore`](crate::consensus::core::BftCore); [`height_driver`] decides when it may take a
//! step, and the [`actor`] does what follows. While the gate is closed no step is taken: nothing is started,
//! proposed, voted for or signed, and what arrives is held, bounded, exactly as if this member were slow.

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
