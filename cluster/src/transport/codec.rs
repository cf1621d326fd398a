//! Encodes and decodes messages with bincode 2, standard configuration; no other module depends on the wire encoding.
//!
//! Decoding never panics, rejects more than [`MESSAGE_BYTES_MAX`], and must consume every byte. bincode is no longer
//! developed; `docs/adr/0002-bincode.md` explains why it is used and how to replace it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest encoded value accepted or produced, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why a value could not be encoded or decoded.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The encoded value exceeds [`MESSAGE_BYTES_MAX`].
    #[error("the message has {bytes} bytes; expected at most {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Size of the encoded value, in bytes.
        bytes: usize,
    },
    /// The value can not be encoded.
    #[error("the message could not be encoded: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes do not encode a value of the requested type.
    #[error("the message could not be decoded: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// The bytes are not the shortest encoding of the value.
    #[error("the message is not written as short as it can be")]
    NotCanonical,
    /// Bytes follow the encoded value.
    #[error("the message ends after {used} of {bytes} bytes")]
    Trailing {
        /// Number of bytes consumed.
        used: usize,
        /// Number of bytes given.
        bytes: usize,
    },
}

/// Decodes `bytes` and rejects any encoding but the canonical one. Use it for values that are hashed or signed, so that
/// each has exactly one encoding.
pub fn decode_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let value = decode(bytes)?;
    if encode(&value)? == bytes { Ok(value) } else { Err(CodecError::NotCanonical) }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>()
}

/// Encodes `value`.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(value, config())?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes one value from `bytes` and rejects trailing bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    let (value, used) = bincode::serde::decode_from_slice(bytes, config())?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing { used, bytes: bytes.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    /// Covers the kinds of fields that messages have.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Nothing,
        Some { name: String, number: u64, bytes: Vec<u8>, perhaps: Option<(u32, bool)> },
    }

    fn sample() -> Sample {
        Sample::Some { name: "node-1".to_owned(), number: 300, bytes: vec![7, 8], perhaps: Some((5, true)) }
    }

    #[test]
    fn the_bytes_of_a_value_stay_what_they_are() {
        let golden = "01066e6f64652d31fb2c01020708010501";
        let bytes = encode(&sample()).expect("encodes");
        let hex = format!("{bytes:02x?}").replace(['[', ']', ',', ' '], "");
        assert_eq!(hex, golden);
        assert_eq!(decode::<Sample>(&bytes).expect("decodes"), sample());
        assert_eq!(encode(&Sample::Nothing).expect("encodes"), [0]);
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&sample()).expect("encodes");
        bytes.push(0);
        assert!(matches!(decode::<Sample>(&bytes), Err(CodecError::Trailing { .. })));
    }

    #[test]
    fn a_number_written_longer_than_it_must_be_is_read_but_is_not_canonical() {
        // 5 as a two-byte integer.
        let bytes = [0xfb, 5, 0];
        assert_eq!(decode::<u64>(&bytes).expect("it is 5"), 5);
        assert!(matches!(decode_canonical::<u64>(&bytes), Err(CodecError::NotCanonical)));
        assert_eq!(decode_canonical::<u64>(&[5]).expect("it is 5"), 5);
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
            let _ = decode::<Vec<Sample>>(&bytes);
        }

        #[test]
        fn damaged_values_never_panic(at in any::<usize>(), to in any::<u8>()) {
            let mut bytes = encode(&vec![sample(), sample()]).expect("encodes");
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode::<Vec<Sample>>(&bytes);
        }

        #[test]
        fn what_is_read_canonically_has_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode_canonical::<Sample>(&bytes) {
                prop_assert_eq!(encode(&value).expect("it was read"), bytes);
            }
        }
    }
}
