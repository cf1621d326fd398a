//! One actor as the registry knows it: what was said of it once, and where it stands now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::LookupError;
use super::index::Id;
use super::lifecycle::ActorLifecycleState;
use super::sync::{AtomicBool, Cell, Ordering};
use crate::clock::Moment;
use crate::config::{FieldError, require};
use crate::health::HealthStatus;
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};
use crate::mailbox::{Address, AnyAddress};

/// The most tags of one actor.
pub const TAGS_MAX: usize = 16;
/// The most pieces of metadata of one actor.
pub const METADATA_MAX: usize = 16;
/// The longest key or value of metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 128;

/// What actors of one kind have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What they are.
    pub actor_type: ActorType,
    /// The words they are found by.
    pub tags: BTreeSet<Tag>,
    /// Anything else worth knowing.
    pub metadata: BTreeMap<String, String>,
}

impl Profile {
    /// A profile without tags and metadata.
    pub fn new(actor_type: ActorType) -> Self {
        Self { actor_type, tags: BTreeSet::new(), metadata: BTreeMap::new() }
    }

    /// Checks numbers and lengths.
    pub fn validate(&self) -> Result<(), FieldError> {
        require(self.tags.len() <= TAGS_MAX, "tags", self.tags.len(), "at most 16")?;
        require(self.metadata.len() <= METADATA_MAX, "metadata", self.metadata.len(), "at most 16")?;
        for (key, value) in &self.metadata {
            let expected = "keys of a-z, 0-9, '-', '_' and '.', values without control characters, both at most \
                            128 bytes, and no key empty";
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            let fits = |text: &str| text.len() <= METADATA_BYTES_MAX;
            let holds = !key.is_empty() && key.chars().all(legal) && !value.chars().any(char::is_control);
            let shown = |text: &str| text.chars().take(METADATA_BYTES_MAX).collect::<String>();
            require(holds && fits(key) && fits(value), "metadata", (shown(key), shown(value)), expected)?;
        }
        Ok(())
    }
}

/// What an actor is registered with. It stays the same for all its incarnations.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Unique in the node.
    pub name: ActorName,
    /// What it shares with others of its kind.
    pub profile: Arc<Profile>,
    /// How much depends on it.
    pub priority: ActorPriority,
    /// Who supervises it; nobody supervises the root.
    pub supervisor: Option<ActorName>,
    /// Where it is reached, if anybody may.
    pub address: Option<AnyAddress>,
}

impl Registration {
    /// An actor of this kind in the normal tier, supervised and reached by nobody.
    pub fn new(name: ActorName, profile: Profile) -> Self {
        Self {
            name,
            profile: Arc::new(profile),
            priority: ActorPriority::Normal,
            supervisor: None,
            address: None,
        }
    }

    /// Whether an actor registered like this can take the place of one registered like `other`.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let address = match (&self.address, &other.address) {
            (Some(mine), Some(others)) => mine.is_same(others),
            (None, None) => true,
            _ => false,
        };
        address
            && self.name == other.name
            && self.priority == other.priority
            && self.supervisor == other.supervisor
            && (Arc::ptr_eq(&self.profile, &other.profile) || self.profile == other.profile)
    }

    pub(super) fn reach<M: Send + 'static>(&self) -> Result<Address<M>, LookupError> {
        let address = self.address.as_ref();
        let address = address.ok_or_else(|| LookupError::Unreachable { name: self.name.clone() })?;
        address.downcast().ok_or_else(|| LookupError::WrongType {
            name: self.name.clone(),
            expected: address.message_type(),
            asked: std::any::type_name::<M>(),
        })
    }
}

/// Where an actor stands now. Read and replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryStatus {
    /// In its life.
    pub state: ActorLifecycleState,
    /// What the health checks say of this incarnation.
    pub health: HealthStatus,
    /// Which of its lives this is, counted from 1: it grows when it is active again, or is registered anew.
    pub incarnation: Incarnation,
    /// When it came to this state.
    pub since: Moment,
    /// When this incarnation began to be active, if it ever was.
    pub started: Option<Moment>,
    /// Times it failed: ended abnormally, or did not start.
    pub failures: u64,
    /// The registry's version when this was written.
    pub version: u64,
}

impl EntryStatus {
    /// Of an actor that is registered for the first time.
    pub fn first(now: Moment, version: u64) -> Self {
        Self {
            state: ActorLifecycleState::Registering,
            health: HealthStatus::Unknown,
            incarnation: Incarnation(1),
            since: now,
            started: None,
            failures: 0,
            version,
        }
    }

    /// Of an actor that was terminated and is registered anew.
    #[must_use]
    pub fn again(self, now: Moment, version: u64) -> Self {
        let first = Self::first(now, version);
        Self { incarnation: Incarnation(self.incarnation.0 + 1), failures: self.failures, ..first }
    }

    /// After a legal move.
    #[must_use]
    pub fn moved(self, now: Moment, to: ActorLifecycleState, version: u64) -> Self {
        let is_new = self.state.begins_incarnation(to);
        let was_suspended = self.state == ActorLifecycleState::Suspended;
        Self {
            state: to,
            health: if is_new { HealthStatus::Unknown } else { self.health },
            incarnation: Incarnation(self.incarnation.0 + u64::from(is_new)),
            since: now,
            started: if to == ActorLifecycleState::Active { Some(now) } else { self.started },
            // One that was suspended does not run, and has nothing to fail with.
            failures: self.failures + u64::from(to == ActorLifecycleState::Failed && !was_suspended),
            version,
        }
    }

    /// How long it has been active; `None` for one that is not.
    pub fn uptime(&self, now: Moment) -> Option<Duration> {
        (self.state == ActorLifecycleState::Active).then(|| now.since(self.since))
    }
}

/// One actor in the registry: whether it is registered, what with, and where it stands. One piece of memory, for
/// whoever looked up a name needs no more of it.
#[derive(Debug)]
pub(super) struct RegistrySlot {
    pub(super) id: Id,
    /// The one word that says whether the actor is there.
    is_registered: AtomicBool,
    pub(super) registration: Registration,
    standing: Cell<EntryStatus>,
}

impl RegistrySlot {
    /// Of an actor that nobody sees yet.
    pub(super) fn new(id: Id, registration: Registration) -> Self {
        Self { id, is_registered: AtomicBool::new(false), registration, standing: Cell::new(None) }
    }

    pub(super) fn appear(&self) {
        self.is_registered.store(true, Ordering::Release);
    }

    pub(super) fn vanish(&self) {
        self.is_registered.store(false, Ordering::Release);
    }

    pub(super) fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, standing: EntryStatus) {
        self.standing.set(Some(Arc::new(standing)));
    }

    pub(super) fn standing(&self) -> Option<EntryStatus> {
        if self.is_registered() { self.standing.copied() } else { None }
    }
}

/// One actor, as it stood when it was looked at.
#[derive(Clone, Debug)]
pub struct ActorRegistryEntry {
    slot: Arc<RegistrySlot>,
    /// Where it stood.
    pub standing: EntryStatus,
}

impl ActorRegistryEntry {
    /// An actor of no registry here, that was registered like this and stands there.
    pub fn new(registration: Registration, standing: EntryStatus) -> Self {
        Self::of(Arc::new(RegistrySlot::new(Id::MAX, registration)), standing)
    }

    pub(super) fn of(slot: Arc<RegistrySlot>, standing: EntryStatus) -> Self {
        Self { slot, standing }
    }

    /// Who is in this slot now.
    pub(super) fn at(slot: Arc<RegistrySlot>) -> Option<Self> {
        let standing = slot.standing()?;
        Some(Self { slot, standing })
    }

    /// Its name.
    pub fn name(&self) -> &ActorName {
        &self.slot.registration.name
    }

    /// What it was registered with.
    pub fn registration(&self) -> &Registration {
        &self.slot.registration
    }

    /// Its tags.
    pub fn tags(&self) -> &BTreeSet<Tag> {
        &self.slot.registration.profile.tags
    }

    /// Where it is reached with messages of type `M`. The address follows the actor from incarnation to
    /// incarnation.
    pub fn address<M: Send + 'static>(&self) -> Result<Address<M>, LookupError> {
        self.slot.registration.reach()
    }
}

impl PartialEq for ActorRegistryEntry {
    /// Whether both are the same actor at the same point of its life.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.standing == other.standing
    }
}
