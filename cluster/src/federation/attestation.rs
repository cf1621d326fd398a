//! Implements attestations: signed statements of a member about its own health, which other members may forward.
//!
//! A member that does not receive a peer's heartbeats asks for the peer through others. An answer is useful only if the
//! peer itself made it, and recently. The signature proves the first. A timestamp can not prove the second, because
//! clocks differ and a forwarder may delay a statement. An **echo** proves it: each statement repeats the sequence
//! number of the last statement its author accepted from every other member. A statement that echoes number 117 was
//! made after 117, and this member knows from its own clock when it made 117.
//!
//! ```text
//!   node-1 ── probe, statement 117 of node-1 ──► node-3 ──► node-2        (node-1 ─╳─► node-2)
//!   node-1 ◄── statement 52 of node-2, echoing 117 ── node-3 ◄── node-2
//!          └─► node-2 was alive after 117: it counts until 117 is older than `attestation_validity`
//! ```
//!
//! Whatever its route, a statement can make a dead member count for no longer than that. Sequence numbers increase
//! within an incarnation, and incarnations increase. Statements that are older, badly signed, too long, or of an
//! unknown version are refused.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Moment, WallTime};
use crate::id::{ActorName, BlockHeight, Incarnation, NodeId};
use crate::ping::{HealthCheckResult, HealthStatus};
use crate::port::Signer;

/// Version of the statements that this code makes and accepts.
pub const VERSION: u8 = 1;
/// Maximum number of critical actors in a statement.
pub const ACTORS_MAX: usize = 16;
/// Maximum length of a reason, in bytes; a longer one is truncated when a statement is made.
pub const REASON_BYTES_MAX: usize = 256;
/// Maximum number of echoes in a statement.
pub const ECHOES_MAX: usize = 64;
/// Maximum length of a signature, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 128;
/// Difference in sequence numbers, which are microseconds of the author's clock, up to which an older statement counts
/// as overtaken on a faster route rather than replayed.
const OVERTAKEN_MAX: u64 = 2_000_000;
/// Number of own statements whose time is remembered: several seconds of them.
const ISSUED_MAX: usize = 64;

/// Health of one critical actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorState {
    /// Name of the actor.
    pub name: ActorName,
    /// Status of the actor.
    pub status: HealthStatus,
}

/// Reference to the last statement accepted from another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Author of the statement.
    pub member: NodeId,
    /// Incarnation of the author.
    pub incarnation: Incarnation,
    /// Sequence number of the statement.
    pub sequence: u64,
}

/// Statement of a member about its own health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// Version of the statement.
    pub version: u8,
    /// Author of the statement.
    pub member: NodeId,
    /// Incarnation of the author.
    pub incarnation: Incarnation,
    /// Sequence number; increases with every statement of an incarnation.
    pub sequence: u64,
    /// Time on the author's wall clock; informational only.
    pub at: WallTime,
    /// Height of the author's chain.
    pub height: BlockHeight,
    /// Status of the author.
    pub status: HealthStatus,
    /// Why the status is not healthy; empty if it is.
    pub reason: String,
    /// The author's critical actors, as last checked.
    pub actors: Vec<ActorState>,
    /// Last statements the author accepted from others.
    pub echoes: Vec<Echo>,
}

impl Attestation {
    /// Encodes the signed bytes: fields in order, texts and lists prefixed by their length.
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

    /// Converts the statement to a health check result.
    pub fn report(&self) -> HealthCheckResult {
        HealthCheckResult { status: self.status, reason: self.reason.clone(), height: self.height }
    }
}

/// A statement with its author's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAttestation {
    /// The statement.
    pub attestation: Attestation,
    /// Signature over [`Attestation::bytes`].
    pub signature: Vec<u8>,
}

impl SignedAttestation {
    /// Signs `attestation`.
    pub fn sign(attestation: Attestation, signer: &dyn Signer) -> Self {
        let signature = signer.sign(&attestation.bytes());
        Self { attestation, signature }
    }
}

/// Why a statement was refused. A refusal changes no state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The version is unknown.
    #[error("it has version {0}; expected {VERSION}")]
    Version(u8),
    /// A field exceeds its limit.
    #[error("its {field} has {found} entries or bytes; expected at most {most}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Size of the field.
        found: usize,
        /// Maximum size of the field.
        most: usize,
    },
    /// The author has restarted since.
    #[error("it is of incarnation {found}; the member is in incarnation {known}")]
    OldIncarnation {
        /// Incarnation in the statement.
        found: Incarnation,
        /// Newest known incarnation of the author.
        known: Incarnation,
    },
    /// A later statement of the author, or another one with the same number, was already accepted.
    #[error("it has number {found}, and {last} was accepted already")]
    Replayed {
        /// Number of the statement.
        found: u64,
        /// Number of the newest accepted statement.
        last: u64,
    },
    /// The rate limit for signature checks on this route is exceeded.
    #[error("more statements of it came by this way than are checked")]
    TooMany,
    /// The signature is not the author's over these bytes.
    #[error("its signature is not the member's")]
    Forged,
}

/// Result of an accepted statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the author's newest.
    New,
    /// It is a duplicate of the newest, as arrives over several routes.
    Again,
    /// A later one arrived first over a faster route. It changes nothing.
    Overtaken,
}

/// Number of signatures per author and forwarder that are verified within one heartbeat interval: a member makes a new
/// statement with each of its heartbeats, and when it is asked for one.
const CHECKS_PER_INTERVAL: u32 = 4;
/// Maximum number of unused checks that accumulate.
const CHECKS_SAVED: u32 = 16;

/// Token bucket for signature checks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checks {
    left: u32,
    since: Moment,
}

impl Checks {
    /// Creates a full bucket.
    pub(super) fn new(now: Moment) -> Self {
        Self { left: CHECKS_SAVED, since: now }
    }

    /// Takes one check; false if none is left.
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

/// Last accepted statement of one member.
#[derive(Clone, Debug)]
struct AcceptedAttestation {
    last: SignedAttestation,
    /// When this member made the statement that the accepted one echoes: the author was alive after that.
    lived_after: Option<Moment>,
}

/// Statements made and statements accepted.
#[derive(Clone, Debug)]
pub struct Attestations {
    own: NodeId,
    incarnation: Incarnation,
    issued: VecDeque<(u64, Moment)>,
    accepted: BTreeMap<NodeId, AcceptedAttestation>,
}

impl Attestations {
    /// Creates the state without statements.
    pub fn new(own: NodeId, incarnation: Incarnation) -> Self {
        Self { own, incarnation, issued: VecDeque::new(), accepted: BTreeMap::new() }
    }

    /// Makes and signs a statement with `report` and `actors`.
    pub fn issue(
        &mut self,
        now: Moment,
        at: WallTime,
        report: &HealthCheckResult,
        actors: &[ActorState],
        signer: &dyn Signer,
    ) -> SignedAttestation {
        // Numbers follow the monotonic clock, so they keep increasing across restarts of this actor within one
        // incarnation, and its statements are not taken for replays.
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

    /// Accepts a statement of another member, or returns why not. `known` is the member's newest incarnation known from
    /// elsewhere. The costly signature check comes last, and only if `may` permits it.
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

    /// Discards the evidence that `member` is alive.
    pub fn forget(&mut self, member: &NodeId) {
        if let Some(testimony) = self.accepted.get_mut(member) {
            testimony.lived_after = None;
        }
    }

    /// Last statement of `member`, if it proves that the member was alive within the last `validity`.
    pub fn standing(&self, member: &NodeId, now: Moment, validity: Duration) -> Option<&Attestation> {
        let testimony = self.accepted.get(member)?;
        let lived_after = testimony.lived_after?;
        (now.since(lived_after) < validity).then_some(&testimony.last.attestation)
    }
}

/// Truncates `reason` at a character boundary to the maximum length.
fn shortened(reason: &str) -> &str {
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Signs by prefixing the member's name, so that only this member's signatures verify.
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
        // The author crashes at 1,800; the forwarder releases its statements one by one.
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
        /// Two statements have the same encoding only if they are equal.
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
