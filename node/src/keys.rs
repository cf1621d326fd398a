//! BLS keys (`min_pk`: public keys of 48 bytes in G1, signatures of 96 bytes in G2) and their files.
//!
//! A key file contains only the secret key, as hexadecimal. If other users have access to it, it is rejected and its
//! permissions are not repaired, because the key may already have been read. Secrets are wiped when dropped and never
//! printed.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use blst::{BLST_ERROR, min_pk};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};
use crate::storage::files::create_new;

/// Domain separation tag of consensus signatures (proof-of-possession ciphersuite).
const SIGNATURE_TAG: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
/// Domain separation tag of proofs of possession.
const POSSESSION_TAG: &[u8] = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Domain separation tag of health attestations: such a signature is never valid in consensus.
const ATTESTATION_TAG: &[u8] = b"ALYS_HEALTH_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Domain separation tag of link certificates.
const LINK_TAG: &[u8] = b"ALYS_LINK_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Maximum number of bytes read from a key file: a key and white space.
const TEXT_BYTES_MAX: u64 = 1_024;

/// Length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 96;
/// Length of a public key, in bytes.
pub const PUBLIC_KEY_BYTES: usize = 48;

/// Why a key, a proof or a key file is rejected.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Reading or writing the file failed.
    #[error("key file {path}: {source}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file cannot be opened, or other users have access to it.
    #[error(transparent)]
    Unfit(#[from] SecretFileError),
    /// The file does not contain a valid key.
    #[error("key file {path}: {source}")]
    Content {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the content.
        #[source]
        source: Box<KeyError>,
    },
    /// The text does not have the expected number of hexadecimal characters.
    #[error("{what} has {found} hexadecimal characters; expected {expected}")]
    Length {
        /// Name of the value.
        what: &'static str,
        /// Number of characters found.
        found: usize,
        /// Number of characters expected.
        expected: usize,
    },
    /// The text contains characters that are not hexadecimal digits.
    #[error("{0} holds a character that is not a hexadecimal digit")]
    Digits(&'static str),
    /// The bytes are not a point of the right group, or not a scalar of the field.
    #[error("{0} is not valid: {1}")]
    Invalid(&'static str, String),
    /// The proof of possession does not belong to this public key.
    #[error("the proof of possession does not belong to this public key")]
    Possession,
}

fn blst_error(error: BLST_ERROR) -> String {
    format!("{error:?}").trim_start_matches("BLST_").to_lowercase().replace('_', " ")
}

fn from_hex<const N: usize>(what: &'static str, text: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    if text.len() != N * 2 {
        return Err(KeyError::Length { what, found: text.len(), expected: N * 2 });
    }
    let mut bytes = Zeroizing::new([0; N]);
    hex::decode_to_slice(text, bytes.as_mut()).map_err(|_| KeyError::Digits(what))?;
    Ok(bytes)
}

/// Public key: on the curve, in the group, and not the identity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(min_pk::PublicKey);

impl PublicKey {
    /// Parses 96 hexadecimal characters and checks the group.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(from_hex::<PUBLIC_KEY_BYTES>("the public key", text)?.as_ref())
    }

    /// Parses 48 bytes and checks the group.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        min_pk::PublicKey::key_validate(bytes)
            .map(Self)
            .map_err(|e| KeyError::Invalid("the public key", blst_error(e)))
    }

    /// Returns the compressed point.
    pub fn to_bytes(self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.to_bytes()
    }

    /// Verifies a consensus signature by this key over `message`. Takes about a millisecond.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        #[cfg(test)]
        if cheap::is_on() {
            return cheap::sign(self, message) == *signature;
        }
        self.verify_tagged(message, signature, SIGNATURE_TAG)
    }

    /// Verifies a signature by this key over a health attestation.
    pub fn verify_attestation(&self, message: &[u8], signature: &Signature) -> bool {
        self.verify_tagged(message, signature, ATTESTATION_TAG)
    }

    /// Verifies a signature by this key over a statement that names a link key.
    pub fn verify_link(&self, message: &[u8], signature: &Signature) -> bool {
        self.verify_tagged(message, signature, LINK_TAG)
    }

    fn verify_tagged(&self, message: &[u8], signature: &Signature, tag: &[u8]) -> bool {
        min_pk::Signature::from_bytes(&signature.0).is_ok_and(|signature| {
            signature.verify(true, message, tag, &[], &self.0, false) == BLST_ERROR::BLST_SUCCESS
        })
    }

    /// Verifies a proof of possession, given as 192 hexadecimal characters.
    pub fn verify_possession(&self, proof: &str) -> Result<(), KeyError> {
        let what = "the proof of possession";
        let bytes = from_hex::<SIGNATURE_BYTES>(what, proof)?;
        let proof = min_pk::Signature::from_bytes(bytes.as_ref())
            .map_err(|e| KeyError::Invalid(what, blst_error(e)))?;
        match proof.verify(true, &self.to_bytes(), POSSESSION_TAG, &[], &self.0, false) {
            BLST_ERROR::BLST_SUCCESS => Ok(()),
            _ => Err(KeyError::Possession),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", &self.to_string()[..8])
    }
}

/// Signature in wire form: 96 bytes, checked only on verification.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl Signature {
    /// Aggregates signatures over one message. Fails if one of them is not a point of the curve.
    pub fn aggregate<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Result<Self, KeyError> {
        #[cfg(test)]
        if cheap::is_on() {
            return Ok(cheap::aggregate(parts.into_iter().copied()));
        }
        let invalid = |e| KeyError::Invalid("a signature of the aggregate", blst_error(e));
        let points: Vec<_> = parts
            .into_iter()
            .map(|part| min_pk::Signature::from_bytes(&part.0))
            .collect::<Result<_, _>>()
            .map_err(invalid)?;
        let points: Vec<_> = points.iter().collect();
        let sum = min_pk::AggregateSignature::aggregate(&points, true).map_err(invalid)?;
        Ok(Self(sum.to_signature().to_bytes()))
    }

    /// Whether this is the aggregate signature of all `keys` over `message`.
    ///
    /// Sound only if possession of every key was proved, which is the case for each [`PublicKey`] of a checked
    /// [`Genesis`](crate::genesis::Genesis).
    pub fn verify_aggregate<'a>(
        &self,
        message: &[u8],
        keys: impl IntoIterator<Item = &'a PublicKey>,
    ) -> bool {
        #[cfg(test)]
        if cheap::is_on() {
            return cheap::aggregate(keys.into_iter().map(|key| cheap::sign(key, message))) == *self;
        }
        let keys: Vec<_> = keys.into_iter().map(|key| &key.0).collect();
        !keys.is_empty()
            && min_pk::Signature::from_bytes(&self.0).is_ok_and(|signature| {
                signature.fast_aggregate_verify(true, message, SIGNATURE_TAG, &keys)
                    == BLST_ERROR::BLST_SUCCESS
            })
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| {
            serde::de::Error::custom(format!(
                "a signature has {} bytes; expected {SIGNATURE_BYTES}",
                bytes.len()
            ))
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(&self.0[..4]))
    }
}

/// Secret key. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct SecretKey(min_pk::SecretKey);

impl SecretKey {
    /// Derives a key from 32 bytes of randomness.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(min_pk::SecretKey::key_gen(seed, &[]).expect("32 bytes of key material are enough"))
    }

    /// Generates a key from the operating system's randomness.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// Public half of the key.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.sk_to_pk())
    }

    /// Signs `message` for consensus. Deterministic: equal messages give equal signatures.
    pub fn sign(&self, message: &[u8]) -> Signature {
        #[cfg(test)]
        if cheap::is_on() {
            return cheap::sign(&cheap::public_key(self), message);
        }
        Signature(self.0.sign(message, SIGNATURE_TAG, &[]).to_bytes())
    }

    /// Signs a health attestation of this member.
    pub fn sign_attestation(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message, ATTESTATION_TAG, &[]).to_bytes())
    }

    /// Signs a statement that a link key, which `message` names, belongs to this member.
    pub fn sign_link(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message, LINK_TAG, &[]).to_bytes())
    }

    /// Proves possession of this key; returns hexadecimal for a genesis file.
    pub fn prove_possession(&self) -> String {
        hex::encode(self.0.sign(&self.public_key().to_bytes(), POSSESSION_TAG, &[]).to_bytes())
    }

    /// Writes the key atomically to a new file with mode 0600. An existing file is never overwritten.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let file_error = |source| KeyError::File { path: path.into(), source };
        let text = Zeroizing::new(hex::encode(self.0.to_bytes()) + "\n");
        create_new(path, text.as_bytes()).map_err(file_error)
    }

    /// Reads a key file; rejects one that other users have access to.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let file_error = |source| KeyError::File { path: path.into(), source };
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX as usize + 1));
        let file = secret_file::open("key", path, false)?;
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(file_error)?;
        let content = |source| KeyError::Content { path: path.into(), source: Box::new(source) };
        let bytes = from_hex::<32>("the secret key", text.trim_end()).map_err(content)?;
        min_pk::SecretKey::from_bytes(bytes.as_ref())
            .map(Self)
            .map_err(|e| content(KeyError::Invalid("the secret key", blst_error(e))))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}
/// Fake signatures that cost only a hash, for simulations of many seeds. Anyone who knows a public key can forge them.
#[cfg(test)]
pub(crate) mod cheap {
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    use sha2::{Digest as _, Sha256};

    use super::{PublicKey, SIGNATURE_BYTES, SecretKey, Signature};

    thread_local! {
        static ON: Cell<bool> = const { Cell::new(false) };
        static PUBLIC_KEYS: RefCell<HashMap<[u8; 32], PublicKey>> = RefCell::default();
    }

    /// Enables fake signatures in the current thread.
    pub(crate) fn switch_on() {
        ON.set(true);
    }

    pub(super) fn is_on() -> bool {
        ON.get()
    }

    pub(super) fn public_key(key: &SecretKey) -> PublicKey {
        PUBLIC_KEYS
            .with_borrow_mut(|known| *known.entry(key.0.to_bytes()).or_insert_with(|| key.public_key()))
    }

    pub(super) fn sign(key: &PublicKey, message: &[u8]) -> Signature {
        let hash = Sha256::new_with_prefix(key.to_bytes()).chain_update(message).finalize();
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..32].copy_from_slice(&hash);
        Signature(bytes)
    }

    pub(super) fn aggregate(parts: impl Iterator<Item = Signature>) -> Signature {
        let mut sum = Signature([0; SIGNATURE_BYTES]);
        for part in parts {
            sum.0.iter_mut().zip(part.0).for_each(|(byte, other)| *byte ^= other);
        }
        sum
    }
}
