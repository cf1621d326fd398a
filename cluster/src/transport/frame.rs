//! Splits a connection into frames: `length: u32 | kind: u8 | body`, the length in network order and excluding itself.
//!
//! Each kind has its own size limit, and before the hello at most a hello's size is read. A frame kind that the agreed
//! version does not know ends the connection: only fields are optional, frames never are.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use tokio_util::codec::LengthDelimitedCodec;

use super::codec::MESSAGE_BYTES_MAX;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Identity and supported versions of the sender. The first frame of each side, and only the first.
    Hello = 0,
    /// Reason why the sender is about to close the connection.
    ConnectionRefusal = 1,
    /// Bytes of `ractor_cluster`'s own stream.
    Control = 2,
    /// Asks for a [`Self::Pong`] with the same body.
    Ping = 3,
    /// Answer to a ping.
    Pong = 4,
    /// One envelope.
    Envelope = 5,
    /// Messages about two processes that hold one member's key. Sent only to peers whose hello names their instance.
    Identity = 6,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Hello,
        Self::ConnectionRefusal,
        Self::Control,
        Self::Ping,
        Self::Pong,
        Self::Envelope,
        Self::Identity,
    ];

    /// Maximum size of the body, in bytes.
    pub const fn body_max(self) -> usize {
        match self {
            Self::Hello | Self::ConnectionRefusal | Self::Identity => 1_024,
            Self::Control => 64 * 1_024,
            Self::Ping | Self::Pong => 8,
            Self::Envelope => MESSAGE_BYTES_MAX + 1_024,
        }
    }
}

/// Number of bytes before the body.
pub const HEADER_BYTES: usize = 5;

/// Why bytes are not a valid frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The frame has no kind.
    #[error("an empty frame; expected a kind and a body")]
    Empty,
    /// The kind is unknown.
    #[error("a frame of kind {0}; expected 0 to 6")]
    Kind(u8),
    /// The body exceeds the kind's limit.
    #[error("a {kind:?} frame of {bytes} bytes; expected at most {} bytes", kind.body_max())]
    TooLarge {
        /// Kind of the frame.
        kind: Kind,
        /// Size of its body, in bytes.
        bytes: usize,
    },
}

/// A received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Kind of the frame.
    pub kind: Kind,
    /// Body of the frame.
    pub body: Bytes,
}

impl Frame {
    /// Parses a frame without its length prefix.
    pub fn parse(mut bytes: BytesMut) -> Result<Self, FrameError> {
        if bytes.is_empty() {
            return Err(FrameError::Empty);
        }
        let body = bytes.split_off(1).freeze();
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == bytes[0]);
        let kind = kind.ok_or(FrameError::Kind(bytes[0]))?;
        if body.len() > kind.body_max() {
            return Err(FrameError::TooLarge { kind, bytes: body.len() });
        }
        Ok(Self { kind, body })
    }
}

/// Appends the header of a frame whose body of `bytes` bytes the caller appends next.
pub fn put_header(kind: Kind, bytes: usize, into: &mut BytesMut) {
    debug_assert!(bytes <= kind.body_max());
    into.put_u32(bytes as u32 + 1);
    into.put_u8(kind as u8);
}

/// Appends a frame.
pub fn put(kind: Kind, body: &[u8], into: &mut BytesMut) {
    put_header(kind, body.len(), into);
    into.extend_from_slice(body);
}

/// Creates a codec that splits a stream into frames, and rejects a length above the limit of `largest` before buffering
/// its body.
pub fn lengths(largest: Kind) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(largest.body_max() + 1).new_codec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio_util::codec::Decoder as _;

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_arrive() {
        let sent = [(Kind::Hello, &b"hello"[..]), (Kind::Ping, b"12345678"), (Kind::Envelope, b"")];
        let mut wire = BytesMut::new();
        for (kind, body) in sent {
            put(kind, body, &mut wire);
        }
        let (mut lengths, mut arrived, mut found) = (lengths(Kind::Envelope), BytesMut::new(), vec![]);
        for byte in wire {
            arrived.put_u8(byte);
            while let Some(frame) = lengths.decode(&mut arrived).expect("lengths within limits") {
                found.push(Frame::parse(frame).expect("a frame"));
            }
        }
        let found: Vec<_> = found.iter().map(|frame| (frame.kind, &frame.body[..])).collect();
        assert_eq!(found, sent);
    }

    #[test]
    fn a_length_of_two_gigabytes_is_refused_from_its_four_bytes() {
        let mut bytes = BytesMut::from(&(1u32 << 31).to_be_bytes()[..]);
        assert!(lengths(Kind::Hello).decode(&mut bytes).is_err());
        assert!(lengths(Kind::Envelope).decode(&mut bytes).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused_with_what_was_expected() {
        let parse = |bytes: &[u8]| Frame::parse(BytesMut::from(bytes)).map_err(|error| error.to_string());
        for (bytes, expected) in [
            (vec![], "an empty frame; expected a kind and a body"),
            (vec![9, 1], "a frame of kind 9; expected 0 to 6"),
            ([&[3][..], &[0; 9]].concat(), "a Ping frame of 9 bytes; expected at most 8 bytes"),
        ] {
            assert_eq!(parse(&bytes).expect_err("no frame"), expected);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let mut bytes = BytesMut::from(&bytes[..]);
            let mut lengths = lengths(Kind::Hello);
            while let Ok(Some(frame)) = lengths.decode(&mut bytes) {
                let _ = Frame::parse(frame);
            }
        }
    }
}
