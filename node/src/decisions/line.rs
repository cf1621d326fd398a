//! Defines a decision as a line of the log, and the errors of a line.

use alys_cluster::federation::{GateInputs, GateOutcome, GateRecord, decide};
use alys_cluster::id::Incarnation;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A decision with all its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionLine {
    /// Incarnation of the member that decided.
    pub incarnation: u64,
    /// Sequence number of the decision within the incarnation, from 1.
    pub sequence: u64,
    /// Time of the decision on the member's clock, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Earlier decisions of this incarnation that are missing from the log.
    pub dropped: u64,
    /// Inputs of the decision.
    pub inputs: GateInputs,
    /// Result of the decision.
    pub outcome: GateOutcome,
}

/// Why a line is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// The line does not have the form that members write.
    #[error("is no decision: {0}")]
    Shape(String),
    /// The inputs give a different result.
    #[error("is otherwise than its inputs say: {found} stands where they give {expected}")]
    Differs {
        /// Text in the line, from the first difference on.
        found: String,
        /// Text that the inputs give, from there on.
        expected: String,
    },
}

/// Maximum number of characters shown of a difference.
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

    /// The line as it is written, without its newline.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a decision has string keys and whole numbers only")
    }

    /// Reads a line and decides again from its inputs; the result must be the same bytes.
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
