//! One peer: what it last said, how it is suspected, and where that leaves it.

use std::collections::VecDeque;
use std::time::Duration;

use super::clocks::PeerClock;
use super::{Effect, GREETING, MemberState};
use crate::clock::Moment;
use crate::federation::config::HeartbeatConfig;
use crate::health::{HealthCheckResult, HealthStatus, PhiAccrual};
use crate::id::{Incarnation, NodeId};
use crate::port::PeerChange;

/// How long a peer's silence is remembered.
const SILENCE_MEMORY: Duration = Duration::from_mins(1);
/// A peer that fell silent so often within [`SILENCE_MEMORY`] is unstable, though it answers.
const UNSTABLE_AFTER: usize = 3;
/// Silences remembered.
const SILENCES_MAX: usize = 64;

/// A peer, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct MemberHealth {
    pub(super) state: MemberState,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) detector: PhiAccrual,
    pub(super) last_seen: Option<Moment>,
    /// When anything came from it, answer or not.
    pub(super) heard: Option<Moment>,
    /// How much of its silence this member stood still itself.
    pub(super) excused: Duration,
    pub(super) report: HealthCheckResult,
    pub(super) outstanding: VecDeque<(u64, Moment)>,
    pub(super) down_reason: String,
    /// When it last fell silent, oldest first.
    silences: VecDeque<Moment>,
    pub(super) next_probe: Moment,
    pub(super) through: Option<NodeId>,
    /// What watchers were last told of [`PeerChange::Indirect`].
    pub(super) told_heard: bool,
    /// When a suspected peer is lost, once the doubt is over.
    pub(super) lost_at: Option<Moment>,
    pub(super) next_complaint: Moment,
    /// When its connection to this member ended, while there is no other.
    pub(super) link_ended: Option<Moment>,
    /// Since when this member does not know, for reasons of its own, whether it is there; until watchers are told.
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

    /// Whether it is one of those whose common silence makes this member doubt itself.
    pub(super) fn is_watched(&self) -> bool {
        matches!(self.state, MemberState::Up | MemberState::Suspected) && !self.is_leaving()
    }

    /// Whether this incarnation of it said that it would leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.report.status == HealthStatus::ShuttingDown
    }

    pub(super) fn is_heard(&self, now: Moment, within: Duration) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) <= within)
    }

    /// What was measured and asked before says nothing about the time after.
    fn reset(&mut self) {
        self.detector.reset();
        self.outstanding.clear();
        self.clock.forget();
        self.lost_at = None;
        self.link_ended = None;
        self.absent_since = None;
    }

    /// This member can not say any more whether it is there, for a reason of its own.
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

    /// Whether it has had the time to be heard since this member forgot it.
    pub(super) fn has_had_time(&self, now: Moment) -> bool {
        self.absent_since.is_none_or(|since| now.since(since) >= GREETING)
    }

    /// It has had the time, and was not heard: watchers take it for lost.
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

    /// It lives, as a third member's word of it proves.
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
        // What it stated before it said that it would leave does not take that back.
        if !self.is_leaving() {
            self.report = report;
        }
        if is_news && let Some(through) = self.through.clone() {
            self.told_heard = heard;
            effects.push(Effect::Peer(PeerChange::Indirect { node: node.clone(), through, heard }));
        }
    }

    /// It has just fallen silent.
    pub(super) fn fell_silent(&mut self, now: Moment) {
        if self.silences.len() == SILENCES_MAX {
            self.silences.pop_front();
        }
        self.silences.push_back(now);
    }

    /// What is wrong with it although it answers; empty if nothing is.
    pub(super) fn trouble(&self, now: Moment) -> String {
        let is_recent = |silence: &&Moment| now.since(**silence) <= SILENCE_MEMORY;
        let recent = self.silences.iter().filter(is_recent).count();
        if !self.report.reason.is_empty() || recent < UNSTABLE_AFTER {
            return self.report.reason.clone();
        }
        format!("unstable: it fell silent {recent} times within {} s", SILENCE_MEMORY.as_secs())
    }

    /// Since when, in words.
    pub(super) fn silent_for(&self, now: Moment) -> String {
        let silence = self.last_seen.map_or(Duration::ZERO, |last| now.since(last));
        format!("silent for {} ms (phi {:.1})", silence.as_millis(), self.phi(now))
    }
}
