//! Holds the state of one peer: its last report, its failure detector, and its membership state.

use std::collections::VecDeque;
use std::time::Duration;

use super::clocks::PeerClock;
use super::{Effect, GREETING, MemberState};
use crate::clock::Moment;
use crate::federation::config::HeartbeatConfig;
use crate::health::PhiAccrual;
use crate::id::{Incarnation, NodeId};
use crate::ping::{HealthCheckResult, HealthStatus};
use crate::port::PeerChange;

/// How long a peer's silences are remembered.
const SILENCE_MEMORY: Duration = Duration::from_mins(1);
/// Number of silences within [`SILENCE_MEMORY`] from which a peer counts as unstable, although it answers.
const UNSTABLE_AFTER: usize = 3;
/// Maximum number of silences remembered.
const SILENCES_MAX: usize = 64;

/// State of one peer.
#[derive(Clone, Debug)]
pub(super) struct MemberHealth {
    pub(super) state: MemberState,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) detector: PhiAccrual,
    pub(super) last_seen: Option<Moment>,
    /// Time of the last message of any kind from the peer.
    pub(super) heard: Option<Moment>,
    /// Part of the peer's silence during which this process was paused.
    pub(super) excused: Duration,
    pub(super) report: HealthCheckResult,
    pub(super) outstanding: VecDeque<(u64, Moment)>,
    pub(super) down_reason: String,
    /// Times at which the peer fell silent, oldest first.
    silences: VecDeque<Moment>,
    pub(super) next_probe: Moment,
    pub(super) through: Option<NodeId>,
    /// Last value of `heard` in [`PeerChange::Indirect`] reported to watchers.
    pub(super) told_heard: bool,
    /// When a suspected peer is lost after the self-suspicion is over.
    pub(super) lost_at: Option<Moment>,
    pub(super) next_complaint: Moment,
    /// When its connection to this member ended, while there is no other.
    pub(super) link_ended: Option<Moment>,
    /// Since when its state is unknown because of this member itself; `None` once watchers were notified.
    pub(super) absent_since: Option<Moment>,
    pub(super) clock: PeerClock,
}

impl MemberHealth {
    pub(super) fn new(config: HeartbeatConfig) -> Self {
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
            silences: VecDeque::new(),
            next_probe: Moment::ORIGIN,
            through: None,
            told_heard: false,
            lost_at: None,
            next_complaint: Moment::ORIGIN,
            link_ended: None,
            absent_since: Some(Moment::ORIGIN),
            clock: PeerClock::default(),
        }
    }

    pub(super) fn silence(&self, now: Moment) -> Duration {
        self.last_seen.map_or(Duration::MAX, |last| now.since(last).saturating_sub(self.excused))
    }

    pub(super) fn phi(&self, now: Moment) -> f64 {
        self.detector.phi_excusing(now, self.excused)
    }

    /// Whether the simultaneous silence of this peer and others makes this member suspect itself.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.state, MemberState::Up | MemberState::Suspected) && !self.is_leaving()
    }

    /// Whether this incarnation of the peer announced that it leaves.
    pub(super) fn is_leaving(&self) -> bool {
        self.report.status == HealthStatus::ShuttingDown
    }

    pub(super) fn is_heard(&self, now: Moment, within: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= within)
    }

    /// Discards measurements and pending pings, which say nothing about the time after a loss.
    fn reset(&mut self) {
        self.detector.reset();
        self.outstanding.clear();
        self.clock.forget();
        self.lost_at = None;
        self.link_ended = None;
        self.absent_since = None;
    }

    /// Marks the peer's state as unknown, for a reason that lies with this member.
    pub(super) fn forget(&mut self, node: &NodeId, now: Moment, reason: String, effects: &mut Vec<Effect>) {
        if self.is_leaving() {
            return self.lose(node, reason, effects);
        }
        self.reset();
        self.absent_since = Some(now);
        self.state = MemberState::Unknown;
        self.down_reason.clone_from(&reason);
        effects.push(Effect::Peer(PeerChange::Unknown { node: node.clone(), reason }));
    }

    /// Whether the peer has had enough time to respond since its state became unknown.
    pub(super) fn has_had_time(&self, now: Moment) -> bool {
        self.absent_since.is_none_or(|since| now.since(since) >= GREETING)
    }

    /// Reports the peer lost to watchers: it had enough time and did not respond.
    pub(super) fn tell_absent(&mut self, node: &NodeId, effects: &mut Vec<Effect>) {
        if self.absent_since.take().is_some() {
            let reason = format!("not heard of for {} s", GREETING.as_secs());
            effects.push(Effect::Peer(PeerChange::Down { node: node.clone(), reason }));
        }
    }

    pub(super) fn lose(&mut self, node: &NodeId, reason: String, effects: &mut Vec<Effect>) {
        self.reset();
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

    /// Marks the peer as attested: a statement forwarded by a third member proves that it is alive.
    pub(super) fn attest(
        &mut self,
        node: &NodeId,
        heard: bool,
        report: HealthCheckResult,
        effects: &mut Vec<Effect>,
    ) {
        let is_news = self.state != MemberState::Attested || self.told_heard != heard;
        self.state = MemberState::Attested;
        self.detector.reset();
        self.clock.forget();
        self.lost_at = None;
        self.absent_since = None;
        self.down_reason.clear();
        // A statement from before the announced departure does not revoke it.
        if !self.is_leaving() {
            self.report = report;
        }
        if is_news && let Some(through) = self.through.clone() {
            self.told_heard = heard;
            effects.push(Effect::Peer(PeerChange::Indirect { node: node.clone(), through, heard }));
        }
    }

    /// Records that the peer has just fallen silent.
    pub(super) fn fell_silent(&mut self, now: Moment) {
        if self.silences.len() == SILENCES_MAX {
            self.silences.pop_front();
        }
        self.silences.push_back(now);
    }

    /// What is wrong with the peer although it answers; empty if nothing is.
    pub(super) fn trouble(&self, now: Moment) -> String {
        let is_recent = |silence: &&Moment| now.since(**silence) <= SILENCE_MEMORY;
        let recent = self.silences.iter().filter(is_recent).count();
        if !self.report.reason.is_empty() || recent < UNSTABLE_AFTER {
            return self.report.reason.clone();
        }
        format!("unstable: it fell silent {recent} times within {} s", SILENCE_MEMORY.as_secs())
    }

    /// Describes the length of the silence.
    pub(super) fn silent_for(&self, now: Moment) -> String {
        let silence = self.last_seen.map_or(Duration::ZERO, |last| now.since(last));
        format!("silent for {} ms (phi {:.1})", silence.as_millis(), self.phi(now))
    }
}
