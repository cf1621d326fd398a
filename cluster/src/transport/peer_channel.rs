//! Sends envelopes to one peer over its current connection. A channel is created once and valid for the node's
//! lifetime.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use thiserror::Error;
use tokio::sync::watch;

use super::connection::Connection;
use super::envelope::{Envelope, Lane};
use super::error::Unsent;
use super::presence::Instance;
use super::rejection_log::RejectionLog;
use super::statistics::{Count, Counters};
use crate::id::{Incarnation, NodeId};

/// Channels to all peers.
pub type PeerChannels = Arc<BTreeMap<NodeId, Arc<PeerChannel>>>;

/// Channel to one peer.
pub struct PeerChannel {
    peer: NodeId,
    current: ArcSwapOption<Connection>,
    counters: Arc<Counters>,
    newest: Mutex<(Incarnation, Option<Instance>)>,
    changes: watch::Sender<u64>,
}

/// An incarnation of a member was refused, because a later one, or another process of the same incarnation, was seen
/// before. The refused process parses this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("incarnation {incarnation} speaks after incarnation {newest}")]
pub struct Outdated {
    /// Incarnation that was refused.
    pub incarnation: Incarnation,
    /// Latest incarnation seen.
    pub newest: Incarnation,
}

impl Outdated {
    /// Parses the reason a peer gave; `None` if it states something else.
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, newest) =
            text.strip_prefix("incarnation ")?.split_once(" speaks after incarnation ")?;
        let number = |text: &str| text.parse().ok().map(Incarnation);
        Some(Self { incarnation: number(incarnation)?, newest: number(newest)? })
    }
}

impl PeerChannel {
    /// Creates a channel without a connection.
    pub fn new(peer: NodeId, rejections: RejectionLog) -> Self {
        let counters = Arc::new(Counters::new(rejections));
        let (current, changes) = (ArcSwapOption::empty(), watch::Sender::new(0));
        let newest = Mutex::new((Incarnation(0), None));
        Self { peer, current, counters, newest, changes }
    }

    /// Peer this channel reaches.
    pub fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// Counters of the link.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Connection in use, if there is a link.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    /// Replaces the connection that envelopes are sent on; `None` means that there is no link.
    pub fn take(&self, connection: Option<Arc<Connection>>) {
        self.current.store(connection);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Notifies of every replacement of the connection in use.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Admits this incarnation and process of the peer unless a later incarnation, or another process of the same
    /// incarnation, was seen before: then its data directory is an older copy. Envelopes of an earlier incarnation are
    /// refused for the node's lifetime.
    pub fn admits(&self, incarnation: Incarnation, instance: Option<Instance>) -> Result<(), Outdated> {
        let mut known = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, holder) = *known;
        let is_other = holder.is_some() && instance.is_some() && holder != instance;
        if incarnation < newest || incarnation == newest && is_other {
            return Err(Outdated { incarnation, newest });
        }
        *known = (incarnation, instance.or(holder));
        Ok(())
    }

    /// Queues one envelope; never waits.
    pub fn send(&self, lane: Lane, envelope: Envelope) -> Result<(), Unsent> {
        let sent = match &*self.current.load() {
            Some(connection) => connection.send_envelope(lane, envelope),
            None => Err(Unsent::NoLink(self.peer.clone())),
        };
        if let Err(Unsent::NoLink(_)) = sent {
            self.counters.add(Count::Lost, 1);
        }
        sent
    }
}
