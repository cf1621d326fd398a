//! Floods every member when it receives a proposal: with votes of rounds that never come, and with forged votes in the
//! names of other members.

use malachite_types::{NilOrVal, Round, VoteType};

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::context::{BlockVote, ConsensusHeight, MemberIndex};
use crate::consensus::message::ConsensusWire;

/// Votes of each flood in its own name: more than any quota for one sender.
const VOTES: u32 = 150;
/// Votes of each flood in the names of others.
const FORGED: u32 = 40;
/// First round of the votes in its own name.
const FROM_ROUND: u32 = 1_000;

/// See the module documentation.
pub(super) struct Flooder;

impl Flooder {
    fn flood(forger: &mut Forger, height: u64) -> Vec<Delivery> {
        let own = forger.own();
        let vote = |round, voter| BlockVote {
            height: ConsensusHeight(height),
            round: Round::new(round),
            kind: VoteType::Prevote,
            block: NilOrVal::Nil,
            voter: MemberIndex(voter),
        };
        let own_votes = (0..VOTES).map(|n| forger.vote(vote(FROM_ROUND + n, own)));
        let names = forger.peers();
        let forged = (0..FORGED).map(|n| {
            let other = names[n as usize % names.len()] as u8;
            let ConsensusWire::Vote(_, signature) = forger.vote(vote(0, own)) else { unreachable!("a vote") };
            ConsensusWire::Vote(vote(n % 8, other), signature)
        });
        own_votes.chain(forged).map(|message| Delivery::at_once(None, message)).collect()
    }
}

impl Fault for Flooder {
    fn say(&mut self, _: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        vec![Delivery::at_once(None, message)]
    }

    fn hear(&mut self, forger: &mut Forger, message: &ConsensusWire) -> Vec<Delivery> {
        if matches!(message, ConsensusWire::Proposal(..)) {
            Self::flood(forger, message.height())
        } else {
            Vec::new()
        }
    }
}
