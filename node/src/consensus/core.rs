//! Runs the consensus protocol as a step function: an input goes in, effects come out.
//!
//! [`BftCore`] is the interface that the consensus actor uses; [`MalachiteCore`] implements it with Malachite's core.
//! Within a step the core signs and logs through two ports, synchronously, so that the order is fixed:
//!
//! 1. the inputs that led here are durable in the log,
//! 2. the statement is written to the signer's journal, and signed; at the end of the step the journal is made durable,
//!    once for everything that the step signed,
//! 3. the signed message is written to the log,
//! 4. only then does it leave the step as [`Effect::Publish`].
//!
//! So a step that signs costs two disk syncs, and one that does not costs none. A crash of the machine may lose what is
//! not durable yet, without harm: an input without consequences is repeated by its sender, an own message is derived
//! again from the inputs before it, and a decision is durable with its block in the chain.
//!
//! A signature that is refused because it would contradict an earlier one, or because the gate requires more healthy
//! members for a proposal than for a vote, becomes an abstention: Malachite receives the null signature, which verifies
//! under no key, so it drops the message itself and continues. A signature that is refused because the gate closed in
//! the middle of the step fails the step: replaying the log repeats the step once the gate is open, whereas an
//! abstention would lose the vote for good.
//!
//! Pitfalls of driving Malachite that this file handles: `process!` logs an effect handler's error and continues, so
//! the first failure is kept and ends the step; a value that is requested during replay is provided after it; the
//! validity of a block is the result of its execution, not the claim of its proposer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use malachite_consensus::{
    self as malachite, Input, LocallyProposedValue, Params, ProposedValue, Resumable as _, Resume, State,
    process,
};
use malachite_types::{
    CertificateError, CommitCertificate, NilOrVal, PolkaCertificate, Round, RoundCertificate,
    RoundCertificateType, SignedMessage, Timeout, TimeoutKind, Validator as _, ValidatorSet as _, Validity,
    ValueOrigin, ValuePayload, VoteExtensionPolicy, VoteType,
};
use thiserror::Error;

use super::block::{Block, BlockHash};
use super::certificate::Certificate;
use super::config::ConsensusConfig;
use super::context::{
    BlockVote, ConsensusContext, ConsensusHeight, MemberIndex, MemberSet, Statement, proposer_index,
};
use super::guard::{Signer, SigningRefusal};
use super::log::{LogError, MessageLog};
use super::message::{ConsensusWire, LogEntry};
use super::received::Received;
use crate::genesis::Genesis;
use crate::keys::{SIGNATURE_BYTES, Signature};

/// A signature that verifies under no key: an abstention.
const NULL_SIGNATURE: Signature = Signature([0; SIGNATURE_BYTES]);
/// Heights above the current one for which messages are kept, and messages kept for each. Enough for members that are
/// slightly ahead; a member that is further behind fetches blocks instead.
const FUTURE_HEIGHTS: usize = 2;
const FUTURE_MESSAGES: usize = 64;

/// A timer of a round.
pub type RoundTimer = Timeout;

/// Inputs of the core.
#[derive(Clone, Debug)]
pub enum CoreInput {
    /// A message from a member.
    Message(ConsensusWire),
    /// The engine built the block requested by [`Effect::Build`].
    Built {
        /// Round the block is for.
        round: u32,
        /// Block that was built.
        block: Block,
    },
    /// The engine executed the block of an [`Effect::Check`].
    Checked {
        /// Block that was executed.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
        /// Whether the execution gave the result that the block claims.
        valid: bool,
    },
    /// A timer elapsed.
    Timer(RoundTimer),
}

/// Effects for the caller to apply after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this to every other member.
    Publish(ConsensusWire),
    /// Set a timer.
    SetTimer(RoundTimer, Duration),
    /// Cancel a timer.
    CancelTimer(RoundTimer),
    /// Cancel all timers.
    CancelTimers,
    /// Build a block and answer with [`CoreInput::Built`].
    Build {
        /// Height to build for.
        height: u64,
        /// Round to build for.
        round: u32,
    },
    /// Execute this block and answer with [`CoreInput::Checked`].
    Check {
        /// Block to execute.
        block: Block,
        /// Round in which the block was proposed.
        round: u32,
        /// Whether the block was proposed without proof of an earlier quorum of prevotes.
        is_new: bool,
    },
    /// A round started.
    RoundStarted {
        /// Round that started.
        round: u32,
        /// Index of the round's proposer in genesis.
        proposer: usize,
    },
    /// A block is final.
    Decided(Box<(Block, Certificate)>),
    /// Signing was refused; the member abstained.
    Abstained(String),
}

/// Why a step failed. Nothing of the step may be sent; the height can only restart from the log.
#[derive(Debug, Error)]
pub enum CoreError {
    /// The log could not be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The signer's journal could not be written, or the gate closed in the middle of the step.
    #[error("nothing could be signed: {0}")]
    Signer(Box<SigningRefusal>),
    /// Malachite reached a state from which it can not continue.
    #[error("the consensus core failed: {0}")]
    Protocol(String),
    /// The decided block was never received, or its certificate is inconsistent. This is a bug.
    #[error("the decision at height {height} can not be used: {reason}")]
    Decision {
        /// Height of the decision.
        height: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The ports a step uses.
pub struct Ports<'a> {
    /// Signs statements, or refuses to.
    pub signer: &'a mut dyn Signer,
    /// Write-ahead log of the height.
    pub log: &'a mut dyn MessageLog,
    /// Statements of other members whose signatures are already verified.
    pub received: &'a Received,
}

/// The consensus protocol.
pub trait BftCore: Send {
    /// The height being decided; 0 before the first start.
    fn height(&self) -> u64;
    /// The current round of that height.
    fn round(&self) -> u32;
    /// Starts `height` and replays its log entries.
    fn start(&mut self, ports: Ports<'_>, height: u64, log: Vec<LogEntry>) -> Result<Vec<Effect>, CoreError>;
    /// Takes one step.
    fn step(&mut self, ports: Ports<'_>, input: CoreInput) -> Result<Vec<Effect>, CoreError>;
}

/// Implements [`BftCore`] with Malachite.
pub struct MalachiteCore {
    state: State<ConsensusContext>,
    host: Host,
}

/// State of the steps besides Malachite's own.
struct Host {
    chain_id: String,
    members: MemberSet,
    own: MemberIndex,
    config: ConsensusConfig,
    height: u64,
    blocks: BTreeMap<BlockHash, Block>,
    /// Blocks whose execution was requested, with the round: a block first proposed by the wrong member is still
    /// executed when the right one proposes it.
    asked: BTreeSet<(BlockHash, u32)>,
    /// Blocks this member built, by round: a repeated request for a round gets the same block.
    built: BTreeMap<u32, Block>,
    replay: Option<Replay>,
    /// Whether the log holds inputs that are not durable yet.
    log_behind: bool,
    /// Own messages of the step, which are logged after the journal is durable.
    own_entries: Vec<LogEntry>,
    effects: Vec<Effect>,
    failure: Option<CoreError>,
}

/// A log being replayed.
struct Replay {
    entries: Vec<LogEntry>,
    wanted: Option<u32>,
}

impl MalachiteCore {
    /// Creates a core for the member at index `own` in genesis; it is not started.
    pub fn new(genesis: &Genesis, own: usize, config: ConsensusConfig) -> Self {
        let members = MemberSet::of(genesis);
        let own = MemberIndex(own as u8);
        let params = Params {
            address: own,
            threshold_params: malachite::ThresholdParams::default(),
            // The block travels with the proposal, but its validity is fed separately after its execution.
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        };
        let height = ConsensusHeight(1);
        let state =
            State::new(ConsensusContext, height, members.clone(), params, FUTURE_HEIGHTS, FUTURE_MESSAGES);
        let host = Host {
            chain_id: genesis.chain_id().to_owned(),
            members,
            own,
            config,
            height: 0,
            blocks: BTreeMap::new(),
            asked: BTreeSet::new(),
            built: BTreeMap::new(),
            replay: None,
            log_behind: false,
            own_entries: Vec::new(),
            effects: Vec::new(),
            failure: None,
        };
        Self { state, host }
    }

    fn process(&mut self, ports: &mut Ports<'_>, input: Input<ConsensusContext>) -> Result<(), CoreError> {
        let Self { state, host } = self;
        let outcome: Result<(), malachite::Error<ConsensusContext>> =
            process!(input: input, state: state, metrics: &(), with: effect => host.handle(ports, effect));
        match (host.failure.take(), outcome) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(CoreError::Protocol(error.to_string())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Returns the effects of a step, after making the journal durable.
    fn finish(
        &mut self,
        ports: &mut Ports<'_>,
        outcome: Result<(), CoreError>,
    ) -> Result<Vec<Effect>, CoreError> {
        let effects = std::mem::take(&mut self.host.effects);
        let own_entries = std::mem::take(&mut self.host.own_entries);
        outcome?;
        ports.signer.flush().map_err(|refusal| CoreError::Signer(Box::new(refusal)))?;
        for entry in own_entries {
            ports.log.append(&entry)?;
        }
        Ok(effects)
    }

    fn replay(&mut self, ports: &mut Ports<'_>, entries: Vec<LogEntry>) -> Result<(), CoreError> {
        let inputs: Vec<_> = entries.iter().cloned().map(LogEntry::into_input).collect();
        let own = usize::from(self.host.own.0);
        let offers: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Message(message @ ConsensusWire::Proposal(..)) => Some(message.clone()),
                _ => None,
            })
            .filter(|message| message.statement_of(own).is_some())
            .collect();
        self.state.index_wal_entries(inputs.iter());
        self.host.replay = Some(Replay { entries, wanted: None });
        let start = self.start_input(true);
        let mut outcome = self.process(ports, start);
        for input in inputs {
            outcome = outcome.and_then(|()| self.process(ports, input));
        }
        self.state.reset_entries_index();
        let wanted = self.host.replay.take().and_then(|replay| replay.wanted);
        outcome?;
        // The replay derives and sends votes again. It only reads an own proposal, so that one is sent again here: a
        // member that missed it before the crash would wait for it in vain.
        let round = self.round();
        let again = offers.into_iter().filter(|offer| offer.round() == round).map(Effect::Publish);
        self.host.effects.extend(again);
        match wanted {
            Some(round) if self.is_proposing(round) => self.want(ports, round),
            _ => Ok(()),
        }
    }

    fn start_input(&self, is_restart: bool) -> Input<ConsensusContext> {
        Input::StartHeight(
            ConsensusHeight(self.host.height),
            self.host.members.clone(),
            is_restart,
            // The actor paces heights itself, on a clock that tests can control.
            None,
            VoteExtensionPolicy::Disabled,
        )
    }

    fn is_proposing(&self, round: u32) -> bool {
        self.state.round() == Round::new(round) && self.state.driver.step_is_propose()
    }

    /// Provides the block that Malachite requests for `round`: one built before, or a new one.
    fn want(&mut self, ports: &mut Ports<'_>, round: u32) -> Result<(), CoreError> {
        if let Some(block) = self.host.built.get(&round).cloned() {
            self.propose(ports, round, block)
        } else {
            self.host.effects.push(Effect::Build { height: self.host.height, round });
            Ok(())
        }
    }

    fn propose(&mut self, ports: &mut Ports<'_>, round: u32, block: Block) -> Result<(), CoreError> {
        let height = ConsensusHeight(self.host.height);
        let value = LocallyProposedValue::new(height, Round::new(round), block);
        self.process(ports, Input::Propose(value))
    }
}

impl BftCore for MalachiteCore {
    fn height(&self) -> u64 {
        self.host.height
    }

    fn round(&self) -> u32 {
        self.state.round().as_u32().unwrap_or(0)
    }

    fn start(
        &mut self,
        mut ports: Ports<'_>,
        height: u64,
        log: Vec<LogEntry>,
    ) -> Result<Vec<Effect>, CoreError> {
        self.host.height = height;
        self.host.blocks.clear();
        self.host.asked.clear();
        self.host.built.clear();
        self.host.own_entries.clear();
        // The log entries of a step that failed may not be durable.
        self.host.log_behind = !log.is_empty();
        let outcome = if log.is_empty() {
            let start = self.start_input(false);
            self.process(&mut ports, start)
        } else {
            self.replay(&mut ports, log)
        };
        self.finish(&mut ports, outcome)
    }

    fn step(&mut self, mut ports: Ports<'_>, input: CoreInput) -> Result<Vec<Effect>, CoreError> {
        let outcome = match input {
            CoreInput::Message(message) => self.process(&mut ports, message.into_input()),
            CoreInput::Timer(timer) => self.process(&mut ports, Input::TimeoutElapsed(timer)),
            CoreInput::Built { round, block }
                if block.height == self.host.height && self.is_proposing(round) =>
            {
                self.propose(&mut ports, round, block)
            }
            // The block is too late for its round.
            CoreInput::Built { .. } => Ok(()),
            CoreInput::Checked { block, round, valid } => {
                let value = ProposedValue {
                    height: ConsensusHeight(block.height),
                    round: Round::new(round),
                    valid_round: Round::Nil,
                    proposer: MemberIndex(block.proposer),
                    value: block,
                    validity: if valid { Validity::Valid } else { Validity::Invalid },
                };
                self.process(&mut ports, Input::ProposedValue(value, ValueOrigin::Consensus))
            }
        };
        self.finish(&mut ports, outcome)
    }
}

type HandlerResult = Result<Resume<ConsensusContext>, &'static str>;

impl Host {
    /// Handles an effect of Malachite within a step. Malachite only logs an `Err`. What ends the step is `failure`; an
    /// effect that expects a response gets none.
    fn handle(
        &mut self,
        ports: &mut Ports<'_>,
        effect: malachite::Effect<ConsensusContext>,
    ) -> HandlerResult {
        use malachite::Effect as E;
        if self.failure.is_some() {
            return Err("the step has failed");
        }
        match effect {
            E::CancelAllTimeouts(_) => Ok(self.emit(Effect::CancelTimers)),
            E::CancelTimeout(timer, _) => Ok(self.emit(Effect::CancelTimer(timer))),
            E::ScheduleTimeout(timer, _) => {
                let after = self.config.timeouts().duration_for(timer);
                Ok(self.emit(Effect::SetTimer(timer, after)))
            }
            E::StartRound(height, round, ..) => {
                let round = round.as_u32().unwrap_or(0);
                let proposer = proposer_index(self.members.count(), height.0, round);
                Ok(self.emit(Effect::RoundStarted { round, proposer }))
            }
            E::PublishConsensusMsg(message, _) => Ok(self.publish(message.into())),
            E::PublishLivenessMsg(message, _) => Ok(self.publish(message.into())),
            E::RepublishVote(vote, _) => Ok(self.publish(ConsensusWire::Vote(vote.message, vote.signature))),
            E::RepublishRoundCertificate(certificate, _) => Ok(self.publish(certificate.into())),
            // The block travels with every proposal, which is published next. The actor starts the next height when
            // this one is committed and the slot has come.
            E::RestreamProposal(.., resume) | E::Finalize(.., resume) => Ok(resume.resume_with(())),
            E::GetValue(_, round, _, resume) => {
                self.value_wanted(round.as_u32().unwrap_or(0));
                Ok(resume.resume_with(()))
            }
            E::SignVote(vote, resume) => {
                let signature = self.sign(ports, &Statement::of_vote(&vote))?;
                Ok(resume.resume_with(SignedMessage::new(vote, signature)))
            }
            E::SignProposal(proposal, resume) => {
                let signature = self.sign(ports, &Statement::of_proposal(&proposal))?;
                Ok(resume.resume_with(SignedMessage::new(proposal, signature)))
            }
            E::VerifySignature(signed, key, resume) => {
                let (author, statement) = match &signed.message {
                    malachite::ConsensusMsg::Vote(vote) => (vote.voter, Statement::of_vote(vote)),
                    malachite::ConsensusMsg::Proposal(proposal) => {
                        (proposal.proposer, Statement::of_proposal(proposal))
                    }
                };
                let is_verified = ports.received.holds(usize::from(author.0), &statement, &signed.signature);
                let holds = signed.signature != NULL_SIGNATURE
                    && (is_verified || key.verify(&statement.bytes(&self.chain_id), &signed.signature));
                Ok(resume.resume_with(holds))
            }
            E::VerifyPolkaCertificate(certificate, .., resume) => {
                Ok(resume.resume_with(self.verify_polka(ports.received, &certificate)))
            }
            E::VerifyRoundCertificate(certificate, .., resume) => {
                Ok(resume.resume_with(self.verify_round(ports.received, &certificate)))
            }
            E::VerifyCommitCertificate(certificate, .., resume) => {
                Ok(resume.resume_with(self.verify_commit(ports.received, &certificate)))
            }
            E::WalAppend(_, input, resume) => {
                self.append(ports, input)?;
                Ok(resume.resume_with(()))
            }
            E::Decide(certificate, _, resume) => {
                self.decide(&certificate)?;
                Ok(resume.resume_with(()))
            }
            // Blocks from peers are adopted by their aggregate certificate, not through Malachite, and vote extensions
            // are disabled. Rejecting is the safe answer to a request that never comes.
            E::CertVerifiedSyncValue(.., resume) | E::CertRejectedSyncValue(.., resume) => {
                Ok(resume.resume_with(()))
            }
            E::VerifyExtendedCommitCertificate(.., resume) => {
                Ok(resume.resume_with(Err(CertificateError::VerificationError(None))))
            }
            E::ExtendVote(.., resume) => Ok(resume.resume_with(None)),
            E::VerifyVoteExtension(.., resume) => {
                Ok(resume.resume_with(Err(malachite::VoteExtensionError::InvalidVoteExtension)))
            }
        }
    }

    fn emit(&mut self, effect: Effect) -> Resume<ConsensusContext> {
        self.effects.push(effect);
        Resume::Continue
    }

    fn publish(&mut self, message: ConsensusWire) -> Resume<ConsensusContext> {
        let abstention = matches!(
            &message,
            ConsensusWire::Vote(_, signature) | ConsensusWire::Proposal(_, signature) if *signature == NULL_SIGNATURE
        );
        if !abstention {
            self.effects.push(Effect::Publish(message));
        }
        Resume::Continue
    }

    fn value_wanted(&mut self, round: u32) {
        match &mut self.replay {
            // Building now could add a second block where the log may hold the first.
            Some(replay) => replay.wanted = Some(round),
            None => self.effects.push(Effect::Build { height: self.height, round }),
        }
    }

    fn sign(&mut self, ports: &mut Ports<'_>, statement: &Statement) -> Result<Signature, &'static str> {
        // The inputs of this statement become durable first: after a crash they lead to the same statement.
        if std::mem::take(&mut self.log_behind)
            && let Err(error) = ports.log.flush()
        {
            return Err(self.fail(error.into()));
        }
        match ports.signer.sign(statement) {
            Ok(signature) => Ok(signature),
            Err(failure @ (SigningRefusal::Journal(_) | SigningRefusal::Gate(_))) => {
                Err(self.fail(CoreError::Signer(Box::new(failure))))
            }
            Err(
                refusal @ (SigningRefusal::Conflict { .. }
                | SigningRefusal::Regression(_)
                | SigningRefusal::Memory { .. }
                | SigningRefusal::Demand(_)),
            ) => {
                self.effects.push(Effect::Abstained(refusal.to_string()));
                Ok(NULL_SIGNATURE)
            }
        }
    }

    fn append(&mut self, ports: &mut Ports<'_>, input: Input<ConsensusContext>) -> Result<(), &'static str> {
        self.note(&input);
        let Some(entry) = LogEntry::of(input) else {
            return Ok(());
        };
        let is_logged = self.replay.as_ref().is_some_and(|replay| replay.entries.contains(&entry));
        if is_logged {
            return Ok(());
        }
        if self.is_own(&entry) {
            self.own_entries.push(entry);
            return Ok(());
        }
        self.log_behind = true;
        ports.log.append(&entry).map_err(|error| self.fail(error.into()))
    }

    /// Whether the entry is a message that this member signed.
    fn is_own(&self, entry: &LogEntry) -> bool {
        let own = usize::from(self.own.0);
        matches!(entry, LogEntry::Message(message) if message.statement_of(own).is_some())
    }

    /// Remembers the blocks of this height. A proposal that reaches the log has a valid signature, so its block is
    /// worth executing.
    fn note(&mut self, input: &Input<ConsensusContext>) {
        match input {
            Input::Proposal(proposal) => {
                let proposal = &proposal.message;
                let block = proposal.block.clone();
                // A block that is proposed for the first time must be its proposer's own. Without an execution result
                // the proposal stays incomplete, and the round continues as if it had not arrived.
                let is_honest = proposal.pol_round.is_defined()
                    || (block.proposer, block.height) == (proposal.proposer.0, proposal.height.0);
                self.blocks.insert(block.hash(), block.clone());
                let round = proposal.round.as_u32().unwrap_or(0);
                if is_honest && proposal.proposer != self.own && self.asked.insert((block.hash(), round)) {
                    let is_new = !proposal.pol_round.is_defined();
                    self.effects.push(Effect::Check { block, round, is_new });
                }
            }
            Input::ProposedValue(value, _) => {
                self.blocks.insert(value.value.hash(), value.value.clone());
                if value.proposer == self.own
                    && let Some(round) = value.round.as_u32()
                {
                    self.built.insert(round, value.value.clone());
                }
            }
            _ => {}
        }
    }

    fn decide(&mut self, certificate: &CommitCertificate<ConsensusContext>) -> Result<(), &'static str> {
        let decision = |reason: String| CoreError::Decision { height: certificate.height.0, reason };
        let Some(block) = self.blocks.get(&certificate.value_id).cloned() else {
            return Err(self.fail(decision(format!("block {} was never seen", certificate.value_id))));
        };
        match aggregate(certificate) {
            Ok(certificate) => {
                self.effects.push(Effect::Decided(Box::new((block, certificate))));
                Ok(())
            }
            Err(reason) => Err(self.fail(decision(reason))),
        }
    }

    fn fail(&mut self, failure: CoreError) -> &'static str {
        self.failure = Some(failure);
        "the step has failed"
    }

    fn quorum(&self) -> usize {
        self.members.count() * 2 / 3 + 1
    }
}

#[expect(clippy::result_large_err, reason = "the error type is Malachite's")]
impl Host {
    fn verify_commit(
        &self,
        received: &Received,
        certificate: &CommitCertificate<ConsensusContext>,
    ) -> Result<(), CertificateError<ConsensusContext>> {
        let votes = certificate.commit_signatures.iter().map(|commit| {
            let vote = BlockVote {
                height: certificate.height,
                round: certificate.round,
                kind: VoteType::Precommit,
                block: NilOrVal::Val(certificate.value_id),
                voter: commit.address,
            };
            (vote, commit.signature)
        });
        self.verify_votes(received, votes, self.quorum())
    }

    fn verify_polka(
        &self,
        received: &Received,
        certificate: &PolkaCertificate<ConsensusContext>,
    ) -> Result<(), CertificateError<ConsensusContext>> {
        let votes = certificate.votes(&ConsensusContext).map(|vote| (vote.message, vote.signature));
        self.verify_votes(received, votes, self.quorum())
    }

    fn verify_round(
        &self,
        received: &Received,
        certificate: &RoundCertificate<ConsensusContext>,
    ) -> Result<(), CertificateError<ConsensusContext>> {
        let required = match certificate.cert_type {
            RoundCertificateType::Precommit => {
                let prevote = certificate.round_signatures.iter().find(|s| s.vote_type == VoteType::Prevote);
                if let Some(signature) = prevote {
                    return Err(CertificateError::InvalidVoteType(signature.address));
                }
                self.quorum()
            }
            // More than a third: at least one of them is honest.
            RoundCertificateType::Skip => self.members.count() / 3 + 1,
        };
        let votes = certificate.votes(&ConsensusContext).map(|vote| (vote.message, vote.signature));
        self.verify_votes(received, votes, required)
    }

    fn verify_votes(
        &self,
        received: &Received,
        votes: impl Iterator<Item = (BlockVote, Signature)>,
        required: usize,
    ) -> Result<(), CertificateError<ConsensusContext>> {
        let mut seen = 0u64;
        for (vote, signature) in votes {
            let Some(member) = self.members.get_by_address(&vote.voter) else {
                return Err(CertificateError::UnknownValidator(vote.voter));
            };
            let bit = 1 << vote.voter.0;
            if seen & bit != 0 {
                return Err(CertificateError::DuplicateVote(vote.voter));
            }
            seen |= bit;
            let statement = Statement::of_vote(&vote);
            let is_verified = received.holds(usize::from(vote.voter.0), &statement, &signature);
            if !is_verified && !member.public_key().verify(&statement.bytes(&self.chain_id), &signature) {
                return Err(CertificateError::VerificationError(None));
            }
        }
        let signed = seen.count_ones() as usize;
        if signed < required {
            return Err(CertificateError::NotEnoughVotingPower {
                signed: signed as u64,
                total: self.members.total_voting_power(),
                expected: required as u64,
            });
        }
        Ok(())
    }
}

fn aggregate(certificate: &CommitCertificate<ConsensusContext>) -> Result<Certificate, String> {
    let round = certificate.round.as_u32().ok_or("it has no round")?;
    let precommits: Vec<_> =
        certificate.commit_signatures.iter().map(|commit| (commit.address, commit.signature)).collect();
    Certificate::aggregate(certificate.height.0, round, certificate.value_id, &precommits)
        .map_err(|error| error.to_string())
}

/// Whether `timer` waits for the proposal of its round.
pub fn waits_for_proposal(timer: &RoundTimer) -> bool {
    timer.kind == TimeoutKind::Propose
}

/// Whether `timer` waits for something that only comes if the round's proposer is alive: its proposal, or more
/// precommits for it after a quorum has precommitted without deciding.
pub fn needs_proposer(timer: &RoundTimer) -> bool {
    matches!(timer.kind, TimeoutKind::Propose | TimeoutKind::Precommit)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use alys_cluster::federation::{GateClosed, OperationClass};

    use super::*;
    use crate::consensus::StateRoot;
    use crate::consensus::context::BlockProposal;
    use crate::genesis::tests::{genesis, secret};

    /// Behaviour and records of a test's signer and log.
    #[derive(Default)]
    struct Desk {
        refuse: Option<fn(Statement) -> SigningRefusal>,
        log_fails: bool,
        appended: usize,
        durable: usize,
        not_durable_when_signing: usize,
        /// Statements signed since the journal was last made durable.
        signed: usize,
        /// Operations in order.
        order: Vec<&'static str>,
    }

    #[derive(Clone, Default)]
    struct Tools(Arc<Mutex<Desk>>);

    impl Tools {
        fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
            self.0.lock().expect("not poisoned")
        }

        fn error() -> LogError {
            LogError::File { path: "consensus.log".into(), source: io::Error::other("disk full") }
        }
    }

    impl Signer for Tools {
        fn sign(&mut self, statement: &Statement) -> Result<Signature, SigningRefusal> {
            let mut desk = self.desk();
            desk.not_durable_when_signing += desk.appended - desk.durable;
            if let Some(refuse) = desk.refuse {
                return Err(refuse(*statement));
            }
            desk.order.push("signed");
            desk.signed += 1;
            Ok(secret(0).sign(&statement.bytes(genesis().chain_id())))
        }

        fn flush(&mut self) -> Result<(), SigningRefusal> {
            let mut desk = self.desk();
            desk.signed = 0;
            desk.order.push("journal durable");
            Ok(())
        }

        fn signed_at(&self, _: u64) -> Vec<Statement> {
            Vec::new()
        }
    }

    impl MessageLog for Tools {
        fn append(&mut self, _: &LogEntry) -> Result<(), LogError> {
            let mut desk = self.desk();
            desk.appended += 1;
            desk.order.push("logged");
            if desk.log_fails { Err(Self::error()) } else { Ok(()) }
        }

        fn flush(&mut self) -> Result<(), LogError> {
            let mut desk = self.desk();
            desk.durable = desk.appended;
            if desk.log_fails { Err(Self::error()) } else { Ok(()) }
        }
    }

    /// The core of member 0 at height 1, where member 1 is the proposer.
    struct Fixture {
        core: MalachiteCore,
        tools: Tools,
        received: Received,
    }

    impl Fixture {
        fn new() -> Self {
            let core = MalachiteCore::new(&genesis(), 0, ConsensusConfig::default());
            let received = Received::new(&genesis(), 0);
            let mut fixture = Self { core, tools: Tools::default(), received };
            let (mut signer, mut log) = (fixture.tools.clone(), fixture.tools.clone());
            let ports = Ports { signer: &mut signer, log: &mut log, received: &fixture.received };
            fixture.core.start(ports, 1, Vec::new()).expect("starts");
            fixture
        }

        fn step(&mut self, input: CoreInput) -> Result<Vec<Effect>, CoreError> {
            let (mut signer, mut log) = (self.tools.clone(), self.tools.clone());
            let ports = Ports { signer: &mut signer, log: &mut log, received: &self.received };
            self.core.step(ports, input)
        }

        fn check(&mut self, valid: bool) -> Result<Vec<Effect>, CoreError> {
            self.step(proposal(1, 1, |_| ())).expect("the proposal is taken");
            self.step(CoreInput::Checked { block: block(1), round: 0, valid })
        }
    }

    fn block(proposer: u8) -> Block {
        Block {
            height: 1,
            parent: BlockHash(genesis().hash()),
            timestamp_ms: 5,
            proposer,
            state_root: StateRoot::default(),
            transactions: vec![],
        }
    }

    /// A proposal by `proposer` of a block by `builder`, signed and then modified.
    fn proposal(proposer: u8, builder: u8, change: fn(&mut Signature)) -> CoreInput {
        let proposal = BlockProposal {
            height: ConsensusHeight(1),
            round: Round::ZERO,
            block: block(builder),
            pol_round: Round::Nil,
            proposer: MemberIndex(proposer),
        };
        let bytes = Statement::of_proposal(&proposal).bytes(genesis().chain_id());
        let mut signature = secret(proposer).sign(&bytes);
        change(&mut signature);
        CoreInput::Message(ConsensusWire::Proposal(proposal, signature))
    }

    fn checks(effects: &[Effect]) -> usize {
        effects.iter().filter(|effect| matches!(effect, Effect::Check { .. })).count()
    }

    fn votes(effects: &[Effect]) -> Vec<NilOrVal<BlockHash>> {
        let vote = |effect: &Effect| match effect {
            Effect::Publish(ConsensusWire::Vote(vote, _)) => Some(vote.block),
            _ => None,
        };
        effects.iter().filter_map(vote).collect()
    }

    #[test]
    fn a_block_is_executed_before_it_is_voted_for_and_the_vote_follows_what_was_found() {
        for (valid, vote) in [(true, NilOrVal::Val(block(1).hash())), (false, NilOrVal::Nil)] {
            let mut fixture = Fixture::new();
            let effects = fixture.step(proposal(1, 1, |_| ())).expect("taken");
            assert_eq!((checks(&effects), votes(&effects)), (1, vec![]));
            let effects =
                fixture.step(CoreInput::Checked { block: block(1), round: 0, valid }).expect("taken");
            assert_eq!(votes(&effects), [vote], "found valid: {valid}");
        }
    }

    #[test]
    fn proposals_that_are_forged_out_of_turn_or_in_anothers_name_are_not_even_executed() {
        for (why, input) in [
            ("a damaged signature", proposal(1, 1, |signature| signature.0[9] ^= 1)),
            ("the null signature", proposal(1, 1, |signature| *signature = NULL_SIGNATURE)),
            ("out of turn", proposal(2, 2, |_| ())),
            ("a block in another's name", proposal(1, 2, |_| ())),
        ] {
            let effects = Fixture::new().step(input).expect(why);
            assert_eq!((checks(&effects), votes(&effects)), (0, vec![]), "{why}");
        }
    }

    #[test]
    fn a_block_first_offered_in_anothers_name_is_executed_when_its_builder_offers_it() {
        let mut fixture = Fixture::new();
        // Proposers rotate: member 2 proposes in round 1 of height 1, with the block that member 1 built.
        let stolen = BlockProposal {
            height: ConsensusHeight(1),
            round: Round::new(1),
            block: block(1),
            pol_round: Round::Nil,
            proposer: MemberIndex(2),
        };
        let signature = secret(2).sign(&Statement::of_proposal(&stolen).bytes(genesis().chain_id()));
        let stolen = CoreInput::Message(ConsensusWire::Proposal(stolen, signature));
        assert_eq!(checks(&fixture.step(stolen).expect("taken")), 0);
        assert_eq!(checks(&fixture.step(proposal(1, 1, |_| ())).expect("taken")), 1);
    }

    #[test]
    fn everything_is_durable_before_it_is_signed_and_before_it_leaves() {
        let mut fixture = Fixture::new();
        let effects = fixture.check(true).expect("votes");
        assert_eq!(votes(&effects).len(), 1);
        let desk = fixture.tools.desk();
        assert!(desk.appended >= 3, "proposal, block and own vote are logged");
        assert_eq!((desk.not_durable_when_signing, desk.signed), (0, 0));
        assert!(desk.order.ends_with(&["signed", "journal durable", "logged"]), "{:?}", desk.order);
        assert_eq!(desk.durable, desk.appended - 1, "all but the own vote, which is derived again");
    }

    #[test]
    fn a_log_that_can_not_be_written_fails_the_step_and_nothing_leaves_it() {
        let mut fixture = Fixture::new();
        fixture.step(proposal(1, 1, |_| ())).expect("taken");
        fixture.tools.desk().log_fails = true;
        let outcome = fixture.step(CoreInput::Checked { block: block(1), round: 0, valid: true });
        assert!(matches!(outcome, Err(CoreError::Log(_))), "{outcome:?}");
    }

    #[test]
    fn a_refused_contradiction_is_an_abstention_and_nothing_of_it_leaves() {
        let mut fixture = Fixture::new();
        fixture.tools.desk().refuse = Some(SigningRefusal::Regression);
        let effects = fixture.check(true).expect("goes on");
        assert_eq!(votes(&effects), []);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Abstained(_))), "{effects:?}");
    }

    #[test]
    fn a_gate_that_closes_in_the_middle_of_a_step_fails_it() {
        let mut fixture = Fixture::new();
        fixture.tools.desk().refuse = Some(|_| {
            SigningRefusal::Gate(GateClosed { class: OperationClass::Vote, reason: "closed".into() })
        });
        let outcome = fixture.check(true);
        assert!(matches!(outcome, Err(CoreError::Signer(_))), "{outcome:?}");
    }

    #[test]
    fn proofs_of_a_polka_count_each_member_once_and_want_a_quorum() {
        let fixture = Fixture::new();
        let block = block(1).hash();
        let vote = |member: u8| {
            let vote = BlockVote {
                height: ConsensusHeight(1),
                round: Round::ZERO,
                kind: VoteType::Prevote,
                block: NilOrVal::Val(block),
                voter: MemberIndex(member),
            };
            let signature = secret(member).sign(&Statement::of_vote(&vote).bytes(genesis().chain_id()));
            (vote, signature)
        };
        let host = &fixture.core.host;
        let holds = |members: &[u8]| {
            host.verify_votes(&fixture.received, members.iter().map(|m| vote(*m)), 3).is_ok()
        };
        assert!(holds(&[0, 1, 3]));
        assert!(!holds(&[0, 1]), "two are no quorum");
        assert!(!holds(&[0, 1, 1]), "one member counts once");
        let forged = [vote(0), vote(1), (vote(2).0, vote(1).1)].into_iter();
        assert!(host.verify_votes(&fixture.received, forged, 3).is_err(), "a vote in another's name");
    }
}
