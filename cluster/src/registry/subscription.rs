//! A listing, then every change to it: so that nobody polls.
//!
//! A subscriber that falls too far behind loses no change unnoticed: it is given a fresh listing.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use super::actor_registry::ThreadSafeActorRegistry;
use super::entry::ActorRegistryEntry;
use super::query::ActorQuery;
use crate::clock::Moment;
use crate::id::ActorName;

/// Changes a subscriber may lag behind before it is given a fresh listing.
const BACKLOG: usize = 1_024;

/// What happened to the actors a subscriber asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistryChange {
    /// All of them, by name: what was known before is void. The first that is told, and again after a lag.
    Listing(Vec<ActorRegistryEntry>),
    /// One more.
    Added(ActorRegistryEntry),
    /// One of them stands elsewhere, or its health changed.
    Changed(ActorRegistryEntry),
    /// One fewer: it was removed, or is no longer what was asked for.
    Removed(ActorName),
}

/// What the registry tells everybody who subscribed.
#[derive(Clone, Debug)]
pub(super) enum FeedItem {
    Changed(ActorRegistryEntry),
    /// As of this version.
    Removed(ActorName, u64),
}

/// Tells subscribers.
pub(super) struct ChangeFeed(Sender<Arc<FeedItem>>);

impl ChangeFeed {
    pub(super) fn new() -> Self {
        Self(Sender::new(BACKLOG))
    }

    pub(super) fn subscribers(&self) -> usize {
        self.0.receiver_count()
    }

    pub(super) fn tell(&self, told: impl FnOnce() -> FeedItem) {
        if self.0.receiver_count() > 0 {
            // Whoever left meanwhile has nothing to lose.
            let _ = self.0.send(Arc::new(told()));
        }
    }

    pub(super) fn listen(&self) -> Receiver<Arc<FeedItem>> {
        self.0.subscribe()
    }
}

/// Changes to the actors that a query holds for.
pub struct Subscription {
    registry: ThreadSafeActorRegistry,
    query: ActorQuery,
    /// Nothing until the first listing, and after a lag.
    changes: Option<Receiver<Arc<FeedItem>>>,
    /// Whom the subscriber knows, and as of which version.
    known: HashMap<ActorName, u64>,
}

impl Subscription {
    pub(super) fn new(registry: ThreadSafeActorRegistry, query: ActorQuery) -> Self {
        Self { registry, query, changes: None, known: HashMap::new() }
    }

    /// The next change. Safe to drop and to ask again.
    pub async fn next(&mut self) -> RegistryChange {
        loop {
            let Some(changes) = &mut self.changes else { return self.listing() };
            match changes.recv().await {
                Ok(told) => {
                    if let Some(change) = self.change(&told) {
                        return change;
                    }
                }
                Err(RecvError::Lagged(_) | RecvError::Closed) => self.changes = None,
            }
        }
    }

    /// Listens first and looks then: what changes in between is told, and known to be old.
    fn listing(&mut self) -> RegistryChange {
        self.changes = Some(self.registry.feed().listen());
        // Queries that depend on time are refused at the door.
        let listing = self.registry.select(Moment::ORIGIN, &self.query);
        self.known = listing.iter().map(|entry| (entry.name().clone(), entry.standing.version)).collect();
        RegistryChange::Listing(listing)
    }

    fn change(&mut self, told: &FeedItem) -> Option<RegistryChange> {
        match told {
            // What the listing already knew of its name's next holder was not removed.
            FeedItem::Removed(name, version) => {
                let is_meant = self.known.get(name).is_some_and(|known| known < version);
                is_meant.then(|| {
                    self.known.remove(name);
                    RegistryChange::Removed(name.clone())
                })
            }
            FeedItem::Changed(entry) => {
                let (name, standing) = (entry.name(), &entry.standing);
                let known = self.known.get(name).copied();
                if known.is_some_and(|known| known >= standing.version) {
                    return None;
                }
                let is_asked_for = self.query.matches(Moment::ORIGIN, entry.registration(), standing);
                match (known, is_asked_for) {
                    (None, false) => None,
                    (Some(_), false) => {
                        self.known.remove(name);
                        Some(RegistryChange::Removed(name.clone()))
                    }
                    (known, true) => {
                        self.known.insert(name.clone(), standing.version);
                        let entry = entry.clone();
                        Some(match known {
                            None => RegistryChange::Added(entry),
                            Some(_) => RegistryChange::Changed(entry),
                        })
                    }
                }
            }
        }
    }
}
