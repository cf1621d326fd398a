//! Decides blocks by Byzantine fault tolerant consensus: Malachite's core, driven by effects.
//!
//! Together with the other members it decides the block of each height. It never signs two different statements for one
//! height, round and step: votes are logged before they are sent, and the signer [`guard`] refuses a conflict even if
//! everything else is wrong. The health gate halts consensus; the quorum is the protocol's own, and health never lowers
//! it.
//!
//! Malachite's core is alpha software without an audit; `docs/adr/0001-consensus-core.md` explains why it is used
//! nevertheless, behind [`core::BftCore`].
//!
//! Reading order: [`block`], [`context`] (the federation in Malachite's types), [`message`], [`certificate`],
//! [`guard`], [`log`], [`evidence`], [`received`], [`core`], [`pacing`], [`config`].

pub mod block;
pub mod certificate;
pub mod config;
pub mod context;
pub mod core;
pub mod evidence;
pub mod guard;
pub mod log;
pub mod message;
pub mod pacing;
pub mod received;

pub use block::{Block, BlockHash, StateRoot};
pub use certificate::Certificate;
pub use config::ConsensusConfig;
