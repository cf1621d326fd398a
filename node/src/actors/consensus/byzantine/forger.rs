//! Signs anything with a member's key, bypassing the signer guard; used by Byzantine members.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::consensus::BlockHash;
use crate::consensus::context::{BlockProposal, BlockVote, Statement};
use crate::consensus::message::ConsensusWire;
use crate::genesis::Genesis;
use crate::keys::SecretKey;

/// See the module documentation.
pub(super) struct Forger {
    key: SecretKey,
    chain_id: String,
    own: usize,
    members: usize,
    rng: StdRng,
}

impl Forger {
    pub(super) fn new(genesis: &Genesis, own: usize, key: SecretKey, seed: u64) -> Self {
        let (chain_id, members) = (genesis.chain_id().to_owned(), genesis.members().len());
        Self { key, chain_id, own, members, rng: StdRng::seed_from_u64(seed) }
    }

    /// This member's index in genesis.
    pub(super) fn own(&self) -> u8 {
        self.own as u8
    }

    /// Signs any proposal.
    pub(super) fn propose(&self, proposal: BlockProposal) -> ConsensusWire {
        let signature = self.key.sign(&Statement::of_proposal(&proposal).bytes(&self.chain_id));
        ConsensusWire::Proposal(proposal, signature)
    }

    /// Signs any vote.
    pub(super) fn vote(&self, vote: BlockVote) -> ConsensusWire {
        let signature = self.key.sign(&Statement::of_vote(&vote).bytes(&self.chain_id));
        ConsensusWire::Vote(vote, signature)
    }

    /// Every other member.
    pub(super) fn peers(&self) -> Vec<usize> {
        (0..self.members).filter(|member| *member != self.own).collect()
    }

    /// One other member, at random.
    pub(super) fn peer(&mut self) -> usize {
        let peers = self.peers();
        peers[self.rng.random_range(0..peers.len())]
    }

    /// A random bit.
    pub(super) fn coin(&mut self) -> bool {
        self.rng.random()
    }

    /// A random number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    /// A hash that no block has.
    pub(super) fn hash(&mut self) -> BlockHash {
        BlockHash(self.rng.random())
    }
}
