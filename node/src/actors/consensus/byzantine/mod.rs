//! Byzantine members that break the protocol, for fault injection and tests: one fault per file.
//!
//! A fault sits between a member's honest protocol and its links: it changes, duplicates, delays or drops the
//! protocol's messages, and signs anything with the member's key, bypassing the guard. The same faults run in the
//! simulation and in a process, where faults must be enabled and requested (`POST /faults`).
//!
//! At most one member of four may be Byzantine; with two, agreement is lost by definition.
//!
//! Reading order: [`Misbehaviour`], `Fault`, `forger` (the key), the faults.

mod amnesiac;
mod equivocating_proposer;
mod equivocating_voter;
mod flooder;
mod forger;
mod invalid_block;
mod late;
mod lying_height;
mod orphan_parent;
#[cfg(test)]
mod simulated;
mod withholder;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alys_cluster::id::BlockHeight;
use alys_cluster::port::Progress;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::forger::Forger;
use crate::actors::chain::HeadReader;
use crate::consensus::message::ConsensusWire;
use crate::genesis::Genesis;
use crate::keys::SecretKey;

/// Blocks by which a member overstates its height, if it lies about it.
const CLAIMED_AHEAD: u64 = 1_000_000;

/// How a member breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// It proposes different blocks to different members.
    EquivocatingProposer,
    /// It sends different votes to different members.
    EquivocatingVoter,
    /// It sends each message to at most one member.
    Withholder,
    /// Its blocks have an unknown parent.
    OrphanParent,
    /// It claims to be a million blocks ahead, and votes there.
    LyingHeight,
    /// Each of its blocks breaks a rule.
    InvalidBlock,
    /// All of its messages are seconds late.
    LateEverything,
    /// It votes for every proposal it receives, regardless of earlier votes.
    Amnesiac,
    /// It floods all members with votes of far rounds and with forged votes.
    Flooder,
}

impl Misbehaviour {
    /// All variants.
    pub const ALL: [Self; 9] = [
        Self::EquivocatingProposer,
        Self::EquivocatingVoter,
        Self::Withholder,
        Self::OrphanParent,
        Self::LyingHeight,
        Self::InvalidBlock,
        Self::LateEverything,
        Self::Amnesiac,
        Self::Flooder,
    ];

    /// Name used by `POST /faults`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EquivocatingProposer => "equivocating_proposer",
            Self::EquivocatingVoter => "equivocating_voter",
            Self::Withholder => "withholder",
            Self::OrphanParent => "orphan_parent",
            Self::LyingHeight => "lying_height",
            Self::InvalidBlock => "invalid_block",
            Self::LateEverything => "late_everything",
            Self::Amnesiac => "amnesiac",
            Self::Flooder => "flooder",
        }
    }

    /// Whether it signs different statements for one height, round and step: evidence for anyone who has both.
    pub fn equivocates(self) -> bool {
        matches!(self, Self::EquivocatingProposer | Self::EquivocatingVoter | Self::LyingHeight)
    }

    fn fault(self) -> Box<dyn Fault> {
        match self {
            Self::EquivocatingProposer => Box::new(equivocating_proposer::EquivocatingProposer),
            Self::EquivocatingVoter => Box::new(equivocating_voter::EquivocatingVoter),
            Self::Withholder => Box::new(withholder::Withholder),
            Self::OrphanParent => Box::new(orphan_parent::OrphanParent),
            Self::LyingHeight => Box::new(lying_height::LyingHeight),
            Self::InvalidBlock => Box::new(invalid_block::InvalidBlock),
            Self::LateEverything => Box::new(late::LateEverything),
            Self::Amnesiac => Box::new(amnesiac::Amnesiac),
            Self::Flooder => Box::new(flooder::Flooder),
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Index of the receiver in genesis; `None` for every other member.
    pub to: Option<usize>,
    /// Delay before the message is sent.
    pub after: Duration,
    /// Message to send.
    pub message: ConsensusWire,
}

impl Delivery {
    fn at_once(to: Option<usize>, message: ConsensusWire) -> Self {
        Self { to, after: Duration::ZERO, message }
    }
}

/// One way to break the protocol.
trait Fault: Send {
    /// Replaces a message that the honest protocol sends to every other member.
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery>;

    /// Messages sent in reaction to a message of another member.
    fn hear(&mut self, _forger: &mut Forger, _message: &ConsensusWire) -> Vec<Delivery> {
        Vec::new()
    }
}

/// A member that misbehaves.
pub struct Byzantine {
    how: Misbehaviour,
    fault: Box<dyn Fault>,
    forger: Forger,
}

impl Byzantine {
    /// Creates the Byzantine member at index `own` with its key. `seed` seeds its random choices.
    pub fn new(how: Misbehaviour, genesis: &Genesis, own: usize, key: SecretKey, seed: u64) -> Self {
        Self { how, fault: how.fault(), forger: Forger::new(genesis, own, key, seed) }
    }

    /// Its misbehaviour.
    pub fn how(&self) -> Misbehaviour {
        self.how
    }

    /// Replaces a message that the honest protocol sends to the member at index `to`, or to every other member.
    pub fn say(&mut self, to: Option<usize>, message: ConsensusWire) -> Vec<Delivery> {
        let mut deliveries = self.fault.say(&mut self.forger, message);
        if to.is_some() {
            deliveries.retain(|delivery| delivery.to.is_none() || delivery.to == to);
            for delivery in &mut deliveries {
                delivery.to = to;
            }
        }
        deliveries
    }

    /// Messages sent in reaction to a message of another member.
    pub fn hear(&mut self, message: &ConsensusWire) -> Vec<Delivery> {
        self.fault.hear(&mut self.forger, message)
    }
}

/// Misbehaviour that fault injection requests of a running member; none by default.
#[derive(Clone, Debug, Default)]
pub struct ByzantineDrill(Arc<RwLock<Option<Misbehaviour>>>);

impl ByzantineDrill {
    /// Requests a misbehaviour, or with `None` honest behaviour.
    pub fn order(&self, how: Option<Misbehaviour>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = how;
    }

    /// Misbehaviour requested last.
    pub fn ordered(&self) -> Option<Misbehaviour> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The height a member reports to its peers: its own, unless it is to lie.
pub struct Claim {
    /// Head of the member's chain.
    pub head: HeadReader,
    /// Whether the member is to lie.
    pub drill: ByzantineDrill,
}

/// Height claimed by a member whose chain ends at `height`.
pub(super) fn claimed(height: u64, how: Option<Misbehaviour>) -> u64 {
    height + if how == Some(Misbehaviour::LyingHeight) { CLAIMED_AHEAD } else { 0 }
}

impl Progress for Claim {
    fn height(&self) -> BlockHeight {
        BlockHeight(claimed(self.head.head().height, self.drill.ordered()))
    }
}
