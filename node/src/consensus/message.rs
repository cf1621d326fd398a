//! What members say to each other in consensus, and what the log remembers of it.

use malachite_consensus::{Input, LivenessMsg, ProposedValue, SignedConsensusMsg};
use malachite_types::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, Timeout, Validity, ValueOrigin, VoteType,
};
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockHash};
use super::context::{BlockProposal, BlockVote, ConsensusContext, ConsensusHeight, MemberIndex, Statement};
use super::evidence::Signed;
use crate::keys::Signature;

/// A message between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsensusWire {
    /// A signed vote.
    Vote(BlockVote, Signature),
    /// A signed proposal with its block.
    Proposal(BlockProposal, Signature),
    /// Proof that a block got a quorum of prevotes.
    Polka {
        /// At which height.
        height: ConsensusHeight,
        /// In which round.
        round: Round,
        /// The block.
        block: BlockHash,
        /// The prevotes' signatures.
        signatures: Vec<(MemberIndex, Signature)>,
    },
    /// Proof that a round was left or may be entered.
    Round {
        /// At which height.
        height: ConsensusHeight,
        /// The round of the votes.
        round: Round,
        /// What kind of proof.
        kind: RoundCertificateType,
        /// The votes.
        signatures: Vec<(VoteType, NilOrVal<BlockHash>, MemberIndex, Signature)>,
    },
}

impl ConsensusWire {
    /// The height it speaks of.
    pub fn height(&self) -> u64 {
        match self {
            Self::Vote(vote, _) => vote.height.0,
            Self::Proposal(proposal, _) => proposal.height.0,
            Self::Polka { height, .. } | Self::Round { height, .. } => height.0,
        }
    }

    /// The round it speaks of.
    pub fn round(&self) -> u32 {
        let round = match self {
            Self::Vote(vote, _) => vote.round,
            Self::Proposal(proposal, _) => proposal.round,
            Self::Polka { round, .. } | Self::Round { round, .. } => *round,
        };
        round.as_u32().unwrap_or(0)
    }

    /// The place in genesis of the one member that states this, by its own signature.
    pub fn author(&self) -> Option<usize> {
        match self {
            Self::Vote(vote, _) => Some(usize::from(vote.voter.0)),
            Self::Proposal(proposal, _) => Some(usize::from(proposal.proposer.0)),
            Self::Polka { .. } | Self::Round { .. } => None,
        }
    }

    /// The block that a prevote or precommit is for; nothing of a vote for none.
    pub fn voted_block(&self) -> Option<BlockHash> {
        match self {
            Self::Vote(BlockVote { block: NilOrVal::Val(block), .. }, _) => Some(*block),
            _ => None,
        }
    }

    /// What the member at this place of genesis states by this message, if it is its own.
    pub fn statement_of(&self, member: usize) -> Option<Statement> {
        let (statement, signer) = match self {
            Self::Vote(vote, _) => (Statement::of_vote(vote), vote.voter),
            Self::Proposal(proposal, _) => (Statement::of_proposal(proposal), proposal.proposer),
            Self::Polka { .. } | Self::Round { .. } => return None,
        };
        (usize::from(signer.0) == member).then_some(statement)
    }

    /// Everything that is stated in it, each with the place in genesis of its author: one statement, or those that a
    /// proof consists of.
    pub fn statements(&self) -> Vec<(usize, Signed)> {
        let of_vote = |vote: &BlockVote, signature: Signature| {
            (usize::from(vote.voter.0), Signed { statement: Statement::of_vote(vote), signature })
        };
        match self {
            Self::Vote(vote, signature) => vec![of_vote(vote, *signature)],
            Self::Proposal(proposal, signature) => {
                let statement = Statement::of_proposal(proposal);
                vec![(usize::from(proposal.proposer.0), Signed { statement, signature: *signature })]
            }
            Self::Polka { height, round, block, signatures } => {
                let vote = |voter| {
                    let (kind, block) = (VoteType::Prevote, NilOrVal::Val(*block));
                    BlockVote { height: *height, round: *round, kind, block, voter }
                };
                signatures.iter().map(|(voter, signature)| of_vote(&vote(*voter), *signature)).collect()
            }
            Self::Round { height, round, signatures, .. } => {
                let vote =
                    |kind, block, voter| BlockVote { height: *height, round: *round, kind, block, voter };
                let votes = signatures.iter();
                votes
                    .map(|(kind, block, voter, signature)| of_vote(&vote(*kind, *block, *voter), *signature))
                    .collect()
            }
        }
    }

    pub(super) fn into_input(self) -> Input<ConsensusContext> {
        match self {
            Self::Vote(vote, signature) => Input::Vote(SignedMessage::new(vote, signature)),
            Self::Proposal(proposal, signature) => Input::Proposal(SignedMessage::new(proposal, signature)),
            Self::Polka { height, round, block, signatures } => Input::PolkaCertificate(PolkaCertificate {
                height,
                round,
                value_id: block,
                polka_signatures: signatures
                    .into_iter()
                    .map(|(member, signature)| PolkaSignature::new(member, signature))
                    .collect(),
            }),
            Self::Round { height, round, kind, signatures } => Input::RoundCertificate(RoundCertificate {
                height,
                round,
                cert_type: kind,
                round_signatures: signatures
                    .into_iter()
                    .map(|(kind, block, member, signature)| {
                        RoundSignature::new(kind, block, member, signature)
                    })
                    .collect(),
            }),
        }
    }
}

impl From<SignedConsensusMsg<ConsensusContext>> for ConsensusWire {
    fn from(message: SignedConsensusMsg<ConsensusContext>) -> Self {
        match message {
            SignedConsensusMsg::Vote(vote) => Self::Vote(vote.message, vote.signature),
            SignedConsensusMsg::Proposal(proposal) => Self::Proposal(proposal.message, proposal.signature),
        }
    }
}

impl From<PolkaCertificate<ConsensusContext>> for ConsensusWire {
    fn from(certificate: PolkaCertificate<ConsensusContext>) -> Self {
        Self::Polka {
            height: certificate.height,
            round: certificate.round,
            block: certificate.value_id,
            signatures: certificate.polka_signatures.into_iter().map(|s| (s.address, s.signature)).collect(),
        }
    }
}

impl From<RoundCertificate<ConsensusContext>> for ConsensusWire {
    fn from(certificate: RoundCertificate<ConsensusContext>) -> Self {
        Self::Round {
            height: certificate.height,
            round: certificate.round,
            kind: certificate.cert_type,
            signatures: certificate
                .round_signatures
                .into_iter()
                .map(|s| (s.vote_type, s.value_id, s.address, s.signature))
                .collect(),
        }
    }
}

impl From<LivenessMsg<ConsensusContext>> for ConsensusWire {
    fn from(message: LivenessMsg<ConsensusContext>) -> Self {
        match message {
            LivenessMsg::Vote(vote) => Self::Vote(vote.message, vote.signature),
            LivenessMsg::PolkaCertificate(certificate) => certificate.into(),
            LivenessMsg::SkipRoundCertificate(certificate) => certificate.into(),
        }
    }
}

/// What the log remembers: every input that may have led to a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEntry {
    /// A vote, a proposal or a proof of a polka, own or received.
    Message(ConsensusWire),
    /// A block and what was found of it.
    Block {
        /// At which height.
        height: ConsensusHeight,
        /// In which round it was offered.
        round: Round,
        /// The earlier round with a quorum of prevotes for it.
        valid_round: Round,
        /// Who offered it.
        proposer: MemberIndex,
        /// The block.
        block: Block,
        /// Whether executing it gave what it says.
        valid: bool,
    },
    /// A time-out that passed.
    Timeout(Timeout),
}

impl LogEntry {
    /// The entry for an input, if it is one that Malachite asks to log.
    pub(super) fn of(input: Input<ConsensusContext>) -> Option<Self> {
        match input {
            Input::Vote(vote) => Some(Self::Message(SignedConsensusMsg::Vote(vote).into())),
            Input::Proposal(proposal) => Some(Self::Message(SignedConsensusMsg::Proposal(proposal).into())),
            Input::PolkaCertificate(certificate) => Some(Self::Message(certificate.into())),
            Input::TimeoutElapsed(timeout) => Some(Self::Timeout(timeout)),
            Input::ProposedValue(value, _) => Some(Self::Block {
                height: value.height,
                round: value.round,
                valid_round: value.valid_round,
                proposer: value.proposer,
                block: value.value,
                valid: value.validity.is_valid(),
            }),
            Input::RoundCertificate(_)
            | Input::StartHeight(..)
            | Input::Propose(_)
            | Input::SyncValueResponse(_) => None,
        }
    }

    pub(super) fn into_input(self) -> Input<ConsensusContext> {
        match self {
            Self::Message(message) => message.into_input(),
            Self::Timeout(timeout) => Input::TimeoutElapsed(timeout),
            Self::Block { height, round, valid_round, proposer, block, valid } => Input::ProposedValue(
                ProposedValue {
                    height,
                    round,
                    valid_round,
                    proposer,
                    value: block,
                    validity: if valid { Validity::Valid } else { Validity::Invalid },
                },
                ValueOrigin::Consensus,
            ),
        }
    }
}
