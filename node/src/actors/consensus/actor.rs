//! Consensus as an actor.
//!
//! A step signs and logs, so it is taken on the storage thread, one at a time. What arrives meanwhile waits for its
//! end, but for checks: consensus answers them while the disk is slow or hangs, and says so.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::federation::{GateReader, OperationClass, Roster};
use alys_cluster::health::message::answer;
use alys_cluster::health::{HealthCheckResult, HealthStatus};
use alys_cluster::id::{BlockHeight, Incarnation, NodeId};
use alys_cluster::mailbox::{Address, CallError, Mail, MailError, send_self_after};
use alys_cluster::port::{Outbox, PeerChange};
use alys_cluster::supervision::{ActorFailureType, SlotReader, SlotTiming, set_cause};
use alys_cluster::trace::{ParentSpan, within, within_sync};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::byzantine::{Byzantine, ByzantineDrill, Delivery};
use super::height_driver::{
    Action, COPIED, DecidedBlock, Departure, HeightDriver, Input, StepTime, Tools, shown,
};
use super::message::{Committed, ConsensusMessage, DrainResult, EngineRequest, StepTaken};
use super::round_traces::{GateNote, RoundPart, RoundPlace, RoundTraces};
use super::round_tracing::RoundTracing;
use crate::actors::chain::{ChainMessage, HeadReader, Reader};
use crate::actors::engine::EngineMessage;
use crate::consensus::context::Statement;
use crate::consensus::core::MalachiteCore;
use crate::consensus::evidence::{Equivocation, Evidence, Signed};
use crate::consensus::guard::{GuardedSigner, Journal, JournalMark, missing_blocks};
use crate::consensus::log::WriteAheadLog;
use crate::consensus::message::ConsensusWire;
use crate::consensus::received::Received;
use crate::consensus::{Block, BlockHash, Certificate, ConsensusConfig};
use crate::failure::MemberFailure;
use crate::genesis::Genesis;
use crate::keys::SecretKey;
use crate::ports::{Head, Observed, PayloadStatus, StoredBlock};
use crate::storage::{OPEN_DEADLINE, Storage};

/// How often the gate and the beat are looked at.
const TICK: Duration = Duration::from_millis(20);
/// The longest an execution may take. Longer, and consensus fails and is restarted.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the chain is waited for before it is asked again to store the same block: a disk that hangs is no failure
/// of consensus, and named by whoever waits for it.
const COMMIT_DEADLINE: Duration = Duration::from_mins(1);
/// Questions of users that may wait for the end of a step. One more is dropped with its reply.
const QUESTIONS_MAX: usize = 32;
/// Pause before an engine that could not build, or a chain that had no room, is asked again.
const RETRY: Duration = Duration::from_millis(50);
/// Callers that may wait for this member to be ready to leave; one more takes the place of the oldest.
const FAREWELLS_MAX: usize = 8;

/// What consensus works with.
#[derive(Clone)]
pub struct ConsensusActor {
    /// Where it is reached.
    pub address: Address<ConsensusMessage>,
    /// What all members agree on.
    pub genesis: Arc<Genesis>,
    /// All members, and which one this is.
    pub roster: Roster,
    /// This member's key.
    pub key: SecretKey,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// Time-outs.
    pub config: ConsensusConfig,
    /// The write-ahead log.
    pub log_path: PathBuf,
    /// The signer's journal.
    pub journal_path: PathBuf,
    /// Whose it is, and what it must hold.
    pub journal: (BlockHash, JournalMark),
    /// The file of evidence against members that sign twice.
    pub evidence_path: PathBuf,
    /// Whether steps may be taken.
    pub gate: GateReader,
    /// Where the chain ends.
    pub head: HeadReader,
    /// Stores blocks.
    pub chain: Address<ChainMessage>,
    /// Where steps are taken.
    pub storage: Storage,
    /// Executes blocks.
    pub engine: Address<EngineMessage>,
    /// Takes messages to the other members.
    pub outbox: Arc<dyn Outbox<ConsensusWire>>,
    /// Where slots begin, for those who want to know.
    pub slots: SlotReader,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Whether this member is to misbehave.
    pub drill: ByzantineDrill,
    /// Hears of rounds and blocks.
    pub events: EventBus,
}

/// What a step works with. It goes to the storage thread and comes back with what follows.
pub struct StepState {
    driver: HeightDriver,
    signer: GuardedSigner,
    log: WriteAheadLog,
    received: Received,
}

/// The actor's state.
pub struct ConsensusActorState {
    /// `None` while a step is taken.
    step: Option<Box<StepState>>,
    /// Whoever brings back the step under way. It ends with this actor, so that the thread drops what nobody awaits.
    taking: Option<tokio::task::AbortHandle>,
    /// What arrived while a step is taken. It keeps its slot of the mailbox and its sender's share of it, which bound it.
    deferred: VecDeque<Mail<ConsensusMessage>>,
    /// What consensus said of itself after the last step.
    health: HealthCheckResult,
    /// Whoever has a block stored that is on its way to the chain. It ends with this actor, which begins anew at the head.
    committing: Option<tokio::task::AbortHandle>,
    /// What the step under way verifies, to be carried to others after it.
    carried: Option<(NodeId, ConsensusWire)>,
    /// What its key has signed that its journal does not know.
    missed: Option<Statement>,
    evidence: Evidence,
    /// How this member misbehaves, while a drill wants it to.
    byzantine: Option<Byzantine>,
    round_tracing: RoundTracing,
    last_commit: Option<Moment>,
    /// Members that do not reach each other, and do reach this one.
    apart: BTreeSet<(NodeId, NodeId)>,
    /// Whoever waits until this member may leave: at most [`FAREWELLS_MAX`].
    farewells: Vec<RpcReplyPort<DrainResult>>,
}

impl Drop for ConsensusActorState {
    fn drop(&mut self) {
        self.taking.iter().chain(&self.committing).for_each(tokio::task::AbortHandle::abort);
    }
}

impl ConsensusActorState {
    /// What a step works with, between two steps.
    fn step(&self) -> &StepState {
        self.step.as_ref().expect("messages that need it wait for the end of a step")
    }

    /// Answers those who wait until this member may leave, if it may.
    fn say_farewell(&mut self) {
        if self.farewells.is_empty() {
            return;
        }
        let step = self.step();
        let head = step.driver.head().height;
        let farewell = match step.driver.departure() {
            Departure::Deciding(_) => return,
            Departure::Stuck(height) => DrainResult::GivenUp(height),
            // Begun before the gate closed, or before the last start.
            Departure::Ready if step.log.holds(head + 1) => DrainResult::GivenUp(head + 1),
            Departure::Ready => DrainResult::Finished(head),
        };
        for waiting in self.farewells.drain(..) {
            let _ = waiting.send(farewell);
        }
    }
}

type Me = ActorRef<Mail<ConsensusMessage>>;
/// Waits for a block of a peer's to be stored.
pub(super) type Adopter = RpcReplyPort<Result<(), String>>;

/// A question to the engine: answered once, or asked again when it is lost.
struct Answering {
    me: Me,
    retry: Option<(u64, EngineRequest)>,
}

impl Answering {
    fn give(mut self, message: ConsensusMessage) {
        self.retry = None;
        // An actor that ended meanwhile asks anew after its restart.
        let _ = self.me.cast(Mail::to_self(message));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some((height, request)) = self.retry.take() {
            send_self_after(&self.me, RETRY, ConsensusMessage::Retry { height, request });
        }
    }
}

impl ConsensusActor {
    fn instant(&self) -> StepTime {
        let now = self.clock.now();
        let admits = |class| self.gate.admit(now, class).is_ok();
        StepTime {
            now,
            wall: self.clock.wall(),
            gate_open: admits(OperationClass::Vote),
            may_propose: admits(OperationClass::Propose),
        }
    }

    /// Has the conductor take a step over an input, on the storage thread; [`Self::stepped`] does what follows.
    fn input(&self, me: &Me, shell: &mut ConsensusActorState, input: Input) {
        let at = self.instant();
        self.tell_input(at, &mut shell.round_tracing, &input);
        let mut state = shell.step.take().expect("messages that lead to steps wait for the end of a step");
        state.driver.set_sync_latency(self.storage.disk().reading().latency);
        let storage = self.storage.clone();
        let step = async move {
            storage
                .run(move || {
                    let StepState { driver, signer, log, received } = &mut *state;
                    let actions = driver.handle(at, &mut Tools { signer, log, received }, input);
                    (state, actions)
                })
                .await
        };
        let me = me.clone();
        let taking = tokio::spawn(async move {
            let outcome = step.await.map(|(state, actions)| StepTaken { began: at.now, state, actions });
            // An actor that has ended begins anew from its files.
            let _ = me.cast(Mail::to_self(ConsensusMessage::Stepped(outcome)));
        });
        shell.taking = Some(taking.abort_handle());
    }

    /// A step was taken: does what follows from it.
    fn stepped(
        &self,
        me: &Me,
        shell: &mut ConsensusActorState,
        taken: StepTaken,
    ) -> Result<(), ActorProcessingErr> {
        let StepTaken { began, state, actions } = taken;
        shell.taking = None;
        shell.step = Some(state);
        shell.round_tracing.step(|rounds, _| set_cause(rounds.context()));
        let actions = actions.inspect_err(|_| self.storage.disk().suspect()).map_err(MemberFailure::of)?;
        for action in actions {
            if let Action::Commit(decision) = action {
                shell.round_tracing.step(|rounds, now| rounds.decided(began, now));
                // The same height may be on its way as a block of a peer's: then that is what is committed.
                if shell.committing.is_none() {
                    self.commit(me, shell, *decision, None);
                }
            } else {
                self.act(me, shell, action);
            }
        }
        if let Some((from, message)) = shell.carried.take() {
            self.carry(shell, &from, &message);
        }
        let driver = &shell.step().driver;
        let (health, due) = (driver.health(self.clock.now()), driver.due());
        shell.health = health;
        if let Some(boundary) = due {
            self.slots.set(SlotTiming { boundary, block_time: self.genesis.block_time() });
        }
        shell.say_farewell();
        if let Some(statement) = shell.missed.take() {
            self.input(me, shell, Input::Missed(statement));
        }
        Ok(())
    }

    /// What this member says of its consensus: of its disk, if that is what it waits for.
    fn health(&self, shell: &ConsensusActorState) -> HealthCheckResult {
        let disk = self.storage.disk().reading().health(self.genesis.block_time());
        let consensus = match &shell.step {
            Some(step) => step.driver.health(self.clock.now()),
            None => shell.health.clone(),
        };
        let is_worse = match disk.status {
            HealthStatus::Healthy => false,
            HealthStatus::Degraded => consensus.status == HealthStatus::Healthy,
            _ => true,
        };
        if is_worse { disk } else { consensus }
    }

    /// What an input means for the round as it is told.
    fn tell_input(&self, at: StepTime, round_tracing: &mut RoundTracing, input: &Input) {
        round_tracing.tell(|rounds, _| {
            let now = at.now;
            let mut over = rounds.gate(now, self.gate_note(at));
            match input {
                Input::Checked { valid, .. } => rounds.executed(now, *valid),
                Input::Committed { head, adopted, .. } => {
                    over.extend(rounds.committed(now, head.height, *adopted));
                }
                _ => {}
            }
            set_cause(rounds.context());
            over
        });
    }

    fn gate_note(&self, at: StepTime) -> GateNote {
        let verdict = self.gate.verdict(at.now);
        let refusal = self.gate.admit(at.now, OperationClass::Vote).err();
        let reason = refusal.map_or_else(|| verdict.reason.clone(), |refusal| refusal.to_string());
        GateNote { open: at.gate_open, healthy: verdict.healthy, required: verdict.required, reason }
    }

    fn act(&self, me: &Me, shell: &mut ConsensusActorState, action: Action) {
        let Some(action) = self.misbehave(me, shell, action) else { return };
        match action {
            Action::Send(message) => {
                let part_of = shell.round_tracing.step(|rounds, now| rounds.said(now, &message));
                within_sync(shell.round_tracing.cause(|_| part_of), || {
                    for peer in self.roster.peers() {
                        self.outbox.send(peer, message.clone());
                    }
                });
            }
            Action::SendTo(peer, message) => {
                let part_of = shell.round_tracing.step(|rounds, now| rounds.said(now, &message));
                within_sync(shell.round_tracing.cause(|_| part_of), || self.outbox.send(&peer, message));
            }
            Action::PassOn(peer, message) => within_sync(None, || match peer {
                Some(peer) => self.outbox.send(&peer, message),
                None => self.roster.peers().for_each(|peer| self.outbox.send(peer, message.clone())),
            }),
            Action::KeepEvidence(equivocation) => self.keep_evidence(shell, &equivocation),
            Action::TellUnknownSignature(statement) => {
                // A higher one says more: the floor will be no lower.
                let is_higher = |missed: &Statement| missed.height >= statement.height;
                shell.missed = shell.missed.take().filter(is_higher).or(Some(statement));
                let (height, step) = (BlockHeight(statement.height), statement.step.as_str());
                self.tell(shell, ClusterEvent::SignatureUnknown { height, round: statement.round, step });
            }
            Action::SetTimer(timer, generation, after) => {
                send_self_after(me, after, ConsensusMessage::Timer(timer, generation));
            }
            Action::Build { round } => {
                shell.round_tracing.step(RoundTraces::building);
                self.request(me, shell, EngineRequest::Build { round });
            }
            Action::Check { block, round } => {
                shell.round_tracing.step(RoundTraces::executing);
                self.request(me, shell, EngineRequest::Check { block, round });
            }
            Action::TellRound { height, round, proposer } => {
                shell
                    .round_tracing
                    .tell(|rounds, now| rounds.began(now, RoundPlace { height, round }, proposer));
                self.tell(shell, ClusterEvent::RoundStarted { height: BlockHeight(height), round });
            }
            Action::TellAbstention { height, reason } => {
                self.tell(shell, ClusterEvent::SignatureRefused { height: BlockHeight(height), reason });
            }
            Action::Commit(_) => unreachable!("commits are awaited where they arise"),
        }
    }

    /// What is left to do of an action where this member is to misbehave, in a drill.
    fn misbehave(&self, me: &Me, shell: &mut ConsensusActorState, action: Action) -> Option<Action> {
        let how = self.drill.ordered();
        if shell.byzantine.as_ref().map(Byzantine::how) != how {
            let own = self.genesis.index_of(self.roster.own())?;
            let seed = self.clock.wall().0;
            shell.byzantine = how.map(|how| Byzantine::new(how, &self.genesis, own, self.key.clone(), seed));
        }
        let Some(byzantine) = &mut shell.byzantine else { return Some(action) };
        let deliveries = match action {
            Action::Send(message) => byzantine.say(None, message),
            Action::SendTo(peer, message) => byzantine.say(self.genesis.index_of(&peer), message),
            // It gives nobody away, and knows what it signed.
            Action::PassOn(..) | Action::TellUnknownSignature(_) => Vec::new(),
            other => return Some(other),
        };
        self.deliver(me, deliveries);
        None
    }

    /// Sends what a member says that misbehaves, each at its time.
    fn deliver(&self, me: &Me, deliveries: Vec<Delivery>) {
        for Delivery { to, after, message } in deliveries {
            if after > Duration::ZERO {
                send_self_after(me, after, ConsensusMessage::Deliver(to, message));
                continue;
            }
            let peers = self.roster.peers().filter(|peer| to.is_none() || self.genesis.index_of(peer) == to);
            within_sync(None, || peers.for_each(|peer| self.outbox.send(peer, message.clone())));
        }
    }

    /// Tells of an equivocation, once for each height of a member, and keeps it, in its file too, if there is room for it.
    fn keep_evidence(&self, shell: &ConsensusActorState, equivocation: &Equivocation) {
        let (height, round, step) = equivocation.first.statement.place();
        let author = self.roster.members().get(usize::from(equivocation.author));
        if let Some(member) = author.cloned() {
            let (height, step) = (BlockHeight(height), step.as_str());
            self.tell(shell, ClusterEvent::Equivocated { member, height, round, step });
        }
        if !shell.evidence.keep(*equivocation) {
            return;
        }
        let (storage, evidence) = (self.storage.clone(), shell.evidence.clone());
        tokio::spawn(async move {
            match storage.run(move || evidence.save()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "evidence could not be written to its file"),
                Err(error) => tracing::warn!(%error, "evidence could not be written to its file"),
            }
        });
    }

    /// Tells an event of the round in hand.
    fn tell(&self, shell: &ConsensusActorState, event: ClusterEvent) {
        within_sync(shell.round_tracing.cause(RoundTraces::context), || self.events.tell(event));
    }

    /// Carries what a member states to those whom it does not reach itself, one step and no further. Its
    /// signature says whose it is, whoever brings it.
    fn carry(&self, shell: &ConsensusActorState, from: &NodeId, message: &ConsensusWire) {
        let author = message.author().and_then(|author| self.roster.members().get(author));
        let holds = |(author, signed): &(usize, Signed)| {
            shell.step().received.holds(*author, &signed.statement, &signed.signature)
        };
        // What was not verified here is not vouched for.
        if author == Some(from) && message.statements().iter().all(holds) {
            for (_, other) in shell.apart.iter().filter(|(one, _)| one == from) {
                self.outbox.send(other, message.clone());
            }
        }
    }

    /// Asks the engine. What it can not give yet is asked for again a little later.
    fn request(&self, me: &Me, shell: &ConsensusActorState, request: EngineRequest) {
        let head = shell.step().driver.head();
        let height = head.height + 1;
        let step = match request {
            EngineRequest::Build { .. } => RoundPart::Propose,
            EngineRequest::Check { .. } => RoundPart::Execute,
        };
        let answer = Answering { me: me.clone(), retry: Some((height, request.clone())) };
        let message = match request {
            EngineRequest::Build { round } => EngineMessage::Build(
                head.hash,
                Box::new(move |payload| answer.give(ConsensusMessage::Built { height, round, payload })),
            ),
            EngineRequest::Check { block, round } => EngineMessage::Check(
                block.clone(),
                Box::new(move |status| answer.give(ConsensusMessage::Checked { block, round, status })),
            ),
        };
        // A message that is not taken, or dies with the engine, is asked for again by its own end.
        let cause = shell.round_tracing.cause(|rounds| rounds.context_of(step));
        let _ = within_sync(cause, || self.engine.cast(message));
    }

    /// Has a decided block stored; [`Self::committed`] does what follows. `adopter` waits for it.
    fn commit(
        &self,
        me: &Me,
        shell: &mut ConsensusActorState,
        decision: DecidedBlock,
        adopter: Option<Adopter>,
    ) {
        let DecidedBlock { block, certificate, observed, deciding } = decision;
        let round = certificate.round;
        let own = self.genesis.index_of(self.roster.own());
        let shown = own.and_then(|own| shown(own, &block, &certificate));
        let stored = Box::new(StoredBlock { block: block.clone(), certificate, observed });
        let cause = shell.round_tracing.cause(|rounds| rounds.context_of(RoundPart::Commit));
        let (chain, me) = (self.chain.clone(), me.clone());
        let committing = tokio::spawn(async move {
            let result = loop {
                // A chain that is being restarted has not lost the block: storing it twice is storing it once.
                let ask = |reply| ChainMessage::Commit(stored.clone(), reply);
                match within(cause, chain.call_retrying(COMMIT_DEADLINE, ask)).await {
                    // The disk hangs: this member has nothing to do until it answers.
                    Err(CallError::Deadline { .. }) => {}
                    // Others ask the chain for more than it can take.
                    Err(CallError::Mail(MailError::Full { .. })) => tokio::time::sleep(RETRY).await,
                    Err(error) => break Err(error.to_string()),
                    Ok(result) => break result,
                }
            };
            let adopted = observed.adopted;
            let committed = Committed { result, block, round, adopted, shown, deciding, adopter };
            // An actor that has ended begins anew at the head.
            let _ = me.cast(Mail::to_self(ConsensusMessage::Committed(Box::new(committed))));
        });
        shell.committing = Some(committing.abort_handle());
    }

    /// Where the chain ends, once it has stored what it was given by a consensus that has ended since.
    async fn settled(&self) -> Result<Head, ActorProcessingErr> {
        let (reader, from) = (Reader::Own, u64::MAX);
        let ask = |reply| ChainMessage::Range { reader, from, max: 0, max_bytes: 0, reply };
        self.chain.call_retrying(OPEN_DEADLINE, ask).await??;
        Ok(self.head.head())
    }

    /// Holds the end of the chain against the journal: a chain that is newer than its journal shows what the journal lacks.
    /// Where heights are decided in their first round, each member has proposed one of twice as many blocks as there are members.
    async fn compared(&self, mut journal: Journal, head: u64) -> Result<Journal, ActorProcessingErr> {
        let Some(own) = self.genesis.index_of(self.roster.own()).filter(|_| head > 0) else {
            return Ok(journal);
        };
        let max = 2 * self.roster.members().len();
        let from = (head + 1).saturating_sub(max as u64);
        let (reader, max_bytes) = (Reader::Own, usize::MAX);
        let ask = |reply| ChainMessage::Range { reader, from, max, max_bytes, reply };
        let blocks = self.chain.call_retrying(DEADLINE, ask).await??;
        let missed = blocks.iter().rev().find_map(|StoredBlock { block, certificate, .. }| {
            let step = shown(own, block, certificate)?;
            journal.lacks(block.height, step, block.hash()).then_some((block.height, step))
        });
        if let Some((height, step)) = missed {
            tracing::warn!(height, step = step.as_str(), "{COPIED}; this member begins without memory");
            let forget = move || journal.forget(height).map(|()| journal);
            journal = self.storage.open(forget).await?.map_err(MemberFailure::of)?;
        }
        Ok(journal)
    }

    /// A block was stored: tells whoever wants to know, and the conductor.
    fn committed(
        &self,
        me: &Me,
        shell: &mut ConsensusActorState,
        committed: Committed,
    ) -> Result<(), ActorProcessingErr> {
        let Committed { result, block, round, adopted, shown, deciding, adopter } = committed;
        shell.committing = None;
        let head = result?;
        // An engine that misses this begins anew at the head when it is asked to build on it.
        // Part of no round: the vote that came last did not ask for it.
        let _ = within_sync(None, || self.engine.cast(EngineMessage::Committed(Box::new(block))));
        let now = self.clock.now();
        let interval = shell.last_commit.replace(now).map(|last| now.since(last));
        let height = BlockHeight(head.height);
        self.tell(shell, ClusterEvent::HeightCommitted { height, round, adopted, interval, deciding });
        if let Some(adopter) = adopter {
            let _ = adopter.send(Ok(()));
        }
        self.input(me, shell, Input::Committed { head, adopted, shown });
        Ok(())
    }

    /// A block that other members decided, if its certificate and its execution hold.
    async fn adopt(
        &self,
        head: Head,
        block: Block,
        certificate: Certificate,
    ) -> Result<Result<DecidedBlock, String>, ActorProcessingErr> {
        if (block.height, block.parent) != (head.height + 1, head.hash) {
            return Ok(Err(format!("block {} does not follow height {}", block.height, head.height)));
        }
        if (certificate.height, certificate.block) != (block.height, block.hash()) {
            return Ok(Err(format!("the certificate is not of block {}", block.hash())));
        }
        if let Err(error) = certificate.verify(&self.genesis) {
            return Ok(Err(error.to_string()));
        }
        let (sender, receiver) = ractor::concurrency::oneshot();
        // The answer is lost only with this actor.
        let answer = Box::new(move |status| drop(sender.send(status)));
        if let Err(error) = self.engine.cast(EngineMessage::Check(block.clone(), answer)) {
            return Ok(Err(error.to_string()));
        }
        let Ok(status) = tokio::time::timeout(DEADLINE, receiver).await? else {
            return Ok(Err("the engine ended before it answered".to_owned()));
        };
        match status {
            PayloadStatus::Valid => {}
            // A quorum decided what this member's engine refuses: one of them is broken, and this member must
            // not pretend to follow.
            PayloadStatus::Invalid(reason) => {
                let error_code = format!("the decided block {} is not valid here: {reason}", block.height);
                return Err(ActorFailureType::ConsensusFailure { error_code }.into());
            }
            PayloadStatus::Syncing => return Ok(Err("the engine is not at the head".to_owned())),
        }
        let observed = Observed { proposal_at_ms: None, decided_at_ms: self.clock.wall().0, adopted: true };
        Ok(Ok(DecidedBlock { block, certificate, observed, deciding: None }))
    }
}

impl Actor for ConsensusActor {
    type Msg = Mail<ConsensusMessage>;
    type State = ConsensusActorState;
    type Arguments = ();

    async fn pre_start(&self, me: Me, (): ()) -> Result<ConsensusActorState, ActorProcessingErr> {
        let own = self.genesis.index_of(self.roster.own()).ok_or("this member is not in genesis")?;
        let head = self.head.head().height;
        let (journal_path, log_path) = (self.journal_path.clone(), self.log_path.clone());
        let (identity, mark) = self.journal.clone();
        let disk = self.storage.disk().clone();
        let (evidence_path, genesis) = (self.evidence_path.clone(), self.genesis.clone());
        let open = move || {
            let evidence = Evidence::open(&evidence_path, &genesis);
            let journal = Journal::open(&journal_path, identity, head, mark).map_err(MemberFailure::of)?;
            let log = WriteAheadLog::open(&log_path, identity).map_err(MemberFailure::of)?.on(disk.clone());
            let found = log.read().map_err(MemberFailure::of)?;
            let mut own = found.statements_of(own);
            own.try_for_each(|statement| journal.require(statement)).map_err(MemberFailure::of)?;
            let journal = journal.on(disk);
            Ok::<_, MemberFailure>((journal, log, evidence))
        };
        let (journal, log, evidence) =
            self.storage.open(open).await?.inspect_err(|_| self.storage.disk().suspect())?;
        let head = self.settled().await?;
        if let Some(missing) = missing_blocks(journal.records().last(), head.height) {
            tracing::warn!("{missing}");
        }
        let journal = self.compared(journal, head.height).await?;
        let signer = GuardedSigner::new(
            self.key.clone(),
            self.genesis.chain_id(),
            self.incarnation,
            journal,
            self.gate.clone(),
            self.clock.clone(),
        );
        let core = Box::new(MalachiteCore::new(&self.genesis, own, self.config));
        let mut driver = HeightDriver::new(
            core,
            self.config,
            self.roster.members().to_vec(),
            own,
            head,
            self.genesis.block_time(),
        );
        self.address.bind(me.clone());
        // What changes from here on is told.
        driver.begin_without(self.gate.lost());
        send_self_after(&me, Duration::ZERO, ConsensusMessage::Tick);
        let members = || self.roster.members().iter().map(ToString::to_string).collect();
        let round_tracing = RoundTracing::new(&self.events, || {
            RoundTraces::new(self.genesis.hash(), own, members(), head.height + 1)
        });
        let received = Received::new(&self.genesis, own);
        Ok(ConsensusActorState {
            step: Some(Box::new(StepState { driver, signer, log, received })),
            taking: None,
            deferred: VecDeque::new(),
            health: HealthCheckResult::healthy(),
            committing: None,
            carried: None,
            missed: None,
            evidence,
            byzantine: None,
            round_tracing,
            last_commit: None,
            apart: BTreeSet::new(),
            farewells: Vec::new(),
        })
    }

    async fn handle(
        &self,
        me: Me,
        mail: Self::Msg,
        shell: &mut ConsensusActorState,
    ) -> Result<(), ActorProcessingErr> {
        if needs_no_step(&mail) {
            match mail.open() {
                ConsensusMessage::Ping(ping, reply) => {
                    let health = self.health(shell);
                    answer(self.address.name(), &*self.clock, &ping, health, reply);
                }
                ConsensusMessage::Evidence(reply) => {
                    let _ = reply.send(shell.evidence.all());
                }
                ConsensusMessage::Stepped(taken) => self.stepped(&me, shell, taken?)?,
                _ => unreachable!("it needs a step"),
            }
        } else {
            defer(&me, shell, mail);
        }
        while shell.step.is_some()
            && let Some(mail) = shell.deferred.pop_front()
        {
            let cause = mail.cause();
            self.take(&me, shell, cause, mail.open()).await?;
        }
        Ok(())
    }
}

/// Whether it is handled although a step is taken. A fault for a drill is: it is none of the messages.
fn needs_no_step(mail: &Mail<ConsensusMessage>) -> bool {
    matches!(
        mail.peek(),
        None | Some(
            ConsensusMessage::Ping(..) | ConsensusMessage::Evidence(_) | ConsensusMessage::Stepped(_)
        )
    )
}

/// Puts a message behind those that wait for the end of a step. Of what would pile up while the disk hangs, only the newest
/// or the first waits.
fn defer(me: &Me, shell: &mut ConsensusActorState, mail: Mail<ConsensusMessage>) {
    let waits = |is: fn(&ConsensusMessage) -> bool| {
        shell.deferred.iter().filter(|mail| mail.peek().is_some_and(is)).count()
    };
    match mail.peek() {
        // The gate and the time are looked at anew with the next.
        Some(ConsensusMessage::Tick) if shell.step.is_none() => {
            return send_self_after(me, TICK, ConsensusMessage::Tick);
        }
        Some(ConsensusMessage::PeersAt { .. }) => {
            shell.deferred.retain(|mail| !matches!(mail.peek(), Some(ConsensusMessage::PeersAt { .. })));
        }
        Some(ConsensusMessage::Adopt(..))
            if waits(|message| matches!(message, ConsensusMessage::Adopt(..))) > 0 =>
        {
            return;
        }
        Some(ConsensusMessage::Signatures(..) | ConsensusMessage::Received(..))
            if waits(|message| {
                matches!(message, ConsensusMessage::Signatures(..) | ConsensusMessage::Received(..))
            }) >= QUESTIONS_MAX =>
        {
            return;
        }
        _ => {}
    }
    shell.deferred.push_back(mail);
}

impl ConsensusActor {
    /// Handles a message that may lead to a step.
    #[expect(clippy::too_many_lines, reason = "one arm a message")]
    async fn take(
        &self,
        me: &Me,
        shell: &mut ConsensusActorState,
        cause: Option<ParentSpan>,
        message: ConsensusMessage,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConsensusMessage::Ping(..) | ConsensusMessage::Evidence(_) | ConsensusMessage::Stepped(_) => {
                unreachable!("they never wait")
            }
            ConsensusMessage::Tick => {
                send_self_after(me, TICK, ConsensusMessage::Tick);
                let (stored, known) = (self.head.head().height, shell.step().driver.head().height);
                if shell.committing.is_none() && stored > known {
                    // Begun by an actor that has ended since.
                    return Err(format!("the chain is at height {stored}, and consensus at {known}").into());
                }
                self.input(me, shell, Input::Tick);
            }
            ConsensusMessage::Committed(committed) => self.committed(me, shell, *committed)?,
            ConsensusMessage::Wire(from, message) => {
                if let Some(cause) = cause {
                    shell.round_tracing.step(|rounds, _| rounds.heard(&message, cause.context));
                }
                // A link is a member's: a sender is one of them.
                let Some(place) = self.roster.members().iter().position(|member| *member == from) else {
                    return Ok(());
                };
                if let Some(byzantine) = &mut shell.byzantine {
                    let deliveries = byzantine.hear(&message);
                    self.deliver(me, deliveries);
                }
                shell.carried = (!shell.apart.is_empty()).then(|| (from, message.clone()));
                self.input(me, shell, Input::Message(place, message));
            }
            ConsensusMessage::Timer(timer, generation) => {
                self.input(me, shell, Input::Timer(timer, generation));
            }
            ConsensusMessage::Built { height, round, payload } => {
                if height != shell.step().driver.head().height + 1 {
                    return Ok(());
                }
                let Some(payload) = payload else {
                    let request = EngineRequest::Build { round };
                    send_self_after(me, RETRY, ConsensusMessage::Retry { height, request });
                    return Ok(());
                };
                let block = shell.step().driver.assemble(self.clock.wall(), payload);
                self.input(me, shell, Input::Built { round, block });
            }
            ConsensusMessage::Checked { block, round, status } => {
                let valid = match status {
                    PayloadStatus::Valid => true,
                    PayloadStatus::Syncing if block.parent == shell.step().driver.head().hash => {
                        let (height, request) = (block.height, EngineRequest::Check { block, round });
                        send_self_after(me, RETRY, ConsensusMessage::Retry { height, request });
                        return Ok(());
                    }
                    PayloadStatus::Syncing | PayloadStatus::Invalid(_) => {
                        tracing::warn!(
                            height = block.height,
                            round,
                            ?status,
                            "a proposed block is not valid"
                        );
                        false
                    }
                };
                self.input(me, shell, Input::Checked { block, round, valid });
            }
            ConsensusMessage::Retry { height, request } => {
                if height == shell.step().driver.head().height + 1 {
                    self.request(me, shell, request);
                }
            }
            ConsensusMessage::PeersAt { height, heard } => {
                self.input(me, shell, Input::PeersAt { height, heard });
            }
            ConsensusMessage::Adopt(decided, reply) => {
                let (block, certificate) = *decided;
                if shell.committing.is_some() {
                    drop(reply.send(Err("a block is being stored".to_owned())));
                    return Ok(());
                }
                let head = shell.step().driver.head();
                match self.adopt(head, block, certificate).await? {
                    Ok(decision) => self.commit(me, shell, decision, Some(reply)),
                    Err(reason) => drop(reply.send(Err(reason))),
                }
            }
            ConsensusMessage::Peer(PeerChange::Apart { one, other }) => {
                shell.apart.insert((one, other));
            }
            ConsensusMessage::Peer(PeerChange::Together { one, other }) => {
                shell.apart.remove(&(one, other));
            }
            ConsensusMessage::Peer(change) => self.input(me, shell, Input::Peer(change)),
            ConsensusMessage::Signatures(from, reply) => {
                let records = shell.step().signer.journal().records();
                let _ = reply.send(records.filter(|r| r.statement.height >= from).copied().collect());
            }
            ConsensusMessage::Deliver(to, message) => {
                self.deliver(me, vec![Delivery { to, after: Duration::ZERO, message }]);
            }
            ConsensusMessage::Received(from, reply) => {
                let _ = reply.send(shell.step().received.since(from));
            }
            ConsensusMessage::Leave(reply) => {
                if shell.farewells.len() == FAREWELLS_MAX {
                    shell.farewells.remove(0);
                }
                shell.farewells.push(reply);
                self.input(me, shell, Input::Leave);
            }
        }
        Ok(())
    }
}
