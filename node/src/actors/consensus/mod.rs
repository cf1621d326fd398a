//! Consensus as a member does it: when a height begins, what the gate holds up, and who is told.
//!
//! The protocol is [`BftCore`](crate::consensus::core::BftCore); [`conductor`] decides when it may take a
//! step, and the [`actor`] does what follows. While the gate is closed no step is taken: nothing is started,
//! proposed, voted for or signed, and what arrives is held, bounded, exactly as if this member were slow.

pub mod actor;
pub mod byzantine;
pub mod conductor;
pub mod held;
pub mod message;
#[cfg(test)]
mod simulation;
mod telling;
pub mod trace;

pub use actor::ConsensusActor;
pub use message::ConsensusMessage;
