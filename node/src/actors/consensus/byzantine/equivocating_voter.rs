//! Votes twice: for a block and for nil. Either every member receives both votes, or one member receives both and the
//! others one each.

use malachite_types::NilOrVal;

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct EquivocatingVoter;

impl Fault for EquivocatingVoter {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        let ConsensusWire::Vote(mut other, _) = message.clone() else {
            return vec![Delivery::at_once(None, message)];
        };
        other.block = match other.block {
            NilOrVal::Val(_) => NilOrVal::Nil,
            NilOrVal::Nil => NilOrVal::Val(forger.hash()),
        };
        let other = forger.vote(other);
        if forger.coin() {
            return vec![Delivery::at_once(None, other), Delivery::at_once(None, message)];
        }
        let (both, apart) = (forger.peer(), forger.peer());
        let vote =
            |peer| Delivery::at_once(Some(peer), if peer == apart { &other } else { &message }.clone());
        let mut votes: Vec<_> = forger.peers().into_iter().map(vote).collect();
        let second = if both == apart { message.clone() } else { other.clone() };
        votes.push(Delivery::at_once(Some(both), second));
        votes
    }
}
