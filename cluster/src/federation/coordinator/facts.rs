//! Derives the facts about all members: for peers, for the gate, and for display.

use std::time::Duration;

use super::{Coordinator, MemberState, clocks};
use crate::clock::Moment;
use crate::federation::decision::MemberFacts;
use crate::health::config::REPORT_MAX_AGE;
use crate::id::{BlockHeight, Incarnation, NodeId};
use crate::ping::{HealthCheckResult, HealthStatus};

/// This member's view of one member.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberStatus {
    /// Name of the member.
    pub name: NodeId,
    /// Whether it counts towards the gate.
    pub healthy: bool,
    /// State of the member.
    pub state: MemberState,
    /// Member that forwarded its last statement, if it is known only by attestation.
    pub through: Option<NodeId>,
    /// Incarnation of the member, if known.
    pub incarnation: Option<Incarnation>,
    /// Time since its last answer, if there was one.
    pub last_seen: Option<Duration>,
    /// Phi; 0 for this member itself.
    pub phi: f64,
    /// How far its clock is ahead of this member's, in milliseconds; negative if it is behind, `None` if unknown. For
    /// this member itself: how far its clock is ahead of the median of the others, while that is wrong; else 0.
    pub clock_offset_ms: Option<i64>,
    /// Last known height.
    pub height: Option<BlockHeight>,
    /// Why it is not healthy, or what is wrong although it is; empty if nothing is.
    pub reason: String,
}

impl Coordinator {
    /// This member's report about itself.
    pub(super) fn own_report(&self, now: Moment) -> HealthCheckResult {
        let report = match (self.departure.reason(), &self.own) {
            (Some(reason), _) => HealthCheckResult::shutting_down(format!("leaving: {reason}")),
            (None, None) => HealthCheckResult::unhealthy("its actors have not been checked yet"),
            (None, Some((_, at))) if now.since(*at) > REPORT_MAX_AGE => {
                let age = now.since(*at).as_millis();
                HealthCheckResult::unhealthy(format!("its actors were last checked {age} ms ago"))
            }
            (None, Some((report, _))) => report.clone(),
        };
        let report = match (self.wrong_clock, report.status) {
            (Some(error), HealthStatus::Healthy) => HealthCheckResult::degraded(clocks::reason(error)),
            _ => report,
        };
        HealthCheckResult { height: self.height, ..report }
    }

    /// Facts about every member for the gate, in roster order.
    pub(super) fn facts(&self, now: Moment) -> Vec<MemberFacts> {
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
                    MemberState::Unknown if peer.last_seen.is_none() => "never heard of".to_owned(),
                    MemberState::Unknown | MemberState::Down | MemberState::Suspected | MemberState::Left => {
                        let ago = peer.last_seen.map_or(0, |last| now.since(last).as_millis());
                        format!("{}; last seen {}.{} s ago", peer.down_reason, ago / 1000, ago / 100 % 10)
                    }
                    MemberState::Own | MemberState::Up | MemberState::Attested => peer.trouble(now),
                },
            },
        };
        self.roster.members().iter().map(fact).collect()
    }

    /// This member's view of every member, in roster order.
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
                    clock_offset_ms: Some(self.wrong_clock.unwrap_or_default()),
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
                clock_offset_ms: peer.clock.offset().filter(|_| state == MemberState::Up),
                height: (peer.last_seen.is_some() || state == MemberState::Attested)
                    .then_some(peer.report.height),
                reason,
            }
        };
        self.facts(now).into_iter().map(status).collect()
    }
}
