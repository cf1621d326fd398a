//! The chain: blocks on disk, and the head that everyone else reads without asking.

pub mod actor;
pub mod message;

pub use actor::{ChainActor, HeadReader};
pub use message::{ChainMessage, Reader};
