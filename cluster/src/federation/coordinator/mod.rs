//! Turns heartbeats into the health of every member and the gate's decision.
//!
//! Each interval is a round: every peer is pinged, and the gate receives the number of healthy members. A peer is
//! **up** while its answers keep phi low, and **healthy** while it is up and reports that its critical actors work.
//! This member counts itself by the same report that it sends to others, and only while that report is fresh.
//!
//! A pong feeds the detector only if it answers one of the last pings, and in time: after a partition heals, the
//! network delivers old answers that prove nothing about the present.
//!
//! A silent peer is not lost yet. It is probed through every other member, and counts as **attested** while its signed
//! answers arrive in time. If *all* peers fall silent at once, this member itself is the more likely cause: it closes
//! its gate as soon as usual, but reports nobody lost until someone answers or the suspicion has lasted. Silence during
//! a pause of this process is not held against peers, up to one interval.
//!
//! A member that is leaving announces that in its pings. It stops counting from then on, and when it falls silent it
//! has **left**: it is not probed, and its silence does not make other members suspect themselves.
//!
//! ```text
//!               silent, attested                  silent, like all others
//!     ┌────────────────────────────► attested   ┌──────────► suspected
//!     │   answers ◄──────────────────────┤      │ answers ◄──────┤
//!     up ◄──────────────────── answers   │      up               │ attested, or suspicion lasted
//!     │ silent                    │      │ expired               ▼
//!     └─────────────────────────► down ◄─┘             attested, or down
//!                                (left, if announced)
//! ```
//!
//! `heartbeat` pings and answers, `indirect` probes through others, `peer` is the state of one peer, and [`facts`]
//! derives the inputs of the gate. This module evaluates them.

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
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::ping::HealthCheckResult;
use crate::port::{PeerChange, Signer};
use peer::MemberHealth;

/// How long a member that just started waits for peers to connect before it probes them through others: links that are
/// being established are not links that are cut.
const GREETING: Duration = Duration::from_secs(2);
/// Maximum time this member suspects itself before it reports silent peers lost.
const DOUBT_MAX: Duration = Duration::from_secs(5);

/// Input to the coordinator.
#[derive(Clone, Debug)]
pub enum Input {
    /// Periodic tick, several times per interval.
    Tick {
        /// Wall clock time, for timestamps in messages.
        wall: WallTime,
        /// Height of the chain, reported to peers.
        height: BlockHeight,
    },
    /// A message from another member.
    Wire {
        /// Sender of the message.
        from: NodeId,
        /// The message.
        wire: FederationWire,
        /// Wall clock time, for the timestamp of an answer.
        wall: WallTime,
    },
    /// Health of this node according to its health monitor.
    OwnHealth(HealthCheckResult),
    /// Health of each critical actor according to the health monitor.
    OwnActors(Vec<ActorState>),
    /// This member wants to leave if it may.
    Want {
        /// Whether it was told to leave, so that the wish survives a refusal.
        told: bool,
        /// Wall clock time, for timestamps in messages.
        wall: WallTime,
    },
    /// The link to a peer is up, or its connection has ended.
    Link {
        /// Peer at the other end.
        peer: NodeId,
        /// Whether the link is up.
        is_up: bool,
        /// Wall clock time, for timestamps in messages.
        wall: WallTime,
    },
    /// This member withdraws its wish to leave.
    Stay,
    /// This member is leaving.
    Leave {
        /// Reason for leaving.
        reason: String,
        /// Wall clock time, for timestamps in messages.
        wall: WallTime,
    },
}

/// Action that the federation actor must perform.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send this message to a member.
    Send(NodeId, FederationWire),
    /// Notify the watchers of peers.
    Peer(PeerChange),
    /// Publish this verdict.
    Publish(Verdict),
    /// Report that a statement was refused.
    TellRefused {
        /// Claimed author of the statement.
        member: NodeId,
        /// Member that sent it.
        from: NodeId,
        /// Reason for the refusal.
        reason: String,
    },
    /// Report that this member's clock is wrong, or right again.
    TellClock {
        /// Whether the clock is wrong.
        is_wrong: bool,
        /// How far it is ahead of its peers' clocks, in milliseconds; negative if it is behind.
        error_ms: i64,
    },
    /// Report that this member suspects itself, or no longer does.
    TellDoubt {
        /// Whether the suspicion begins.
        begins: bool,
        /// Reason for the change.
        reason: String,
    },
}

/// State of the coordinator: one detector per peer, this member's report, accepted attestations, and the gates.
#[derive(Clone)]
pub struct Coordinator {
    roster: Roster,
    incarnation: Incarnation,
    config: HeartbeatConfig,
    signer: Arc<dyn Signer>,
    peers: BTreeMap<NodeId, MemberHealth>,
    own: Option<(HealthCheckResult, Moment)>,
    /// Height of the chain at the last tick. The health monitor's report does not contain it.
    height: BlockHeight,
    own_actors: Vec<ActorState>,
    attestations: Attestations,
    /// Rate limiters for signature checks, by forwarder and author.
    checks: BTreeMap<(NodeId, NodeId), Checks>,
    /// Last own statement, and when it was made.
    stated: Option<(SignedAttestation, Moment)>,
    self_suspicion: Option<Moment>,
    /// How far this member's clock is ahead, in milliseconds, while it is wrong.
    wrong_clock: Option<i64>,
    departure: Departure,
    /// Time of the last probe through this member, by prober and target.
    apart: BTreeMap<(NodeId, NodeId), Moment>,
    gates: Gates,
    last_ping: u64,
    next_round: Moment,
    first_tick: Option<Moment>,
    last_tick: Option<Moment>,
}

impl Coordinator {
    /// Creates the state with no heartbeat received and closed gates.
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

    /// Applies `input` and returns the resulting actions.
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
            // Announced in the next pings.
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
            // Not a member of the roster.
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
            // This process was paused: silence meanwhile says nothing about peers, nor their counts about now.
            self.after_standstill(now, gap, effects);
            return;
        }
        if gap > self.config.interval {
            // A shorter pause does not discard the state, but is not held against peers either.
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

    /// Evaluates between two ticks. If the next tick is late, the state of the peers may be stale, and only the tick
    /// can detect a pause of this process: until then nothing is published, so that a stale count gets no new lease.
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
        // Accepted echoes may be as old as the pause.
        self.attestations = Attestations::new(self.roster.own().clone(), self.incarnation);
        self.stated = None;
        self.end_doubt(&reason, effects);
        self.next_round = now;
        self.evaluate(now, Evaluation::Untrusted, effects);
    }

    /// Determines which peers are silent for too long, and their new states.
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
                // Its statements from before its departure do not count.
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
                    // Peers that answered may forward its statement: wait for two rounds.
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

    /// Reports when this member's clock becomes wrong or right again.
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

    /// Whether peers have had enough time since the start to connect by themselves.
    fn has_greeted(&self, now: Moment) -> bool {
        self.first_tick.is_some_and(|first| now.since(first) >= GREETING)
    }

    fn end_doubt(&mut self, reason: &str, effects: &mut Vec<Effect>) {
        if self.self_suspicion.take().is_some() {
            effects.push(Effect::TellDoubt { begins: false, reason: reason.to_owned() });
        }
    }

    /// Announces the departure to every peer at once, so that it does not count as a failure.
    fn leave(&mut self, now: Moment, reason: String, wall: WallTime, effects: &mut Vec<Effect>) {
        if self.departure.leave(reason, self.next_ping(now)) {
            // The cached statement predates the departure.
            self.stated = None;
            self.send_pings(now, wall, effects);
            // Peers that no ping reaches learn it through the others.
            self.peers.values_mut().for_each(|peer| peer.next_probe = now);
            self.send_probes(now, wall, effects);
            self.evaluate_between_rounds(now, effects);
        }
    }

    /// Peers that are up, are not leaving, and have not acknowledged yet that this member leaves.
    pub fn unaware(&self) -> Vec<NodeId> {
        let stays = |peer: &MemberHealth| peer.state == MemberState::Up && !peer.is_leaving();
        let is_unaware =
            |(node, peer): &(&NodeId, &MemberHealth)| stays(peer) && !self.departure.is_aware(node);
        self.peers.iter().filter(is_unaware).map(|(node, _)| node.clone()).collect()
    }

    /// Members that would stay if this member left.
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

    /// Decides and publishes the verdict. Between rounds this publishes a closing or a changed count at once.
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
