//! Sends what it says to one member, another each time, or to nobody.

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module.
pub(super) struct Withholder;

impl Fault for Withholder {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        if forger.coin() { vec![Delivery::at_once(Some(forger.peer()), message)] } else { Vec::new() }
    }
}
