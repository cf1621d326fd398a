//! Merges all observations of a run into one record: the only input of assertions, invariants, timings and the report.
//!
//! The record only grows. Contradicting facts are kept side by side, because it is the job of the invariants to find
//! them.

use std::collections::{BTreeMap, BTreeSet};

use alys_node::ops::view::{
    AttemptView, BlockView, EquivocationView, GateDecision, GateRecord, GenesisView, ReceivedStatementView,
    SignatureView,
};

use crate::federation::{MemberReport, Observation, PollResult};
use crate::step::{Action, Step};

/// All observations of a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// Start of the run, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Time of the latest observation, milliseconds since the Unix epoch.
    pub observed_ms: u64,
    /// Number of healthy members that the gate requires.
    pub required: usize,
    /// Names of the members in genesis order.
    pub roster: Vec<String>,
    /// Observations by member name.
    pub members: BTreeMap<String, MemberRecord>,
    /// Steps started so far.
    pub steps: Vec<StepRecord>,
    /// Payloads of accepted transactions, hexadecimal.
    pub submitted: Vec<String>,
    /// Final full observation, taken before the last members were stopped.
    pub closing: Option<Closing>,
}

/// All observations of one member.
#[derive(Clone, Debug, Default)]
pub struct MemberRecord {
    /// Genesis as the member reported it, read once per incarnation; distinct values only.
    pub genesis: Vec<GenesisView>,
    /// Gate decisions by incarnation and sequence number.
    pub gate: BTreeMap<(u64, u64), GateRecord>,
    /// Blocks by height; more than one at a height only if the member contradicted itself.
    pub blocks: BTreeMap<u64, Vec<BlockView>>,
    /// Signatures the member reported; see [`signature_key`].
    pub signatures: BTreeMap<SignatureKey, SignatureView>,
    /// Statements of other members that it received, with the time it first received each; see [`statement_key`].
    pub received: BTreeMap<StatementKey, u64>,
    /// Equivocation evidence the member stores.
    pub evidence: Vec<EquivocationView>,
    /// Heights the member reported; one entry per change.
    pub heights: Vec<HeightReading>,
    /// How often its height was read.
    pub height_readings: u64,
    /// Incarnations that answered.
    pub incarnations: BTreeSet<u64>,
    /// Failures of its actors with the supervision decision, by time, actor and attempt.
    pub attempts: BTreeMap<(u64, String, u32), AttemptView>,
    /// Results of polling the member; one entry per change.
    pub looks: Vec<Poll>,
    /// Latest status the member reported.
    pub last: Option<Snapshot>,
    /// Why the member did not answer the latest poll; `None` if it answered.
    pub silence: Option<String>,
}

/// Result of polling a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Time of the poll, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Result of the poll.
    pub found: PollSummary,
}

/// Whether a member answered a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollSummary {
    /// Not polled, because it is paused or down as intended.
    Absent,
    /// It answered.
    Answers,
    /// It did not answer, with the reason.
    Silent(String),
    /// Its process ended unexpectedly, with the exit status.
    Ended(String),
}

/// A height that a member reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeightReading {
    /// Time of the reading, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Incarnation that reported it.
    pub incarnation: u64,
    /// Height of the member's chain.
    pub height: u64,
}

/// Latest status that a member reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Time of the poll, milliseconds since the Unix epoch; the status is at least this recent.
    pub at_ms: u64,
    /// Incarnation of the member.
    pub incarnation: u64,
    /// Height of its chain.
    pub height: u64,
    /// Latest decision of its gate.
    pub gate: GateDecision,
    /// Number of healthy members it counts.
    pub healthy: usize,
    /// Number of links that are up.
    pub links_up: usize,
    /// Links that are down, each with the reason.
    pub links_down: Vec<String>,
    /// Protocol versions of the links that are up, in ascending order.
    pub link_versions: Vec<u32>,
    /// Number of other members whose actors it discovers.
    pub finds: usize,
    /// Problems in its own health report; empty if there are none.
    pub says: String,
    /// Reason of its gate's decision.
    pub reason: String,
    /// Why it is not ready; `None` if it is ready.
    pub unready: Option<Vec<String>>,
}

/// A step that was started.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// Time the step was applied, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Time its effect was observed, milliseconds since the Unix epoch; `None` if it never was.
    pub done_ms: Option<u64>,
}

/// Final full observation of the federation.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// Whether no link was cut at that time.
    pub connected: bool,
    /// Members that answered, by name.
    pub members: BTreeMap<String, ClosingMember>,
}

/// One member in the final observation.
#[derive(Clone, Debug, Default)]
pub struct ClosingMember {
    /// Incarnation of the member.
    pub incarnation: u64,
    /// Height the member reported.
    pub height: u64,
    /// Block hashes by height, all read at that time.
    pub hashes: BTreeMap<u64, String>,
}

/// Identity of a signature: height, round, step, block, incarnation, time. Signatures with the same key are the same
/// fact.
pub type SignatureKey = (u64, u32, String, Option<String>, u64, u64);

/// Key of `signature`.
pub fn signature_key(signature: &SignatureView) -> SignatureKey {
    let SignatureView { incarnation, height, round, step, block, at_ms, .. } = signature;
    (*height, *round, step.clone(), block.clone(), *incarnation, *at_ms)
}

/// Identity of a received statement: author, height, round, step, block. Statements with the same key are the same
/// fact.
pub type StatementKey = (String, u64, u32, String, Option<String>);

/// Key of `statement`.
pub fn statement_key(statement: &ReceivedStatementView) -> StatementKey {
    let ReceivedStatementView { member, height, round, step, block, .. } = statement;
    (member.clone(), *height, *round, step.clone(), block.clone())
}

impl Record {
    /// Creates the record of a run that starts at `started_ms`.
    pub fn new(roster: &[String], required: usize, started_ms: u64) -> Self {
        Self {
            started_ms,
            observed_ms: started_ms,
            required,
            roster: roster.to_vec(),
            members: roster.iter().map(|name| (name.clone(), MemberRecord::default())).collect(),
            steps: Vec::new(),
            submitted: Vec::new(),
            closing: None,
        }
    }

    /// Merges an observation. Returns the members that ended unexpectedly, each with its exit status.
    pub fn absorb(&mut self, observation: &Observation) -> Vec<(String, String)> {
        self.observed_ms = observation.at_ms;
        let mut ended = Vec::new();
        for found in &observation.members {
            let member = self.members.entry(found.name.clone()).or_default();
            member.silence = None;
            member.look(observation.at_ms, &found.finding);
            match &found.finding {
                PollResult::Absent => {}
                PollResult::Answer(answer) => member.absorb(observation.at_ms, answer),
                PollResult::Silent(how) => member.silence = Some(how.clone()),
                PollResult::Ended(how) => {
                    member.silence = Some(how.clone());
                    ended.push((found.name.clone(), how.clone()));
                }
            }
        }
        ended
    }

    /// Merges a full observation as the final one.
    pub fn close(&mut self, observation: &Observation, connected: bool) {
        self.absorb(observation);
        let answers = observation.members.iter().filter_map(|member| match &member.finding {
            PollResult::Answer(answer) => Some((member.name.clone(), ClosingMember::from(answer.as_ref()))),
            _ => None,
        });
        self.closing = Some(Closing { connected, members: answers.collect() });
    }

    /// Latest status of `name`, if it was read at or after `since_ms`.
    pub fn fresh(&self, name: &str, since_ms: u64) -> Option<&Snapshot> {
        self.members.get(name)?.last.as_ref().filter(|snapshot| snapshot.at_ms >= since_ms)
    }

    /// Latest height that `name` reported; 0 if none yet.
    pub fn height(&self, name: &str) -> u64 {
        self.members.get(name).and_then(|member| member.last.as_ref()).map_or(0, |last| last.height)
    }

    /// Every block of every member.
    pub fn blocks(&self) -> impl Iterator<Item = (&str, &BlockView)> {
        self.members.iter().flat_map(|(name, member)| {
            member.blocks.values().flatten().map(move |block| (name.as_str(), block))
        })
    }

    /// Members that a step ordered to break the protocol.
    pub fn byzantine(&self) -> BTreeSet<&str> {
        let told = self.steps.iter().filter_map(|step| match &step.step {
            Step::Act(Action::Misbehave { member, how: Some(_) }) => Some(member.as_str()),
            _ => None,
        });
        told.collect()
    }

    /// Whether a step changed this member's wall clock, so that its timestamps cannot be compared.
    pub fn has_set_clock(&self, name: &str) -> bool {
        self.steps.iter().any(|step| match &step.step {
            Step::Act(Action::Clock { members, .. }) => {
                members.is_empty() || members.iter().any(|member| member == name)
            }
            _ => false,
        })
    }

    /// Time at which each height was first decided by a member itself, milliseconds since the Unix epoch.
    pub fn decided(&self) -> BTreeMap<u64, u64> {
        let mut decided = BTreeMap::new();
        for (_, block) in self.blocks().filter(|(_, block)| !block.adopted) {
            let first = decided.entry(block.height).or_insert(block.decided_at_ms);
            *first = block.decided_at_ms.min(*first);
        }
        decided
    }
}

impl MemberRecord {
    fn look(&mut self, at_ms: u64, finding: &PollResult) {
        let found = match finding {
            PollResult::Absent => PollSummary::Absent,
            PollResult::Answer(_) => PollSummary::Answers,
            PollResult::Silent(how) => PollSummary::Silent(how.clone()),
            PollResult::Ended(how) => PollSummary::Ended(how.clone()),
        };
        // The reason for a missing answer may vary from poll to poll; only a change of the kind of result counts.
        let same = |last: &Poll| std::mem::discriminant(&last.found) == std::mem::discriminant(&found);
        if !self.looks.last().is_some_and(same) {
            self.looks.push(Poll { at_ms, found });
        }
    }

    fn absorb(&mut self, at_ms: u64, answer: &MemberReport) {
        let incarnation = answer.status.incarnation;
        let height = answer.status.height;
        self.incarnations.insert(incarnation);
        self.height_readings += 1;
        let same = |last: &HeightReading| last.incarnation == incarnation && last.height == height;
        if !self.heights.last().is_some_and(same) {
            self.heights.push(HeightReading { at_ms, incarnation, height });
        }
        if let Some(genesis) = answer.genesis.as_ref().filter(|genesis| !self.genesis.contains(genesis)) {
            self.genesis.push(genesis.clone());
        }
        for record in &answer.gate.history {
            self.gate.insert((answer.gate.incarnation, record.sequence), record.clone());
        }
        for block in &answer.blocks {
            let known = self.blocks.entry(block.height).or_default();
            let same = |other: &BlockView| other.hash == block.hash && other.certificate == block.certificate;
            if !known.iter().any(same) {
                known.push(block.clone());
            }
        }
        for attempt in &answer.attempts {
            let failure = &attempt.failure;
            let key = (failure.at_ms, failure.actor.clone(), attempt.attempt);
            // A later report of the same attempt includes the actor's downtime.
            self.attempts.insert(key, attempt.clone());
        }
        for signature in &answer.signatures {
            self.signatures.insert(signature_key(signature), signature.clone());
        }
        for statement in &answer.received {
            let first = self.received.entry(statement_key(statement)).or_insert(statement.at_ms);
            *first = statement.at_ms.min(*first);
        }
        for kept in answer.evidence.iter().filter(|kept| !self.evidence.contains(kept)).collect::<Vec<_>>() {
            self.evidence.push(kept.clone());
        }
        let links = &answer.status.links;
        let down = links.iter().filter(|link| link.state != "up");
        let mut versions: Vec<_> = links.iter().filter_map(|link| link.version).collect();
        versions.sort_unstable();
        self.last = Some(Snapshot {
            at_ms,
            links_down: down
                .map(|link| format!("{} is {} ({})", link.peer, link.state, link.last_loss))
                .collect(),
            link_versions: versions,
            incarnation,
            height,
            gate: answer.gate.decision,
            healthy: answer.gate.healthy,
            says: answer
                .status
                .members
                .iter()
                .find(|member| member.state == "self")
                .map(|member| member.reason.clone())
                .unwrap_or_default(),
            finds: answer.status.members.iter().filter(|member| member.published > Some(0)).count(),
            links_up: answer.status.links.iter().filter(|link| link.state == "up").count(),
            reason: answer.gate.reason.clone(),
            unready: (!answer.ready.ready).then(|| answer.ready.reasons.clone()),
        });
    }
}

impl From<&MemberReport> for ClosingMember {
    fn from(answer: &MemberReport) -> Self {
        Self {
            incarnation: answer.status.incarnation,
            height: answer.status.height,
            hashes: answer.blocks.iter().map(|block| (block.height, block.hash.clone())).collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A block of `fork` at `height`, linked to the parent block of the same fork.
    pub(crate) fn block(height: u64, fork: u8) -> BlockView {
        let hash = |height: u64| {
            if height == 0 { "00".repeat(32) } else { format!("{fork:02x}{height:062x}") }
        };
        BlockView {
            height,
            hash: hash(height),
            parent: hash(height - 1),
            timestamp_ms: 1_000 + 2_000 * height,
            proposer: "node-1".to_owned(),
            state_root: "11".repeat(32),
            transactions: Vec::new(),
            certificate: alys_node::ops::view::CertificateView {
                round: 0,
                block: hash(height),
                signers: vec!["node-1".to_owned(), "node-2".to_owned(), "node-3".to_owned()],
                bitmap: 0b0111,
                signature: "22".repeat(96),
            },
            proposal_at_ms: Some(1_000 + 2_000 * height),
            decided_at_ms: 1_100 + 2_000 * height,
            adopted: false,
        }
    }

    /// A record of four members without observations.
    pub(crate) fn empty() -> Record {
        let roster: Vec<_> = (1..=4).map(|n| format!("node-{n}")).collect();
        Record::new(&roster, 3, 0)
    }

    /// Adds a block to the record of `name`.
    pub(crate) fn give(record: &mut Record, name: &str, block: BlockView) {
        let member = record.members.get_mut(name).expect("a member of the roster");
        member.blocks.entry(block.height).or_default().push(block);
    }

    /// Adds a status of `name` to the record.
    pub(crate) fn say(record: &mut Record, name: &str, at_ms: u64, height: u64, gate: GateDecision) {
        let member = record.members.get_mut(name).expect("a member of the roster");
        let (healthy, reason) = (4, String::new());
        member.heights.push(HeightReading { at_ms, incarnation: 1, height });
        member.height_readings += 1;
        member.last = Some(Snapshot {
            at_ms,
            incarnation: 1,
            height,
            gate,
            healthy,
            links_up: 3,
            links_down: Vec::new(),
            link_versions: vec![2; 3],
            finds: 3,
            says: String::new(),
            reason,
            unready: None,
        });
    }

    #[test]
    fn the_first_to_decide_a_height_gives_its_time_and_who_adopted_it_does_not() {
        let mut record = empty();
        give(&mut record, "node-1", BlockView { decided_at_ms: 3_200, ..block(1, 7) });
        give(&mut record, "node-2", BlockView { decided_at_ms: 3_150, ..block(1, 7) });
        give(&mut record, "node-3", BlockView { decided_at_ms: 3_000, adopted: true, ..block(1, 7) });
        assert_eq!(record.decided(), BTreeMap::from([(1, 3_150)]));
    }
}
