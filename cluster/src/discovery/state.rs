//! Who is told what this member publishes, and when.
//!
//! Messages are lost without a word: so a member that comes is told and asked, one that changes something tells
//! everybody, and everybody is told again now and then.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Moment;
use crate::id::NodeId;
use crate::port::PeerChange;

/// Between two advertisements to everybody when nothing changes: what was lost is missed for no longer.
pub const REFRESH: Duration = Duration::from_secs(10);
/// The shortest time between two advertisements to everybody: what changes often is told together.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What the exchange learns.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// What this member publishes has changed.
    Changed,
    /// A member came or was lost.
    Peer(PeerChange),
    /// A member asks.
    Asked(NodeId),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell this member what is published, under this version.
    Advertise(NodeId, u64),
    /// Ask this member what it publishes.
    Ask(NodeId),
}

/// The exchange's memory.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    peers: BTreeSet<NodeId>,
    version: u64,
    changed: bool,
    told: Moment,
}

impl Exchange {
    /// Nobody is there yet. Versions grow from `version` on: a restarted actor's are greater than its
    /// predecessor's when it begins with the time.
    pub fn new(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// What follows from `input`.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        match input {
            Input::Changed => {
                self.changed = true;
                self.tell_if_due(now)
            }
            Input::Tick => self.tell_if_due(now),
            Input::Peer(PeerChange::Up { node, .. }) => {
                self.peers.insert(node.clone());
                vec![self.advertise(node.clone()), Effect::Ask(node)]
            }
            Input::Peer(PeerChange::Down { node, .. }) => {
                self.peers.remove(&node);
                Vec::new()
            }
            Input::Peer(
                PeerChange::Indirect { .. } | PeerChange::Apart { .. } | PeerChange::Together { .. },
            ) => Vec::new(),
            Input::Asked(node) => vec![self.advertise(node)],
        }
    }

    fn advertise(&mut self, node: NodeId) -> Effect {
        self.version += 1;
        Effect::Advertise(node, self.version)
    }

    fn tell_if_due(&mut self, now: Moment) -> Vec<Effect> {
        let silence = now.since(self.told);
        let is_due = if self.changed { silence >= PAUSE } else { silence >= REFRESH };
        if !is_due {
            return Vec::new();
        }
        (self.changed, self.told) = (false, now);
        self.version += 1;
        let version = self.version;
        self.peers.iter().map(|node| Effect::Advertise(node.clone(), version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn up(name: &str) -> Input {
        Input::Peer(PeerChange::Up { node: node(name), incarnation: Incarnation(1) })
    }

    #[test]
    fn whoever_comes_is_told_and_asked_and_changes_are_told_together_and_repeated() {
        use Effect::{Advertise, Ask};
        let mut exchange = Exchange::new(0);
        for (ms, input, expected) in [
            (20_000, Input::Tick, vec![]),
            (20_010, up("node-2"), vec![Advertise(node("node-2"), 2), Ask(node("node-2"))]),
            (20_020, up("node-3"), vec![Advertise(node("node-3"), 3), Ask(node("node-3"))]),
            (20_050, Input::Changed, vec![]),
            (20_060, Input::Changed, vec![]),
            (20_100, Input::Tick, vec![Advertise(node("node-2"), 4), Advertise(node("node-3"), 4)]),
            (20_200, Input::Tick, vec![]),
            (20_300, Input::Changed, vec![Advertise(node("node-2"), 5), Advertise(node("node-3"), 5)]),
            (20_310, Input::Asked(node("node-3")), vec![Advertise(node("node-3"), 6)]),
            (20_320, Input::Peer(PeerChange::Down { node: node("node-2"), reason: "silent".into() }), vec![]),
            (30_299, Input::Tick, vec![]),
            (30_300, Input::Tick, vec![Advertise(node("node-3"), 7)]),
        ] {
            assert_eq!(exchange.handle(at(ms), input.clone()), expected, "{ms} {input:?}");
        }
    }
}
