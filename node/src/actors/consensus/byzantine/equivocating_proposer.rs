//! Proposes two blocks whenever it is the proposer: one to some members and the other to the rest, or both to all.

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct EquivocatingProposer;

impl Fault for EquivocatingProposer {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        let ConsensusWire::Proposal(mut other, _) = message.clone() else {
            return vec![Delivery::at_once(None, message)];
        };
        other.block.timestamp_ms += 1;
        let other = forger.propose(other);
        if forger.coin() {
            return vec![Delivery::at_once(None, message), Delivery::at_once(None, other)];
        }
        let apart = forger.peer();
        let offer =
            |peer| Delivery::at_once(Some(peer), if peer == apart { &other } else { &message }.clone());
        forger.peers().into_iter().map(offer).collect()
    }
}
