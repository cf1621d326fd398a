//! What every supervisor of a node shares.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::decision::RestartThrottle;
use super::failure::Failure;
use super::intensity::{Budget, RestartIntensity, RestartWindow};
use super::memory::SupervisionMemory;
use super::pattern::{Evidence, PatternConfig};
use super::slot::{SlotReader, SlotTiming};
use super::spec::ChildPolicy;
use super::state::Environment;
use super::tree::TreeReader;
use crate::clock::{Clock, Moment};
use crate::event::EventBus;
use crate::id::ActorPriority;
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
    pub tree: TreeReader,
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
    /// By priority.
    bound: Arc<Mutex<[RestartWindow; ActorPriority::ALL.len()]>>,
    /// Held by who takes a supervisor's place, or leaves it.
    pub(super) places: Arc<Mutex<()>>,
}

/// The specification's block time.
const BLOCK_TIME: Duration = Duration::from_secs(2);
/// No more restarts than this in the whole tree, unless it is told otherwise: no bound.
const UNBOUND: RestartIntensity = RestartIntensity { max_restarts: u32::MAX, within: Duration::from_secs(1) };

fn windows(bound: RestartIntensity) -> Arc<Mutex<[RestartWindow; ActorPriority::ALL.len()]>> {
    Arc::new(Mutex::new(ActorPriority::ALL.map(|_| RestartWindow::new(bound))))
}

impl Context {
    /// A node without consensus, without a bound across its supervisors, and with patterns found but not acted
    /// upon. The public fields change the rest.
    pub fn new(prefix: &str, clock: Arc<dyn Clock>, events: EventBus) -> Self {
        Self {
            prefix: prefix.into(),
            clock,
            events,
            tree: TreeReader::default(),
            registry: ThreadSafeActorRegistry::default(),
            memory: SupervisionMemory::new(PatternConfig::WATCH_ONLY),
            slots: SlotReader::default(),
            block_time: BLOCK_TIME,
            consensus_window: BLOCK_TIME * 3 / 10,
            halt: Arc::new(NoConsensus),
            chance: Arc::new(rand::random),
            bound: windows(UNBOUND),
            places: Arc::default(),
        }
    }

    /// The same, where all supervisors together restart children of each priority no more often than this. Budgets
    /// multiply from level to level; this does not.
    #[must_use]
    pub fn bound(mut self, bound: RestartIntensity) -> Self {
        self.bound = windows(bound);
        self
    }

    /// What is left of the bound across all supervisors, for the priority that has the least left.
    pub fn bound_left(&self) -> Budget {
        let now = self.clock.now();
        let mut windows = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let budgets = windows.iter_mut().map(|window| window.budget(now));
        budgets.min_by_key(Budget::left).unwrap_or(Budget::UNLIMITED)
    }
}

impl Environment for &Context {
    fn slots(&self) -> Option<SlotTiming> {
        self.slots.timing()
    }

    fn block_time(&self) -> (Duration, Duration) {
        (self.block_time, self.consensus_window)
    }

    fn random(&mut self) -> f64 {
        (self.chance)()
    }

    fn bound(&mut self, now: Moment, priority: ActorPriority) -> Budget {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)[priority as usize].budget(now)
    }

    fn spend(&mut self, now: Moment, priority: ActorPriority) -> bool {
        let window = &mut self.bound.lock().unwrap_or_else(PoisonError::into_inner)[priority as usize];
        let is_left = window.budget(now).allows(1);
        if is_left {
            window.spend(now);
        }
        is_left
    }

    fn observe(&mut self, now: Moment, child: &ChildPolicy, failure: &Failure) -> RestartThrottle {
        let (actor, failure) = (child.name.clone(), failure.clone());
        let seen = Evidence { at: now, wall: self.clock.wall(), actor, failure };
        self.memory.observe(seen, &child.depends_on)
    }
}
