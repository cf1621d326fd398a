//! State and services shared by all supervisors of a node.

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

/// Source of random numbers from 0 to 1.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// State and services shared by all supervisors of a node. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Prefix of the ractor name of every actor of the node.
    pub prefix: Arc<str>,
    /// Clock of the node.
    pub clock: Arc<dyn Clock>,
    /// Bus for events about starts, exits and decisions.
    pub events: EventBus,
    /// Read-only view of the supervision tree.
    pub tree: TreeReader,
    /// Registry of every actor of the node.
    pub registry: ThreadSafeActorRegistry,
    /// History of failures and restarts.
    pub memory: SupervisionMemory,
    /// Start times of the slots.
    pub slots: SlotReader,
    /// Time between two blocks.
    pub block_time: Duration,
    /// Time after the start of a slot in which the members propose and vote.
    pub consensus_window: Duration,
    /// Halts consensus operations.
    pub halt: Arc<dyn ConsensusHalt>,
    /// Random source for jitter.
    pub chance: Chance,
    /// Restarts in the whole tree, by priority.
    bound: Arc<Mutex<[RestartWindow; ActorPriority::ALL.len()]>>,
    /// Held while a supervisor takes over a name in the tree, or gives it up.
    pub(super) places: Arc<Mutex<()>>,
}

/// The specification's block time.
const BLOCK_TIME: Duration = Duration::from_secs(2);
/// Default limit for restarts in the whole tree: practically unlimited.
const UNBOUND: RestartIntensity = RestartIntensity { max_restarts: u32::MAX, within: Duration::from_secs(1) };

fn windows(bound: RestartIntensity) -> Arc<Mutex<[RestartWindow; ActorPriority::ALL.len()]>> {
    Arc::new(Mutex::new(ActorPriority::ALL.map(|_| RestartWindow::new(bound))))
}

impl Context {
    /// A context without consensus and without a limit across supervisors; failure patterns are detected but do not
    /// delay restarts. The public fields change the rest.
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

    /// Sets how often all supervisors together may restart children of each priority. Budgets of supervisors multiply
    /// from level to level; this one does not.
    #[must_use]
    pub fn bound(mut self, bound: RestartIntensity) -> Self {
        self.bound = windows(bound);
        self
    }

    /// What is left of the limit across all supervisors, for the priority that has the least left.
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
