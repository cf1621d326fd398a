//! Byzantine fault tolerant consensus of the federation: Malachite's core, driven by effects.
//!
//! It decides the block of each height together with the other members, and never signs two different things
//! for one height, round and step: votes are logged before they are sent, and the signer [`guard`] refuses a
//! conflict even if everything else is wrong. The health gate halts it; the quorum is the protocol's own and
//! is never lowered by health.
//!
//! Malachite's core is alpha software without an audit; `docs/adr/0001-consensus-core.md` says why it is used
//! nevertheless, behind [`core::BftCore`].
//!
//! Reading order: [`block`], [`context`] (what Malachite must be told about a federation), [`message`],
//! [`certificate`], [`guard`], [`log`], [`evidence`], [`received`], [`core`], [`pacing`], [`config`].

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
