//! Defines the proof that a block is final: one aggregate signature and its signers.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::block::BlockHash;
use super::context::{MemberIndex, Statement, Step};
use crate::genesis::Genesis;
use crate::keys::{KeyError, Signature};

/// A quorum's precommits for one block, aggregated. The signature has 96 bytes, however many members signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Height of the block.
    pub height: u64,
    /// Round in which the block was decided.
    pub round: u32,
    /// Hash of the block.
    pub block: BlockHash,
    /// Members that precommitted, as a bitmap: bit i is the member at index i in genesis.
    pub signers: u64,
    /// Aggregate of their signatures.
    pub signature: Signature,
}

/// Why a certificate is not valid.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// Bits beyond the members of genesis are set.
    #[error("the certificate names signers {signers:#x}; expected only the {members} members of genesis")]
    Strangers {
        /// Bitmap of signers.
        signers: u64,
        /// Number of members in genesis.
        members: usize,
    },
    /// The certificate has too few signers.
    #[error("the certificate has {signers} signers; expected at least {required}")]
    TooFew {
        /// Number of signers.
        signers: usize,
        /// Number of signers required.
        required: usize,
    },
    /// The signature is not the aggregate of the signers' precommits for this block.
    #[error("the aggregate signature does not match the {signers} signers it names")]
    Signature {
        /// Number of signers.
        signers: usize,
    },
}

/// Bytes that every precommit for this block signs.
pub fn precommit_bytes(chain_id: &str, height: u64, round: u32, block: &[u8; 32]) -> Vec<u8> {
    let block = Some(BlockHash(*block));
    Statement { step: Step::Precommit, height, round, block, pol_round: -1 }.bytes(chain_id)
}

impl Certificate {
    /// Aggregates individual precommits. They are not verified here, but on arrival.
    pub fn aggregate(
        height: u64,
        round: u32,
        block: BlockHash,
        precommits: &[(MemberIndex, Signature)],
    ) -> Result<Self, KeyError> {
        let signers = precommits.iter().fold(0, |bits, (member, _)| bits | 1 << member.0);
        let signature = Signature::aggregate(precommits.iter().map(|(_, signature)| signature))?;
        Ok(Self { height, round, block, signers, signature })
    }

    /// Checks the signers against genesis, and the signature against the signers. Takes about a millisecond.
    pub fn verify(&self, genesis: &Genesis) -> Result<(), CertificateError> {
        let members = genesis.members();
        if members.len() < 64 && self.signers >> members.len() != 0 {
            return Err(CertificateError::Strangers { signers: self.signers, members: members.len() });
        }
        let signers = self.signers.count_ones() as usize;
        let required = genesis.quorum();
        if signers < required {
            return Err(CertificateError::TooFew { signers, required });
        }
        let keys = self.signer_indexes().map(|index| &members[index].public_key);
        let message = precommit_bytes(genesis.chain_id(), self.height, self.round, &self.block.0);
        if self.signature.verify_aggregate(&message, keys) {
            Ok(())
        } else {
            Err(CertificateError::Signature { signers })
        }
    }

    /// Indexes of the signers in genesis.
    pub fn signer_indexes(&self) -> impl Iterator<Item = usize> + use<> {
        let signers = self.signers;
        (0..64).filter(move |index| signers >> index & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::tests::{genesis, secret};

    fn certificate(signers: &[u8]) -> Certificate {
        let block = BlockHash([5; 32]);
        let message = precommit_bytes(genesis().chain_id(), 9, 1, &block.0);
        let precommits: Vec<_> =
            signers.iter().map(|i| (MemberIndex(*i), secret(*i).sign(&message))).collect();
        Certificate::aggregate(9, 1, block, &precommits).expect("valid points")
    }

    #[test]
    fn three_of_four_are_proof_and_two_are_not() {
        certificate(&[0, 1, 2, 3]).verify(&genesis()).expect("all four");
        certificate(&[0, 2, 3]).verify(&genesis()).expect("three");
        let two = certificate(&[0, 2]).verify(&genesis());
        assert!(matches!(two, Err(CertificateError::TooFew { signers: 2, required: 3 })), "{two:?}");
    }

    #[test]
    fn a_certificate_that_says_anything_else_than_was_signed_is_refused() {
        let changes: [fn(&mut Certificate); 7] = [
            |c| c.height += 1,
            |c| c.round += 1,
            |c| c.block.0[0] ^= 1,
            |c| c.signers = 0b1111,
            |c| c.signers = 0b0111,
            |c| c.signers |= 1 << 4,
            |c| c.signature.0[90] ^= 1,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut certificate = certificate(&[0, 2, 3]);
            change(&mut certificate);
            assert!(certificate.verify(&genesis()).is_err(), "change {index}");
        }
    }

    #[test]
    fn one_member_signing_three_times_is_no_quorum() {
        let block = BlockHash([5; 32]);
        let message = precommit_bytes(genesis().chain_id(), 9, 1, &block.0);
        let alone = secret(0).sign(&message);
        let thrice: Vec<_> = [0, 1, 2].map(|i| (MemberIndex(i), alone)).to_vec();
        let forged = Certificate::aggregate(9, 1, block, &thrice).expect("valid points");
        assert!(matches!(forged.verify(&genesis()), Err(CertificateError::Signature { .. })));
    }
}
