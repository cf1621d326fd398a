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
//!
//! `heartbeat` asks and answers, `indirect` asks through others, `peer` is what is known of one, and [`facts`] is
//! what follows for the gate and for people. Here it is judged.

mod clocks;
pub mod facts;
mod heartbeat;
mod indirect;
mod peer;
#[cfg(test)]
mod tests;

pub use facts::MemberStatus;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Moment, WallTime};
use crate::federation::attestation::{ActorState, Attestations, Checks, SignedAttestation};
use crate::federation::config::HeartbeatConfig;
pub use crate::federation::decision::MemberState;
use crate::federation::decision::{Evaluation, GateInputs, Gates, MemberFacts};
use crate::federation::departure::Departure;
use crate::federation::message::Staying;
use crate::federation::roster::Roster;
use crate::federation::verdict::Verdict;
use crate::federation::wire::FederationWire;
use crate::health::HealthCheckResult;
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::port::{PeerChange, Signer};
use peer::MemberHealth;

/// How long a member that has just begun waits for peers it never heard of to come by themselves: links that
/// are being made are not links that are cut.
const GREETING: Duration = Duration::from_secs(2);
/// The longest this member doubts itself before it calls silent peers lost after all.
const DOUBT_MAX: Duration = Duration::from_secs(5);

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
        /// Whether it still does when it is refused.
        told: bool,
        /// For time stamps in messages.
        wall: WallTime,
    },
    /// The link to a peer is up, or its connection has ended.
    Link {
        /// Which peer.
        peer: NodeId,
        /// Whether it is up.
        is_up: bool,
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
    /// Tell that this member's clock is wrong, or right again.
    TellClock {
        /// Whether it is wrong.
        is_wrong: bool,
        /// How far it is ahead of its peers' clocks, in milliseconds; negative if it is behind.
        error_ms: i64,
    },
    /// Tell that this member doubts itself, or no longer does.
    TellDoubt {
        /// Whether the doubt begins.
        begins: bool,
        /// Why.
        reason: String,
    },
}

/// The state: one detector per peer, this member's own report, what was attested, and the gates.
#[derive(Clone)]
pub struct Coordinator {
    roster: Roster,
    incarnation: Incarnation,
    config: HeartbeatConfig,
    signer: Arc<dyn Signer>,
    peers: BTreeMap<NodeId, MemberHealth>,
    own: Option<(HealthCheckResult, Moment)>,
    /// The chain's height as of the last tick. The health monitor's report does not know it.
    height: BlockHeight,
    own_actors: Vec<ActorState>,
    attestations: Attestations,
    /// How many signatures are checked, by who brings them and who made them: two members.
    checks: BTreeMap<(NodeId, NodeId), Checks>,
    /// The last own statement, and when it was made.
    stated: Option<(SignedAttestation, Moment)>,
    self_suspicion: Option<Moment>,
    /// How far the own clock is ahead, in milliseconds, while it is wrong.
    wrong_clock: Option<i64>,
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
        let peers = roster.peers().map(|node| (node.clone(), MemberHealth::new(config))).collect();
        let gates = config.gates(&roster);
        let attestations = Attestations::new(roster.own().clone(), incarnation);
        Self {
            roster,
            incarnation,
            config,
            signer,
            peers,
            own: None,
            height: BlockHeight::default(),
            own_actors: Vec::new(),
            attestations,
            checks: BTreeMap::new(),
            stated: None,
            self_suspicion: None,
            wrong_clock: None,
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
                self.evaluate_between_rounds(now, &mut effects);
            }
            Input::OwnActors(actors) => self.own_actors = actors,
            Input::Want { told, wall } => {
                if self.departure.want(now, self.next_ping(now), told) {
                    self.send_pings(now, wall, &mut effects);
                }
            }
            Input::Link { peer, is_up, wall } if self.roster.is_peer(&peer) => {
                self.link_changed(now, wall, &peer, is_up, &mut effects);
            }
            // The next pings say so.
            Input::Stay => self.departure.stay(),
            Input::Leave { reason, wall } => self.leave(now, reason, wall, &mut effects),
            Input::Wire { from, wire, wall } if self.roster.is_peer(&from) => {
                self.peer(&from).heard = Some(now);
                match wire {
                    FederationWire::Ping(ping) => self.ping(now, from, &ping, wall, &mut effects),
                    FederationWire::Pong(pong) => self.pong(now, wall, &from, pong, &mut effects),
                    FederationWire::Probe { target, asker } => {
                        self.probed(now, wall, from, target, asker, &mut effects);
                    }
                    FederationWire::Attest { to, statement } => {
                        self.attested(now, &from, to, statement, &mut effects);
                    }
                }
            }
            // Of or from a stranger.
            Input::Link { .. } | Input::Wire { .. } => {}
        }
        effects
    }

    fn peer(&mut self, node: &NodeId) -> &mut MemberHealth {
        self.peers.get_mut(node).expect("every peer of the roster has an entry")
    }

    fn tick(&mut self, now: Moment, wall: WallTime, height: BlockHeight, effects: &mut Vec<Effect>) {
        let gap = self.last_tick.map_or(Duration::ZERO, |last| now.since(last));
        self.last_tick = Some(now);
        self.first_tick.get_or_insert(now);
        self.height = height;
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
        self.judge_clock(effects);
        self.forget_apart(now, effects);
        self.departure.tick(now);
        self.send_probes(now, wall, effects);
        if now >= self.next_round {
            self.next_round = now + self.config.interval;
            self.send_pings(now, wall, effects);
            self.evaluate(now, Evaluation::Round, effects);
        } else {
            self.evaluate(now, Evaluation::BetweenRounds, effects);
        }
    }

    /// Between two ticks. When the next one is late, whatever is known of the peers may be old, and it is the tick that
    /// says whether this member stood still: nothing is published before, lest an old count gets a new lease.
    fn evaluate_between_rounds(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.last_tick.is_none_or(|last| now.since(last) <= self.config.interval) {
            self.judge(now, effects);
            self.evaluate(now, Evaluation::BetweenRounds, effects);
        }
    }

    fn after_standstill(&mut self, now: Moment, gap: Duration, effects: &mut Vec<Effect>) {
        let reason = format!("this member stood still for {} ms", gap.as_millis());
        for (node, peer) in &mut self.peers {
            if matches!(peer.state, MemberState::Up | MemberState::Attested | MemberState::Suspected) {
                peer.forget(node, now, reason.clone(), effects);
            }
        }
        // What was echoed before may be as old as the standstill is long.
        self.attestations = Attestations::new(self.roster.own().clone(), self.incarnation);
        self.stated = None;
        self.end_doubt(&reason, effects);
        self.next_round = now;
        self.evaluate(now, Evaluation::Untrusted, effects);
    }

    /// Who is silent for too long, and what that makes of it.
    fn judge(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let has_greeted = self.has_greeted(now);
        self.suspect_unlinked(now);
        let Self { config, attestations, peers, self_suspicion, .. } = self;
        let validity = config.attestation_validity;
        let standing = |node: &NodeId| attestations.standing(node, now, validity);
        let nobody_attests = peers.keys().all(|node| standing(node).is_none());
        let mut watched = peers.values().filter(|peer| peer.is_watched()).peekable();
        let several = peers.values().filter(|peer| peer.is_watched()).count() >= 2;
        let all_silent =
            watched.peek().is_some() && watched.all(|peer| peer.silence(now) > config.acceptable_pause);
        let hears_nobody = several && all_silent && nobody_attests;
        let lasted = self_suspicion.is_some_and(|since| now.since(since) >= DOUBT_MAX);
        let within = config.interval + config.acceptable_pause;
        let mut begins = false;
        for (node, peer) in peers.iter_mut() {
            let is_silent = peer.phi(now) >= config.threshold || peer.silence(now) >= config.silence_max;
            let silent = peer.state == MemberState::Up && is_silent;
            if silent && !peer.is_leaving() {
                peer.fell_silent(now);
            }
            let known = peer.incarnation;
            let word = standing(node).filter(|word| known.is_none_or(|known| word.incarnation >= known));
            match (peer.state, word) {
                (MemberState::Up, _) if !silent => {}
                (MemberState::Unknown, _) if !has_greeted || !peer.has_had_time(now) => {}
                (MemberState::Unknown, None) => peer.tell_absent(node, effects),
                (MemberState::Own, _) | (MemberState::Down | MemberState::Left, None) => {}
                // Whatever it stated before it went.
                (MemberState::Left, Some(_)) if peer.is_leaving() => {}
                (MemberState::Up | MemberState::Suspected, _) if peer.is_leaving() => {
                    let reason = peer.silent_for(now);
                    peer.lose(node, reason, effects);
                }
                (_, Some(attestation)) => {
                    let heard = peer.is_heard(now, within);
                    peer.attest(node, heard, attestation.report(), effects);
                }
                (MemberState::Up, None) if hears_nobody => {
                    peer.state = MemberState::Suspected;
                    peer.down_reason = peer.silent_for(now);
                    begins = true;
                }
                (MemberState::Up, None) => {
                    let reason = peer.silent_for(now);
                    peer.lose(node, reason, effects);
                }
                (MemberState::Suspected, None) if hears_nobody && !lasted => {}
                (MemberState::Suspected, None) => {
                    // Whoever answered may bring word of it: it has as long as two rounds.
                    let lost_at = *peer.lost_at.get_or_insert(now + config.interval * 2);
                    if lasted || now >= lost_at {
                        let reason = peer.silent_for(now);
                        peer.lose(node, reason, effects);
                    }
                }
                (MemberState::Attested, None) => {
                    let reason = format!("{}; nobody brings word of it any more", peer.silent_for(now));
                    peer.lose(node, reason, effects);
                }
            }
        }
        if begins && self_suspicion.is_none() {
            *self_suspicion = Some(now);
            let reason = "none of its peers answers".to_owned();
            effects.push(Effect::TellDoubt { begins: true, reason });
        }
        if lasted {
            self.end_doubt("it has lasted; those who are silent are lost", effects);
        } else if !hears_nobody {
            self.end_doubt("a peer is heard again", effects);
        }
    }

    /// Tells when the own clock becomes wrong, and when it is right again.
    fn judge_clock(&mut self, effects: &mut Vec<Effect>) {
        let known = self.peers.values().filter(|peer| peer.state == MemberState::Up);
        let offsets = known.filter_map(|peer| peer.clock.offset()).collect();
        let error = clocks::own_error(offsets, self.roster.tolerated() + 1);
        let was_wrong = self.wrong_clock.is_some();
        self.wrong_clock = error.filter(|error| clocks::is_wrong(*error, was_wrong));
        if self.wrong_clock.is_some() != was_wrong {
            effects.push(Effect::TellClock { is_wrong: !was_wrong, error_ms: error.unwrap_or_default() });
        }
    }

    /// Whether whoever was going to come by itself has had the time.
    fn has_greeted(&self, now: Moment) -> bool {
        self.first_tick.is_some_and(|first| now.since(first) >= GREETING)
    }

    fn end_doubt(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        if self.self_suspicion.take().is_some() {
            effects.push(Effect::TellDoubt { begins: false, reason: reason.to_owned() });
        }
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
            self.evaluate_between_rounds(now, effects);
        }
    }

    /// The peers that are up, stay, and have not confirmed yet that this member leaves.
    pub fn unaware(&self) -> Vec<NodeId> {
        let stays = |peer: &MemberHealth| peer.state == MemberState::Up && !peer.is_leaving();
        let is_unaware =
            |(node, peer): &(&NodeId, &MemberHealth)| stays(peer) && !self.departure.is_aware(node);
        self.peers.iter().filter(is_unaware).map(|(node, _)| node.clone()).collect()
    }

    /// Who would stay if this member left.
    pub fn staying(&self, now: Moment) -> Staying {
        let (own, is_young) = (self.roster.own(), self.is_young(now));
        let mut staying = Staying::default();
        for facts in self.facts(now).into_iter().filter(MemberFacts::is_healthy) {
            staying.healthy += 1;
            if facts.state == MemberState::Own {
                staying.is_counted = true;
            } else {
                staying.unsure += usize::from(!self.departure.can_count_on(own, &facts.name, is_young));
                staying.told += usize::from(self.departure.is_told(&facts.name));
            }
        }
        staying
    }

    /// Decides, and publishes. Between rounds a closing is published at once, as is a changed count.
    fn evaluate(&mut self, now: Moment, evaluation: Evaluation, effects: &mut Vec<Effect>) {
        let inputs = GateInputs {
            gates: self.gates.clone(),
            evaluation,
            members: self.facts(now),
            in_doubt: self.self_suspicion.is_some(),
            interval_ms: self.config.interval.as_millis() as u64,
            holds: BTreeMap::new(),
        };
        let verdict = Verdict::of(inputs, now + self.config.lease);
        self.gates = verdict.outcome.gates.clone();
        effects.push(Effect::Publish(verdict));
    }
}
