//! Simulates four `HeightDriver`s with the real protocol and real signatures in virtual time: seeded delays, cut links,
//! and crashes that lose what was not flushed. Only the actors are left out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use alys_cluster::clock::{Moment, WallTime};
use alys_cluster::federation::{GateClosed, OperationClass};
use alys_cluster::health::HealthStatus;
use alys_cluster::id::{Incarnation, NodeId};
use alys_cluster::port::PeerChange;
use malachite_types::{NilOrVal, Round, VoteType};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::byzantine::{Byzantine, Delivery, claimed};
use super::height_driver::{Action, HeightDriver, HeightLog, Input, StepTime, Tools, shown};
use crate::actors::sync::state::{self as sync, SyncState};
use crate::consensus::context::{BlockVote, ConsensusHeight, MemberIndex, Statement, Step};
use crate::consensus::core::MalachiteCore;
use crate::consensus::evidence::Equivocation;
use crate::consensus::guard::{Signer, SigningRefusal};
use crate::consensus::log::{LogError, MessageLog};
use crate::consensus::message::{ConsensusWire, LogEntry};
use crate::consensus::received::Received;
use crate::consensus::{Block, BlockHash, Certificate, ConsensusConfig};
use crate::genesis::Genesis;
use crate::genesis::tests::{genesis, secret};
use crate::keys::{SecretKey, Signature};
use crate::ordering::OrderingEngine;
use crate::ports::{ExecutionEngine as _, Head, PayloadStatus};

pub(super) const MEMBERS: usize = 4;
const TICK_MS: u64 = 20;

/// An in-memory log. A crash loses what was not flushed.
#[derive(Default)]
struct MemoryLog {
    height: u64,
    entries: Vec<LogEntry>,
    durable: usize,
}

impl MessageLog for MemoryLog {
    fn append(&mut self, entry: &LogEntry) -> Result<(), LogError> {
        self.entries.push(entry.clone());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.durable = self.entries.len();
        Ok(())
    }
}

impl HeightLog for MemoryLog {
    fn begin(&mut self, height: u64) -> Result<Vec<LogEntry>, LogError> {
        if self.height != height {
            *self = Self { height, ..Self::default() };
        }
        Ok(self.entries.clone())
    }
}

/// A signer that records everything it ever signed. It refuses contradictions only if it is `guarded`.
struct RecordingSigner {
    key: SecretKey,
    chain_id: String,
    guarded: bool,
    gate_open: bool,
    /// Number of upcoming signing requests that fail because the gate closes.
    closes: u32,
    closed: usize,
    signed: BTreeMap<(u64, u32, Step), Option<BlockHash>>,
    floor: Option<u64>,
    /// Highest height at which the key is known to have signed a statement that the signer forgot; the floor is never
    /// lower.
    least_floor: u64,
    /// For a member that runs on an older copy of its data: the statements that copy knows. The signer does not refuse
    /// to contradict any others.
    copy: Option<BTreeSet<(u64, u32, Step)>>,
    /// Whether the signer compares the signatures that the chain shows with those it knows.
    compares: bool,
    conflicts: usize,
    refusals: usize,
    signed_while_closed: usize,
}

impl Signer for RecordingSigner {
    fn sign(&mut self, statement: &Statement) -> Result<Signature, SigningRefusal> {
        if self.closes > 0 {
            self.closes -= 1;
            self.closed += 1;
            return Err(SigningRefusal::Gate(GateClosed {
                class: OperationClass::Vote,
                reason: "the lease ran out".into(),
            }));
        }
        let (height, floor) = (statement.height, self.floor.unwrap_or(u64::MAX));
        if height <= floor {
            return Err(SigningRefusal::Memory { height, floor });
        }
        self.signed_while_closed += usize::from(!self.gate_open);
        let key = (statement.height, statement.round, statement.step);
        let signed = *self.signed.entry(key).or_insert(statement.block);
        if signed != statement.block {
            if self.guarded && self.copy.as_ref().is_none_or(|copy| copy.contains(&key)) {
                self.refusals += 1;
                return Err(SigningRefusal::Conflict { at: *statement, signed, asked: statement.block });
            }
            self.conflicts += 1;
        }
        if let Some(copy) = &mut self.copy {
            copy.insert(key);
        }
        Ok(self.key.sign(&statement.bytes(&self.chain_id)))
    }

    fn signed_at(&self, height: u64) -> Vec<Statement> {
        let at = |key: &(u64, u32, Step), block: Option<BlockHash>| Statement {
            height: key.0,
            round: key.1,
            step: key.2,
            block,
            pol_round: -1,
        };
        let knows = |key: &(u64, u32, Step)| self.copy.as_ref().is_none_or(|copy| copy.contains(key));
        let signed = self.signed.iter().filter(|(key, _)| self.guarded && key.0 == height && knows(key));
        signed.map(|(key, block)| at(key, *block)).collect()
    }

    fn floor(&self) -> Option<u64> {
        self.floor
    }

    fn set_floor(&mut self, floor: u64) -> Result<(), SigningRefusal> {
        self.floor = Some(floor.max(self.least_floor));
        Ok(())
    }

    fn lacks(&self, height: u64, step: Step, _: BlockHash) -> bool {
        let is_it = |key: &(u64, u32, Step)| (key.0, key.2) == (height, step);
        let is_missed = self.copy.as_ref().is_some_and(|copy| !copy.iter().any(is_it));
        self.compares && is_missed && self.floor.is_some_and(|floor| height > floor)
    }

    fn remembers(&self, height: u64) -> bool {
        self.floor.is_some_and(|floor| height > floor)
    }

    fn forget(&mut self, height: u64) -> Result<(), SigningRefusal> {
        self.floor = None;
        self.least_floor = self.least_floor.max(height);
        Ok(())
    }
}

pub(super) struct Member {
    pub(super) driver: HeightDriver,
    log: MemoryLog,
    signer: RecordingSigner,
    received: Received,
    pub(super) evidence: Vec<Equivocation>,
    /// How the member misbehaves, if it is Byzantine.
    pub(super) byzantine: Option<Byzantine>,
    sync: SyncState,
    engine: OrderingEngine,
    pub(super) chain: Vec<(Block, Certificate, u64)>,
    up: bool,
    life: u64,
    /// Whether the gate admits votes but no proposals.
    passes_turns: bool,
    /// How far the wall clock is ahead, in milliseconds.
    ahead_ms: i64,
}

enum Event {
    Tick,
    Input(Box<Input>),
    /// A delayed message of a Byzantine member.
    Deliver(Option<usize>, Box<ConsensusWire>),
}

/// Blocks of the received statements, by author's index and by height, round and step.
type Heard = BTreeMap<(usize, (u64, u32, Step)), BTreeSet<Option<BlockHash>>>;

pub(super) struct Simulation {
    pub(super) genesis: Genesis,
    pub(super) members: Vec<Member>,
    cut: BTreeSet<(usize, usize)>,
    /// Whether members relay messages between members that do not reach each other, and attest each other's health.
    carries: bool,
    loses_messages: bool,
    pub(super) now_ms: u64,
    pub(super) rng: StdRng,
    /// Statements of each member that any other member received.
    heard: Heard,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, (usize, u64, Event)>,
}

fn name(index: usize) -> NodeId {
    NodeId::new(&format!("node-{}", index + 1)).expect("a name")
}

fn driver(genesis: &Genesis, own: usize, head: Head) -> HeightDriver {
    let config = ConsensusConfig::default();
    let core = Box::new(MalachiteCore::new(genesis, own, config));
    HeightDriver::new(core, config, (0..MEMBERS).map(name).collect(), own, head, genesis.block_time())
}

impl Simulation {
    pub(super) fn new(seed: u64, guarded: bool) -> Self {
        let genesis = genesis();
        let head = Head::genesis(genesis.hash());
        let member = |own: usize| Member {
            driver: driver(&genesis, own, head),
            log: MemoryLog::default(),
            signer: RecordingSigner {
                key: secret(own as u8),
                chain_id: genesis.chain_id().to_owned(),
                guarded,
                gate_open: false,
                closes: 0,
                closed: 0,
                signed: BTreeMap::new(),
                floor: Some(0),
                least_floor: 0,
                copy: None,
                compares: true,
                conflicts: 0,
                refusals: 0,
                signed_while_closed: 0,
            },
            received: Received::new(&genesis, own),
            evidence: Vec::new(),
            byzantine: None,
            sync: SyncState::new(1),
            engine: OrderingEngine::new(head),
            chain: Vec::new(),
            up: true,
            life: 0,
            passes_turns: false,
            ahead_ms: 0,
        };
        let members = (0..MEMBERS).map(member).collect();
        let mut simulation = Self {
            genesis,
            members,
            cut: BTreeSet::new(),
            carries: false,
            loses_messages: false,
            now_ms: 0,
            heard: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            sequence: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
        };
        for index in 0..MEMBERS {
            let start = simulation.rng.random_range(0..TICK_MS);
            simulation.push(start, index, Event::Tick);
        }
        simulation
    }

    fn push(&mut self, after_ms: u64, to: usize, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now_ms + after_ms, self.sequence)));
        self.events.insert(self.sequence, (to, self.members[to].life, event));
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.members[from].up && self.members[to].up && !self.cut.contains(&(from, to))
    }

    /// Perfect failure detector: counts the members that reach this one and are reached by it.
    fn gate_open(&self, index: usize) -> bool {
        let both = |one, other| self.reaches(one, other) && self.reaches(other, one);
        let attests = |other| self.carrier(index, other).is_some() && self.carrier(other, index).is_some();
        let healthy = (0..MEMBERS)
            .filter(|&other| other == index || both(index, other) || self.carries && attests(other));
        healthy.count() >= 3
    }

    /// A member that can relay messages from `from` to `to`.
    fn carrier(&self, from: usize, to: usize) -> Option<usize> {
        (0..MEMBERS).find(|&third| {
            third != from && third != to && self.reaches(from, third) && self.reaches(third, to)
        })
    }

    pub(super) fn run_until(&mut self, ms: u64) {
        while let Some(Reverse((at, sequence))) = self.queue.peek().copied()
            && at <= ms
        {
            self.queue.pop();
            self.now_ms = at;
            let (to, life, event) = self.events.remove(&sequence).expect("queued with its event");
            if !self.members[to].up || self.members[to].life != life {
                continue;
            }
            match event {
                Event::Tick => {
                    self.push(TICK_MS, to, Event::Tick);
                    self.input(to, Input::Tick);
                    self.catch_up(to);
                }
                Event::Input(input) => {
                    self.hear(to, &input);
                    self.input(to, *input);
                }
                Event::Deliver(receiver, message) => self.deliver(to, receiver, &message),
            }
        }
        self.now_ms = ms;
    }

    pub(super) fn run_for(&mut self, ms: u64) {
        self.run_until(self.now_ms + ms);
    }

    fn input(&mut self, index: usize, input: Input) {
        let gate_open = self.gate_open(index);
        let at = StepTime {
            now: Moment::at(Duration::from_millis(self.now_ms)),
            wall: WallTime((10_000_000 + self.now_ms).saturating_add_signed(self.members[index].ahead_ms)),
            gate_open,
            may_propose: gate_open && !self.members[index].passes_turns,
        };
        let member = &mut self.members[index];
        member.signer.gate_open = gate_open;
        let (signer, log, received) = (&mut member.signer, &mut member.log, &mut member.received);
        let mut tools = Tools { signer, log, received };
        let actions = member.driver.handle(at, &mut tools, input).expect("the step holds");
        for action in actions {
            self.act(index, at, action);
        }
    }

    /// Records the statements that reach a member, and lets a Byzantine member react.
    fn hear(&mut self, index: usize, input: &Input) {
        let Input::Message(from, message) = input else { return };
        if let Some(author) = message.author() {
            for (_, signed) in message.statements() {
                let bytes = signed.statement.bytes(self.genesis.chain_id());
                let key = &self.genesis.members()[author].public_key;
                // A member does not forge its own messages, so these need no check.
                if author != *from && !key.verify(&bytes, &signed.signature) {
                    continue;
                }
                let place = (author, signed.statement.place());
                self.heard.entry(place).or_default().insert(signed.statement.block);
            }
        }
        let deliveries = self.members[index].byzantine.as_mut().map(|byzantine| byzantine.hear(message));
        self.deliver_all(index, deliveries.unwrap_or_default());
    }

    fn deliver_all(&mut self, from: usize, deliveries: Vec<Delivery>) {
        for Delivery { to, after, message } in deliveries {
            if after == Duration::ZERO {
                self.deliver(from, to, &message);
            } else {
                self.push(after.as_millis() as u64, from, Event::Deliver(to, Box::new(message)));
            }
        }
    }

    fn deliver(&mut self, from: usize, to: Option<usize>, message: &ConsensusWire) {
        self.send(from, to.map(name).as_ref(), message);
    }

    fn act(&mut self, index: usize, at: StepTime, action: Action) {
        let deliveries = match (&mut self.members[index].byzantine, &action) {
            (Some(byzantine), Action::Send(message)) => Some(byzantine.say(None, message.clone())),
            (Some(byzantine), Action::SendTo(node, message)) => {
                let to = (0..MEMBERS).find(|&to| name(to) == *node);
                Some(byzantine.say(to, message.clone()))
            }
            (Some(_), Action::PassOn(..) | Action::TellUnknownSignature(_)) => Some(Vec::new()),
            _ => None,
        };
        if let Some(deliveries) = deliveries {
            self.deliver_all(index, deliveries);
            return;
        }
        match action {
            Action::Send(message) => {
                self.send(index, None, &message);
            }
            Action::SendTo(node, message) => self.send(index, Some(&node), &message),
            Action::PassOn(node, message) => self.send(index, node.as_ref(), &message),
            Action::KeepEvidence(equivocation) => self.members[index].evidence.push(*equivocation),
            Action::SetTimer(timer, generation, after) => {
                let after = after.as_millis() as u64;
                self.push(after, index, Event::Input(Box::new(Input::Timer(timer, generation))));
            }
            Action::Build { round } => {
                let member = &mut self.members[index];
                let payload = member.engine.get_payload(&member.driver.head().hash).expect("on the head");
                let block = member.driver.assemble(at.wall, payload);
                self.push(1, index, Event::Input(Box::new(Input::Built { round, block })));
            }
            Action::Check { block, round } => {
                let valid = self.members[index].engine.new_payload(&block) == PayloadStatus::Valid;
                self.push(1, index, Event::Input(Box::new(Input::Checked { block, round, valid })));
            }
            Action::Commit(decision) => self.commit(index, decision.block, decision.certificate, false),
            Action::TellUnknownSignature(statement) if self.members[index].signer.copy.is_some() => {
                self.input(index, Input::Missed(statement));
            }
            // An unguarded signer has no journal, so it knows none of its signatures.
            Action::TellUnknownSignature(statement) if self.members[index].signer.guarded => {
                panic!("member {index} has not signed {statement:?}")
            }
            Action::TellUnknownSignature(_) | Action::TellRound { .. } | Action::TellAbstention { .. } => {}
        }
    }

    fn send(&mut self, from: usize, node: Option<&NodeId>, message: &ConsensusWire) {
        let is_meant = |to: &usize| *to != from && node.is_none_or(|node| name(*to) == *node);
        for to in (0..MEMBERS).filter(is_meant) {
            self.send_to(from, to, message);
        }
    }

    fn send_to(&mut self, from: usize, to: usize, message: &ConsensusWire) {
        let input = Input::Message(from, message.clone());
        let is_stated = message.author() == Some(from);
        if self.carries && is_stated && !self.reaches(from, to) && self.carrier(from, to).is_some() {
            let delay = self.rng.random_range(2..40);
            self.push(delay, to, Event::Input(Box::new(input)));
            return;
        }
        if self.reaches(from, to) && !self.loses_messages {
            let delay = self.rng.random_range(1..20);
            self.push(delay, to, Event::Input(Box::new(input)));
        }
    }

    fn commit(&mut self, index: usize, block: Block, certificate: Certificate, adopted: bool) {
        certificate.verify(&self.genesis).expect("a decision proves itself");
        let member = &mut self.members[index];
        let (head, shown) = (Head::of(&block), shown(index, &block, &certificate));
        member.engine.forkchoice_updated(&block);
        member.chain.push((block, certificate, self.now_ms));
        self.input(index, Input::Committed { head, adopted, shown });
    }

    /// Does the work of the sync actor; responses arrive immediately.
    fn catch_up(&mut self, index: usize) {
        let reaches = |peer: usize| peer != index && self.reaches(peer, index) && self.reaches(index, peer);
        let height = |peer: usize| {
            let member = &self.members[peer];
            claimed(member.chain.len() as u64, member.byzantine.as_ref().map(Byzantine::how))
        };
        let peers =
            (0..MEMBERS).filter(|&peer| reaches(peer)).map(|peer| (name(peer), height(peer))).collect();
        let tick = sync::Input::Tick { height: self.members[index].chain.len() as u64, peers };
        let now = Moment::at(Duration::from_millis(self.now_ms));
        for effect in self.members[index].sync.handle(now, tick) {
            match effect {
                sync::Effect::PeersAt { height, heard } => {
                    self.input(index, Input::PeersAt { height, heard });
                }
                sync::Effect::Request { to, id, from } => {
                    let peer = (0..MEMBERS).find(|&peer| name(peer) == to).expect("a member");
                    let next = self.members[index].chain.len() as u64 + 1;
                    let found = self.members[peer].chain.get(from as usize - 1).cloned();
                    let useful = found.is_some() || from < next;
                    if let Some((block, certificate, _)) = found.filter(|_| from == next) {
                        self.commit(index, block, certificate, true);
                    }
                    let answered = sync::Input::Answered { from: to, id, useful };
                    self.members[index].sync.handle(now, answered);
                }
            }
        }
    }

    /// Crashes a member. Only durable data survives: the chain, the flushed log and the signer's records.
    fn crash(&mut self, index: usize, keep_log: bool) {
        let member = &mut self.members[index];
        member.up = false;
        member.life += 1;
        if keep_log {
            let durable = member.log.durable;
            member.log.entries.truncate(durable);
        } else {
            member.log = MemoryLog::default();
        }
        self.tell_others(index, |node| PeerChange::Down { node, reason: "crashed".into() });
    }

    /// Crashes a member and erases its disk. Only its floor, if it has one, keeps it from contradicting itself.
    fn lose_disk(&mut self, index: usize, has_floor: bool) {
        self.crash(index, false);
        let member = &mut self.members[index];
        member.chain.clear();
        member.signer.guarded = false;
        member.signer.floor = if has_floor { None } else { Some(0) };
    }

    fn restart(&mut self, index: usize) {
        let member = &mut self.members[index];
        let head =
            member.chain.last().map_or(Head::genesis(self.genesis.hash()), |(block, ..)| Head::of(block));
        member.driver = driver(&self.genesis, index, head);
        member.engine = OrderingEngine::new(head);
        member.received = Received::new(&self.genesis, index);
        member.up = true;
        let lost = (0..MEMBERS).filter(|&other| !self.members[other].up).map(name).collect::<Vec<_>>();
        self.members[index].driver.begin_without(lost);
        self.push(0, index, Event::Tick);
        self.tell_others(index, |node| PeerChange::Up { node, incarnation: Incarnation(2) });
    }

    fn tell_others(&mut self, about: usize, change: fn(NodeId) -> PeerChange) {
        for other in (0..MEMBERS).filter(|&other| other != about) {
            self.push(1, other, Event::Input(Box::new(Input::Peer(change(name(about))))));
        }
    }

    fn split(&mut self, sides: [&[usize]; 2]) {
        for &a in sides[0] {
            for &b in sides[1] {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    /// Heals every cut. Each member receives `Up` for the others, as from the federation actor.
    fn heal(&mut self) {
        self.cut.clear();
        for index in 0..MEMBERS {
            self.tell_others(index, |node| PeerChange::Up { node, incarnation: Incarnation(1) });
        }
    }

    pub(super) fn heights(&self) -> Vec<usize> {
        self.members.iter().map(|member| member.chain.len()).collect()
    }

    fn height(&self) -> usize {
        self.heights().into_iter().max().expect("four members")
    }

    fn ms_until_height(&mut self, height: usize, at_most_ms: u64) -> u64 {
        let start = self.now_ms;
        while self.height() < height {
            self.run_for(5);
            assert!(self.now_ms - start <= at_most_ms, "no height {height} within {at_most_ms} ms");
        }
        self.now_ms - start
    }

    fn intervals(&self, index: usize) -> Vec<u64> {
        self.members[index].chain.windows(2).map(|pair| pair[1].2 - pair[0].2).collect()
    }

    /// Asserts the safety properties, which hold at any time.
    pub(super) fn assert_safe(&self) {
        for height in 0..self.height() {
            let blocks: BTreeSet<_> = self
                .members
                .iter()
                .filter_map(|m| m.chain.get(height))
                .map(|(block, ..)| block.hash())
                .collect();
            assert_eq!(blocks.len(), 1, "a fork at height {}", height + 1);
        }
        let honest = |index: usize| self.members[index].byzantine.is_none();
        for ((author, place), stated) in self.heard.iter().filter(|((author, _), _)| honest(*author)) {
            assert_eq!(stated.len(), 1, "member {author} was heard to sign {stated:?} at {place:?}");
        }
        for (index, member) in self.members.iter().enumerate() {
            assert_eq!(member.signer.conflicts, 0, "member {index} signed twice");
            assert_eq!(
                member.signer.signed_while_closed, 0,
                "member {index} signed while its gate was closed"
            );
        }
    }
}

#[test]
fn four_members_make_a_block_every_two_seconds() {
    let mut simulation = Simulation::new(1, true);
    simulation.run_until(60_000);
    simulation.assert_safe();
    assert!(simulation.heights().iter().all(|&height| height >= 29), "{:?}", simulation.heights());
    for index in 0..MEMBERS {
        let intervals = simulation.intervals(index);
        assert!(intervals.iter().all(|ms| (1_930..=2_070).contains(ms)), "{intervals:?}");
        let mean = intervals.iter().sum::<u64>() / intervals.len() as u64;
        assert!((1_990..=2_010).contains(&mean), "the beat drifts: {mean} ms");
    }
}

#[test]
fn one_lost_member_does_not_slow_the_chain_and_catches_up_when_it_returns() {
    let mut simulation = Simulation::new(2, true);
    simulation.run_until(5_000);
    simulation.crash(3, true);
    simulation.run_until(65_000);
    assert!(simulation.height() >= 31, "{:?}", simulation.heights());
    simulation.restart(3);
    simulation.run_for(5_000);
    simulation.assert_safe();
    let heights = simulation.heights();
    assert!(heights.iter().max().expect("four") - heights[3] <= 1, "{heights:?}");
}

#[test]
fn a_proposer_lost_in_the_middle_of_its_turn_is_not_waited_for_any_longer() {
    for seed in 0..4 {
        let mut simulation = Simulation::new(seed, true);
        simulation.run_until(9_000);
        let height = simulation.height();
        let begins = simulation.members[0].chain.last().expect("blocks").2 + 2_000;
        // The proposer's messages are lost, but no member has received `Down` yet.
        let proposer = (height + 1) % MEMBERS;
        let others = (0..MEMBERS).filter(|&other| other != proposer);
        simulation.cut.extend(others.map(|other| (proposer, other)));
        simulation.run_until(begins + 150);
        assert_eq!(simulation.height(), height, "seed {seed}: they wait for its proposal");
        simulation.tell_others(proposer, |node| PeerChange::Down { node, reason: "silent".into() });
        simulation.ms_until_height(height + 1, 300);
        simulation.assert_safe();
    }
}

#[test]
fn a_member_that_begins_without_a_lost_one_does_not_wait_for_its_turn() {
    let mut simulation = Simulation::new(3, true);
    simulation.run_until(5_000);
    simulation.crash(3, true);
    simulation.run_until(11_000);
    simulation.crash(0, true);
    simulation.run_for(300);
    simulation.restart(0);
    simulation.run_for(4_000);
    let settled = simulation.members[1].chain.len();
    simulation.run_for(30_000);
    simulation.assert_safe();
    let intervals = simulation.intervals(1).split_off(settled);
    assert!(intervals.len() >= 14 && intervals.iter().all(|ms| *ms <= 2_200), "{intervals:?}");
}

#[test]
fn a_member_that_may_vote_and_not_propose_passes_its_turn_and_the_chain_goes_on() {
    let mut simulation = Simulation::new(5, true);
    simulation.members[1].passes_turns = true;
    simulation.run_until(30_000);
    simulation.assert_safe();
    assert!(simulation.heights().iter().all(|&height| height >= 12), "{:?}", simulation.heights());
    assert!(simulation.members[0].chain.iter().all(|(block, ..)| block.proposer != 1));
    assert!(simulation.members[0].chain.iter().any(|(_, proof, _)| proof.signer_indexes().any(|i| i == 1)));
}

/// One member is dead, so all of the other three are needed, and two of these do not reach each other.
#[test]
fn three_members_of_which_two_are_cut_from_each_other_go_on_through_the_third() {
    for (seed, both_ways) in [(0, true), (1, false)] {
        let mut simulation = Simulation::new(seed, true);
        simulation.carries = true;
        simulation.run_until(5_000);
        simulation.crash(3, true);
        simulation.cut.insert((0, 1));
        if both_ways {
            simulation.cut.insert((1, 0));
        }
        let height = simulation.height();
        simulation.run_for(30_000);
        simulation.assert_safe();
        assert!(simulation.height() >= height + 13, "seed {seed}: {:?}", simulation.heights());
    }
}

#[test]
fn a_split_in_the_middle_halts_both_sides_and_healing_it_makes_a_block_soon() {
    for seed in 0..10 {
        let mut simulation = Simulation::new(seed, true);
        simulation.run_until(10_000 + seed * 173);
        simulation.split([&[0, 1], &[2, 3]]);
        simulation.run_for(100);
        let height = simulation.height();
        simulation.run_for(20_000);
        assert!(simulation.height() <= height + 1, "seed {seed}: blocks without a quorum");
        let halted_at = simulation.height();
        simulation.heal();
        simulation.ms_until_height(halted_at + 1, 1_500);
        simulation.run_for(10_000);
        simulation.assert_safe();
        assert!(simulation.height() >= halted_at + 5, "seed {seed}: {:?}", simulation.heights());
    }
}

#[test]
fn three_against_one_go_on_and_the_one_catches_up() {
    let mut simulation = Simulation::new(4, true);
    simulation.run_until(10_000);
    simulation.split([&[0, 1, 2], &[3]]);
    simulation.run_for(20_000);
    let heights = simulation.heights();
    assert!(heights[0] >= heights[3] + 8, "{heights:?}");
    simulation.heal();
    simulation.run_for(5_000);
    simulation.assert_safe();
    let heights = simulation.heights();
    assert!(heights[0] - heights[3] <= 1, "{heights:?}");
}

/// Crashes all four members at one moment of the slot, which depends on the seed, and restarts them.
fn crash_all(seed: u64, keep_log: bool, guarded: bool) -> Simulation {
    let mut simulation = Simulation::new(seed, guarded);
    simulation.run_until(4_000 + seed * 3 % 120);
    let before = simulation.height();
    let level = simulation.heights().iter().all(|height| *height == before);
    (0..MEMBERS).for_each(|index| simulation.crash(index, keep_log));
    simulation.run_for(500);
    (0..MEMBERS).for_each(|index| simulation.restart(index));
    if keep_log {
        // No round is lost: members repeat what they sent before the crash. Members that were a block behind fetch it
        // first, and join the height that others have started.
        simulation.ms_until_height(before + 1, if level { 500 } else { 2_000 });
    }
    simulation.run_for(12_000);
    if keep_log {
        assert!(simulation.height() >= before + 4, "seed {seed}: stuck at {:?}", simulation.heights());
    }
    simulation
}

#[test]
fn a_crash_of_all_four_in_the_middle_of_a_round_loses_nothing_and_signs_nothing_twice() {
    for seed in 0..24 {
        let simulation = crash_all(seed, true, false);
        simulation.assert_safe();
    }
}

#[test]
fn a_gate_that_closes_in_the_middle_of_a_step_loses_no_block_and_is_no_failure() {
    for seed in 0..24 {
        let mut simulation = Simulation::new(seed, true);
        for height in 1..8 {
            // Two members that abort the step at once leave no quorum: the height waits until they replay it.
            let first = simulation.rng.random_range(0..MEMBERS);
            for index in [first, (first + 1) % MEMBERS] {
                simulation.members[index].signer.closes = simulation.rng.random_range(1..4);
            }
            let late = simulation.ms_until_height(height, 4_500);
            assert!(late < 3_500, "seed {seed}: height {height} after {late} ms");
            let pause = simulation.rng.random_range(0..1_990);
            simulation.run_for(pause);
        }
        let closed: usize = simulation.members.iter().map(|member| member.signer.closed).sum();
        assert!(closed > 16, "seed {seed}: the gate closed {closed} times only");
        simulation.assert_safe();
    }
}

#[test]
fn members_that_lost_their_logs_are_kept_from_signing_twice_by_the_journal_alone() {
    let conflicts = |simulation: Simulation| -> usize {
        simulation.members.iter().map(|member| member.signer.conflicts).sum()
    };
    let unguarded: usize = (0..16).map(|seed| conflicts(crash_all(seed, false, false))).sum();
    assert!(unguarded > 0, "these crashes do not even tempt a member to sign twice");
    (0..16).for_each(|seed| crash_all(seed, false, true).assert_safe());
}

#[test]
fn a_member_that_lost_its_log_or_a_part_of_it_is_silent_until_the_others_have_decided() {
    for kept in [0, 1, 2] {
        let mut simulation = Simulation::new(7, true);
        // In the middle of a round: after both of its own votes and before the decision.
        while !simulation.members[3].signer.signed.contains_key(&(3, 0, Step::Precommit)) {
            simulation.run_for(1);
        }
        assert_eq!(simulation.members[3].chain.len(), 2);
        let signed_before = simulation.members[3].signer.signed.len();
        simulation.crash(3, true);
        let log = &mut simulation.members[3].log;
        assert!(log.entries.len() > 4);
        log.entries.truncate(kept);
        simulation.restart(3);
        simulation.run_for(20);
        let member = &simulation.members[3];
        assert_eq!(member.signer.signed.len(), signed_before, "{kept} entries kept");
        let health = member.driver.health(Moment::at(Duration::from_millis(simulation.now_ms)));
        assert_eq!(health.status, HealthStatus::Unhealthy, "{kept} entries kept");
        simulation.run_for(10_000);
        simulation.assert_safe();
        let member = &simulation.members[3];
        assert!(member.signer.signed.len() > signed_before + 4, "it votes again");
        let health = member.driver.health(Moment::at(Duration::from_millis(simulation.now_ms)));
        assert_eq!(health.status, HealthStatus::Healthy);
    }
}

/// Crashes member 2, so that the others have no quorum without member 3, and runs until member 3 has signed another
/// proposal.
fn stop_at_a_proposal_that_waits(simulation: &mut Simulation) {
    simulation.crash(2, true);
    let proposals = |simulation: &Simulation| {
        let signed = simulation.members[3].signer.signed.keys();
        signed.filter(|(.., step)| *step == Step::Proposal).count()
    };
    let before = proposals(simulation);
    while proposals(simulation) == before {
        simulation.run_for(1);
    }
}

#[test]
fn a_member_that_lost_its_disk_contradicts_nothing_that_it_signed_before() {
    let mut without = 0;
    for seed in 0..20 {
        for has_floor in [true, false] {
            let mut simulation = Simulation::new(seed, true);
            simulation.run_for(3_000);
            stop_at_a_proposal_that_waits(&mut simulation);
            let height = simulation.height() as u64;
            simulation.lose_disk(3, has_floor);
            let signed_before = simulation.members[3].signer.signed.len();
            simulation.restart(3);
            simulation.run_for(5_000);
            simulation.restart(2);
            simulation.run_for(15_000);
            let signer = &simulation.members[3].signer;
            if has_floor {
                assert_eq!(signer.conflicts, 0, "seed {seed}");
                let floor = signer.floor.expect("its peers have spoken");
                assert!(floor > height, "seed {seed}: {floor} above {height}");
                assert!(signer.signed.len() > signed_before, "seed {seed}: it takes part again");
                let member = &simulation.members[3];
                assert_eq!(member.chain.len(), simulation.height(), "seed {seed}: it has fetched all");
            } else {
                without += signer.conflicts;
            }
        }
    }
    assert!(without > 0, "a member without a floor contradicts itself, or this tests nothing");
}

#[test]
fn a_member_that_runs_on_an_older_copy_finds_that_in_the_chain_and_contradicts_nothing() {
    let mut without = 0;
    for seed in 0..6 {
        for compares in [true, false] {
            let mut simulation = Simulation::new(seed, true);
            simulation.run_for(5_000 + seed * 100);
            let member = &simulation.members[3];
            let (known, chain) = (member.signer.signed.keys().copied().collect(), member.chain.clone());
            // Long enough for member 3 to propose: certificates need not show its signature, but its blocks do.
            simulation.run_for(10_000);
            stop_at_a_proposal_that_waits(&mut simulation);
            simulation.crash(3, false);
            let member = &mut simulation.members[3];
            (member.signer.copy, member.signer.compares, member.chain) = (Some(known), compares, chain);
            let signed_before = member.signer.signed.len();
            simulation.restart(3);
            simulation.run_for(5_000);
            simulation.restart(2);
            simulation.run_for(15_000);
            let signer = &simulation.members[3].signer;
            if compares {
                assert_eq!(signer.conflicts, 0, "seed {seed}");
                assert!(signer.signed.len() > signed_before, "seed {seed}: it takes part again");
            } else {
                without += signer.conflicts;
            }
        }
    }
    assert!(
        without > 0,
        "an older copy that does not look at the chain contradicts itself, or this tests nothing"
    );
}

#[test]
fn members_that_are_all_new_have_nothing_to_remember() {
    let mut simulation = Simulation::new(3, true);
    (0..MEMBERS).for_each(|index| simulation.members[index].signer.floor = None);
    simulation.run_until(10_000);
    assert!(simulation.height() >= 3, "{}", simulation.height());
    assert!(simulation.members.iter().all(|member| member.signer.floor == Some(0)));
}

/// Runs for two minutes and asserts about one block every 2 s.
fn assert_pace(simulation: &mut Simulation, what: &str) {
    let height = simulation.height();
    simulation.run_for(120_000);
    let made = simulation.height() - height;
    assert!((58..=61).contains(&made), "{what}: {made} blocks in two minutes");
}

#[test]
fn wall_clocks_that_are_set_do_not_change_the_pace_of_the_chain() {
    let mut simulation = Simulation::new(11, true);
    assert_pace(&mut simulation, "right clocks");
    for ahead_ms in [600_000, 0, -40_000, 0] {
        simulation.members.iter_mut().for_each(|member| member.ahead_ms = ahead_ms);
        assert_pace(&mut simulation, &format!("all clocks {ahead_ms} ms ahead"));
    }
    // A member whose clock is behind rejects the others' blocks; the others have a quorum without it.
    simulation.members[0].ahead_ms = -30_000;
    assert_pace(&mut simulation, "one clock behind");
    simulation.members[0].ahead_ms = 4_000;
    assert_pace(&mut simulation, "one clock ahead, within what is tolerated");
    simulation.members[0].ahead_ms = 0;
    assert_pace(&mut simulation, "right again");
    for member in &simulation.members {
        let stamps = member.chain.windows(2).map(|pair| (pair[0].0.timestamp_ms, pair[1].0.timestamp_ms));
        assert!(stamps.into_iter().all(|(parent, child)| parent < child), "stamps grow");
    }
}

#[test]
fn an_open_gate_without_blocks_is_reported() {
    let mut simulation = Simulation::new(9, true);
    simulation.run_until(5_000);
    // Messages are lost although the failure detector reports every member as reachable.
    simulation.loses_messages = true;
    simulation.run_for(20_000);
    let health = simulation.members[0].driver.health(Moment::at(Duration::from_millis(simulation.now_ms)));
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.reason.contains("no block was decided for"), "{}", health.reason);
}

#[test]
fn random_crashes_and_cuts_never_break_safety_and_the_chain_goes_on_after_them() {
    for seed in 100..112 {
        let mut simulation = Simulation::new(seed, false);
        for _ in 0..12 {
            let pause = simulation.rng.random_range(50..3_000);
            simulation.run_for(pause);
            let index = simulation.rng.random_range(0..MEMBERS);
            match simulation.rng.random_range(0..3) {
                0 if simulation.members[index].up => simulation.crash(index, true),
                1 if !simulation.members[index].up => simulation.restart(index),
                _ => {
                    let other = simulation.rng.random_range(0..MEMBERS);
                    simulation.cut.insert((index, other));
                }
            }
            simulation.assert_safe();
        }
        for index in 0..MEMBERS {
            if !simulation.members[index].up {
                simulation.restart(index);
            }
        }
        simulation.heal();
        let height = simulation.height();
        simulation.ms_until_height(height + 2, 10_000);
        simulation.assert_safe();
    }
}

#[test]
fn a_sender_of_forged_messages_is_not_heard_until_the_next_height_and_nobody_else_is_affected() {
    let mut simulation = Simulation::new(11, true);
    simulation.run_until(3_000);
    let height = simulation.height() as u64 + 1;
    let vote = |voter: u8, round: u32, signer: u8| {
        let vote = BlockVote {
            height: ConsensusHeight(height),
            round: Round::new(round),
            kind: VoteType::Prevote,
            block: NilOrVal::Nil,
            voter: MemberIndex(voter),
        };
        let bytes = Statement::of_vote(&vote).bytes(genesis().chain_id());
        ConsensusWire::Vote(vote, secret(signer).sign(&bytes))
    };
    let knows = |simulation: &Simulation, author: usize, round: u32| {
        let received = simulation.members[0].received.since(height);
        received.iter().any(|found| found.author == author && found.signed.statement.round == round)
    };
    for round in 40..56 {
        simulation.input(0, Input::Message(3, vote(2, round, 3)));
    }
    simulation.input(0, Input::Message(3, vote(3, 60, 3)));
    simulation.input(0, Input::Message(2, vote(2, 60, 2)));
    assert!(!knows(&simulation, 3, 60) && knows(&simulation, 2, 60));
    simulation.ms_until_height(height as usize, 4_000);
    simulation.run_for(1_000);
    simulation.input(0, Input::Message(3, vote(3, 60, 3)));
    assert!(knows(&simulation, 3, 60), "what it says late is heard again");
}
