//! Finds actors of other members and creates handles to them.

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
    /// Actors that the others published.
    pub directory: Directory,
    /// Sends requests to them.
    pub caller: RemoteCaller,
    versions: Arc<AtomicU64>,
}

impl Discovery {
    /// Creates a discovery that knows no members yet.
    pub fn new(channels: PeerChannels) -> Self {
        let directory = Directory::default();
        let caller = RemoteCaller::new(directory.clone(), channels);
        Self { directory, caller, versions: Arc::default() }
    }

    /// Enables tracing: every request becomes a span.
    #[must_use]
    pub fn traced(mut self, events: &EventBus) -> Self {
        self.caller.tell(events.clone());
        self
    }

    /// Version of the next advertisement: greater than all before, across restarts of the actor.
    pub(super) fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Applies a membership change. The failure detector calls this synchronously; it does not wait.
    pub fn peer(&self, change: &PeerChange) {
        self.directory.peer(change);
        if let PeerChange::Down { node, .. } | PeerChange::Left { node, .. } = change {
            self.caller.lost(node);
        }
    }

    /// Actors of other members that match `query`, ordered by member and name.
    pub fn discover_in_federation(&self, now: Moment, query: &ActorQuery) -> Vec<RemoteEntry> {
        self.directory.select(now, query)
    }

    /// Same as [`Self::discover_in_federation`], as handles; actors with another protocol are left out.
    pub fn discover<P: Protocol>(&self, now: Moment, query: &ActorQuery) -> Vec<RemoteHandle<P>> {
        let found = self.discover_in_federation(now, query);
        found.iter().filter_map(|entry| self.handle(entry).ok()).collect()
    }

    /// Creates a handle to actor `name` of `node`; fails if it is not published or speaks another protocol.
    pub fn remote<P: Protocol>(
        &self,
        node: &NodeId,
        name: &ActorName,
    ) -> Result<RemoteHandle<P>, LookupError> {
        let found = self.directory.find(node, name);
        self.handle(&found.ok_or_else(|| LookupError::Unknown { name: name.clone() })?)
    }

    /// Creates a handle to a discovered actor.
    pub fn handle<P: Protocol>(&self, found: &RemoteEntry) -> Result<RemoteHandle<P>, LookupError> {
        RemoteHandle::of(found, self.caller.clone())
    }
}
