//! Measures durations from the members' own timestamps.
//!
//! Members timestamp blocks and gate decisions with the wall clock they share, so no result includes the simulator's
//! polling interval. The steps alone determine what is measured in which period:
//!
//! ```text
//! wait_ready ─┐ calm: block intervals ┌─ kill … pause ─► closed    resume ─► block
//!             └───────────────────────┘         └ fault to halt ┘  └ back to block ┘
//! ```

use std::collections::BTreeMap;

use alys_node::ops::view::GateDecision;

use crate::record::{Record, StepRecord};
use crate::step::{Action, Check, Step};
use crate::topology::Topology;

/// All samples of a run, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Times between consecutive blocks, while all members run undisturbed and no step changes anything.
    pub block_interval: Vec<u64>,
    /// Times between consecutive blocks, while enough members run, but not all, and no step changes anything.
    pub shorthanded_interval: Vec<u64>,
    /// Times from a proposal to its certificate, at the proposer.
    pub proposal_to_certificate: Vec<u64>,
    /// Every gate that should close because a step left its member too few healthy members.
    pub halts: Vec<GateClosing>,
    /// Every fault that left all members enough healthy members, with the number of its step, from 1.
    pub without_halt: Vec<(usize, Fault)>,
    /// Times from the step that brings enough members together to the next block.
    pub back_to_block: Vec<u64>,
}

/// Kind of step that makes healthy members unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Members were killed.
    Kill,
    /// Members were told to stop.
    Stop,
    /// Members were paused.
    Pause,
    /// Links were cut.
    Cut,
}

impl Fault {
    /// Every kind of fault.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::Pause, Self::Cut];

    /// Name of the step in scenarios.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Cut => "cut",
        }
    }

    fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Kill { .. } => Some(Self::Kill),
            Action::Stop { .. } => Some(Self::Stop),
            Action::Pause { .. } => Some(Self::Pause),
            Action::Cut { .. } => Some(Self::Cut),
            _ => None,
        }
    }
}

/// A gate that should close because a step left its member too few healthy members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateClosing {
    /// Kind of the step.
    pub after: Fault,
    /// Time from the step to the gate's closing, in milliseconds; `None` if the gate had not closed by the next step
    /// that changes something.
    pub took_ms: Option<u64>,
}

impl Timings {
    /// Times from the step that leaves a member too few healthy members to its gate's closing; only after `fault` if
    /// given.
    pub fn fault_to_halt(&self, fault: Option<Fault>) -> Vec<u64> {
        let halts = self.halts.iter().filter(|halt| fault.is_none_or(|fault| halt.after == fault));
        halts.filter_map(|halt| halt.took_ms).collect()
    }

    /// Measures the durations in a record.
    pub fn of(record: &Record) -> Self {
        let mut turns = Turns::default();
        let mut topology = Topology::new(&record.roster);
        for (index, step) in record.steps.iter().enumerate() {
            turns.follow(record, index, step, &mut topology);
        }
        turns.calm.close(record.observed_ms);
        turns.shorthanded.close(record.observed_ms);
        let decided = record.decided();
        Self {
            block_interval: block_intervals(&decided, &turns.calm.stretches),
            shorthanded_interval: block_intervals(&decided, &turns.shorthanded.stretches),
            proposal_to_certificate: proposals(record),
            without_halt: turns.without_halt,
            halts: turns.faults.iter().map(|fallen| halt(record, fallen)).collect(),
            back_to_block: resumptions(&decided, &turns.returns),
        }
    }
}

/// Steps and periods that the measurements start from.
#[derive(Default)]
struct Turns {
    calm: Calm,
    shorthanded: Calm,
    faults: Vec<Fallen>,
    without_halt: Vec<(usize, Fault)>,
    returns: Vec<Stretch>,
}

/// Period from a step to the next step that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from_ms: u64,
    to_ms: u64,
}

impl Stretch {
    fn contains(self, at_ms: u64) -> bool {
        (self.from_ms..=self.to_ms).contains(&at_ms)
    }
}

/// A member that a step left with too few healthy members.
struct Fallen {
    member: String,
    after: Fault,
    when: Stretch,
}

/// Collects periods without disturbance.
#[derive(Default)]
struct Calm {
    since: Option<u64>,
    stretches: Vec<Stretch>,
}

impl Calm {
    fn open(&mut self, at_ms: u64) {
        self.since.get_or_insert(at_ms);
    }

    fn close(&mut self, at_ms: u64) {
        self.stretches.extend(self.since.take().map(|from_ms| Stretch { from_ms, to_ms: at_ms }));
    }
}

impl Turns {
    fn follow(&mut self, record: &Record, index: usize, step: &StepRecord, topology: &mut Topology) {
        match &step.step {
            Step::Act(action) if action.is_harmless() => {}
            Step::Act(action) => {
                self.calm.close(step.at_ms);
                self.shorthanded.close(step.at_ms);
                let changes =
                    |later: &&StepRecord| matches!(&later.step, Step::Act(next) if !next.is_harmless());
                let next = record.steps[index + 1..].iter().find(changes);
                let when = Stretch { from_ms: step.at_ms, to_ms: next.map_or(u64::MAX, |next| next.at_ms) };
                let before = topology.clone();
                topology.apply(action);
                let required = record.required;
                let falls = |name: &String| {
                    before.healthy_seen_by(name) >= required
                        && (1..required).contains(&topology.healthy_seen_by(name))
                };
                if let Some(after) = Fault::of(action) {
                    let fallen = record.roster.iter().filter(|name| falls(name));
                    let known = self.faults.len();
                    self.faults.extend(fallen.map(|name| Fallen { member: name.clone(), after, when }));
                    if self.faults.len() == known {
                        self.without_halt.push((index + 1, after));
                    }
                }
                if before.healthy_at_best() < required && topology.healthy_at_best() >= required {
                    self.returns.push(when);
                }
            }
            Step::Check(check) => {
                let settles = matches!(
                    check,
                    Check::WaitBlocks { .. } | Check::WaitReady { .. } | Check::WaitGate { .. }
                );
                let Some(done_ms) = step.done_ms.filter(|_| settles) else { return };
                if topology.is_whole() {
                    self.calm.open(done_ms);
                } else if topology.carries_at_full_speed() && topology.healthy_at_best() >= record.required {
                    self.shorthanded.open(done_ms);
                }
            }
        }
    }
}

fn block_intervals(decided: &BTreeMap<u64, u64>, calm: &[Stretch]) -> Vec<u64> {
    let pairs = decided.iter().zip(decided.iter().skip(1));
    pairs
        .filter(|((below, before), (height, after))| {
            **below + 1 == **height
                && calm.iter().any(|calm| calm.contains(**before) && calm.contains(**after))
        })
        .map(|((_, before), (_, after))| after.saturating_sub(*before))
        .collect()
}

fn proposals(record: &Record) -> Vec<u64> {
    let own = record.blocks().filter(|(name, block)| *name == block.proposer && !block.adopted);
    own.filter_map(|(_, block)| Some(block.decided_at_ms.saturating_sub(block.proposal_at_ms?))).collect()
}

fn halt(record: &Record, fallen: &Fallen) -> GateClosing {
    let gate = record.members.get(&fallen.member).map(|member| member.gate.values());
    let closed = gate.into_iter().flatten().filter(|decision| decision.decision == GateDecision::Closed);
    let first = closed.map(|decision| decision.at_ms).filter(|at_ms| fallen.when.contains(*at_ms)).min();
    GateClosing { after: fallen.after, took_ms: first.map(|first| first - fallen.when.from_ms) }
}

fn resumptions(decided: &BTreeMap<u64, u64>, returns: &[Stretch]) -> Vec<u64> {
    let next = |back: &Stretch| {
        let after = decided.values().filter(|at_ms| back.contains(**at_ms)).min()?;
        Some(after - back.from_ms)
    };
    returns.iter().filter_map(next).collect()
}

/// Value at `percent` of `samples` by nearest rank: the smallest sample that at least this percentage of the samples do
/// not exceed. `None` without samples.
pub fn percentile(samples: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use alys_node::ops::view::{BlockView, GateRecord};

    use super::*;
    use crate::record::tests::{block, empty, give};

    fn step(record: &mut Record, text: &str, at_ms: u64, done_ms: u64) {
        let step = Step::from_table(text.parse().expect("TOML")).expect("a step");
        record.steps.push(StepRecord { step, at_ms, done_ms: Some(done_ms) });
        record.observed_ms = record.observed_ms.max(done_ms);
    }

    fn decide(record: &mut Record, name: &str, sequence: u64, at_ms: u64, decision: GateDecision) {
        let member = record.members.get_mut(name).expect("a member");
        let (healthy, required, reason) = (2, 3, String::new());
        member
            .gate
            .insert((1, sequence), GateRecord { sequence, at_ms, decision, healthy, required, reason });
    }

    fn decided(record: &mut Record, height: u64, at_ms: u64) {
        give(record, "node-2", BlockView { decided_at_ms: at_ms, ..block(height, 1) });
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let table: [(&[u64], usize, Option<u64>); 6] = [
            (&[], 50, None),
            (&[7], 50, Some(7)),
            (&[7], 99, Some(7)),
            (&[4, 1, 3, 2], 50, Some(2)),
            (&[4, 1, 3, 2], 99, Some(4)),
            (&[5, 1, 3, 2, 4], 50, Some(3)),
        ];
        for (samples, percent, expected) in table {
            assert_eq!(percentile(samples, percent), expected, "p{percent} of {samples:?}");
        }
    }

    #[test]
    fn intervals_count_only_between_a_settled_wait_and_the_next_fault() {
        let mut record = empty();
        step(&mut record, "do='wait_ready'\nwithin='30s'", 0, 1_000);
        step(&mut record, "do='submit'\nmember='node-1'\ncount=1", 4_000, 4_010);
        step(&mut record, "do='kill'\nmembers=['node-4']", 8_000, 8_010);
        step(&mut record, "do='wait_blocks'\ncount=2\nwithin='30s'", 8_010, 15_000);
        step(&mut record, "do='restart'", 15_000, 16_000);
        step(&mut record, "do='wait_ready'\nwithin='30s'", 16_000, 17_000);
        step(&mut record, "do='wait_blocks'\ncount=2\nwithin='30s'", 17_000, 23_000);
        let times = [500, 2_500, 4_500, 6_510, 9_000, 11_000, 15_500, 17_500, 19_500, 21_490];
        for (height, at_ms) in (1..).zip(times) {
            decided(&mut record, height, at_ms);
        }
        assert_eq!(Timings::of(&record).block_interval, [2_000, 2_010, 2_000, 1_990]);
    }

    #[test]
    fn intervals_without_a_dead_member_are_told_apart() {
        let mut record = empty();
        step(&mut record, "do='kill'\nmembers=['node-4']", 1_000, 1_010);
        step(&mut record, "do='wait_blocks'\ncount=1\nwithin='30s'", 1_010, 3_000);
        step(&mut record, "do='wait_blocks'\ncount=2\nwithin='30s'", 3_000, 9_500);
        step(&mut record, "do='kill'\nmembers=['node-3']", 10_000, 10_010);
        for (height, at_ms) in (1..).zip([2_900, 5_000, 7_100, 9_000, 11_000]) {
            decided(&mut record, height, at_ms);
        }
        let timings = Timings::of(&record);
        assert_eq!((timings.block_interval, timings.shorthanded_interval), (vec![], vec![2_100, 1_900]));
    }

    #[test]
    fn halts_are_measured_at_each_survivor_of_the_fault_that_leaves_too_few() {
        let mut record = empty();
        step(&mut record, "do='kill'\nmembers=['node-4']", 1_000, 1_010);
        step(&mut record, "do='pause'\nmembers=['node-3']", 5_000, 5_010);
        step(&mut record, "do='resume'", 20_000, 20_010);
        decide(&mut record, "node-1", 1, 900, GateDecision::Closed);
        decide(&mut record, "node-1", 2, 950, GateDecision::Open);
        decide(&mut record, "node-1", 3, 6_100, GateDecision::Closed);
        decide(&mut record, "node-2", 1, 6_200, GateDecision::Closed);
        decide(&mut record, "node-3", 1, 20_050, GateDecision::Closed);
        let timings = Timings::of(&record);
        assert_eq!(timings.fault_to_halt(None), [1_100, 1_200]);
        assert_eq!(timings.fault_to_halt(Some(Fault::Pause)), [1_100, 1_200]);
        assert!(timings.fault_to_halt(Some(Fault::Kill)).is_empty());
        assert_eq!(timings.without_halt, [(1, Fault::Kill)], "three of four carry on");
    }

    #[test]
    fn a_split_in_half_halts_all_four_and_healing_it_brings_them_back() {
        let mut record = empty();
        step(&mut record, "do='cut'\nbetween=[['node-1','node-2'],['node-3','node-4']]", 1_000, 1_000);
        step(&mut record, "do='heal'", 20_000, 20_000);
        for (sequence, name) in (1..).zip(record.roster.clone()) {
            decide(&mut record, &name, sequence, 2_000 + sequence, GateDecision::Closed);
        }
        decided(&mut record, 1, 900);
        decided(&mut record, 2, 21_500);
        decided(&mut record, 3, 23_500);
        let timings = Timings::of(&record);
        assert_eq!(timings.fault_to_halt(Some(Fault::Cut)), [1_001, 1_002, 1_003, 1_004]);
        assert_eq!(timings.back_to_block, [1_500]);
    }

    #[test]
    fn the_fourth_member_brings_nothing_back() {
        let mut record = empty();
        step(&mut record, "do='kill'\nmembers=['node-4']", 1_000, 1_010);
        step(&mut record, "do='restart'", 5_000, 5_010);
        decided(&mut record, 1, 6_000);
        let timings = Timings::of(&record);
        assert_eq!((timings.halts, timings.back_to_block), (vec![], vec![]));
    }

    #[test]
    fn a_gate_that_stays_open_is_kept_as_one_that_should_have_closed() {
        let mut record = empty();
        step(&mut record, "do='kill'\nmembers=['node-3', 'node-4']", 1_000, 1_010);
        step(&mut record, "do='restart'", 5_000, 5_010);
        decide(&mut record, "node-1", 1, 2_000, GateDecision::Closed);
        decide(&mut record, "node-2", 1, 6_000, GateDecision::Closed);
        let halt = |took_ms| GateClosing { after: Fault::Kill, took_ms };
        assert_eq!(Timings::of(&record).halts, [halt(Some(1_000)), halt(None)]);
    }

    #[test]
    fn two_that_reach_each_other_through_a_third_are_not_expected_to_halt() {
        let mut record = empty();
        step(&mut record, "do='kill'\nmembers=['node-4']", 1_000, 1_010);
        step(&mut record, "do='cut'\nbetween=[['node-1'],['node-2']]", 5_000, 5_000);
        step(&mut record, "do='heal'", 9_000, 9_000);
        let timings = Timings::of(&record);
        assert_eq!((timings.halts, timings.back_to_block), (vec![], vec![]));
    }

    #[test]
    fn a_certificate_is_timed_at_the_proposer_who_decided_it_itself() {
        let mut record = empty();
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-1", BlockView { adopted: true, ..block(2, 1) });
        give(&mut record, "node-2", block(1, 1));
        assert_eq!(Timings::of(&record).proposal_to_certificate, [100]);
    }
}
