//! Finds every actor of a node by name, type, tag and priority, while other actors are added and removed concurrently.
//!
//! **An actor is registered when its own slot says so**, in one flag that is set and cleared atomically; names and
//! indexes only lead to slots. So an actor appears in all of them at once and disappears from all of them at once: they
//! cannot disagree, whichever of them a reader uses. The status of an actor is also one value, replaced as a whole. A
//! query finds every actor that was registered throughout; actors added or removed during the query may or may not be
//! in the answer.
//!
//! Readers never wait, neither for writers nor for each other. Writers are serialized by a lock.

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
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};
use crate::mailbox::Address;
use crate::ping::HealthStatus;

/// Default maximum number of actors: far more than any node has, and few enough for memory.
pub const ACTORS_MAX: usize = 2_000_000;

/// State that only the current writer may access.
#[derive(Default)]
struct Writer {
    /// Ids of removed actors, free for reuse.
    free: Vec<Id>,
    /// Version of the registry; grows with every change.
    version: u64,
}

/// Statistics of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryStats {
    /// Number of registered actors.
    pub actors: usize,
    /// Number of actors per state.
    pub by_state: [(ActorLifecycleState, u64); ActorLifecycleState::ALL.len()],
    /// Number of actors per priority.
    pub by_priority: [(ActorPriority, usize); ActorPriority::ALL.len()],
    /// Number of distinct types.
    pub types: usize,
    /// Number of distinct tags.
    pub tags: usize,
    /// Number of subscriptions to changes.
    pub subscriptions: usize,
    /// Number of registrations since the registry was created, including repeated ones.
    pub registrations: u64,
    /// Number of removals since the registry was created.
    pub removals: u64,
    /// Number of state transitions since the registry was created.
    pub moves: u64,
}

/// Every actor of a node (specification, Phase 3). Shared as a [`ThreadSafeActorRegistry`].
pub struct ActorRegistry {
    actors_max: usize,
    names: Map<ActorName, Arc<RegistrySlot>>,
    /// Slots by id.
    slots: boxcar::Vec<Cell<RegistrySlot>>,
    indexes: Indexes,
    writer: Mutex<Writer>,
    feed: ChangeFeed,
    /// Number of actors. The counts by state are updated one after the other and may not add up at every instant.
    actors: AtomicU64,
    by_state: [AtomicU64; ActorLifecycleState::ALL.len()],
    registrations: AtomicU64,
    removals: AtomicU64,
    moves: AtomicU64,
}

/// Shared handle to the registry. Cheap to clone.
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
    /// An empty registry for at most `actors_max` actors.
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

    /// Subscribes to the actors that match `query`: first a listing, then every change.
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

    /// Replaces the status of a registered actor; from this instant on every reader sees the new one.
    fn put(&self, slot: &Arc<RegistrySlot>, before: Option<ActorLifecycleState>, standing: EntryStatus) {
        self.count(before, Some(standing.state));
        slot.set(standing);
        if before.is_none() {
            slot.appear();
        }
        self.feed.tell(|| FeedItem::Changed(ActorRegistryEntry::of(slot.clone(), standing)));
    }

    /// Registers an actor that is about to be started; its state is [`ActorLifecycleState::Registering`]. A terminated
    /// actor can be registered again as the next incarnation by the same supervisor, or by another one if its own
    /// supervisor is terminated too.
    pub fn register(&self, now: Moment, registration: Registration) -> Result<Incarnation, RegistryError> {
        let field = |source| RegistryError::Field { name: registration.name.clone(), source };
        registration.profile.validate().map_err(field)?;
        let mut turn = self.turn();
        let before = self.known(&registration.name).ok();
        // The name of a stopped child stays reserved until its supervisor is terminated.
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

    /// Whether the supervisor may still start a child that it has stopped.
    fn lives(&self, supervisor: Option<&ActorName>) -> bool {
        let known = supervisor.and_then(|name| self.known(name).ok());
        known.is_some_and(|(_, standing)| standing.state != ActorLifecycleState::Terminated)
    }

    /// Adds a new slot to all indexes, then makes it visible.
    fn enter(&self, turn: &mut Writer, registration: Registration, standing: EntryStatus) {
        let id = turn.free.pop().unwrap_or_else(|| self.slots.push(Cell::new(None)) as Id);
        let slot = Arc::new(RegistrySlot::new(id, registration));
        self.slots[id as usize].set(Some(slot.clone()));
        self.indexes.insert(&slot.registration, id);
        self.names.insert(slot.registration.name.clone(), slot.clone());
        self.actors.fetch_add(1, Ordering::Relaxed);
        self.put(&slot, None, standing);
    }

    /// Hides a slot, then removes it from all indexes.
    fn leave(&self, turn: &mut Writer, slot: &RegistrySlot, state: ActorLifecycleState) {
        self.count(Some(state), None);
        self.actors.fetch_sub(1, Ordering::Relaxed);
        slot.vanish();
        self.names.remove(&slot.registration.name);
        self.indexes.remove(&slot.registration, slot.id);
        self.slots[slot.id as usize].set(None);
        turn.free.push(slot.id);
    }

    /// Changes the state of an actor, if the transition table allows it.
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

    /// Records the result of an actor's health checks.
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

    /// Removes a terminated actor. An actor registered under its name later begins at incarnation 1.
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

    /// Number of registered actors.
    pub fn len(&self) -> usize {
        self.actors.load(Ordering::Relaxed) as usize
    }

    /// Whether no actor is registered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The actor with this name.
    pub fn entry(&self, name: &ActorName) -> Option<ActorRegistryEntry> {
        self.names.get(name).and_then(ActorRegistryEntry::at)
    }

    /// The status of the actor with this name.
    pub fn standing(&self, name: &ActorName) -> Option<EntryStatus> {
        self.names.read(name, |slot| slot?.standing())
    }

    /// The address of the actor with this name, for messages of type `M`. It stays the same for every incarnation;
    /// while no incarnation runs, messages are rejected with [`crate::mailbox::MailError::Absent`].
    pub fn find<M: Send + 'static>(&self, name: &ActorName) -> Result<Address<M>, LookupError> {
        self.names.read(name, |slot| {
            let slot = slot.filter(|slot| slot.is_registered());
            let slot = slot.ok_or_else(|| LookupError::Unknown { name: name.clone() })?;
            slot.registration.reach()
        })
    }

    /// All actors of this type, by name.
    pub fn by_type(&self, actor_type: &ActorType) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Type(actor_type.clone()))
    }

    /// All actors with this tag, by name.
    pub fn by_tag(&self, tag: &Tag) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Tag(tag.clone()))
    }

    /// All actors of this priority, by name.
    pub fn by_priority(&self, priority: ActorPriority) -> Vec<ActorRegistryEntry> {
        self.select(Moment::ORIGIN, &ActorQuery::Priority(priority))
    }

    /// All actors that match `query`, by name. The result may be as large as the registry; callers that cannot rule
    /// this out request a page.
    pub fn select(&self, now: Moment, query: &ActorQuery) -> Vec<ActorRegistryEntry> {
        let mut found = Vec::new();
        self.visit(now, query, &mut |entry| found.push(entry));
        // An actor removed and registered again meanwhile may be found twice; the later entry counts.
        let version = |entry: &ActorRegistryEntry| std::cmp::Reverse(entry.standing.version);
        found.sort_unstable_by(|a, b| a.name().cmp(b.name()).then(version(a).cmp(&version(b))));
        found.dedup_by(|later, first| later.name() == first.name());
        found
    }

    /// One page of the actors that match `query`.
    pub fn query(&self, now: Moment, query: &ActorQuery, page: &Page) -> QueryPage {
        let mut turn = page.turn();
        self.visit(now, query, &mut |entry| turn.take(entry));
        turn.end()
    }

    /// Answers several queries.
    pub fn query_batch(&self, now: Moment, queries: &[(ActorQuery, Page)]) -> Vec<QueryPage> {
        queries.iter().map(|(query, page)| self.query(now, query, page)).collect()
    }

    /// Explains how `query` would be executed.
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
            // Within one set there are no duplicate ids.
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
            // Every actor has exactly one priority.
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

    /// Current statistics.
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
