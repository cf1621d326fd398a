//! Everything that was observed of a run, merged: the one thing checks, invariants, timings and the report
//! are computed from.
//!
//! It only grows. Facts that contradict each other are kept side by side, for it is the invariants' work to
//! find them.

use std::collections::{BTreeMap, BTreeSet};

use alys_node::ops::view::{
    AttemptView, BlockView, EquivocationView, GateDecision, GateRecord, GenesisView, ReceivedStatementView,
    SignatureView,
};

use crate::federation::{MemberReport, Observation, PollResult};
use crate::step::{Action, Step};

/// Everything observed of a run.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the run began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it was last observed.
    pub observed_ms: u64,
    /// How many healthy members the gate requires.
    pub required: usize,
    /// Names in genesis order.
    pub roster: Vec<String>,
    /// By member.
    pub members: BTreeMap<String, MemberRecord>,
    /// Steps begun so far.
    pub steps: Vec<StepRecord>,
    /// Payloads of accepted transactions, hexadecimal.
    pub submitted: Vec<String>,
    /// The last look at everything, before the last members were stopped.
    pub closing: Option<Closing>,
}

/// Everything observed of one member.
#[derive(Clone, Debug, Default)]
pub struct MemberRecord {
    /// What it said its genesis is, once an incarnation; different ones only.
    pub genesis: Vec<GenesisView>,
    /// Gate decisions by incarnation and sequence.
    pub gate: BTreeMap<(u64, u64), GateRecord>,
    /// Blocks by height; several only if the member contradicted itself.
    pub blocks: BTreeMap<u64, Vec<BlockView>>,
    /// Signatures; see [`signature_key`].
    pub signatures: BTreeMap<SignatureKey, SignatureView>,
    /// Statements of others that it has received, and when first; see [`statement_key`].
    pub received: BTreeMap<StatementKey, u64>,
    /// The evidence it keeps.
    pub evidence: Vec<EquivocationView>,
    /// The height it said it has, whenever it changed.
    pub heights: Vec<HeightReading>,
    /// How often its height was read.
    pub height_readings: u64,
    /// The incarnations that answered.
    pub incarnations: BTreeSet<u64>,
    /// Failures of its actors and what its supervision decided, by time, actor and attempt.
    pub attempts: BTreeMap<(u64, String, u32), AttemptView>,
    /// Whether it answered, whenever that changed.
    pub looks: Vec<Poll>,
    /// What it last said of itself.
    pub last: Option<Snapshot>,
    /// Why it did not answer, if it did not when last asked.
    pub silence: Option<String>,
}

/// What came of asking a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// When.
    pub at_ms: u64,
    /// What was found.
    pub found: PollSummary,
}

/// Whether a member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PollSummary {
    /// It was not asked, for it is paused or down as it should be.
    Absent,
    /// It did.
    Answers,
    /// It did not, and how.
    Silent(String),
    /// It ended though nobody ended it, and how.
    Ended(String),
}

/// A height as a member gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeightReading {
    /// When.
    pub at_ms: u64,
    /// By which incarnation.
    pub incarnation: u64,
    /// The height.
    pub height: u64,
}

/// What a member last said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// It is at least that new.
    pub at_ms: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// The height of its chain.
    pub height: u64,
    /// Its gate's decision.
    pub gate: GateDecision,
    /// Healthy members it counts.
    pub healthy: usize,
    /// Links that are up.
    pub links_up: usize,
    /// Links that are not, and why each was lost.
    pub links_down: Vec<String>,
    /// Versions of the links that are up, in ascending order.
    pub link_versions: Vec<u32>,
    /// Other members whose actors it finds.
    pub finds: usize,
    /// What it says of its own health; empty where all is well.
    pub says: String,
    /// Its gate's reason.
    pub reason: String,
    /// Why it is not ready; empty when it is.
    pub unready: Option<Vec<String>>,
}

/// A step that was begun.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// When it was applied.
    pub at_ms: u64,
    /// When its effect was observed; absent if it never was.
    pub done_ms: Option<u64>,
}

/// The last look at everything.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// Whether no link was cut then.
    pub connected: bool,
    /// Who answered: incarnation, height, and hashes of the whole chain.
    pub members: BTreeMap<String, ClosingMember>,
}

/// One member at the last look.
#[derive(Clone, Debug, Default)]
pub struct ClosingMember {
    /// Its incarnation.
    pub incarnation: u64,
    /// The height it said it has.
    pub height: u64,
    /// Hashes by height, all read then.
    pub hashes: BTreeMap<u64, String>,
}

/// What makes two signatures the same fact.
pub type SignatureKey = (u64, u32, String, Option<String>, u64, u64);

/// Height, round, step, block, incarnation, time.
pub fn signature_key(signature: &SignatureView) -> SignatureKey {
    let SignatureView { incarnation, height, round, step, block, at_ms, .. } = signature;
    (*height, *round, step.clone(), block.clone(), *incarnation, *at_ms)
}

/// What makes two received statements the same fact.
pub type StatementKey = (String, u64, u32, String, Option<String>);

/// Author, height, round, step, block.
pub fn statement_key(statement: &ReceivedStatementView) -> StatementKey {
    let ReceivedStatementView { member, height, round, step, block, .. } = statement;
    (member.clone(), *height, *round, step.clone(), block.clone())
}

impl Record {
    /// A run that begins at `started_ms`.
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

    /// Merges an observation. Returns members that ended by themselves, with how.
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

    /// Merges an observation of everything as the last look at the members that answered.
    pub fn close(&mut self, observation: &Observation, connected: bool) {
        self.absorb(observation);
        let answers = observation.members.iter().filter_map(|member| match &member.finding {
            PollResult::Answer(answer) => Some((member.name.clone(), ClosingMember::from(answer.as_ref()))),
            _ => None,
        });
        self.closing = Some(Closing { connected, members: answers.collect() });
    }

    /// What `name` last said of itself, if it said so at or after `since_ms`.
    pub fn fresh(&self, name: &str, since_ms: u64) -> Option<&Snapshot> {
        self.members.get(name)?.last.as_ref().filter(|snapshot| snapshot.at_ms >= since_ms)
    }

    /// The height `name` last gave; 0 before it gave one.
    pub fn height(&self, name: &str) -> u64 {
        self.members.get(name).and_then(|member| member.last.as_ref()).map_or(0, |last| last.height)
    }

    /// Every member's every block.
    pub fn blocks(&self) -> impl Iterator<Item = (&str, &BlockView)> {
        self.members.iter().flat_map(|(name, member)| {
            member.blocks.values().flatten().map(move |block| (name.as_str(), block))
        })
    }

    /// Members that were told to break the protocol.
    pub fn byzantine(&self) -> BTreeSet<&str> {
        let told = self.steps.iter().filter_map(|step| match &step.step {
            Step::Act(Action::Misbehave { member, how: Some(_) }) => Some(member.as_str()),
            _ => None,
        });
        told.collect()
    }

    /// Whether a step set this member's wall clock, so that its times can not be compared.
    pub fn has_set_clock(&self, name: &str) -> bool {
        self.steps.iter().any(|step| match &step.step {
            Step::Act(Action::Clock { members, .. }) => {
                members.is_empty() || members.iter().any(|member| member == name)
            }
            _ => false,
        })
    }

    /// When each height was first decided by a member itself, in milliseconds since the Unix epoch.
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
        // How a member is silent may vary from look to look; that it is does not.
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
            // The later word on it knows how long the actor was away.
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

    /// A block of the given height whose hash is that of `fork` and which links to the same fork.
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

    /// A record of four members that know nothing yet.
    pub(crate) fn empty() -> Record {
        let roster: Vec<_> = (1..=4).map(|n| format!("node-{n}")).collect();
        Record::new(&roster, 3, 0)
    }

    /// Gives `name` a block.
    pub(crate) fn give(record: &mut Record, name: &str, block: BlockView) {
        let member = record.members.get_mut(name).expect("a member of the roster");
        member.blocks.entry(block.height).or_default().push(block);
    }

    /// Lets `name` have said so of itself.
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
