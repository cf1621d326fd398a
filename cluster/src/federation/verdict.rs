//! What the gate says, for everyone on the node who must ask before acting.
//!
//! A [`Verdict`] carries a lease: whoever asks after the lease has run out finds the gate closed, because a
//! coordinator that hangs, or a process that was stopped by a signal, can not know that the federation is
//! still healthy.
//!
//! Decisions that differed from the one before are kept with everything they were taken from, so that each
//! can be taken again ([`decide`]).
//!
//! A closed gate is a verdict, not an error: the member is alive and must not be restarted for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use super::decision::{
    ClassOutcome, GateInputs, Gates, MemberFacts, MemberState, OperationClass, Outcome, decide,
};
use super::gate::Decision;
use crate::clock::{Clock, Moment, WallTime};
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, NodeId};
use crate::port::ConsensusHalt;

/// Decisions kept for whoever asks why.
const HISTORY_MAX: usize = 1024;

/// A decision, what it was taken from, and until when it holds.
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
    /// What the decision was taken from.
    pub inputs: Arc<GateInputs>,
    /// The whole decision.
    pub outcome: Arc<Outcome>,
}

impl Verdict {
    /// What follows from `inputs`, until `expires`.
    pub fn of(inputs: GateInputs, expires: Moment) -> Self {
        let outcome = decide(&inputs);
        Self {
            sequence: 0,
            decision: outcome.decision,
            healthy: outcome.healthy,
            required: outcome.required,
            reason: outcome.reason.clone(),
            would_change: outcome.would_change.clone(),
            expires,
            inputs: Arc::new(inputs),
            outcome: Arc::new(outcome),
        }
    }

    /// Whether `class` is admitted, its lease apart.
    fn admits(&self, class: OperationClass) -> bool {
        let found = self.outcome.classes.iter().find(|outcome| outcome.class == class);
        self.decision == Decision::Open && found.is_some_and(|found| found.decision == Decision::Open)
    }

    /// Why `class` is not admitted.
    fn refusal(&self, class: OperationClass) -> String {
        let found = self.outcome.classes.iter().find(|outcome| outcome.class == class);
        match found {
            Some(outcome) if self.decision == Decision::Open => format!(
                "{} members are healthy, or are again but not yet for long enough; {class} demands {}",
                self.healthy, outcome.demand
            ),
            _ => self.reason.clone(),
        }
    }

    /// What must change for a new verdict to be a new record: more than the lease and the words.
    fn essence(&self) -> (Decision, usize, Vec<Decision>) {
        let classes = self.outcome.classes.iter().map(|class| class.decision).collect();
        (self.decision, self.healthy, classes)
    }
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
    /// What the decision was taken from.
    pub inputs: Arc<GateInputs>,
    /// The whole decision: [`decide`] of the inputs gives it again.
    pub outcome: Arc<Outcome>,
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
#[error("the gate is closed to {class}: {reason}")]
pub struct Halt {
    /// What was to begin.
    pub class: OperationClass,
    /// Why it may not.
    pub reason: String,
}

struct Published {
    verdict: Verdict,
    history: VecDeque<GateRecord>,
    /// Why the gate is kept closed whatever the members' health, by who wants it so.
    holds: BTreeMap<ActorName, String>,
}

impl Published {
    /// `verdict` as it is with what holds the gate closed now.
    fn held(&self, verdict: Verdict) -> Verdict {
        if verdict.inputs.holds == self.holds {
            return verdict;
        }
        let inputs = GateInputs { holds: self.holds.clone(), ..(*verdict.inputs).clone() };
        Verdict { sequence: verdict.sequence, ..Verdict::of(inputs, verdict.expires) }
    }

    /// Takes `verdict` in; a record of it if it differs from the one before in more than its lease.
    fn take(&mut self, verdict: Verdict, at: WallTime) -> Option<GateRecord> {
        let mut verdict = self.held(verdict);
        let last = &self.verdict;
        let held_for_more = !self.holds.is_empty() && last.reason != verdict.reason;
        let same = last.essence() == verdict.essence() && !held_for_more;
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
            inputs: verdict.inputs.clone(),
            outcome: verdict.outcome.clone(),
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
    /// A gate about which nothing is known yet: closed. Every class demands `required`.
    pub fn unknown(required: usize) -> Self {
        Self::closed(Gates::new(required, 1, |_| required))
    }

    /// A gate about which nothing is known yet: closed, with what each class will demand.
    pub fn closed(gates: Gates) -> Self {
        let verdict = Verdict::of(GateInputs::unknown(gates), Moment::ORIGIN);
        let published = Published { verdict, history: VecDeque::new(), holds: BTreeMap::new() };
        Self { published: Arc::new(RwLock::new(published)) }
    }

    /// The verdict at `now`: the last one published, or a closed one if its lease has run out.
    pub fn verdict(&self, now: Moment) -> Verdict {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let last = published.verdict.clone();
        // What was held opens with a new verdict, not by itself.
        let mut verdict = if published.holds.is_empty() { last } else { published.held(last) };
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

    /// Admits an operation of `class` at `now`, giving the number of the decision that did, or says why not.
    pub fn admit(&self, now: Moment, class: OperationClass) -> Result<u64, Halt> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let verdict = &published.verdict;
        let is_held = !published.holds.is_empty();
        if verdict.admits(class) && now < verdict.expires && !is_held {
            return Ok(verdict.sequence);
        }
        drop(published);
        Err(Halt { class, reason: self.verdict(now).refusal(class) })
    }

    /// What is admitted at `now`: every class, with what it demands.
    pub fn classes(&self, now: Moment) -> Vec<ClassOutcome> {
        let verdict = self.verdict(now);
        let close = |mut outcome: ClassOutcome| {
            if verdict.decision == Decision::Closed {
                outcome.decision = Decision::Closed;
            }
            outcome
        };
        verdict.outcome.classes.iter().copied().map(close).collect()
    }

    /// Members that were lost, or had left, when the last verdict was published.
    pub fn lost(&self) -> Vec<NodeId> {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let is_lost = |member: &&MemberFacts| matches!(member.state, MemberState::Down | MemberState::Left);
        let lost = published.verdict.inputs.members.iter().filter(is_lost);
        lost.map(|member| member.name.clone()).collect()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::decision::tests::inputs;
    use super::*;

    fn verdict(decision: Decision, healthy: usize, expires_ms: u64) -> Verdict {
        let verdict = Verdict::of(inputs(healthy), Moment::at(Duration::from_millis(expires_ms)));
        assert_eq!(verdict.decision, decision);
        verdict
    }

    #[test]
    fn a_verdict_that_ran_out_halts_whoever_asks() {
        let reader = GateReader::unknown(3);
        reader.publish(verdict(Decision::Open, 4, 800), WallTime(0));
        let admit = |ms| reader.admit(Moment::at(Duration::from_millis(ms)), OperationClass::Vote);
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
        assert!(reader.admit(now, OperationClass::Vote).is_err());
        assert_eq!(reader.publish(verdict(Decision::Open, 4, 950), WallTime(2)), None, "nothing new");
        reader.hold(&name("critical"), "too many restarts", WallTime(3)).expect("another reason");
        reader.release(&name("chain"));
        reader.release(&name("sync"));
        reader.publish(verdict(Decision::Open, 4, 950), WallTime(4));
        let verdict_held = reader.verdict(now);
        assert_eq!(verdict_held.decision, Decision::Closed);
        assert!(verdict_held.would_change.contains("critical"), "{}", verdict_held.would_change);
        reader.release(&name("critical"));
        assert!(reader.admit(now, OperationClass::Vote).is_err(), "it opens with a verdict, not by itself");
        let opened = reader.publish(verdict(Decision::Open, 4, 950), WallTime(5)).expect("a record");
        assert_eq!(
            (opened.decision, reader.admit(now, OperationClass::Vote)),
            (Decision::Open, Ok(opened.sequence))
        );
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

    #[test]
    fn every_record_gives_its_verdict_again_when_its_inputs_are_decided_anew() {
        let reader = GateReader::unknown(3);
        for healthy in [1, 3, 4, 2] {
            reader.publish(Verdict::of(inputs(healthy), Moment::ORIGIN), WallTime(0));
        }
        reader.hold(&ActorName::literal("chain"), "chain is corrupt", WallTime(1)).expect("a record");
        let history = reader.history();
        assert_eq!(history.len(), 5);
        for record in history {
            assert_eq!(decide(&record.inputs), *record.outcome);
            assert_eq!((record.decision, &record.reason), (record.outcome.decision, &record.outcome.reason));
        }
    }

    #[test]
    fn who_is_lost_can_be_read_from_the_last_verdict() {
        let reader = GateReader::unknown(3);
        assert_eq!(reader.lost(), []);
        let mut inputs = inputs(4);
        inputs.members[2].state = MemberState::Down;
        inputs.members[3].state = MemberState::Attested;
        reader.publish(Verdict::of(inputs.clone(), Moment::ORIGIN), WallTime(0));
        let name = |name| NodeId::new(name).expect("a name");
        assert_eq!(reader.lost(), [name("node-3")]);
        inputs.members[3].state = MemberState::Left;
        reader.publish(Verdict::of(inputs, Moment::ORIGIN), WallTime(0));
        assert_eq!(reader.lost(), ["node-3", "node-4"].map(name), "nothing is expected of who has left");
    }

    #[test]
    fn a_class_that_demands_more_is_refused_by_name_while_the_others_are_admitted() {
        let demand = |class| if class == OperationClass::SignForBridge { 4 } else { 3 };
        let gates = Gates::new(3, 1, demand);
        let reader = GateReader::closed(gates.clone());
        let expires = Moment::at(Duration::from_secs(1));
        let publish = |healthy| {
            let inputs = GateInputs { gates: gates.clone(), ..inputs(healthy) };
            reader.publish(Verdict::of(inputs, expires), WallTime(0))
        };
        publish(3).expect("a record");
        let now = Moment::ORIGIN;
        assert_eq!(reader.admit(now, OperationClass::Vote), Ok(1));
        let halt = reader.admit(now, OperationClass::SignForBridge).expect_err("three are not four");
        assert_eq!(halt.class, OperationClass::SignForBridge);
        let said = halt.to_string();
        assert!(said.contains("sign_for_bridge demands 4") && said.contains("3 members"), "{said}");
        publish(4).expect("a record");
        assert_eq!(reader.admit(now, OperationClass::SignForBridge), Ok(2));
        assert_eq!(reader.classes(expires).iter().filter(|c| c.decision == Decision::Open).count(), 0);
        let halt = reader.admit(expires, OperationClass::Propose).expect_err("the lease ran out");
        assert!(halt.to_string().starts_with("the gate is closed to propose: the last verdict ran out"));
    }
}
