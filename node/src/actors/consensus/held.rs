//! Holds messages until the protocol may take a step, bounded per sender.
//!
//! When a sender's quota is full, its own oldest message is dropped, never another sender's. Members that need a reply
//! ask again.

use std::collections::VecDeque;

use crate::consensus::message::ConsensusWire;

/// Messages held per sender: the votes and certificates of the rounds that pass while a gate is closed for a moment.
pub const HELD_PER_SENDER: usize = 128;
/// Of these, the proposals, which carry whole blocks.
const PROPOSALS_PER_SENDER: usize = 4;

/// Held messages, by sender.
#[derive(Clone, Debug)]
pub struct Held(Vec<VecDeque<ConsensusWire>>);

impl Held {
    /// Creates an empty store for this many members.
    pub fn new(members: usize) -> Self {
        Self(vec![VecDeque::new(); members])
    }

    /// Holds a message from the member at index `sender`; ignores senders that are not members.
    pub fn hold(&mut self, sender: usize, message: ConsensusWire) {
        let Some(waiting) = self.0.get_mut(sender) else { return };
        if waiting.contains(&message) {
            return;
        }
        let is_proposal = |message: &ConsensusWire| matches!(message, ConsensusWire::Proposal(..));
        let proposals = waiting.iter().filter(|held| is_proposal(held)).count();
        if is_proposal(&message) && proposals == PROPOSALS_PER_SENDER {
            let oldest = waiting.iter().position(is_proposal);
            oldest.and_then(|oldest| waiting.remove(oldest));
        }
        if waiting.len() == HELD_PER_SENDER {
            waiting.pop_front();
        }
        waiting.push_back(message);
    }

    /// Removes and returns the oldest message of a sender about `height`, with its sender. Senders come in the order of
    /// genesis.
    pub fn next(&mut self, height: u64) -> Option<(usize, ConsensusWire)> {
        self.0.iter_mut().enumerate().find_map(|(sender, waiting)| {
            let place = waiting.iter().position(|message| message.height() == height)?;
            Some((sender, waiting.remove(place)?))
        })
    }

    /// Whether any held message is about `height`.
    pub fn speaks_of(&self, height: u64) -> bool {
        self.0.iter().flatten().any(|message| message.height() == height)
    }

    /// Drops messages about `height` and below.
    pub fn forget(&mut self, height: u64) {
        self.0.iter_mut().for_each(|waiting| waiting.retain(|message| message.height() > height));
    }
}

#[cfg(test)]
mod tests {
    use malachite_types::{NilOrVal, Round, VoteType};

    use super::*;
    use crate::consensus::context::{BlockProposal, BlockVote, ConsensusHeight, MemberIndex};
    use crate::consensus::{Block, BlockHash, StateRoot};
    use crate::keys::Signature;

    const NO_SIGNATURE: Signature = Signature([0; 96]);

    fn vote(voter: u8, height: u64, round: u32) -> ConsensusWire {
        let vote = BlockVote {
            height: ConsensusHeight(height),
            round: Round::new(round),
            kind: VoteType::Prevote,
            block: NilOrVal::Nil,
            voter: MemberIndex(voter),
        };
        ConsensusWire::Vote(vote, NO_SIGNATURE)
    }

    fn proposal(proposer: u8, round: u32) -> ConsensusWire {
        let block = Block {
            height: 5,
            parent: BlockHash::default(),
            timestamp_ms: 5,
            proposer,
            state_root: StateRoot::default(),
            transactions: vec![],
        };
        let proposal = BlockProposal {
            height: ConsensusHeight(5),
            round: Round::new(round),
            block,
            pol_round: Round::Nil,
            proposer: MemberIndex(proposer),
        };
        ConsensusWire::Proposal(proposal, NO_SIGNATURE)
    }

    #[test]
    fn a_sender_that_says_too_much_forgets_what_it_said_itself_and_nothing_of_others() {
        let mut held = Held::new(4);
        held.hold(1, vote(1, 5, 0));
        held.hold(2, proposal(2, 0));
        for round in 0..2 * HELD_PER_SENDER as u32 {
            // Messages in another member's name count towards the sender's quota.
            held.hold(3, vote(1, 5, round + 1));
            held.hold(3, proposal(3, round));
        }
        held.hold(9, vote(0, 5, 0));
        assert_eq!(held.next(5), Some((1, vote(1, 5, 0))));
        assert_eq!(held.next(5), Some((2, proposal(2, 0))));
        let rest: Vec<_> = std::iter::from_fn(|| held.next(5)).collect();
        assert_eq!(rest.len(), HELD_PER_SENDER);
        let proposals = rest.iter().filter(|(_, message)| matches!(message, ConsensusWire::Proposal(..)));
        assert_eq!(proposals.count(), PROPOSALS_PER_SENDER);
        assert_eq!(
            rest.last().expect("many").1.round(),
            2 * HELD_PER_SENDER as u32 - 1,
            "the newest are kept"
        );
    }

    #[test]
    fn what_is_about_another_height_waits_on_and_a_decided_height_is_forgotten() {
        let mut held = Held::new(4);
        for height in [6, 5, 6] {
            held.hold(0, vote(1, height, 0));
        }
        assert!(held.speaks_of(5) && held.speaks_of(6) && !held.speaks_of(7));
        assert_eq!(held.next(5), Some((0, vote(1, 5, 0))));
        assert_eq!(held.next(5), None);
        held.forget(5);
        assert_eq!(held.next(6), Some((0, vote(1, 6, 0))), "a repetition is held once");
        held.hold(0, vote(1, 6, 0));
        held.forget(6);
        assert!(!held.speaks_of(6));
    }
}
