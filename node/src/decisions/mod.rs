//! The log of the gate's decisions that outlives the process.
//!
//! The gate keeps its last decisions in memory; a killed process takes them along, and with them the answer to why
//! it halted, or did not. [`mod@file`] appends each to a file in the data directory, and [`replay`] decides every line
//! anew from its inputs. It decides nothing about health, and no decision waits for it: what does not fit into the
//! queue is dropped and counted.
//!
//! ```text
//!   gate ──► queue ──► thread ──► decisions.jsonl ──full──► decisions.old.jsonl ──full──► gone
//!               └─ full: counted, and told by the next line
//! ```
//!
//! What is written survives the process, not a loss of power: the signer's journal is synced, this log is not.
//!
//! Reading order: [`mod@line`], [`replay`], [`mod@file`].

pub mod file;
pub mod line;
pub mod replay;

pub use file::DecisionFile;
pub use replay::Replay;

/// The file that is appended to, in the data directory.
pub const FILE: &str = "decisions.jsonl";
/// The one before it.
pub const OLD_FILE: &str = "decisions.old.jsonl";
