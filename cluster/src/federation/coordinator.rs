//! Heartbeats in, the health of every member and the gate's decision out.
//!
//! Each interval is a round: every peer is pinged, and the gate is told how many members are healthy. A peer
//! is **up** while its answers keep the detector calm, and **healthy** while it is up and says that its
//! critical actors serve. This member counts itself by the same report it sends to others, and only while
//! that report is fresh.
//!
//! A pong feeds the detector only if it answers one of the last pings, and soon: after a cut is healed the
//! network delivers old answers that prove nothing about the present.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::config::HeartbeatConfig;
use super::gate::{Decision, Gate, Verdict, lease};
use super::roster::Roster;
use super::wire::FederationWire;
use crate::clock::{Moment, WallTime};
use crate::health::{HealthCheckResult, HealthStatus, PhiAccrual, PingMessage, PongMessage};
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::port::PeerChange;

/// The longest the node's own report counts without being renewed.
const OWN_REPORT_MAX_AGE: Duration = Duration::from_secs(3);
/// Pings per peer that may still be answered.
const OUTSTANDING_MAX: usize = 16;
/// Under this key a ping says that its sender is going to leave, and why.
const LEAVING: &str = "leaving";

/// What the coordinator learns.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes. Comes several times an interval.
    Tick {
        /// For time stamps in messages.
        wall: WallTime,
        /// The chain's height, told to peers.
        height: BlockHeight,
    },
    /// A member says something.
    Wire {
        /// Who.
        from: NodeId,
        /// What.
        wire: FederationWire,
        /// For the time stamp of an answer.
        wall: WallTime,
    },
    /// What this node's health monitor says of it.
    OwnHealth(HealthCheckResult),
    /// This member is going to leave.
    Leave {
        /// Why.
        reason: String,
        /// For time stamps in messages.
        wall: WallTime,
    },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this to a member.
    Send(NodeId, FederationWire),
    /// Tell whoever watches peers.
    Peer(PeerChange),
    /// Publish this verdict.
    Publish(Verdict),
}

/// What this member thinks of one member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    /// Who.
    pub name: NodeId,
    /// Whether it counts towards the gate.
    pub healthy: bool,
    /// Where it stands.
    pub state: MemberState,
    /// Its incarnation, where known.
    pub incarnation: Option<Incarnation>,
    /// Time since its last answer, where there was one.
    pub last_seen: Option<Duration>,
    /// Suspicion; 0 for this member itself.
    pub phi: f64,
    /// Its height, as last heard.
    pub height: Option<BlockHeight>,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// This member.
    Own,
    /// Never heard of in this incarnation.
    Unknown,
    /// It answers.
    Up,
    /// It answered once and does not any more.
    Down,
    /// It does not answer any more, as it had said it would not.
    Left,
}

#[derive(Clone, Debug)]
struct Peer {
    state: MemberState,
    incarnation: Option<Incarnation>,
    detector: PhiAccrual,
    last_seen: Option<Moment>,
    report: HealthCheckResult,
    outstanding: VecDeque<(u64, Moment)>,
    down_reason: String,
}

impl Peer {
    fn is_healthy(&self) -> bool {
        self.state == MemberState::Up && self.report.status.is_serving()
    }
}

/// The state: one detector per peer, this member's own report, and the gate.
#[derive(Clone, Debug)]
pub struct Coordinator {
    roster: Roster,
    incarnation: Incarnation,
    config: HeartbeatConfig,
    peers: BTreeMap<NodeId, Peer>,
    own: Option<(HealthCheckResult, Moment)>,
    /// Why this member is going to leave, and the first ping that says so.
    leaving: Option<(String, u64)>,
    gate: Gate,
    last_ping: u64,
    next_round: Moment,
    last_tick: Option<Moment>,
}

impl Coordinator {
    /// Nothing heard yet, gate closed.
    pub fn new(roster: Roster, incarnation: Incarnation, config: HeartbeatConfig) -> Self {
        let peer = || Peer {
            state: MemberState::Unknown,
            incarnation: None,
            detector: PhiAccrual::new(config.accrual()),
            last_seen: None,
            report: HealthCheckResult::default(),
            outstanding: VecDeque::new(),
            down_reason: String::new(),
        };
        let peers = roster.peers().map(|node| (node.clone(), peer())).collect();
        let gate = Gate::new(roster.required(), config.stable_rounds);
        Self {
            roster,
            incarnation,
            config,
            peers,
            own: None,
            leaving: None,
            gate,
            last_ping: 0,
            next_round: Moment::ORIGIN,
            last_tick: None,
        }
    }

    /// What follows from `input`.
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Tick { wall, height } => self.tick(now, wall, height, &mut effects),
            Input::OwnHealth(report) => {
                self.own = Some((report, now));
                self.observe(now, &mut effects);
            }
            Input::Leave { reason, wall } => self.leave(now, reason, wall, &mut effects),
            Input::Wire { from, wire, wall } if self.roster.is_peer(&from) => match wire {
                FederationWire::Ping(ping) => self.ping(now, from, &ping, wall, &mut effects),
                FederationWire::Pong(pong) => self.pong(now, &from, pong, &mut effects),
            },
            Input::Wire { .. } => {}
        }
        effects
    }

    fn tick(&mut self, now: Moment, wall: WallTime, height: BlockHeight, effects: &mut Vec<Effect>) {
        let gap = self.last_tick.map_or(Duration::ZERO, |last| now.since(last));
        self.last_tick = Some(now);
        if let Some((report, _)) = &mut self.own {
            report.height = height;
        }
        if gap >= self.config.lease {
            // This process was not running: its silence says nothing about others, nor their counts about now.
            self.after_standstill(now, gap, effects);
            return;
        }
        for (node, peer) in &mut self.peers {
            let phi = peer.detector.phi(now);
            if peer.state == MemberState::Up && phi >= self.config.threshold {
                let silence = peer.last_seen.map_or(Duration::ZERO, |last| now.since(last));
                let reason = format!("silent for {} ms (phi {phi:.1})", silence.as_millis());
                lose(node, peer, reason, effects);
            }
        }
        if now >= self.next_round {
            self.next_round = now + self.config.interval;
            self.gate.round(self.healthy(now));
            self.send_pings(now, wall, effects);
            self.publish(now, effects);
        } else {
            self.observe(now, effects);
        }
    }

    fn after_standstill(&mut self, now: Moment, gap: Duration, effects: &mut Vec<Effect>) {
        let reason = format!("this member stood still for {} ms", gap.as_millis());
        for (node, peer) in &mut self.peers {
            if peer.state == MemberState::Up {
                lose(node, peer, reason.clone(), effects);
            }
        }
        self.gate.close();
        self.next_round = now;
        self.publish(now, effects);
    }

    /// Tells every peer at once: a leaving member is not a failed one.
    fn leave(&mut self, now: Moment, reason: String, wall: WallTime, effects: &mut Vec<Effect>) {
        if self.leaving.is_none() {
            self.leaving = Some((reason, self.last_ping + 1));
            self.send_pings(now, wall, effects);
            self.observe(now, effects);
        }
    }

    /// The peers that are up and have not confirmed yet that this member leaves.
    pub fn unaware(&self) -> Vec<NodeId> {
        let Some((_, first)) = &self.leaving else { return Vec::new() };
        let is_unaware =
            |peer: &Peer| peer.state == MemberState::Up && peer.outstanding.iter().any(|(id, _)| id == first);
        self.peers.iter().filter(|(_, peer)| is_unaware(peer)).map(|(node, _)| node.clone()).collect()
    }

    fn send_pings(&mut self, now: Moment, wall: WallTime, effects: &mut Vec<Effect>) {
        self.last_ping += 1;
        let leaving = self.leaving.iter().map(|(reason, _)| (LEAVING.to_owned(), reason.clone()));
        let metadata: BTreeMap<_, _> = leaving.collect();
        for (node, peer) in &mut self.peers {
            if peer.outstanding.len() == OUTSTANDING_MAX {
                peer.outstanding.pop_front();
            }
            peer.outstanding.push_back((self.last_ping, now));
            let ping = PingMessage {
                id: self.last_ping,
                timestamp: wall,
                source: self.roster.own().to_string(),
                incarnation: self.incarnation,
                federation_check: true,
                metadata: metadata.clone(),
            };
            effects.push(Effect::Send(node.clone(), FederationWire::Ping(ping)));
        }
    }

    fn ping(
        &mut self,
        now: Moment,
        from: NodeId,
        ping: &PingMessage,
        wall: WallTime,
        effects: &mut Vec<Effect>,
    ) {
        let peer = self.peers.get_mut(&from).expect("every peer of the roster has an entry");
        let is_current = peer.incarnation == Some(ping.incarnation);
        if let Some(reason) = ping.metadata.get(LEAVING).filter(|_| is_current) {
            peer.report = HealthCheckResult {
                height: peer.report.height,
                ..HealthCheckResult::shutting_down(format!("leaving: {reason}"))
            };
            self.observe(now, effects);
        }
        let pong = PongMessage {
            ping_id: ping.id,
            timestamp: wall,
            source: self.roster.own().to_string(),
            incarnation: self.incarnation,
            status: self.own_report(now),
            metadata: BTreeMap::new(),
        };
        effects.push(Effect::Send(from, FederationWire::Pong(pong)));
    }

    fn pong(&mut self, now: Moment, from: &NodeId, pong: PongMessage, effects: &mut Vec<Effect>) {
        let peer = self.peers.get_mut(from).expect("every peer of the roster has an entry");
        let Some(at) = peer.outstanding.iter().position(|(id, _)| *id == pong.ping_id) else {
            return; // Answered already, too old, or meant for an earlier incarnation of this member.
        };
        let (_, asked) = peer.outstanding.remove(at).expect("the position was just found");
        if now.since(asked) > self.config.lease {
            return;
        }
        match peer.incarnation {
            Some(known) if pong.incarnation < known => return,
            Some(known) if pong.incarnation > known && peer.state == MemberState::Up => {
                lose(from, peer, format!("restarted as incarnation {}", pong.incarnation), effects);
            }
            _ => {}
        }
        peer.incarnation = Some(pong.incarnation);
        peer.detector.heartbeat(now);
        peer.last_seen = Some(now);
        peer.report = pong.status;
        if peer.state != MemberState::Up {
            peer.state = MemberState::Up;
            peer.down_reason.clear();
            let up = PeerChange::Up { node: from.clone(), incarnation: pong.incarnation };
            effects.push(Effect::Peer(up));
        }
        self.observe(now, effects);
    }

    /// Between rounds: a closing is published at once, as is a changed count.
    fn observe(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.gate.observe(self.healthy(now));
        self.publish(now, effects);
    }

    fn publish(&self, now: Moment, effects: &mut Vec<Effect>) {
        effects.push(Effect::Publish(self.verdict(now)));
    }

    /// What this member says of itself.
    fn own_report(&self, now: Moment) -> HealthCheckResult {
        if let Some((reason, _)) = &self.leaving {
            let height = self.own.as_ref().map(|(report, _)| report.height).unwrap_or_default();
            return HealthCheckResult {
                height,
                ..HealthCheckResult::shutting_down(format!("leaving: {reason}"))
            };
        }
        match &self.own {
            None => HealthCheckResult::unhealthy("its actors have not been checked yet"),
            Some((report, at)) if now.since(*at) > OWN_REPORT_MAX_AGE => {
                let age = now.since(*at).as_millis();
                HealthCheckResult {
                    height: report.height,
                    ..HealthCheckResult::unhealthy(format!("its actors were last checked {age} ms ago"))
                }
            }
            Some((report, _)) => report.clone(),
        }
    }

    fn healthy(&self, now: Moment) -> usize {
        let own = usize::from(self.own_report(now).status.is_serving());
        own + self.peers.values().filter(|peer| peer.is_healthy()).count()
    }

    fn verdict(&self, now: Moment) -> Verdict {
        let (healthy, required) = (self.healthy(now), self.gate.required());
        let members = self.members(now);
        let missing: Vec<_> = members.iter().filter(|member| !member.healthy).collect();
        let describe = |member: &&MemberStatus| format!("{} ({})", member.name, member.reason);
        let described = missing.iter().map(describe).collect::<Vec<_>>().join(", ");
        let names = missing.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(" or ");
        let decision = if self.gate.rounds_missing() == 0 { Decision::Open } else { Decision::Closed };
        let (reason, would_change) = match decision {
            Decision::Open if missing.is_empty() => (
                format!("all {healthy} members are healthy"),
                format!("fewer than {required} healthy members"),
            ),
            Decision::Open => (
                format!("{healthy} of {required} required members are healthy; without {described}"),
                format!("fewer than {required} healthy members; {} more may be lost", healthy - required),
            ),
            Decision::Closed if healthy < required => (
                format!("halted: {healthy} of {required} required members are healthy; missing {described}"),
                format!("{} more healthy members: waiting for {names}", required - healthy),
            ),
            Decision::Closed => {
                let rounds = self.gate.rounds_missing();
                let interval = self.config.interval;
                (
                    format!("halted: {healthy} members are healthy again, but not yet for long enough"),
                    format!("{rounds} more stable rounds of {} ms", interval.as_millis()),
                )
            }
        };
        let expires = lease(now, self.config.lease);
        Verdict { sequence: 0, decision, healthy, required, reason, would_change, expires }
    }

    /// What this member thinks of every member, in roster order.
    pub fn members(&self, now: Moment) -> Vec<MemberStatus> {
        self.roster
            .members()
            .iter()
            .map(|name| match self.peers.get(name) {
                None => {
                    let report = self.own_report(now);
                    MemberStatus {
                        name: name.clone(),
                        healthy: report.status.is_serving(),
                        state: MemberState::Own,
                        incarnation: Some(self.incarnation),
                        last_seen: Some(Duration::ZERO),
                        phi: 0.0,
                        height: Some(report.height),
                        reason: report.reason,
                    }
                }
                Some(peer) => MemberStatus {
                    name: name.clone(),
                    healthy: peer.is_healthy(),
                    state: peer.state,
                    incarnation: peer.incarnation,
                    last_seen: peer.last_seen.map(|last| now.since(last)),
                    phi: peer.detector.phi(now),
                    height: peer.last_seen.map(|_| peer.report.height),
                    reason: match peer.state {
                        MemberState::Unknown => "never heard of".to_owned(),
                        MemberState::Down | MemberState::Left => {
                            let ago = peer.last_seen.map_or(0, |last| now.since(last).as_millis());
                            format!("{}; last seen {}.{} s ago", peer.down_reason, ago / 1000, ago / 100 % 10)
                        }
                        MemberState::Own | MemberState::Up => peer.report.reason.clone(),
                    },
                },
            })
            .collect()
    }
}

fn lose(node: &NodeId, peer: &mut Peer, reason: String, effects: &mut Vec<Effect>) {
    peer.detector.reset();
    peer.outstanding.clear();
    let node = node.clone();
    let change = if peer.report.status == HealthStatus::ShuttingDown {
        peer.state = MemberState::Left;
        peer.down_reason.clone_from(&peer.report.reason);
        PeerChange::Left { node, reason: peer.down_reason.clone() }
    } else {
        peer.state = MemberState::Down;
        peer.down_reason.clone_from(&reason);
        PeerChange::Down { node, reason }
    };
    effects.push(Effect::Peer(change));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One member's coordinator with a clock, and peers that answer when told.
    struct Federation {
        coordinator: Coordinator,
        now_ms: u64,
        answering: Vec<(&'static str, u64)>,
        delay_ms: u64,
        in_flight: Vec<(u64, NodeId, PongMessage)>,
        changes: Vec<PeerChange>,
        verdicts: Vec<Verdict>,
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    impl Federation {
        fn new() -> Self {
            let members = (1..=4).map(|n| node(&format!("node-{n}"))).collect();
            let roster = Roster::new(members, &node("node-1")).expect("a member");
            let config = HeartbeatConfig::default();
            let mut coordinator = Coordinator::new(roster, Incarnation(1), config);
            coordinator.handle(Moment::ORIGIN, Input::OwnHealth(HealthCheckResult::healthy()));
            Self {
                coordinator,
                now_ms: 0,
                answering: vec![("node-2", 1), ("node-3", 1), ("node-4", 1)],
                delay_ms: 5,
                in_flight: Vec::new(),
                changes: Vec::new(),
                verdicts: Vec::new(),
            }
        }

        fn input(&mut self, input: Input) {
            let now = Moment::at(Duration::from_millis(self.now_ms));
            for effect in self.coordinator.handle(now, input) {
                match effect {
                    Effect::Send(to, FederationWire::Ping(ping)) => {
                        let Some((_, incarnation)) = self.answering.iter().find(|(n, _)| node(n) == to)
                        else {
                            continue;
                        };
                        let pong = PongMessage {
                            ping_id: ping.id,
                            timestamp: WallTime(0),
                            source: to.to_string(),
                            incarnation: Incarnation(*incarnation),
                            status: HealthCheckResult::healthy(),
                            metadata: BTreeMap::new(),
                        };
                        self.in_flight.push((self.now_ms + self.delay_ms, to, pong));
                    }
                    Effect::Send(_, FederationWire::Pong(_)) => {}
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
                    self.input(Input::Wire { from, wire: FederationWire::Pong(pong), wall: WallTime(0) });
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
}
