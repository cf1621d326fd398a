//! The gate: with enough healthy members the federation may work, else it halts and says why.
//!
//! It closes at once and opens only after a number of stable rounds, so that a flapping member does not make
//! the chain work in bursts. What it publishes is a [`Verdict`] with a lease: whoever asks after the lease has
//! run out finds the gate closed, because a coordinator that hangs, or a process that was stopped by a signal,
//! can not know that the federation is still healthy.
//!
//! A closed gate is a verdict, not an error: the member is alive and must not be restarted for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{Clock, Moment, WallTime};
use crate::event::{ClusterEvent, EventBus};
use crate::id::ActorName;
use crate::port::ConsensusHalt;

/// Decisions kept for whoever asks why.
const HISTORY_MAX: usize = 1024;

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The federation may work.
    Open,
    /// It may not.
    Closed,
}

/// A decision, why it was taken, and until when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Counts the incarnation's records from 1; 0 before the first.
    pub sequence: u64,
    /// What was decided.
    pub decision: Decision,
    /// Healthy members, this one included.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Why, as a sentence.
    pub reason: String,
    /// What would change the decision, as a sentence.
    pub would_change: String,
    /// When the lease runs out.
    pub expires: Moment,
}

/// One decision that differed from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRecord {
    /// Counts the incarnation's records from 1.
    pub sequence: u64,
    /// On this node's wall clock.
    pub at: WallTime,
    /// What was decided.
    pub decision: Decision,
    /// Healthy members, this one included.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Why, as a sentence.
    pub reason: String,
}

impl From<GateRecord> for ClusterEvent {
    fn from(record: GateRecord) -> Self {
        Self::VerdictChanged {
            sequence: record.sequence,
            open: record.decision == Decision::Open,
            healthy: record.healthy,
            required: record.required,
            reason: record.reason,
        }
    }
}

/// Why an operation may not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate is closed: {reason}")]
pub struct Halt {
    /// The verdict's reason.
    pub reason: String,
}

/// Whether enough members are healthy, for long enough.
#[derive(Clone, Debug)]
pub struct Gate {
    required: usize,
    stable_rounds: u32,
    rounds: u32,
    decision: Decision,
}

impl Gate {
    /// A closed gate.
    pub fn new(required: usize, stable_rounds: u32) -> Self {
        Self { required, stable_rounds, rounds: 0, decision: Decision::Closed }
    }

    /// Healthy members required.
    pub fn required(&self) -> usize {
        self.required
    }

    /// Stable rounds still missing before an opening; 0 when open.
    pub fn rounds_missing(&self) -> u32 {
        match self.decision {
            Decision::Open => 0,
            Decision::Closed => self.stable_rounds - self.rounds,
        }
    }

    /// Too few are healthy at this instant: closes and starts counting anew. Enough: changes nothing.
    pub fn observe(&mut self, healthy: usize) -> Decision {
        if healthy < self.required {
            self.rounds = 0;
            self.decision = Decision::Closed;
        }
        self.decision
    }

    /// A whole round passed with this many healthy: opens after enough of them in a row.
    pub fn round(&mut self, healthy: usize) -> Decision {
        self.observe(healthy);
        if healthy >= self.required {
            self.rounds = (self.rounds + 1).min(self.stable_rounds);
            if self.rounds == self.stable_rounds {
                self.decision = Decision::Open;
            }
        }
        self.decision
    }

    /// Closes without a count, because the counts can not be trusted.
    pub fn close(&mut self) {
        self.rounds = 0;
        self.decision = Decision::Closed;
    }
}

struct Published {
    verdict: Verdict,
    history: VecDeque<GateRecord>,
    /// Why the gate is kept closed whatever the members' health, by who wants it so.
    holds: BTreeMap<ActorName, String>,
}

impl Published {
    /// Closes `verdict` if someone keeps the gate closed.
    fn hold(&self, verdict: &mut Verdict) {
        let reasons: Vec<_> = self.holds.values().map(String::as_str).collect();
        if !reasons.is_empty() {
            let names: Vec<_> = self.holds.keys().map(ActorName::as_str).collect();
            verdict.decision = Decision::Closed;
            verdict.reason = format!("this member is halted by its supervision: {}", reasons.join("; "));
            verdict.would_change = format!("a restart of this member, or of {} in it", names.join(" and "));
        }
    }

    /// Takes `verdict` in; a record of it if it differs from the one before in more than its lease.
    fn take(&mut self, mut verdict: Verdict, at: WallTime) -> Option<GateRecord> {
        self.hold(&mut verdict);
        let last = &self.verdict;
        let held_for_more = !self.holds.is_empty() && last.reason != verdict.reason;
        let same = (last.decision, last.healthy) == (verdict.decision, verdict.healthy) && !held_for_more;
        if same && last.sequence > 0 {
            verdict.sequence = last.sequence;
            self.verdict = verdict;
            return None;
        }
        verdict.sequence = last.sequence + 1;
        let record = GateRecord {
            sequence: verdict.sequence,
            at,
            decision: verdict.decision,
            healthy: verdict.healthy,
            required: verdict.required,
            reason: verdict.reason.clone(),
        };
        self.verdict = verdict;
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(record.clone());
        Some(record)
    }
}

/// What the gate says, for everyone on the node who must ask before acting.
#[derive(Clone)]
pub struct GateReader {
    published: Arc<RwLock<Published>>,
}

impl GateReader {
    /// A gate about which nothing is known yet: closed.
    pub fn unknown(required: usize) -> Self {
        let reason = "the health of the federation is not known yet".to_owned();
        let verdict = Verdict {
            sequence: 0,
            decision: Decision::Closed,
            healthy: 0,
            required,
            reason,
            would_change: "the first round of heartbeats".to_owned(),
            expires: Moment::ORIGIN,
        };
        let published = Published { verdict, history: VecDeque::new(), holds: BTreeMap::new() };
        Self { published: Arc::new(RwLock::new(published)) }
    }

    /// The verdict at `now`: the last one published, or a closed one if its lease has run out.
    pub fn verdict(&self, now: Moment) -> Verdict {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let mut verdict = published.verdict.clone();
        published.hold(&mut verdict);
        if verdict.decision == Decision::Open && now >= verdict.expires {
            let late = now.since(verdict.expires);
            verdict.decision = Decision::Closed;
            verdict.reason = format!(
                "the last verdict ran out {late:.1?} ago; the federation's health is not being watched"
            );
            "a new verdict of the federation actor".clone_into(&mut verdict.would_change);
        }
        verdict
    }

    /// Admits an operation at `now`, giving the number of the decision that did, or says why not.
    pub fn admit(&self, now: Moment) -> Result<u64, Halt> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let verdict = &published.verdict;
        let is_held = !published.holds.is_empty();
        if verdict.decision == Decision::Open && now < verdict.expires && !is_held {
            return Ok(verdict.sequence);
        }
        drop(published);
        Err(Halt { reason: self.verdict(now).reason })
    }

    /// The decisions so far, oldest first, at most 1,024.
    pub fn history(&self) -> Vec<GateRecord> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        published.history.iter().cloned().collect()
    }

    /// Publishes `verdict`. One that differs from the one before in more than its lease is recorded, under the
    /// next sequence number, and returned.
    pub(super) fn publish(&self, verdict: Verdict, at: WallTime) -> Option<GateRecord> {
        self.published.write().unwrap_or_else(PoisonError::into_inner).take(verdict, at)
    }

    /// Keeps the gate closed in the name of `by`, whatever the members' health, until [`GateReader::release`].
    pub fn hold(&self, by: &ActorName, reason: &str, at: WallTime) -> Option<GateRecord> {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        published.holds.insert(by.clone(), reason.to_owned());
        let verdict = published.verdict.clone();
        published.take(verdict, at)
    }

    /// `by` no longer keeps the gate closed. It opens with the next verdict that says so.
    pub fn release(&self, by: &ActorName) {
        let held = |published: &Published| published.holds.contains_key(by);
        if held(&self.published.read().unwrap_or_else(PoisonError::into_inner)) {
            self.published.write().unwrap_or_else(PoisonError::into_inner).holds.remove(by);
        }
    }
}

/// The gate as supervision sees it: something to keep closed.
#[derive(Clone)]
pub struct GateHold {
    /// The gate.
    pub gate: GateReader,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of the closing.
    pub events: EventBus,
}

impl ConsensusHalt for GateHold {
    fn halt(&self, by: &ActorName, reason: &str) {
        if let Some(record) = self.gate.hold(by, reason, self.clock.wall()) {
            self.events.tell(record.into());
        }
    }

    fn resume(&self, by: &ActorName) {
        self.gate.release(by);
    }
}

/// A verdict's lease from `now`.
pub(super) fn lease(now: Moment, lasting: Duration) -> Moment {
    now + lasting
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(decision: Decision, healthy: usize, expires_ms: u64) -> Verdict {
        Verdict {
            sequence: 0,
            decision,
            healthy,
            required: 3,
            reason: "because".into(),
            would_change: String::new(),
            expires: Moment::at(Duration::from_millis(expires_ms)),
        }
    }

    #[test]
    fn the_gate_closes_at_once_and_opens_after_stable_rounds() {
        let mut gate = Gate::new(3, 2);
        assert_eq!(gate.round(4), Decision::Closed);
        assert_eq!(gate.round(3), Decision::Open);
        assert_eq!(gate.observe(2), Decision::Closed);
        assert_eq!(gate.observe(4), Decision::Closed, "a glimpse is not a round");
        assert_eq!(gate.round(3), Decision::Closed);
        assert_eq!(gate.observe(2), Decision::Closed);
        assert_eq!(gate.round(3), Decision::Closed, "the rounds are counted anew");
        assert_eq!(gate.round(3), Decision::Open);
    }

    #[test]
    fn a_verdict_that_ran_out_halts_whoever_asks() {
        let reader = GateReader::unknown(3);
        reader.publish(verdict(Decision::Open, 4, 800), WallTime(0));
        let admit = |ms| reader.admit(Moment::at(Duration::from_millis(ms)));
        assert_eq!(admit(799), Ok(1));
        let halt = admit(800).expect_err("the lease ran out");
        assert!(halt.reason.contains("ran out"), "{}", halt.reason);
    }

    #[test]
    fn renewals_keep_the_sequence_and_changes_are_recorded() {
        let reader = GateReader::unknown(3);
        let publish = |decision, healthy, expires| {
            reader.publish(verdict(decision, healthy, expires), WallTime(expires)).map(|r| r.sequence)
        };
        assert_eq!(publish(Decision::Closed, 1, 100), Some(1));
        assert_eq!(publish(Decision::Closed, 1, 200), None);
        assert_eq!(publish(Decision::Open, 3, 300), Some(2));
        assert_eq!(publish(Decision::Open, 4, 400), Some(3));
        assert_eq!(publish(Decision::Open, 4, 500), None);
        assert_eq!(reader.history().iter().map(|r| r.healthy).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_held_gate_stays_closed_whatever_the_health_until_everyone_has_released_it() {
        let reader = GateReader::unknown(3);
        let name = ActorName::literal;
        reader.publish(verdict(Decision::Open, 4, 900), WallTime(0));
        let held = reader.hold(&name("chain"), "chain is corrupt", WallTime(1)).expect("a record");
        assert_eq!((held.sequence, held.decision), (2, Decision::Closed));
        assert!(held.reason.contains("chain is corrupt"), "{}", held.reason);
        let now = Moment::at(Duration::from_millis(10));
        assert!(reader.admit(now).is_err());
        assert_eq!(reader.publish(verdict(Decision::Open, 4, 950), WallTime(2)), None, "nothing new");
        reader.hold(&name("critical"), "too many restarts", WallTime(3)).expect("another reason");
        reader.release(&name("chain"));
        reader.release(&name("sync"));
        reader.publish(verdict(Decision::Open, 4, 950), WallTime(4));
        let verdict_held = reader.verdict(now);
        assert_eq!(verdict_held.decision, Decision::Closed);
        assert!(verdict_held.would_change.contains("critical"), "{}", verdict_held.would_change);
        reader.release(&name("critical"));
        assert!(reader.admit(now).is_err(), "it opens with a verdict, not by itself");
        let opened = reader.publish(verdict(Decision::Open, 4, 950), WallTime(5)).expect("a record");
        assert_eq!((opened.decision, reader.admit(now)), (Decision::Open, Ok(opened.sequence)));
    }

    #[test]
    fn the_history_is_bounded_and_keeps_the_newest() {
        let reader = GateReader::unknown(3);
        for n in 0..HISTORY_MAX + 10 {
            reader.publish(verdict(Decision::Closed, n % 2, 1), WallTime(n as u64));
        }
        let history = reader.history();
        assert_eq!((history.len(), history[0].sequence), (HISTORY_MAX, 11));
    }

    proptest! {
        #[test]
        fn an_open_gate_has_seen_enough_healthy_members_since_it_last_saw_too_few(
            steps in prop::collection::vec((any::<bool>(), 0usize..=4), 0..60),
            stable_rounds in 1u32..5,
        ) {
            let mut gate = Gate::new(3, stable_rounds);
            let mut in_a_row = 0;
            for (is_round, healthy) in steps {
                let decision = if is_round { gate.round(healthy) } else { gate.observe(healthy) };
                if healthy < 3 { in_a_row = 0 } else if is_round { in_a_row += 1 }
                let expected = if in_a_row >= stable_rounds { Decision::Open } else { Decision::Closed };
                prop_assert_eq!(decision, expected);
            }
        }
    }
}
