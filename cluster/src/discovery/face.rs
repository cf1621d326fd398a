//! How the actors of other members are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::directory::{Directory, RemoteEntry};
use super::exports::Protocol;
use super::remote::{RemoteCaller, RemoteHandle};
use crate::clock::Moment;
use crate::event::EventBus;
use crate::id::{ActorName, NodeId};
use crate::port::PeerChange;
use crate::registry::{ActorQuery, LookupError};
use crate::transport::PeerChannels;

/// Finds actors of other members. Cheap to clone.
#[derive(Clone)]
pub struct Discovery {
    /// What the others published.
    pub directory: Directory,
    /// Asks them.
    pub caller: RemoteCaller,
    versions: Arc<AtomicU64>,
}

impl Discovery {
    /// Nobody is known yet.
    pub fn new(channels: PeerChannels) -> Self {
        let directory = Directory::default();
        let caller = RemoteCaller::new(directory.clone(), channels);
        Self { directory, caller, versions: Arc::default() }
    }

    /// The same; every question is told as a span from here on.
    #[must_use]
    pub fn traced(mut self, events: &EventBus) -> Self {
        self.caller.tell(events.clone());
        self
    }

    /// The version of the next advertisement: greater than all before, whichever actor made them.
    pub(super) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A member came or was lost. Whoever watches members calls this at once: it waits for nobody.
    pub fn peer(&self, change: &PeerChange) {
        self.directory.peer(change);
        if let PeerChange::Down { node, .. } | PeerChange::Left { node, .. } = change {
            self.caller.lost(node);
        }
    }

    /// The actors of other members that `query` holds for, by member and name.
    pub fn discover_in_federation(&self, now: Moment, query: &ActorQuery) -> Vec<RemoteEntry> {
        self.directory.select(now, query)
    }

    /// The same, as handles; those that are asked in another protocol are left out.
    pub fn discover<P: Protocol>(&self, now: Moment, query: &ActorQuery) -> Vec<RemoteHandle<P>> {
        let found = self.discover_in_federation(now, query);
        found.iter().filter_map(|entry| self.handle(entry).ok()).collect()
    }

    /// A handle of the actor `name` of `node`; an error if that publishes none, or one that is asked otherwise.
    pub fn remote<P: Protocol>(
        &self,
        node: &NodeId,
        name: &ActorName,
    ) -> Result<RemoteHandle<P>, LookupError> {
        let found = self.directory.find(node, name);
        self.handle(&found.ok_or_else(|| LookupError::Unknown { name: name.clone() })?)
    }

    /// A handle of what was found.
    pub fn handle<P: Protocol>(&self, found: &RemoteEntry) -> Result<RemoteHandle<P>, LookupError> {
        RemoteHandle::of(found, self.caller.clone())
    }
}
