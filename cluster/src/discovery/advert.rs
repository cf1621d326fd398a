//! Defines advertisements: what a member publishes about its actors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};
use crate::ping::HealthStatus;
use crate::registry::{ActorLifecycleState, ActorRegistryEntry, EntryStatus, Profile, Registration};

/// Maximum number of actors a member may publish.
pub const ACTORS_MAX: usize = 1_024;
/// Maximum length of a protocol name, in bytes.
pub const PROTOCOL_BYTES_MAX: usize = 64;

/// One published actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advertised {
    /// Name of the actor.
    pub name: ActorName,
    /// Type of the actor.
    pub actor_type: ActorType,
    /// Tags that queries match.
    pub tags: BTreeSet<Tag>,
    /// Priority of the actor.
    pub priority: ActorPriority,
    /// Lifecycle state of the actor.
    pub state: ActorLifecycleState,
    /// Result of the actor's health checks.
    pub health: HealthStatus,
    /// Incarnation of the actor.
    pub incarnation: Incarnation,
    /// Time since the last status change when this was encoded, in milliseconds.
    pub for_ms: u64,
    /// Number of failures.
    pub failures: u64,
    /// Protocol in which requests to the actor are encoded.
    pub protocol: String,
}

impl Advertised {
    /// Creates the advertised form of a registry entry whose actor speaks `protocol`.
    pub fn of(now: Moment, entry: &ActorRegistryEntry, protocol: &str) -> Self {
        let (registration, standing) = (entry.registration(), &entry.standing);
        Self {
            name: registration.name.clone(),
            actor_type: registration.profile.actor_type.clone(),
            tags: registration.profile.tags.clone(),
            priority: registration.priority,
            state: standing.state,
            health: standing.health,
            incarnation: standing.incarnation,
            for_ms: now.since(standing.since).as_millis() as u64,
            failures: standing.failures,
            protocol: protocol.to_owned(),
        }
    }

    /// Converts to a registry entry, with times on this member's clock, and the protocol.
    pub fn entry(self, now: Moment) -> (ActorRegistryEntry, String) {
        let Self { name, actor_type, tags, priority, state, health, incarnation, for_ms, failures, protocol } =
            self;
        let profile = Profile { actor_type, tags, metadata: BTreeMap::new() };
        let registration = Registration { priority, ..Registration::new(name, profile) };
        let age = Duration::from_millis(for_ms);
        let since = Moment::at(now.since(Moment::ORIGIN).saturating_sub(age));
        let started = (state == ActorLifecycleState::Active).then_some(since);
        let standing = EntryStatus { state, health, incarnation, since, started, failures, version: 0 };
        (ActorRegistryEntry::new(registration, standing), protocol)
    }
}

/// At most [`ACTORS_MAX`] actors; deserializing more fails before they use memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Actors(pub Vec<Advertised>);

impl<'de> Deserialize<'de> for Actors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;

        impl<'de> Visitor<'de> for Bounded {
            type Value = Vec<Advertised>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {ACTORS_MAX} actors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut actors: A) -> Result<Self::Value, A::Error> {
                let many = |count| {
                    A::Error::custom(format!("{count} published actors; expected at most {ACTORS_MAX}"))
                };
                let count = actors.size_hint().unwrap_or(0);
                if count > ACTORS_MAX {
                    return Err(many(count));
                }
                let mut taken = Vec::with_capacity(count);
                while let Some(actor) = actors.next_element()? {
                    if taken.len() == ACTORS_MAX {
                        return Err(many(ACTORS_MAX + 1));
                    }
                    taken.push(actor);
                }
                Ok(taken)
            }
        }

        deserializer.deserialize_seq(Bounded).map(Self)
    }
}

/// The actors a member publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// Incarnation of the member.
    pub incarnation: Incarnation,
    /// Version of the advertisement; increases within an incarnation.
    pub version: u64,
    /// Published actors.
    pub actors: Actors,
}

impl Advert {
    /// Checks the constraints that the types do not express.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for actor in &self.actors.0 {
            let name = &actor.name;
            if !names.insert(name) {
                return Err(format!("it publishes actor {name} twice; expected each name once"));
            }
            let tags_max = crate::registry::entry::TAGS_MAX;
            if actor.tags.len() > tags_max {
                let tags = actor.tags.len();
                return Err(format!("actor {name} has {tags} tags; expected at most {tags_max}"));
            }
            let is_name = |c: char| c.is_ascii_graphic();
            if actor.protocol.len() > PROTOCOL_BYTES_MAX || !actor.protocol.chars().all(is_name) {
                return Err(format!(
                    "the protocol of actor {name} is not named by up to {PROTOCOL_BYTES_MAX} printable characters"
                ));
            }
        }
        Ok(())
    }
}
