//! The consensus actor.
//!
//! A step signs and writes the log, so it runs on the storage thread, one at a time. Messages that arrive meanwhile are
//! deferred until the step ends. Health checks are not: consensus answers them while the disk is slow or hangs, and
//! reports that.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::{Clock, Moment};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::federation::{GateReader, OperationClass, Roster};
use alys_cluster::health::{HealthCheckResult, HealthStatus};
use alys_cluster::id::{BlockHeight, Incarnation, NodeId};
use alys_cluster::mailbox::{Address, CallError, Mail, MailError};
use alys_cluster::port::{Outbox, PeerChange};
use alys_cluster::supervision::{ActorFailureType, SlotReader, SlotTiming, set_cause};
use alys_cluster::trace::{ParentSpan, within, within_sync};
use ractor::{ActorProcessingErr, RpcReplyPort};

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
use crate::consensus::guard::{GuardedSigner, Journal, JournalError, JournalMark, missing_blocks};
use crate::consensus::log::WriteAheadLog;
use crate::consensus::message::ConsensusWire;
use crate::consensus::received::Received;
use crate::consensus::{Block, BlockHash, Certificate, ConsensusConfig};
use crate::failure::MemberFailure;
use crate::genesis::Genesis;
use crate::keys::SecretKey;
use crate::ports::{Head, Observed, PayloadStatus, StoredBlock};
use crate::storage::{OPEN_DEADLINE, Storage};

/// Interval at which the gate and the next height's due time are checked.
const TICK: Duration = Duration::from_millis(20);
/// Deadline for reading blocks and for executing one. If it passes, consensus fails and is restarted.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time after which the chain is asked again to store the same block. A disk that hangs is no failure of consensus;
/// health checks report it.
const COMMIT_DEADLINE: Duration = Duration::from_mins(1);
/// User queries that may wait for the end of a step. Further ones are dropped with their reply ports.
const QUESTIONS_MAX: usize = 32;
/// Attempts to lock the journal, and the time between two: a second together.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_STEP: Duration = Duration::from_millis(50);
/// Pause before a retry if the engine could not build, or the chain's mailbox was full.
const RETRY: Duration = Duration::from_millis(50);
/// Callers of `Leave` that may wait. One more replaces the oldest.
const FAREWELLS_MAX: usize = 8;

/// The consensus actor: its settings and ports.
#[derive(Clone)]
pub struct ConsensusActor {
    /// Members, keys and parameters that all members share.
    pub genesis: Arc<Genesis>,
    /// All members, and which of them this node is.
    pub roster: Roster,
    /// Signing key of this member.
    pub key: SecretKey,
    /// Incarnation of this node.
    pub incarnation: Incarnation,
    /// Round timeouts and the tolerated clock drift.
    pub config: ConsensusConfig,
    /// Path of the write-ahead log.
    pub log_path: PathBuf,
    /// Path of the signer's journal.
    pub journal_path: PathBuf,
    /// Identity that the journal must have, and the number of records it must hold.
    pub journal: (BlockHash, JournalMark),
    /// Path of the file with evidence against members that sign twice.
    pub evidence_path: PathBuf,
    /// Reads whether the gate admits votes and proposals.
    pub gate: GateReader,
    /// Reads the head of the chain.
    pub head: HeadReader,
    /// Address of the chain actor, which stores blocks.
    pub chain: Address<ChainMessage>,
    /// Storage thread, on which steps run.
    pub storage: Storage,
    /// Address of the engine actor, which executes blocks.
    pub engine: Address<EngineMessage>,
    /// Sends messages to other members.
    pub outbox: Arc<dyn Outbox<ConsensusWire>>,
    /// Publishes when slots begin.
    pub slots: SlotReader,
    /// Source of monotonic and wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Misbehaviour that fault injection requests of this member.
    pub drill: ByzantineDrill,
    /// Bus for events about rounds and blocks.
    pub events: EventBus,
}

/// State that a step works on. It moves to the storage thread and back.
pub struct StepState {
    driver: HeightDriver,
    signer: GuardedSigner,
    log: WriteAheadLog,
    received: Received,
}

/// The actor's state.
pub struct ConsensusActorState {
    /// `None` while a step runs.
    step: Option<Box<StepState>>,
    /// Task that returns the running step. It is aborted with this actor, so that the storage thread drops a result
    /// that nobody awaits.
    taking: Option<tokio::task::AbortHandle>,
    /// Messages that arrived while a step runs. They keep their mailbox slots and count towards their senders' quotas,
    /// which bounds the queue.
    deferred: VecDeque<Mail<ConsensusMessage>>,
    /// Health of consensus after the last step.
    health: HealthCheckResult,
    /// Task that has the chain store a block. It is aborted with this actor, which restarts at the head.
    committing: Option<tokio::task::AbortHandle>,
    /// Message that the running step verifies; it is relayed to other members afterwards.
    carried: Option<(NodeId, ConsensusWire)>,
    /// Statement signed by this member's key that its journal does not hold.
    missed: Option<Statement>,
    evidence: Evidence,
    /// This member's misbehaviour while fault injection requests one.
    byzantine: Option<Byzantine>,
    round_tracing: RoundTracing,
    last_commit: Option<Moment>,
    /// Pairs of members that do not reach each other but do reach this one.
    apart: BTreeSet<(NodeId, NodeId)>,
    /// Callers that wait until this member may leave: at most [`FAREWELLS_MAX`].
    farewells: Vec<RpcReplyPort<DrainResult>>,
}

impl Drop for ConsensusActorState {
    fn drop(&mut self) {
        self.taking.iter().chain(&self.committing).for_each(tokio::task::AbortHandle::abort);
    }
}

impl ConsensusActorState {
    /// State of the steps. Panics while a step runs.
    fn step(&self) -> &StepState {
        self.step.as_ref().expect("messages that need it wait for the end of a step")
    }

    /// Answers the callers that wait until this member may leave, if it may.
    fn say_farewell(&mut self) {
        if self.farewells.is_empty() {
            return;
        }
        let step = self.step();
        let head = step.driver.head().height;
        let farewell = match step.driver.departure() {
            Departure::Deciding(_) => return,
            Departure::Stuck(height) => DrainResult::GivenUp(height),
            // The height was started before the gate closed, or before the last restart.
            Departure::Ready if step.log.holds(head + 1) => DrainResult::GivenUp(head + 1),
            Departure::Ready => DrainResult::Finished(head),
        };
        for waiting in self.farewells.drain(..) {
            let _ = waiting.send(farewell);
        }
    }
}

type Me = SelfRef<ConsensusMessage>;
/// Reply port of a caller that waits for a peer's block to be stored.
pub(super) type Adopter = RpcReplyPort<Result<(), String>>;

/// The reply handler of a request to the engine. If the request is lost, dropping the handler schedules a retry.
struct Answering {
    me: Me,
    retry: Option<(u64, EngineRequest)>,
}

impl Answering {
    fn give(mut self, message: ConsensusMessage) {
        self.retry = None;
        // If this actor has stopped, its next incarnation asks again.
        self.me.cast(message);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some((height, request)) = self.retry.take() {
            self.me.send_after(RETRY, ConsensusMessage::Retry { height, request });
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

    /// Runs a step of the [`HeightDriver`] on the storage thread; [`Self::stepped`] applies the result.
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
            // If this actor has stopped, its next incarnation starts from its files.
            me.cast(ConsensusMessage::Stepped(outcome));
        });
        shell.taking = Some(taking.abort_handle());
    }

    /// Applies the result of a step.
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
                // The same height may be on its way to the chain as a peer's block: then that one is committed.
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

    /// Health of this actor: that of consensus or that of its disk, whichever is worse.
    fn own_health(&self, shell: &ConsensusActorState) -> HealthCheckResult {
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

    /// Records what an input means for the trace of the current round.
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
                // Keep the highest one: the floor will be no lower than its height.
                let is_higher = |missed: &Statement| missed.height >= statement.height;
                shell.missed = shell.missed.take().filter(is_higher).or(Some(statement));
                let (height, step) = (BlockHeight(statement.height), statement.step.as_str());
                self.tell(shell, ClusterEvent::SignatureUnknown { height, round: statement.round, step });
            }
            Action::SetTimer(timer, generation, after) => {
                me.send_after(after, ConsensusMessage::Timer(timer, generation));
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

    /// Lets a Byzantine member replace an action; returns the action if it is to be applied as it is.
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
            // A Byzantine member exposes no other member, and knows what it signed itself.
            Action::PassOn(..) | Action::TellUnknownSignature(_) => Vec::new(),
            other => return Some(other),
        };
        self.deliver(me, deliveries);
        None
    }

    /// Sends the messages of a Byzantine member, each after its delay.
    fn deliver(&self, me: &Me, deliveries: Vec<Delivery>) {
        for Delivery { to, after, message } in deliveries {
            if after > Duration::ZERO {
                me.send_after(after, ConsensusMessage::Deliver(to, message));
                continue;
            }
            let peers = self.roster.peers().filter(|peer| to.is_none() || self.genesis.index_of(peer) == to);
            within_sync(None, || peers.for_each(|peer| self.outbox.send(peer, message.clone())));
        }
    }

    /// Reports an equivocation, once per member and height, and keeps it, also in its file, if there is room.
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

    /// Emits an event in the trace of the current round.
    fn tell(&self, shell: &ConsensusActorState, event: ClusterEvent) {
        within_sync(shell.round_tracing.cause(RoundTraces::context), || self.events.tell(event));
    }

    /// Relays a message to the members that its author does not reach, one hop only. The signature proves the author,
    /// regardless of who relays it.
    fn carry(&self, shell: &ConsensusActorState, from: &NodeId, message: &ConsensusWire) {
        let author = message.author().and_then(|author| self.roster.members().get(author));
        let holds = |(author, signed): &(usize, Signed)| {
            shell.step().received.holds(*author, &signed.statement, &signed.signature)
        };
        // Statements that were not verified here are not relayed.
        if author == Some(from) && message.statements().iter().all(holds) {
            for (_, other) in shell.apart.iter().filter(|(one, _)| one == from) {
                self.outbox.send(other, message.clone());
            }
        }
    }

    /// Sends a request to the engine. A request that can not be served yet is retried shortly after.
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
        // A message that is refused, or lost with the engine, is retried when its `Answering` is dropped.
        let cause = shell.round_tracing.cause(|rounds| rounds.context_of(step));
        let _ = within_sync(cause, || self.engine.cast(message));
    }

    /// Has the chain store a decided block; [`Self::committed`] handles the result. `adopter` waits for it.
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
                // A chain that is restarting has not lost the block: storing it is idempotent.
                let ask = |reply| ChainMessage::Commit(stored.clone(), reply);
                match within(cause, chain.ask_retrying(COMMIT_DEADLINE, ask)).await {
                    // The disk hangs: this member has nothing to do until it responds.
                    Err(CallError::Deadline { .. }) => {}
                    // Other requests fill the chain's mailbox.
                    Err(CallError::Mail(MailError::Full { .. })) => tokio::time::sleep(RETRY).await,
                    Err(error) => break Err(error.to_string()),
                    Ok(result) => break result,
                }
            };
            let adopted = observed.adopted;
            let committed = Committed { result, block, round, adopted, shown, deciding, adopter };
            // If this actor has stopped, its next incarnation starts at the head.
            me.cast(ConsensusMessage::Committed(Box::new(committed)));
        });
        shell.committing = Some(committing.abort_handle());
    }

    /// Head of the chain, read after the chain has stored any block from an earlier incarnation of this actor.
    async fn settled(&self) -> Result<Head, ActorProcessingErr> {
        let (reader, from) = (Reader::Own, u64::MAX);
        let ask = |reply| ChainMessage::Range { reader, from, max: 0, max_bytes: 0, reply };
        self.chain.ask_retrying(OPEN_DEADLINE, ask).await??;
        Ok(self.head.head())
    }

    /// Compares the end of the chain with the journal: a chain newer than its journal shows signatures that the journal
    /// lacks. The newest two blocks per member suffice: where heights are decided in their first round, every member
    /// has proposed one of them.
    async fn compared(&self, mut journal: Journal, head: u64) -> Result<Journal, ActorProcessingErr> {
        let Some(own) = self.genesis.index_of(self.roster.own()).filter(|_| head > 0) else {
            return Ok(journal);
        };
        let max = 2 * self.roster.members().len();
        let from = (head + 1).saturating_sub(max as u64);
        let (reader, max_bytes) = (Reader::Own, usize::MAX);
        let ask = |reply| ChainMessage::Range { reader, from, max, max_bytes, reply };
        let blocks = self.chain.ask_retrying(DEADLINE, ask).await??;
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

    /// A block was stored: notifies the engine, the subscribers and the driver.
    fn committed(
        &self,
        me: &Me,
        shell: &mut ConsensusActorState,
        committed: Committed,
    ) -> Result<(), ActorProcessingErr> {
        let Committed { result, block, round, adopted, shown, deciding, adopter } = committed;
        shell.committing = None;
        let head = result?;
        // An engine that misses this catches up from the chain when it is asked to build or check. The message has no
        // parent span: the last vote did not cause it.
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

    /// Prepares a block that other members decided, if its certificate and its execution are valid.
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
        // Sending fails only if this actor has stopped waiting.
        let answer = Box::new(move |status| drop(sender.send(status)));
        if let Err(error) = self.engine.cast(EngineMessage::Check(block.clone(), answer)) {
            return Ok(Err(error.to_string()));
        }
        let Ok(status) = tokio::time::timeout(DEADLINE, receiver).await? else {
            return Ok(Err("the engine ended before it answered".to_owned()));
        };
        match status {
            PayloadStatus::Valid => {}
            // A quorum decided a block that this member's engine rejects: one of them is broken, and this member must
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
    type Msg = ConsensusMessage;
    type State = ConsensusActorState;
    type Arguments = ();

    async fn pre_start(&self, me: Me, (): ()) -> Result<ConsensusActorState, ActorProcessingErr> {
        let own = self.genesis.index_of(self.roster.own()).ok_or("this member is not in genesis")?;
        let head = self.head.head().height;
        let (journal_path, log_path) = (self.journal_path.clone(), self.log_path.clone());
        let (identity, mark) = self.journal.clone();
        let disk = self.storage.disk().clone();
        let (evidence_path, genesis) = (self.evidence_path.clone(), self.genesis.clone());
        let open = move |is_last: bool| {
            let journal = match Journal::open(&journal_path, identity, head, mark.clone()) {
                Err(JournalError::InUse { .. }) if !is_last => return Ok(None),
                opened => opened.map_err(MemberFailure::of)?,
            };
            let evidence = Evidence::open(&evidence_path, &genesis);
            let log = WriteAheadLog::open(&log_path, identity).map_err(MemberFailure::of)?.on(disk.clone());
            let found = log.read().map_err(MemberFailure::of)?;
            let mut own = found.statements_of(own);
            own.try_for_each(|statement| journal.require(statement)).map_err(MemberFailure::of)?;
            let journal = journal.on(disk.clone());
            Ok::<_, MemberFailure>(Some((journal, log, evidence)))
        };
        let (journal, log, evidence) = self.opened(open).await?;
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
        let driver = HeightDriver::new(
            core,
            self.config,
            self.roster.members().to_vec(),
            own,
            head,
            self.genesis.block_time(),
        );
        me.send_after(Duration::ZERO, ConsensusMessage::Tick);
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

    async fn post_start(&self, _: Me, shell: &mut ConsensusActorState) -> Result<(), ActorProcessingErr> {
        // Changes from here on arrive as messages.
        if let Some(step) = &mut shell.step {
            step.driver.begin_without(self.gate.lost());
        }
        Ok(())
    }

    async fn handle(
        &self,
        me: Me,
        message: ConsensusMessage,
        shell: &mut ConsensusActorState,
    ) -> Result<(), ActorProcessingErr> {
        self.take(&me, shell, None, message).await
    }

    async fn health(&self, shell: &mut ConsensusActorState) -> HealthCheckResult {
        self.own_health(shell)
    }

    /// Defers what needs a step while the storage thread takes one; what is deferred keeps its mailbox slot.
    async fn receive(
        &self,
        me: Me,
        mail: Mail<ConsensusMessage>,
        shell: &mut ConsensusActorState,
    ) -> Result<(), ActorProcessingErr> {
        if needs_no_step(mail.peek()) {
            match mail.open() {
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

/// Whether the message is handled although a step is being taken.
fn needs_no_step(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::Evidence(_) | ConsensusMessage::Stepped(_))
}

/// Queues a message until the running step ends. Of messages that would pile up while the disk hangs, only the newest
/// or the first ones are kept.
fn defer(me: &Me, shell: &mut ConsensusActorState, mail: Mail<ConsensusMessage>) {
    let waits =
        |is: fn(&ConsensusMessage) -> bool| shell.deferred.iter().filter(|mail| is(mail.peek())).count();
    match mail.peek() {
        // The next tick checks the gate and the time again.
        ConsensusMessage::Tick if shell.step.is_none() => {
            return me.send_after(TICK, ConsensusMessage::Tick);
        }
        ConsensusMessage::PeersAt { .. } => {
            shell.deferred.retain(|mail| !matches!(mail.peek(), ConsensusMessage::PeersAt { .. }));
        }
        ConsensusMessage::Adopt(..)
            if waits(|message| matches!(message, ConsensusMessage::Adopt(..))) > 0 =>
        {
            return;
        }
        ConsensusMessage::Signatures(..) | ConsensusMessage::Received(..)
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
    /// What `open` gives on the storage thread. It gives nothing while the journal is locked: for a moment after its end the
    /// incarnation before may hold the lock, as may a child process that has not executed its program yet.
    async fn opened<T: Send + 'static>(
        &self,
        open: impl Fn(bool) -> Result<Option<T>, MemberFailure> + Clone + Send + 'static,
    ) -> Result<T, ActorProcessingErr> {
        for attempt in 1.. {
            let (open, is_last) = (open.clone(), attempt >= LOCK_ATTEMPTS);
            let opened = self.storage.open(move || open(is_last)).await?;
            match opened.inspect_err(|_| self.storage.disk().suspect())? {
                Some(opened) => return Ok(opened),
                None => tokio::time::sleep(LOCK_STEP).await,
            }
        }
        unreachable!("the last attempt gives something or fails")
    }

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
            ConsensusMessage::Evidence(_) | ConsensusMessage::Stepped(_) => {
                unreachable!("they never wait")
            }
            ConsensusMessage::Tick => {
                me.send_after(TICK, ConsensusMessage::Tick);
                let (stored, known) = (self.head.head().height, shell.step().driver.head().height);
                if shell.committing.is_none() && stored > known {
                    // An earlier incarnation of this actor handed that block to the chain.
                    return Err(format!("the chain is at height {stored}, and consensus at {known}").into());
                }
                self.input(me, shell, Input::Tick);
            }
            ConsensusMessage::Committed(committed) => self.committed(me, shell, *committed)?,
            ConsensusMessage::Wire(from, message) => {
                if let Some(cause) = cause {
                    shell.round_tracing.step(|rounds, _| rounds.heard(&message, cause.context));
                }
                // Links are authenticated, so the sender is a member.
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
                    me.send_after(RETRY, ConsensusMessage::Retry { height, request });
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
                        me.send_after(RETRY, ConsensusMessage::Retry { height, request });
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
