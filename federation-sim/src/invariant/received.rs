//! Invariants of signatures, checked by what others received: a member's own journal never contradicts itself.

use std::collections::BTreeMap;

use alys_node::ops::view::GateDecision;

use super::InvariantResult;
use crate::record::{MemberRecord, Record};

/// A statement that a member received.
struct Heard<'a> {
    by: &'a str,
    at_ms: u64,
    author: &'a str,
    place: (u64, u32, &'a str),
    block: Option<&'a str>,
}

/// Every statement that was received from an honest member.
fn heard(record: &Record) -> impl Iterator<Item = Heard<'_>> {
    let byzantine = record.byzantine();
    let honest = move |author: &str| !byzantine.contains(author);
    let all = record.members.iter().flat_map(|(by, member)| {
        member.received.iter().map(|((author, height, round, step, block), at_ms)| Heard {
            by,
            at_ms: *at_ms,
            author,
            place: (*height, *round, step),
            block: block.as_deref(),
        })
    });
    all.filter(move |heard| honest(heard.author))
}

fn say(block: Option<&str>) -> &str {
    block.unwrap_or("nil")
}

/// No member has received two different statements of one author for one height, round and step, nor one that
/// contradicts the author's journal or is missing in it; and no member has evidence against an honest member.
pub(super) fn no_double_sign(record: &Record, finding: &mut InvariantResult) {
    let mut first: BTreeMap<_, (&str, Option<&str>)> = BTreeMap::new();
    for Heard { by, author, place, block, .. } in heard(record) {
        let (height, round, step) = place;
        let (before_by, before) = *first.entry((author, place)).or_insert((by, block));
        finding.fact(before == block, || {
            let (one, other) = (say(before), say(block));
            format!(
                "{author} signed {one} (received by {before_by}) and {other} (received by {by}) as {step} for height \
                 {height}, round {round}"
            )
        });
        if is_in_journal(record, author, place, block) == Some(false) {
            finding.violations.push(format!(
                "{by} received a {step} of {author} for height {height}, round {round} and {}, which its journal does \
                 not know",
                say(block)
            ));
        }
    }
    let byzantine = record.byzantine();
    for (name, member) in &record.members {
        for kept in member.evidence.iter().filter(|kept| !byzantine.contains(kept.member.as_str())) {
            finding.violations.push(format!("{name} has evidence against {}: {kept:?}", kept.member));
        }
    }
}

/// Whether a member's journal contains a statement; `None` if the journal was not read that far.
fn is_in_journal(
    record: &Record,
    author: &str,
    (height, round, step): (u64, u32, &str),
    block: Option<&str>,
) -> Option<bool> {
    let closing = record.closing.as_ref()?.members.get(author)?;
    // Statements above this height may have been signed after the journal was read.
    if height > closing.height {
        return None;
    }
    Some(signed_at_ms(record.members.get(author)?, (height, round, step), block).is_some())
}

/// Time at which a member signed a statement according to its journal, milliseconds since the Unix epoch.
fn signed_at_ms(
    member: &MemberRecord,
    (height, round, step): (u64, u32, &str),
    block: Option<&str>,
) -> Option<u64> {
    let from = (height, round, step.to_owned(), block.map(str::to_owned), 0, 0);
    let to = (height, round, step.to_owned(), block.map(str::to_owned), u64::MAX, u64::MAX);
    member.signatures.range(from..=to).next().map(|(_, signature)| signature.at_ms)
}

/// A statement for a height is signed after the height below was decided and before any member receives it. The
/// author's gate must have been open at some time in between.
///
/// ```text
/// height below decided ──────────── received
/// author's gate   closed ───► open ─────────      allowed
///                 closed ────────────────────     violation: signed while closed
/// ```
pub(super) fn no_signature_while_gate_closed(record: &Record, finding: &mut InvariantResult) {
    // Timestamps of clocks that a step set cannot be ordered.
    if record.members.keys().any(|name| record.has_set_clock(name)) {
        return;
    }
    let decided = record.decided();
    for Heard { by, at_ms, author, place, block } in heard(record) {
        let (height, round, step) = place;
        let Some(member) = record.members.get(author) else { continue };
        // Received before it was signed: the clocks differ, so the timestamps cannot be compared.
        if signed_at_ms(member, place, block).is_some_and(|signed_ms| signed_ms > at_ms) {
            continue;
        }
        let from_ms = height.checked_sub(1).and_then(|below| decided.get(&below)).copied();
        let from_ms = from_ms.unwrap_or(record.started_ms).min(at_ms);
        if let Some(may) = may_have_been_open(record, author, member, from_ms, at_ms) {
            finding.fact(may, || {
                format!(
                    "{author} signed a {step} for height {height}, round {round} between {from_ms} and {at_ms} ({by} \
                     received it), and its gate was closed all the while"
                )
            });
        }
    }
}

/// Whether a member's gate may have been open at some time from `from_ms` to `to_ms`; `None` if its decisions were not
/// read.
fn may_have_been_open(
    record: &Record,
    name: &str,
    member: &MemberRecord,
    from_ms: u64,
    to_ms: u64,
) -> Option<bool> {
    let closing = record.closing.as_ref()?.members.get(name)?;
    let mut decisions = member.gate.iter().peekable();
    // Decisions before the first listed one were not read.
    let ((_, first), record) = decisions.peek()?;
    if *first > 1 && from_ms < record.at_ms {
        return None;
    }
    while let Some(((incarnation, _), record)) = decisions.next() {
        let next = decisions.peek();
        let until_ms = next.map_or(u64::MAX, |(_, next)| next.at_ms);
        // A member that ended may have made decisions that were never read.
        let is_last = next.is_none_or(|((of, _), _)| of != incarnation);
        let is_unread = is_last && *incarnation != closing.incarnation;
        let is_open = record.decision == GateDecision::Open || is_unread;
        if is_open && record.at_ms <= to_ms && until_ms >= from_ms {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use alys_node::ops::view::{EquivocationView, GateRecord, SignatureView, SignedView};

    use crate::invariant::tests::{after, broken, closing, holds, look};
    use crate::record::tests::empty;
    use crate::record::{Record, signature_key};

    use super::*;

    /// Records that `by` received a prevote of node-1 for height 1, round 0.
    fn receive(record: &mut Record, by: &str, block: Option<&str>, at_ms: u64) {
        let key = ("node-1".to_owned(), 1, 0, "prevote".to_owned(), block.map(str::to_owned));
        record.members.get_mut(by).expect("a member").received.insert(key, at_ms);
    }

    fn sign(record: &mut Record, block: Option<&str>, at_ms: u64) {
        let signature = SignatureView {
            incarnation: 1,
            height: 1,
            round: 0,
            step: "prevote".to_owned(),
            block: block.map(str::to_owned),
            at_ms,
            gate_sequence: 2,
        };
        let member = record.members.get_mut("node-1").expect("a member");
        member.signatures.insert(signature_key(&signature), signature);
    }

    fn decide(record: &mut Record, incarnation: u64, sequence: u64, at_ms: u64, decision: GateDecision) {
        let gate = GateRecord { sequence, at_ms, decision, healthy: 3, required: 3, reason: String::new() };
        record.members.get_mut("node-1").expect("a member").gate.insert((incarnation, sequence), gate);
    }

    #[test]
    fn two_statements_received_by_two_members_are_found_and_those_of_a_byzantine_member_are_not() {
        let mut record = empty();
        receive(&mut record, "node-2", Some("aa"), 5);
        receive(&mut record, "node-3", Some("aa"), 6);
        holds(&record, "no-double-sign", 2);
        receive(&mut record, "node-3", None, 7);
        broken(
            &record,
            "no-double-sign",
            "node-1 signed aa (received by node-2) and nil (received by node-3)",
        );
        let record = after(record, "do = \"misbehave\"\nmember = \"node-1\"\nhow = \"equivocating_voter\"");
        assert_eq!(look(&record, "no-double-sign").violations, Vec::<String>::new());
    }

    #[test]
    fn a_statement_that_its_authors_journal_does_not_know_is_found_if_the_journal_was_read_so_far() {
        let mut record = empty();
        receive(&mut record, "node-2", Some("aa"), 5);
        closing(&mut record, &[("node-1", 0, 1)], true);
        holds(&record, "no-double-sign", 1);
        closing(&mut record, &[("node-1", 1, 1)], true);
        broken(&record, "no-double-sign", "which its journal does not know");
        sign(&mut record, Some("aa"), 4);
        holds(&record, "no-double-sign", 2);
    }

    #[test]
    fn evidence_against_a_member_that_keeps_to_the_protocol_is_found() {
        let mut record = empty();
        receive(&mut record, "node-2", None, 5);
        let signed = SignedView { block: None, pol_round: -1, signature: String::new() };
        let kept = EquivocationView {
            member: "node-1".to_owned(),
            height: 1,
            round: 0,
            step: "prevote".to_owned(),
            first: signed.clone(),
            second: signed,
            seen_at_ms: 5,
        };
        record.members.get_mut("node-4").expect("a member").evidence.push(kept);
        broken(&record, "no-double-sign", "node-4 has evidence against node-1");
    }

    #[test]
    fn what_was_received_of_a_member_whose_gate_was_closed_all_the_while_is_found() {
        use GateDecision::{Closed, Open};
        let name = "no-signature-while-gate-closed";
        let mut record = empty();
        record.started_ms = 0;
        decide(&mut record, 1, 1, 0, Closed);
        closing(&mut record, &[("node-1", 1, 1)], true);
        receive(&mut record, "node-2", None, 50);
        broken(&record, name, "its gate was closed all the while");
        // The gate was open shortly before.
        decide(&mut record, 1, 2, 40, Open);
        decide(&mut record, 1, 3, 45, Closed);
        holds(&record, name, 1);
    }

    #[test]
    fn decisions_that_were_not_read_excuse_a_statement() {
        use GateDecision::Closed;
        let name = "no-signature-while-gate-closed";
        // The member was killed: it may have made decisions that were never read.
        let mut record = empty();
        decide(&mut record, 1, 1, 0, Closed);
        decide(&mut record, 2, 1, 60, Closed);
        closing(&mut record, &[("node-1", 1, 1)], true);
        record.closing.as_mut().expect("closed").members.get_mut("node-1").expect("read").incarnation = 2;
        receive(&mut record, "node-2", None, 50);
        holds(&record, name, 1);
        // The earliest decisions are no longer listed.
        let mut record = empty();
        decide(&mut record, 1, 7, 80, Closed);
        closing(&mut record, &[("node-1", 1, 1)], true);
        receive(&mut record, "node-2", None, 50);
        assert_eq!(look(&record, name).observations, 0);
    }
}
