//! Tests one member's coordinator with scripted peers.

use super::*;
use crate::federation::attestation::tests::NameSigner;
use crate::federation::departure::LEAVING;
use crate::federation::gate::Decision;
use crate::ping::{PingMessage, PongMessage};

/// One member's coordinator with a clock and scripted peers.
struct Federation {
    coordinator: Coordinator,
    now_ms: u64,
    answering: Vec<(&'static str, u64)>,
    delay_ms: u64,
    in_flight: Vec<(u64, NodeId, PongMessage)>,
    changes: Vec<PeerChange>,
    verdicts: Vec<Verdict>,
    clocks: Vec<(bool, i64)>,
    /// How far this member's clock is ahead of those of all others.
    clock_error_ms: i64,
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

impl Federation {
    fn new() -> Self {
        let members = (1..=4).map(|n| node(&format!("node-{n}"))).collect();
        let roster = Roster::new(members, &node("node-1")).expect("a member");
        let config = HeartbeatConfig::default();
        let mut coordinator =
            Coordinator::new(roster, Incarnation(1), config, Arc::new(NameSigner(node("node-1"))));
        coordinator.handle(Moment::ORIGIN, Input::OwnHealth(HealthCheckResult::healthy()));
        Self {
            coordinator,
            now_ms: 0,
            answering: vec![("node-2", 1), ("node-3", 1), ("node-4", 1)],
            delay_ms: 5,
            in_flight: Vec::new(),
            changes: Vec::new(),
            verdicts: Vec::new(),
            clocks: Vec::new(),
            clock_error_ms: 0,
        }
    }

    fn input(&mut self, input: Input) {
        let now = Moment::at(Duration::from_millis(self.now_ms));
        for effect in self.coordinator.handle(now, input) {
            match effect {
                Effect::Send(to, FederationWire::Ping(ping)) => {
                    let Some((_, incarnation)) = self.answering.iter().find(|(n, _)| node(n) == to) else {
                        continue;
                    };
                    let pong = PongMessage {
                        ping_id: ping.id,
                        timestamp: WallTime(1_000_000 + self.now_ms + self.delay_ms / 2),
                        source: to.to_string(),
                        incarnation: Incarnation(*incarnation),
                        status: HealthCheckResult::healthy(),
                        metadata: BTreeMap::new(),
                    };
                    self.in_flight.push((self.now_ms + self.delay_ms, to, pong));
                }
                Effect::TellClock { is_wrong, error_ms } => self.clocks.push((is_wrong, error_ms)),
                Effect::Send(..) | Effect::TellRefused { .. } | Effect::TellDoubt { .. } => {}
                Effect::Peer(change) => self.changes.push(change),
                Effect::Publish(verdict) => self.verdicts.push(verdict),
            }
        }
    }

    fn run(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += 5;
            let (due, later) =
                std::mem::take(&mut self.in_flight).into_iter().partition(|(at, ..)| *at <= self.now_ms);
            self.in_flight = later;
            let due: Vec<(u64, NodeId, PongMessage)> = due;
            for (_, from, pong) in due {
                let wall = WallTime((1_000_000 + self.now_ms).saturating_add_signed(self.clock_error_ms));
                self.input(Input::Wire { from, wire: FederationWire::Pong(pong), wall });
            }
            if self.now_ms.is_multiple_of(50) {
                self.input(Input::Tick { wall: WallTime(self.now_ms), height: BlockHeight(7) });
            }
            if self.now_ms.is_multiple_of(500) {
                self.input(Input::OwnHealth(HealthCheckResult::healthy()));
            }
        }
    }

    fn verdict(&self) -> &Verdict {
        self.verdicts.last().expect("published every round")
    }

    fn ms_until(&mut self, decision: Decision) -> u64 {
        let start = self.now_ms;
        while self.verdict().decision != decision {
            self.run(5);
            assert!(self.now_ms < start + 60_000, "never {decision:?}: {:?}", self.verdict());
        }
        self.now_ms - start
    }
}

#[test]
fn a_member_that_falls_silent_again_and_again_is_named_in_the_reason_although_it_counts() {
    let mut federation = Federation::new();
    federation.run(3_000);
    for silence in 1..=3 {
        assert!(!federation.verdict().reason.contains("unstable"), "{silence}: {:?}", federation.verdict());
        federation.answering.retain(|(name, _)| *name != "node-4");
        federation.run(3_000);
        federation.answering.push(("node-4", 1));
        federation.run(3_000);
    }
    let verdict = federation.verdict().clone();
    assert_eq!((verdict.decision, verdict.healthy), (Decision::Open, 4));
    let named = "node-4 (unstable: it fell silent 3 times within 60 s)";
    assert!(verdict.reason.contains(named), "{}", verdict.reason);
    federation.run(60_000);
    assert_eq!(federation.verdict().reason, "all 4 members are healthy");
}

#[test]
fn peers_are_told_the_height_whenever_the_health_monitor_reports() {
    let mut federation = Federation::new();
    federation.run(1_010);
    federation.input(Input::OwnHealth(HealthCheckResult::healthy()));
    let now = Moment::at(Duration::from_millis(federation.now_ms));
    let heights = federation.coordinator.members(now).into_iter().map(|member| member.height);
    assert_eq!(heights.collect::<Vec<_>>()[0], Some(BlockHeight(7)));
    let ping = PingMessage {
        id: 1,
        timestamp: WallTime(0),
        source: "node-2".to_owned(),
        incarnation: Incarnation(1),
        federation_check: true,
        metadata: BTreeMap::new(),
    };
    let wire = FederationWire::Ping(ping);
    let effects =
        federation.coordinator.handle(now, Input::Wire { from: node("node-2"), wire, wall: WallTime(0) });
    let [Effect::Send(_, FederationWire::Pong(pong))] = &effects[..] else { panic!("a pong: {effects:?}") };
    assert_eq!(pong.status.height, BlockHeight(7));
}

#[test]
fn a_member_whose_clock_is_wrong_says_so_and_by_how_much() {
    let mut federation = Federation::new();
    federation.run(3_000);
    assert_eq!(federation.clocks, []);
    federation.clock_error_ms = -30_000;
    federation.run(3_000);
    let [(true, error)] = federation.clocks[..] else { panic!("told once: {:?}", federation.clocks) };
    assert!((-30_001..=-29_999).contains(&error), "{error} ms, but for halves of a round trip");
    let now = Moment::at(Duration::from_millis(federation.now_ms));
    let members = federation.coordinator.members(now);
    assert!(members[0].reason.contains("s behind the median of its peers' clocks"), "{}", members[0].reason);
    assert!(members[0].healthy, "it works, with restrictions");
    assert_eq!(members[0].clock_offset_ms, Some(error));
    assert_eq!(members[1].clock_offset_ms, Some(-error));
    federation.clock_error_ms = 0;
    federation.run(3_000);
    assert!(matches!(federation.clocks[1..], [(false, -1..=1)]), "{:?}", federation.clocks);
}

#[test]
fn peers_are_unknown_not_lost_after_a_standstill_and_lost_when_they_are_not_heard_then() {
    let mut federation = Federation::new();
    federation.run(5_000);
    federation.answering.truncate(2);
    federation.in_flight.clear();
    federation.changes.clear();
    federation.now_ms += 10_000;
    federation.run(500);
    let told = |name: &str, changes: &[PeerChange]| -> Vec<&'static str> {
        let of = changes.iter().filter_map(|change| match change {
            PeerChange::Unknown { node, .. } if node.as_str() == name => Some("unknown"),
            PeerChange::Up { node, .. } if node.as_str() == name => Some("up"),
            PeerChange::Down { node, .. } if node.as_str() == name => Some("down"),
            _ => None,
        });
        of.collect()
    };
    assert_eq!(told("node-2", &federation.changes), ["unknown", "up"]);
    assert_eq!(told("node-4", &federation.changes), ["unknown"]);
    federation.run(3_000);
    assert_eq!(told("node-2", &federation.changes), ["unknown", "up"]);
    assert_eq!(told("node-4", &federation.changes), ["unknown", "down"]);
}

#[test]
fn a_report_that_comes_before_the_first_tick_after_a_standstill_gives_no_old_count_a_new_lease() {
    let mut federation = Federation::new();
    federation.run(5_000);
    assert_eq!(federation.verdicts.last().map(|verdict| verdict.decision), Some(Decision::Open));
    federation.now_ms += 10_000;
    let published = federation.verdicts.len();
    federation.input(Input::OwnHealth(HealthCheckResult::healthy()));
    assert_eq!(federation.verdicts.len(), published, "nobody was heard for ten seconds");
    federation.run(50);
    let after = &federation.verdicts[published..];
    assert!(
        !after.is_empty() && after.iter().all(|verdict| verdict.decision == Decision::Closed),
        "{after:?}"
    );
}

#[test]
fn an_answer_that_comes_before_the_first_tick_after_a_standstill_gives_no_old_count_a_new_lease() {
    let mut federation = Federation::new();
    federation.run(5_000);
    federation.answering.truncate(1);
    federation.in_flight.clear();
    federation.now_ms += 10_000;
    let published = federation.verdicts.len();
    // A request to leave that arrives after a pause is handled before the next tick.
    federation.input(Input::Want { told: false, wall: WallTime(0) });
    let (_, from, pong) = federation.in_flight.pop().expect("node-2 answers");
    federation.input(Input::Wire { from, wire: FederationWire::Pong(pong), wall: WallTime(0) });
    federation.input(Input::Leave { reason: "SIGTERM".to_owned(), wall: WallTime(0) });
    let opened = federation.verdicts[published..].iter().find(|verdict| verdict.decision == Decision::Open);
    assert_eq!(opened, None, "node-3 and node-4 were not heard for ten seconds");
}

#[test]
fn four_answering_members_open_the_gate_within_a_second() {
    let mut federation = Federation::new();
    federation.run(1_000);
    assert_eq!((federation.verdict().decision, federation.verdict().healthy), (Decision::Open, 4));
    assert_eq!(federation.changes.len(), 3);
}

#[test]
fn one_silent_member_leaves_the_gate_open_and_two_close_it_in_time_with_the_reason() {
    let mut federation = Federation::new();
    federation.run(10_000);
    federation.answering.retain(|(name, _)| *name != "node-4");
    federation.run(5_000);
    assert_eq!((federation.verdict().decision, federation.verdict().healthy), (Decision::Open, 3));
    federation.answering.retain(|(name, _)| *name != "node-3");
    let took = federation.ms_until(Decision::Closed);
    assert!((700..=1_350).contains(&took), "{took} ms");
    let verdict = federation.verdict();
    assert!(verdict.reason.starts_with("halted: 2 of 3 required"), "{}", verdict.reason);
    assert!(verdict.would_change.contains("node-3 or node-4"), "{}", verdict.would_change);
}

#[test]
fn a_member_that_answers_again_opens_the_gate_after_the_stable_rounds() {
    let mut federation = Federation::new();
    federation.run(10_000);
    federation.answering.truncate(1);
    federation.run(20_000);
    assert_eq!(federation.verdict().decision, Decision::Closed);
    federation.answering.push(("node-3", 1));
    let took = federation.ms_until(Decision::Open);
    assert!((250..=800).contains(&took), "{took} ms");
}

#[test]
fn a_delay_of_200_ms_is_no_fault() {
    let mut federation = Federation::new();
    federation.run(5_000);
    federation.delay_ms = 200;
    federation.changes.clear();
    federation.run(60_000);
    assert_eq!(federation.changes, []);
    assert_eq!(federation.verdict().healthy, 4);
}

#[test]
fn irregular_heartbeats_make_the_detector_patient_up_to_a_bound() {
    let mut federation = Federation::new();
    federation.run(2_000);
    // Delayed answers, followed by answers without delay.
    for _ in 0..25 {
        federation.delay_ms = 600;
        federation.run(500);
        federation.delay_ms = 5;
        federation.run(500);
    }
    federation.run(1_000);
    assert_eq!(federation.changes.len(), 3, "nobody was lost: {:?}", federation.changes);
    federation.answering.truncate(1);
    federation.in_flight.clear();
    federation.ms_until(Decision::Closed);
    let lost = federation.verdict().inputs.members[2].clone();
    assert!(lost.silent_ms.is_some_and(|silent_ms| (1_200..=1_250).contains(&silent_ms)), "{lost:?}");
    assert!(
        lost.reason.contains("(phi 1.") || lost.reason.contains("(phi 2."),
        "it would have waited on: {lost:?}"
    );
}

#[test]
fn a_restarted_member_is_lost_once_and_its_old_incarnation_is_refused() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.changes.clear();
    federation.answering[2] = ("node-4", 2);
    federation.run(1_000);
    let reason = "restarted as incarnation 2".to_owned();
    let expected = [
        PeerChange::Down { node: node("node-4"), reason },
        PeerChange::Up { node: node("node-4"), incarnation: Incarnation(2) },
    ];
    assert_eq!(federation.changes, expected);
    federation.answering[2] = ("node-4", 1);
    federation.run(3_000);
    assert_eq!(federation.verdict().healthy, 3, "answers of incarnation 1 do not count any more");
}

#[test]
fn answers_that_were_held_by_the_network_prove_nothing() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.delay_ms = 5_000;
    federation.run(20_000);
    assert_eq!(federation.verdict().healthy, 1);
}

#[test]
fn a_member_whose_actors_fail_does_not_count_itself() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.input(Input::OwnHealth(HealthCheckResult::unhealthy("chain is unhealthy: not running")));
    assert_eq!(federation.verdict().healthy, 3);
    let members = federation.coordinator.members(Moment::at(Duration::from_millis(federation.now_ms)));
    assert!(members[0].reason.contains("chain"), "{members:?}");
}

#[test]
fn a_member_that_stood_still_closes_its_gate_and_trusts_only_new_answers() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.now_ms += 10_000;
    federation.in_flight.clear();
    federation.input(Input::Tick { wall: WallTime(0), height: BlockHeight(7) });
    assert_eq!((federation.verdict().decision, federation.verdict().healthy), (Decision::Closed, 0));
    federation.input(Input::OwnHealth(HealthCheckResult::healthy()));
    let took = federation.ms_until(Decision::Open);
    assert!(took <= 900, "{took} ms");
}

#[test]
fn a_member_that_leaves_tells_every_peer_until_each_has_confirmed_and_counts_itself_out() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.answering.retain(|(name, _)| *name != "node-4");
    federation.input(Input::Leave { reason: "SIGTERM".to_owned(), wall: WallTime(1) });
    assert_eq!(federation.coordinator.unaware(), ["node-2", "node-3", "node-4"].map(node));
    federation.run(10);
    assert_eq!(federation.coordinator.unaware(), [node("node-4")], "who is silent does not confirm");
    assert_eq!((federation.verdict().decision, federation.verdict().healthy), (Decision::Open, 3));
    let members = federation.coordinator.members(Moment::at(Duration::from_millis(federation.now_ms)));
    assert_eq!(members[0].reason, "leaving: SIGTERM");
}

#[test]
fn a_restarted_actor_takes_no_answer_to_its_predecessor_for_one_to_itself() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.delay_ms = 600;
    federation.run(500);
    let old = std::mem::take(&mut federation.in_flight);
    assert!(!old.is_empty(), "answers are under way");
    let fresh = Federation { now_ms: federation.now_ms, answering: Vec::new(), ..Federation::new() };
    federation = fresh;
    federation.run(1_000);
    for (_, from, pong) in old {
        federation.input(Input::Wire { from, wire: FederationWire::Pong(pong), wall: WallTime(0) });
    }
    assert_eq!(federation.verdict().healthy, 1);
    federation.answering = vec![("node-2", 1), ("node-3", 1), ("node-4", 1)];
    federation.run(500);
    assert_eq!(federation.verdict().healthy, 4, "and those who answer it are heard");
}

#[test]
fn a_member_that_wants_to_leave_counts_on_those_who_answered_since_and_stay() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.answering.retain(|(name, _)| *name != "node-4");
    let unsure = |federation: &Federation| {
        federation.coordinator.staying(Moment::at(Duration::from_millis(federation.now_ms))).unsure
    };
    federation.input(Input::Want { told: false, wall: WallTime(1) });
    assert_eq!(unsure(&federation), 3);
    federation.run(10);
    assert_eq!(unsure(&federation), 1, "node-4 has not answered");
    assert_eq!(federation.verdict().healthy, 4, "a wish changes no count");
    federation.input(Input::Stay);
    federation.answering.push(("node-4", 1));
    federation.run(1_000);
    federation.input(Input::Want { told: false, wall: WallTime(1) });
    federation.run(10);
    assert_eq!(unsure(&federation), 0);
}

#[test]
fn a_member_that_left_is_not_a_failed_one() {
    let mut federation = Federation::new();
    federation.run(2_000);
    federation.changes.clear();
    let farewell = |incarnation| Input::Wire {
        from: node("node-4"),
        wire: FederationWire::Ping(PingMessage {
            id: 1,
            timestamp: WallTime(0),
            source: "node-4".into(),
            incarnation: Incarnation(incarnation),
            federation_check: true,
            metadata: [(LEAVING.to_owned(), "SIGTERM".to_owned())].into(),
        }),
        wall: WallTime(0),
    };
    federation.input(farewell(0));
    assert_eq!(federation.verdict().healthy, 4, "an earlier incarnation has no say");
    federation.answering.retain(|(name, _)| *name != "node-4");
    federation.in_flight.clear();
    federation.input(farewell(1));
    assert_eq!((federation.verdict().decision, federation.verdict().healthy), (Decision::Open, 3));
    let reason = federation.verdict().reason.clone();
    assert!(reason.contains("node-4 (leaving: SIGTERM)"), "{reason}");
    assert_eq!(federation.changes, [], "it is still there");
    federation.run(3_000);
    let reason = "leaving: SIGTERM".to_owned();
    assert_eq!(federation.changes, [PeerChange::Left { node: node("node-4"), reason }]);
    federation.answering.push(("node-4", 2));
    federation.run(1_000);
    assert_eq!(federation.verdict().healthy, 4, "its next incarnation counts again");
}

#[test]
fn strangers_are_not_heard() {
    let mut federation = Federation::new();
    let pong = PongMessage {
        ping_id: 1,
        timestamp: WallTime(0),
        source: "node-9".into(),
        incarnation: Incarnation(1),
        status: HealthCheckResult::healthy(),
        metadata: BTreeMap::new(),
    };
    for stranger in ["node-9", "node-1"] {
        let wire = FederationWire::Pong(pong.clone());
        let now = Moment::ORIGIN;
        let from = node(stranger);
        assert_eq!(federation.coordinator.handle(now, Input::Wire { from, wire, wall: WallTime(0) }), []);
    }
}

/// Counts the signatures it verifies.
struct Counting(NameSigner, std::sync::atomic::AtomicUsize);

impl Signer for Counting {
    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        self.0.sign(statement)
    }

    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.verify(member, statement, signature)
    }
}

#[test]
fn forged_statements_cost_a_bounded_number_of_checks_and_the_right_ones_of_others_are_taken() {
    let mut federation = Federation::new();
    let signer = Arc::new(Counting(NameSigner(node("node-1")), 0.into()));
    federation.coordinator.signer = signer.clone();
    let mut author = Attestations::new(node("node-2"), Incarnation(1));
    let report = HealthCheckResult::healthy();
    let mut brought = |federation: &mut Federation, by: &str, key: &str| {
        let (now, key) = (Moment::at(Duration::from_millis(federation.now_ms)), NameSigner(node(key)));
        let statement = Box::new(author.issue(now, WallTime(1), &report, &[], &key));
        let wire = FederationWire::Attest { to: node("node-1"), statement };
        federation.input(Input::Wire { from: node(by), wire, wall: WallTime(1) });
        signer.1.load(std::sync::atomic::Ordering::Relaxed)
    };
    let checked = (0..10_000).map(|_| brought(&mut federation, "node-3", "node-3")).last();
    assert!(checked.is_some_and(|checked| checked < 20), "{checked:?} signatures were checked");
    brought(&mut federation, "node-4", "node-2");
    assert_eq!(federation.coordinator.peers[&node("node-2")].through, Some(node("node-4")));
}
