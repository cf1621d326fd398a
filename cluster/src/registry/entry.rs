//! One actor in the registry: its constant registration and its current status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::LookupError;
use super::index::Id;
use super::lifecycle::ActorLifecycleState;
use super::sync::{AtomicBool, Cell, Ordering};
use crate::clock::Moment;
use crate::config::{FieldError, require};
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};
use crate::mailbox::{Address, AnyAddress};
use crate::ping::HealthStatus;

/// Maximum number of tags of one actor.
pub const TAGS_MAX: usize = 16;
/// Maximum number of metadata entries of one actor.
pub const METADATA_MAX: usize = 16;
/// Maximum length of a metadata key or value, in bytes.
pub const METADATA_BYTES_MAX: usize = 128;

/// Type, tags and metadata of an actor; actors of one kind can share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Type of the actor.
    pub actor_type: ActorType,
    /// Tags to find the actor by.
    pub tags: BTreeSet<Tag>,
    /// Additional information, as keys and values.
    pub metadata: BTreeMap<String, String>,
}

impl Profile {
    /// A profile without tags and metadata.
    pub fn new(actor_type: ActorType) -> Self {
        Self { actor_type, tags: BTreeSet::new(), metadata: BTreeMap::new() }
    }

    /// Checks numbers and lengths of tags and metadata.
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

/// The data an actor is registered with. It stays the same for all its incarnations.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Name of the actor, unique in the node.
    pub name: ActorName,
    /// Type, tags and metadata.
    pub profile: Arc<Profile>,
    /// Priority of the actor.
    pub priority: ActorPriority,
    /// Supervisor of the actor; `None` for the root.
    pub supervisor: Option<ActorName>,
    /// Address of the actor; `None` if it cannot be reached through the registry.
    pub address: Option<AnyAddress>,
}

impl Registration {
    /// A registration with normal priority, without a supervisor and an address.
    pub fn new(name: ActorName, profile: Profile) -> Self {
        Self {
            name,
            profile: Arc::new(profile),
            priority: ActorPriority::Normal,
            supervisor: None,
            address: None,
        }
    }

    /// Whether an actor with this registration can reuse the slot of one with `other`.
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

/// Current status of an actor. Read and replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryStatus {
    /// Current lifecycle state.
    pub state: ActorLifecycleState,
    /// Result of the health checks of this incarnation.
    pub health: HealthStatus,
    /// Number of the incarnation, from 1: it grows when the actor becomes active again or is registered again.
    pub incarnation: Incarnation,
    /// Moment it entered this state.
    pub since: Moment,
    /// Moment it became active; `None` if it has not been active since its registration.
    pub started: Option<Moment>,
    /// Number of failures: abnormal exits and failed starts.
    pub failures: u64,
    /// Version of the registry when this status was written.
    pub version: u64,
}

impl EntryStatus {
    /// The status of an actor that is registered for the first time.
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

    /// The status of a terminated actor that is registered again.
    #[must_use]
    pub fn again(self, now: Moment, version: u64) -> Self {
        let first = Self::first(now, version);
        Self { incarnation: Incarnation(self.incarnation.0 + 1), failures: self.failures, ..first }
    }

    /// The status after a legal transition to `to`.
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
            // A suspended actor does not run, so its transition is not counted as a failure.
            failures: self.failures + u64::from(to == ActorLifecycleState::Failed && !was_suspended),
            version,
        }
    }

    /// Time since it became active; `None` if it is not active.
    pub fn uptime(&self, now: Moment) -> Option<Duration> {
        (self.state == ActorLifecycleState::Active).then(|| now.since(self.since))
    }
}

/// One actor in the registry: whether it is registered, its registration and its status. One allocation, so that a
/// lookup by name needs no other memory.
#[derive(Debug)]
pub(super) struct RegistrySlot {
    pub(super) id: Id,
    /// Whether the actor is registered; the single source of this fact.
    is_registered: AtomicBool,
    pub(super) registration: Registration,
    standing: Cell<EntryStatus>,
}

impl RegistrySlot {
    /// A slot that is not visible yet.
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

/// A snapshot of one actor.
#[derive(Clone, Debug)]
pub struct ActorRegistryEntry {
    slot: Arc<RegistrySlot>,
    /// Status at the time of the snapshot.
    pub standing: EntryStatus,
}

impl ActorRegistryEntry {
    /// An entry that belongs to no local registry.
    pub fn new(registration: Registration, standing: EntryStatus) -> Self {
        Self::of(Arc::new(RegistrySlot::new(Id::MAX, registration)), standing)
    }

    pub(super) fn of(slot: Arc<RegistrySlot>, standing: EntryStatus) -> Self {
        Self { slot, standing }
    }

    /// The actor that is in this slot now.
    pub(super) fn at(slot: Arc<RegistrySlot>) -> Option<Self> {
        let standing = slot.standing()?;
        Some(Self { slot, standing })
    }

    /// Name of the actor.
    pub fn name(&self) -> &ActorName {
        &self.slot.registration.name
    }

    /// Registration of the actor.
    pub fn registration(&self) -> &Registration {
        &self.slot.registration
    }

    /// Tags of the actor.
    pub fn tags(&self) -> &BTreeSet<Tag> {
        &self.slot.registration.profile.tags
    }

    /// The actor's address for messages of type `M`. It stays the same for every incarnation.
    pub fn address<M: Send + 'static>(&self) -> Result<Address<M>, LookupError> {
        self.slot.registration.reach()
    }
}

impl PartialEq for ActorRegistryEntry {
    /// Whether both are the same actor with the same status.
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.standing == other.standing
    }
}
