//! Consensus messages between members, and the entries of the consensus log.

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
        /// Height of the prevotes.
        height: ConsensusHeight,
        /// Round of the prevotes.
        round: Round,
        /// Block that the prevotes are for.
        block: BlockHash,
        /// Voters and their signatures.
        signatures: Vec<(MemberIndex, Signature)>,
    },
    /// Proof that a round ended without a decision, or that it may be entered.
    Round {
        /// Height of the votes.
        height: ConsensusHeight,
        /// Round of the votes.
        round: Round,
        /// Kind of proof.
        kind: RoundCertificateType,
        /// Type, block, voter and signature of each vote.
        signatures: Vec<(VoteType, NilOrVal<BlockHash>, MemberIndex, Signature)>,
    },
}

impl ConsensusWire {
    /// Height that the message is about.
    pub fn height(&self) -> u64 {
        match self {
            Self::Vote(vote, _) => vote.height.0,
            Self::Proposal(proposal, _) => proposal.height.0,
            Self::Polka { height, .. } | Self::Round { height, .. } => height.0,
        }
    }

    /// Round that the message is about.
    pub fn round(&self) -> u32 {
        let round = match self {
            Self::Vote(vote, _) => vote.round,
            Self::Proposal(proposal, _) => proposal.round,
            Self::Polka { round, .. } | Self::Round { round, .. } => *round,
        };
        round.as_u32().unwrap_or(0)
    }

    /// Index in genesis of the member whose statement this message is; `None` for a proof, which has several authors.
    pub fn author(&self) -> Option<usize> {
        match self {
            Self::Vote(vote, _) => Some(usize::from(vote.voter.0)),
            Self::Proposal(proposal, _) => Some(usize::from(proposal.proposer.0)),
            Self::Polka { .. } | Self::Round { .. } => None,
        }
    }

    /// Block that a prevote or precommit is for; `None` for a vote for nil and for other messages.
    pub fn voted_block(&self) -> Option<BlockHash> {
        match self {
            Self::Vote(BlockVote { block: NilOrVal::Val(block), .. }, _) => Some(*block),
            _ => None,
        }
    }

    /// The statement in this message, if the member at this index in genesis is its author.
    pub fn statement_of(&self, member: usize) -> Option<Statement> {
        let (statement, signer) = match self {
            Self::Vote(vote, _) => (Statement::of_vote(vote), vote.voter),
            Self::Proposal(proposal, _) => (Statement::of_proposal(proposal), proposal.proposer),
            Self::Polka { .. } | Self::Round { .. } => return None,
        };
        (usize::from(signer.0) == member).then_some(statement)
    }

    /// Every statement in the message, with the index of its author in genesis: a single one, or the votes of a proof.
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

/// An entry of the consensus log: an input that may have led to a signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEntry {
    /// A vote, a proposal or a proof of a quorum of prevotes (polka), own or received.
    Message(ConsensusWire),
    /// A block and the result of its execution.
    Block {
        /// Height of the block.
        height: ConsensusHeight,
        /// Round in which the block was proposed.
        round: Round,
        /// Earlier round with a quorum of prevotes for the block.
        valid_round: Round,
        /// Member that proposed the block.
        proposer: MemberIndex,
        /// Block that was executed.
        block: Block,
        /// Whether the execution gave the result that the block claims.
        valid: bool,
    },
    /// A timeout that elapsed.
    Timeout(Timeout),
}

impl LogEntry {
    /// The entry for an input, if Malachite asks to log it.
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
