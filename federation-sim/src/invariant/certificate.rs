//! Invariants of certificates: each belongs to its block, is signed by a quorum of the members, and verifies.

use std::collections::{BTreeMap, BTreeSet};

use alys_node::consensus::certificate::precommit_bytes;
use alys_node::keys::{PublicKey, Signature};
use alys_node::ops::view::{BlockView, GenesisView};

use super::InvariantResult;
use crate::record::Record;

/// Every certificate is for its block and is signed by at least the required number of the members it names. All
/// members agree on the roster.
pub(super) fn certificates_verify(record: &Record, finding: &mut InvariantResult) {
    let mut books: BTreeMap<&str, Book> = BTreeMap::new();
    let mut genesis_hashes = BTreeSet::new();
    for (name, member) in &record.members {
        for genesis in &member.genesis {
            genesis_hashes.insert(&genesis.hash);
            match Book::read(genesis) {
                Ok(book) => drop(books.insert(name, book)),
                Err(error) => finding.violations.push(format!("{name}: {error}")),
            }
        }
    }
    if genesis_hashes.len() > 1 {
        finding.violations.push(format!("members give different genesis hashes: {genesis_hashes:?}"));
    }
    // A certificate that several members have is verified once, because pairings are slow.
    let mut seen = BTreeSet::new();
    for (name, block) in record.blocks() {
        let certificate = &block.certificate;
        let key = (block.height, &block.hash, &certificate.signature, certificate.bitmap, certificate.round);
        if !seen.insert((key, &certificate.signers, &certificate.block)) {
            continue;
        }
        let verified = match books.get(name) {
            Some(book) => book.verify(block, record.required),
            None => Err("its genesis was never read".to_owned()),
        };
        finding.fact(verified.is_ok(), || {
            let why = verified.err().unwrap_or_default();
            format!("{name}: the certificate of block {}: {why}", block.height)
        });
    }
}

/// Names and keys of the members, from genesis.
struct Book {
    chain_id: String,
    members: Vec<(String, PublicKey)>,
}

impl Book {
    fn read(genesis: &GenesisView) -> Result<Self, String> {
        let members = genesis.members.iter().map(|member| match PublicKey::from_hex(&member.public_key) {
            Ok(key) => Ok((member.name.clone(), key)),
            Err(error) => Err(format!("the public key of {} in its genesis: {error}", member.name)),
        });
        Ok(Self { chain_id: genesis.chain_id.clone(), members: members.collect::<Result<_, _>>()? })
    }

    fn verify(&self, block: &BlockView, required: usize) -> Result<(), String> {
        let certificate = &block.certificate;
        if certificate.block != block.hash {
            return Err(format!("it is for block {}; expected {}", certificate.block, block.hash));
        }
        if self.members.len() < 64 && certificate.bitmap >> self.members.len() != 0 {
            let (bitmap, members) = (certificate.bitmap, self.members.len());
            return Err(format!("its bitmap is {bitmap:#b}; expected at most {members} bits"));
        }
        let signers: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .filter(|(index, _)| *index < 64 && certificate.bitmap >> index & 1 == 1)
            .map(|(_, member)| member)
            .collect();
        let names: Vec<_> = signers.iter().map(|(name, _)| name.as_str()).collect();
        if names != certificate.signers {
            let given = certificate.signers.join(", ");
            return Err(format!("its signers are {given}; its bitmap says {}", names.join(", ")));
        }
        if signers.len() < required {
            return Err(format!("it has {} signers; expected {required} or more", signers.len()));
        }
        let hash = fixed::<32>(&block.hash).ok_or("its block's hash is not 32 bytes of hexadecimal")?;
        let signature =
            fixed::<96>(&certificate.signature).ok_or("its signature is not 96 bytes of hexadecimal")?;
        let message = precommit_bytes(&self.chain_id, block.height, certificate.round, &hash);
        let keys = signers.iter().map(|(_, key)| key);
        if !Signature(signature).verify_aggregate(&message, keys) {
            return Err("its aggregate signature does not verify".to_owned());
        }
        Ok(())
    }
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use alys_node::keys::SecretKey;
    use alys_node::ops::view::GenesisMemberView;

    use super::*;
    use crate::invariant::tests::{broken, holds};
    use crate::record::tests::{block, empty, give};

    fn secrets() -> Vec<SecretKey> {
        (1..=4).map(|seed| SecretKey::from_seed(&[seed; 32])).collect()
    }

    pub(crate) fn with_genesis() -> Record {
        let mut record = empty();
        let members = secrets().into_iter().zip(&record.roster).map(|(secret, name)| GenesisMemberView {
            name: name.clone(),
            public_key: secret.public_key().to_string(),
        });
        let genesis = GenesisView {
            chain_id: "test".to_owned(),
            hash: "33".repeat(32),
            block_time_ms: 2_000,
            members: members.collect(),
        };
        for member in record.members.values_mut() {
            member.genesis.push(genesis.clone());
        }
        record
    }

    /// A block with a certificate signed by the members with these indices.
    fn certified(height: u64, signers: &[usize]) -> BlockView {
        let mut block = block(height, 1);
        let hash = fixed::<32>(&block.hash).expect("a hash");
        let message = precommit_bytes("test", height, 0, &hash);
        let parts: Vec<_> = signers.iter().map(|index| secrets()[*index].sign(&message)).collect();
        let aggregate = Signature::aggregate(&parts).expect("signatures add up");
        block.certificate.signature = hex::encode(aggregate.0);
        block.certificate.bitmap = signers.iter().map(|index| 1 << index).sum();
        block.certificate.signers = signers.iter().map(|index| format!("node-{}", index + 1)).collect();
        block
    }

    #[test]
    fn a_certificate_that_verifies_is_counted_once() {
        let mut record = with_genesis();
        for name in ["node-1", "node-2"] {
            give(&mut record, name, certified(1, &[0, 1, 3]));
            give(&mut record, name, certified(2, &[0, 1, 2, 3]));
        }
        holds(&record, "certificates-verify", 2);
    }

    #[test]
    fn a_certificate_that_does_not_verify_is_found() {
        type Spoil = fn(&mut BlockView);
        let table: [(&str, Spoil); 5] = [
            ("does not verify", |block| block.certificate.round = 1),
            ("its bitmap says node-1, node-2, node-3, node-4", |block| {
                block.certificate.bitmap = 0b1111;
            }),
            ("expected at most 4 bits", |block| {
                block.certificate.bitmap = 0b1_0111;
            }),
            ("it is for block", |block| {
                block.certificate.block = "44".repeat(32);
            }),
            ("not 96 bytes", |block| block.certificate.signature.truncate(10)),
        ];
        for (part, spoil) in table {
            let mut record = with_genesis();
            let mut block = certified(1, &[0, 1, 2]);
            spoil(&mut block);
            give(&mut record, "node-1", block);
            broken(&record, "certificates-verify", part);
        }
    }

    #[test]
    fn a_certificate_of_two_is_found() {
        let mut record = with_genesis();
        give(&mut record, "node-1", certified(1, &[0, 1]));
        broken(&record, "certificates-verify", "it has 2 signers; expected 3 or more");
    }

    #[test]
    fn members_of_different_genesis_are_found() {
        let mut record = with_genesis();
        give(&mut record, "node-1", certified(1, &[0, 1, 2]));
        let member = record.members.get_mut("node-4").expect("a member");
        member.genesis[0].hash = "55".repeat(32);
        broken(&record, "certificates-verify", "different genesis hashes");
    }
}
