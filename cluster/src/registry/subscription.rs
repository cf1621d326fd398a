//! Subscriptions to registry changes: a listing, then every change, so that no reader has to poll.
//!
//! A subscriber that lags too far behind does not silently lose changes: it receives a new listing.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use super::actor_registry::ThreadSafeActorRegistry;
use super::entry::ActorRegistryEntry;
use super::query::ActorQuery;
use crate::clock::Moment;
use crate::id::ActorName;

/// Number of changes a subscriber may lag behind before it receives a new listing.
const BACKLOG: usize = 1_024;

/// A change to the actors of a subscription.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistryChange {
    /// All matching actors, by name; replaces everything known before. Sent first, and again after a lag.
    Listing(Vec<ActorRegistryEntry>),
    /// An actor that now matches.
    Added(ActorRegistryEntry),
    /// A matching actor whose state or health changed.
    Changed(ActorRegistryEntry),
    /// An actor that was removed or no longer matches.
    Removed(ActorName),
}

/// Change that is sent to every subscription.
#[derive(Clone, Debug)]
pub(super) enum FeedItem {
    Changed(ActorRegistryEntry),
    /// Actor that was removed, and the version of the registry at the removal.
    Removed(ActorName, u64),
}

/// Publishes changes to subscriptions.
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
            // An error only means that the last subscriber has left.
            let _ = self.0.send(Arc::new(told()));
        }
    }

    pub(super) fn listen(&self) -> Receiver<Arc<FeedItem>> {
        self.0.subscribe()
    }
}

/// Stream of changes to the actors that match a query.
pub struct Subscription {
    registry: ThreadSafeActorRegistry,
    query: ActorQuery,
    /// Receiver of changes; `None` before the first listing and after a lag.
    changes: Option<Receiver<Arc<FeedItem>>>,
    /// Actors known to the subscriber, with the version of each.
    known: HashMap<ActorName, u64>,
}

impl Subscription {
    pub(super) fn new(registry: ThreadSafeActorRegistry, query: ActorQuery) -> Self {
        Self { registry, query, changes: None, known: HashMap::new() }
    }

    /// Waits for the next change. Cancel-safe.
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

    /// Subscribes before it reads the registry: changes in between arrive too, and their version shows that they are
    /// old.
    fn listing(&mut self) -> RegistryChange {
        self.changes = Some(self.registry.feed().listen());
        // Queries that depend on time are rejected on subscription.
        let listing = self.registry.select(Moment::ORIGIN, &self.query);
        self.known = listing.iter().map(|entry| (entry.name().clone(), entry.standing.version)).collect();
        RegistryChange::Listing(listing)
    }

    fn change(&mut self, told: &FeedItem) -> Option<RegistryChange> {
        match told {
            // A removal older than the known entry concerns an earlier actor of this name.
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
