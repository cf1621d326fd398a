//! The chain: stores blocks on disk, and publishes the head that all others read without a message.

pub mod actor;
pub mod message;

pub use actor::{ChainActor, HeadReader};
pub use message::{ChainMessage, Reader};
