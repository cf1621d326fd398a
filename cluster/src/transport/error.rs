//! Defines why an envelope was not sent or a request has no answer.

use thiserror::Error;

use crate::id::NodeId;

/// Why an envelope was not sent. Nothing of it reached the peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsent {
    /// There is no link at present.
    #[error("there is no link to {0}")]
    NoLink(NodeId),
    /// The send queue is full.
    #[error(
        "the queue to {peer} is full; expected at most {frames_max} messages of {bytes_max} bytes together"
    )]
    Full {
        /// Peer the queue belongs to.
        peer: NodeId,
        /// Maximum number of queued messages.
        frames_max: usize,
        /// Maximum number of queued bytes.
        bytes_max: usize,
    },
    /// Too many requests and watches are pending.
    #[error("{under_way_max} questions and watches are under way; expected fewer")]
    TooMany {
        /// Maximum number of pending requests and watches.
        under_way_max: usize,
    },
    /// The message is larger than the limit.
    #[error("{0}")]
    TooLarge(String),
    /// The peer speaks an older version.
    #[error("{peer} speaks version {spoken} of the link; expected at least {first}")]
    Version {
        /// Peer the message was for.
        peer: NodeId,
        /// First version that supports the message.
        first: u32,
        /// Version agreed with the peer.
        spoken: u32,
    },
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// The request was not sent.
    #[error(transparent)]
    Unsent(#[from] Unsent),
    /// The peer declined to answer, with this reason.
    #[error("{0}")]
    Refused(String),
    /// No answer arrived; whether the request was handled is unknown.
    #[error("{0}")]
    Unknown(String),
}
