//! When the protocol may take a step.
//!
//! ```text
//!              due, gate open              decided             committed
//!   waiting ──────────────────► deciding ───────────► committing ───────► waiting
//!      ▲                            │ a peer's block adopted                  ▲
//!      ├────────────────────────────┴────────────────────────────────────────┘
//!      └── the gate closed in the middle of a step: replayed from the log once it is open again
//! ```
//!
//! A member whose signer's journal holds a statement for the height that replaying the log does not lead to
//! has lost a part of the log, and may have locked a block without knowing it any more. It stays **silent**
//! until others have decided that height, and says that it is unhealthy meanwhile.
//!
//! A proposer that is known to be lost is not waited for: its time-out ends at once, at the beginning of its
//! round and in the middle of it, and so does the wait for precommits of a block that nobody has seen. That is
//! liveness only: leaving a round early is always safe, and what the proposer says is heard whenever it comes.
//!
//! What arrives is verified first, and a second statement of one author that differs is evidence ([`Received`]). While
//! the gate is closed, and between two heights, what was verified is held, bounded for each sender ([`Held`]).
//!
//! A member that votes for another block than the one this member was offered is sent that offer, and what others
//! voted in a round without a decision is passed on: a member that says different things to different members is
//! found out. When the gate opens, and when a peer comes back, this
//! member repeats what it said in the present round, so that nobody waits for a repetition timer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alys_cluster::clock::{Moment, WallTime};
use alys_cluster::federation::roster::required;
use alys_cluster::health::HealthCheckResult;
use alys_cluster::id::NodeId;
use alys_cluster::port::PeerChange;

use super::held::Held;
use crate::consensus::config::ConsensusConfig;
use crate::consensus::context::{Statement, Step, proposer_index};
use crate::consensus::core::{
    BftCore, CoreError, CoreInput, Effect, Ports, RoundTimer, needs_proposer, waits_for_proposal,
};
use crate::consensus::evidence::Equivocation;
use crate::consensus::guard::{Signer, SigningRefusal};
use crate::consensus::log::{LogError, MessageLog};
use crate::consensus::message::{ConsensusWire, LogEntry};
use crate::consensus::pacing::Pacing;
use crate::consensus::received::{HEIGHTS_AHEAD, Received};
use crate::consensus::{Block, BlockHash, Certificate};
use crate::ports::{Head, Observed};

/// Slots without a block, while the gate is open, after which consensus calls itself degraded, and the member is not ready.
pub const STALLED_SLOTS: u32 = 3;
/// How far above what others say of their chains a member may have signed before it lost its memory: the height in hand,
/// and the one above where it decided that before those who speak had.
const FORGOTTEN_ABOVE: u64 = 2;
/// Why a member remembers nothing.
pub const COPIED: &str = "this member's key has signed what its journal does not know: its data directory is an older copy, or its key has two holders";
/// Why a member is silent.
const SILENT: &str = "a part of the consensus log is gone; silent until others have decided this height";
/// Own messages of the present round that can be repeated.
const SAID_MAX: usize = 32;
/// Proposals of one member for one height of which it is remembered when they were seen.
const SEEN_PER_MEMBER: usize = 4;
/// Forged messages of one sender, each of which costs a signature's check, until it is heard again at the next height.
const FORGERIES_MAX: u32 = 16;
/// Syncs before a proposal leaves its proposer, with the emptying of the log: the block in the log, the journal.
const PROPOSAL_SYNCS: u32 = 4;
/// How long before a height is due the log is emptied for it: so many syncs, and a few ticks.
const PREPARATION_SYNCS: u32 = 2;
const PREPARATION: Duration = Duration::from_millis(60);
/// Syncs before a vote leaves its voter: the log, the journal, and one that a step before it may be in.
const VOTE_SYNCS: u32 = 3;

/// The time of an input, on both clocks, and whether the gate is open at that moment.
#[derive(Clone, Copy, Debug)]
pub struct StepTime {
    /// Monotonic.
    pub now: Moment,
    /// For time stamps.
    pub wall: WallTime,
    /// Whether steps may be taken.
    pub gate_open: bool,
    /// Whether a block may be offered, for which more members may have to be healthy.
    pub may_propose: bool,
}

/// A log that knows where each height begins.
pub trait HeightLog: MessageLog {
    /// What it holds of `height`, the one above the chain's head.
    fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError>;
}

impl HeightLog for crate::consensus::log::WriteAheadLog {
    fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError> {
        Self::begin(self, height)
    }
}

/// What a step signs and logs with.
pub struct Tools<'a> {
    /// Signs, or refuses.
    pub signer: &'a mut dyn Signer,
    /// Remembers.
    pub log: &'a mut dyn HeightLog,
    /// What others stated.
    pub received: &'a mut Received,
}

/// What the conductor learns.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passes.
    Tick,
    /// The member at this place of genesis sent something.
    Message(usize, ConsensusWire),
    /// A timer set under this generation ran out.
    Timer(RoundTimer, u64),
    /// A block was built.
    Built {
        /// For which round.
        round: u32,
        /// The block.
        block: Block,
    },
    /// A block was executed.
    Checked {
        /// The block.
        block: Block,
        /// In which round it was offered.
        round: u32,
        /// Whether it gave what it says.
        valid: bool,
    },
    /// The chain ends here now; `adopted` if the block came from a peer.
    Committed {
        /// The new end.
        head: Head,
        /// See above.
        adopted: bool,
        /// What this member has signed for it, as the block and its certificate show.
        shown: Option<Step>,
    },
    /// A member was lost or came back.
    Peer(PeerChange),
    /// This member's key has signed what its journal should know and does not: it was told by
    /// [`Action::TellUnknownSignature`].
    Missed(Statement),
    /// What peers say of their chains.
    PeersAt {
        /// More members than can lie say that theirs has come this far.
        height: u64,
        /// Peers that said how far theirs has.
        heard: usize,
    },
    /// This member is going to leave: no height begins any more.
    Leave,
}

/// What stands between a member that is told to leave and its leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Nothing: it is between two heights.
    Ready,
    /// This height is being decided.
    Deciding(u64),
    /// This height was begun, and can not go on: the gate is closed, or this member is silent.
    Stuck(u64),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send to every other member.
    Send(ConsensusWire),
    /// Send to one member.
    SendTo(NodeId, ConsensusWire),
    /// Pass on what another member said: to one member, or to every other.
    PassOn(Option<NodeId>, ConsensusWire),
    /// Set a timer; it comes back with its generation.
    SetTimer(RoundTimer, u64, Duration),
    /// Build a block on the head.
    Build {
        /// For which round.
        round: u32,
    },
    /// Execute a block.
    Check {
        /// The block.
        block: Block,
        /// In which round it is offered.
        round: u32,
    },
    /// Write a decided block to the chain.
    Commit(Box<DecidedBlock>),
    /// Tell that a round began.
    TellRound {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
        /// Whose turn it is, by its place in genesis.
        proposer: usize,
    },
    /// Keep and tell that a member has made two statements that contradict each other.
    KeepEvidence(Box<Equivocation>),
    /// Tell that this member's key has signed what its journal does not know. Unless it was this member in a drill,
    /// [`Input::Missed`] follows.
    TellUnknownSignature(Statement),
    /// Tell that a signature was refused.
    TellAbstention {
        /// The height.
        height: u64,
        /// Why.
        reason: String,
    },
}

/// A decided block and what was observed of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBlock {
    /// The block.
    pub block: Block,
    /// Its proof.
    pub certificate: Certificate,
    /// When it was seen and decided.
    pub observed: Observed,
    /// From seeing the proposal to the decision.
    pub deciding: Option<Duration>,
}

/// Where the height above the head stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Deciding,
    Committing,
    Silent,
}

/// The protocol with its pace, its gate and its timers.
pub struct HeightDriver {
    core: Box<dyn BftCore>,
    config: ConsensusConfig,
    members: Vec<NodeId>,
    own: usize,
    head: Head,
    stage: Stage,
    pacing: Pacing,
    was_open: bool,
    /// When the chain last grew, or the gate last opened.
    progress: Moment,
    /// Messages of others, which they repeat.
    held: Held,
    /// Forged messages by sender, at this height.
    forgeries: Vec<u32>,
    /// Own timers and answers of the engine, which nobody repeats: few by nature.
    held_own: VecDeque<CoreInput>,
    said: VecDeque<ConsensusWire>,
    timers: BTreeMap<TimerKey, u64>,
    /// The last timer that waits for a proposal, running or not.
    proposal_timer: Option<RoundTimer>,
    last_generation: u64,
    proposer: usize,
    lost: BTreeSet<NodeId>,
    peers_at: u64,
    /// Whether it was ever told so while the gate was open: an older copy of a chain that begins before that begins too low.
    has_compared: bool,
    /// Nothing is signed for heights up to this one; none as long as that is not known.
    floor: Option<u64>,
    is_leaving: bool,
    /// When the proposals for the next height were seen, by proposer and block.
    seen: BTreeMap<(usize, BlockHash), (Moment, WallTime)>,
    /// What a sync takes at present.
    sync_latency: Duration,
    /// The height for which the log is emptied.
    prepared: u64,
}

/// Malachite's timers have no order of their own; their names do.
type TimerKey = String;

fn key(timer: &RoundTimer) -> TimerKey {
    timer.to_string()
}

/// What the member at place `own` of genesis has signed for a decided block, as the chain shows.
pub fn shown(own: usize, block: &Block, certificate: &Certificate) -> Option<Step> {
    if certificate.signer_indexes().any(|signer| signer == own) {
        return Some(Step::Precommit);
    }
    (usize::from(block.proposer) == own).then_some(Step::Proposal)
}

impl HeightDriver {
    /// A conductor above `head`, waiting for the gate.
    pub fn new(
        core: Box<dyn BftCore>,
        config: ConsensusConfig,
        members: Vec<NodeId>,
        own: usize,
        head: Head,
        block_time: Duration,
    ) -> Self {
        let (held, forgeries) = (Held::new(members.len()), vec![0; members.len()]);
        Self {
            core,
            config,
            members,
            own,
            head,
            stage: Stage::Waiting,
            pacing: Pacing::new(block_time),
            was_open: false,
            progress: Moment::ORIGIN,
            held,
            forgeries,
            held_own: VecDeque::new(),
            said: VecDeque::new(),
            timers: BTreeMap::new(),
            proposal_timer: None,
            last_generation: 0,
            proposer: 0,
            lost: BTreeSet::new(),
            peers_at: 0,
            has_compared: false,
            floor: Some(0),
            is_leaving: false,
            seen: BTreeMap::new(),
            sync_latency: Duration::ZERO,
            prepared: 0,
        }
    }

    /// What a sync takes at present. Whoever waits for others waits so much longer as their syncs take, up to half a
    /// block time for each: their disks are likely to be like this one. Waiting is liveness only.
    pub fn set_sync_latency(&mut self, latency: Duration) {
        self.sync_latency = latency.min(self.pacing.block_time() / 2);
    }

    /// When the next height begins, if a beat is known.
    pub fn due(&self) -> Option<Moment> {
        Some(self.pacing.due()).filter(|due| *due > Moment::ORIGIN)
    }

    /// Whether this member may leave, once it was told to.
    pub fn departure(&self) -> Departure {
        let height = self.head.height + 1;
        match self.stage {
            Stage::Waiting => Departure::Ready,
            Stage::Silent => Departure::Stuck(height),
            Stage::Deciding if !self.was_open => Departure::Stuck(height),
            Stage::Deciding | Stage::Committing => Departure::Deciding(height),
        }
    }

    /// Where the chain ends.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What follows from `input`.
    pub fn handle(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        input: Input,
    ) -> Result<Vec<Action>, CoreError> {
        let mut actions = Vec::new();
        let outcome = self.conduct(at, tools, input, &mut actions);
        self.or_lay_down(outcome, &mut actions)?;
        Ok(actions)
    }

    /// A gate that closed in the middle of a step is no failure: the height is given up for now.
    fn or_lay_down(
        &mut self,
        outcome: Result<(), CoreError>,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        match outcome {
            Err(CoreError::Signer(refusal)) if matches!(*refusal, SigningRefusal::Gate(_)) => {
                self.abort_height(refusal.to_string(), actions);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn conduct(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        input: Input,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        if at.gate_open && !self.was_open {
            self.progress = at.now;
            if self.stage == Stage::Deciding {
                // The input is not lost with it: a block that was committed is nobody else's to tell.
                let outcome = self.resume(at, tools, actions);
                self.or_lay_down(outcome, actions)?;
            }
        }
        self.was_open = at.gate_open;
        match input {
            Input::Tick => {}
            Input::Message(from, message) => self.hear(at, tools, from, message, actions)?,
            Input::Timer(timer, generation) => {
                if self.timers.get(&key(&timer)) == Some(&generation) {
                    self.timers.remove(&key(&timer));
                    self.take(at, tools, CoreInput::Timer(timer), actions)?;
                }
            }
            Input::Built { round, block } => {
                self.seen.entry((self.own, block.hash())).or_insert((at.now, at.wall));
                self.take(at, tools, CoreInput::Built { round, block }, actions)?;
            }
            Input::Checked { block, round, valid } => {
                self.take(at, tools, CoreInput::Checked { block, round, valid }, actions)?;
            }
            Input::Committed { head, adopted, shown } => {
                if let Some(step) = shown.filter(|_| adopted)
                    && tools.signer.lacks(head.height, step, head.hash)
                {
                    Self::forget(tools, head.height, step)?;
                }
                tools.received.decided(head.height);
                self.committed(at.now, head, adopted);
            }
            Input::Peer(change) => self.peer(change, actions),
            Input::Missed(Statement { height, step, .. }) => {
                if tools.signer.remembers(height) {
                    Self::forget(tools, height, step)?;
                    self.abort_height(COPIED.to_owned(), actions);
                }
            }
            Input::PeersAt { height, heard } => {
                self.peers_at = height;
                self.has_compared |= at.gate_open;
                // Under an open gate those who speak are well, and know their chains.
                if tools.signer.floor().is_none() && at.gate_open && heard + 1 >= required(self.members.len())
                {
                    let floor = if height == 0 { 0 } else { height + FORGOTTEN_ABOVE };
                    tools.signer.set_floor(floor).map_err(|refusal| CoreError::Signer(Box::new(refusal)))?;
                }
            }
            Input::Leave => self.is_leaving = true,
        }
        self.floor = tools.signer.floor();
        // A height that others have decided is fetched, not decided again, and so is one of which this member may have
        // forgotten what it signed.
        let is_behind = self.peers_at > self.head.height;
        let is_due = at.now >= self.pacing.due() || self.is_called(at.now);
        let may_begin = self.stage == Stage::Waiting && !self.is_leaving && self.has_compared;
        let remembers = self.floor.is_some_and(|floor| self.head.height + 1 > floor);
        if may_begin && at.gate_open && !is_behind && remembers {
            let height = self.head.height + 1;
            let is_near =
                is_due || at.now + self.sync_latency * PREPARATION_SYNCS + PREPARATION >= self.pacing.due();
            if self.prepared != height && is_near {
                // Emptying the log costs syncs, which the height's own time does not pay.
                tools.log.begin(height)?;
                self.prepared = height;
            } else if is_due {
                self.begin(at, tools, actions)?;
            }
        }
        Ok(())
    }

    /// This member's key has signed what its journal does not know, as the chain or another member shows: what else it has
    /// signed is not known either.
    fn forget(tools: &mut Tools<'_>, height: u64, step: Step) -> Result<(), CoreError> {
        tracing::warn!(height, step = step.as_str(), "{COPIED}; this member begins without memory");
        tools.signer.forget(height).map_err(|refusal| CoreError::Signer(Box::new(refusal)))
    }

    /// The gate closed in the middle of a step, of which nothing may leave. That is no failure: what led to the
    /// step is in the log, and replayed from there once the gate is open again, as after a crash.
    fn abort_height(&mut self, reason: String, actions: &mut Vec<Action>) {
        self.stage = Stage::Waiting;
        self.pacing = Pacing::new(self.pacing.block_time());
        self.timers.clear();
        self.held_own.clear();
        actions.push(Action::TellAbstention { height: self.head.height + 1, reason });
    }

    /// Takes what a member sent, if it is signed by whom it names.
    fn hear(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        from: usize,
        message: ConsensusWire,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        let head = self.head.height;
        let Some(forgeries) = self.forgeries.get_mut(from).filter(|forgeries| **forgeries < FORGERIES_MAX)
        else {
            return Ok(());
        };
        if message.height() > head + HEIGHTS_AHEAD {
            return Ok(());
        }
        let Ok(arrival) = tools.received.take(&message, head, at.wall, &*tools.signer) else {
            *forgeries += 1;
            if *forgeries == FORGERIES_MAX {
                tracing::warn!(
                    height = head + 1,
                    from,
                    "a member sends forged messages and is not heard at this height"
                );
            }
            return Ok(());
        };
        actions.extend(arrival.unknown_own.into_iter().map(Action::TellUnknownSignature));
        for (equivocation, first) in arrival.equivocations {
            actions.push(Action::KeepEvidence(Box::new(equivocation)));
            let both = first.into_iter().chain([message.clone()]);
            actions.extend(both.map(|message| Action::PassOn(None, message)));
        }
        if arrival.is_new {
            actions.extend(self.dispute(tools.received, &message));
        }
        // What this member has signed is in its own log: nobody else tells it.
        if message.height() <= head || message.author() == Some(self.own) {
            return Ok(());
        }
        self.saw(at, &message);
        if message.height() > head + 1 || self.stage != Stage::Deciding || !at.gate_open {
            self.held.hold(from, message);
            return Ok(());
        }
        self.take(at, tools, CoreInput::Message(message), actions)
    }

    /// The offer this member has of a round, for a member that votes for another block in it.
    fn dispute(&self, received: &Received, message: &ConsensusWire) -> Option<Action> {
        let voted = message.voted_block()?;
        let (voter, proposer) = (message.author()?, self.proposer_of(message));
        let offer = received.proposal(proposer, message.height(), message.round())?;
        let is_same = matches!(offer, ConsensusWire::Proposal(offer, _) if offer.block.hash() == voted);
        (!is_same).then(|| Action::PassOn(self.members.get(voter).cloned(), offer.clone()))
    }

    /// Whose turn it is in the round that `message` speaks of.
    fn proposer_of(&self, message: &ConsensusWire) -> usize {
        proposer_index(self.members.len(), message.height(), message.round())
    }

    /// Lets the core take a step, or holds the input until it may.
    fn take(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        input: CoreInput,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        if self.stage != Stage::Deciding || !at.gate_open {
            self.held_own.push_back(input);
            return Ok(());
        }
        let effects = self.core.step(ports(tools), input)?;
        self.follow(at, tools, effects, actions)
    }

    fn begin(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        let height = self.head.height + 1;
        self.pacing.begin(at.now);
        let signed = tools.signer.signed_at(height);
        let log = tools.log.begin(height)?;
        let logged: Vec<_> = log.iter().filter_map(|entry| self.own_statement(entry)).collect();
        let effects = self.core.start(ports(tools), height, log)?;
        // The last statement may have been signed and not logged: then the log leads to it again.
        let derived: Vec<_> = effects.iter().filter_map(|effect| self.own_publication(effect)).collect();
        if signed.iter().any(|statement| !logged.contains(statement) && !derived.contains(statement)) {
            self.stage = Stage::Silent;
            let reason = SILENT.to_owned();
            actions.push(Action::TellAbstention { height, reason });
            return Ok(());
        }
        self.stage = Stage::Deciding;
        self.follow(at, tools, effects, actions)?;
        self.drain(at, tools, actions)
    }

    /// What an entry of the log says that this member has signed.
    fn own_statement(&self, entry: &LogEntry) -> Option<Statement> {
        match entry {
            LogEntry::Message(message) => message.statement_of(self.own),
            LogEntry::Block { .. } | LogEntry::Timeout(_) => None,
        }
    }

    fn own_publication(&self, effect: &Effect) -> Option<Statement> {
        match effect {
            Effect::Publish(message) => message.statement_of(self.own),
            _ => None,
        }
    }

    /// What this member says of its consensus.
    pub fn health(&self, now: Moment) -> HealthCheckResult {
        let since_progress = now.since(self.progress);
        if self.stage == Stage::Silent {
            HealthCheckResult::unhealthy(SILENT)
        } else if let Some(floor) = self.floor.filter(|floor| self.head.height < *floor) {
            HealthCheckResult::degraded(format!(
                "no memory of what it signed: signs nothing up to height {floor}; the chain is at {}",
                self.head.height
            ))
        } else if self.was_open && since_progress >= self.pacing.block_time() * STALLED_SLOTS {
            let secs = since_progress.as_secs();
            HealthCheckResult::degraded(format!("the gate is open, but no block was decided for {secs} s"))
        } else {
            HealthCheckResult::healthy()
        }
    }

    /// The gate opened in the middle of a height.
    fn resume(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        actions.extend(self.said.iter().cloned().map(Action::Send));
        self.drain(at, tools, actions)
    }

    fn drain(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        while self.stage == Stage::Deciding {
            // Messages first: a time-out must not pass while the answer it waits for lies here.
            let message =
                self.held.next(self.head.height + 1).map(|(_, message)| CoreInput::Message(message));
            let Some(input) = message.or_else(|| self.held_own.pop_front()) else {
                break;
            };
            self.take(at, tools, input, actions)?;
        }
        Ok(())
    }

    fn follow(
        &mut self,
        at: StepTime,
        tools: &mut Tools<'_>,
        effects: Vec<Effect>,
        actions: &mut Vec<Action>,
    ) -> Result<(), CoreError> {
        let height = self.core.height();
        for effect in effects {
            match effect {
                Effect::Publish(message) => {
                    self.remember(&message);
                    actions.push(Action::Send(message));
                }
                Effect::SetTimer(timer, after) => actions.push(self.set_timer(timer, after)),
                Effect::CancelTimer(timer) => {
                    self.timers.remove(&key(&timer));
                }
                Effect::CancelTimers => self.timers.clear(),
                Effect::Build { round, .. } if at.may_propose => actions.push(Action::Build { round }),
                Effect::Build { .. } => {
                    let reason = "the gate demands more healthy members for a proposal".to_owned();
                    actions.push(Action::TellAbstention { height, reason });
                }
                Effect::Check { block, round, is_new } => {
                    // What a quorum has prevoted is not held up by this member's clock.
                    if !is_new || self.is_timely(at.wall, &block) {
                        actions.push(Action::Check { block, round });
                    } else {
                        let checked = CoreInput::Checked { block, round, valid: false };
                        self.take(at, tools, checked, actions)?;
                    }
                }
                Effect::RoundStarted { round, proposer } => {
                    self.proposer = proposer;
                    self.said.clear();
                    if let Some(ended) = round.checked_sub(1) {
                        let votes = tools.received.votes(height, ended);
                        actions.extend(votes.map(|vote| Action::PassOn(None, vote.clone())));
                    }
                    actions.push(Action::TellRound { height, round, proposer });
                }
                Effect::Decided(decided) => {
                    self.stage = Stage::Committing;
                    let (block, certificate) = *decided;
                    let seen = self.seen_at(&certificate.block);
                    let observed = Observed {
                        proposal_at_ms: seen.map(|(_, wall)| wall.0),
                        decided_at_ms: at.wall.0,
                        adopted: false,
                    };
                    self.pacing.decided(at.now, certificate.round, seen.map(|(moment, _)| moment));
                    let deciding = seen.map(|(moment, _)| at.now.since(moment));
                    actions.push(Action::Commit(Box::new(DecidedBlock {
                        block,
                        certificate,
                        observed,
                        deciding,
                    })));
                }
                Effect::Abstained(reason) => actions.push(Action::TellAbstention { height, reason }),
            }
        }
        Ok(())
    }

    fn set_timer(&mut self, timer: RoundTimer, after: Duration) -> Action {
        self.last_generation += 1;
        self.timers.insert(key(&timer), self.last_generation);
        if waits_for_proposal(&timer) {
            self.proposal_timer = Some(timer);
        }
        let is_lost = self.members.get(self.proposer).is_some_and(|proposer| self.lost.contains(proposer));
        let after = if needs_proposer(&timer) && is_lost {
            self.config.propose_lost
        } else {
            after + self.sync_latency * if waits_for_proposal(&timer) { PROPOSAL_SYNCS } else { VOTE_SYNCS }
        };
        Action::SetTimer(timer, self.last_generation, after)
    }

    fn remember(&mut self, message: &ConsensusWire) {
        if self.said.contains(message) {
            return;
        }
        if self.said.len() == SAID_MAX {
            self.said.pop_front();
        }
        self.said.push_back(message.clone());
    }

    fn saw(&mut self, at: StepTime, message: &ConsensusWire) {
        // Only what may be decided next counts, and a proposer that offers too much loses its own place: the map is
        // emptied with each height.
        if let ConsensusWire::Proposal(proposal, _) = message
            && message.height() == self.head.height + 1
            && message.author() == Some(self.proposer_of(message))
        {
            let proposer = usize::from(proposal.proposer.0);
            let of_proposer = self.seen.keys().filter(|(author, _)| *author == proposer).count();
            if of_proposer < SEEN_PER_MEMBER {
                self.seen.entry((proposer, proposal.block.hash())).or_insert((at.now, at.wall));
            }
        }
    }

    /// When the proposal of this block was first seen.
    fn seen_at(&self, block: &BlockHash) -> Option<(Moment, WallTime)> {
        self.seen.iter().filter(|((_, seen), _)| seen == block).map(|(_, at)| *at).min_by_key(|(now, _)| *now)
    }

    /// Others have begun the next height, as what they said shows, not long before this member's own beat.
    fn is_called(&self, now: Moment) -> bool {
        self.pacing.may_follow(now) && self.held.speaks_of(self.head.height + 1)
    }

    /// A block's time stamp must be later than its parent's, and not far ahead of this member's clock. The first stamp
    /// after the parent's is always right: a chain whose clocks went back goes on with it.
    fn is_timely(&self, wall: WallTime, block: &Block) -> bool {
        let earliest = self.head.timestamp_ms.saturating_add(1);
        let latest = wall.0.saturating_add(self.config.max_clock_drift.as_millis() as u64);
        (earliest..=latest.max(earliest)).contains(&block.timestamp_ms)
    }

    fn committed(&mut self, now: Moment, head: Head, adopted: bool) {
        self.head = head;
        self.stage = Stage::Waiting;
        self.said.clear();
        self.timers.clear();
        self.seen.clear();
        self.held.forget(head.height);
        self.forgeries.fill(0);
        self.held_own.clear();
        self.progress = now;
        if adopted {
            self.pacing.catch_up(now);
        }
    }

    fn peer(&mut self, change: PeerChange, actions: &mut Vec<Action>) {
        match change {
            PeerChange::Up { node, .. } => {
                self.lost.remove(&node);
                if self.was_open && self.stage == Stage::Deciding {
                    let said = self.said.iter().cloned();
                    actions.extend(said.map(|message| Action::SendTo(node.clone(), message)));
                }
            }
            PeerChange::Down { node, .. }
            | PeerChange::Left { node, .. }
            | PeerChange::Indirect { node, heard: false, .. } => {
                self.lose(node, actions);
            }
            PeerChange::Indirect { node, heard: true, .. } => {
                self.lost.remove(&node);
            }
            PeerChange::Unknown { .. } | PeerChange::Apart { .. } | PeerChange::Together { .. } => {}
        }
    }

    /// Nothing is expected from `node` any more, nor waited for if it is its turn.
    fn lose(&mut self, node: NodeId, actions: &mut Vec<Action>) {
        let is_its_turn = self.members.get(self.proposer) == Some(&node);
        let is_news = self.lost.insert(node);
        if let Some(timer) = self.proposal_timer.filter(|timer| self.timers.contains_key(&key(timer)))
            && is_its_turn
            && is_news
        {
            let after = self.config.propose_lost;
            actions.push(self.set_timer(timer, after));
        }
    }

    /// Members that are lost when this member begins.
    pub fn begin_without(&mut self, lost: impl IntoIterator<Item = NodeId>) {
        self.lost.extend(lost);
    }

    /// A block with this payload on the head, for this member to offer.
    pub fn assemble(&self, wall: WallTime, payload: crate::ports::Payload) -> Block {
        Block {
            height: self.head.height + 1,
            parent: self.head.hash,
            timestamp_ms: wall.0.max(self.head.timestamp_ms.saturating_add(1)),
            proposer: self.own as u8,
            state_root: payload.state_root,
            transactions: payload.transactions,
        }
    }
}

fn ports<'a>(tools: &'a mut Tools<'_>) -> Ports<'a> {
    Ports { signer: &mut *tools.signer, log: tools.log, received: tools.received }
}
