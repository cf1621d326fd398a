//! The report of a run, as a table for people and as JSON for programs.
//!
//! Times named `at_ms` are milliseconds since the run began.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alys_node::ops::view::GateDecision;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock;
use crate::invariant::{self, InvariantResult};
use crate::record::{MemberRecord, Record};
use crate::runner::{Failure, RunOutcome};
use crate::scenario::Scenario;
use crate::slo::{self, Slo};
use crate::step::{Action, Step};
use crate::timeline::{self, LifeLine};
use crate::timing::{Fault, Timings, percentile};
use crate::topology::Topology;

/// The report of a run. Serialises as the JSON report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the simulator.
    pub version: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Description of the scenario in one sentence; may be empty.
    pub about: String,
    /// `process`: every member was a process of its own.
    pub mode: String,
    /// Start of the run in UTC, such as `2026-01-31T12:00:00Z`.
    pub started: String,
    /// Time between blocks, in milliseconds.
    pub block_time_ms: u64,
    /// Seed of all randomness.
    pub seed: u64,
    /// Whether every step succeeded, every invariant held and every SLO was met.
    pub passed: bool,
    /// Duration of the run, in milliseconds.
    pub duration_ms: u64,
    /// Final state of every member, in genesis order.
    pub members: Vec<MemberLine>,
    /// Every step that was started.
    pub steps: Vec<StepLine>,
    /// Trials, if some steps are repeated or random; otherwise empty.
    pub trials: Vec<TrialLine>,
    /// Every gate decision.
    pub gate: Vec<GateLine>,
    /// Every block.
    pub blocks: Vec<BlockLine>,
    /// Every failure of an actor and every restart of a member.
    pub restarts: Vec<RestartLine>,
    /// Durations measured in the run.
    pub timings_ms: TimingLines,
    /// Result of every SLO of the scenario.
    pub expectations: Vec<ExpectationLine>,
    /// Result of every invariant that applies.
    pub invariants: Vec<InvariantLine>,
    /// The step that failed, if any.
    pub failure: Option<Failure>,
}

/// Why a text is not a report.
#[derive(Debug, Error)]
#[error("is no report of `federation-sim run --output json`: {0}")]
pub struct NoReport(#[from] serde_json::Error);

/// A member as last observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLine {
    /// Name of the member.
    pub name: String,
    /// Height of its chain.
    pub height: u64,
    /// Decision of its gate; closed if the member was never observed.
    pub gate: GateDecision,
    /// Number of incarnations observed.
    pub incarnations: usize,
    /// Reason of its gate, or why the member did not answer.
    pub reason: String,
    /// State changes of the member, oldest first.
    pub lives: Vec<LifeLine>,
    /// Blocks of the member, by height.
    pub blocks: Vec<MemberBlockLine>,
}

/// A block as one member obtained it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBlockLine {
    /// Height of the block.
    pub height: u64,
    /// Time the member decided or adopted it, milliseconds since the run began.
    pub at_ms: u64,
    /// Whether the member fetched it from a peer instead of deciding it.
    pub adopted: bool,
}

/// A section of the steps: one repetition, one random fault, or the steps in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialLine {
    /// Index of its first step, from 0.
    pub first_step: usize,
    /// Number of the repetition, from 1; `None` for steps that are not repeated.
    pub time: Option<usize>,
    /// Total number of repetitions; `None` for steps that are not repeated.
    pub of: Option<usize>,
}

/// A failure of an actor with the supervision decision, or a restart of a whole member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartLine {
    /// Time of the failure or of the member's restart, milliseconds since the run began.
    pub at_ms: u64,
    /// Name of the member.
    pub member: String,
    /// Name of the actor; `None` for the member's process.
    pub actor: Option<String>,
    /// Decision of the supervision, such as `restart` or `stay_down`; `restart` for a process.
    pub decision: String,
    /// Reason of the failure or restart.
    pub reason: String,
    /// Downtime in milliseconds; `None` if it did not come back.
    pub away_ms: Option<u64>,
}

/// A step that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLine {
    /// Time the step was applied, milliseconds since the run began.
    pub at_ms: u64,
    /// Description of the step in one sentence.
    pub step: String,
    /// Kind of the step, the value of `do` in scenarios.
    pub kind: String,
    /// Members the step names.
    pub members: Vec<String>,
    /// Whether the step is an action, rather than a check.
    pub acts: bool,
    /// Time until its effect was observed, in milliseconds; `None` if it never was.
    pub took_effect_ms: Option<u64>,
}

/// A gate decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateLine {
    /// Time of the decision, milliseconds since the run began.
    pub at_ms: u64,
    /// Member the gate belongs to.
    pub member: String,
    /// The decision.
    pub decision: GateDecision,
    /// Number of healthy members counted.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason of the decision.
    pub reason: String,
}

/// A block, as recorded by the first member that decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLine {
    /// Height of the block.
    pub height: u64,
    /// Time it was decided, milliseconds since the run began.
    pub at_ms: u64,
    /// Member that built it.
    pub proposer: String,
    /// Round in which it was decided.
    pub round: u32,
    /// Signers of the certificate that this member has.
    pub signers: Vec<String>,
}

/// Durations measured in the run, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingLines {
    /// Time between consecutive blocks of an undisturbed federation.
    pub block_interval: TimingLine,
    /// Time between consecutive blocks while enough members run, but not all.
    pub shorthanded_interval: TimingLine,
    /// Time from a proposal to its certificate, at the proposer.
    pub proposal_to_certificate: TimingLine,
    /// Time from the fault that leaves too few healthy members to the gate's closing, for each survivor.
    pub fault_to_halt: TimingLine,
    /// `fault_to_halt` by kind of fault; only kinds that occurred.
    pub fault_to_halt_after: BTreeMap<String, TimingLine>,
    /// Time from the step that brings enough members together to the next block.
    pub back_to_block: TimingLine,
}

/// Percentiles by nearest rank; `None` without samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingLine {
    /// Minimum.
    pub min: Option<u64>,
    /// Median.
    pub p50: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// Maximum.
    pub max: Option<u64>,
    /// Number of samples.
    pub count: usize,
}

impl TimingLine {
    fn of(samples: &[u64]) -> Self {
        let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(samples, percent));
        Self { min: samples.iter().min().copied(), p50, p99, max, count: samples.len() }
    }
}

/// An SLO and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationLine {
    /// The SLO in one sentence.
    pub expected: String,
    /// Name of the timing.
    pub timing: String,
    /// Kind of fault the samples are restricted to, if any.
    pub after: Option<String>,
    /// Value of the SLO's percentile, in milliseconds; `None` without samples.
    pub value_ms: Option<u64>,
    /// Number of samples.
    pub count: usize,
    /// Whether the SLO was met.
    pub held: bool,
    /// Why the SLO failed; empty if it was met.
    pub problem: String,
}

/// An invariant and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvariantLine {
    /// Name of the invariant.
    pub name: String,
    /// Whether it held.
    pub held: bool,
    /// Number of facts checked; with none, the invariant does not hold.
    pub observations: u64,
    /// Facts that contradict it, in sentences: the first few, and the number of further ones.
    pub violations: Vec<String>,
}

impl Report {
    /// Creates the report of a run. Verifies every certificate, which takes about a millisecond each.
    pub fn of(scenario: &Scenario, seed: u64, outcome: &RunOutcome, now_ms: u64) -> Self {
        let RunOutcome { record, failure } = outcome;
        let findings = invariant::check_all(record);
        let since = |at_ms: u64| at_ms.saturating_sub(record.started_ms);
        let timings = Timings::of(record);
        let expectations: Vec<_> =
            scenario.bars.iter().map(|slo| ExpectationLine::of(slo, &timings)).collect();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            mode: "process".to_owned(),
            started: clock::date(record.started_ms),
            block_time_ms: u64::try_from(scenario.block_time.as_millis()).unwrap_or(u64::MAX),
            seed,
            passed: failure.is_none()
                && findings.iter().all(InvariantResult::held)
                && expectations.iter().all(|line| line.held),
            duration_ms: since(now_ms),
            members: member_lines(record),
            steps: step_lines(record),
            trials: trial_lines(scenario, record.steps.len()),
            restarts: restart_lines(record),
            gate: gate_lines(record),
            blocks: block_lines(record),
            timings_ms: TimingLines::from(&timings),
            expectations,
            invariants: findings.iter().map(InvariantLine::from).collect(),
            failure: failure.clone(),
        }
    }

    /// The report as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has string keys and finite numbers only")
    }

    /// The report as JSON on one line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a report has string keys and finite numbers only")
    }

    /// Reads a report from JSON.
    pub fn from_json(text: &str) -> Result<Self, NoReport> {
        Ok(serde_json::from_str(text)?)
    }

    /// The report as a table, with colours if `colour`.
    pub fn to_table(&self, colour: bool) -> String {
        let mut text = String::new();
        self.write_table(&mut text, colour).expect("writing to a string does not fail");
        text
    }

    fn write_table(&self, text: &mut String, colour: bool) -> std::fmt::Result {
        let mark = |good: bool, words: &str| match (colour, good) {
            (false, _) => words.to_owned(),
            (true, true) => format!("\x1b[32m{words}\x1b[0m"),
            (true, false) => format!("\x1b[31m{words}\x1b[0m"),
        };
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        writeln!(text, "\nsteps")?;
        for step in &self.steps {
            let took = step.took_effect_ms.map_or("never".to_owned(), |ms| format!("{:.2} s", seconds(ms)));
            let took = mark(step.took_effect_ms.is_some(), &format!("{took:>9}"));
            writeln!(text, "  {:>8.2} s  {took}  {}", seconds(step.at_ms), step.step)?;
        }
        writeln!(text, "\nmembers")?;
        for member in &self.members {
            let MemberLine { name, height, gate, incarnations, .. } = member;
            writeln!(text, "  {name:<12}  height {height:>5}  gate {gate:<6}  incarnations {incarnations}")?;
        }
        let rounds = self.blocks.iter().filter(|block| block.round > 0).count();
        let (blocks, decisions) = (self.blocks.len(), self.gate.len());
        writeln!(text, "\n{blocks} blocks, {rounds} of them in a later round; {decisions} gate decisions")?;
        writeln!(text, "\ntimings                       p50      p99      max    count   (ms)")?;
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        for (name, line) in self.timings_ms.named() {
            let [p50, p99, max] = [line.p50, line.p99, line.max].map(number);
            writeln!(text, "  {name:<24} {p50:>8} {p99:>8} {max:>8} {:>8}", line.count)?;
        }
        if !self.expectations.is_empty() {
            writeln!(text, "\nexpectations                           (ms)    count")?;
        }
        for line in &self.expectations {
            let held = mark(line.held, if line.held { "held" } else { "NOT HELD" });
            writeln!(text, "  {:>42} {:>8}  {held}  {}", number(line.value_ms), line.count, line.expected)?;
        }
        writeln!(text, "\ninvariants                        observations")?;
        for line in &self.invariants {
            let held = mark(line.held, if line.held { "held" } else { "NOT HELD" });
            writeln!(text, "  {:<32} {:>11}  {held}", line.name, line.observations)?;
        }
        let verdict = mark(self.passed, if self.passed { "passed" } else { "FAILED" });
        let duration = seconds(self.duration_ms);
        writeln!(text, "\n{} {verdict} in {duration:.1} s, seed {}", self.scenario, self.seed)
    }

    /// Explains a failed run: expected and observed, violations, and the final state of every member. Empty if the run
    /// passed.
    pub fn complaint(&self) -> String {
        let mut lines = Vec::new();
        if let Some(Failure { expected, seen }) = &self.failure {
            lines.push(format!("expected  {expected}"));
            lines.push(format!("seen      {seen}"));
        }
        for line in self.invariants.iter().filter(|line| !line.held && line.observations == 0) {
            lines.push(format!("violated  {}: nothing was observed that could show it", line.name));
        }
        for line in self.expectations.iter().filter(|line| !line.held) {
            lines.push(format!("expected  {}", line.expected));
            lines.push(format!("seen      {}", line.problem));
        }
        for line in &self.invariants {
            let name = &line.name;
            lines.extend(line.violations.iter().map(|violation| format!("violated  {name}: {violation}")));
        }
        if !lines.is_empty() {
            for MemberLine { name, height, gate, reason, .. } in &self.members {
                lines.push(format!("member    {name}: height {height}, gate {gate}: {reason}"));
            }
        }
        lines.join("\n")
    }
}

impl ExpectationLine {
    fn of(slo: &Slo, timings: &Timings) -> Self {
        let slo::SloResult { value_ms, count, problem } = slo.evaluate(timings);
        let held = problem.is_none();
        Self {
            expected: slo.to_string(),
            timing: slo.timing.as_str().to_owned(),
            after: slo.after.map(|after| after.as_str().to_owned()),
            value_ms,
            count,
            held,
            problem: problem.unwrap_or_default(),
        }
    }
}

impl TimingLines {
    fn named(&self) -> Vec<(String, &TimingLine)> {
        let named = |name: &str, line| (name.to_owned(), line);
        let mut lines = vec![
            named("block interval", &self.block_interval),
            named("the same shorthanded", &self.shorthanded_interval),
            named("proposal to certificate", &self.proposal_to_certificate),
            named("fault to halt", &self.fault_to_halt),
        ];
        let after = self.fault_to_halt_after.iter().filter(|_| self.fault_to_halt_after.len() > 1);
        lines.extend(after.map(|(fault, line)| (format!("  after {fault}"), line)));
        lines.push(named("back to block", &self.back_to_block));
        lines
    }
}

impl From<&Timings> for TimingLines {
    fn from(timings: &Timings) -> Self {
        Self {
            block_interval: TimingLine::of(&timings.block_interval),
            shorthanded_interval: TimingLine::of(&timings.shorthanded_interval),
            proposal_to_certificate: TimingLine::of(&timings.proposal_to_certificate),
            fault_to_halt: TimingLine::of(&timings.fault_to_halt(None)),
            fault_to_halt_after: Fault::ALL
                .into_iter()
                .map(|fault| (fault.as_str().to_owned(), TimingLine::of(&timings.fault_to_halt(Some(fault)))))
                .filter(|(_, line)| line.count > 0)
                .collect(),
            back_to_block: TimingLine::of(&timings.back_to_block),
        }
    }
}

/// Number of violations an invariant lists in full; further ones are only counted.
const VIOLATIONS_LISTED: usize = 5;

impl From<&InvariantResult> for InvariantLine {
    fn from(finding: &InvariantResult) -> Self {
        let mut violations: Vec<_> = finding.violations.iter().take(VIOLATIONS_LISTED).cloned().collect();
        if let Some(more) = finding.violations.len().checked_sub(VIOLATIONS_LISTED).filter(|more| *more > 0) {
            violations.push(format!("and {more} more"));
        }
        let (held, observations) = (finding.held(), finding.observations);
        Self { name: finding.name.to_owned(), held, observations, violations }
    }
}

fn step_lines(record: &Record) -> Vec<StepLine> {
    let mut topology = Topology::new(&record.roster);
    let line = |step: &crate::record::StepRecord| {
        let members = match &step.step {
            Step::Act(action) => {
                let members = topology.members_of(action);
                topology.apply(action);
                members
            }
            Step::Check(check) => check.members().to_vec(),
        };
        StepLine {
            at_ms: step.at_ms.saturating_sub(record.started_ms),
            step: step.step.to_string(),
            kind: step.step.kind().to_owned(),
            members,
            acts: matches!(step.step, Step::Act(_)),
            took_effect_ms: step.done_ms.map(|done_ms| done_ms.saturating_sub(step.at_ms)),
        }
    };
    record.steps.iter().map(line).collect()
}

fn trial_lines(scenario: &Scenario, steps: usize) -> Vec<TrialLine> {
    let begun = scenario.trials.iter().filter(|trial| trial.first_step < steps);
    let line = |trial: &crate::scenario::Trial| TrialLine {
        first_step: trial.first_step,
        time: trial.time.map(|(time, _)| time),
        of: trial.time.map(|(_, of)| of),
    };
    begun.map(line).collect()
}

fn restart_lines(record: &Record) -> Vec<RestartLine> {
    let since = |at_ms: u64| at_ms.saturating_sub(record.started_ms);
    let of_actors = record.members.iter().flat_map(|(name, member)| {
        member.attempts.values().map(move |attempt| {
            let failure = &attempt.failure;
            RestartLine {
                at_ms: since(failure.at_ms),
                member: name.clone(),
                actor: Some(failure.actor.clone()),
                decision: attempt.decision.clone(),
                reason: format!("{} ({}): {}", failure.kind, failure.class, failure.message),
                away_ms: attempt.away_ms,
            }
        })
    });
    let mut topology = Topology::new(&record.roster);
    let mut of_members = Vec::new();
    for step in &record.steps {
        let Step::Act(action) = &step.step else { continue };
        if let Action::Restart { .. } = action {
            of_members.extend(topology.members_of(action).into_iter().map(|member| RestartLine {
                at_ms: since(step.at_ms),
                member,
                actor: None,
                decision: "restart".to_owned(),
                reason: "a step of the scenario".to_owned(),
                away_ms: step.done_ms.map(|done_ms| done_ms.saturating_sub(step.at_ms)),
            }));
        }
        topology.apply(action);
    }
    let mut lines: Vec<_> = of_actors.chain(of_members).collect();
    lines.sort_by_key(|line| line.at_ms);
    lines
}

fn member_blocks(record: &Record, member: &MemberRecord) -> Vec<MemberBlockLine> {
    let first = member.blocks.values().filter_map(|blocks| blocks.first());
    let line = |block: &alys_node::ops::view::BlockView| MemberBlockLine {
        height: block.height,
        at_ms: block.decided_at_ms.saturating_sub(record.started_ms),
        adopted: block.adopted,
    };
    first.map(line).collect()
}

fn member_lines(record: &Record) -> Vec<MemberLine> {
    let since = |line: LifeLine| LifeLine { at_ms: line.at_ms.saturating_sub(record.started_ms), ..line };
    let line = |name: &String| {
        let member = record.members.get(name);
        let last = member.and_then(|member| member.last.as_ref());
        let silence = member.and_then(|member| member.silence.clone());
        MemberLine {
            name: name.clone(),
            height: last.map_or(0, |last| last.height),
            gate: last.map_or(GateDecision::Closed, |last| last.gate),
            incarnations: member.map_or(0, |member| member.incarnations.len()),
            reason: silence.or(last.map(|last| last.reason.clone())).unwrap_or("never seen".to_owned()),
            lives: timeline::of(record, name).into_iter().map(since).collect(),
            blocks: member.map(|member| member_blocks(record, member)).unwrap_or_default(),
        }
    };
    record.roster.iter().map(line).collect()
}

fn gate_lines(record: &Record) -> Vec<GateLine> {
    let of_member = |(name, member): (&String, &crate::record::MemberRecord)| {
        let line = |decision: &alys_node::ops::view::GateRecord| GateLine {
            at_ms: decision.at_ms.saturating_sub(record.started_ms),
            member: name.clone(),
            decision: decision.decision,
            healthy: decision.healthy,
            required: decision.required,
            reason: decision.reason.clone(),
        };
        member.gate.values().map(line).collect::<Vec<_>>()
    };
    let mut lines: Vec<_> = record.members.iter().flat_map(of_member).collect();
    lines.sort_by_key(|line| line.at_ms);
    lines
}

fn block_lines(record: &Record) -> Vec<BlockLine> {
    let mut first = std::collections::BTreeMap::new();
    for (_, block) in record.blocks() {
        let known = first.entry(block.height).or_insert(block);
        if (block.adopted, block.decided_at_ms) < (known.adopted, known.decided_at_ms) {
            *known = block;
        }
    }
    let line = |block: &alys_node::ops::view::BlockView| BlockLine {
        height: block.height,
        at_ms: block.decided_at_ms.saturating_sub(record.started_ms),
        proposer: block.proposer.clone(),
        round: block.certificate.round,
        signers: block.certificate.signers.clone(),
    };
    first.into_values().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{block, empty, give};

    fn report(failure: Option<Failure>) -> Report {
        let scenario = Scenario::load("gating").expect("a shipped scenario");
        let mut record = empty();
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-2", block(1, 2));
        Report::of(&scenario, 42, &RunOutcome { record, failure }, 10_000)
    }

    #[test]
    fn the_json_has_exactly_the_agreed_keys() {
        let json: serde_json::Value = serde_json::from_str(&report(None).to_json()).expect("JSON");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            let mut keys: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
            keys.sort();
            keys
        };
        let sorted = |words: &str| {
            let mut words: Vec<_> = words.split(' ').map(str::to_owned).collect();
            words.sort();
            words
        };
        let top = "version scenario about mode started block_time_ms seed passed duration_ms members steps trials \
                   gate blocks restarts timings_ms expectations invariants failure";
        assert_eq!(keys(&json), sorted(top));
        assert_eq!(keys(&json["members"][0]), sorted("name height gate incarnations reason lives blocks"));
        assert_eq!(keys(&json["blocks"][0]), sorted("height at_ms proposer round signers"));
        assert_eq!(keys(&json["invariants"][0]), sorted("name held observations violations"));
        let timings = "block_interval shorthanded_interval proposal_to_certificate fault_to_halt fault_to_halt_after back_to_block";
        assert_eq!(keys(&json["timings_ms"]), sorted(timings));
        assert_eq!(keys(&json["timings_ms"]["fault_to_halt"]), sorted("min p50 p99 max count"));
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written_and_anything_else_is_refused() {
        let report = report(Some(Failure { expected: "5 blocks".to_owned(), seen: "none".to_owned() }));
        assert_eq!(Report::from_json(&report.to_json()).expect("a report"), report);
        let error = Report::from_json("{\"version\": \"0.1.0\"}").expect_err("not a report").to_string();
        assert!(error.contains("--output json`: missing field `scenario`"), "{error}");
    }

    #[test]
    fn failures_of_actors_and_restarts_of_members_are_listed_by_time() {
        use alys_node::ops::view::{AttemptView, FailureView};
        let mut record = empty();
        for (text, at_ms) in [("do='kill'\nmembers=['node-4']", 1_000), ("do='restart'", 3_000)] {
            let step = Step::from_table(text.parse().expect("TOML")).expect("a step");
            record.steps.push(crate::record::StepRecord { step, at_ms, done_ms: Some(at_ms + 400) });
        }
        let failure = FailureView {
            at_ms: 2_000,
            actor: "chain".to_owned(),
            kind: "panic".to_owned(),
            class: "transient".to_owned(),
            message: "a drill".to_owned(),
            location: None,
            backtrace: None,
        };
        let attempt =
            AttemptView { failure, decision: "restart".to_owned(), attempt: 1, delay_ms: 0, away_ms: None };
        let member = record.members.get_mut("node-2").expect("a member");
        member.attempts.insert((2_000, "chain".to_owned(), 1), attempt);
        let lines = restart_lines(&record);
        let told: Vec<_> = lines.iter().map(|l| (l.at_ms, l.member.as_str(), l.actor.as_deref())).collect();
        assert_eq!(told, [(2_000, "node-2", Some("chain")), (3_000, "node-4", None)]);
        assert_eq!((lines[0].reason.as_str(), lines[0].away_ms), ("panic (transient): a drill", None));
        assert_eq!(lines[1].away_ms, Some(400));
    }

    #[test]
    fn a_timing_that_breaks_its_bar_is_told_with_what_was_seen() {
        let mut scenario = Scenario::load("gating").expect("a shipped scenario");
        let text = "timing='proposal_to_certificate'\npercentile=50\nat_most='150ms'\nsamples=2";
        let slo =
            |text: &str| Slo::try_from(toml::from_str::<slo::Written>(text).expect("a bar")).expect("a bar");
        scenario.bars = vec![slo(text), slo(&text.replace("\nsamples=2", ""))];
        let mut record = empty();
        give(&mut record, "node-1", block(1, 1));
        let report = Report::of(&scenario, 42, &RunOutcome { record, failure: None }, 10_000);
        assert!(!report.passed);
        assert_eq!(report.expectations.iter().map(|line| line.held).collect::<Vec<_>>(), [false, true]);
        assert_eq!(report.expectations[1].value_ms, Some(100));
        let said = "expected  p50 of proposal_to_certificate at most 150ms\nseen      1 of 2 samples: they are taken at proposers, of blocks they decided themselves";
        assert!(report.complaint().contains(said), "{}", report.complaint());
        let table = report.to_table(false);
        assert!(table.contains("NOT HELD  p50 of proposal_to_certificate at most 150ms"), "{table}");
    }

    #[test]
    fn a_violated_invariant_fails_the_run_and_is_told() {
        let report = report(None);
        assert!(!report.passed);
        let complaint = report.complaint();
        assert!(complaint.contains("violated  one-block-per-height: height 1"), "{complaint}");
        assert!(complaint.contains("member    node-4: height 0, gate closed: never seen"), "{complaint}");
        assert!(report.to_table(false).contains("one-block-per-height                       2  NOT HELD"));
    }

    #[test]
    fn a_failed_step_is_told_with_what_was_expected_and_seen() {
        let failure = Failure { expected: "5 blocks".to_owned(), seen: "none".to_owned() };
        let complaint = report(Some(failure)).complaint();
        assert!(complaint.starts_with("expected  5 blocks\nseen      none\n"), "{complaint}");
    }
}
