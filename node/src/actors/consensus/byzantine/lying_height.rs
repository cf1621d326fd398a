//! Votes at heights that have not started, besides its honest messages; its honest votes at those heights later
//! contradict these. Its heartbeats claim a million blocks more than it has.

use malachite_types::{NilOrVal, Round, VoteType};

use super::forger::Forger;
use super::{CLAIMED_AHEAD, Delivery, Fault};
use crate::consensus::context::{BlockVote, ConsensusHeight, MemberIndex};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct LyingHeight;

impl Fault for LyingHeight {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        let block = forger.hash();
        let vote = |ahead: u64| {
            forger.vote(BlockVote {
                height: ConsensusHeight(message.height() + ahead),
                round: Round::new(message.round()),
                kind: VoteType::Precommit,
                block: NilOrVal::Val(block),
                voter: MemberIndex(forger.own()),
            })
        };
        let lies = [1, CLAIMED_AHEAD].map(vote);
        lies.into_iter().chain([message]).map(|message| Delivery::at_once(None, message)).collect()
    }
}
