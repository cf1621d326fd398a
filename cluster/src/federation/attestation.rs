//! Signed statements of a member about its own health, which third members may carry.
//!
//! A member that hears nothing of a peer asks for it through others. What comes back is worth something only
//! if the peer said it itself, and lately. The first is the signature. The second can not be told from a time
//! stamp, because clocks differ and whoever carries a statement may keep it back; it is told from an **echo**:
//! each statement repeats the number of the last statement its author accepted from every other member. A
//! statement that echoes number 117 was made after 117 was, and when that was this member knows from its own
//! clock.
//!
//! ```text
//!   node-1 ── probe, statement 117 of node-1 ──► node-3 ──► node-2        (node-1 ─╳─► node-2)
//!   node-1 ◄── statement 52 of node-2, echoing 117 ── node-3 ◄── node-2
//!          └─► node-2 lived after 117 was made: it counts until 117 is older than `attestation_validity`
//! ```
//!
//! However a statement travelled, it can keep a dead member alive for no longer than that. Numbers only grow
//! within an incarnation, and incarnations only grow: what is older is refused, and so is what its signature
//! does not fit, too long a text, and a version this member does not know.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Moment, WallTime};
use crate::health::{HealthCheckResult, HealthStatus};
use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};
use crate::port::Signer;

/// The form of statement that this member makes and understands.
pub const VERSION: u8 = 1;
/// Critical actors a statement can name.
pub const ACTORS_MAX: usize = 16;
/// Bytes of a reason; a longer one is cut when a statement is made.
pub const REASON_BYTES_MAX: usize = 256;
/// Members a statement can echo.
pub const ECHOES_MAX: usize = 64;
/// Bytes of a signature.
pub const SIGNATURE_BYTES_MAX: usize = 128;
/// Microseconds of its author's clock within which a later statement can overtake an earlier one on another
/// way. Numbers are such microseconds.
const OVERTAKEN_MAX: u64 = 2_000_000;
/// Own statements whose moment is remembered: several seconds of them.
const ISSUED_MAX: usize = 64;

/// What one critical actor's health is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorState {
    /// The actor.
    pub name: ActorName,
    /// Its health.
    pub status: HealthStatus,
}

/// The last statement accepted from another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Whose.
    pub member: NodeId,
    /// Of which incarnation.
    pub incarnation: Incarnation,
    /// Its number.
    pub sequence: u64,
}

/// What a member states about its own health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The form of the statement.
    pub version: u8,
    /// Who states it.
    pub member: NodeId,
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// Grows with every statement of an incarnation.
    pub sequence: u64,
    /// On the member's wall clock; a label, which decides nothing.
    pub at: WallTime,
    /// The height of its chain.
    pub height: BlockHeight,
    /// Whether it can be counted on.
    pub status: HealthStatus,
    /// Why not; empty when it can.
    pub reason: String,
    /// Its critical actors, as last checked.
    pub actors: Vec<ActorState>,
    /// What it last accepted from others.
    pub echoes: Vec<Echo>,
}

impl Attestation {
    /// The bytes that are signed: every field at its place, texts and lists after their length.
    pub fn bytes(&self) -> Vec<u8> {
        fn text(bytes: &mut Vec<u8>, text: &str) {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        let mut bytes = b"alys/attestation/".to_vec();
        bytes.push(self.version);
        text(&mut bytes, self.member.as_str());
        bytes.extend(self.incarnation.0.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.at.0.to_be_bytes());
        bytes.extend(self.height.0.to_be_bytes());
        text(&mut bytes, self.status.as_str());
        text(&mut bytes, &self.reason);
        bytes.extend((self.actors.len() as u64).to_be_bytes());
        for actor in &self.actors {
            text(&mut bytes, actor.name.as_str());
            text(&mut bytes, actor.status.as_str());
        }
        bytes.extend((self.echoes.len() as u64).to_be_bytes());
        for echo in &self.echoes {
            text(&mut bytes, echo.member.as_str());
            bytes.extend(echo.incarnation.0.to_be_bytes());
            bytes.extend(echo.sequence.to_be_bytes());
        }
        bytes
    }

    /// What it says, in the form of a check.
    pub fn report(&self) -> HealthCheckResult {
        HealthCheckResult { status: self.status, reason: self.reason.clone(), height: self.height }
    }
}

/// A statement with its author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAttestation {
    /// The statement.
    pub attestation: Attestation,
    /// The signature over its bytes.
    pub signature: Vec<u8>,
}

impl SignedAttestation {
    /// Signs `attestation`.
    pub fn sign(attestation: Attestation, signer: &dyn Signer) -> Self {
        let signature = signer.sign(&attestation.bytes());
        Self { attestation, signature }
    }
}

/// Why a statement is refused. Nothing that was known changes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It has a form this member does not know.
    #[error("it has version {0}; expected {VERSION}")]
    Version(u8),
    /// It is longer than a statement may be.
    #[error("its {field} has {found} entries or bytes; expected at most {most}")]
    TooLong {
        /// Of what there is too much.
        field: &'static str,
        /// How much there is.
        found: usize,
        /// How much there may be.
        most: usize,
    },
    /// Its author has been started again since.
    #[error("it is of incarnation {found}; the member is in incarnation {known}")]
    OldIncarnation {
        /// Of the statement.
        found: Incarnation,
        /// The newest known.
        known: Incarnation,
    },
    /// A later one of its author was accepted already, or another under the same number.
    #[error("it has number {found}, and {last} was accepted already")]
    Replayed {
        /// Of the statement.
        found: u64,
        /// The newest known.
        last: u64,
    },
    /// So many have come by this way that another one is not even checked.
    #[error("more statements of it came by this way than are checked")]
    TooMany,
    /// The signature is not its author's over these bytes.
    #[error("its signature is not the member's")]
    Forged,
}

/// What became of a statement that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the newest of its author.
    New,
    /// It is the newest already known, come once more, as it does by several ways.
    Again,
    /// A later one came before it, by a faster way. It changes nothing.
    Overtaken,
}

/// Signatures of one author that are checked within one heartbeat interval, of those that one member brings: a member states
/// something new with each of its heartbeats, and when it is asked for.
const CHECKS_PER_INTERVAL: u32 = 4;
/// Of those that were not used so many are left for later.
const CHECKS_SAVED: u32 = 16;

/// How many more signatures are checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    left: u32,
    since: Moment,
}

impl Checks {
    /// All that may be saved.
    pub(super) fn new(now: Moment) -> Self {
        Self { left: CHECKS_SAVED, since: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Moment, interval: Duration) -> bool {
        let intervals = now.since(self.since).as_nanos() / interval.as_nanos().max(1);
        if intervals > 0 {
            let more = u32::try_from(intervals).unwrap_or(u32::MAX).saturating_mul(CHECKS_PER_INTERVAL);
            self.left = self.left.saturating_add(more).min(CHECKS_SAVED);
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// What one member has stated so far.
#[derive(Clone, Debug)]
struct AcceptedAttestation {
    last: SignedAttestation,
    /// When this member made the statement that the newest one echoes: the author lived later than that.
    lived_after: Option<Moment>,
}

/// Statements made, and statements accepted.
#[derive(Clone, Debug)]
pub struct Attestations {
    own: NodeId,
    incarnation: Incarnation,
    issued: VecDeque<(u64, Moment)>,
    accepted: BTreeMap<NodeId, AcceptedAttestation>,
}

impl Attestations {
    /// None made, none accepted.
    pub fn new(own: NodeId, incarnation: Incarnation) -> Self {
        Self { own, incarnation, issued: VecDeque::new(), accepted: BTreeMap::new() }
    }

    /// Makes a statement of `report` and `actors`.
    pub fn issue(
        &mut self,
        now: Moment,
        at: WallTime,
        report: &HealthCheckResult,
        actors: &[ActorState],
        signer: &dyn Signer,
    ) -> SignedAttestation {
        // Numbers follow the clock, which goes on when this actor is restarted within the incarnation: its
        // successor, which remembers no number, is not taken for someone who repeats old statements.
        let of_clock = now.since(Moment::ORIGIN).as_micros() as u64;
        let sequence = self.issued.back().map_or(of_clock, |(last, _)| of_clock.max(last + 1));
        if self.issued.len() == ISSUED_MAX {
            self.issued.pop_front();
        }
        self.issued.push_back((sequence, now));
        let echo = |(member, testimony): (&NodeId, &AcceptedAttestation)| Echo {
            member: member.clone(),
            incarnation: testimony.last.attestation.incarnation,
            sequence: testimony.last.attestation.sequence,
        };
        let attestation = Attestation {
            version: VERSION,
            member: self.own.clone(),
            incarnation: self.incarnation,
            sequence,
            at,
            height: report.height,
            status: report.status,
            reason: shortened(&report.reason).to_owned(),
            actors: actors.iter().take(ACTORS_MAX).cloned().collect(),
            echoes: self.accepted.iter().take(ECHOES_MAX).map(echo).collect(),
        };
        SignedAttestation::sign(attestation, signer)
    }

    /// Accepts a statement of another member, or says why not. `known` is the member's newest incarnation, as
    /// far as it is known from elsewhere. The costly check comes last, if it `may` be made.
    pub fn take(
        &mut self,
        signed: &SignedAttestation,
        known: Option<Incarnation>,
        signer: &dyn Signer,
        may: impl FnOnce() -> bool,
    ) -> Result<Taken, Refused> {
        let attestation = &signed.attestation;
        if attestation.version != VERSION {
            return Err(Refused::Version(attestation.version));
        }
        for (field, found, most) in [
            ("actors", attestation.actors.len(), ACTORS_MAX),
            ("reason", attestation.reason.len(), REASON_BYTES_MAX),
            ("echoes", attestation.echoes.len(), ECHOES_MAX),
            ("signature", signed.signature.len(), SIGNATURE_BYTES_MAX),
        ] {
            if found > most {
                return Err(Refused::TooLong { field, found, most });
            }
        }
        let last = self.accepted.get(&attestation.member).map(|testimony| &testimony.last);
        let stated = last.map(|last| last.attestation.incarnation);
        if let Some(known) = known.max(stated).filter(|known| attestation.incarnation < *known) {
            return Err(Refused::OldIncarnation { found: attestation.incarnation, known });
        }
        if let Some(last) = last.filter(|_| stated == Some(attestation.incarnation)) {
            if last == signed {
                return Ok(Taken::Again);
            }
            let (found, last) = (attestation.sequence, last.attestation.sequence);
            if found < last && last - found <= OVERTAKEN_MAX {
                return Ok(Taken::Overtaken);
            }
            if found <= last {
                return Err(Refused::Replayed { found, last });
            }
        }
        if !may() {
            return Err(Refused::TooMany);
        }
        if !signer.verify(&attestation.member, &attestation.bytes(), &signed.signature) {
            return Err(Refused::Forged);
        }
        let echoed = attestation.echoes.iter().find(|echo| echo.member == self.own);
        let echoed = echoed.filter(|echo| echo.incarnation == self.incarnation);
        let moment_of = |echo: &Echo| self.issued.iter().find(|(sequence, _)| *sequence == echo.sequence);
        let lived_after = echoed.and_then(moment_of).map(|(_, made)| *made);
        self.accepted
            .insert(attestation.member.clone(), AcceptedAttestation { last: signed.clone(), lived_after });
        Ok(Taken::New)
    }

    /// What `member` has stated so far no longer shows that it lives.
    pub fn forget(&mut self, member: &NodeId) {
        if let Some(testimony) = self.accepted.get_mut(member) {
            testimony.lived_after = None;
        }
    }

    /// What `member` states, if it is certain that it lived within the last `validity`.
    pub fn standing(&self, member: &NodeId, now: Moment, validity: Duration) -> Option<&Attestation> {
        let testimony = self.accepted.get(member)?;
        let lived_after = testimony.lived_after?;
        (now.since(lived_after) < validity).then_some(&testimony.last.attestation)
    }
}

/// The beginning of `reason`, whole characters, no longer than a statement may have.
fn shortened(reason: &str) -> &str {
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Signs with the member's name; who does not know the name can not sign.
    pub(in crate::federation) struct NameSigner(pub(in crate::federation) NodeId);

    fn seal(member: &NodeId, statement: &[u8]) -> Vec<u8> {
        let sum = statement.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        [member.as_str().as_bytes(), &sum.to_be_bytes()[..]].concat()
    }

    impl Signer for NameSigner {
        fn sign(&self, statement: &[u8]) -> Vec<u8> {
            seal(&self.0, statement)
        }

        fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
            signature == seal(member, statement)
        }
    }

    fn node(n: usize) -> NodeId {
        NodeId::new(&format!("node-{n}")).expect("a name")
    }

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    const VALIDITY: Duration = Duration::from_secs(1);

    struct Member {
        name: NodeId,
        attestations: Attestations,
    }

    impl Member {
        fn new(n: usize, incarnation: u64) -> Self {
            let attestations = Attestations::new(node(n), Incarnation(incarnation));
            Self { name: node(n), attestations }
        }

        fn issue(&mut self, ms: u64) -> SignedAttestation {
            let signer = NameSigner(self.name.clone());
            let report = HealthCheckResult::healthy();
            self.attestations.issue(at(ms), WallTime(ms), &report, &[], &signer)
        }

        fn take(&mut self, signed: &SignedAttestation) -> Result<Taken, Refused> {
            self.attestations.take(signed, None, &NameSigner(self.name.clone()), || true)
        }

        fn counts(&self, other: &Member, ms: u64) -> bool {
            self.attestations.standing(&other.name, at(ms), VALIDITY).is_some()
        }
    }

    #[test]
    fn so_many_signatures_are_checked_and_no_more() {
        let interval = Duration::from_millis(250);
        let mut checks = Checks::new(at(0));
        let mut made = |ms: u64, asked: u32| (0..asked).filter(|_| checks.take(at(ms), interval)).count();
        assert_eq!(made(0, 1_000), CHECKS_SAVED as usize);
        assert_eq!(made(249, 1_000), 0);
        assert_eq!(made(250, 1_000), CHECKS_PER_INTERVAL as usize);
        assert_eq!(made(1_000_000, 1_000), CHECKS_SAVED as usize);
    }

    #[test]
    fn a_statement_counts_from_when_what_it_echoes_was_made_however_late_it_comes() {
        let (mut one, mut two) = (Member::new(1, 1), Member::new(2, 1));
        let unasked = two.issue(90);
        assert_eq!(one.take(&unasked), Ok(Taken::New));
        assert!(!one.counts(&two, 90), "nobody knows when it was made");
        let asked = one.issue(100);
        two.take(&asked).expect("accepted");
        let answer = two.issue(130);
        assert_eq!(one.take(&answer), Ok(Taken::New));
        assert!(one.counts(&two, 1_099));
        assert!(!one.counts(&two, 1_100));
    }

    #[test]
    fn whoever_keeps_statements_back_keeps_nobody_alive() {
        let (mut one, mut two) = (Member::new(1, 1), Member::new(2, 1));
        let mut kept = Vec::new();
        for n in 0..8 {
            let asked = one.issue(n * 250);
            two.take(&asked).expect("accepted");
            kept.push(two.issue(n * 250 + 10));
        }
        // The author dies at 1,800; the carrier gives its statements away one by one.
        for (answer, ms) in kept.iter().zip((1_750..).step_by(500)) {
            one.take(answer).expect("in order and signed");
            assert!(!one.counts(&two, ms.max(2_750)), "at {ms}");
        }
    }

    #[test]
    fn what_comes_by_two_ways_is_no_replay_and_what_comes_later_again_is() {
        let (mut one, mut two) = (Member::new(1, 1), Member::new(2, 1));
        let (first, second, third) = (two.issue(10), two.issue(20), two.issue(2_011));
        assert_eq!(one.take(&first), Ok(Taken::New));
        assert_eq!(one.take(&first), Ok(Taken::Again));
        assert_eq!(one.take(&second), Ok(Taken::New));
        assert_eq!(one.take(&first), Ok(Taken::Overtaken));
        assert_eq!(one.take(&third), Ok(Taken::New));
        let (found, last) = (first.attestation.sequence, third.attestation.sequence);
        assert_eq!(one.take(&first), Err(Refused::Replayed { found, last }));
        let mut twin = two.issue(2_500);
        twin.attestation.sequence = last;
        assert_eq!(
            one.take(&twin),
            Err(Refused::Replayed { found: last, last }),
            "one number, two statements"
        );
    }

    #[test]
    fn numbers_go_on_when_the_actor_is_restarted_within_its_incarnation() {
        let (mut one, mut two) = (Member::new(1, 1), Member::new(2, 1));
        for _ in 0..3 {
            one.take(&two.issue(500)).expect("accepted");
        }
        two = Member::new(2, 1);
        assert_eq!(one.take(&two.issue(600)), Ok(Taken::New));
    }

    #[test]
    fn a_restarted_member_is_newer_whatever_its_numbers() {
        let (mut one, mut old, mut new) = (Member::new(1, 1), Member::new(2, 1), Member::new(2, 2));
        let old = old.issue(9_000);
        one.take(&old).expect("accepted");
        assert_eq!(one.take(&new.issue(1)), Ok(Taken::New));
        let (found, known) = (Incarnation(1), Incarnation(2));
        assert_eq!(one.take(&old), Err(Refused::OldIncarnation { found, known }));
        // An incarnation known from elsewhere counts as well.
        let refused =
            one.attestations.take(&new.issue(2), Some(Incarnation(3)), &NameSigner(node(1)), || true);
        assert_eq!(refused, Err(Refused::OldIncarnation { found: known, known: Incarnation(3) }));
    }

    #[test]
    fn an_echo_of_an_earlier_incarnation_of_this_member_proves_nothing() {
        let (mut before, mut two) = (Member::new(1, 1), Member::new(2, 1));
        two.take(&before.issue(100)).expect("accepted");
        let answer = two.issue(110);
        let mut after = Member::new(1, 2);
        let again = after.issue(100);
        assert_eq!(again.attestation.sequence, answer.attestation.echoes[0].sequence, "the same number");
        after.take(&answer).expect("accepted");
        assert!(!after.counts(&two, 120));
    }

    #[test]
    fn every_changed_field_breaks_the_signature() {
        type Change = fn(&mut Attestation);
        let changes: [(&str, Change); 9] = [
            ("member", |a| a.member = node(3)),
            ("incarnation", |a| a.incarnation = Incarnation(9)),
            ("sequence", |a| a.sequence += 1),
            ("at", |a| a.at = WallTime(1)),
            ("height", |a| a.height = BlockHeight(1)),
            ("status", |a| a.status = HealthStatus::Degraded),
            ("reason", |a| a.reason.push('!')),
            ("actors", |a| a.actors[0].status = HealthStatus::Unhealthy),
            ("echoes", |a| a.echoes[0].sequence += 1),
        ];
        let (mut two, mut three) = (Member::new(2, 1), Member::new(3, 1));
        two.take(&three.issue(1)).expect("accepted");
        let actors = [ActorState { name: ActorName::literal("chain"), status: HealthStatus::Healthy }];
        let signer = NameSigner(node(2));
        let report = HealthCheckResult::healthy();
        let signed = two.attestations.issue(at(5), WallTime(5), &report, &actors, &signer);
        for (field, change) in changes {
            let mut forged = signed.clone();
            change(&mut forged.attestation);
            assert_eq!(Member::new(1, 1).take(&forged), Err(Refused::Forged), "{field}");
        }
        assert_eq!(Member::new(1, 1).take(&signed), Ok(Taken::New));
    }

    #[test]
    fn other_versions_and_what_is_too_long_are_refused_before_the_signature_is_looked_at() {
        let mut two = Member::new(2, 1);
        let signed = two.issue(5);
        let changed = |change: fn(&mut SignedAttestation)| {
            let mut changed = signed.clone();
            change(&mut changed);
            Member::new(1, 1).take(&changed).expect_err("refused").to_string()
        };
        assert_eq!(changed(|s| s.attestation.version = 2), "it has version 2; expected 1");
        let long = changed(|s| s.attestation.reason = "x".repeat(257));
        assert_eq!(long, "its reason has 257 entries or bytes; expected at most 256");
        assert!(changed(|s| s.signature = vec![0; 129]).starts_with("its signature has 129"));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut two = Member::new(2, 1);
        let report = HealthCheckResult::unhealthy("ä".repeat(200));
        let signer = NameSigner(node(2));
        let signed = two.attestations.issue(at(1), WallTime(1), &report, &[], &signer);
        assert_eq!(signed.attestation.reason, "ä".repeat(128));
        assert_eq!(Member::new(1, 1).take(&signed), Ok(Taken::New));
    }

    proptest! {
        /// Two statements have the same bytes only if they are the same.
        #[test]
        fn fields_do_not_run_into_each_other(
            texts in prop::collection::vec("[a-z]{0,6}", 2),
            names in prop::collection::vec("[a-z]{1,6}", 0..4),
            cut in 0usize..4,
        ) {
            let actor = |name: &String| ActorState {
                name: ActorName::new(name).expect("a name"),
                status: HealthStatus::Healthy,
            };
            let (some, others) = names.split_at(cut.min(names.len()));
            let base = Member::new(2, 1).issue(5).attestation;
            let first = Attestation {
                reason: texts[0].clone(),
                actors: some.iter().map(actor).collect(),
                ..base.clone()
            };
            let second = Attestation {
                reason: texts[1].clone(),
                actors: others.iter().map(actor).collect(),
                ..base
            };
            prop_assert_eq!(first.bytes() == second.bytes(), first == second);
        }
    }
}
