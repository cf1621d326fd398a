//! Lets members leave without taking the federation below quorum, even if several want to leave at once.
//!
//! Counting healthy members alone is a race: two members can count the same members at the same time and both leave. So
//! a member first announces in its pings and pongs that it **wants** to leave, and counts a peer as staying only if the
//! peer has answered a ping with that announcement. Each wish has a number above all those received before (a Lamport
//! clock, as in Ricart and Agrawala's mutual exclusion). Of the members that want to leave, the one with the lesser
//! (number, name) goes first: a peer that answered a wish before it had its own comes after it, and so does every wish
//! after that one.
//!
//! ```text
//!   node-1 ── wants, 1 ──► ◄── wants, 1 ── node-2       concurrent wishes
//!   node-1 ◄── pong, wants, 1 ── node-2                 (1, node-1) < (1, node-2): it counts on node-2
//!   node-1 ── pong, wants, 1 ──► node-2                 node-2 does not count on node-1, and stays
//! ```
//!
//! The messages of a member arrive in order: a connection has ended before its replacement is read.
//!
//! A member that was **told** to leave, by a signal, keeps its wish for a while although it was refused, and announces
//! that. Once so many were told that the others could not keep a quorum, the federation has no quorum to lose by their
//! leaving: all of them may leave.
//!
//! A member that started recently may have forgotten what it answered, so it goes before no other. Rejected
//! alternatives: an order by name alone, because "asked first" and "lesser name" can form a cycle of three; and a vote
//! on who may leave, because it needs a quorum, which is missing exactly when leaving matters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Moment;
use crate::id::NodeId;

/// Metadata key of a ping: its sender is leaving, with the reason.
pub(super) const LEAVING: &str = "leaving";
/// Metadata key of a ping or pong: its sender wants to leave if it may.
pub(super) const WANTS_TO_LEAVE: &str = "wants_to_leave";
/// Metadata key of a ping or pong: its sender was told to leave, so its wish stands although it was refused.
pub(super) const TOLD_TO_LEAVE: &str = "told_to_leave";
/// How long a wish is announced that is neither granted nor withdrawn: its requester may be gone.
pub const WISH_MAX: Duration = Duration::from_secs(10);

/// Intention of this member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Own {
    #[default]
    Stays,
    Wants {
        since: Moment,
        /// Id of the first ping that announces the wish.
        first: u64,
        number: u64,
        /// Whether the wish stands although it is refused.
        told: bool,
    },
    Leaves {
        reason: String,
        first: u64,
    },
}

/// Which members want to leave, and which peers know this member's wish.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure {
    own: Own,
    /// Number of each peer's wish; 0, which precedes all others, for peers that are leaving.
    wishes: BTreeMap<NodeId, u64>,
    /// Peers that were told to leave, whose wish stands although it is refused.
    told: BTreeSet<NodeId>,
    /// Greatest number received or used.
    greatest: u64,
    /// Peers that answered a ping which announced this member's wish or departure.
    aware: BTreeSet<NodeId>,
}

impl Departure {
    /// Announces from ping `first` on that this member wants to leave; if it `is_told` to, the wish survives a refusal.
    /// Returns false if nothing changes or the member is already leaving.
    pub(super) fn want(&mut self, now: Moment, first: u64, is_told: bool) -> bool {
        match &mut self.own {
            Own::Stays => {
                self.greatest = self.greatest.saturating_add(1);
                self.own = Own::Wants { since: now, first, number: self.greatest, told: is_told };
                self.aware.clear();
                true
            }
            Own::Wants { told, .. } => is_told && !std::mem::replace(told, true),
            Own::Leaves { .. } => false,
        }
    }

    /// Withdraws the wish.
    pub(super) fn stay(&mut self) {
        if matches!(self.own, Own::Wants { .. }) {
            self.own = Own::Stays;
        }
    }

    /// Withdraws the wish after [`WISH_MAX`].
    pub(super) fn tick(&mut self, now: Moment) {
        if matches!(self.own, Own::Wants { since, .. } if now.since(since) >= WISH_MAX) {
            self.stay();
        }
    }

    /// Announces from ping `first` on that this member leaves; returns false if it was already leaving.
    pub(super) fn leave(&mut self, reason: String, first: u64) -> bool {
        let begins = !matches!(self.own, Own::Leaves { .. });
        if begins {
            self.own = Own::Leaves { reason, first };
            self.aware.clear();
        }
        begins
    }

    /// Reason why this member is leaving, if it is.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.own {
            Own::Leaves { reason, .. } => Some(reason),
            Own::Stays | Own::Wants { .. } => None,
        }
    }

    /// Metadata for this member's pings and pongs.
    pub(super) fn said(&self) -> BTreeMap<String, String> {
        match &self.own {
            Own::Stays => BTreeMap::new(),
            Own::Wants { number, told, .. } => {
                let wish = (WANTS_TO_LEAVE.to_owned(), number.to_string());
                let told = told.then(|| (TOLD_TO_LEAVE.to_owned(), String::new()));
                std::iter::once(wish).chain(told).collect()
            }
            Own::Leaves { reason, .. } => [(LEAVING.to_owned(), reason.clone())].into(),
        }
    }

    /// Records the announcement in a peer's ping or pong.
    pub(super) fn heard(&mut self, peer: &NodeId, said: &BTreeMap<String, String>) {
        if said.contains_key(TOLD_TO_LEAVE) {
            self.told.insert(peer.clone());
        } else {
            self.told.remove(peer);
        }
        let wish = said.get(WANTS_TO_LEAVE).map(|number| number.parse().unwrap_or(0));
        match wish.or(said.contains_key(LEAVING).then_some(0)) {
            Some(number) => {
                self.greatest = self.greatest.max(number);
                self.wishes.insert(peer.clone(), number);
            }
            None => drop(self.wishes.remove(peer)),
        }
    }

    /// Records that a peer answered this ping.
    pub(super) fn answered(&mut self, peer: &NodeId, ping: u64) {
        let (Own::Wants { first, .. } | Own::Leaves { first, .. }) = self.own else { return };
        if ping >= first {
            self.aware.insert(peer.clone());
        }
    }

    /// Whether `peer` knows the last announcement of this member.
    pub(super) fn is_aware(&self, peer: &NodeId) -> bool {
        self.own == Own::Stays || self.aware.contains(peer)
    }

    /// Whether `peer` was told to leave and will do so once it may.
    pub(super) fn is_told(&self, peer: &NodeId) -> bool {
        self.told.contains(peer)
    }

    /// Whether `own` may count on `peer` to stay if `own` leaves. `is_young`: this member may have restarted since it
    /// answered a wish, and forgotten it.
    pub(super) fn can_count_on(&self, own: &NodeId, peer: &NodeId, is_young: bool) -> bool {
        let yields = match (self.wishes.get(peer), &self.own) {
            (None, _) => true,
            (Some(theirs), Own::Wants { number, .. }) => !is_young && (number, own) < (theirs, peer),
            (Some(_), _) => false,
        };
        yields && self.aware.contains(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(index: usize) -> NodeId {
        NodeId::new(&format!("node-{index}")).expect("a name")
    }

    type Said = (BTreeMap<String, String>, Result<u64, u64>);

    /// Members that announce their wishes to each other over links that preserve order and have any delay.
    struct Members {
        all: Vec<Departure>,
        pings: u64,
        /// Announcement, and the ping that is sent or answered, by sender and receiver.
        links: BTreeMap<(usize, usize), Vec<Said>>,
    }

    impl Members {
        fn new(count: usize) -> Self {
            Self { all: vec![Departure::default(); count], pings: 0, links: BTreeMap::new() }
        }

        fn ping_all(&mut self, from: usize) {
            for to in (0..self.all.len()).filter(|to| *to != from) {
                let said = self.all[from].said();
                self.links.entry((from, to)).or_default().push((said, Ok(self.pings)));
            }
        }

        fn want(&mut self, member: usize, is_told: bool) {
            self.pings += 1;
            if self.all[member].want(Moment::ORIGIN, self.pings, is_told) {
                self.ping_all(member);
            }
        }

        /// Delivers the oldest message of one link, selected by `chance`.
        fn deliver(&mut self, chance: usize) {
            let waiting: Vec<_> =
                self.links.iter().filter(|(_, link)| !link.is_empty()).map(|(k, _)| *k).collect();
            if waiting.is_empty() {
                return;
            }
            let (from, to) = waiting[chance % waiting.len()];
            let (said, number) = self.links.get_mut(&(from, to)).expect("it is there").remove(0);
            self.all[to].heard(&node(from), &said);
            match number {
                Ok(ping) => {
                    let said = self.all[to].said();
                    self.links.entry((to, from)).or_default().push((said, Err(ping)));
                }
                Err(ping) => self.all[to].answered(&node(from), ping),
            }
        }

        fn staying(&self, member: usize) -> usize {
            let peers = (0..self.all.len()).filter(|peer| *peer != member);
            peers.filter(|peer| self.all[member].can_count_on(&node(member), &node(*peer), false)).count()
        }
    }

    #[test]
    fn of_two_that_want_to_leave_at_once_one_goes() {
        let mut members = Members::new(4);
        members.want(2, false);
        members.want(1, false);
        assert_eq!((members.staying(1), members.staying(2)), (0, 0), "nobody has confirmed anything");
        (0..100).for_each(|_| members.deliver(0));
        assert_eq!((members.staying(1), members.staying(2)), (3, 2), "the one whose name is less");
        // It withdraws its wish, and the other may leave.
        members.all[1].stay();
        members.ping_all(1);
        (0..100).for_each(|_| members.deliver(0));
        assert_eq!(members.staying(2), 3);
    }

    #[test]
    fn whoever_was_heard_of_before_goes_before_whatever_its_name() {
        let mut members = Members::new(4);
        members.want(2, false);
        (0..100).for_each(|_| members.deliver(0));
        members.want(1, false);
        (0..100).for_each(|_| members.deliver(0));
        assert_eq!((members.staying(1), members.staying(2)), (2, 3));
    }

    #[test]
    fn whoever_may_have_forgotten_what_it_answered_goes_before_nobody() {
        let wants = |number: &str| [(WANTS_TO_LEAVE.to_owned(), number.to_owned())].into();
        let mut departure = Departure::default();
        departure.want(Moment::ORIGIN, 1, false);
        departure.answered(&node(2), 1);
        for (said, counts) in [(wants("1"), true), (wants("0"), false), (wants("many"), false)] {
            departure.heard(&node(2), &said);
            assert_eq!(departure.can_count_on(&node(1), &node(2), false), counts, "{said:?}");
            assert!(!departure.can_count_on(&node(1), &node(2), true), "{said:?}");
        }
        departure.heard(&node(2), &BTreeMap::new());
        assert!(departure.can_count_on(&node(1), &node(2), true), "it stays after all");
    }

    #[test]
    fn a_wish_that_is_neither_fulfilled_nor_taken_back_is_over_after_a_while() {
        let mut departure = Departure::default();
        departure.want(Moment::ORIGIN, 1, false);
        departure.tick(Moment::ORIGIN + WISH_MAX);
        assert_eq!(departure.said(), BTreeMap::new());
        departure.leave("SIGTERM".to_owned(), 2);
        departure.tick(Moment::ORIGIN + WISH_MAX * 2);
        departure.stay();
        assert_eq!(departure.reason(), Some("SIGTERM"), "who leaves does not come back");
    }

    proptest! {
        #[test]
        fn whatever_overtakes_what_those_who_may_go_leave_enough_behind(
            steps in prop::collection::vec((0usize..4, 0usize..100, any::<bool>()), 1..200),
            count in 4usize..8,
        ) {
            let mut members = Members::new(count);
            let required = count * 2 / 3 + 1;
            let mut gone = BTreeSet::new();
            for (member, chance, wants) in steps {
                if wants && chance < 20 {
                    members.want(member, false);
                }
                members.deliver(chance);
                for member in 0..count {
                    let wants = matches!(members.all[member].own, Own::Wants { .. });
                    if wants && members.staying(member) >= required {
                        members.pings += 1;
                        let first = members.pings;
                        members.all[member].leave("told to".to_owned(), first);
                        members.ping_all(member);
                        gone.insert(member);
                    } else if wants && chance == 99 {
                        members.all[member].stay();
                        members.ping_all(member);
                    }
                }
                prop_assert!(count - gone.len() >= required, "{:?} of {} left, {} are required", gone, count, required);
            }
        }
    }
}
