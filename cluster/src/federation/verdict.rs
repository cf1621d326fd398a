//! Publishes the gate's verdict to all parts of the node that must check it before acting.
//!
//! A [`Verdict`] carries a lease: a check after the lease has expired finds the gate closed, because a coordinator that
//! hangs, or a process that was paused by a signal, can not know whether the federation is still healthy.
//!
//! Decisions that differ from the previous one are recorded with all their inputs, so that each can be recomputed
//! ([`decide`]). The expiry of a lease is such a decision: the first check that finds it expired records it, with the
//! time at which it expired. A [`DecisionSink`] may keep the records beyond the lifetime of this process.
//!
//! A closed gate is a verdict, not an error: the member is alive and must not be restarted for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::decision::{
    ClassOutcome, Evaluation, GateInputs, GateOutcome, Gates, MemberFacts, MemberState, OperationClass,
    decide,
};
use super::gate::Decision;
use crate::clock::{Clock, Moment, WallTime};
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, NodeId};
use crate::port::ConsensusHalt;

/// Number of decisions kept in memory.
const HISTORY_MAX: usize = 1024;

/// A decision with its inputs and its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Number of the record within the incarnation, from 1; 0 before the first.
    pub sequence: u64,
    /// The decision.
    pub decision: Decision,
    /// Number of healthy members, including this one.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason, as a sentence.
    pub reason: String,
    /// What would change the decision, as a sentence.
    pub would_change: String,
    /// Expiry of the lease.
    pub expires: Moment,
    /// Inputs of the decision.
    pub inputs: Arc<GateInputs>,
    /// Complete outcome of the decision.
    pub outcome: Arc<GateOutcome>,
}

impl Verdict {
    /// Decides on `inputs`, with a lease until `expires`.
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

    /// Whether `class` is admitted, ignoring the lease.
    fn admits(&self, class: OperationClass) -> bool {
        let found = self.outcome.classes.iter().find(|outcome| outcome.class == class);
        self.decision == Decision::Open && found.is_some_and(|found| found.decision == Decision::Open)
    }

    /// Reason why `class` is not admitted.
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

    /// The part of a verdict whose change makes a new record: everything but the lease and the texts.
    fn essence(&self) -> (Decision, usize, Vec<Decision>) {
        let classes = self.outcome.classes.iter().map(|class| class.decision).collect();
        (self.decision, self.healthy, classes)
    }
}

/// A decision that differed from the previous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRecord {
    /// Number of the record within the incarnation, from 1.
    pub sequence: u64,
    /// Time on this node's wall clock.
    pub at: WallTime,
    /// The decision.
    pub decision: Decision,
    /// Number of healthy members, including this one.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason, as a sentence.
    pub reason: String,
    /// Inputs of the decision.
    pub inputs: Arc<GateInputs>,
    /// Complete outcome: [`decide`] reproduces it from the inputs.
    pub outcome: Arc<GateOutcome>,
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

/// Why an operation was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate is closed to {class}: {reason}")]
pub struct GateClosed {
    /// Class of the operation.
    pub class: OperationClass,
    /// Reason for the refusal.
    pub reason: String,
}

/// Stores decisions. It is called while readers of the gate wait, so it must queue, or drop and count.
pub trait DecisionSink: Send + Sync {
    /// Takes a decision, in the order of sequence numbers.
    fn keep(&self, record: &GateRecord);
    /// Number of decisions written and dropped so far.
    fn stats(&self) -> SinkStats;
}

/// Statistics of a [`DecisionSink`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Number of decisions written.
    pub written: u64,
    /// Number of decisions lost because the queue was full or writing failed.
    pub dropped: u64,
}

struct Published {
    verdict: Verdict,
    /// Time of publication.
    granted: Moment,
    /// Time at which the gate opened, while it is open.
    opened: Option<Moment>,
    /// Expiry of the lease on this node's wall clock.
    expires_at: WallTime,
    /// Record of an expired lease that no event has reported yet.
    untold: Option<GateRecord>,
    sink: Option<Arc<dyn DecisionSink>>,
    history: VecDeque<GateRecord>,
    /// Reasons to keep the gate closed whatever the members' health, by the actor that holds it.
    holds: BTreeMap<ActorName, String>,
}

impl Published {
    /// Applies the current holds to `verdict`.
    fn held(&self, verdict: Verdict) -> Verdict {
        if verdict.inputs.holds == self.holds {
            return verdict;
        }
        let inputs = GateInputs { holds: self.holds.clone(), ..(*verdict.inputs).clone() };
        Verdict { sequence: verdict.sequence, ..Verdict::of(inputs, verdict.expires) }
    }

    /// Stores `verdict`; returns a record if it differs from the previous one in more than its lease.
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
        Some(self.record(verdict, at))
    }

    /// Whether the gate is open by a verdict whose lease has expired at `now`.
    fn is_overdue(&self, now: Moment) -> bool {
        self.verdict.decision == Decision::Open && now >= self.verdict.expires
    }

    /// If the lease has expired at `now`, closes the gate and records that.
    fn lapse(&mut self, now: Moment) {
        if !self.is_overdue(now) {
            return;
        }
        let ms = |later: Moment| later.since(self.granted).as_millis() as u64;
        let evaluation = Evaluation::Lease { granted_ms: ms(self.verdict.expires), age_ms: ms(now) };
        let gates = self.verdict.outcome.gates.clone();
        let inputs = GateInputs { gates, evaluation, ..(*self.verdict.inputs).clone() };
        let verdict = Verdict::of(inputs, self.verdict.expires);
        self.untold = Some(self.record(verdict, self.expires_at));
    }

    /// Replaces the verdict by `verdict` with the next sequence number, and records it.
    fn record(&mut self, verdict: Verdict, at: WallTime) -> GateRecord {
        self.verdict = Verdict { sequence: self.verdict.sequence + 1, ..verdict };
        if self.verdict.decision == Decision::Closed {
            self.opened = None;
        }
        let verdict = &self.verdict;
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
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(record.clone());
        if let Some(sink) = &self.sink {
            sink.keep(&record);
        }
        record
    }
}

/// Gives all parts of the node access to the gate's verdict.
#[derive(Clone)]
pub struct GateReader {
    published: Arc<RwLock<Published>>,
}

impl GateReader {
    /// Creates a closed gate before anything is known. Every class demands `required`.
    pub fn unknown(required: usize) -> Self {
        Self::closed(Gates::new(required, 1, |_| required))
    }

    /// Creates a closed gate before anything is known, with the demand of each class.
    pub fn closed(gates: Gates) -> Self {
        let verdict = Verdict::of(GateInputs::unknown(gates), Moment::ORIGIN);
        let published = Published {
            verdict,
            granted: Moment::ORIGIN,
            opened: None,
            expires_at: WallTime(0),
            untold: None,
            sink: None,
            history: VecDeque::new(),
            holds: BTreeMap::new(),
        };
        Self { published: Arc::new(RwLock::new(published)) }
    }

    /// Sends every decision from now on to `sink`.
    pub fn keep_in(&self, sink: Arc<dyn DecisionSink>) {
        self.write().sink = Some(sink);
    }

    /// Statistics of the [`DecisionSink`].
    pub fn stats(&self) -> SinkStats {
        self.read().sink.as_ref().map(|sink| sink.stats()).unwrap_or_default()
    }

    fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the state; records first if the lease has expired at `now`.
    fn read_at(&self, now: Moment) -> RwLockReadGuard<'_, Published> {
        let published = self.read();
        if !published.is_overdue(now) {
            return published;
        }
        drop(published);
        self.write().lapse(now);
        self.read()
    }

    /// The verdict at `now`: the last one published, or a closed one if its lease has expired.
    pub fn verdict(&self, now: Moment) -> Verdict {
        let published = self.read_at(now);
        let last = published.verdict.clone();
        // A released gate opens with the next verdict, not by itself.
        let mut verdict = if published.holds.is_empty() { last } else { published.held(last) };
        if verdict.inputs.evaluation.is_too_late() && verdict.inputs.holds.is_empty() {
            let late = now.since(verdict.expires);
            verdict.reason = format!(
                "the last verdict ran out {late:.1?} ago; the federation's health is not being watched"
            );
        }
        verdict
    }

    /// How long the gate has been open at `now`; `None` if it is closed.
    pub fn open_for(&self, now: Moment) -> Option<Duration> {
        let published = self.read_at(now);
        let is_open = published.verdict.decision == Decision::Open && published.holds.is_empty();
        published.opened.filter(|_| is_open).map(|opened| now.since(opened))
    }

    /// Admits an operation of `class` at `now` and returns the number of the admitting decision, or the reason why not.
    pub fn admit(&self, now: Moment, class: OperationClass) -> Result<u64, GateClosed> {
        let published = self.read();
        let verdict = &published.verdict;
        let is_held = !published.holds.is_empty();
        if verdict.admits(class) && now < verdict.expires && !is_held {
            return Ok(verdict.sequence);
        }
        drop(published);
        Err(GateClosed { class, reason: self.verdict(now).refusal(class) })
    }

    /// Decision for every class at `now`, with its demand.
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

    /// Members that were lost or had left when the last verdict was published.
    pub fn lost(&self) -> Vec<NodeId> {
        let published = self.read();
        let is_lost = |member: &&MemberFacts| matches!(member.state, MemberState::Down | MemberState::Left);
        let lost = published.verdict.inputs.members.iter().filter(is_lost);
        lost.map(|member| member.name.clone()).collect()
    }

    /// The decisions up to `now`, oldest first, at most 1,024.
    pub fn history(&self, now: Moment) -> Vec<GateRecord> {
        self.read_at(now).history.iter().cloned().collect()
    }

    /// Publishes `verdict` at `now`, which is `at` on the wall clock (read after `now`). If it differs from the
    /// previous one in more than its lease, it is recorded with the next sequence number. Returns the records that no
    /// event has reported yet: this one, and one of a lease that expired before it.
    pub(super) fn publish(&self, verdict: Verdict, now: Moment, at: WallTime) -> Vec<GateRecord> {
        let mut published = self.write();
        published.lapse(now);
        let lease = verdict.expires.since(now);
        let lease_ms = lease.as_nanos().div_ceil(1_000_000) as u64;
        let record = published.take(verdict, at);
        if published.verdict.decision == Decision::Open {
            published.opened.get_or_insert(now);
        }
        (published.granted, published.expires_at) = (now, WallTime(at.0 + lease_ms));
        published.untold.take().into_iter().chain(record).collect()
    }

    /// Keeps the gate closed on behalf of `by`, whatever the members' health, until [`GateReader::release`]. Returns
    /// the records that no event has reported yet.
    pub fn hold(&self, by: &ActorName, reason: &str, now: Moment, at: WallTime) -> Vec<GateRecord> {
        let mut published = self.write();
        published.lapse(now);
        published.holds.insert(by.clone(), reason.to_owned());
        let verdict = published.verdict.clone();
        let record = published.take(verdict, at);
        published.untold.take().into_iter().chain(record).collect()
    }

    /// Ends the hold of `by`. The gate opens with the next verdict that says so.
    pub fn release(&self, by: &ActorName) {
        let is_held = self.read().holds.contains_key(by);
        if is_held {
            self.write().holds.remove(by);
        }
    }
}

/// Lets supervision keep the gate closed.
#[derive(Clone)]
pub struct GateHold {
    /// The gate.
    pub gate: GateReader,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Receives the resulting decisions.
    pub events: EventBus,
}

impl ConsensusHalt for GateHold {
    fn halt(&self, by: &ActorName, reason: &str) {
        let now = self.clock.now();
        for record in self.gate.hold(by, reason, now, self.clock.wall()) {
            self.events.tell(record.into());
        }
    }

    fn resume(&self, by: &ActorName) {
        self.gate.release(by);
    }
}

#[cfg(test)]
mod tests {

    use super::super::decision::tests::inputs;
    use super::*;

    fn verdict(decision: Decision, healthy: usize, expires_ms: u64) -> Verdict {
        let verdict = Verdict::of(inputs(healthy), Moment::at(Duration::from_millis(expires_ms)));
        assert_eq!(verdict.decision, decision);
        verdict
    }

    /// Publishes long before any lease expires.
    fn published(reader: &GateReader, verdict: Verdict, wall_ms: u64) -> Option<GateRecord> {
        let mut records = reader.publish(verdict, Moment::ORIGIN, WallTime(wall_ms));
        assert!(records.len() <= 1, "{records:?}");
        records.pop()
    }

    fn hold(reader: &GateReader, by: &'static str, reason: &str) -> Option<GateRecord> {
        reader.hold(&ActorName::literal(by), reason, Moment::ORIGIN, WallTime(1)).pop()
    }

    #[test]
    fn a_verdict_that_ran_out_halts_whoever_asks() {
        let reader = GateReader::unknown(3);
        published(&reader, verdict(Decision::Open, 4, 800), 0);
        let admit = |ms| reader.admit(Moment::at(Duration::from_millis(ms)), OperationClass::Vote);
        assert_eq!(admit(799), Ok(1));
        let halt = admit(800).expect_err("the lease ran out");
        assert!(halt.reason.contains("ran out"), "{}", halt.reason);
    }

    #[test]
    fn renewals_keep_the_sequence_and_changes_are_recorded() {
        let reader = GateReader::unknown(3);
        let publish = |decision, healthy, expires| {
            published(&reader, verdict(decision, healthy, expires), expires).map(|r| r.sequence)
        };
        assert_eq!(publish(Decision::Closed, 1, 100), Some(1));
        assert_eq!(publish(Decision::Closed, 1, 200), None);
        assert_eq!(publish(Decision::Open, 3, 300), Some(2));
        assert_eq!(publish(Decision::Open, 4, 400), Some(3));
        assert_eq!(publish(Decision::Open, 4, 500), None);
        assert_eq!(reader.history(Moment::ORIGIN).iter().map(|r| r.healthy).collect::<Vec<_>>(), [1, 3, 4]);
    }

    #[test]
    fn a_held_gate_stays_closed_whatever_the_health_until_everyone_has_released_it() {
        let reader = GateReader::unknown(3);
        let name = ActorName::literal;
        published(&reader, verdict(Decision::Open, 4, 900), 0);
        let held = hold(&reader, "chain", "chain is corrupt").expect("a record");
        assert_eq!((held.sequence, held.decision), (2, Decision::Closed));
        assert!(held.reason.contains("chain is corrupt"), "{}", held.reason);
        let now = Moment::at(Duration::from_millis(10));
        assert!(reader.admit(now, OperationClass::Vote).is_err());
        assert_eq!(published(&reader, verdict(Decision::Open, 4, 950), 2), None, "nothing new");
        hold(&reader, "critical", "too many restarts").expect("another reason");
        reader.release(&name("chain"));
        reader.release(&name("sync"));
        published(&reader, verdict(Decision::Open, 4, 950), 4);
        let verdict_held = reader.verdict(now);
        assert_eq!(verdict_held.decision, Decision::Closed);
        assert!(verdict_held.would_change.contains("critical"), "{}", verdict_held.would_change);
        reader.release(&name("critical"));
        assert!(reader.admit(now, OperationClass::Vote).is_err(), "it opens with a verdict, not by itself");
        let opened = published(&reader, verdict(Decision::Open, 4, 950), 5).expect("a record");
        assert_eq!(
            (opened.decision, reader.admit(now, OperationClass::Vote)),
            (Decision::Open, Ok(opened.sequence))
        );
    }

    /// Stores all records.
    #[derive(Default)]
    struct Taken(std::sync::Mutex<Vec<GateRecord>>);

    impl DecisionSink for Taken {
        fn keep(&self, record: &GateRecord) {
            self.0.lock().expect("not poisoned").push(record.clone());
        }

        fn stats(&self) -> SinkStats {
            SinkStats { written: self.0.lock().expect("not poisoned").len() as u64, dropped: 0 }
        }
    }

    type Finds = fn(&GateReader, Moment);

    #[test]
    fn a_lease_that_ran_out_is_recorded_once_as_of_its_end_by_whoever_finds_it_first() {
        let at = |ms| Moment::at(Duration::from_millis(ms));
        let votes: Finds = |gate, now| drop(gate.admit(now, OperationClass::Vote));
        let publishes: Finds = |gate, now| {
            gate.publish(verdict(Decision::Closed, 2, 9_000), now, WallTime(0));
        };
        let holds: Finds = |gate, now| {
            gate.hold(&ActorName::literal("chain"), "corrupt", now, WallTime(0));
        };
        let found: [(&str, Finds); 5] = [
            ("who asks to vote", votes),
            ("who reads the verdict", |gate, now| drop(gate.verdict(now))),
            ("who reads the log", |gate, now| drop(gate.history(now))),
            ("who publishes", publishes),
            ("who holds", holds),
        ];
        for (who, finds) in found {
            let (reader, taken) = (GateReader::unknown(3), Arc::new(Taken::default()));
            reader.keep_in(taken.clone());
            // Renewed at 1,200, which is 51,200 on the wall clock, until 2,000.
            reader.publish(verdict(Decision::Open, 4, 1_500), at(1_000), WallTime(51_000));
            reader.publish(verdict(Decision::Open, 4, 2_000), at(1_200), WallTime(51_200));
            assert_eq!(reader.history(at(1_999)).len(), 1, "{who}");
            finds(&reader, at(5_000));
            finds(&reader, at(6_000));
            let history = reader.history(at(7_000));
            let lapse = &history[1];
            assert_eq!((lapse.sequence, lapse.decision, lapse.healthy), (2, Decision::Closed, 4), "{who}");
            assert_eq!(lapse.at, WallTime(52_000), "{who} found it at 55,000");
            assert_eq!(
                lapse.inputs.evaluation,
                Evaluation::Lease { granted_ms: 800, age_ms: 3_800 },
                "{who}"
            );
            assert!(lapse.reason.contains("ran out after 800 ms"), "{who}: {}", lapse.reason);
            let leases =
                history.iter().filter(|record| matches!(record.inputs.evaluation, Evaluation::Lease { .. }));
            assert_eq!(leases.filter(|record| record.inputs.holds.is_empty()).count(), 1, "{who}");
            assert!(history.iter().all(|record| decide(&record.inputs) == *record.outcome), "{who}");
            assert_eq!(*taken.0.lock().expect("not poisoned"), history, "{who}");
            assert_eq!(reader.stats().written, history.len() as u64);
        }
    }

    #[test]
    fn whoever_publishes_next_is_told_of_a_lease_that_ran_out_and_only_once() {
        let at = |ms| Moment::at(Duration::from_millis(ms));
        let reader = GateReader::unknown(3);
        let publish = |now, expires| -> Vec<_> {
            let records = reader.publish(verdict(Decision::Open, 4, expires), at(now), WallTime(now));
            records.into_iter().map(|record| (record.sequence, record.decision)).collect()
        };
        assert_eq!(publish(0, 800), [(1, Decision::Open)]);
        assert!(reader.admit(at(900), OperationClass::Vote).is_err());
        assert!(reader.verdict(at(900)).reason.contains("ran out 100.0ms ago"));
        assert_eq!(publish(1_000, 1_800), [(2, Decision::Closed), (3, Decision::Open)]);
        assert_eq!(reader.admit(at(1_100), OperationClass::Vote), Ok(3));
        assert_eq!(publish(1_500, 2_300), []);
    }

    #[test]
    fn the_history_is_bounded_and_keeps_the_newest() {
        let reader = GateReader::unknown(3);
        for n in 0..HISTORY_MAX + 10 {
            published(&reader, verdict(Decision::Closed, n % 2, 1), n as u64);
        }
        let history = reader.history(Moment::ORIGIN);
        assert_eq!((history.len(), history[0].sequence), (HISTORY_MAX, 11));
    }

    #[test]
    fn every_record_gives_its_verdict_again_when_its_inputs_are_decided_anew() {
        let reader = GateReader::unknown(3);
        for healthy in [1, 3, 4, 2] {
            published(&reader, Verdict::of(inputs(healthy), Moment::at(Duration::from_secs(1))), 0);
        }
        hold(&reader, "chain", "chain is corrupt").expect("a record");
        let history = reader.history(Moment::ORIGIN);
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
        published(&reader, Verdict::of(inputs.clone(), Moment::at(Duration::from_secs(1))), 0);
        let name = |name| NodeId::new(name).expect("a name");
        assert_eq!(reader.lost(), [name("node-3")]);
        inputs.members[3].state = MemberState::Left;
        published(&reader, Verdict::of(inputs, Moment::ORIGIN), 0);
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
            published(&reader, Verdict::of(inputs, expires), 0)
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
