//! Signs link certificates with the member's key and verifies those of other members.
//!
//! The signed statement contains the genesis hash, which names the federation. A domain separation tag of its own
//! separates it from votes and from health attestations.

use std::collections::BTreeMap;

use alys_cluster::id::NodeId;
use alys_cluster::transport::CertificateSigner;

use crate::genesis::Genesis;
use crate::keys::{PublicKey, SecretKey, Signature};

/// Signs with this member's key and verifies with the keys of genesis.
pub struct LinkCertificateSigner {
    key: Option<SecretKey>,
    members: BTreeMap<NodeId, PublicKey>,
}

impl LinkCertificateSigner {
    /// Creates a signer for the member of `genesis` that `key` belongs to.
    pub fn new(genesis: &Genesis, key: SecretKey) -> Self {
        Self { key: Some(key), ..Self::reader(genesis) }
    }

    /// Creates a verifier without a key. Its signatures are empty and never valid.
    pub fn reader(genesis: &Genesis) -> Self {
        let members = genesis.members().iter().map(|member| (member.name.clone(), member.public_key));
        Self { key: None, members: members.collect() }
    }
}

impl CertificateSigner for LinkCertificateSigner {
    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        self.key.as_ref().map(|key| key.sign_link(statement).0.to_vec()).unwrap_or_default()
    }

    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = signature.try_into().map(Signature) else { return false };
        self.members.get(member).is_some_and(|key| key.verify_link(statement, &signature))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alys_cluster::clock::WallTime;
    use alys_cluster::transport::IdentityError;
    use alys_cluster::transport::identity::{FederationId, check, issue};

    use super::*;
    use crate::genesis::tests::{genesis, secret};

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn name(index: usize) -> NodeId {
        genesis().members()[index].name.clone()
    }

    #[test]
    fn what_a_member_vouches_for_is_its_own_only_and_no_other_statement() {
        let genesis = genesis();
        let (one, reader) =
            (LinkCertificateSigner::new(&genesis, secret(0)), LinkCertificateSigner::reader(&genesis));
        let signature = one.sign(b"key");
        assert!(reader.verify(&name(0), b"key", &signature));
        assert!(!reader.verify(&name(1), b"key", &signature), "of another member");
        assert!(!reader.verify(&name(0), b"another key", &signature), "of another statement");
        assert!(!reader.verify(&name(0), b"key", &signature[1..]), "cut");
        let stranger = NodeId::new("stranger").expect("a name");
        assert!(!reader.verify(&stranger, b"key", &signature));
        for other in [secret(0).sign(b"key"), secret(0).sign_attestation(b"key")] {
            assert!(!reader.verify(&name(0), b"key", &other.0), "signed for something else");
        }
        let signature = signature.try_into().map(Signature).expect("96 bytes");
        let key = genesis.members()[0].public_key;
        assert!(!key.verify(b"key", &signature) && !key.verify_attestation(b"key", &signature));
        assert!(reader.sign(b"key").is_empty());
    }

    #[test]
    fn a_certificate_is_proven_by_genesis_alone() {
        let genesis = genesis();
        let (federation, day) = (FederationId(genesis.hash()), Duration::from_hours(24));
        let members: Vec<_> = genesis.members().iter().map(|member| member.name.clone()).collect();
        let reader = LinkCertificateSigner::reader(&genesis);
        let whose = |signer: u8, named: usize| {
            let certificate_signer = LinkCertificateSigner::new(&genesis, secret(signer));
            let issued = issue(&name(named), &federation, &certificate_signer, day, NOW).expect("made");
            check(issued.certificate.der(), &federation, &members, &reader, NOW)
        };
        assert_eq!(whose(0, 0), Ok(name(0)));
        assert_eq!(whose(0, 1), Err(IdentityError::Forged(name(1))));
    }
}
