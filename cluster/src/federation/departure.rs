//! Leaving without taking the federation below what it needs, also when several members want to leave at once.
//!
//! A member that only counts who is healthy can not know that another one counts the same at the same moment. So it
//! says first that it **wants** to leave, in pings and in pongs, and counts as staying only who has answered a ping that
//! said so. Each wish has a number above all that were heard of before (Lamport's clock; Ricart and Agrawala use it for
//! mutual exclusion), and of those who want to leave the one with the lesser number, then name, goes first: whoever
//! answered a wish before it had one itself comes after it, and so does whoever comes after that one.
//!
//! ```text
//!   node-1 ── wants, 1 ──► ◄── wants, 1 ── node-2       neither had heard of the other
//!   node-1 ◄── pong, wants, 1 ── node-2                 (1, node-1) < (1, node-2): it counts on node-2
//!   node-1 ── pong, wants, 1 ──► node-2                 node-2 does not count on node-1, and stays
//! ```
//!
//! What a member says arrives in order: a connection has ended before its successor is read.
//!
//! Whoever was **told** to leave, by a signal, keeps its wish for a while though it was refused, and says so. Once so many
//! were told that the others could not carry on, whoever of them leaves takes nothing from the federation that it would
//! have kept: all of them may leave.
//!
//! Whoever forgot what it answered, because it began a moment ago, goes before nobody. Two roads not taken: an order of
//! the names alone, for who came first and who is less can run in a circle of three; and a vote on who may leave, for it
//! needs a quorum, and so could not be had where leaving matters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Moment;
use crate::id::NodeId;

/// Under this key a ping says that its sender is going to leave, and why.
pub(super) const LEAVING: &str = "leaving";
/// Under this key a ping or a pong says that its sender wants to leave, if it may.
pub(super) const WANTS_TO_LEAVE: &str = "wants_to_leave";
/// Under this key a ping or a pong says that its sender's wish stands though it was refused: it was told to leave.
pub(super) const TOLD_TO_LEAVE: &str = "told_to_leave";
/// How long a wish is told that is neither fulfilled nor taken back: whoever had it may be gone.
pub const WISH_MAX: Duration = Duration::from_secs(10);

/// What this member does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Own {
    #[default]
    Stays,
    Wants {
        since: Moment,
        /// The first ping that says so.
        first: u64,
        number: u64,
        /// It stands though it is refused.
        told: bool,
    },
    Leaves {
        reason: String,
        first: u64,
    },
}

/// Who stays, who wants to leave, and who knows of this member's wish.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure {
    own: Own,
    /// The number of each peer's wish; 0, before all, of those who leave.
    wishes: BTreeMap<NodeId, u64>,
    /// The peers whose wish stands though it is refused.
    told: BTreeSet<NodeId>,
    /// The greatest number heard of.
    greatest: u64,
    /// Peers that answered a ping that told of this member's wish, or of its leaving.
    aware: BTreeSet<NodeId>,
}

impl Departure {
    /// This member wants to leave from ping `first` on, and does not take that back when it is refused if it was `told`
    /// to; false if that is nothing new, or it is leaving.
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

    /// It stays after all.
    pub(super) fn stay(&mut self) {
        if matches!(self.own, Own::Wants { .. }) {
            self.own = Own::Stays;
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Moment) {
        if matches!(self.own, Own::Wants { since, .. } if now.since(since) >= WISH_MAX) {
            self.stay();
        }
    }

    /// This member leaves from ping `first` on; false if it was leaving before.
    pub(super) fn leave(&mut self, reason: String, first: u64) -> bool {
        let begins = !matches!(self.own, Own::Leaves { .. });
        if begins {
            self.own = Own::Leaves { reason, first };
            self.aware.clear();
        }
        begins
    }

    /// Why this member is leaving, if it is.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.own {
            Own::Leaves { reason, .. } => Some(reason),
            Own::Stays | Own::Wants { .. } => None,
        }
    }

    /// What this member's pings and pongs say of it.
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

    /// A peer says this of itself.
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

    /// A peer answered this ping.
    pub(super) fn answered(&mut self, peer: &NodeId, ping: u64) {
        let (Own::Wants { first, .. } | Own::Leaves { first, .. }) = self.own else { return };
        if ping >= first {
            self.aware.insert(peer.clone());
        }
    }

    /// Whether `peer` knows what this member told last of its leaving.
    pub(super) fn is_aware(&self, peer: &NodeId) -> bool {
        self.own == Own::Stays || self.aware.contains(peer)
    }

    /// Whether `peer` was told to leave, and would do so if it may.
    pub(super) fn is_told(&self, peer: &NodeId) -> bool {
        self.told.contains(peer)
    }

    /// Whether `own` may count on `peer` to stay when it leaves itself. `is_young` if it may have answered a wish before,
    /// and forgotten it.
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

    /// Members that each send every other what they say, over links that keep the order and take any time.
    struct Members {
        all: Vec<Departure>,
        pings: u64,
        /// By sender and receiver: what it says of itself, and which ping it sends or answers.
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

        /// The oldest message of one of the links arrives; which one is chance.
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
        // It does not go, and the other may.
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
