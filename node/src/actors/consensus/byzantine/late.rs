//! Sends every message one to four seconds late.

use std::time::Duration;

use super::forger::Forger;
use super::{Delivery, Fault};
use crate::consensus::message::ConsensusWire;

/// See the module documentation.
pub(super) struct LateEverything;

impl Fault for LateEverything {
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery> {
        vec![Delivery { to: None, after: Duration::from_millis(1_000 + forger.below(3_000)), message }]
    }
}
