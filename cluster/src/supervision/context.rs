//! What every supervisor of a node shares.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::board::TreeBoard;
use super::decision::Tightening;
use super::failure::Failure;
use super::intensity::{Budget, RestartIntensity, RestartWindow};
use super::memory::SupervisionMemory;
use super::pattern::{Evidence, PatternConfig};
use super::slot::{SlotReader, SlotTiming};
use super::spec::ChildPolicy;
use super::state::Surroundings;
use crate::clock::{Clock, Moment};
use crate::event::EventBus;
use crate::port::{ConsensusHalt, NoConsensus};
use crate::registry::ThreadSafeActorRegistry;

/// Gives numbers from 0 to 1.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What every supervisor of a node shares. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Begins the ractor name of every actor of the node.
    pub prefix: Arc<str>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of starts, exits and decisions.
    pub events: EventBus,
    /// Shows the tree.
    pub board: TreeBoard,
    /// Knows every actor of the node.
    pub registry: ThreadSafeActorRegistry,
    /// Remembers failures.
    pub memory: SupervisionMemory,
    /// Where slots begin.
    pub slots: SlotReader,
    /// The time between two blocks.
    pub block_time: Duration,
    /// How long after a slot's beginning the members propose and vote.
    pub consensus_window: Duration,
    /// Halts consensus operations.
    pub halt: Arc<dyn ConsensusHalt>,
    /// Where jitter comes from.
    pub chance: Chance,
    bound: Arc<Mutex<RestartWindow>>,
}

/// The specification's block time.
const BLOCK_TIME: Duration = Duration::from_secs(2);
/// No more restarts than this in the whole tree, unless it is told otherwise: no bound.
const UNBOUND: RestartIntensity = RestartIntensity { max_restarts: u32::MAX, within: Duration::from_secs(1) };

impl Context {
    /// A node without consensus, without a bound across its supervisors, and with patterns found but not acted
    /// upon. The public fields change the rest.
    pub fn new(prefix: &str, clock: Arc<dyn Clock>, events: EventBus) -> Self {
        Self {
            prefix: prefix.into(),
            clock,
            events,
            board: TreeBoard::default(),
            registry: ThreadSafeActorRegistry::default(),
            memory: SupervisionMemory::new(PatternConfig::WATCH_ONLY),
            slots: SlotReader::default(),
            block_time: BLOCK_TIME,
            consensus_window: BLOCK_TIME * 3 / 10,
            halt: Arc::new(NoConsensus),
            chance: Arc::new(rand::random),
            bound: Arc::new(Mutex::new(RestartWindow::new(UNBOUND))),
        }
    }

    /// The same, where all supervisors together restart no more often than this. Budgets multiply from level to
    /// level; this does not.
    #[must_use]
    pub fn bound(mut self, bound: RestartIntensity) -> Self {
        self.bound = Arc::new(Mutex::new(RestartWindow::new(bound)));
        self
    }

    /// What is left of the bound across all supervisors.
    pub fn bound_left(&self) -> Budget {
        let now = self.clock.now();
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).budget(now)
    }
}

impl Surroundings for &Context {
    fn slots(&self) -> Option<SlotTiming> {
        self.slots.timing()
    }

    fn block_time(&self) -> (Duration, Duration) {
        (self.block_time, self.consensus_window)
    }

    fn random(&mut self) -> f64 {
        (self.chance)()
    }

    fn bound(&mut self, now: Moment) -> Budget {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).budget(now)
    }

    fn spend(&mut self, now: Moment) -> bool {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = bound.budget(now).allows(1);
        if is_left {
            bound.spend(now);
        }
        is_left
    }

    fn observe(&mut self, now: Moment, child: &ChildPolicy, failure: &Failure) -> Tightening {
        let (actor, failure) = (child.name.clone(), failure.clone());
        let seen = Evidence { at: now, wall: self.clock.wall(), actor, failure };
        self.memory.observe(seen, &child.depends_on)
    }
}
