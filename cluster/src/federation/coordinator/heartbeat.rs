//! Sends and answers heartbeats.

use std::time::Duration;

use super::{Coordinator, Effect, MemberState};
use crate::clock::{Moment, WallTime};
use crate::federation::departure::{LEAVING, WISH_MAX};
use crate::federation::wire::FederationWire;
use crate::id::NodeId;
use crate::ping::{HealthCheckResult, PingMessage, PongMessage};
use crate::port::PeerChange;

/// Maximum number of unanswered pings per peer.
const OUTSTANDING_MAX: usize = 16;

impl Coordinator {
    /// Id of the next ping. Like the numbers of attestations, ids follow the monotonic clock, so they keep increasing
    /// across restarts of this actor: an answer to its previous incarnation does not match.
    pub(super) fn next_ping(&self, now: Moment) -> u64 {
        (self.last_ping + 1).max(now.since(Moment::ORIGIN).as_micros() as u64)
    }

    pub(super) fn send_pings(&mut self, now: Moment, wall: WallTime, effects: &mut Vec<Effect>) {
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

    pub(super) fn ping(
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
            self.evaluate_between_rounds(now, effects);
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

    /// Whether this member may have answered a peer's wish to leave and forgotten it because of a restart.
    pub(super) fn is_young(&self, now: Moment) -> bool {
        self.first_tick.is_none_or(|first| now.since(first) < WISH_MAX)
    }

    pub(super) fn pong(
        &mut self,
        now: Moment,
        wall: WallTime,
        from: &NodeId,
        pong: PongMessage,
        effects: &mut Vec<Effect>,
    ) {
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
            peer.absent_since = None;
            // Suspicion of itself was never reported to watchers, so neither is its end.
            if was != MemberState::Suspected {
                let up = PeerChange::Up { node: from.clone(), incarnation: pong.incarnation };
                effects.push(Effect::Peer(up));
            }
        }
        peer.detector.heartbeat(now);
        peer.clock.heard(pong.timestamp, wall, now.since(asked));
        // An answer to a ping sent before the connection ended says nothing about the time after.
        peer.link_ended = peer.link_ended.filter(|ended| asked <= *ended);
        peer.last_seen = Some(now);
        peer.excused = Duration::ZERO;
        peer.report = pong.status;
        self.departure.heard(from, &pong.metadata);
        self.departure.answered(from, pong.ping_id);
        self.evaluate_between_rounds(now, effects);
    }
}
