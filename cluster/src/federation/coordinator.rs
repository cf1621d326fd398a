//! Heartbeats in, the health of every member and the gate's decision out.
//!
//! Each interval is a round: every peer is pinged, and the gate is told how many members are healthy. A peer
//! is **up** while its answers keep the detector calm, and **healthy** while it is up and says that its
//! critical actors serve. This member counts itself by the same report it sends to others, and only while
//! that report is fresh.
//!
//! A pong feeds the detector only if it answers one of the last pings, and soon: after a cut is healed the
//! network delivers old answers that prove nothing about the present.
//!
//! A peer that falls silent is not lost yet. It is asked for through every other member, and counts as
//! **attested** while its signed answers come back in time. And when *all* fall silent at once, this member is
//! the likelier cause: it halts as soon as it would, but calls nobody lost until someone answers or the doubt
//! has lasted. Silence that this member slept through is nobody's fault but its own, up to an interval.
//!
//! A member that is going to leave says so in its pings. It counts no more from then on, and when it falls silent
//! it has **left**: nobody asks for it, and its silence makes nobody doubt.
//!
//! ```text
//!               silent, attested                  silent, so is everyone
//!     ┌────────────────────────────► attested   ┌──────────► suspected
//!     │   answers ◄──────────────────────┤      │ answers ◄──────┤
//!     up ◄──────────────────── answers   │      up               │ attested, or the doubt is over
//!     │ silent                    │      │ not any more          ▼
//!     └─────────────────────────► down ◄─┘             attested, or down
//!                                (left, if it had said so)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::attestation::{ActorState, Attestations, SignedAttestation, Taken};
use super::config::HeartbeatConfig;
pub use super::decision::MemberState;
use super::decision::{GateInputs, Gates, Look, MemberFacts};
use super::departure::{Departure, LEAVING, WISH_MAX};
use super::roster::Roster;
use super::verdict::Verdict;
use super::wire::FederationWire;
use crate::clock::{Moment, WallTime};
use crate::health::config::REPORT_MAX_AGE;
use crate::health::{HealthCheckResult, HealthStatus, PhiAccrual, PingMessage, PongMessage};
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::port::{PeerChange, Signer};

/// Pings per peer that may still be answered.
const OUTSTANDING_MAX: usize = 16;
/// How long a member that has just begun waits for peers it never heard of to come by themselves: links that
/// are being made are not links that are cut.
const GREETING: Duration = Duration::from_secs(2);
/// The longest this member doubts itself before it calls silent peers lost after all.
const DOUBT_MAX: Duration = Duration::from_secs(5);
/// How long nobody must have asked for one member on behalf of another for the two to be together again.
const APART_FOR: Duration = Duration::from_secs(2);
/// Between two complaints about refused statements that the same member brought.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

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
    /// What this node's health monitor says of each critical actor.
    OwnActors(Vec<ActorState>),
    /// This member wants to leave, if it may.
    Want {
        /// For time stamps in messages.
        wall: WallTime,
    },
    /// It stays after all.
    Stay,
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
    /// Tell that a statement was refused.
    TellRefused {
        /// Whose it is said to be.
        member: NodeId,
        /// Who brought it.
        from: NodeId,
        /// Why.
        reason: String,
    },
    /// Tell that this member doubts itself, or no longer does.
    TellDoubt {
        /// Whether the doubt begins.
        begins: bool,
        /// Why.
        reason: String,
    },
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
    /// Who last brought its word, where it only attests.
    pub through: Option<NodeId>,
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

#[derive(Clone, Debug)]
struct Peer {
    state: MemberState,
    incarnation: Option<Incarnation>,
    detector: PhiAccrual,
    last_seen: Option<Moment>,
    /// When anything came from it, answer or not.
    heard: Option<Moment>,
    /// How much of its silence this member stood still itself.
    excused: Duration,
    report: HealthCheckResult,
    outstanding: VecDeque<(u64, Moment)>,
    down_reason: String,
    next_probe: Moment,
    through: Option<NodeId>,
    /// What watchers were last told of [`PeerChange::Indirect`].
    told_heard: bool,
    /// When a suspected peer is lost, once the doubt is over.
    lost_at: Option<Moment>,
    next_complaint: Moment,
}

impl Peer {
    fn new(config: HeartbeatConfig) -> Self {
        Self {
            state: MemberState::Unknown,
            incarnation: None,
            detector: PhiAccrual::new(config.accrual()),
            last_seen: None,
            heard: None,
            excused: Duration::ZERO,
            report: HealthCheckResult::default(),
            outstanding: VecDeque::new(),
            down_reason: String::new(),
            next_probe: Moment::ORIGIN,
            through: None,
            told_heard: false,
            lost_at: None,
            next_complaint: Moment::ORIGIN,
        }
    }

    fn silence(&self, now: Moment) -> Duration {
        self.last_seen.map_or(Duration::MAX, |last| now.since(last).saturating_sub(self.excused))
    }

    fn phi(&self, now: Moment) -> f64 {
        self.detector.phi_excusing(now, self.excused)
    }

    /// Whether it is one of those whose common silence makes this member doubt itself.
    fn is_watched(&self) -> bool {
        matches!(self.state, MemberState::Up | MemberState::Suspected) && !self.is_leaving()
    }

    /// Whether this incarnation of it said that it would leave.
    fn is_leaving(&self) -> bool {
        self.report.status == HealthStatus::ShuttingDown
    }

    fn is_heard(&self, now: Moment, within: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= within)
    }

    fn lose(&mut self, node: &NodeId, reason: String, effects: &mut Vec<Effect>) {
        self.detector.reset();
        self.outstanding.clear();
        self.lost_at = None;
        let node = node.clone();
        let change = if self.is_leaving() {
            self.state = MemberState::Left;
            self.down_reason.clone_from(&self.report.reason);
            PeerChange::Left { node, reason: self.down_reason.clone() }
        } else {
            self.state = MemberState::Down;
            self.down_reason.clone_from(&reason);
            PeerChange::Down { node, reason }
        };
        effects.push(Effect::Peer(change));
    }

    /// It lives, as a third member's word of it proves.
    fn attest(&mut self, node: &NodeId, heard: bool, report: HealthCheckResult, effects: &mut Vec<Effect>) {
        let is_news = self.state != MemberState::Attested || self.told_heard != heard;
        self.state = MemberState::Attested;
        self.detector.reset();
        self.lost_at = None;
        self.down_reason.clear();
        // What it stated before it said that it would leave does not take that back.
        if !self.is_leaving() {
            self.report = report;
        }
        if is_news && let Some(through) = self.through.clone() {
            self.told_heard = heard;
            effects.push(Effect::Peer(PeerChange::Indirect { node: node.clone(), through, heard }));
        }
    }
}

/// The state: one detector per peer, this member's own report, what was attested, and the gates.
#[derive(Clone)]
pub struct Coordinator {
    roster: Roster,
    incarnation: Incarnation,
    config: HeartbeatConfig,
    signer: Arc<dyn Signer>,
    peers: BTreeMap<NodeId, Peer>,
    own: Option<(HealthCheckResult, Moment)>,
    own_actors: Vec<ActorState>,
    attestations: Attestations,
    /// The last own statement, and when it was made.
    stated: Option<(SignedAttestation, Moment)>,
    doubt: Option<Moment>,
    departure: Departure,
    /// Who asks for whom through this member, and when it last did.
    apart: BTreeMap<(NodeId, NodeId), Moment>,
    gates: Gates,
    last_ping: u64,
    next_round: Moment,
    first_tick: Option<Moment>,
    last_tick: Option<Moment>,
}

impl Coordinator {
    /// Nothing heard yet, gate closed.
    pub fn new(
        roster: Roster,
        incarnation: Incarnation,
        config: HeartbeatConfig,
        signer: Arc<dyn Signer>,
    ) -> Self {
        let peers = roster.peers().map(|node| (node.clone(), Peer::new(config))).collect();
        let gates = config.gates(&roster);
        let attestations = Attestations::new(roster.own().clone(), incarnation);
        Self {
            roster,
            incarnation,
            config,
            signer,
            peers,
            own: None,
            own_actors: Vec::new(),
            attestations,
            stated: None,
            doubt: None,
            departure: Departure::default(),
            apart: BTreeMap::new(),
            gates,
            last_ping: 0,
            next_round: Moment::ORIGIN,
            first_tick: None,
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
                self.glimpse(now, &mut effects);
            }
            Input::OwnActors(actors) => self.own_actors = actors,
            Input::Want { wall } => {
                if self.departure.want(now, self.next_ping(now)) {
                    self.send_pings(now, wall, &mut effects);
                }
            }
            // The next pings say so.
            Input::Stay => self.departure.stay(),
            Input::Leave { reason, wall } => self.leave(now, reason, wall, &mut effects),
            Input::Wire { from, wire, wall } if self.roster.is_peer(&from) => {
                self.peer(&from).heard = Some(now);
                match wire {
                    FederationWire::Ping(ping) => self.ping(now, from, &ping, wall, &mut effects),
                    FederationWire::Pong(pong) => self.pong(now, &from, pong, &mut effects),
                    FederationWire::Probe { target, asker } => {
                        self.probed(now, wall, from, target, asker, &mut effects);
                    }
                    FederationWire::Attest { to, statement } => {
                        self.attested(now, &from, to, statement, &mut effects);
                    }
                }
            }
            Input::Wire { .. } => {}
        }
        effects
    }

    fn peer(&mut self, node: &NodeId) -> &mut Peer {
        self.peers.get_mut(node).expect("every peer of the roster has an entry")
    }

    fn tick(&mut self, now: Moment, wall: WallTime, height: BlockHeight, effects: &mut Vec<Effect>) {
        let gap = self.last_tick.map_or(Duration::ZERO, |last| now.since(last));
        self.last_tick = Some(now);
        self.first_tick.get_or_insert(now);
        if let Some((report, _)) = &mut self.own {
            report.height = height;
        }
        if gap >= self.config.lease {
            // This process was not running: its silence says nothing about others, nor their counts about now.
            self.after_standstill(now, gap, effects);
            return;
        }
        if gap > self.config.interval {
            // A gap too short for that is still none of the peers' doing.
            for peer in self.peers.values_mut() {
                peer.excused = (peer.excused + gap).min(self.config.interval);
            }
        }
        self.judge(now, effects);
        self.forget_apart(now, effects);
        self.departure.tick(now);
        self.send_probes(now, wall, effects);
        if now >= self.next_round {
            self.next_round = now + self.config.interval;
            self.send_pings(now, wall, effects);
            self.look(now, Look::Round, effects);
        } else {
            self.look(now, Look::Glimpse, effects);
        }
    }

    /// Between two ticks. When the next one is late, whatever is known of the peers may be old, and it is the tick that
    /// says whether this member stood still: nothing is published before, lest an old count gets a new lease.
    fn glimpse(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.last_tick.is_none_or(|last| now.since(last) <= self.config.interval) {
            self.judge(now, effects);
            self.look(now, Look::Glimpse, effects);
        }
    }

    fn after_standstill(&mut self, now: Moment, gap: Duration, effects: &mut Vec<Effect>) {
        let reason = format!("this member stood still for {} ms", gap.as_millis());
        for (node, peer) in &mut self.peers {
            if matches!(peer.state, MemberState::Up | MemberState::Attested | MemberState::Suspected) {
                peer.lose(node, reason.clone(), effects);
            }
        }
        // What was echoed before may be as old as the standstill is long.
        self.attestations = Attestations::new(self.roster.own().clone(), self.incarnation);
        self.stated = None;
        self.end_doubt(&reason, effects);
        self.next_round = now;
        self.look(now, Look::Distrust, effects);
    }

    /// Who is silent for too long, and what that makes of it.
    fn judge(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let has_greeted = self.has_greeted(now);
        let Self { config, attestations, peers, doubt, .. } = self;
        let validity = config.attestation_validity;
        let standing = |node: &NodeId| attestations.standing(node, now, validity);
        let nobody_attests = peers.keys().all(|node| standing(node).is_none());
        let mut watched = peers.values().filter(|peer| peer.is_watched()).peekable();
        let several = peers.values().filter(|peer| peer.is_watched()).count() >= 2;
        let all_silent =
            watched.peek().is_some() && watched.all(|peer| peer.silence(now) > config.acceptable_pause);
        let hears_nobody = several && all_silent && nobody_attests;
        let lasted = doubt.is_some_and(|since| now.since(since) >= DOUBT_MAX);
        let within = config.interval + config.acceptable_pause;
        let mut begins = false;
        for (node, peer) in peers.iter_mut() {
            let silent = peer.state == MemberState::Up && peer.phi(now) >= config.threshold;
            let known = peer.incarnation;
            let word = standing(node).filter(|word| known.is_none_or(|known| word.incarnation >= known));
            match (peer.state, word) {
                (MemberState::Up, _) if !silent => {}
                (MemberState::Unknown, _) if !has_greeted => {}
                (MemberState::Own, _)
                | (MemberState::Unknown | MemberState::Down | MemberState::Left, None) => {}
                // Whatever it stated before it went.
                (MemberState::Left, Some(_)) if peer.is_leaving() => {}
                (MemberState::Up | MemberState::Suspected, _) if peer.is_leaving() => {
                    let reason = silent_for(peer, now);
                    peer.lose(node, reason, effects);
                }
                (_, Some(attestation)) => {
                    let heard = peer.is_heard(now, within);
                    peer.attest(node, heard, attestation.report(), effects);
                }
                (MemberState::Up, None) if hears_nobody => {
                    peer.state = MemberState::Suspected;
                    peer.down_reason = silent_for(peer, now);
                    begins = true;
                }
                (MemberState::Up, None) => {
                    let reason = silent_for(peer, now);
                    peer.lose(node, reason, effects);
                }
                (MemberState::Suspected, None) if hears_nobody && !lasted => {}
                (MemberState::Suspected, None) => {
                    // Whoever answered may bring word of it: it has as long as two rounds.
                    let lost_at = *peer.lost_at.get_or_insert(now + config.interval * 2);
                    if lasted || now >= lost_at {
                        let reason = silent_for(peer, now);
                        peer.lose(node, reason, effects);
                    }
                }
                (MemberState::Attested, None) => {
                    let reason = format!("{}; nobody brings word of it any more", silent_for(peer, now));
                    peer.lose(node, reason, effects);
                }
            }
        }
        if begins && doubt.is_none() {
            *doubt = Some(now);
            let reason = "none of its peers answers".to_owned();
            effects.push(Effect::TellDoubt { begins: true, reason });
        }
        if lasted {
            self.end_doubt("it has lasted; those who are silent are lost", effects);
        } else if !hears_nobody {
            self.end_doubt("a peer is heard again", effects);
        }
    }

    /// Whether whoever was going to come by itself has had the time.
    fn has_greeted(&self, now: Moment) -> bool {
        self.first_tick.is_some_and(|first| now.since(first) >= GREETING)
    }

    fn end_doubt(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        if self.doubt.take().is_some() {
            effects.push(Effect::TellDoubt { begins: false, reason: reason.to_owned() });
        }
    }

    /// Asks for every peer that is silent through all others that are not.
    fn send_probes(&mut self, now: Moment, wall: WallTime, effects: &mut Vec<Effect>) {
        let pause = self.config.acceptable_pause;
        let has_greeted = self.has_greeted(now);
        let is_silent = |peer: &Peer| match peer.state {
            MemberState::Unknown => has_greeted,
            MemberState::Up => peer.silence(now) > pause && !peer.is_leaving(),
            MemberState::Left => false,
            _ => true,
        };
        let due = |(_, peer): &(&NodeId, &Peer)| is_silent(peer) && now >= peer.next_probe;
        let targets: Vec<_> = self.peers.iter().filter(due).map(|(node, _)| node.clone()).collect();
        // One that may only seem silent is asked as well: if this member alone is slow, all seem so.
        let can_carry = |peer: &Peer| matches!(peer.state, MemberState::Up | MemberState::Suspected);
        let carriers: Vec<_> =
            self.peers.iter().filter(|(_, peer)| can_carry(peer)).map(|(node, _)| node.clone()).collect();
        for target in targets {
            self.peer(&target).next_probe = now + self.config.interval;
            let others: Vec<_> = carriers.iter().filter(|carrier| **carrier != target).cloned().collect();
            if others.is_empty() {
                continue;
            }
            let asker = Box::new(self.statement(now, wall));
            for carrier in others {
                let probe = FederationWire::Probe { target: target.clone(), asker: asker.clone() };
                effects.push(Effect::Send(carrier, probe));
            }
        }
    }

    /// What this member states now. One statement serves everyone at the same moment.
    fn statement(&mut self, now: Moment, wall: WallTime) -> SignedAttestation {
        if let Some((stated, at)) = &self.stated
            && *at == now
        {
            return stated.clone();
        }
        let report = self.own_report(now);
        let signed = self.attestations.issue(now, wall, &report, &self.own_actors, &*self.signer);
        self.stated = Some((signed.clone(), now));
        signed
    }

    /// Someone asks for `target` through this member, or for this member through someone.
    fn probed(
        &mut self,
        now: Moment,
        wall: WallTime,
        from: NodeId,
        target: NodeId,
        asker: Box<SignedAttestation>,
        effects: &mut Vec<Effect>,
    ) {
        let member = asker.attestation.member.clone();
        if target != *self.roster.own() {
            // Only what its author brings itself is carried on, and only to a member.
            if member == from && target != from && self.roster.is_peer(&target) {
                if self.peer(&target).state == MemberState::Up {
                    self.set_apart(now, &from, &target, effects);
                }
                effects.push(Effect::Send(target.clone(), FederationWire::Probe { target, asker }));
            }
            return;
        }
        let taken = self.take(now, &from, &asker, effects);
        let answer = match taken {
            // It came by another way before; the answer goes this way too.
            Some(Taken::Again) => self.stated.clone().map(|(stated, _)| stated),
            Some(Taken::New) => {
                self.stated = None;
                Some(self.statement(now, wall))
            }
            Some(Taken::Overtaken) | None => None,
        };
        let Some(answer) = answer else { return };
        let mut ways = vec![from];
        if ways[0] != member {
            ways.push(member.clone());
        }
        for way in ways {
            let statement = Box::new(answer.clone());
            effects.push(Effect::Send(way, FederationWire::Attest { to: member.clone(), statement }));
        }
    }

    /// A statement came: for this member, or to be carried on.
    fn attested(
        &mut self,
        now: Moment,
        from: &NodeId,
        to: NodeId,
        statement: Box<SignedAttestation>,
        effects: &mut Vec<Effect>,
    ) {
        if to == *self.roster.own() {
            if self.take(now, from, &statement, effects) == Some(Taken::New) {
                self.glimpse(now, effects);
            }
        } else if statement.attestation.member == *from && to != *from && self.roster.is_peer(&to) {
            effects.push(Effect::Send(to.clone(), FederationWire::Attest { to, statement }));
        }
    }

    /// Accepts a statement, or complains about it.
    fn take(
        &mut self,
        now: Moment,
        from: &NodeId,
        signed: &SignedAttestation,
        effects: &mut Vec<Effect>,
    ) -> Option<Taken> {
        let member = &signed.attestation.member;
        if !self.roster.is_peer(member) {
            let reason = "its author is not another member".to_owned();
            self.complain(now, from, member, reason, effects);
            return None;
        }
        let known = self.peers.get(member).and_then(|peer| peer.incarnation);
        match self.attestations.take(signed, known, &*self.signer) {
            Ok(taken) => {
                let incarnation = signed.attestation.incarnation;
                let peer = self.peer(member);
                if taken == Taken::New {
                    peer.through = Some(from.clone());
                    let is_new = peer.incarnation.is_some_and(|known| incarnation > known);
                    if is_new && peer.state.is_known() {
                        peer.lose(member, format!("restarted as incarnation {incarnation}"), effects);
                    }
                    if is_new {
                        // What an earlier incarnation said of itself does not bind this one.
                        peer.report = HealthCheckResult::default();
                    }
                    peer.incarnation = Some(incarnation);
                }
                Some(taken)
            }
            Err(refused) => {
                self.complain(now, from, member, refused.to_string(), effects);
                None
            }
        }
    }

    fn complain(
        &mut self,
        now: Moment,
        from: &NodeId,
        member: &NodeId,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let peer = self.peer(from);
        if now >= peer.next_complaint {
            peer.next_complaint = now + COMPLAINT_INTERVAL;
            let (member, from) = (member.clone(), from.clone());
            effects.push(Effect::TellRefused { member, from, reason });
        }
    }

    fn set_apart(&mut self, now: Moment, one: &NodeId, other: &NodeId, effects: &mut Vec<Effect>) {
        let (one, other) = (one.clone(), other.clone());
        if self.apart.insert((one.clone(), other.clone()), now).is_none() {
            effects.push(Effect::Peer(PeerChange::Apart { one, other }));
        }
    }

    fn forget_apart(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.apart.retain(|(one, other), asked| {
            let still = now.since(*asked) < APART_FOR;
            if !still {
                let (one, other) = (one.clone(), other.clone());
                effects.push(Effect::Peer(PeerChange::Together { one, other }));
            }
            still
        });
    }

    /// Tells every peer at once: a leaving member is not a failed one.
    fn leave(&mut self, now: Moment, reason: String, wall: WallTime, effects: &mut Vec<Effect>) {
        if self.departure.leave(reason, self.next_ping(now)) {
            // What it stated a moment ago it does not state any more.
            self.stated = None;
            self.send_pings(now, wall, effects);
            // Those that no ping reaches hear it through the others.
            self.peers.values_mut().for_each(|peer| peer.next_probe = now);
            self.send_probes(now, wall, effects);
            self.glimpse(now, effects);
        }
    }

    /// The peers that are up, stay, and have not confirmed yet that this member leaves.
    pub fn unaware(&self) -> Vec<NodeId> {
        let stays = |peer: &Peer| peer.state == MemberState::Up && !peer.is_leaving();
        let is_unaware = |(node, peer): &(&NodeId, &Peer)| stays(peer) && !self.departure.is_aware(node);
        self.peers.iter().filter(is_unaware).map(|(node, _)| node.clone()).collect()
    }

    /// The healthy peers that this member may not count on to stay when it leaves: they want to leave as well, or have
    /// not answered since this member said that it wants to.
    pub fn unsure(&self, now: Moment) -> Vec<NodeId> {
        let peers =
            self.facts(now).into_iter().filter(|facts| facts.is_healthy() && facts.state != MemberState::Own);
        let (own, is_young) = (self.roster.own(), self.is_young(now));
        peers
            .map(|facts| facts.name)
            .filter(|peer| !self.departure.can_count_on(own, peer, is_young))
            .collect()
    }

    /// The number of the next ping. As the numbers of attestations they follow the clock, which goes on when this actor
    /// is restarted: an answer to its predecessor is none to it.
    fn next_ping(&self, now: Moment) -> u64 {
        (self.last_ping + 1).max(now.since(Moment::ORIGIN).as_micros() as u64)
    }

    fn send_pings(&mut self, now: Moment, wall: WallTime, effects: &mut Vec<Effect>) {
        self.last_ping = self.next_ping(now);
        let metadata = self.departure.said();
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
        let is_current = self.peer(&from).incarnation == Some(ping.incarnation);
        if is_current {
            self.departure.heard(&from, &ping.metadata);
        }
        let peer = self.peer(&from);
        if let Some(reason) = ping.metadata.get(LEAVING).filter(|_| is_current) {
            peer.report = HealthCheckResult {
                height: peer.report.height,
                ..HealthCheckResult::shutting_down(format!("leaving: {reason}"))
            };
            self.glimpse(now, effects);
        }
        let pong = PongMessage {
            ping_id: ping.id,
            timestamp: wall,
            source: self.roster.own().to_string(),
            incarnation: self.incarnation,
            status: self.own_report(now),
            metadata: self.departure.said(),
        };
        effects.push(Effect::Send(from, FederationWire::Pong(pong)));
    }

    /// Whether this member may have answered a peer's wish to leave and forgotten it, because it was restarted.
    fn is_young(&self, now: Moment) -> bool {
        self.first_tick.is_none_or(|first| now.since(first) < WISH_MAX)
    }

    fn pong(&mut self, now: Moment, from: &NodeId, pong: PongMessage, effects: &mut Vec<Effect>) {
        let lease = self.config.lease;
        let peer = self.peer(from);
        let Some(at) = peer.outstanding.iter().position(|(id, _)| *id == pong.ping_id) else {
            return; // Answered already, too old, or meant for an earlier incarnation of this member.
        };
        let (_, asked) = peer.outstanding.remove(at).expect("the position was just found");
        if now.since(asked) > lease {
            return;
        }
        match peer.incarnation {
            Some(known) if pong.incarnation < known => return,
            Some(known) if pong.incarnation > known && peer.state.is_known() => {
                peer.lose(from, format!("restarted as incarnation {}", pong.incarnation), effects);
            }
            _ => {}
        }
        peer.incarnation = Some(pong.incarnation);
        if peer.state != MemberState::Up {
            // The interval across the silence says nothing about the time after it.
            peer.detector.reset();
            let was = std::mem::replace(&mut peer.state, MemberState::Up);
            peer.down_reason.clear();
            peer.lost_at = None;
            // Of a doubt that was this member's own nobody was told.
            if was != MemberState::Suspected {
                let up = PeerChange::Up { node: from.clone(), incarnation: pong.incarnation };
                effects.push(Effect::Peer(up));
            }
        }
        peer.detector.heartbeat(now);
        peer.last_seen = Some(now);
        peer.excused = Duration::ZERO;
        peer.report = pong.status;
        self.departure.heard(from, &pong.metadata);
        self.departure.answered(from, pong.ping_id);
        self.glimpse(now, effects);
    }

    /// Decides, and publishes. Between rounds a closing is published at once, as is a changed count.
    fn look(&mut self, now: Moment, look: Look, effects: &mut Vec<Effect>) {
        let inputs = GateInputs {
            gates: self.gates.clone(),
            look,
            members: self.facts(now),
            in_doubt: self.doubt.is_some(),
            interval_ms: self.config.interval.as_millis() as u64,
            holds: BTreeMap::new(),
        };
        let verdict = Verdict::of(inputs, now + self.config.lease);
        self.gates = verdict.outcome.gates.clone();
        effects.push(Effect::Publish(verdict));
    }

    /// What this member says of itself.
    fn own_report(&self, now: Moment) -> HealthCheckResult {
        if let Some(reason) = self.departure.reason() {
            let height = self.own.as_ref().map(|(report, _)| report.height).unwrap_or_default();
            return HealthCheckResult {
                height,
                ..HealthCheckResult::shutting_down(format!("leaving: {reason}"))
            };
        }
        match &self.own {
            None => HealthCheckResult::unhealthy("its actors have not been checked yet"),
            Some((report, at)) if now.since(*at) > REPORT_MAX_AGE => {
                let age = now.since(*at).as_millis();
                HealthCheckResult {
                    height: report.height,
                    ..HealthCheckResult::unhealthy(format!("its actors were last checked {age} ms ago"))
                }
            }
            Some((report, _)) => report.clone(),
        }
    }

    /// What the gate is told of every member, in roster order.
    fn facts(&self, now: Moment) -> Vec<MemberFacts> {
        let own = self.roster.own();
        let fact = |name: &NodeId| match self.peers.get(name) {
            None => {
                let HealthCheckResult { status, reason, .. } = self.own_report(now);
                let (name, state, silent_ms) = (own.clone(), MemberState::Own, Some(0));
                MemberFacts { name, state, status, silent_ms, phi_thousandths: 0, reason }
            }
            Some(peer) => MemberFacts {
                name: name.clone(),
                state: peer.state,
                status: peer.report.status,
                silent_ms: peer.last_seen.map(|last| now.since(last).as_millis() as u64),
                phi_thousandths: (peer.phi(now) * 1_000.0) as u64,
                reason: match peer.state {
                    MemberState::Unknown => "never heard of".to_owned(),
                    MemberState::Down | MemberState::Suspected | MemberState::Left => {
                        let ago = peer.last_seen.map_or(0, |last| now.since(last).as_millis());
                        format!("{}; last seen {}.{} s ago", peer.down_reason, ago / 1000, ago / 100 % 10)
                    }
                    MemberState::Own | MemberState::Up | MemberState::Attested => peer.report.reason.clone(),
                },
            },
        };
        self.roster.members().iter().map(fact).collect()
    }

    /// What this member thinks of every member, in roster order.
    pub fn members(&self, now: Moment) -> Vec<MemberStatus> {
        let status = |facts: MemberFacts| {
            let healthy = facts.is_healthy();
            let MemberFacts { name, state, reason, .. } = facts;
            let Some(peer) = self.peers.get(&name) else {
                let (incarnation, last_seen) = (Some(self.incarnation), Some(Duration::ZERO));
                let height = Some(self.own_report(now).height);
                let (through, phi) = (None, 0.0);
                return MemberStatus {
                    name,
                    healthy,
                    state,
                    through,
                    incarnation,
                    last_seen,
                    phi,
                    height,
                    reason,
                };
            };
            MemberStatus {
                name,
                healthy,
                state,
                through: peer.through.clone().filter(|_| state == MemberState::Attested),
                incarnation: peer.incarnation,
                last_seen: peer.last_seen.map(|last| now.since(last)),
                phi: peer.phi(now),
                height: (peer.last_seen.is_some() || state == MemberState::Attested)
                    .then_some(peer.report.height),
                reason,
            }
        };
        self.facts(now).into_iter().map(status).collect()
    }
}

fn silent_for(peer: &Peer, now: Moment) -> String {
    let silence = peer.last_seen.map_or(Duration::ZERO, |last| now.since(last));
    format!("silent for {} ms (phi {:.1})", silence.as_millis(), peer.phi(now))
}

#[cfg(test)]
mod tests {
    use super::super::attestation::tests::NameSigner;
    use super::super::gate::Decision;
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
        // Whoever is told to end while it stands still asks its peers before it looks at the clock.
        federation.input(Input::Want { wall: WallTime(0) });
        let (_, from, pong) = federation.in_flight.pop().expect("node-2 answers");
        federation.input(Input::Wire { from, wire: FederationWire::Pong(pong), wall: WallTime(0) });
        federation.input(Input::Leave { reason: "SIGTERM".to_owned(), wall: WallTime(0) });
        let opened =
            federation.verdicts[published..].iter().find(|verdict| verdict.decision == Decision::Open);
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
            federation.coordinator.unsure(Moment::at(Duration::from_millis(federation.now_ms)))
        };
        federation.input(Input::Want { wall: WallTime(1) });
        assert_eq!(unsure(&federation), ["node-2", "node-3", "node-4"].map(node));
        federation.run(10);
        assert_eq!(unsure(&federation), [node("node-4")], "it has not answered");
        assert_eq!(federation.verdict().healthy, 4, "a wish changes no count");
        federation.input(Input::Stay);
        federation.answering.push(("node-4", 1));
        federation.run(1_000);
        federation.input(Input::Want { wall: WallTime(1) });
        federation.run(10);
        assert_eq!(unsure(&federation), []);
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
