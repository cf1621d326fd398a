//! The only place that knows wire bytes: bincode 2, standard configuration.
//!
//! Decoding never panics, refuses more than [`MESSAGE_BYTES_MAX`], and must consume every byte. bincode is
//! no longer developed; `docs/adr/0002-bincode.md` says why it is used and how to leave it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest encoded value accepted or produced, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why bytes are no message, or a message has no bytes.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The value is larger than a message may be.
    #[error("the message has {bytes} bytes; expected at most {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
    },
    /// The value has no encoding.
    #[error("the message could not be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes are not this type's.
    #[error("the message could not be decoded: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// Bytes are left over.
    #[error("the message ends after {used} of {bytes} bytes")]
    Trailing {
        /// Bytes consumed.
        used: usize,
        /// Bytes given.
        bytes: usize,
    },
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>()
}

/// The bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, config())?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// The value that `bytes`, all of them, stand for.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing { used, bytes: bytes.len() }) }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::{Batch, Envelope};
    use super::super::trace::TraceContext;
    use super::*;
    use crate::id::{ActorName, Incarnation, NodeId};
    use proptest::prelude::*;

    fn envelope() -> Envelope {
        Envelope {
            source: NodeId::new("node-1").expect("a name"),
            incarnation: Incarnation(300),
            destination: ActorName::literal("consensus"),
            trace: TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 },
            payload: vec![7, 8, 9],
        }
    }

    #[test]
    fn the_bytes_of_a_batch_stay_what_they_are() {
        let golden = "0101066e6f64652d31fb2c0109636f6e73656e737573\
                      01010101010101010101010101010101020202020202020201\
                      03070809";
        let batch = Batch::new(vec![envelope()]);
        let bytes = encode(&batch).expect("encodes");
        let hex = format!("{bytes:02x?}").replace(['[', ']', ',', ' '], "");
        assert_eq!(hex, golden);
        assert_eq!(decode::<Batch>(&bytes).expect("decodes"), batch);
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&envelope()).expect("encodes");
        bytes.push(0);
        assert!(matches!(decode::<Envelope>(&bytes), Err(CodecError::Trailing { .. })));
    }

    #[test]
    fn a_length_of_almost_everything_is_refused_without_allocating_it() {
        let bytes = [&[0xfd][..], &u64::MAX.to_le_bytes()[..], &[0; 32]].concat();
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_value_larger_than_a_message_is_not_encoded() {
        assert!(encode(&vec![0u8; MESSAGE_BYTES_MAX]).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = decode::<Batch>(&bytes);
        }

        #[test]
        fn damaged_messages_never_panic(at in 0usize..60, to in any::<u8>()) {
            let mut bytes = encode(&Batch::new(vec![envelope(), envelope()])).expect("encodes");
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode::<Batch>(&bytes);
        }
    }
}
