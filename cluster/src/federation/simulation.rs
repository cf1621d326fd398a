//! Simulates four coordinators in virtual time, on a network with seeded delays, one-way partitions, crashes and paused
//! members. It covers everything but the actors and the sockets.
//!
//! Faults are immediate and members detect them only from the messages they receive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::attestation::tests::NameSigner;
use super::config::HeartbeatConfig;
use super::coordinator::{Coordinator, Effect, Input};
use super::decision::{MemberState, OperationClass, decide};
use super::roster::Roster;
use super::verdict::GateReader;
use super::wire::FederationWire;
use crate::clock::{Moment, WallTime};
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::ping::{HealthCheckResult, HealthStatus};
use crate::port::PeerChange;

const MEMBERS: usize = 4;
const TICK_MS: u64 = 50;
const HEALTH_MS: u64 = 500;
/// Guaranteed time from a fault to a closed gate, in milliseconds.
const HALT_MS: u64 = 1_500;
/// The same when processes are killed.
const KILL_HALT_MS: u64 = 400;

struct Member {
    coordinator: Coordinator,
    gate: GateReader,
    incarnation: u64,
    up: bool,
    health: HealthCheckResult,
    /// End of the member's pause.
    still_until: u64,
    changes: Vec<(u64, PeerChange)>,
    refused: Vec<String>,
    doubts: Vec<(u64, bool)>,
}

enum Event {
    Tick,
    OwnHealth,
    Wire(NodeId, FederationWire),
    /// The link to this member is up, or its connection has ended.
    Link(NodeId, bool),
}

struct Federation {
    members: Vec<Member>,
    now: u64,
    rng: StdRng,
    sequence: u64,
    queue: BTreeMap<(u64, u64), (usize, u64, Event)>,
    cut: BTreeSet<(usize, usize)>,
    /// A link that delays all messages until this time.
    held: Option<((usize, usize), u64)>,
    /// Minimum delay of each link, and maximum additional jitter, in milliseconds.
    delay: (u64, u64),
    sent: u64,
}

fn name(index: usize) -> NodeId {
    NodeId::new(&format!("node-{}", index + 1)).expect("a name")
}

fn moment(ms: u64) -> Moment {
    Moment::at(Duration::from_millis(ms))
}

fn fresh(index: usize, incarnation: u64) -> Member {
    let roster = Roster::new((0..MEMBERS).map(name).collect(), &name(index)).expect("a member");
    let config = HeartbeatConfig::default();
    let gate = GateReader::closed(config.gates(&roster));
    let signer = Arc::new(NameSigner(name(index)));
    let coordinator = Coordinator::new(roster, Incarnation(incarnation), config, signer);
    Member {
        coordinator,
        gate,
        incarnation,
        up: true,
        health: HealthCheckResult::healthy(),
        still_until: 0,
        changes: Vec::new(),
        refused: Vec::new(),
        doubts: Vec::new(),
    }
}

impl Federation {
    fn new(seed: u64) -> Self {
        let mut federation = Self {
            members: (0..MEMBERS).map(|index| fresh(index, 1)).collect(),
            now: 0,
            rng: StdRng::seed_from_u64(seed),
            sequence: 0,
            queue: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: None,
            delay: (1, 4),
            sent: 0,
        };
        (0..MEMBERS).for_each(|index| federation.set_going(index));
        federation
    }

    /// A federation with an open gate, at a time that depends on the seed.
    fn settled(seed: u64) -> Self {
        let mut federation = Self::new(seed);
        let settling = federation.rng.random_range(10_000..10_500);
        federation.run_for(settling);
        federation.assert_open(&[0, 1, 2, 3], 4);
        for member in &mut federation.members {
            member.changes.clear();
        }
        federation
    }

    fn set_going(&mut self, index: usize) {
        for event in [Event::OwnHealth, Event::Tick] {
            let after = self.rng.random_range(0..TICK_MS);
            self.push(after, index, event);
        }
    }

    fn push(&mut self, after: u64, to: usize, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), (to, self.members[to].incarnation, event));
    }

    fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), (to, incarnation, event)) = entry.remove_entry();
            self.now = at;
            let member = &self.members[to];
            if !member.up || member.incarnation != incarnation {
                continue;
            }
            // Messages that arrive during a member's pause are delivered when it resumes.
            let still_for = member.still_until.saturating_sub(self.now);
            if still_for > 0 {
                self.push(still_for, to, event);
            } else {
                self.happen(to, event);
            }
        }
        self.now = until;
    }

    fn happen(&mut self, index: usize, event: Event) {
        let wall = WallTime(self.now);
        let input = match event {
            Event::Tick => {
                self.push(TICK_MS, index, Event::Tick);
                Input::Tick { wall, height: BlockHeight(7) }
            }
            Event::OwnHealth => {
                self.push(HEALTH_MS, index, Event::OwnHealth);
                Input::OwnHealth(self.members[index].health.clone())
            }
            Event::Wire(from, wire) => Input::Wire { from, wire, wall },
            Event::Link(peer, is_up) => Input::Link { peer, is_up, wall },
        };
        let effects = self.members[index].coordinator.handle(moment(self.now), input);
        for effect in effects {
            self.follow(index, effect);
        }
    }

    fn follow(&mut self, index: usize, effect: Effect) {
        let now = self.now;
        let member = &mut self.members[index];
        match effect {
            Effect::Send(to, wire) => {
                let to = (0..MEMBERS).find(|other| name(*other) == to).expect("a member");
                self.sent += 1;
                if !self.cut.contains(&(index, to)) {
                    let (least, jitter) = self.delay;
                    let held = self.held.filter(|(link, _)| *link == (index, to));
                    let held_for = held.map_or(0, |(_, until)| until.saturating_sub(now));
                    let delay = held_for + self.rng.random_range(least..=least + jitter);
                    self.push(delay, to, Event::Wire(name(index), wire));
                }
            }
            Effect::Peer(change) => member.changes.push((now, change)),
            Effect::Publish(verdict) => {
                for record in member.gate.publish(verdict, moment(now), WallTime(now)) {
                    assert_eq!(decide(&record.inputs), *record.outcome);
                }
            }
            Effect::TellRefused { reason, .. } => member.refused.push(reason),
            Effect::TellClock { .. } => panic!("all clocks are the same"),
            Effect::TellDoubt { begins, .. } => member.doubts.push((now, begins)),
        }
    }

    /// Kills the process and closes all its connections.
    fn kill(&mut self, index: usize) {
        self.members[index].up = false;
        for other in (0..MEMBERS).filter(|other| *other != index) {
            if !self.cut.contains(&(index, other)) {
                let after = self.rng.random_range(1..=5);
                self.push(after, other, Event::Link(name(index), false));
            }
        }
    }

    /// Breaks the connection between two members; messages are lost until there is another.
    fn break_link(&mut self, one: usize, other: usize) {
        self.cut_between(&[one], &[other]);
        for (at, of) in [(one, other), (other, one)] {
            let after = self.rng.random_range(1..=5);
            self.push(after, at, Event::Link(name(of), false));
        }
    }

    fn mend_link(&mut self, one: usize, other: usize) {
        self.cut.retain(|link| *link != (one, other) && *link != (other, one));
        for (at, of) in [(one, other), (other, one)] {
            self.push(1, at, Event::Link(name(of), true));
        }
    }

    /// Leaves in an orderly way: stops once all reachable members have acknowledged it.
    fn leave(&mut self, index: usize) {
        let input = Input::Leave { reason: "SIGTERM".to_owned(), wall: WallTime(self.now) };
        let effects = self.members[index].coordinator.handle(moment(self.now), input);
        for effect in effects {
            self.follow(index, effect);
        }
        let start = self.now;
        while !self.members[index].coordinator.unaware().is_empty() {
            self.run_for(1);
            assert!(self.now - start <= 500, "not confirmed within 500 ms");
        }
        self.kill(index);
    }

    fn restart(&mut self, index: usize) {
        self.members[index] = fresh(index, self.members[index].incarnation + 1);
        self.set_going(index);
        // Events of a member that is down are dropped.
        for other in (0..MEMBERS).filter(|other| *other != index) {
            self.push(50, other, Event::Link(name(index), true));
        }
    }

    fn cut_between(&mut self, some: &[usize], others: &[usize]) {
        for &one in some {
            for &other in others {
                self.cut.extend([(one, other), (other, one)]);
            }
        }
    }

    fn is_open(&self, index: usize) -> bool {
        self.members[index].gate.admit(moment(self.now), OperationClass::Vote).is_ok()
    }

    fn assert_open(&self, indexes: &[usize], healthy: usize) {
        for &index in indexes {
            let verdict = self.members[index].gate.verdict(moment(self.now));
            assert!(self.is_open(index), "member {index} at {}: {}", self.now, verdict.reason);
            assert!(verdict.healthy >= healthy, "member {index} at {}: {}", self.now, verdict.reason);
        }
    }

    /// Runs until the gates of `indexes` are all closed, and returns how long that took in milliseconds.
    fn ms_until_closed(&mut self, indexes: &[usize], at_most: u64) -> u64 {
        let start = self.now;
        while indexes.iter().any(|&index| self.is_open(index)) {
            self.run_for(1);
            assert!(self.now - start <= at_most, "open for more than {at_most} ms");
        }
        self.now - start
    }

    fn ms_until_open(&mut self, indexes: &[usize], at_most: u64) -> u64 {
        let start = self.now;
        while !indexes.iter().all(|&index| self.is_open(index)) {
            self.run_for(1);
            assert!(self.now - start <= at_most, "not open within {at_most} ms");
        }
        self.now - start
    }

    /// Runs for `ms` and checks that the gates of `indexes` stay open.
    fn run_open_for(&mut self, ms: u64, indexes: &[usize]) {
        let end = self.now + ms;
        while self.now < end {
            self.run_for((end - self.now).min(10));
            self.assert_open(indexes, 3);
        }
    }

    fn state(&self, of: usize, seen_by: usize) -> MemberState {
        self.members[seen_by].coordinator.members(moment(self.now))[of].state
    }

    fn was_lost(&self, of: usize, seen_by: usize) -> bool {
        let lost = |change: &PeerChange| matches!(change, PeerChange::Down { node, .. } if *node == name(of));
        self.members[seen_by].changes.iter().any(|(_, change)| lost(change))
    }
}

/// Longest of many trials; checks that it is within the guarantee.
fn slowest(trials: u64, mut trial: impl FnMut(u64) -> u64) -> u64 {
    let slowest = (0..trials).map(&mut trial).max().expect("at least one trial");
    assert!(slowest <= HALT_MS, "{slowest} ms");
    slowest
}

#[test]
fn killed_processes_are_noticed_at_once() {
    // One after the other, both at once, and with one known only through others.
    let slowest = (0..150).map(|seed| {
        let mut federation = Federation::settled(seed);
        federation.delay = (1, 20);
        federation.kill(3);
        let between = if seed % 3 == 0 { 0 } else { federation.rng.random_range(0..4_000) };
        federation.run_for(between);
        federation.kill(2);
        federation.ms_until_closed(&[0, 1], HALT_MS)
    });
    let slowest = slowest.max().expect("trials");
    assert!(slowest <= KILL_HALT_MS, "{slowest} ms");
}

#[test]
fn links_that_break_and_come_back_lose_nobody_and_halt_nobody_for_an_hour() {
    let mut federation = Federation::settled(7);
    federation.delay = (1, 60);
    let mut minutes = 0;
    while minutes < 60 {
        let end = federation.now + 60_000;
        while federation.now < end {
            let one = federation.rng.random_range(0..MEMBERS);
            let other = (one + federation.rng.random_range(1..MEMBERS)) % MEMBERS;
            federation.break_link(one, other);
            let broken = federation.rng.random_range(20..3_000);
            federation.run_open_for(broken, &[0, 1, 2, 3]);
            federation.mend_link(one, other);
            let whole = federation.rng.random_range(20..2_000);
            federation.run_open_for(whole, &[0, 1, 2, 3]);
        }
        minutes += 1;
    }
    for of in 0..MEMBERS {
        assert!((0..MEMBERS).all(|by| by == of || !federation.was_lost(of, by)), "member {of} was lost");
    }
}

#[test]
fn all_connections_of_a_member_that_break_for_a_moment_halt_nobody() {
    for seed in 0..50 {
        let mut federation = Federation::settled(seed);
        // With one dead, each of the three is needed.
        federation.kill(3);
        federation.run_open_for(5_000, &[0, 1, 2]);
        federation.break_link(0, 1);
        federation.break_link(0, 2);
        federation.run_open_for(80, &[0, 1, 2]);
        federation.mend_link(0, 1);
        federation.mend_link(0, 2);
        federation.run_open_for(5_000, &[0, 1, 2]);
    }
}

#[test]
fn two_killed_members_halt_the_others_in_time_in_every_trial() {
    slowest(50, |seed| {
        let mut federation = Federation::settled(seed);
        federation.kill(3);
        let between = federation.rng.random_range(0..4_000);
        federation.run_open_for(between, &[0, 1, 2]);
        federation.kill(2);
        federation.ms_until_closed(&[0, 1], HALT_MS)
    });
}

#[test]
fn a_split_in_half_halts_both_sides_and_two_one_one_halts_everyone() {
    for others in [&[(0, 1), (2, 3)][..], &[(0, 1)]] {
        slowest(50, |seed| {
            let mut federation = Federation::settled(seed);
            for one in 0..MEMBERS {
                for other in (0..one).filter(|other| !others.contains(&(*other, one))) {
                    federation.cut_between(&[one], &[other]);
                }
            }
            let took = federation.ms_until_closed(&[0, 1, 2, 3], HALT_MS);
            federation.run_for(10_000);
            assert!((0..MEMBERS).all(|index| !federation.is_open(index)), "it stays closed");
            federation.cut.clear();
            let back = federation.ms_until_open(&[0, 1, 2, 3], 2_000);
            assert!(back <= 1_500, "{back} ms");
            took
        });
    }
}

#[test]
fn a_member_that_hears_nobody_halts_in_time_doubts_itself_and_loses_nobody_at_once() {
    slowest(50, |seed| {
        let mut federation = Federation::settled(seed);
        federation.cut_between(&[0], &[1, 2, 3]);
        let took = federation.ms_until_closed(&[0], HALT_MS);
        federation.assert_open(&[1, 2, 3], 3);
        federation.run_for(1_000);
        assert!((1..MEMBERS).all(|of| federation.state(of, 0) == MemberState::Suspected));
        assert_eq!(federation.members[0].changes, [], "nobody is called lost");
        let verdict = federation.members[0].gate.verdict(moment(federation.now));
        assert!(verdict.reason.contains("doubts itself"), "{}", verdict.reason);
        assert!((1..MEMBERS).all(|by| federation.was_lost(0, by)), "the others are sure");
        federation.run_for(6_000);
        assert!((1..MEMBERS).all(|of| federation.was_lost(of, 0)), "doubt has an end");
        federation.cut.clear();
        federation.ms_until_open(&[0], 2_000);
        assert_eq!(
            federation.members[0].doubts.iter().map(|(_, begins)| *begins).collect::<Vec<_>>(),
            [true, false]
        );
        took
    });
}

#[test]
fn a_cut_between_two_one_way_or_both_loses_nobody_and_halts_nobody() {
    for seed in 0..50 {
        let mut federation = Federation::settled(seed);
        federation.cut.insert((0, 1));
        if seed % 2 == 0 {
            federation.cut.insert((1, 0));
        }
        federation.run_open_for(5_000, &[0, 1, 2, 3]);
        federation.assert_open(&[0, 1, 2, 3], 4);
        assert_eq!(federation.state(1, 0), MemberState::Attested);
        assert_eq!(federation.state(0, 1), MemberState::Attested);
        assert!(!federation.was_lost(1, 0) && !federation.was_lost(0, 1), "asked for, not lost");
        let heard = |of: usize, by: usize| {
            federation.members[by].changes.iter().rev().find_map(|(_, change)| match change {
                PeerChange::Indirect { node, heard, .. } if *node == name(of) => Some(*heard),
                _ => None,
            })
        };
        assert_eq!(heard(1, 0), Some(seed % 2 == 1), "what goes the other way arrives");
        assert_eq!(heard(0, 1), Some(false));
        for carrier in [2, 3] {
            let apart = PeerChange::Apart { one: name(0), other: name(1) };
            assert!(federation.members[carrier].changes.iter().any(|(_, change)| *change == apart));
        }
        federation.cut.clear();
        federation.run_open_for(5_000, &[0, 1, 2, 3]);
        assert_eq!((federation.state(1, 0), federation.state(0, 1)), (MemberState::Up, MemberState::Up));
        let together = PeerChange::Together { one: name(0), other: name(1) };
        assert!(federation.members[2].changes.iter().any(|(_, change)| *change == together));
        assert!(federation.members.iter().all(|member| member.refused.is_empty()));
    }
}

#[test]
fn with_one_dead_a_cut_between_two_of_three_halts_nobody() {
    for seed in 0..20 {
        let mut federation = Federation::settled(seed);
        federation.delay = (1, 50);
        federation.kill(3);
        federation.run_open_for(5_000, &[0, 1, 2]);
        federation.cut.insert((0, 1));
        if seed % 2 == 0 {
            federation.cut.insert((1, 0));
        }
        federation.run_open_for(30_000, &[0, 1, 2]);
    }
}

#[test]
fn a_member_known_only_through_others_that_dies_halts_the_rest_in_time() {
    slowest(50, |seed| {
        let mut federation = Federation::settled(seed);
        federation.kill(3);
        federation.cut_between(&[0], &[1]);
        federation.run_open_for(5_000, &[0, 1, 2]);
        let wait = federation.rng.random_range(0..1_000);
        federation.run_open_for(wait, &[0, 1, 2]);
        federation.kill(1);
        federation.ms_until_closed(&[0, 2], HALT_MS)
    });
}

fn left(of: usize) -> PeerChange {
    PeerChange::Left { node: name(of), reason: "leaving: SIGTERM".to_owned() }
}

#[test]
fn a_member_that_leaves_is_lost_to_nobody_makes_nobody_doubt_and_is_not_asked_for() {
    for seed in 0..20 {
        let mut federation = Federation::settled(seed);
        federation.leave(3);
        federation.run_open_for(5_000, &[0, 1, 2]);
        for by in 0..3 {
            let member = &federation.members[by];
            let changes: Vec<_> = member.changes.iter().map(|(_, change)| change).collect();
            assert_eq!(changes, [&left(3)], "seen by member {by}");
            assert!(member.doubts.is_empty() && member.refused.is_empty(), "member {by}");
            assert_eq!(federation.state(3, by), MemberState::Left);
        }
        let before = federation.sent;
        federation.run_for(10_000);
        let rounds = 10_000 / HeartbeatConfig::default().interval.as_millis() as u64;
        // Per round, three pings and two answers from each of the three, and nothing about the member that left.
        assert!(federation.sent - before <= (rounds + 1) * 15, "{} messages", federation.sent - before);
        federation.restart(3);
        federation.run_for(3_000);
        federation.assert_open(&[0, 1, 2, 3], 4);
        assert!((0..3).all(|by| federation.state(3, by) == MemberState::Up), "its next incarnation counts");
    }
}

#[test]
fn when_one_has_left_the_loss_of_another_halts_the_rest_in_time() {
    slowest(50, |seed| {
        let mut federation = Federation::settled(seed);
        federation.leave(3);
        let between = federation.rng.random_range(0..4_000);
        federation.run_open_for(between, &[0, 1, 2]);
        federation.kill(2);
        let took = federation.ms_until_closed(&[0, 1], HALT_MS);
        federation.run_for(1_000);
        assert!(federation.was_lost(2, 0) && federation.was_lost(2, 1), "one that said nothing has failed");
        took
    });
}

#[test]
fn a_member_that_is_known_only_through_others_leaves_as_well() {
    for seed in 0..20 {
        let mut federation = Federation::settled(seed);
        federation.cut_between(&[0], &[3]);
        federation.run_open_for(5_000, &[0, 1, 2, 3]);
        assert_eq!(federation.state(3, 0), MemberState::Attested);
        federation.leave(3);
        federation.run_open_for(5_000, &[0, 1, 2]);
        for by in 0..3 {
            assert_eq!(federation.state(3, by), MemberState::Left, "seen by member {by}");
            assert!(!federation.was_lost(3, by), "member {by} calls it lost");
        }
        federation.restart(3);
        federation.run_for(5_000);
        assert_eq!(federation.state(3, 0), MemberState::Attested, "its next incarnation is asked for again");
        federation.assert_open(&[0, 1, 2, 3], 4);
    }
}

#[test]
fn members_that_all_leave_at_once_doubt_nothing() {
    let mut federation = Federation::settled(1);
    federation.leave(3);
    federation.leave(2);
    federation.leave(1);
    federation.run_for(5_000);
    let member = &federation.members[0];
    assert!((1..MEMBERS).all(|of| federation.state(of, 0) == MemberState::Left));
    assert!(member.doubts.is_empty(), "{:?}", member.doubts);
}

#[test]
fn a_paused_member_is_lost_in_time_and_trusts_nothing_old_when_it_goes_on() {
    slowest(50, |seed| {
        let mut federation = Federation::settled(seed);
        federation.kill(3);
        federation.run_open_for(2_000, &[0, 1, 2]);
        federation.members[2].still_until = federation.now + 20_000;
        let took = federation.ms_until_closed(&[0, 1], HALT_MS);
        let rest = federation.members[2].still_until - federation.now;
        federation.run_for(rest - 1);
        assert!(!federation.is_open(2), "its lease ran out while it stood still");
        let back = federation.ms_until_open(&[0, 1, 2], 2_000);
        assert!(back <= 1_500, "{back} ms");
        took
    });
}

#[test]
fn a_member_that_stands_still_for_less_than_its_lease_calls_nobody_lost() {
    for seed in 0..10 {
        let mut federation = Federation::settled(seed);
        for _ in 0..20 {
            let still = federation.rng.random_range(400..700);
            federation.members[0].still_until = federation.now + still;
            federation.run_for(5_000);
            federation.assert_open(&[0, 1, 2, 3], 4);
        }
        assert_eq!(federation.members[0].changes, []);
    }
}

#[test]
fn two_hundred_milliseconds_of_delay_are_no_fault() {
    for seed in 0..50 {
        let mut federation = Federation::settled(seed);
        federation.delay = (200, 5);
        federation.run_open_for(10_000, &[0, 1, 2, 3]);
        for (index, member) in federation.members.iter().enumerate() {
            let lost = |change: &PeerChange| matches!(change, PeerChange::Down { .. });
            assert!(!member.changes.iter().any(|(_, change)| lost(change)), "member {index} lost someone");
            assert!(member.doubts.is_empty(), "member {index} doubted itself");
        }
    }
}

/// Checks an hour with one dead member: no other was lost, returned or attested, and no member suspected itself.
fn assert_calm_but_for_the_dead(federation: &Federation, dead: usize) {
    for index in (0..MEMBERS).filter(|index| *index != dead) {
        let member = &federation.members[index];
        let is_asked_for =
            |change: &PeerChange| matches!(change, PeerChange::Apart { .. } | PeerChange::Together { .. });
        let concluded =
            member.changes.iter().map(|(_, change)| change).filter(|change| !is_asked_for(change));
        let lost: Vec<_> = concluded.collect();
        assert!(
            matches!(lost[..], [PeerChange::Down { node, .. }] if *node == name(dead)),
            "member {index}: {lost:?}"
        );
        assert_eq!((member.refused.len(), member.doubts.len()), (0, 0));
        let history = member.gate.history(moment(federation.now));
        assert!(history.len() <= 12, "{} decisions in an hour", history.len());
    }
}

/// An hour with a dead member, and up to 100 ms of jitter per message.
#[test]
fn an_hour_with_one_dead_and_a_hundred_milliseconds_of_jitter_has_no_false_halt() {
    let mut federation = Federation::settled(7);
    federation.delay = (1, 100);
    federation.kill(3);
    federation.run_open_for(3_600_000, &[0, 1, 2]);
    assert_calm_but_for_the_dead(&federation, 3);
}

/// The same, and every two seconds one direction of one link delays everything for 500 ms, as after a lost and
/// retransmitted segment: the acceptable pause.
#[test]
fn an_hour_with_one_dead_jitter_and_lost_segments_has_no_false_halt() {
    let mut federation = Federation::settled(8);
    federation.delay = (1, 100);
    federation.kill(3);
    federation.run_open_for(2_000, &[0, 1, 2]);
    for _ in 0..1_800 {
        let (from, on) = (federation.rng.random_range(0..3), federation.rng.random_range(1..3));
        federation.held = Some(((from, (from + on) % 3), federation.now + 500));
        federation.run_open_for(2_000, &[0, 1, 2]);
    }
    assert_calm_but_for_the_dead(&federation, 3);
}

#[test]
fn a_restarted_member_is_back_and_its_old_statements_are_refused() {
    let mut federation = Federation::settled(3);
    federation.cut_between(&[0], &[1]);
    federation.run_for(3_000);
    let stated = |wire: &FederationWire| match wire {
        FederationWire::Attest { to, statement } if *to == name(0) => {
            (statement.attestation.member == name(1)).then(|| statement.clone())
        }
        _ => None,
    };
    let mut kept = None;
    while kept.is_none() {
        federation.run_for(1);
        kept = federation.queue.values().find_map(|(_, _, event)| match event {
            Event::Wire(_, wire) => stated(wire),
            _ => None,
        });
    }
    let kept = kept.expect("just found");
    federation.kill(1);
    federation.run_for(3_000);
    assert_eq!(federation.state(1, 0), MemberState::Down);
    let say = |federation: &mut Federation, statement| {
        let wire = FederationWire::Attest { to: name(0), statement };
        federation.happen(0, Event::Wire(name(2), wire));
        federation.members[0].refused.pop()
    };
    // A replayed statement from before the crash does not bring the member back.
    assert_eq!(say(&mut federation, kept.clone()), None, "known, or overtaken: nothing new");
    assert_eq!(federation.state(1, 0), MemberState::Down);
    federation.restart(1);
    federation.run_for(3_000);
    assert_eq!(federation.state(1, 0), MemberState::Attested);
    let refused = say(&mut federation, kept.clone()).expect("of an old incarnation");
    assert!(refused.contains("incarnation 1; the member is in incarnation 2"), "{refused}");
    federation.run_for(2_000);
    let mut forged = kept;
    forged.attestation.incarnation = Incarnation(2);
    forged.attestation.sequence = u64::MAX;
    forged.attestation.status = HealthStatus::Unhealthy;
    let refused = say(&mut federation, forged).expect("forged");
    assert!(refused.contains("its signature is not the member's"), "{refused}");
    assert_eq!(federation.state(1, 0), MemberState::Attested);
}

#[test]
fn a_statement_of_a_sick_member_does_not_make_it_healthy() {
    let mut federation = Federation::settled(5);
    federation.cut_between(&[0], &[1]);
    federation.run_for(3_000);
    federation.members[1].health = HealthCheckResult::unhealthy("chain is unhealthy: not running");
    federation.run_for(1_000);
    let members = federation.members[0].coordinator.members(moment(federation.now));
    assert_eq!((members[1].state, members[1].healthy), (MemberState::Attested, false));
    assert_eq!(members[1].reason, "chain is unhealthy: not running");
    assert!([Some(name(2)), Some(name(3))].contains(&members[1].through));
}

#[test]
fn a_member_that_begins_behind_a_cut_waits_for_greetings_first_and_then_asks_through_others() {
    let mut federation = Federation::settled(11);
    federation.kill(3);
    federation.kill(1);
    federation.cut_between(&[0], &[1]);
    federation.run_for(3_000);
    assert!(!federation.is_open(0));
    federation.restart(1);
    federation.run_for(1_900);
    assert_eq!(federation.state(0, 1), MemberState::Unknown, "links may be in the making");
    federation.ms_until_open(&[0, 1, 2], 3_000);
    assert_eq!(federation.state(0, 1), MemberState::Attested);
    federation.run_open_for(10_000, &[0, 1, 2]);
}

#[test]
fn whoever_is_calm_is_asked_for_through_nobody() {
    let mut federation = Federation::settled(1);
    let before = federation.sent;
    federation.run_for(10_000);
    // Twelve links, a ping and a pong in each interval.
    let expected = 12 * 2 * 40;
    assert!(federation.sent - before <= expected + 24, "{} messages", federation.sent - before);
}
