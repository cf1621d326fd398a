//! Why something was not sent, or a question has no answer.

use thiserror::Error;

use crate::id::NodeId;

/// Why something was not sent. Nothing of it reached the peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsent {
    /// There is no link at present.
    #[error("there is no link to {0}")]
    NoLink(NodeId),
    /// Too much waits already.
    #[error(
        "the queue to {peer} is full; expected at most {frames_max} messages of {bytes_max} bytes together"
    )]
    Full {
        /// To whom.
        peer: NodeId,
        /// Messages that may wait.
        frames_max: usize,
        /// Bytes that may wait.
        bytes_max: usize,
    },
    /// Too many questions and watches are under way.
    #[error("{under_way_max} questions and watches are under way; expected fewer")]
    TooMany {
        /// Their bound.
        under_way_max: usize,
    },
    /// It is larger than a message may be.
    #[error("{0}")]
    TooLarge(String),
    /// The peer speaks an older version.
    #[error("{peer} speaks version {spoken} of the link; expected at least {first}")]
    Version {
        /// To whom.
        peer: NodeId,
        /// The first version that has it.
        first: u32,
        /// What is spoken.
        spoken: u32,
    },
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// It was not sent.
    #[error(transparent)]
    Unsent(#[from] Unsent),
    /// The peer answered that it does not answer.
    #[error("{0}")]
    Refused(String),
    /// No answer came; whether it was dealt with is not known.
    #[error("{0}")]
    Unknown(String),
}
