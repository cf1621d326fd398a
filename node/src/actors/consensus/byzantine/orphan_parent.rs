//! Proposes blocks on an unknown parent.

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct OrphanParent;

impl Fault for OrphanParent {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        let ConsensusWire::Proposal(mut orphan, _) = message else {
            return vec![Delivery::at_once(None, message)];
        };
        orphan.block.parent = forger.hash();
        vec![Delivery::at_once(None, forger.propose(orphan))]
    }
}
