//! Decides which members to send this member's advert to, and when.
//!
//! Messages can be lost silently. So a new member is sent the advert and asked for its own, every change is sent to all
//! members, and the advert is sent to all again periodically.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::id::{Incarnation, NodeId};

/// Interval between two advertisements to all members when nothing changes: it bounds the effect of a lost message.
pub const REFRESH: Duration = Duration::from_secs(10);
/// Minimum interval between two advertisements to all members: frequent changes are sent together.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Input to the exchange.
#[derive(Clone, Debug)]
pub enum Input {
    /// Periodic tick, with the members that are up.
    Tick(BTreeMap<NodeId, Incarnation>),
    /// A published actor of this member has changed.
    Changed,
    /// A member asks for the advert.
    Asked(NodeId),
}

/// Action that the discovery actor must perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the advert to this member.
    Advertise(NodeId),
    /// Ask this member for its advert.
    Ask(NodeId),
}

/// State of the exchange of adverts.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    peers: BTreeMap<NodeId, Incarnation>,
    changed: bool,
    told: Moment,
    /// Time of the last answer to each member that asked.
    answered: BTreeMap<NodeId, Moment>,
}

impl Exchange {
    /// Applies `input` and returns the resulting actions.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        match input {
            Input::Changed => {
                self.changed = true;
                self.tell_if_due(now)
            }
            Input::Tick(peers) => {
                let mut effects = self.tell_if_due(now);
                for (node, incarnation) in &peers {
                    if self.peers.get(node) != Some(incarnation) {
                        effects.extend([Effect::Advertise(node.clone()), Effect::Ask(node.clone())]);
                    }
                }
                self.peers = peers;
                effects
            }
            // A member that asks more often receives the advert with the next change or refresh.
            Input::Asked(node) => match self.answered.get(&node) {
                Some(answered) if now.since(*answered) < PAUSE => Vec::new(),
                _ => {
                    self.answered.insert(node.clone(), now);
                    vec![Effect::Advertise(node)]
                }
            },
        }
    }

    fn tell_if_due(&mut self, now: Moment) -> Vec<Effect> {
        let silence = now.since(self.told);
        let is_due = if self.changed { silence >= PAUSE } else { silence >= REFRESH };
        if !is_due {
            return Vec::new();
        }
        (self.changed, self.told) = (false, now);
        self.peers.keys().map(|node| Effect::Advertise(node.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn tick(peers: &[(&str, u64)]) -> Input {
        Input::Tick(peers.iter().map(|(name, incarnation)| (node(name), Incarnation(*incarnation))).collect())
    }

    #[test]
    fn whoever_comes_is_told_and_asked_and_changes_are_told_together_and_repeated() {
        let at = |ms| Moment::at(Duration::from_millis(ms));
        let tell = |name| Effect::Advertise(node(name));
        let ask = |name| Effect::Ask(node(name));
        let mut exchange = Exchange::default();
        let (one, two) = ([("node-2", 1)], [("node-2", 1), ("node-3", 1)]);
        for (ms, input, expected) in [
            (20_000, tick(&[]), vec![]),
            (20_010, tick(&one), vec![tell("node-2"), ask("node-2")]),
            (20_020, tick(&two), vec![tell("node-3"), ask("node-3")]),
            (20_050, Input::Changed, vec![]),
            (20_060, Input::Changed, vec![]),
            (20_100, tick(&two), vec![tell("node-2"), tell("node-3")]),
            (20_200, tick(&two), vec![]),
            (20_300, Input::Changed, vec![tell("node-2"), tell("node-3")]),
            (20_310, Input::Asked(node("node-3")), vec![tell("node-3")]),
            (20_315, Input::Asked(node("node-3")), vec![]),
            (20_315, Input::Asked(node("node-2")), vec![tell("node-2")]),
            (20_320, tick(&[("node-3", 2)]), vec![tell("node-3"), ask("node-3")]),
            (30_299, tick(&[("node-3", 2)]), vec![]),
            (30_300, tick(&[("node-3", 2)]), vec![tell("node-3")]),
        ] {
            assert_eq!(exchange.handle(at(ms), input.clone()), expected, "{ms} {input:?}");
        }
    }
}
