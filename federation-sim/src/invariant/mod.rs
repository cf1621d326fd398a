//! The invariants: named predicates over the observations of a run.
//!
//! Each result includes the number of facts checked; with none, the invariant does not hold, because it proves nothing.
//! The invariants trust no member: a member's reports are compared with its earlier reports, with the reports of
//! others, and with its signatures. They read only the record.
//!
//! `chain` checks blocks and heights, `certificate` certificates, `signature` the signatures that members report and
//! their times, `received` the statements that others received from them. The signatures of members that were told to
//! break the protocol are not judged.

mod certificate;
mod chain;
mod received;
mod signature;

use crate::record::Record;
use crate::step::{Action, Step};

/// Result of one invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantResult {
    /// Name of the invariant.
    pub name: &'static str,
    /// Number of facts checked.
    pub observations: u64,
    /// Facts that contradict the invariant, in sentences.
    pub violations: Vec<String>,
}

impl InvariantResult {
    /// Whether facts were checked and none contradicts the invariant.
    pub fn held(&self) -> bool {
        self.observations > 0 && self.violations.is_empty()
    }

    /// Counts one fact, and a violation if it does not hold.
    fn fact(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        self.observations += 1;
        if !holds {
            self.violations.push(violation());
        }
    }
}

/// A named predicate.
struct Invariant {
    name: &'static str,
    /// Whether the scenario does what the invariant is about.
    applies: fn(&Record) -> bool,
    look: fn(&Record, &mut InvariantResult),
}

/// Every invariant, in the order of the report.
const ALL: [Invariant; 9] = [
    Invariant { name: "one-block-per-height", applies: |_| true, look: chain::one_block_per_height },
    Invariant { name: "heights-never-go-back", applies: |_| true, look: chain::heights_never_go_back },
    Invariant { name: "chain-linked", applies: |_| true, look: chain::chain_linked },
    Invariant { name: "certificates-verify", applies: |_| true, look: certificate::certificates_verify },
    Invariant {
        name: "no-signature-while-gate-closed",
        applies: |_| true,
        look: |record, finding| {
            signature::no_signature_while_gate_closed(record, finding);
            received::no_signature_while_gate_closed(record, finding);
        },
    },
    Invariant {
        name: "no-double-sign",
        applies: |_| true,
        look: |record, finding| {
            signature::no_double_sign(record, finding);
            received::no_double_sign(record, finding);
        },
    },
    Invariant { name: "no-finalised-block-lost", applies: restarts, look: chain::no_finalised_block_lost },
    Invariant { name: "transactions-at-most-once", applies: submits, look: chain::transactions_at_most_once },
    Invariant { name: "agreement-after-healing", applies: |_| true, look: chain::agreement_after_healing },
];

/// Checks every invariant that applies.
pub fn check_all(record: &Record) -> Vec<InvariantResult> {
    let applying = ALL.iter().filter(|invariant| (invariant.applies)(record));
    applying
        .map(|invariant| {
            let mut finding =
                InvariantResult { name: invariant.name, observations: 0, violations: Vec::new() };
            (invariant.look)(record, &mut finding);
            finding
        })
        .collect()
}

fn restarts(record: &Record) -> bool {
    record.steps.iter().any(|step| matches!(step.step, Step::Act(Action::Restart { .. })))
}

fn submits(record: &Record) -> bool {
    record.steps.iter().any(|step| matches!(step.step, Step::Act(Action::Submit { .. })))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::{block, empty};
    use crate::record::{Closing, ClosingMember, StepRecord};

    pub(crate) fn look(record: &Record, name: &str) -> InvariantResult {
        let finding = check_all(record).into_iter().find(|finding| finding.name == name);
        finding.unwrap_or_else(|| panic!("{name} does not apply"))
    }

    /// Asserts that the invariant holds, with this many facts.
    pub(crate) fn holds(record: &Record, name: &str, observations: u64) {
        let finding = look(record, name);
        assert!(finding.held(), "{finding:?}");
        assert_eq!(finding.observations, observations, "{name}");
    }

    /// Asserts that the invariant does not hold, with a violation that contains `part`.
    pub(crate) fn broken(record: &Record, name: &str, part: &str) {
        let finding = look(record, name);
        assert!(!finding.held(), "{name} held");
        assert!(finding.violations.iter().any(|violation| violation.contains(part)), "{finding:?}");
    }

    pub(crate) fn after(mut record: Record, step: &str) -> Record {
        let step = Step::from_table(step.parse().expect("TOML")).expect("a step");
        record.steps.push(StepRecord { step, at_ms: 0, done_ms: Some(0) });
        record
    }

    pub(crate) fn closing(record: &mut Record, members: &[(&str, u64, u8)], connected: bool) {
        let members = members.iter().map(|(name, height, fork)| {
            let hashes = (1..=*height).map(|height| (height, block(height, *fork).hash)).collect();
            ((*name).to_owned(), ClosingMember { incarnation: 1, height: *height, hashes })
        });
        record.closing = Some(Closing { connected, members: members.collect() });
    }

    #[test]
    fn nothing_holds_that_was_never_looked_at() {
        for finding in check_all(&empty()) {
            assert!(!finding.held(), "{finding:?}");
        }
    }

    #[test]
    fn what_a_scenario_is_not_about_is_not_reported() {
        let names: Vec<_> = check_all(&empty()).iter().map(|finding| finding.name).collect();
        assert!(!names.contains(&"no-finalised-block-lost") && !names.contains(&"transactions-at-most-once"));
    }
}
