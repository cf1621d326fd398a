//! Evaluates a check against the observations: met, pending, or broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_node::ops::view::{GateDecision, GateRecord};

use crate::record::{Record, StepRecord};
use crate::step::{Action, Check, Expectation, Step};

/// Result of evaluating a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertionOutcome {
    /// The check holds.
    Met,
    /// The check does not hold yet; the text says what is missing.
    Pending(String),
    /// The check cannot hold any more; the text says what was observed.
    Broken(String),
}

/// A check in progress.
#[derive(Clone, Debug)]
pub struct Assertion<'a> {
    check: &'a Check,
    members: Vec<String>,
    since_ms: u64,
    heights: BTreeMap<String, u64>,
}

impl<'a> Assertion<'a> {
    /// Starts `check` on `members`; new blocks count from their heights in `record`.
    pub fn new(check: &'a Check, members: Vec<String>, record: &Record, now_ms: u64) -> Self {
        let heights = members.iter().map(|name| (name.clone(), record.height(name))).collect();
        Self { check, members, since_ms: now_ms, heights }
    }

    /// Evaluates the check against the record so far.
    pub fn evaluate(&self, record: &Record, now_ms: u64) -> AssertionOutcome {
        match self.check {
            Check::Wait { duration } if now_ms >= self.after(*duration) => AssertionOutcome::Met,
            Check::Wait { .. } => AssertionOutcome::Pending("the time is not over".to_owned()),
            Check::WaitBlocks { count, within, .. } => {
                let missing = self.each(record, |name| {
                    let (height, target) = (record.height(name), self.heights[name] + count);
                    (height < target).then(|| format!("{name} has height {height}, not yet {target}"))
                });
                self.until(missing, *within, now_ms)
            }
            Check::WaitGate { decision, within, .. } => {
                let missing = self.each(record, |name| gate_differs(record, name, *decision));
                self.until(missing, *within, now_ms)
            }
            Check::WaitReady { within, .. } => {
                let missing = self.each(record, |name| {
                    let reasons = record.fresh(name, self.since_ms)?.unready.as_ref()?;
                    Some(format!("{name} is not ready: {}", reasons.join(", ")))
                });
                self.until(missing, *within, now_ms)
            }
            Check::Expect(facts) => self.expect(facts, record, now_ms),
        }
    }

    fn expect(&self, facts: &Expectation, record: &Record, now_ms: u64) -> AssertionOutcome {
        let missing = self.each(record, |name| {
            let gate = facts.gate.and_then(|decision| gate_differs(record, name, decision));
            let low = facts.min_height.filter(|least| record.height(name) < *least);
            let low =
                low.map(|least| format!("{name} has height {}, less than {least}", record.height(name)));
            let absent = facts.transactions_included.then(|| transactions_missing(record, name)).flatten();
            let found = facts.finds.and_then(|members| finds_differ(record, name, members));
            let few = facts.healthy.and_then(|least| too_few_healthy(record, name, least));
            let apart = facts.blocks_apart_max.and_then(|most| too_far_apart(record, name, most));
            let silent = facts.says.as_ref().and_then(|text| says_otherwise(record, name, text));
            let down = facts.links_up.then(|| links_down(record, name)).flatten();
            let other =
                facts.link_versions.as_ref().and_then(|versions| versions_differ(record, name, versions));
            let proof = facts.evidence.as_ref().and_then(|against| evidence_differs(record, name, against));
            gate.or(few).or(low).or(absent).or(found).or(apart).or(silent).or(down).or(other).or(proof)
        });
        let missing = missing.or_else(|| facts.heights_equal.then(|| self.differ(record)).flatten());
        let Some(duration) = facts.no_block_for.or(facts.no_halt_for) else {
            return self.until(missing, facts.within.unwrap_or_default(), now_ms);
        };
        let new = if facts.no_block_for.is_some() { self.new_block(record) } else { self.new_halt(record) };
        if let Some(new) = new {
            return AssertionOutcome::Broken(new);
        }
        let over = now_ms >= self.after(duration);
        match missing {
            // A member that has not answered is no violation yet, unless the time is over.
            Some(missing) if self.all_answered(record) || over => AssertionOutcome::Broken(missing),
            Some(missing) => AssertionOutcome::Pending(missing),
            None if over => AssertionOutcome::Met,
            None => AssertionOutcome::Pending("the time is not over".to_owned()),
        }
    }

    /// What the first failing member is missing. A member that has not answered since the check began fails.
    fn each(&self, record: &Record, missing: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.members.iter().find_map(|name| {
            if record.fresh(name, self.since_ms).is_some() {
                return missing(name);
            }
            let silence = record.members.get(name).and_then(|member| member.silence.as_deref());
            Some(format!("{name} has not answered ({})", silence.unwrap_or("not asked yet")))
        })
    }

    fn until(&self, missing: Option<String>, within: Duration, now_ms: u64) -> AssertionOutcome {
        match missing {
            None => AssertionOutcome::Met,
            Some(missing) if now_ms < self.after(within) => AssertionOutcome::Pending(missing),
            Some(missing) if within.is_zero() => AssertionOutcome::Broken(missing),
            Some(missing) => {
                AssertionOutcome::Broken(format!("after {}: {missing}", humantime::format_duration(within)))
            }
        }
    }

    fn new_block(&self, record: &Record) -> Option<String> {
        self.members.iter().find_map(|name| {
            let (height, before) = (record.height(name), self.heights[name]);
            (height > before).then(|| format!("{name} went from height {before} to {height}"))
        })
    }

    fn new_halt(&self, record: &Record) -> Option<String> {
        self.members.iter().find_map(|name| {
            let closes = |decision: &&GateRecord| {
                decision.decision == GateDecision::Closed && decision.at_ms >= self.since_ms
            };
            let closed = record.members.get(name)?.gate.values().find(closes)?;
            Some(format!("{name}'s gate closed: {}", closed.reason))
        })
    }

    fn differ(&self, record: &Record) -> Option<String> {
        let heads: Vec<_> = self
            .members
            .iter()
            .map(|name| {
                let height = record.height(name);
                let blocks = record.members.get(name).and_then(|member| member.blocks.get(&height));
                let hash = blocks.and_then(|blocks| blocks.last()).map(|block| block.hash.clone());
                (name, height, hash.unwrap_or_default())
            })
            .collect();
        let distinct: BTreeSet<_> = heads.iter().map(|(_, height, hash)| (height, hash)).collect();
        (distinct.len() > 1).then(|| {
            let say = |(name, height, hash): &(&String, u64, String)| {
                format!("{name} at {height} {}", hash.get(..8).unwrap_or_default())
            };
            format!("heads differ: {}", heads.iter().map(say).collect::<Vec<_>>().join(", "))
        })
    }

    fn all_answered(&self, record: &Record) -> bool {
        self.members.iter().all(|name| record.fresh(name, self.since_ms).is_some())
    }

    fn after(&self, duration: Duration) -> u64 {
        self.since_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

fn too_few_healthy(record: &Record, name: &str, least: usize) -> Option<String> {
    let last = record.fresh(name, 0)?;
    (last.healthy < least)
        .then(|| format!("{name} counts {} healthy, less than {least}: {}", last.healthy, last.reason))
}

fn gate_differs(record: &Record, name: &str, decision: GateDecision) -> Option<String> {
    let last = record.fresh(name, 0)?;
    (last.gate != decision).then(|| format!("{name}'s gate is {}: {}", last.gate, last.reason))
}

fn finds_differ(record: &Record, name: &str, members: usize) -> Option<String> {
    let found = record.fresh(name, 0)?.finds;
    (found != members).then(|| format!("{name} finds the actors of {found} other members, not {members}"))
}

fn evidence_differs(record: &Record, name: &str, against: &[String]) -> Option<String> {
    let kept: BTreeSet<_> = record.members.get(name)?.evidence.iter().map(|kept| &kept.member).collect();
    (kept != against.iter().collect())
        .then(|| format!("{name} has evidence against {kept:?}, not {against:?}"))
}

fn links_down(record: &Record, name: &str) -> Option<String> {
    let down = &record.fresh(name, 0)?.links_down;
    (!down.is_empty()).then(|| format!("links of {name} are down: {}", down.join(", ")))
}

fn says_otherwise(record: &Record, name: &str, text: &str) -> Option<String> {
    let says = &record.fresh(name, 0)?.says;
    (!says.contains(text)).then(|| format!("{name} says {says:?} of its health, not {text:?}"))
}

fn versions_differ(record: &Record, name: &str, versions: &[u32]) -> Option<String> {
    let found = &record.fresh(name, 0)?.link_versions;
    (found != versions).then(|| format!("the links of {name} are of versions {found:?}, not {versions:?}"))
}

fn transactions_missing(record: &Record, name: &str) -> Option<String> {
    let blocks = record.members.get(name)?.blocks.values().flatten();
    let included: BTreeSet<_> = blocks.flat_map(|block| &block.transactions).collect();
    let missing = record.submitted.iter().filter(|payload| !included.contains(payload)).count();
    (missing > 0).then(|| format!("{name} lacks {missing} of {} transactions", record.submitted.len()))
}

/// Two consecutive blocks since the latest fault that are more than `most` apart, or a block that was not observed.
fn too_far_apart(record: &Record, name: &str, most: Duration) -> Option<String> {
    let is_fault = |step: &&StepRecord| matches!(step.step, Step::Act(Action::Fault { .. }));
    let fault = record.steps.iter().rfind(is_fault)?.at_ms;
    let blocks = &record.members.get(name)?.blocks;
    let block_at = |height: u64| blocks.get(&height).and_then(|blocks| blocks.last());
    for height in (1..record.height(name)).rev() {
        let (Some(block), Some(next)) = (block_at(height), block_at(height + 1)) else {
            return Some(format!("{name} has not shown block {height} or the next"));
        };
        let apart = Duration::from_millis(next.timestamp_ms.saturating_sub(block.timestamp_ms));
        if apart > most {
            let next = height + 1;
            return Some(format!(
                "on {name} blocks {height} and {next} are {apart:?} apart, more than {most:?}"
            ));
        }
        if block.timestamp_ms <= fault {
            return None;
        }
    }
    Some(format!("{name} shows no block from before the fault"))
}

#[cfg(test)]
mod tests {
    use alys_node::ops::view::{BlockView, GateDecision};

    use super::*;
    use crate::record::tests::{block, empty, give, say};
    use crate::step::Step;

    fn check(text: &str) -> Check {
        match Step::from_table(text.parse().expect("TOML")).expect("a step") {
            Step::Check(check) => check,
            Step::Act(action) => panic!("{action} is no check"),
        }
    }

    fn two() -> Vec<String> {
        vec!["node-1".to_owned(), "node-2".to_owned()]
    }

    fn both(record: &mut Record, at_ms: u64, heights: [u64; 2], gate: GateDecision) {
        for (name, height) in two().iter().zip(heights) {
            say(record, name, at_ms, height, gate);
        }
    }

    #[test]
    fn blocks_are_waited_for_on_every_member_until_the_deadline() {
        let check = check("do='wait_blocks'\ncount=2\nwithin='5s'");
        let mut record = empty();
        both(&mut record, 0, [3, 4], GateDecision::Open);
        let assertion = Assertion::new(&check, two(), &record, 1_000);
        let pending = |text: &str| AssertionOutcome::Pending(text.to_owned());
        assert_eq!(assertion.evaluate(&record, 1_000), pending("node-1 has not answered (not asked yet)"));
        both(&mut record, 1_000, [5, 5], GateDecision::Open);
        assert_eq!(assertion.evaluate(&record, 1_100), pending("node-2 has height 5, not yet 6"));
        let broken = AssertionOutcome::Broken("after 5s: node-2 has height 5, not yet 6".to_owned());
        assert_eq!(assertion.evaluate(&record, 6_000), broken);
        both(&mut record, 6_000, [5, 6], GateDecision::Open);
        assert_eq!(assertion.evaluate(&record, 6_000), AssertionOutcome::Met);
    }

    #[test]
    fn a_gate_is_waited_for_on_every_member() {
        let check = check("do='wait_gate'\ndecision='closed'\nwithin='1s'");
        let mut record = empty();
        let assertion = Assertion::new(&check, two(), &record, 0);
        both(&mut record, 0, [1, 1], GateDecision::Open);
        assert!(
            matches!(assertion.evaluate(&record, 500), AssertionOutcome::Pending(text) if text.contains("node-1's gate is open"))
        );
        assert!(matches!(assertion.evaluate(&record, 1_000), AssertionOutcome::Broken(_)));
        both(&mut record, 900, [1, 1], GateDecision::Closed);
        assert_eq!(assertion.evaluate(&record, 1_000), AssertionOutcome::Met);
    }

    #[test]
    fn a_block_breaks_the_expectation_of_none_at_once() {
        let check = check("do='expect'\nno_block_for='10s'\ngate='closed'");
        let mut record = empty();
        both(&mut record, 0, [3, 3], GateDecision::Closed);
        let assertion = Assertion::new(&check, two(), &record, 0);
        assert!(matches!(assertion.evaluate(&record, 9_999), AssertionOutcome::Pending(_)));
        assert_eq!(assertion.evaluate(&record, 10_000), AssertionOutcome::Met);
        both(&mut record, 5_000, [3, 4], GateDecision::Closed);
        let broken = AssertionOutcome::Broken("node-2 went from height 3 to 4".to_owned());
        assert_eq!(assertion.evaluate(&record, 5_000), broken);
    }

    #[test]
    fn a_gate_that_closed_between_two_looks_breaks_the_expectation_of_no_halt() {
        let check = check("do='expect'\nno_halt_for='10s'\nhealthy=2");
        let mut record = empty();
        both(&mut record, 1_000, [1, 1], GateDecision::Open);
        let assertion = Assertion::new(&check, two(), &record, 1_000);
        let decided = |sequence, at_ms| {
            let (decision, healthy, required) = (GateDecision::Closed, 2, 3);
            GateRecord { sequence, at_ms, decision, healthy, required, reason: "halted".to_owned() }
        };
        let gate = |record: &mut Record, sequence, at_ms| {
            let member = record.members.get_mut("node-2").expect("a member");
            member.gate.insert((1, sequence), decided(sequence, at_ms));
        };
        gate(&mut record, 1, 900);
        assert!(
            matches!(assertion.evaluate(&record, 5_000), AssertionOutcome::Pending(_)),
            "that was before"
        );
        assert_eq!(assertion.evaluate(&record, 11_000), AssertionOutcome::Met);
        gate(&mut record, 2, 4_000);
        assert_eq!(
            assertion.evaluate(&record, 5_000),
            AssertionOutcome::Broken("node-2's gate closed: halted".to_owned())
        );
    }

    #[test]
    fn another_fact_must_hold_all_the_time_without_blocks() {
        let check = check("do='expect'\nno_block_for='10s'\ngate='closed'");
        let mut record = empty();
        let assertion = Assertion::new(&check, two(), &record, 0);
        both(&mut record, 100, [3, 3], GateDecision::Open);
        assert!(
            matches!(assertion.evaluate(&record, 100), AssertionOutcome::Broken(_)),
            "heights were unknown, so were gates"
        );
    }

    #[test]
    fn a_silent_member_never_meets_an_expectation() {
        let check = check("do='expect'\nno_block_for='10s'");
        let mut record = empty();
        let assertion = Assertion::new(&check, two(), &record, 1_000);
        say(&mut record, "node-1", 1_000, 0, GateDecision::Closed);
        assert!(matches!(assertion.evaluate(&record, 5_000), AssertionOutcome::Pending(_)));
        assert!(
            matches!(assertion.evaluate(&record, 11_000), AssertionOutcome::Broken(text) if text.contains("node-2"))
        );
    }

    #[test]
    fn heads_are_equal_when_height_and_hash_are() {
        let check = check("do='expect'\nheights_equal=true");
        let mut record = empty();
        let assertion = Assertion::new(&check, two(), &record, 0);
        both(&mut record, 0, [1, 1], GateDecision::Open);
        give(&mut record, "node-1", block(1, 1));
        give(&mut record, "node-2", block(1, 2));
        assert!(
            matches!(assertion.evaluate(&record, 0), AssertionOutcome::Broken(text) if text.contains("heads differ"))
        );
        give(&mut record, "node-2", block(1, 1));
        assert_eq!(assertion.evaluate(&record, 0), AssertionOutcome::Met);
    }

    #[test]
    fn blocks_are_near_each_other_from_before_the_latest_fault_on() {
        let check = check("do='expect'\nblocks_apart_max='4500ms'");
        let fault = "do='fault'\nmember='node-1'\nactor='chain'\nfault='panic'\nuntil='running'";
        let fault = Step::from_table(fault.parse().expect("TOML")).expect("a step");
        let verdict = |fault_ms: u64, times: &[u64], shown: u64| {
            let mut record = empty();
            record.steps.push(StepRecord { step: fault.clone(), at_ms: fault_ms, done_ms: None });
            let assertion = Assertion::new(&check, vec!["node-1".to_owned()], &record, 0);
            say(&mut record, "node-1", 1, times.len() as u64, GateDecision::Open);
            for (height, timestamp_ms) in (1..).zip(times.iter().copied()).filter(|(n, _)| *n != shown) {
                give(&mut record, "node-1", BlockView { timestamp_ms, ..block(height, 1) });
            }
            match assertion.evaluate(&record, 1) {
                AssertionOutcome::Broken(text) => text,
                verdict => format!("{verdict:?}"),
            }
        };
        let times = [2_000, 9_000, 11_000, 15_400, 17_400];
        assert_eq!(verdict(10_000, &times, 0), "Met");
        assert_eq!(verdict(12_000, &times, 0), "Met");
        let far = "on node-1 blocks 1 and 2 are 7s apart, more than 4.5s";
        assert_eq!(verdict(8_000, &times, 0), far);
        assert_eq!(verdict(1_000, &times[1..], 0), "node-1 shows no block from before the fault");
        assert_eq!(verdict(10_000, &times, 3), "node-1 has not shown block 3 or the next");
    }

    #[test]
    fn every_submitted_transaction_is_looked_for() {
        let check = check("do='expect'\ntransactions_included=true");
        let mut record = empty();
        record.submitted = vec!["aa".to_owned(), "bb".to_owned()];
        let assertion = Assertion::new(&check, vec!["node-1".to_owned()], &record, 0);
        both(&mut record, 0, [1, 1], GateDecision::Open);
        give(&mut record, "node-1", BlockView { transactions: vec!["aa".to_owned()], ..block(1, 1) });
        let broken = AssertionOutcome::Broken("node-1 lacks 1 of 2 transactions".to_owned());
        assert_eq!(assertion.evaluate(&record, 0), broken);
        give(&mut record, "node-1", BlockView { transactions: vec!["bb".to_owned()], ..block(2, 1) });
        assert_eq!(assertion.evaluate(&record, 0), AssertionOutcome::Met);
    }
}
