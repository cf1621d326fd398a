//! Votes for every proposal it receives, in every round, regardless of earlier votes and locks.

use malachite_types::{NilOrVal, VoteType};

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::context::{BlockProposal, BlockVote, MemberIndex};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct Amnesiac;

impl Amnesiac {
    fn votes(forger: &Forger, offer: &BlockProposal) -> Vec<Delivery> {
        let vote = |kind| {
            forger.vote(BlockVote {
                height: offer.height,
                round: offer.round,
                kind,
                block: NilOrVal::Val(offer.block.hash()),
                voter: MemberIndex(forger.own()),
            })
        };
        [VoteType::Prevote, VoteType::Precommit].map(vote).map(|vote| Delivery::at_once(None, vote)).to_vec()
    }
}

impl Fault for Amnesiac {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        match &message {
            ConsensusWire::Proposal(offer, _) => {
                let votes = Self::votes(forger, offer);
                [Delivery::at_once(None, message)].into_iter().chain(votes).collect()
            }
            ConsensusWire::Vote(..) => Vec::new(),
            ConsensusWire::Polka { .. } | ConsensusWire::Round { .. } => {
                vec![Delivery::at_once(None, message)]
            }
        }
    }

    fn hear(&mut self, forger: &mut Forger, message: &ConsensusWire) -> Vec<Delivery> {
        match message {
            ConsensusWire::Proposal(offer, _) => Self::votes(forger, offer),
            _ => Vec::new(),
        }
    }
}
