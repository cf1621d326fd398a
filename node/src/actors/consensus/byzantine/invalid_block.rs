//! Proposes blocks that break a rule, chosen at random each time.

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct InvalidBlock;

impl Fault for InvalidBlock {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        let ConsensusWire::Proposal(mut proposal, _) = message else {
            return vec![Delivery::at_once(None, message)];
        };
        let block = &mut proposal.block;
        match forger.below(6) {
            0 => block.state_root.0[0] ^= 1,
            1 => block.transactions.push(Vec::new()),
            2 => block.transactions.extend([vec![1], vec![1]]),
            3 => block.timestamp_ms = 0,
            4 => block.timestamp_ms += 3_600_000,
            // In another member's name.
            _ => block.proposer = block.proposer.wrapping_add(1),
        }
        vec![Delivery::at_once(None, forger.propose(proposal))]
    }
}
