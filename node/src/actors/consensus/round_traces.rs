//! Builds the trace of a block round as one member sees it.
//!
//! ```text
//!   round (proposer) ─┬─ propose ─── round (each other member) ─┬─ wait for proposal
//!                     ├─ prevote                                ├─ execute
//!                     ├─ precommit                              ├─ prevote, precommit, aggregate
//!                     ├─ aggregate                              └─ commit
//!                     └─ commit
//! ```
//!
//! All members derive the same trace ID from genesis, height and round, so a round is one trace even if the proposal
//! never arrives, and can be found by its height. The proposal carries the span that becomes the parent of the other
//! members' rounds. The precommits carry the spans that `aggregate` links to.
//!
//! A round is recorded when it ends: decided, superseded by the next round, or halted by the gate. When the gate
//! closes, the open spans are recorded with the reason; when it opens again, the round continues as another span of the
//! same trace.

use std::collections::VecDeque;

use alys_cluster::clock::Moment;
use alys_cluster::trace::span::Attributes;
use alys_cluster::trace::{Span, SpanBuilder, TraceContext, Value, span_id};
use malachite_types::VoteType;
use sha2::{Digest as _, Sha256};

use crate::consensus::message::ConsensusWire;

/// Spans kept of proposals and precommits that arrive before their round starts here. Enough for several rounds of a
/// federation of ordinary size; anything beyond is only missing from the trace.
const EARLY_MAX: usize = 64;

/// A part of a round that has its own span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundPart {
    /// Waiting for another member's proposal.
    WaitForProposal,
    /// Building, signing and sending this member's block.
    Propose,
    /// Execution of the proposed block by the engine.
    Execute,
    /// From this member's prevote until its precommit.
    Prevote,
    /// From this member's precommit until enough precommits have arrived.
    Precommit,
    /// Verifying the last precommit and aggregating the certificate.
    Aggregate,
    /// Storing the block.
    Commit,
}

impl RoundPart {
    fn name(self) -> &'static str {
        match self {
            Self::WaitForProposal => "wait for proposal",
            Self::Propose => "propose",
            Self::Execute => "execute",
            Self::Prevote => "prevote",
            Self::Precommit => "precommit",
            Self::Aggregate => "aggregate",
            Self::Commit => "commit",
        }
    }

    /// Name of the actor that this part waits for.
    fn actor(self) -> &'static str {
        match self {
            Self::Propose | Self::Execute => "engine",
            Self::Commit => "chain",
            Self::WaitForProposal | Self::Prevote | Self::Precommit | Self::Aggregate => "consensus",
        }
    }
}

/// State of the gate, as recorded in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateNote {
    /// Whether the gate admits votes.
    pub open: bool,
    /// Number of healthy members.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Reason for the state.
    pub reason: String,
}

/// A round of a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundPlace {
    /// Height that the round is part of.
    pub height: u64,
    /// Round within the height.
    pub round: u32,
}

impl RoundPlace {
    fn of(message: &ConsensusWire) -> Self {
        Self { height: message.height(), round: message.round() }
    }

    /// Trace ID of this round, the same on all members of the chain with this genesis.
    pub fn trace_id(self, genesis: [u8; 32]) -> [u8; 16] {
        let hash = Sha256::new()
            .chain_update(b"alys block round")
            .chain_update(genesis)
            .chain_update(self.height.to_be_bytes())
            .chain_update(self.round.to_be_bytes())
            .finalize();
        *hash.first_chunk().expect("32 bytes")
    }
}

/// A round in progress.
struct Round {
    place: RoundPlace,
    proposer: usize,
    whole: SpanBuilder,
    open: Vec<(RoundPart, SpanBuilder)>,
    /// Parts that have started, whether they have ended or not.
    begun: Vec<(RoundPart, TraceContext)>,
    over: Vec<Span>,
    /// Spans carried by the precommits of other members.
    precommits: Vec<TraceContext>,
}

fn ended(draft: SpanBuilder, now: Moment, error: Option<&str>) -> Span {
    match error {
        None => draft.end(now),
        Some(reason) => draft.fail(now, reason.to_owned()),
    }
}

impl Round {
    /// Starts a part, unless it has already started: repeated messages do not start it again.
    fn begin(&mut self, now: Moment, step: RoundPart) {
        if !self.begun.iter().any(|(begun, _)| *begun == step) {
            let draft = SpanBuilder::child(self.whole.context(), span_id(), step.name(), now);
            self.begun.push((step, draft.context()));
            self.open.push((step, draft.with("alys.actor", step.actor())));
        }
    }

    /// Span of a part that has started, or the round's.
    fn context_of(&self, step: RoundPart) -> TraceContext {
        let begun = self.begun.iter().find(|(begun, _)| *begun == step);
        begun.map_or_else(|| self.whole.context(), |(_, context)| *context)
    }

    fn draft(&mut self, step: RoundPart) -> Option<&mut SpanBuilder> {
        self.open.iter_mut().find(|(open, _)| *open == step).map(|(_, draft)| draft)
    }

    fn end(&mut self, now: Moment, step: RoundPart) {
        if let Some(index) = self.open.iter().position(|(open, _)| *open == step) {
            self.over.push(self.open.remove(index).1.end(now));
        }
    }

    /// Handles a proposal that carries the span `part_of`, which becomes the round's parent.
    fn proposed(&mut self, by: Option<usize>, own: usize, part_of: TraceContext) {
        // The author is not verified yet: a forged proposal must not make a span its own parent.
        if by == Some(self.proposer) && by != Some(own) && part_of.span_id != self.whole.context().span_id {
            self.whole.adopt(part_of);
        }
    }

    /// Discards a part that was not needed; it is not recorded.
    fn forget(&mut self, step: RoundPart) {
        self.open.retain(|(open, _)| *open != step);
    }

    fn finish(mut self, now: Moment, outcome: &'static str, error: Option<&str>) -> Vec<Span> {
        self.over.extend(self.open.into_iter().map(|(_, draft)| ended(draft, now, error)));
        self.whole.set("alys.outcome", outcome);
        self.over.push(ended(self.whole, now, error));
        self.over
    }

    fn note_gate(&mut self, now: Moment, gate: &GateNote) {
        note_gate(&mut self.whole, now, gate);
    }
}

fn note_gate(draft: &mut SpanBuilder, now: Moment, gate: &GateNote) {
    let attributes: Attributes = vec![
        ("alys.gate.healthy", Value::from(gate.healthy)),
        ("alys.gate.required", Value::from(gate.required)),
        ("alys.gate.reason", Value::from(gate.reason.clone())),
    ];
    draft.event(now, if gate.open { "gate open" } else { "gate closed" }, attributes);
}

/// A message that arrived before its round started here.
struct Early {
    place: RoundPlace,
    is_proposal: bool,
    part_of: TraceContext,
}

/// Builds the traces of one member's rounds. Methods that return spans return those that have ended.
pub struct RoundTraces {
    genesis: [u8; 32],
    own: usize,
    members: Vec<String>,
    current: Option<Round>,
    /// Round that was recorded when the gate closed and is not decided, with its proposer.
    halted: Option<(RoundPlace, usize)>,
    gate: Option<GateNote>,
    early: VecDeque<Early>,
    last: TraceContext,
    /// Next height to be decided.
    next: u64,
}

impl RoundTraces {
    /// Creates the traces for the member at index `own` of `members`, from the height `next` on.
    pub fn new(genesis: [u8; 32], own: usize, members: Vec<String>, next: u64) -> Self {
        let (early, last) = (VecDeque::new(), TraceContext::default());
        Self { genesis, own, members, current: None, halted: None, gate: None, early, last, next }
    }

    /// Context of the current round; the zero context if there is none.
    pub fn context(&self) -> TraceContext {
        self.current.as_ref().map_or_else(TraceContext::default, |round| round.whole.context())
    }

    /// A round of `proposer` started.
    #[must_use]
    pub fn began(&mut self, now: Moment, place: RoundPlace, proposer: usize) -> Vec<Span> {
        let over = self.current.take().map_or_else(Vec::new, |round| {
            let outcome = if round.place.height == place.height { "next round" } else { "left" };
            round.finish(now, outcome, None)
        });
        self.open(now, place, proposer, false);
        over
    }

    fn open(&mut self, now: Moment, place: RoundPlace, proposer: usize, resumed: bool) {
        let context = TraceContext::sampled(place.trace_id(self.genesis), span_id());
        let mut whole = SpanBuilder::root(context, "round", now)
            .with("alys.height", place.height)
            .with("alys.round", place.round)
            .with("alys.proposer", self.members.get(proposer).cloned().unwrap_or_default())
            .with("alys.resumed", resumed);
        whole.link(std::mem::replace(&mut self.last, context));
        let (mut parent, mut precommits) = (None, Vec::new());
        self.early.retain(|early| {
            if early.place == place && early.is_proposal {
                parent.get_or_insert(early.part_of);
            } else if early.place == place {
                precommits.push(early.part_of);
            }
            early.place.height >= place.height && early.place != place
        });
        let mut round = Round {
            place,
            proposer,
            whole,
            open: Vec::new(),
            begun: Vec::new(),
            over: Vec::new(),
            precommits,
        };
        if let Some(gate) = &self.gate {
            round.note_gate(now, gate);
        }
        match parent {
            Some(parent) => round.whole.adopt(parent),
            None if proposer != self.own => round.begin(now, RoundPart::WaitForProposal),
            None => {}
        }
        self.halted = None;
        self.current = Some(round);
    }

    /// The gate was checked; `gate` is its state.
    #[must_use]
    pub fn gate(&mut self, now: Moment, gate: GateNote) -> Vec<Span> {
        let is_news = self
            .gate
            .as_ref()
            .is_none_or(|before| (before.open, before.healthy) != (gate.open, gate.healthy));
        if !is_news {
            return Vec::new();
        }
        let was_open = self.gate.as_ref().is_some_and(|before| before.open);
        let mut over = Vec::new();
        if let Some(round) = &mut self.current {
            round.note_gate(now, &gate);
        }
        if !gate.open {
            over = match self.current.take() {
                Some(round) => {
                    self.halted = Some((round.place, round.proposer));
                    round.finish(now, "halted", Some(&gate.reason))
                }
                None if was_open && self.halted.is_none() => vec![self.halted_before(now, &gate)],
                None => Vec::new(),
            };
        }
        let opens = gate.open;
        self.gate = Some(gate);
        if opens && let Some((place, proposer)) = self.halted.take() {
            self.open(now, place, proposer, true);
        }
        over
    }

    /// The gate closed between two heights, where a member is most of the time. Records the round that does not start,
    /// in the trace in which it starts later.
    fn halted_before(&mut self, now: Moment, gate: &GateNote) -> Span {
        let place = RoundPlace { height: self.next, round: 0 };
        let context = TraceContext::sampled(place.trace_id(self.genesis), span_id());
        let mut whole = SpanBuilder::root(context, "round", now)
            .with("alys.height", place.height)
            .with("alys.round", place.round)
            .with("alys.outcome", "halted");
        whole.link(std::mem::replace(&mut self.last, context));
        note_gate(&mut whole, now, gate);
        whole.fail(now, gate.reason.clone())
    }

    /// This member asked its engine to build a block.
    pub fn building(&mut self, now: Moment) {
        if let Some(round) = &mut self.current {
            round.begin(now, RoundPart::Propose);
        }
    }

    /// This member asked its engine to execute a block.
    pub fn executing(&mut self, now: Moment) {
        if let Some(round) = &mut self.current {
            round.end(now, RoundPart::WaitForProposal);
            round.begin(now, RoundPart::Execute);
        }
    }

    /// The engine responded.
    pub fn executed(&mut self, now: Moment, valid: bool) {
        if let Some(round) = &mut self.current {
            if let Some(draft) = round.draft(RoundPart::Execute) {
                draft.set("alys.valid", valid);
            }
            round.end(now, RoundPart::Execute);
        }
    }

    /// This member sends a message. Returns the span that the message is part of.
    pub fn said(&mut self, now: Moment, message: &ConsensusWire) -> TraceContext {
        let place = RoundPlace::of(message);
        let Some(round) = self.current.as_mut().filter(|round| round.place == place) else {
            return TraceContext::default();
        };
        if message.author() != Some(self.own) {
            return round.whole.context();
        }
        match message {
            ConsensusWire::Proposal(..) => {
                // The block was built in an earlier round, or before a restart.
                round.begin(now, RoundPart::Propose);
                round.end(now, RoundPart::Propose);
                round.context_of(RoundPart::Propose)
            }
            ConsensusWire::Vote(vote, _) => {
                let step = match vote.kind {
                    VoteType::Prevote => RoundPart::Prevote,
                    VoteType::Precommit => RoundPart::Precommit,
                };
                // The core emits the vote for its own block before the block.
                round.end(now, RoundPart::WaitForProposal);
                round.end(now, RoundPart::Propose);
                if step == RoundPart::Precommit {
                    round.end(now, RoundPart::Prevote);
                }
                // If the other prevotes have already arrived, the core emits the precommit before the prevote, in the
                // same step.
                let precommit = round.draft(RoundPart::Precommit).map(|draft| draft.started());
                let is_over = step == RoundPart::Prevote && precommit.is_some();
                let begins = precommit.filter(|_| is_over).unwrap_or(now);
                round.begin(begins, step);
                if let Some(draft) = round.draft(step) {
                    draft.set("alys.for_block", vote.block.is_val());
                }
                if is_over {
                    round.end(begins, step);
                }
                round.context_of(step)
            }
            ConsensusWire::Polka { .. } | ConsensusWire::Round { .. } => round.whole.context(),
        }
    }

    /// Another member's message arrived, which carries the span `part_of`.
    pub fn heard(&mut self, message: &ConsensusWire, part_of: TraceContext) {
        let place = RoundPlace::of(message);
        // A span of another trace than this round's is a mistake or a forgery.
        if !part_of.is_sampled() || part_of.trace_id != place.trace_id(self.genesis) {
            return;
        }
        let is_proposal = match message {
            ConsensusWire::Proposal(..) => true,
            ConsensusWire::Vote(vote, _) if vote.kind == VoteType::Precommit => false,
            _ => return,
        };
        match self.current.as_mut().filter(|round| round.place == place) {
            Some(round) if is_proposal => round.proposed(message.author(), self.own, part_of),
            // Votes get lost and are repeated; repetitions use no other member's quota.
            Some(round) => {
                if round.precommits.len() < self.members.len() && !round.precommits.contains(&part_of) {
                    round.precommits.push(part_of);
                }
            }
            None if place.height < self.next || self.early.iter().any(|early| early.part_of == part_of) => {}
            None => {
                if self.early.len() == EARLY_MAX {
                    self.early.pop_front();
                }
                self.early.push_back(Early { place, is_proposal, part_of });
            }
        }
    }

    /// The round was decided in a step that began at `began`.
    pub fn decided(&mut self, began: Moment, now: Moment) {
        let Some(round) = &mut self.current else { return };
        round.end(began, RoundPart::Prevote);
        round.end(began, RoundPart::Precommit);
        round.begin(began, RoundPart::Aggregate);
        let precommits = std::mem::take(&mut round.precommits);
        if let Some(draft) = round.draft(RoundPart::Aggregate) {
            for precommit in precommits {
                draft.link(precommit);
            }
        }
        round.end(now, RoundPart::Aggregate);
        round.begin(now, RoundPart::Commit);
    }

    /// Span of a part of the current round, or the round's.
    pub fn context_of(&self, step: RoundPart) -> TraceContext {
        self.current.as_ref().map_or_else(TraceContext::default, |round| round.context_of(step))
    }

    /// The chain's head is now at `height`.
    #[must_use]
    pub fn committed(&mut self, now: Moment, height: u64, adopted: bool) -> Vec<Span> {
        self.next = self.next.max(height + 1);
        if self.halted.is_some_and(|(place, _)| place.height <= height) {
            self.halted = None;
        }
        let outcome = if adopted { "adopted" } else { "decided" };
        let round = self.current.take_if(|round| round.place.height <= height);
        round.map_or_else(Vec::new, |mut round| {
            if adopted {
                round.forget(RoundPart::WaitForProposal);
            }
            round.finish(now, outcome, None)
        })
    }

    /// The consensus actor stops in the middle of a round.
    #[must_use]
    pub fn abandoned(&mut self, now: Moment) -> Vec<Span> {
        let round = self.current.take();
        round.map_or_else(Vec::new, |round| round.finish(now, "abandoned", Some("the consensus actor ended")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use malachite_types::{NilOrVal, Round as CoreRound};

    use super::*;
    use crate::consensus::BlockHash;
    use crate::consensus::context::{BlockVote, ConsensusHeight, MemberIndex};
    use crate::keys::{SIGNATURE_BYTES, Signature};

    const GENESIS: [u8; 32] = [7; 32];
    const PLACE: RoundPlace = RoundPlace { height: 5, round: 1 };

    fn at(millis: u64) -> Moment {
        Moment::at(Duration::from_millis(millis))
    }

    fn vote(kind: VoteType, voter: u8) -> ConsensusWire {
        let vote = BlockVote {
            height: ConsensusHeight(PLACE.height),
            round: CoreRound::new(PLACE.round),
            kind,
            block: NilOrVal::Val(BlockHash([1; 32])),
            voter: MemberIndex(voter),
        };
        ConsensusWire::Vote(vote, Signature([0; SIGNATURE_BYTES]))
    }

    fn gate(open: bool, healthy: usize) -> GateNote {
        let reason = if open { "enough" } else { "2 of 4 healthy; 3 required" };
        GateNote { open, healthy, required: 3, reason: reason.to_owned() }
    }

    /// Traces of the first member, in a round of which the second is the proposer.
    fn rounds() -> RoundTraces {
        let members = (1..=4).map(|number| format!("node-{number}")).collect();
        let mut rounds = RoundTraces::new(GENESIS, 0, members, PLACE.height);
        assert!(rounds.gate(at(0), gate(true, 4)).is_empty());
        assert!(rounds.began(at(10), PLACE, 1).is_empty());
        rounds
    }

    fn shown(spans: &[Span]) -> Vec<(&str, u64, u64, bool)> {
        let millis = |moment: Moment| moment.since(Moment::ORIGIN).as_millis() as u64;
        let row = |span: &Span| (millis(span.started), millis(span.ended), span.error.is_some());
        spans
            .iter()
            .map(|span| (span.name.as_ref(), row(span)))
            .map(|(name, (a, b, c))| (name, a, b, c))
            .collect()
    }

    #[test]
    fn a_round_that_the_gate_halts_is_told_with_the_reason_and_goes_on_in_the_same_trace() {
        let mut rounds = rounds();
        rounds.executing(at(20));
        assert!(rounds.gate(at(30), gate(true, 3)).is_empty(), "open still");
        let halted = rounds.gate(at(40), gate(false, 2));
        let expected =
            [("wait for proposal", 10, 20, false), ("execute", 20, 40, true), ("round", 10, 40, true)];
        assert_eq!(shown(&halted), expected);
        let round = &halted[2];
        assert_eq!(round.error.as_deref(), Some("2 of 4 healthy; 3 required"));
        let notes: Vec<_> = round.events.iter().map(|note| note.name).collect();
        assert_eq!(notes, ["gate open", "gate open", "gate closed"]);
        assert_eq!(rounds.context(), TraceContext::default(), "nothing stays open while it is halted");
        // Messages sent meanwhile belong to no span, and time passes.
        assert_eq!(rounds.said(at(50), &vote(VoteType::Prevote, 0)), TraceContext::default());
        assert!(rounds.gate(at(60), gate(false, 2)).is_empty());

        assert!(rounds.gate(at(90), gate(true, 3)).is_empty());
        let resumed = rounds.context();
        assert_eq!(resumed.trace_id, round.context.trace_id);
        assert_ne!(resumed.span_id, round.context.span_id);
        let decided = rounds.committed(at(99), PLACE.height, false);
        let round = decided.last().expect("the round");
        assert!(round.attributes.contains(&("alys.resumed", Value::Flag(true))));
    }

    #[test]
    fn a_halt_between_two_heights_is_told_in_the_trace_of_the_round_that_does_not_begin() {
        let mut rounds = rounds();
        let before = rounds.context();
        assert_eq!(rounds.committed(at(20), PLACE.height, false).len(), 2);
        let told = rounds.gate(at(100), gate(false, 2));
        assert_eq!(shown(&told), [("round", 100, 100, true)]);
        let next = RoundPlace { height: PLACE.height + 1, round: 0 };
        assert_eq!(told[0].context.trace_id, next.trace_id(GENESIS));
        assert_eq!(told[0].error.as_deref(), Some("2 of 4 healthy; 3 required"));
        assert_eq!((told[0].links.as_slice(), told[0].events[0].name), (&[before][..], "gate closed"));
        assert!(rounds.gate(at(110), gate(false, 1)).is_empty(), "once");
        assert!(rounds.gate(at(200), gate(true, 3)).is_empty());
        assert!(rounds.began(at(210), next, 1).is_empty());
        let round = rounds.committed(at(220), next.height, false).pop().expect("the round");
        assert_eq!(round.context.trace_id, told[0].context.trace_id);
        assert_eq!(round.links, [told[0].context], "it follows from the halt");
    }

    #[test]
    fn a_member_that_starts_where_nothing_works_yet_has_not_halted() {
        let mut rounds = RoundTraces::new(GENESIS, 0, Vec::new(), 1);
        assert!(rounds.gate(at(0), gate(false, 1)).is_empty());
    }

    #[test]
    fn steps_follow_each_other_and_are_told_once_however_often_they_are_said() {
        let mut rounds = rounds();
        rounds.executing(at(20));
        rounds.executed(at(25), true);
        let prevote = rounds.said(at(30), &vote(VoteType::Prevote, 0));
        let precommit = rounds.said(at(40), &vote(VoteType::Precommit, 0));
        assert_eq!(rounds.said(at(45), &vote(VoteType::Prevote, 0)), prevote, "said again");
        assert_ne!(prevote, precommit);
        // Another member's vote with a span of another trace is not linked.
        let others = TraceContext::sampled(PLACE.trace_id(GENESIS), [9; 8]);
        (0..1_000).for_each(|_| rounds.heard(&vote(VoteType::Precommit, 2), others));
        rounds.heard(&vote(VoteType::Precommit, 3), TraceContext::sampled([1; 16], [8; 8]));
        let last = others.with_span([10; 8]);
        rounds.heard(&vote(VoteType::Precommit, 3), last);
        rounds.decided(at(50), at(52));
        assert_ne!(rounds.context_of(RoundPart::Commit), rounds.context());
        let told = rounds.committed(at(60), PLACE.height, false);
        let expected = [
            ("wait for proposal", 10, 20, false),
            ("execute", 20, 25, false),
            ("prevote", 30, 40, false),
            ("precommit", 40, 50, false),
            ("aggregate", 50, 52, false),
            ("commit", 52, 60, false),
            ("round", 10, 60, false),
        ];
        assert_eq!(shown(&told), expected);
        assert_eq!(told[4].links, [others, last]);
        assert!(told.iter().all(|span| span.context.trace_id == PLACE.trace_id(GENESIS)));
    }

    #[test]
    fn what_was_heard_before_its_round_began_belongs_to_it() {
        let mut rounds = rounds();
        let next = RoundPlace { height: PLACE.height + 1, round: PLACE.round };
        let [proposal, precommit] =
            [[7; 8], [8; 8]].map(|span| TraceContext::sampled(next.trace_id(GENESIS), span));
        let of_next = |message: ConsensusWire| match message {
            ConsensusWire::Vote(mut vote, signature) => {
                vote.height.0 = next.height;
                ConsensusWire::Vote(vote, signature)
            }
            other => other,
        };
        (0..1_000).for_each(|_| rounds.heard(&of_next(vote(VoteType::Precommit, 2)), precommit));
        rounds.heard(&of_next(vote(VoteType::Prevote, 2)), proposal);
        assert_eq!(rounds.committed(at(20), PLACE.height, false).len(), 2);
        assert!(rounds.began(at(30), next, 1).is_empty());
        rounds.said(at(40), &of_next(vote(VoteType::Precommit, 0)));
        rounds.decided(at(50), at(52));
        let told = rounds.committed(at(60), next.height, false);
        let aggregate = told.iter().find(|span| span.name == "aggregate").expect("told");
        assert_eq!(aggregate.links, [precommit]);
    }

    #[test]
    fn a_prevote_that_is_said_after_its_precommit_took_no_time() {
        let mut rounds = rounds();
        let precommit = rounds.said(at(30), &vote(VoteType::Precommit, 0));
        let prevote = rounds.said(at(31), &vote(VoteType::Prevote, 0));
        assert_ne!(prevote, precommit);
        rounds.decided(at(50), at(52));
        let told = rounds.committed(at(60), PLACE.height, false);
        assert_eq!(shown(&told)[1..3], [("prevote", 30, 30, false), ("precommit", 30, 50, false)]);
    }

    #[test]
    fn a_round_ends_with_the_next_with_a_fetched_block_and_with_its_actor() {
        let next = RoundPlace { round: PLACE.round + 1, ..PLACE };
        let mut rounds = rounds();
        let first = rounds.context();
        assert_eq!(
            shown(&rounds.began(at(30), next, 2)),
            [("wait for proposal", 10, 30, false), ("round", 10, 30, false)]
        );
        assert_ne!(rounds.context().trace_id, first.trace_id, "every round has a trace of its own");
        let adopted = rounds.committed(at(40), PLACE.height, true);
        assert_eq!(shown(&adopted), [("round", 30, 40, false)]);
        assert_eq!(adopted[0].links, [first], "it follows from the round before");
        assert!(rounds.abandoned(at(41)).is_empty());
        assert!(rounds.began(at(50), RoundPlace { height: 6, round: 0 }, 0).is_empty());
        rounds.building(at(51));
        assert_eq!(shown(&rounds.abandoned(at(60))), [("propose", 51, 60, true), ("round", 50, 60, true)]);
    }
}
