//! The way to one peer, whichever connection it takes at present. Made once, valid for the life of the node.

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

/// The ways to all peers.
pub type PeerChannels = Arc<BTreeMap<NodeId, Arc<PeerChannel>>>;

/// The way to one peer.
pub struct PeerChannel {
    peer: NodeId,
    current: ArcSwapOption<Connection>,
    counters: Arc<Counters>,
    newest: Mutex<(Incarnation, Option<Instance>)>,
    changes: watch::Sender<u64>,
}

/// A start of a member is refused, because a later one was here before, or another one of the same number. Whoever is refused reads it from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("incarnation {incarnation} speaks after incarnation {newest}")]
pub struct Outdated {
    /// The start that is refused.
    pub incarnation: Incarnation,
    /// The latest that was here.
    pub newest: Incarnation,
}

impl Outdated {
    /// What a peer's words say, if they say this.
    pub fn parse(text: &str) -> Option<Self> {
        let (incarnation, newest) =
            text.strip_prefix("incarnation ")?.split_once(" speaks after incarnation ")?;
        let number = |text: &str| text.parse().ok().map(Incarnation);
        Some(Self { incarnation: number(incarnation)?, newest: number(newest)? })
    }
}

impl PeerChannel {
    /// No connection yet.
    pub fn new(peer: NodeId, rejections: RejectionLog) -> Self {
        let counters = Arc::new(Counters::new(rejections));
        let (current, changes) = (ArcSwapOption::empty(), watch::Sender::new(0));
        let newest = Mutex::new((Incarnation(0), None));
        Self { peer, current, counters, newest, changes }
    }

    /// To whom.
    pub fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// What it has done.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The connection in use, if there is a link.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.current.load_full()
    }

    /// Envelopes take this connection from now on, or none.
    pub fn take(&self, connection: Option<Arc<Connection>>) {
        self.current.store(connection);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Changes whenever another connection is in use, or none.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether this start of the peer, which is this process, is none before one that was here already, and not one whose
    /// number another process had: its data directory is an older copy then. What an earlier incarnation says is refused
    /// for the life of the node.
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
