//! Defines the genesis: what every member agrees on before the first block.
//!
//! It contains the chain id, the members with their public keys, and the time between blocks. It never changes: another
//! set of members is another chain. Every public key comes with a proof of possession; otherwise a member could choose
//! its key as a function of the others' keys and forge an aggregate signature (rogue-key attack;
//! draft-irtf-cfrg-bls-signature §3.3).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_cluster::id::NodeId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::consensus::BlockHash;
use crate::consensus::guard;
use crate::keys::{KeyError, PublicKey};

/// Minimum number of members of a federation: n = 3f + 1 with f = 1.
pub const MEMBERS_MIN: usize = 4;
/// Maximum number of members: the number of bits of a certificate's bitmap.
pub const MEMBERS_MAX: usize = 64;

/// One member of the genesis file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisMember {
    /// Name of the member, unique in the federation.
    pub name: NodeId,
    /// BLS public key of the member (G1, compressed, 48 bytes as hexadecimal).
    pub public_key: String,
    /// The member's signature over its own public key under the proof-of-possession tag (96 bytes as hexadecimal).
    pub proof_of_possession: String,
}

/// Unchecked content of the genesis file: TOML, unknown keys are rejected. [`Genesis::from_file`] returns the checked
/// form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// Chain id, part of every signed message; 1 to 64 printable ASCII characters.
    pub chain_id: String,
    /// Time between blocks, 200 ms to 60 s.
    #[serde(with = "humantime_serde")]
    pub block_time: Duration,
    /// Members, in the order of proposer rotation and of certificate bitmaps.
    pub members: Vec<GenesisMember>,
}

/// Why a genesis is rejected.
#[derive(Debug, Error)]
pub enum GenesisError {
    /// Reading the file failed.
    #[error("genesis file {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The file is not TOML of the expected shape.
    #[error("genesis file {path}: {source}")]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Position and reason of the error.
        source: Box<toml::de::Error>,
    },
    /// A field's value is out of range.
    #[error("genesis field `{field}` is {value:?}; expected {expected}")]
    Field {
        /// Path of the field.
        field: String,
        /// Value found.
        value: String,
        /// Values that are accepted.
        expected: &'static str,
    },
    /// A member's key or proof of possession is invalid.
    #[error("genesis field `members[{index}].{field}` (member {name}): {source}")]
    Key {
        /// Index of the member.
        index: usize,
        /// Name of the member's field.
        field: &'static str,
        /// Name of the member.
        name: NodeId,
        /// What is wrong with the value.
        source: KeyError,
    },
}

/// Member whose key and proof of possession have been checked.
#[derive(Clone, Debug)]
pub struct Member {
    /// Name of the member.
    pub name: NodeId,
    /// Public key of the member: a valid point of the group with a valid proof of possession.
    pub public_key: PublicKey,
}

/// Checked genesis: every key in it is valid, and its member has proved possession.
#[derive(Clone, Debug)]
pub struct Genesis {
    chain_id: String,
    block_time: Duration,
    members: Vec<Member>,
    hash: [u8; 32],
}

impl Genesis {
    /// Reads and checks a genesis file.
    pub fn from_file(path: &Path) -> Result<Self, GenesisError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| GenesisError::Read { path: path.into(), source })?;
        let file: GenesisFile = toml::from_str(&text)
            .map_err(|source| GenesisError::Parse { path: path.into(), source: Box::new(source) })?;
        Self::check(&file)
    }

    /// Checks every field, every key and every proof of possession.
    pub fn check(file: &GenesisFile) -> Result<Self, GenesisError> {
        let field = |field: &str, value: &dyn std::fmt::Display, expected| GenesisError::Field {
            field: field.to_owned(),
            value: value.to_string(),
            expected,
        };
        let id = &file.chain_id;
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(field("chain_id", id, "1 to 64 printable ASCII characters without spaces"));
        }
        if !(Duration::from_millis(200)..=Duration::from_mins(1)).contains(&file.block_time) {
            let value = humantime::format_duration(file.block_time);
            return Err(field("block_time", &value, "between 200ms and 60s"));
        }
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&file.members.len()) {
            return Err(field("members", &file.members.len(), "4 to 64 members"));
        }
        let mut names = BTreeSet::new();
        let mut keys = BTreeSet::new();
        let mut members = Vec::with_capacity(file.members.len());
        for (index, member) in file.members.iter().enumerate() {
            if !names.insert(&member.name) {
                return Err(field(&format!("members[{index}].name"), &member.name, "a name used once"));
            }
            let key_error = |field| {
                let name = member.name.clone();
                move |source| GenesisError::Key { index, field, name, source }
            };
            let public_key = PublicKey::from_hex(&member.public_key).map_err(key_error("public_key"))?;
            if !keys.insert(public_key.to_bytes()) {
                let name = format!("members[{index}].public_key");
                return Err(field(&name, &member.public_key, "a key used once"));
            }
            public_key
                .verify_possession(&member.proof_of_possession)
                .map_err(key_error("proof_of_possession"))?;
            members.push(Member { name: member.name.clone(), public_key });
        }
        let hash = hash(file, &members);
        Ok(Self { chain_id: file.chain_id.clone(), block_time: file.block_time, members, hash })
    }

    /// Chain id, part of every signed message.
    pub fn chain_id(&self) -> &str {
        &self.chain_id
    }

    /// Time between blocks.
    pub fn block_time(&self) -> Duration {
        self.block_time
    }

    /// Members in genesis order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Identity of a member's journal and chain; `None` if there is no member of this name.
    pub fn identity_of(&self, name: &NodeId) -> Option<BlockHash> {
        let member = self.members.iter().find(|member| member.name == *name)?;
        Some(guard::identity(self.hash(), &member.public_key))
    }

    /// Index of a member in the genesis order.
    pub fn index_of(&self, name: &NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.name == *name)
    }

    /// SHA-256 over all fields: members with different genesis files detect it.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Number of members that a decision needs: more than two thirds, which is 3 of 4.
    pub fn quorum(&self) -> usize {
        self.members.len() * 2 / 3 + 1
    }
}

fn hash(file: &GenesisFile, members: &[Member]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"alys/genesis/1");
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    field(file.chain_id.as_bytes());
    field(&file.block_time.as_nanos().to_be_bytes());
    for member in members {
        field(member.name.as_str().as_bytes());
        field(&member.public_key.to_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::keys::SecretKey;

    /// Secret key of the test member with this `index`.
    pub(crate) fn secret(index: u8) -> SecretKey {
        SecretKey::from_seed(&[index + 1; 32])
    }

    pub(crate) fn file() -> GenesisFile {
        let members = (0..4).map(|index| GenesisMember {
            name: NodeId::new(&format!("node-{}", index + 1)).expect("a name"),
            public_key: secret(index).public_key().to_string(),
            proof_of_possession: secret(index).prove_possession(),
        });
        GenesisFile {
            chain_id: "alys-test".to_owned(),
            block_time: Duration::from_secs(2),
            members: members.collect(),
        }
    }

    /// A genesis of four test members.
    pub(crate) fn genesis() -> Genesis {
        Genesis::check(&file()).expect("the test genesis holds")
    }

    #[test]
    fn a_genesis_written_as_toml_reads_back_to_the_same_hash() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("genesis.toml");
        std::fs::write(&path, toml::to_string(&file()).expect("serialises")).expect("writes");
        assert_eq!(Genesis::from_file(&path).expect("reads").hash(), genesis().hash());
        assert_eq!(genesis().quorum(), 3);
    }

    #[test]
    fn every_wrong_field_is_named_with_what_was_expected() {
        type Change = fn(&mut GenesisFile);
        let changes: [(&str, Change); 9] = [
            ("`chain_id` is \"\"", |f| f.chain_id.clear()),
            ("`chain_id` is \"a b\"", |f| f.chain_id = "a b".into()),
            ("`block_time` is \"10ms\"; expected between 200ms and 60s", |f| {
                f.block_time = Duration::from_millis(10);
            }),
            ("`members` is \"3\"; expected 4 to 64 members", |f| f.members.truncate(3)),
            ("`members[3].name` is \"node-1\"; expected a name used once", |f| {
                f.members[3].name = f.members[0].name.clone();
            }),
            ("`members[3].public_key`", |f| {
                f.members[3] = GenesisMember { name: f.members[3].name.clone(), ..f.members[0].clone() }
            }),
            (
                "`members[1].public_key` (member node-2): the public key has 4 hexadecimal characters; expected 96",
                |f| {
                    f.members[1].public_key = "beef".into();
                },
            ),
            (
                "`members[2].proof_of_possession` (member node-3): the proof of possession does not belong",
                |f| {
                    f.members[2].proof_of_possession = f.members[1].proof_of_possession.clone();
                },
            ),
            ("`members[2].proof_of_possession` (member node-3): the proof of possession is not valid", |f| {
                f.members[2].proof_of_possession = "ff".repeat(96);
            }),
        ];
        for (expected, change) in changes {
            let mut file = file();
            change(&mut file);
            let error = Genesis::check(&file).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let text = toml::to_string(&file()).expect("serialises").replace("chain_id", "chain_name");
        let error = toml::from_str::<GenesisFile>(&text).expect_err("unknown key").to_string();
        assert!(error.contains("chain_name"), "{error}");
    }
}
