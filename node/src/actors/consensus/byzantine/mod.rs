//! Members that break the protocol, for drills and tests: one fault a file.
//!
//! A fault stands between the honest protocol of a member and the links: it changes, doubles, holds or drops what the
//! protocol says, and signs what it likes with the member's key, past the guard. The same faults run in the simulation
//! and in a process, where faults are enabled and somebody asks for one (`POST /faults`).
//!
//! At most one member of four may misbehave; with two, agreement is lost by definition.
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

/// Blocks that a member claims to have beyond those it has, where it lies about its height.
const CLAIMED_AHEAD: u64 = 1_000_000;

/// How a member breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misbehaviour {
    /// It offers different blocks to different members.
    EquivocatingProposer,
    /// It votes differently to different members.
    EquivocatingVoter,
    /// It sends what it says to one member at most.
    Withholder,
    /// Its blocks have a parent that nobody knows.
    OrphanParent,
    /// It claims to be a million blocks ahead, and votes there.
    LyingHeight,
    /// Its blocks break a rule, each another one.
    InvalidBlock,
    /// Everything it says comes seconds late.
    LateEverything,
    /// It votes for every offer it sees, forgetting what it voted for before.
    Amnesiac,
    /// It floods everybody with votes of far rounds, and with forged ones.
    Flooder,
}

impl Misbehaviour {
    /// All of them.
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

    /// Its name, as `POST /faults` takes it.
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

    /// Whether it signs two different things for one place, which is evidence to whoever has both.
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

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The receiver's place in genesis; `None` for every other member.
    pub to: Option<usize>,
    /// How long it is held back.
    pub after: Duration,
    /// What is said.
    pub message: ConsensusWire,
}

impl Delivery {
    fn at_once(to: Option<usize>, message: ConsensusWire) -> Self {
        Self { to, after: Duration::ZERO, message }
    }
}

/// One way to break the protocol.
trait Fault: Send {
    /// What becomes of a message of the honest protocol, which is meant for every other member.
    fn say(&mut self, forger: &mut Forger, message: ConsensusWire) -> Vec<Delivery>;

    /// What is said to what another member said.
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
    /// The member at place `own`, with its key. Chance comes from `seed`.
    pub fn new(how: Misbehaviour, genesis: &Genesis, own: usize, key: SecretKey, seed: u64) -> Self {
        Self { how, fault: how.fault(), forger: Forger::new(genesis, own, key, seed) }
    }

    /// How it misbehaves.
    pub fn how(&self) -> Misbehaviour {
        self.how
    }

    /// What becomes of a message that the honest protocol sends to the member at place `to`, or to every other.
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

    /// What is said to what another member said.
    pub fn hear(&mut self, message: &ConsensusWire) -> Vec<Delivery> {
        self.fault.hear(&mut self.forger, message)
    }
}

/// How a running member is to misbehave at present: nothing, unless somebody orders it in a drill.
#[derive(Clone, Debug, Default)]
pub struct ByzantineDrill(Arc<RwLock<Option<Misbehaviour>>>);

impl ByzantineDrill {
    /// Orders a misbehaviour, or with `None` an honest life again.
    pub fn order(&self, how: Option<Misbehaviour>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = how;
    }

    /// What was ordered last.
    pub fn ordered(&self) -> Option<Misbehaviour> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The height a member tells its peers: its own, unless it is to lie.
pub struct Claim {
    /// Where its chain ends.
    pub head: HeadReader,
    /// Whether it is to lie.
    pub drill: ByzantineDrill,
}

/// What a member whose chain ends at `height` claims.
pub(super) fn claimed(height: u64, how: Option<Misbehaviour>) -> u64 {
    height + if how == Some(Misbehaviour::LyingHeight) { CLAIMED_AHEAD } else { 0 }
}

impl Progress for Claim {
    fn height(&self) -> BlockHeight {
        BlockHeight(claimed(self.head.head().height, self.drill.ordered()))
    }
}
