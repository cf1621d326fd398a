//! Keeps a log of the gate's decisions that outlives the process.
//!
//! The gate keeps its last decisions in memory. A process that is killed loses them, and with them the reason why the
//! gate halted consensus or did not. [`mod@file`] appends each decision to a file in the data directory, and [`replay`]
//! decides every line again from its inputs. This module decides nothing about health, and no decision waits for it:
//! lines that do not fit into the queue are dropped and counted.
//!
//! ```text
//!   gate ──► queue ──► thread ──► decisions.jsonl ──full──► decisions.old.jsonl ──full──► gone
//!               └─ full: counted, and reported in the next line
//! ```
//!
//! The log survives the process, but not a power failure: unlike the signer's journal, it is not synced.
//!
//! Reading order: [`mod@line`], [`replay`], [`mod@file`].

pub mod file;
pub mod line;
pub mod replay;

pub use file::DecisionFile;
pub use replay::Replay;

/// Name of the file that is appended to, in the data directory.
pub const FILE: &str = "decisions.jsonl";
/// Name of the previous file.
pub const OLD_FILE: &str = "decisions.old.jsonl";
