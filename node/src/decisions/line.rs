//! One decision as a line of the log, and what is wrong with one.

use alys_cluster::federation::{GateInputs, GateOutcome, GateRecord, decide};
use alys_cluster::id::Incarnation;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One decision with everything it was taken from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionLine {
    /// Which start of the member decided.
    pub incarnation: u64,
    /// Counts the incarnation's decisions from 1.
    pub sequence: u64,
    /// When it was taken, in milliseconds since the Unix epoch on the member's clock.
    pub at_ms: u64,
    /// Decisions of this incarnation before this one that are not in the log.
    pub dropped: u64,
    /// Everything it was taken from.
    pub inputs: GateInputs,
    /// Everything that was decided.
    pub outcome: GateOutcome,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// Not what a member writes.
    #[error("is no decision: {0}")]
    Shape(String),
    /// The inputs give something else.
    #[error("is otherwise than its inputs say: {found} stands where they give {expected}")]
    Differs {
        /// What stands there, from the first difference on.
        found: String,
        /// What the inputs give, from there on.
        expected: String,
    },
}

/// Characters of a difference that are shown.
const SHOWN: usize = 40;

impl DecisionLine {
    /// The line for `record`.
    pub fn of(record: &GateRecord, incarnation: Incarnation, dropped: u64) -> Self {
        Self {
            incarnation: incarnation.0,
            sequence: record.sequence,
            at_ms: record.at.0,
            dropped,
            inputs: (*record.inputs).clone(),
            outcome: (*record.outcome).clone(),
        }
    }

    /// The line as it is written, without its end.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a decision has string keys and whole numbers only")
    }

    /// Reads a line and decides anew from its inputs: the same bytes must come of it.
    pub fn replay(text: &[u8]) -> Result<Self, LineError> {
        let line: Self = serde_json::from_slice(text).map_err(|error| LineError::Shape(error.to_string()))?;
        let line = Self { outcome: decide(&line.inputs), ..line };
        let again = line.to_text();
        if again.as_bytes() == text {
            return Ok(line);
        }
        let same = again.bytes().zip(text).take_while(|(one, other)| one == *other).count();
        let show = |bytes: &[u8]| {
            let end = bytes.len().min(same + SHOWN);
            format!("{:?}", String::from_utf8_lossy(&bytes[same.min(end)..end]))
        };
        Err(LineError::Differs { found: show(text), expected: show(again.as_bytes()) })
    }
}
