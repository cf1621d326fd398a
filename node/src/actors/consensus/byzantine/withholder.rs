//! Sends each message to one random member, or to none.

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct Withholder;

impl Fault for Withholder {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        if forger.coin() { vec![Delivery::at_once(Some(forger.peer()), message)] } else { Vec::new() }
    }
}
