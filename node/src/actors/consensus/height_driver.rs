//! Decides when the protocol may take a step.
//!
//! ```text
//!              due, gate open              decided             committed
//!   waiting ──────────────────► deciding ───────────► committing ───────► waiting
//!      ▲                            │ a peer's block adopted                  ▲
//!      ├────────────────────────────┴────────────────────────────────────────┘
//!      └── the gate closed in the middle of a step: replayed from the log once it is open again
//! ```
//!
//! If the signer's journal holds a statement for the height that replaying the log does not produce, part of the log is
//! lost, and this member may have locked a block that it no longer knows. It then stays **silent** until other members
//! have decided that height, and reports itself unhealthy meanwhile.
//!
//! A proposer known to be lost is not waited for. The propose timeout of its round shrinks to `propose_lost`, from the
//! start or in the middle of the round, and so does the precommit timeout of that round. This affects liveness only:
//! leaving a round early is always safe, and a late message of the proposer is still processed.
//!
//! Incoming messages are verified first. A second, different statement of one author for the same height, round and
//! step is evidence ([`Received`]). While the gate is closed, and between two heights, verified messages are held,
//! bounded per sender ([`Held`]).
//!
//! A member that votes for another block than the proposal this member has is sent that proposal, and the votes of a
//! round that ended without a decision are relayed, so that equivocation is detected. When the gate opens, and when a
//! peer comes back, this member repeats its messages of the current round, so that nobody waits for a rebroadcast
//! timer.

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

/// Slots without a block, while the gate is open, after which consensus reports itself degraded and the member is not
/// ready.
pub const STALLED_SLOTS: u32 = 3;
/// How far above its peers' chains a member may have signed before it lost its memory: the height being decided, plus
/// one if it had decided that height before those peers did.
const FORGOTTEN_ABOVE: u64 = 2;
/// Reason given when a member discards its signing memory.
pub const COPIED: &str = "this member's key has signed what its journal does not know: its data directory is an older copy, or its key has two holders";
/// Reason given while a member is silent.
const SILENT: &str = "a part of the consensus log is gone; silent until others have decided this height";
/// Own messages of the current round that are kept for repetition.
const SAID_MAX: usize = 32;
/// Proposals per proposer and height whose arrival time is kept.
const SEEN_PER_MEMBER: usize = 4;
/// Forged messages of one sender, each of which costs a signature check, after which the sender is ignored until the
/// next height.
const FORGERIES_MAX: u32 = 16;
/// Disk syncs before a proposal leaves its proposer: emptying the log, the block in the log, the journal.
const PROPOSAL_SYNCS: u32 = 4;
/// How long before a height is due the log is emptied for it: this many disk syncs, plus a few ticks.
const PREPARATION_SYNCS: u32 = 2;
const PREPARATION: Duration = Duration::from_millis(60);
/// Disk syncs before a vote leaves its voter: the log, the journal, and one that the previous step may still be waiting
/// for.
const VOTE_SYNCS: u32 = 3;

/// Time of an input on both clocks, and what the gate admits at that time.
#[derive(Clone, Copy, Debug)]
pub struct StepTime {
    /// Monotonic time.
    pub now: Moment,
    /// Wall-clock time, for block timestamps.
    pub wall: WallTime,
    /// Whether the gate admits votes, so that steps may be taken.
    pub gate_open: bool,
    /// Whether the gate admits proposals, which may require more healthy members than votes.
    pub may_propose: bool,
}

/// A log that knows which height its entries belong to.
pub trait HeightLog: MessageLog {
    /// Starts `height`, the one above the chain's head, and returns the entries logged for it.
    fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError>;
}

impl HeightLog for crate::consensus::log::WriteAheadLog {
    fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError> {
        Self::begin(self, height)
    }
}

/// Ports that a step uses.
pub struct Tools<'a> {
    /// Signs statements, or refuses to.
    pub signer: &'a mut dyn Signer,
    /// Write-ahead log of the height.
    pub log: &'a mut dyn HeightLog,
    /// Statements of other members.
    pub received: &'a mut Received,
}

/// Inputs of the driver.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A message from the member at this index in genesis.
    Message(usize, ConsensusWire),
    /// The timer set with this generation elapsed.
    Timer(RoundTimer, u64),
    /// The engine built a block.
    Built {
        /// Round the block is for.
        round: u32,
        /// Block that was built.
        block: Block,
    },
    /// The engine executed a block.
    Checked {
        /// Block that was executed.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
        /// Whether the execution gave the result that the block claims.
        valid: bool,
    },
    /// The chain has a new head.
    Committed {
        /// New head of the chain.
        head: Head,
        /// Whether the block came from a peer instead of a decision of this member.
        adopted: bool,
        /// Last step this member signed for the block, as the block and its certificate show.
        shown: Option<Step>,
    },
    /// The reachability of a member changed.
    Peer(PeerChange),
    /// This member's key signed a statement that its journal should hold and does not, as reported by
    /// [`Action::TellUnknownSignature`].
    Missed(Statement),
    /// Heights reported by peers.
    PeersAt {
        /// Highest height claimed by more members than may be Byzantine.
        height: u64,
        /// Number of peers that reported a height.
        heard: usize,
    },
    /// This member is shutting down: no further height starts.
    Leave,
}

/// What a member that is shutting down waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// Nothing: the member is between two heights.
    Ready,
    /// This height is being decided or stored.
    Deciding(u64),
    /// This height has started and can not proceed: the gate is closed, or this member is silent.
    Stuck(u64),
}

/// Effects for the actor to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an own message to every other member.
    Send(ConsensusWire),
    /// Send an own message to one member.
    SendTo(NodeId, ConsensusWire),
    /// Relay another member's message to one member, or to every other member if `None`.
    PassOn(Option<NodeId>, ConsensusWire),
    /// Set a timer, which comes back as an input with its generation.
    SetTimer(RoundTimer, u64, Duration),
    /// Ask the engine to build a block on the head.
    Build {
        /// Round to build for.
        round: u32,
    },
    /// Ask the engine to execute a block.
    Check {
        /// Block to execute.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
    },
    /// Store a decided block in the chain.
    Commit(Box<DecidedBlock>),
    /// Report that a round started.
    TellRound {
        /// Height of the round.
        height: u64,
        /// Round within the height.
        round: u32,
        /// Index of the round's proposer in genesis.
        proposer: usize,
    },
    /// Keep and report evidence that a member signed two contradicting statements.
    KeepEvidence(Box<Equivocation>),
    /// Report that this member's key signed a statement that its journal does not hold. [`Input::Missed`] follows,
    /// unless fault injection made this member sign it.
    TellUnknownSignature(Statement),
    /// Report that this member does not sign.
    TellAbstention {
        /// Height at which it does not sign.
        height: u64,
        /// Reason for not signing.
        reason: String,
    },
}

/// A decided block and when it was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidedBlock {
    /// Block that was decided.
    pub block: Block,
    /// Certificate that proves the decision.
    pub certificate: Certificate,
    /// Wall-clock times at which the proposal was seen and the block was decided.
    pub observed: Observed,
    /// Time from the first sight of the proposal to the decision, if the proposal was seen.
    pub deciding: Option<Duration>,
}

/// Progress of the height above the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Deciding,
    Committing,
    Silent,
}

/// Drives the protocol from height to height: its pace, its gate and its timers.
pub struct HeightDriver {
    core: Box<dyn BftCore>,
    config: ConsensusConfig,
    members: Vec<NodeId>,
    own: usize,
    head: Head,
    stage: Stage,
    pacing: Pacing,
    was_open: bool,
    /// Time when the chain last grew or the gate last opened.
    progress: Moment,
    /// Messages of other members that wait for a step. Their senders repeat them.
    held: Held,
    /// Forged messages per sender at this height.
    forgeries: Vec<u32>,
    /// Own timers and engine responses that wait for a step. Nobody repeats them; they are few by nature.
    held_own: VecDeque<CoreInput>,
    said: VecDeque<ConsensusWire>,
    timers: BTreeMap<TimerKey, u64>,
    /// Last timer that waits for a proposal, running or not.
    proposal_timer: Option<RoundTimer>,
    last_generation: u64,
    proposer: usize,
    lost: BTreeSet<NodeId>,
    peers_at: u64,
    /// Whether peers' heights were ever received while the gate was open. Until then no height starts: a member on an
    /// older copy of its chain would start too low.
    has_compared: bool,
    /// Highest height for which nothing is signed. While it is `None` it is unknown, and nothing is signed at all.
    floor: Option<u64>,
    is_leaving: bool,
    /// When the proposals for the next height were first seen, by proposer and block.
    seen: BTreeMap<(usize, BlockHash), (Moment, WallTime)>,
    /// Current duration of a disk sync.
    sync_latency: Duration,
    /// Height for which the log was emptied.
    prepared: u64,
}

/// Malachite's timers have no ordering; their names have one.
type TimerKey = String;

fn key(timer: &RoundTimer) -> TimerKey {
    timer.to_string()
}

/// Last step that the member at index `own` of genesis signed for a decided block, as the chain shows.
pub fn shown(own: usize, block: &Block, certificate: &Certificate) -> Option<Step> {
    if certificate.signer_indexes().any(|signer| signer == own) {
        return Some(Step::Precommit);
    }
    (usize::from(block.proposer) == own).then_some(Step::Proposal)
}

impl HeightDriver {
    /// Creates a driver above `head` that waits for the gate.
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

    /// Sets the current duration of a disk sync. Timeouts that wait for other members are extended by the syncs these
    /// members need, at up to half a block time each, because their disks are likely to be as slow as this one. This
    /// affects liveness only.
    pub fn set_sync_latency(&mut self, latency: Duration) {
        self.sync_latency = latency.min(self.pacing.block_time() / 2);
    }

    /// When the next height is due, if a schedule is known.
    pub fn due(&self) -> Option<Moment> {
        Some(self.pacing.due()).filter(|due| *due > Moment::ORIGIN)
    }

    /// Whether this member may leave, after [`Input::Leave`].
    pub fn departure(&self) -> Departure {
        let height = self.head.height + 1;
        match self.stage {
            Stage::Waiting => Departure::Ready,
            Stage::Silent => Departure::Stuck(height),
            Stage::Deciding if !self.was_open => Departure::Stuck(height),
            Stage::Deciding | Stage::Committing => Departure::Deciding(height),
        }
    }

    /// Head of the chain.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Handles an input and returns the actions that follow.
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

    /// Aborts the height if the gate closed in the middle of a step, which is not a failure.
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
                // The input is handled even if the gate closes again here: nobody reports a committed block twice.
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
                // While the gate is open, the peers that report are healthy and know their chains.
                if tools.signer.floor().is_none() && at.gate_open && heard + 1 >= required(self.members.len())
                {
                    let floor = if height == 0 { 0 } else { height + FORGOTTEN_ABOVE };
                    tools.signer.set_floor(floor).map_err(|refusal| CoreError::Signer(Box::new(refusal)))?;
                }
            }
            Input::Leave => self.is_leaving = true,
        }
        self.floor = tools.signer.floor();
        // A height that others have decided is fetched, not decided again. Neither is a height decided for which this
        // member may have forgotten what it signed.
        let is_behind = self.peers_at > self.head.height;
        let is_due = at.now >= self.pacing.due() || self.is_called(at.now);
        let may_begin = self.stage == Stage::Waiting && !self.is_leaving && self.has_compared;
        let remembers = self.floor.is_some_and(|floor| self.head.height + 1 > floor);
        if may_begin && at.gate_open && !is_behind && remembers {
            let height = self.head.height + 1;
            let is_near =
                is_due || at.now + self.sync_latency * PREPARATION_SYNCS + PREPARATION >= self.pacing.due();
            if self.prepared != height && is_near {
                // Emptying the log costs disk syncs, so it is done before the height is due.
                tools.log.begin(height)?;
                self.prepared = height;
            } else if is_due {
                self.begin(at, tools, actions)?;
            }
        }
        Ok(())
    }

    /// This member's key signed a statement that its journal does not hold, as the chain or another member shows. So
    /// the journal may lack other statements too, and is discarded.
    fn forget(tools: &mut Tools<'_>, height: u64, step: Step) -> Result<(), CoreError> {
        tracing::warn!(height, step = step.as_str(), "{COPIED}; this member begins without memory");
        tools.signer.forget(height).map_err(|refusal| CoreError::Signer(Box::new(refusal)))
    }

    /// Aborts the height in the middle of a step, of which nothing may leave. This is not a failure: the inputs of the
    /// step are in the log, and are replayed when the height starts again, as after a crash.
    fn abort_height(&mut self, reason: String, actions: &mut Vec<Action>) {
        self.stage = Stage::Waiting;
        self.pacing = Pacing::new(self.pacing.block_time());
        self.timers.clear();
        self.held_own.clear();
        actions.push(Action::TellAbstention { height: self.head.height + 1, reason });
    }

    /// Handles a message if every signature in it is its author's.
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
        // This member's own statements are in its log; they are not accepted from others.
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

    /// Relays the proposal that this member has for a round to a member that votes for another block in it.
    fn dispute(&self, received: &Received, message: &ConsensusWire) -> Option<Action> {
        let voted = message.voted_block()?;
        let (voter, proposer) = (message.author()?, self.proposer_of(message));
        let offer = received.proposal(proposer, message.height(), message.round())?;
        let is_same = matches!(offer, ConsensusWire::Proposal(offer, _) if offer.block.hash() == voted);
        (!is_same).then(|| Action::PassOn(self.members.get(voter).cloned(), offer.clone()))
    }

    /// Index of the proposer of the round that `message` is about.
    fn proposer_of(&self, message: &ConsensusWire) -> usize {
        proposer_index(self.members.len(), message.height(), message.round())
    }

    /// Passes an input to the core, or holds it while no step may be taken.
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
        // The last statement may have been signed but not logged: then the replay produces it again.
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

    /// The own statement in a log entry.
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

    /// Health of consensus on this member.
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

    /// Continues a height after the gate opened again.
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
            // Messages first: a timeout must not fire while the message it waits for is held here.
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
                    // This member's clock does not delay a block that a quorum has prevoted for.
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
        // Only proposals for the next height by the round's proposer count. A proposer that sends too many uses up only
        // its own quota; the map is cleared with each height.
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

    /// Whether other members have started the next height, as their messages show, not long before it is due here.
    fn is_called(&self, now: Moment) -> bool {
        self.pacing.may_follow(now) && self.held.speaks_of(self.head.height + 1)
    }

    /// Whether a block's timestamp is later than its parent's and not far ahead of this member's clock. The first
    /// timestamp after the parent's is always accepted, so that a chain whose clocks went back continues.
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

    /// Marks `node` as lost, and stops waiting for it if it is the proposer.
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

    /// Marks the members that are lost when this member starts.
    pub fn begin_without(&mut self, lost: impl IntoIterator<Item = NodeId>) {
        self.lost.extend(lost);
    }

    /// Assembles a block on the head with this payload, for this member to propose.
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
