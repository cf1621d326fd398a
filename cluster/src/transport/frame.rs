//! The frames of a connection: `length: u32 | kind: u8 | body`, the length in network order and without itself.
//!
//! A kind has a limit of its own, and before the greeting only a greeting's bytes are read at all. Frames of a kind
//! that the agreed version does not know end the connection: what may be left out is a field, never a frame.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;
use tokio_util::codec::LengthDelimitedCodec;

use super::codec::MESSAGE_BYTES_MAX;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who speaks, and which versions it speaks. The first frame of each side, and no other.
    Hello = 0,
    /// Why the connection is about to be closed.
    ConnectionRefusal = 1,
    /// Bytes of `ractor_cluster`'s own stream.
    Control = 2,
    /// To be answered with the same body.
    Ping = 3,
    /// The answer.
    Pong = 4,
    /// One envelope.
    Envelope = 5,
    /// Whether two processes hold one member's key. Sent only to those whose greeting names their process.
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

    /// The largest body, in bytes.
    pub const fn body_max(self) -> usize {
        match self {
            Self::Hello | Self::ConnectionRefusal | Self::Identity => 1_024,
            Self::Control => 64 * 1_024,
            Self::Ping | Self::Pong => 8,
            Self::Envelope => MESSAGE_BYTES_MAX + 1_024,
        }
    }
}

/// Bytes before the body.
pub const HEADER_BYTES: usize = 5;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Not even a kind.
    #[error("an empty frame; expected a kind and a body")]
    Empty,
    /// No such kind.
    #[error("a frame of kind {0}; expected 0 to 6")]
    Kind(u8),
    /// More than this kind may have.
    #[error("a {kind:?} frame of {bytes} bytes; expected at most {} bytes", kind.body_max())]
    TooLarge {
        /// The kind.
        kind: Kind,
        /// Its body's bytes.
        bytes: usize,
    },
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The rest.
    pub body: Bytes,
}

impl Frame {
    /// The frame in these bytes, which have no length any more.
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

/// Finds frames in a stream; refuses a length above what `largest` may have before a byte of it is kept.
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
