//! Signs health attestations with the member's key and verifies those of other members.
//!
//! The signed message starts with the chain id and uses a domain separation tag of its own: an attestation of one chain
//! is not valid on another, and no attestation is valid as a vote.

use std::collections::BTreeMap;

use alys_cluster::id::NodeId;
use alys_cluster::port::Signer;

use crate::genesis::Genesis;
use crate::keys::{PublicKey, SecretKey, Signature};

/// Signs with this member's key and verifies with the keys of genesis.
pub struct HealthSigner {
    chain_id: String,
    key: SecretKey,
    members: BTreeMap<NodeId, PublicKey>,
}

impl HealthSigner {
    /// Creates a signer for the member of `genesis` that `key` belongs to.
    pub fn new(genesis: &Genesis, key: SecretKey) -> Self {
        let members = genesis.members().iter().map(|member| (member.name.clone(), member.public_key));
        Self { chain_id: genesis.chain_id().to_owned(), key, members: members.collect() }
    }

    fn message(&self, statement: &[u8]) -> Vec<u8> {
        let length = (self.chain_id.len() as u64).to_be_bytes();
        [&length[..], self.chain_id.as_bytes(), statement].concat()
    }
}

impl Signer for HealthSigner {
    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        self.key.sign_attestation(&self.message(statement)).0.to_vec()
    }

    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = signature.try_into().map(Signature) else { return false };
        let key = self.members.get(member);
        key.is_some_and(|key| key.verify_attestation(&self.message(statement), &signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::tests::{genesis, secret};

    fn name(index: usize) -> NodeId {
        genesis().members()[index].name.clone()
    }

    #[test]
    fn an_attestation_is_its_members_only_and_no_statement_of_consensus() {
        let genesis = genesis();
        let (one, two) = (HealthSigner::new(&genesis, secret(0)), HealthSigner::new(&genesis, secret(1)));
        let signature = one.sign(b"well");
        assert!(two.verify(&name(0), b"well", &signature));
        assert!(!two.verify(&name(1), b"well", &signature), "of another member");
        assert!(!two.verify(&name(0), b"ill", &signature), "of another statement");
        assert!(!two.verify(&name(0), b"well", &signature[1..]), "cut");
        let stranger = NodeId::new("stranger").expect("a name");
        assert!(!two.verify(&stranger, b"well", &signature));
        let vote = secret(0).sign(&one.message(b"well")).0;
        assert!(!two.verify(&name(0), b"well", &vote), "signed for consensus");
        let signature = signature.try_into().map(Signature).expect("96 bytes");
        assert!(!genesis.members()[0].public_key.verify(&one.message(b"well"), &signature));
    }
}
