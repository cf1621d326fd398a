//! Every actor of a node: found by name, type, tag and priority, while others come and go.
//!
//! **An actor is registered when its own slot says so**, in one word that is set and cleared at one instant; names and
//! indexes only lead to slots. So an actor appears in all of them at once, and vanishes from all of them at once: they
//! can not disagree, whatever a reader uses and whenever it looks. Where an actor stands is one value too, replaced as a
//! whole. What a query finds is what was registered throughout; an actor that comes or goes meanwhile
//! may be in the answer or not.
//!
//! Readers never wait: not for writers, not for each other. Writers take turns.

use std::sync::{Arc, PoisonError};

use super::entry::{ActorRegistryEntry, EntryStatus, Registration, RegistrySlot};
use super::error::{LookupError, RegistryError};
use super::index::{Id, Indexes};
use super::lifecycle::ActorLifecycleState;
use super::page::{Page, QueryPage};
use super::plan::{AccessPath, Plan};
use super::query::{ActorQuery, QueryError};
use super::subscription::{ChangeFeed, FeedItem, Subscription};
use super::sync::{AtomicU64, Cell, Map, Mutex, MutexGuard, Ordering};
use crate::clock::Moment;
use crate::health::HealthStatus;
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};
use crate::mailbox::Address;

/// The most actors, unless it is told otherwise: far more than any node has, and less than memory would take.
pub const ACTORS_MAX: usize = 2_000_000;

/// What only the one who writes may touch.
#[derive(Default)]
struct Writer {
    /// Numbers of actors that were removed.
    free: Vec<Id>,
    /// Grows with every change.
    version: u64,
}

/// The registry's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryStats {
    /// Actors registered.
    pub actors: usize,
    /// Actors by where they stand.
    pub by_state: [(ActorLifecycleState, u64); ActorLifecycleState::ALL.len()],
    /// Actors by their priority.
    pub by_priority: [(ActorPriority, usize); ActorPriority::ALL.len()],
    /// Types that any of them has.
    pub types: usize,
    /// Tags that any of them has.
    pub tags: usize,
    /// Who is told of changes.
    pub subscriptions: usize,
    /// Registrations since it was made, those of actors that came back included.
    pub registrations: u64,
    /// Removals since it was made.
    pub removals: u64,
    /// Moves from one state to another since it was made.
    pub moves: u64,
}

/// Every actor of a node (specification, Phase 3). Shared as a [`ThreadSafeActorRegistry`].
pub struct ActorRegistry {
    actors_max: usize,
    names: Map<ActorName, Arc<RegistrySlot>>,
    /// By number.
    slots: boxcar::Vec<Cell<RegistrySlot>>,
    indexes: Indexes,
    writer: Mutex<Writer>,
    feed: ChangeFeed,
    /// How many there are. The counts by state move one after the other, and do not add up at every instant.
    actors: AtomicU64,
    by_state: [AtomicU64; ActorLifecycleState::ALL.len()],
    registrations: AtomicU64,
    removals: AtomicU64,
    moves: AtomicU64,
}

/// The registry, shared. Cheap to clone.
#[derive(Clone)]
pub struct ThreadSafeActorRegistry(Arc<ActorRegistry>);

impl Default for ThreadSafeActorRegistry {
    fn default() -> Self {
        Self::new(ACTORS_MAX)
    }
}

impl std::fmt::Debug for ThreadSafeActorRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadSafeActorRegistry({} actors)", self.len())
    }
}

impl std::ops::Deref for ThreadSafeActorRegistry {
    type Target = ActorRegistry;

    fn deref(&self) -> &ActorRegistry {
        &self.0
    }
}

impl ThreadSafeActorRegistry {
    /// A registry of at most `actors_max` actors, empty.
    pub fn new(actors_max: usize) -> Self {
        Self(Arc::new(ActorRegistry {
            actors_max: actors_max.min(Id::MAX as usize),
            names: Map::new(),
            slots: boxcar::Vec::new(),
            indexes: Indexes::new(),
            writer: Mutex::new(Writer::default()),
            feed: ChangeFeed::new(),
            actors: AtomicU64::new(0),
            by_state: ActorLifecycleState::ALL.map(|_| AtomicU64::new(0)),
            registrations: AtomicU64::new(0),
            removals: AtomicU64::new(0),
            moves: AtomicU64::new(0),
        }))
    }

    /// A listing of the actors that `query` holds for, then every change to it.
    pub fn subscribe(&self, query: ActorQuery) -> Result<Subscription, QueryError> {
        query.validate()?;
        if query.depends_on_time() {
            return Err(QueryError::Time);
        }
        Ok(Subscription::new(self.clone(), query))
    }
}

impl ActorRegistry {
    fn turn(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, name: &ActorName) -> Option<Arc<RegistrySlot>> {
        self.names.get(name)
    }

    fn known(&self, name: &ActorName) -> Result<(Arc<RegistrySlot>, EntryStatus), RegistryError> {
        let found = self.slot(name).and_then(|slot| {
            let standing = slot.standing()?;
            Some((slot, standing))
        });
        found.ok_or_else(|| RegistryError::Unknown { name: name.clone() })
    }

    fn count(&self, from: Option<ActorLifecycleState>, to: Option<ActorLifecycleState>) {
        if let Some(from) = from {
            self.by_state[from as usize].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(to) = to {
            self.by_state[to as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Replaces the standing of a registered actor: the instant at which everybody sees it.
    fn put(&self, slot: &Arc<RegistrySlot>, before: Option<ActorLifecycleState>, standing: EntryStatus) {
        self.count(before, Some(standing.state));
        slot.set(standing);
        if before.is_none() {
            slot.appear();
        }
        self.feed.tell(|| FeedItem::Changed(ActorRegistryEntry::of(slot.clone(), standing)));
    }

    /// Registers an actor that is about to be started: it is [`ActorLifecycleState::Registering`]. One that is
    /// terminated is registered anew by the same supervisor, or by another if its own is terminated too, as the next
    /// incarnation.
    pub fn register(&self, now: Moment, registration: Registration) -> Result<Incarnation, RegistryError> {
        let field = |source| RegistryError::Field { name: registration.name.clone(), source };
        registration.profile.validate().map_err(field)?;
        let mut turn = self.turn();
        let before = self.known(&registration.name).ok();
        // A supervisor that keeps a stopped child's place keeps its name too, for as long as it lives itself.
        if let Some((slot, standing)) = &before
            && (standing.state != ActorLifecycleState::Terminated
                || slot.registration.supervisor != registration.supervisor
                    && self.lives(slot.registration.supervisor.as_ref()))
        {
            return Err(RegistryError::Duplicate { name: registration.name, state: standing.state });
        }
        if before.is_none() && self.len() >= self.actors_max {
            return Err(RegistryError::Full { actors: self.len(), actors_max: self.actors_max });
        }
        turn.version += 1;
        self.registrations.fetch_add(1, Ordering::Relaxed);
        let version = turn.version;
        let Some((slot, standing)) = before else {
            let standing = EntryStatus::first(now, version);
            self.enter(&mut turn, registration, standing);
            return Ok(standing.incarnation);
        };
        let again = standing.again(now, version);
        if slot.registration.is_same(&registration) {
            self.put(&slot, Some(standing.state), again);
        } else {
            self.leave(&mut turn, &slot, standing.state);
            self.enter(&mut turn, registration, again);
        }
        Ok(again.incarnation)
    }

    /// Whether a supervisor may start a child that it has stopped.
    fn lives(&self, supervisor: Option<&ActorName>) -> bool {
        let known = supervisor.and_then(|name| self.known(name).ok());
        known.is_some_and(|(_, standing)| standing.state != ActorLifecycleState::Terminated)
    }

    /// Leads everybody to a new slot, then lets it be seen.
    fn enter(&self, turn: &mut Writer, registration: Registration, standing: EntryStatus) {
        let id = turn.free.pop().unwrap_or_else(|| self.slots.push(Cell::new(None)) as Id);
        let slot = Arc::new(RegistrySlot::new(id, registration));
        self.slots[id as usize].set(Some(slot.clone()));
        self.indexes.insert(&slot.registration, id);
        self.names.insert(slot.registration.name.clone(), slot.clone());
        self.actors.fetch_add(1, Ordering::Relaxed);
        self.put(&slot, None, standing);
    }

    /// Lets a slot be seen no more, then leads nobody to it.
    fn leave(&self, turn: &mut Writer, slot: &RegistrySlot, state: ActorLifecycleState) {
        self.count(Some(state), None);
        self.actors.fetch_sub(1, Ordering::Relaxed);
        slot.vanish();
        self.names.remove(&slot.registration.name);
        self.indexes.remove(&slot.registration, slot.id);
        self.slots[slot.id as usize].set(None);
        turn.free.push(slot.id);
    }

    /// Moves an actor to another state, if the table of moves allows it.
    pub fn advance(
        &self,
        now: Moment,
        name: &ActorName,
        to: ActorLifecycleState,
    ) -> Result<EntryStatus, RegistryError> {
        let mut turn = self.turn();
        let (slot, standing) = self.known(name)?;
        standing.state.check(to).map_err(|source| RegistryError::Move { name: name.clone(), source })?;
        turn.version += 1;
        let moved = standing.moved(now, to, turn.version);
        self.moves.fetch_add(1, Ordering::Relaxed);
        self.put(&slot, Some(standing.state), moved);
        Ok(moved)
    }

    /// Notes what the health checks say of an actor.
    pub fn record_health(&self, name: &ActorName, health: HealthStatus) -> Result<(), RegistryError> {
        let mut turn = self.turn();
        let (slot, standing) = self.known(name)?;
        if standing.health != health {
            turn.version += 1;
            let version = turn.version;
            self.put(&slot, Some(standing.state), EntryStatus { health, version, ..standing });
        }
        Ok(())
    }

    /// Removes an actor that is terminated. Whoever takes its name later begins at the first incarnation.
    pub fn remove(&self, name: &ActorName) -> Result<(), RegistryError> {
        let mut turn = self.turn();
        let (slot, standing) = self.known(name)?;
        if standing.state != ActorLifecycleState::Terminated {
            return Err(RegistryError::Alive { name: name.clone(), state: standing.state });
        }
        turn.version += 1;
        self.removals.fetch_add(1, Ordering::Relaxed);
        self.leave(&mut turn, &slot, standing.state);
        self.feed.tell(|| FeedItem::Removed(name.clone(), turn.version));
        Ok(())
    }

    pub(super) fn feed(&self) -> &ChangeFeed {
        &self.feed
    }

    /// How many actors are registered.
    pub fn len(&self) -> usize {
        self.actors.load(Ordering::Relaxed) as usize
    }

    /// Whether no actor is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The actor of this name.
    pub fn entry(&self, name: &ActorName) -> Option<ActorRegistryEntry> {
        self.names.get(name).and_then(ActorRegistryEntry::at)
    }

    /// Where the actor of this name stands.
    pub fn standing(&self, name: &ActorName) -> Option<EntryStatus> {
        self.names.read(name, |slot| slot?.standing())
    }

    /// Where the actor of this name takes messages of type `M`. The address follows it from incarnation to
    /// incarnation; while it is away, messages are refused with [`crate::mailbox::MailError::Absent`].
    pub fn find<M: Send + 'static>(&self, name: &ActorName) -> Result<Address<M>, LookupError> {
        self.names.read(name, |slot| {
            let slot = slot.filter(|slot| slot.is_registered());
            let slot = slot.ok_or_else(|| LookupError::Unknown { name: name.clone() })?;
            slot.registration.reach()
        })
    }

    /// Everybody of this type, by name.
    pub fn by_type(&self, actor_type: &ActorType) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Type(actor_type.clone()))
    }

    /// Everybody with this tag, by name.
    pub fn by_tag(&self, tag: &Tag) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Tag(tag.clone()))
    }

    /// Everybody of this priority, by name.
    pub fn by_priority(&self, priority: ActorPriority) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Priority(priority))
    }

    /// Everybody for whom `query` holds, by name. The answer may be as long as the registry: for those who know
    /// that theirs is not. Others take a page.
    pub fn select(&self, now: Moment, query: &ActorQuery) -> Vec<ActorRegistryEntry> {
        let mut found = Vec::new();
        self.visit(now, query, &mut |entry| found.push(entry));
        // Whoever left and came back meanwhile may have been met twice; the later one stands.
        let version = |entry: &ActorRegistryEntry| std::cmp::Reverse(entry.standing.version);
        found.sort_unstable_by(|a, b| a.name().cmp(b.name()).then(version(a).cmp(&version(b))));
        found.dedup_by(|later, first| later.name() == first.name());
        found
    }

    /// A page of those for whom `query` holds.
    pub fn query(&self, now: Moment, query: &ActorQuery, page: &Page) -> QueryPage {
        let mut turn = page.turn();
        self.visit(now, query, &mut |entry| turn.take(entry));
        turn.end()
    }

    /// Several queries at once.
    pub fn query_batch(&self, now: Moment, queries: &[(ActorQuery, Page)]) -> Vec<QueryPage> {
        queries.iter().map(|(query, page)| self.query(now, query, page)).collect()
    }

    /// How `query` would be answered.
    pub fn explain(&self, query: &ActorQuery) -> Plan {
        let actors = self.len();
        let path = AccessPath::of(query, &self.indexes, actors);
        Plan { path: path.to_string(), candidates: path.most(actors), actors, filter: query.to_string() }
    }

    fn visit(&self, now: Moment, query: &ActorQuery, take: &mut dyn FnMut(ActorRegistryEntry)) {
        let mut look = |slot: Arc<RegistrySlot>| {
            if let Some(standing) = slot.standing()
                && query.matches(now, &slot.registration, &standing)
            {
                take(ActorRegistryEntry::of(slot, standing));
            }
        };
        match AccessPath::of(query, &self.indexes, self.len()) {
            // No number comes twice in one set.
            path @ AccessPath::Sets(_) => self.follow(&path, &mut |id| self.look(id, &mut look)),
            path => {
                let mut ids = roaring::RoaringBitmap::new();
                self.follow(&path, &mut |id| {
                    ids.insert(id);
                });
                ids.iter().for_each(|id| self.look(id, &mut look));
            }
        }
    }

    fn look(&self, id: Id, look: &mut dyn FnMut(Arc<RegistrySlot>)) {
        if let Some(cell) = self.slots.get(id as usize) {
            cell.get().into_iter().for_each(look);
        }
    }

    fn follow(&self, path: &AccessPath, take: &mut dyn FnMut(Id)) {
        match path {
            // Everybody has one priority.
            AccessPath::FullScan => {
                for priority in ActorPriority::ALL {
                    self.indexes.priority(priority).get().iter().for_each(&mut *take);
                }
            }
            AccessPath::Name(name) => self.names.read(name.as_str(), |slot| {
                if let Some(slot) = slot {
                    take(slot.id);
                }
            }),
            AccessPath::Sets(sets) => {
                if let Some(((_, least), others)) = sets.split_first() {
                    least.iter().filter(|id| others.iter().all(|(_, set)| set.contains(*id))).for_each(take);
                }
            }
            AccessPath::Any(paths) => paths.iter().for_each(|path| self.follow(path, take)),
        }
    }

    /// The registry's numbers.
    pub fn stats(&self) -> RegistryStats {
        let count = |state: ActorLifecycleState| self.by_state[state as usize].load(Ordering::Relaxed);
        RegistryStats {
            actors: self.len(),
            by_state: ActorLifecycleState::ALL.map(|state| (state, count(state))),
            by_priority: ActorPriority::ALL
                .map(|priority| (priority, self.indexes.priority(priority).get().len())),
            types: self.indexes.types.keys(),
            tags: self.indexes.tags.keys(),
            subscriptions: self.feed.subscribers(),
            registrations: self.registrations.load(Ordering::Relaxed),
            removals: self.removals.load(Ordering::Relaxed),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }
}
