//! Probes silent members through the others, and forwards their attestations.

use std::time::Duration;

use super::peer::MemberHealth;
use super::{Coordinator, Effect, MemberState};
use crate::clock::{Moment, WallTime};
use crate::federation::attestation::{Checks, SignedAttestation, Taken};
use crate::federation::wire::FederationWire;
use crate::id::NodeId;
use crate::ping::HealthCheckResult;
use crate::port::PeerChange;

/// Time without a probe from one member for another after which the two count as connected again.
const APART_FOR: Duration = Duration::from_secs(2);
/// Minimum interval between two reports of refused statements from the same forwarder.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Probes every silent peer through all peers that are not silent.
    pub(super) fn send_probes(&mut self, now: Moment, wall: WallTime, effects: &mut Vec<Effect>) {
        let pause = self.config.acceptable_pause;
        let has_greeted = self.has_greeted(now);
        let is_silent = |peer: &MemberHealth| match peer.state {
            MemberState::Unknown => has_greeted,
            MemberState::Up => (peer.silence(now) > pause || peer.link_ended.is_some()) && !peer.is_leaving(),
            MemberState::Left => false,
            _ => true,
        };
        let due = |(_, peer): &(&NodeId, &MemberHealth)| is_silent(peer) && now >= peer.next_probe;
        let targets: Vec<_> = self.peers.iter().filter(due).map(|(node, _)| node.clone()).collect();
        // A suspected peer forwards as well: if only this member is slow, all peers seem silent.
        let can_carry = |peer: &MemberHealth| matches!(peer.state, MemberState::Up | MemberState::Suspected);
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

    /// This member's current statement. One statement serves all requests at the same moment.
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

    /// Handles a probe: for this member, or to be forwarded to `target`.
    pub(super) fn probed(
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
            // Forwards only statements that their author sent itself, and only to a member.
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
            // A duplicate over another route; the answer takes this route too.
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

    /// Handles a statement: for this member, or to be forwarded to `to`.
    pub(super) fn attested(
        &mut self,
        now: Moment,
        from: &NodeId,
        to: NodeId,
        statement: Box<SignedAttestation>,
        effects: &mut Vec<Effect>,
    ) {
        if to == *self.roster.own() {
            if self.take(now, from, &statement, effects) == Some(Taken::New) {
                self.evaluate_between_rounds(now, effects);
            }
        } else if statement.attestation.member == *from && to != *from && self.roster.is_peer(&to) {
            effects.push(Effect::Send(to.clone(), FederationWire::Attest { to, statement }));
        }
    }

    /// Handles a link that came up or a connection that ended; in the latter case probes the peer through others at
    /// once.
    pub(super) fn link_changed(
        &mut self,
        now: Moment,
        wall: WallTime,
        peer: &NodeId,
        is_up: bool,
        effects: &mut Vec<Effect>,
    ) {
        let known = self.peer(peer);
        if is_up {
            known.link_ended = None;
        } else if known.state == MemberState::Up && !known.is_leaving() && known.link_ended.is_none() {
            known.link_ended = Some(now);
            known.next_probe = now;
            self.send_probes(now, wall, effects);
        }
    }

    /// Suspects peers whose connection has ended and whom the others do not reach either; they no longer count. A
    /// killed process closes all its connections at once. If only one connection broke, its peer answers through the
    /// others, or reconnects within the grace period. Watchers are notified only after the silence has lasted, because
    /// all connections of a live member may break and be re-established.
    pub(super) fn suspect_unlinked(&mut self, now: Moment) {
        let grace = self.config.interval;
        let is_linked = |peer: &MemberHealth| {
            peer.state == MemberState::Up && peer.link_ended.is_none() && !peer.is_leaving()
        };
        let linked: Vec<_> =
            self.peers.iter().filter(|(_, peer)| is_linked(peer)).map(|(node, _)| node.clone()).collect();
        for (node, peer) in &mut self.peers {
            let Some(ended) = peer.link_ended.filter(|ended| now.since(*ended) >= grace) else { continue };
            let lives = self.attestations.standing(node, now, now.since(ended)).is_some();
            if peer.state != MemberState::Up || lives {
                continue;
            }
            // Members that lost it probe it through this member, possibly just before this member notices.
            let has_asked = |other: &&NodeId| {
                let asked = self.apart.get(&((*other).clone(), node.clone()));
                asked.is_some_and(|asked| *asked + self.config.interval >= ended)
            };
            let askers = linked.iter().filter(has_asked).count();
            let enough = askers == linked.len() || askers > self.roster.tolerated();
            if askers > 0 && enough {
                peer.state = MemberState::Suspected;
                peer.down_reason =
                    format!("its connection ended, and {askers} others do not reach it either");
                peer.lost_at = Some(ended + self.config.silence_max);
                peer.link_ended = None;
                // Its earlier statements no longer prove that it is alive.
                self.attestations.forget(node);
            }
        }
    }

    /// Accepts a statement, or reports its refusal.
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
        let (way, interval) = ((from.clone(), member.clone()), self.config.interval);
        let checks = self.checks.entry(way).or_insert_with(|| Checks::new(now));
        let may = || checks.take(now, interval);
        match self.attestations.take(signed, known, &*self.signer, may) {
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
                        // The report of an earlier incarnation does not apply to this one.
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

    pub(super) fn forget_apart(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.apart.retain(|(one, other), asked| {
            let still = now.since(*asked) < APART_FOR;
            if !still {
                let (one, other) = (one.clone(), other.clone());
                effects.push(Effect::Peer(PeerChange::Together { one, other }));
            }
            still
        });
    }
}
