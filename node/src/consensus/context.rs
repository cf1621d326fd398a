//! Describes a federation in Malachite's types: its members, blocks, votes and proposals, and the bytes that are
//! signed.
//!
//! The signed bytes name the chain but **not** the signer. So all precommits for a block sign the same message, and
//! their signatures add up to one aggregate of 96 bytes.

use std::fmt;
use std::sync::Arc;

use malachite_types::{
    Address, Context, Height, LinearTimeouts, NilOrVal, Proposal, ProposalPart, Round, SignedExtension,
    SigningScheme, Validator, ValidatorSet, Value, Vote, VoteType, VotingPower,
};
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockHash};
use crate::genesis::Genesis;
use crate::keys::{KeyError, PublicKey, SecretKey, Signature};

/// Index of a member in genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberIndex(pub u8);

impl fmt::Display for MemberIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {}", self.0)
    }
}

impl Address for MemberIndex {}

/// A height as Malachite counts: from 1, with 0 for genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConsensusHeight(pub u64);

impl fmt::Display for ConsensusHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Height for ConsensusHeight {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0 + n)
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} at height {}", self.hash(), self.height)
    }
}

impl Value for Block {
    type Id = BlockHash;

    fn id(&self) -> BlockHash {
        self.hash()
    }
}

/// Unused proposal part that Malachite's types require: proposals carry their whole block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPart;

impl ProposalPart<ConsensusContext> for NoPart {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

/// A block proposed in a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockProposal {
    /// Height that the block is for.
    pub height: ConsensusHeight,
    /// Round of the proposal.
    pub round: Round,
    /// Proposed block.
    pub block: Block,
    /// Earlier round in which the block got a quorum of prevotes, if any.
    pub pol_round: Round,
    /// Member that proposes the block.
    pub proposer: MemberIndex,
}

impl Proposal<ConsensusContext> for BlockProposal {
    fn height(&self) -> ConsensusHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Block {
        &self.block
    }

    fn take_value(self) -> Block {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &MemberIndex {
        &self.proposer
    }
}

/// A prevote or precommit for a block, or for none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockVote {
    /// Height of the vote.
    pub height: ConsensusHeight,
    /// Round of the vote.
    pub round: Round,
    /// Whether it is a prevote or a precommit.
    pub kind: VoteType,
    /// Block that the vote is for, or nil.
    pub block: NilOrVal<BlockHash>,
    /// Member that votes.
    pub voter: MemberIndex,
}

impl Vote<ConsensusContext> for BlockVote {
    fn height(&self) -> ConsensusHeight {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockHash> {
        &self.block
    }

    fn take_value(self) -> NilOrVal<BlockHash> {
        self.block
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &MemberIndex {
        &self.voter
    }

    // Vote extensions are not used: the policy given to Malachite forbids them.
    fn extension(&self) -> Option<&SignedExtension<ConsensusContext>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<ConsensusContext>> {
        None
    }

    fn extend(self, _: SignedExtension<ConsensusContext>) -> Self {
        self
    }
}

/// BLS signatures as Malachite's signing scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bls;

impl SigningScheme for Bls {
    type DecodingError = KeyError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = SecretKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, KeyError> {
        let length = KeyError::Length { what: "a signature", found: bytes.len() * 2, expected: 192 };
        bytes.try_into().map(Signature).map_err(|_| length)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, KeyError> {
        PublicKey::from_bytes(bytes)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.to_bytes().to_vec()
    }
}

/// A member as a Malachite validator. Every member has one vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationMember {
    index: MemberIndex,
    public_key: PublicKey,
}

impl Validator<ConsensusContext> for FederationMember {
    fn address(&self) -> &MemberIndex {
        &self.index
    }

    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn voting_power(&self) -> VotingPower {
        1
    }
}

/// All members as a Malachite validator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberSet(Arc<[FederationMember]>);

impl MemberSet {
    /// The members in the order of genesis.
    pub fn of(genesis: &Genesis) -> Self {
        let members = genesis.members().iter().enumerate();
        Self(
            members
                .map(|(index, member)| FederationMember {
                    index: MemberIndex(index as u8),
                    public_key: member.public_key,
                })
                .collect(),
        )
    }
}

impl ValidatorSet<ConsensusContext> for MemberSet {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.len() as VotingPower
    }

    fn get_by_address(&self, index: &MemberIndex) -> Option<&FederationMember> {
        self.0.get(usize::from(index.0))
    }

    fn get_by_index(&self, index: usize) -> Option<&FederationMember> {
        self.0.get(index)
    }
}

/// The federation as a Malachite context.
#[derive(Clone, Debug)]
pub struct ConsensusContext;

impl Context for ConsensusContext {
    type Address = MemberIndex;
    type Height = ConsensusHeight;
    type ProposalPart = NoPart;
    type Proposal = BlockProposal;
    type Validator = FederationMember;
    type ValidatorSet = MemberSet;
    type Timeouts = LinearTimeouts;
    type Value = Block;
    type Vote = BlockVote;
    type Extension = Vec<u8>;
    type SigningScheme = Bls;

    fn select_proposer<'a>(
        &self,
        members: &'a MemberSet,
        height: ConsensusHeight,
        round: Round,
    ) -> &'a FederationMember {
        &members.0[proposer_index(members.0.len(), height.0, round.as_u32().unwrap_or(0))]
    }

    fn new_proposal(
        &self,
        height: ConsensusHeight,
        round: Round,
        block: Block,
        pol_round: Round,
        proposer: MemberIndex,
    ) -> BlockProposal {
        BlockProposal { height, round, block, pol_round, proposer }
    }

    fn new_prevote(
        &self,
        height: ConsensusHeight,
        round: Round,
        block: NilOrVal<BlockHash>,
        voter: MemberIndex,
    ) -> BlockVote {
        BlockVote { height, round, kind: VoteType::Prevote, block, voter }
    }

    fn new_precommit(
        &self,
        height: ConsensusHeight,
        round: Round,
        block: NilOrVal<BlockHash>,
        voter: MemberIndex,
    ) -> BlockVote {
        BlockVote { height, round, kind: VoteType::Precommit, block, voter }
    }
}

/// Index of the proposer in genesis: it rotates by height, and also by round.
pub fn proposer_index(members: usize, height: u64, round: u32) -> usize {
    ((height % members as u64) as usize + round as usize % members) % members
}

/// What a member signs: step, height, round and block. Two different statements with the same step, height and round
/// are a double signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Proposal, prevote or precommit.
    pub step: Step,
    /// Height of the statement.
    pub height: u64,
    /// Round of the statement.
    pub round: u32,
    /// Block that the statement is for; `None` for nil.
    pub block: Option<BlockHash>,
    /// For a proposal, the earlier round with a quorum of prevotes; otherwise −1.
    pub pol_round: i64,
}

/// The steps in which a member signs, in their order within a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Step {
    /// The proposer's block.
    Proposal = 1,
    /// The first vote.
    Prevote = 2,
    /// The second vote.
    Precommit = 3,
}

impl Step {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
        }
    }
}

impl Statement {
    /// The statement of a vote.
    pub fn of_vote(vote: &BlockVote) -> Self {
        Self {
            step: match vote.kind {
                VoteType::Prevote => Step::Prevote,
                VoteType::Precommit => Step::Precommit,
            },
            height: vote.height.0,
            round: vote.round.as_u32().unwrap_or(0),
            block: match vote.block {
                NilOrVal::Nil => None,
                NilOrVal::Val(block) => Some(block),
            },
            pol_round: -1,
        }
    }

    /// The statement of a proposal.
    pub fn of_proposal(proposal: &BlockProposal) -> Self {
        Self {
            step: Step::Proposal,
            height: proposal.height.0,
            round: proposal.round.as_u32().unwrap_or(0),
            block: Some(proposal.block.hash()),
            pol_round: proposal.pol_round.as_i64(),
        }
    }

    /// Height, round and step. A member may sign only one statement for each.
    pub fn place(&self) -> (u64, u32, Step) {
        (self.height, self.round, self.step)
    }

    /// The signed bytes: the chain ID, then every field at a fixed position.
    pub fn bytes(&self, chain_id: &str) -> Vec<u8> {
        let mut bytes = b"alys/statement/1".to_vec();
        bytes.push(chain_id.len() as u8);
        bytes.extend(chain_id.as_bytes());
        bytes.push(self.step as u8);
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.round.to_be_bytes());
        bytes.extend(self.pol_round.to_be_bytes());
        bytes.push(u8::from(self.block.is_some()));
        bytes.extend(self.block.unwrap_or_default().0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_turns_by_height_and_by_round() {
        let turns: Vec<_> = (1..=4).map(|height| proposer_index(4, height, 0)).collect();
        assert_eq!(turns, [1, 2, 3, 0]);
        assert_eq!((0..5).map(|round| proposer_index(4, 3, round)).collect::<Vec<_>>(), [3, 0, 1, 2, 3]);
        assert!(proposer_index(4, u64::MAX, u32::MAX) < 4);
    }

    #[test]
    fn statements_that_differ_in_anything_differ_in_their_bytes() {
        let base = Statement {
            step: Step::Prevote,
            height: 1,
            round: 0,
            block: Some(BlockHash::default()),
            pol_round: -1,
        };
        let others = [
            Statement { step: Step::Precommit, ..base },
            Statement { height: 2, ..base },
            Statement { round: 1, ..base },
            Statement { block: None, ..base },
            Statement { block: Some(BlockHash([1; 32])), ..base },
            Statement { pol_round: 0, ..base },
        ];
        for other in others {
            assert_ne!(other.bytes("chain"), base.bytes("chain"), "{other:?}");
        }
        assert_ne!(base.bytes("chain"), base.bytes("chain2"));
    }
}
