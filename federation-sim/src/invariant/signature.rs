//! Invariants of signatures, checked by each member's own journal: sign only while the gate is open, and never
//! equivocate.

use std::collections::BTreeMap;

use alys_node::ops::view::{GateDecision, GateRecord, SignatureView};

use super::InvariantResult;
use crate::record::{MemberRecord, Record};

/// A member signs only while its own gate is open: at the time of the signature, and according to the decision that the
/// signature names.
///
/// ```text
/// decisions   1 open ───────────► 2 closed ─────► 3 open ──────►
/// signatures      ✓ (1)   ✓ (1)      ✗ (1)  ✗ (2)     ✓ (3)
/// ```
///
/// A gate that closes because its verdict was not renewed records a decision with the time at which the lease expired,
/// so signatures after that time are found too.
///
/// A killed member may have signed by a decision that was never read; such a signature is not counted. For the
/// incarnation in the final observation it is a violation. For a member whose clock a step set, only the decisions are
/// compared, not the times.
pub(super) fn no_signature_while_gate_closed(record: &Record, finding: &mut InvariantResult) {
    let byzantine = record.byzantine();
    for (name, member) in record.members.iter().filter(|(name, _)| !byzantine.contains(name.as_str())) {
        let closing = record.closing.as_ref().and_then(|closing| closing.members.get(name));
        let by_time = !record.has_set_clock(name);
        for signature in member.signatures.values() {
            let read_to_the_end = closing.is_some_and(|last| last.incarnation == signature.incarnation);
            match admission(member, signature, read_to_the_end, by_time) {
                Admission::Unknown => {}
                Admission::Proper => finding.fact(true, String::new),
                Admission::Improper(why) => finding.fact(false, || {
                    let SignatureView { incarnation, height, round, step, at_ms, .. } = signature;
                    format!(
                        "{name} (incarnation {incarnation}) signed a {step} for height {height}, round {round} \
                         at {at_ms} while {why}"
                    )
                }),
            }
        }
    }
}

/// Whether a gate decision permits a signature.
enum Admission {
    Proper,
    Improper(String),
    Unknown,
}

fn admission(
    member: &MemberRecord,
    signature: &SignatureView,
    read_to_the_end: bool,
    by_time: bool,
) -> Admission {
    let (incarnation, sequence) = (signature.incarnation, signature.gate_sequence);
    let decisions = |from, to| member.gate.range((incarnation, from)..=(incarnation, to));
    let newest_read = decisions(0, u64::MAX).next_back().map_or(0, |((_, newest), _)| *newest);
    if sequence > newest_read && !read_to_the_end {
        return Admission::Unknown;
    }
    // Decisions that only confirm the one before are numbered but not listed.
    let Some((_, by)) = decisions(0, sequence).next_back() else {
        return Admission::Improper(format!("its gate had made no decision {sequence}"));
    };
    if by.decision != GateDecision::Open {
        return Admission::Improper(format!("decision {sequence} of its gate was closed: {}", by.reason));
    }
    // Timestamps of a clock that was set cannot be ordered.
    if !by_time {
        return Admission::Proper;
    }
    if signature.at_ms < by.at_ms {
        return Admission::Improper(format!("its gate opened only at {}", by.at_ms));
    }
    let closes = |record: &&GateRecord| record.decision == GateDecision::Closed;
    let later = decisions(sequence.saturating_add(1), u64::MAX).map(|(_, record)| record);
    match later.into_iter().find(closes) {
        Some(next) if signature.at_ms > next.at_ms => {
            Admission::Improper(format!("its gate had closed at {}", next.at_ms))
        }
        _ => Admission::Proper,
    }
}

/// A member never signs two different values at the same height, round and step, even across crashes.
pub(super) fn no_double_sign(record: &Record, finding: &mut InvariantResult) {
    let byzantine = record.byzantine();
    for (name, member) in record.members.iter().filter(|(name, _)| !byzantine.contains(name.as_str())) {
        let mut first: BTreeMap<_, &Option<String>> = BTreeMap::new();
        for signature in member.signatures.values() {
            let SignatureView { height, round, step, block, .. } = signature;
            let before = *first.entry((height, round, step)).or_insert(block);
            finding.fact(before == block, || {
                let say = |block: &Option<String>| block.as_deref().unwrap_or("nil").to_owned();
                let (one, other) = (say(before), say(block));
                format!("{name} signed {one} and {other} as {step} for height {height}, round {round}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::tests::{broken, closing, holds, look};
    use crate::record::signature_key;
    use crate::record::tests::empty;

    fn decide(record: &mut Record, sequence: u64, at_ms: u64, decision: GateDecision) {
        let member = record.members.get_mut("node-1").expect("a member");
        let (healthy, required, reason) = (3, 3, String::new());
        member
            .gate
            .insert((1, sequence), GateRecord { sequence, at_ms, decision, healthy, required, reason });
    }

    fn sign(record: &mut Record, block: Option<&str>, at_ms: u64, gate_sequence: u64) {
        let signature = SignatureView {
            incarnation: 1,
            height: 1,
            round: 0,
            step: "prevote".to_owned(),
            block: block.map(str::to_owned),
            at_ms,
            gate_sequence,
        };
        let member = record.members.get_mut("node-1").expect("a member");
        member.signatures.insert(signature_key(&signature), signature);
    }

    /// Decisions: 1 closed at 0 ms, 2 open at 100, 4 closed at 200, 6 open at 300.
    fn gated() -> Record {
        let mut record = empty();
        decide(&mut record, 1, 0, GateDecision::Closed);
        decide(&mut record, 2, 100, GateDecision::Open);
        decide(&mut record, 4, 200, GateDecision::Closed);
        decide(&mut record, 6, 300, GateDecision::Open);
        record
    }

    #[test]
    fn a_signature_while_the_gate_is_open_is_proper() {
        let name = "no-signature-while-gate-closed";
        for (at_ms, sequence) in [(100, 2), (150, 3), (200, 3), (300, 6), (400, 6)] {
            let mut record = gated();
            sign(&mut record, None, at_ms, sequence);
            holds(&record, name, 1);
        }
    }

    #[test]
    fn a_signature_while_the_gate_is_closed_is_found() {
        let name = "no-signature-while-gate-closed";
        let table = [
            (50, 1, "decision 1 of its gate was closed"),
            (50, 2, "its gate opened only at 100"),
            (201, 2, "its gate had closed at 200"),
            (201, 3, "its gate had closed at 200"),
            (250, 5, "decision 5 of its gate was closed"),
            (250, 6, "its gate opened only at 300"),
            (250, 0, "no decision 0"),
        ];
        for (at_ms, sequence, part) in table {
            let mut record = gated();
            sign(&mut record, None, at_ms, sequence);
            broken(&record, name, part);
        }
    }

    #[test]
    fn a_decision_never_read_excuses_only_a_member_that_was_not_read_to_its_end() {
        let name = "no-signature-while-gate-closed";
        let mut record = empty();
        decide(&mut record, 1, 0, GateDecision::Closed);
        sign(&mut record, None, 50, 2);
        assert_eq!(look(&record, name).observations, 0);
        closing(&mut record, &[("node-1", 1, 1)], true);
        broken(&record, name, "decision 2 of its gate was closed");
    }

    #[test]
    fn two_different_votes_are_found_and_the_same_vote_twice_is_none() {
        let mut record = empty();
        sign(&mut record, Some("aa"), 1, 1);
        sign(&mut record, Some("aa"), 2, 1);
        holds(&record, "no-double-sign", 2);
        sign(&mut record, None, 3, 1);
        broken(&record, "no-double-sign", "node-1 signed nil and aa as prevote for height 1, round 0");
    }
}
