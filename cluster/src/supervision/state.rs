//! The state machine of a supervisor: decides when each child is started, stopped and restarted.
//!
//! ```text
//!              Started                 failed, decided: restart
//!   starting ──────────► running ───────────────────────────────► restarting ─┐
//!      ▲                    │  asked, or a sibling's cycle            due      │
//!      │                    ▼                                                  │
//!      │                stopping ──► stopped, suspended, restarting            │
//!      └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A *cycle* restarts several children: they stop in reverse order, one after the other, wait until the restart is due,
//! and start in order. A child that fails to start in a cycle counts as another failure: with rest-for-one the next
//! attempt continues at that child; with one-for-all it stops and starts all of them again, as in Erlang/OTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::child::{After, Child, ChildKey, ChildPhase, Mark, Origin};
use super::command::{Command, CommandError};
use super::decision::{DecisionInputs, DecisionRecord, RestartThrottle, decide};
use super::escalation::{EscalationStep, EscalationTable};
use super::failure::{ActorFailureType, Exit, Failure};
use super::intensity::{Budget, RestartIntensity, RestartWindow, SlotWindow};
use super::slot::{SlotTiming, Spared};
use super::spec::{AutoShutdown, ChildPolicy, RestartType, SupervisionStrategy, SupervisorSpec};
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority};

#[derive(Clone, Copy, Debug)]
struct Cycle {
    due: Moment,
    generation: u64,
}

/// Timer of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// The restart of a child is due.
    Child(ChildKey, u64),
    /// The starts of the cycle are due.
    Cycle(u64),
    /// The time that the node stays up with a halted child is over.
    Linger(ChildKey, u64),
}

/// Input of the state machine.
#[derive(Clone, Debug)]
pub enum Input {
    /// The child started.
    Started(ChildKey),
    /// The child ended or failed to start.
    Ended(ChildKey, Exit),
    /// This timer fired.
    Wake(Wakeup),
    /// A command about the child arrived.
    Command(ChildKey, Command),
}

/// Effect that the actor must apply.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Start the child.
    Start(ChildKey),
    /// Stop the child, within its deadline.
    Stop(ChildKey),
    /// Cancel the start of a supervisor that is no longer wanted; it stops what it has started.
    CancelStart(ChildKey),
    /// Set this timer.
    Wake(Wakeup, Duration),
    /// Report the decision about the child and its inputs.
    Tell(ChildKey, Box<DecisionRecord>),
    /// Halt consensus operations on behalf of this child.
    Halt(ChildKey, Failure),
    /// End the halt of consensus on behalf of this child.
    Release(ChildKey),
    /// Forget the child.
    Forget(ChildKey),
    /// Stop every child, then end as a shutdown.
    GiveUp(Failure),
}

/// Inputs from outside one supervisor, shared by all supervisors.
pub trait Environment {
    /// Start times of the slots, if known.
    fn slots(&self) -> Option<SlotTiming>;
    /// Block time, and the part of it in which the members propose and vote.
    fn block_time(&self) -> (Duration, Duration);
    /// Random number from 0 to 1.
    fn random(&mut self) -> f64;
    /// Budget of restarts of children of this priority in the whole tree.
    fn bound(&mut self, now: Moment, priority: ActorPriority) -> Budget;
    /// Charges one restart to that budget; `false`, without a charge, if other supervisors have used it up meanwhile.
    fn spend(&mut self, now: Moment, priority: ActorPriority) -> bool;
    /// Records a failure; returns the throttling by the patterns it belongs to.
    fn observe(&mut self, now: Moment, child: &ChildPolicy, failure: &Failure) -> RestartThrottle;
}

/// Budget usage of the children of one priority.
#[derive(Debug)]
struct Ledger {
    window: RestartWindow,
    missed: SlotWindow,
    /// Moment up to which slots are counted in `missed`.
    counted_until: Moment,
}

/// State of a supervisor.
#[derive(Debug)]
pub struct SupervisorState {
    name: ActorName,
    group: SupervisionStrategy,
    intensity: RestartIntensity,
    auto_shutdown: AutoShutdown,
    escalation: EscalationTable,
    halt_for: Duration,
    is_dynamic: bool,
    children: BTreeMap<ChildKey, Child>,
    names: HashMap<ActorName, ChildKey>,
    last_key: u64,
    /// One ledger per priority, so that a crash loop does not use up the budget of more important children.
    ledgers: [Ledger; ActorPriority::ALL.len()],
    siblings_restarted: Option<Moment>,
    cycle: Option<Cycle>,
    cycles: u64,
    gave_up: Option<Failure>,
}

impl SupervisorState {
    /// The state before the first start, without the children of `spec`.
    pub fn new(spec: &SupervisorSpec) -> Self {
        let ledger = |_| Ledger {
            window: RestartWindow::new(spec.intensity),
            missed: SlotWindow::new(spec.slot_budget),
            counted_until: Moment::ORIGIN,
        };
        Self {
            name: spec.name.clone(),
            group: spec.group,
            intensity: spec.intensity,
            auto_shutdown: spec.auto_shutdown,
            escalation: spec.escalation,
            halt_for: spec.halt_for,
            is_dynamic: spec.is_dynamic,
            children: BTreeMap::new(),
            names: HashMap::new(),
            last_key: 0,
            ledgers: ActorPriority::ALL.map(ledger),
            siblings_restarted: None,
            cycle: None,
            cycles: 0,
            gave_up: None,
        }
    }

    /// All children, in start order.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = (ChildKey, &Child)> + ExactSizeIterator {
        self.children.iter().map(|(key, child)| (*key, child))
    }

    /// The child with this key.
    pub fn child(&self, key: ChildKey) -> Option<&Child> {
        self.children.get(&key)
    }

    /// The key of the child with this name.
    pub fn key(&self, name: &ActorName) -> Result<ChildKey, CommandError> {
        let unknown = || CommandError::Unknown { supervisor: self.name.clone(), child: name.clone() };
        self.names.get(name).copied().ok_or_else(unknown)
    }

    /// Why the supervisor gave up, if it did.
    pub fn gave_up(&self) -> Option<&Failure> {
        self.gave_up.as_ref()
    }

    /// Which children are restarted when one fails.
    pub fn group(&self) -> SupervisionStrategy {
        self.group
    }

    /// The configured restart budget.
    pub fn intensity(&self) -> RestartIntensity {
        self.intensity
    }

    /// What is left of the restart budget, for the priority that has the least left.
    pub fn budget(&mut self, now: Moment) -> Budget {
        let budgets = self.ledgers.iter_mut().map(|ledger| ledger.window.budget(now));
        budgets.min_by_key(Budget::left).unwrap_or(Budget::UNLIMITED)
    }

    /// Whether all children stop at once, and ended ones are forgotten.
    pub fn is_dynamic(&self) -> bool {
        self.is_dynamic
    }

    /// Adds a last child, to be started by a [`Command::Start`]. If that start fails, the child is forgotten.
    pub fn add(&mut self, now: Moment, policy: Arc<ChildPolicy>) -> Result<ChildKey, CommandError> {
        if let Some(known) = self.names.get(&policy.name).and_then(|key| self.children.get(key)) {
            let (supervisor, child) = (self.name.clone(), policy.name.clone());
            return Err(CommandError::Known { supervisor, child, phase: known.phase.as_str() });
        }
        self.last_key += 1;
        let key = ChildKey::new(self.last_key);
        self.names.insert(policy.name.clone(), key);
        self.children.insert(key, Child::new(now, policy));
        Ok(key)
    }

    /// Marks every child as ended, because the supervisor ends.
    pub fn ended(&mut self) {
        self.children.values_mut().for_each(|child| {
            if !matches!(child.phase, ChildPhase::Halted | ChildPhase::Suspended) {
                child.phase = ChildPhase::Stopped;
            }
        });
    }

    /// The effects of `input`. Only an [`Input::Command`] can be refused; outdated inputs are ignored.
    pub fn handle(
        &mut self,
        now: Moment,
        around: &mut dyn Environment,
        input: Input,
    ) -> Result<Vec<Effect>, CommandError> {
        let mut turn = Turn { now, around, effects: Vec::new() };
        match input {
            Input::Started(key) => self.started(&mut turn, key),
            Input::Ended(key, exit) => self.child_ended(&mut turn, key, exit),
            Input::Wake(wakeup) => self.woken(&mut turn, wakeup),
            Input::Command(key, command) => self.command(&mut turn, key, command)?,
        }
        self.advance(&mut turn);
        let effects = turn.effects;
        debug_assert!(self.validate(), "{self:?}");
        Ok(effects)
    }

    fn started(&mut self, turn: &mut Turn<'_>, key: ChildKey) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.phase = ChildPhase::Running;
        child.is_new = false;
        child.is_halted = false;
        if child.origin == Origin::Restart
            && let Some(slots) = turn.around.slots()
        {
            // Children that were down together missed the same slots, which are counted once.
            let ledger = &mut self.ledgers[child.policy.priority as usize];
            let from = child.since.max(ledger.counted_until);
            let spared = child.spared.count(&slots, from, turn.now);
            ledger.missed.spend(turn.now, slots.missed(from, turn.now).saturating_sub(spared));
            ledger.counted_until = turn.now;
        }
        child.since = turn.now;
        child.spared = Spared::default();
        // Someone asked to stop it while it was starting.
        if child.after.is_some() || child.mark == Some(Mark::Stop) {
            child.after.get_or_insert(After::Cycle);
            child.phase = ChildPhase::Stopping;
            turn.effects.push(Effect::Stop(key));
        }
    }

    fn child_ended(&mut self, turn: &mut Turn<'_>, key: ChildKey, exit: Exit) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let after = child.after.take();
        child.last_exit = Some(match &after {
            Some(After::Fail(failure) | After::Escalate(failure)) => failure.clone(),
            _ => exit.failure.clone(),
        });
        match (child.phase, after) {
            (ChildPhase::Stopping | ChildPhase::Starting, Some(after)) => self.stopped(turn, key, after),
            (ChildPhase::Starting, None) if child.origin == Origin::Asked => {
                child.last_failure = Some(exit.failure);
                child.phase = ChildPhase::Stopped;
                if child.is_halted {
                    self.halt(turn, key);
                } else if child.is_new || child.policy.restart == RestartType::Temporary {
                    self.forget(turn, key);
                }
            }
            // Its cycle was about to stop it, so its own exit is not charged, unless the failure forbids a restart.
            (ChildPhase::Running, None)
                if child.mark == Some(Mark::Stop)
                    && self
                        .escalation
                        .ladder(child.policy.priority, exit.failure.class())
                        .contains(&EscalationStep::Restart) =>
            {
                child.last_failure = Some(exit.failure);
                self.stopped(turn, key, After::Cycle);
            }
            (ChildPhase::Starting | ChildPhase::Running, None) => self.failed(turn, key, exit, false),
            _ => {}
        }
    }

    fn stopped(&mut self, turn: &mut Turn<'_>, key: ChildKey, after: After) {
        let Some(child) = self.children.get_mut(&key) else { return };
        let is_temporary = child.policy.restart == RestartType::Temporary;
        child.phase = ChildPhase::Stopped;
        match after {
            After::Rest | After::Cycle if is_temporary => self.forget(turn, key),
            After::Rest => child.mark = None,
            After::Cycle => {
                child.since = turn.now;
                child.phase = ChildPhase::Restarting;
            }
            After::Suspend => {
                child.mark = None;
                child.phase = ChildPhase::Suspended;
            }
            After::Start => {
                child.since = turn.now;
                child.spared = Spared::default();
                self.start(turn, key, Origin::Restart);
            }
            After::Fail(failure) => {
                child.phase = ChildPhase::Running;
                self.failed(turn, key, Exit::abnormal(failure), false);
            }
            After::Escalate(failure) => {
                child.phase = ChildPhase::Running;
                self.failed(turn, key, Exit::abnormal(failure), true);
            }
        }
    }

    fn start(&mut self, turn: &mut Turn<'_>, key: ChildKey, origin: Origin) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.phase = ChildPhase::Starting;
        child.generation += 1;
        child.origin = origin;
        child.mark = None;
        turn.effects.push(Effect::Start(key));
    }

    fn forget(&mut self, turn: &mut Turn<'_>, key: ChildKey) {
        if let Some(child) = self.children.remove(&key) {
            self.names.remove(&child.policy.name);
            turn.effects.push(Effect::Forget(key));
        }
    }

    fn inputs(
        &mut self,
        turn: &mut Turn<'_>,
        key: ChildKey,
        exit: &Exit,
        escalate: bool,
    ) -> Option<DecisionInputs> {
        let now = turn.now;
        let child = self.children.get_mut(&key)?;
        let policy = &child.policy;
        if child.phase == ChildPhase::Running {
            let ran_well = now.since(child.since) >= self.intensity.within;
            child.attempt = if ran_well { 1 } else { child.attempt.saturating_add(1) };
            child.since = now;
            child.spared = Spared::default();
        } else {
            child.attempt = child.attempt.saturating_add(1);
        }
        let (block_time, consensus_window) = turn.around.block_time();
        let within = self.intensity.within;
        let recently = |at: Moment| now.since(at) <= within;
        let ledger = &mut self.ledgers[policy.priority as usize];
        Some(DecisionInputs {
            now,
            away_since: child.since,
            comes_back: comes_back(policy.restart, exit),
            class: exit.failure.class(),
            ladder: self.escalation.ladder(policy.priority, exit.failure.class()),
            strategy: if escalate { super::RestartStrategy::Never } else { policy.strategy },
            at_boundary: policy.at_boundary,
            attempt: child.attempt,
            random: turn.around.random(),
            slots: turn.around.slots(),
            block_time,
            consensus_window,
            restarts: ledger.window.budget(now),
            slots_missed: ledger.missed.budget(now, block_time),
            slots_spared: turn.around.slots().map_or(0, |slots| child.spared.count(&slots, child.since, now)),
            bound: turn.around.bound(now, policy.priority),
            siblings_restarted: self.siblings_restarted.is_some_and(recently),
            // A supervisor that gives up is no new failure: its child's failure was already observed.
            tightening: if policy.is_supervisor && !exit.is_abnormal {
                RestartThrottle::NONE
            } else {
                turn.around.observe(now, policy, &exit.failure)
            },
        })
    }

    fn failed(&mut self, turn: &mut Turn<'_>, key: ChildKey, exit: Exit, escalate: bool) {
        if self.gave_up.is_some() {
            if let Some(child) = self.children.get_mut(&key) {
                child.phase = ChildPhase::Stopped;
            }
            return;
        }
        // An exit after which no restart is wanted is no failure, so there is nothing to decide.
        let is_end = !exit.is_abnormal && matches!(exit.failure.kind(), ActorFailureType::Ended { .. });
        if let Some(child) = self.children.get_mut(&key)
            && is_end
            && !comes_back(child.policy.restart, &exit)
        {
            child.last_failure = Some(exit.failure);
            child.phase = ChildPhase::Stopped;
            self.stays_down(turn, key, false);
            return;
        }
        let Some(mut inputs) = self.inputs(turn, key, &exit, escalate) else { return };
        let mut decision = decide(&inputs);
        let Some(child) = self.children.get_mut(&key) else { return };
        let priority = child.policy.priority;
        if decision.step.is_restart() && !turn.around.spend(turn.now, priority) {
            inputs.bound = turn.around.bound(turn.now, priority);
            decision = decide(&inputs);
        }
        let failure = exit.failure;
        child.last_failure = Some(failure.clone());
        child.phase = ChildPhase::Stopped;
        // A cycle it waited for continues without it, unless this decision adds it again.
        child.mark = None;
        if decision.step.is_restart() {
            child.restarts += 1;
            self.ledgers[priority as usize].window.spend(turn.now);
        }
        let record = DecisionRecord { child: child.policy.name.clone(), failure, inputs, decision };
        let told = turn.effects.len();
        self.follow(turn, key, &record);
        turn.effects.insert(told, Effect::Tell(key, Box::new(record)));
    }

    fn follow(&mut self, turn: &mut Turn<'_>, key: ChildKey, record: &DecisionRecord) {
        let DecisionRecord { decision, failure, inputs, .. } = record;
        if decision.halts {
            turn.effects.push(Effect::Halt(key, failure.clone()));
        }
        let pause = inputs.pause(decision);
        match decision.step {
            EscalationStep::Restart
                if self.group == SupervisionStrategy::OneForOne && self.cycle.is_none() =>
            {
                self.spare(turn, key, pause);
                self.restart_alone(turn, key, decision.due);
            }
            EscalationStep::Restart => {
                let is_affected = |other: &ChildKey| match self.group {
                    SupervisionStrategy::OneForOne => *other == key,
                    SupervisionStrategy::RestForOne => *other >= key,
                    SupervisionStrategy::OneForAll => true,
                };
                let affected: Vec<_> = self.children.keys().copied().filter(is_affected).collect();
                for &other in &affected {
                    self.spare(turn, other, pause);
                }
                self.begin_cycle(turn, key, affected, decision.due);
            }
            EscalationStep::RestartSiblings => {
                self.siblings_restarted = Some(turn.now);
                let all: Vec<_> = self.children.keys().copied().collect();
                for &other in &all {
                    self.spare(turn, other, pause);
                }
                self.begin_cycle(turn, key, all, decision.due);
            }
            EscalationStep::StopNode if decision.halts && !self.halt_for.is_zero() => {
                self.halt(turn, key);
            }
            EscalationStep::RaiseToParent | EscalationStep::StopNode => {
                let (child, message) = (&record.child, failure.message());
                let told = match decision.obstacle {
                    Some(obstacle) => format!("{obstacle}; the last failure was {child}'s: {message}"),
                    None => format!("{child}: {message}"),
                };
                self.give_up(turn, failure.in_words(told));
            }
            EscalationStep::StayDown | EscalationStep::HaltConsensus => {
                self.stays_down(turn, key, inputs.comes_back);
            }
        }
    }

    /// Marks the slots that begin in `pause` as not charged to the child.
    fn spare(&mut self, turn: &Turn<'_>, key: ChildKey, pause: Option<(Moment, Moment)>) {
        if let (Some(pause), Some(slots)) = (pause, turn.around.slots())
            && let Some(child) = self.children.get_mut(&key)
        {
            child.spared = child.spared.and(&slots, child.since, pause);
        }
    }

    /// Keeps the child down, and the supervisor up for the configured time.
    fn halt(&mut self, turn: &mut Turn<'_>, key: ChildKey) {
        if let Some(child) = self.children.get_mut(&key) {
            child.phase = ChildPhase::Halted;
            child.is_halted = true;
            child.generation += 1;
            turn.effects.push(Effect::Wake(Wakeup::Linger(key, child.generation), self.halt_for));
        }
    }

    fn restart_alone(&mut self, turn: &mut Turn<'_>, key: ChildKey, due: Moment) {
        if due <= turn.now {
            self.start(turn, key, Origin::Restart);
        } else if let Some(child) = self.children.get_mut(&key) {
            child.phase = ChildPhase::Restarting;
            child.generation += 1;
            let wakeup = Wakeup::Child(key, child.generation);
            turn.effects.push(Effect::Wake(wakeup, due.since(turn.now)));
        }
    }

    fn stays_down(&mut self, turn: &mut Turn<'_>, key: ChildKey, was_wanted: bool) {
        let Some(child) = self.children.get(&key) else { return };
        let policy = &child.policy;
        let ends = policy.significant && !was_wanted;
        let (name, is_temporary) = (policy.name.clone(), policy.restart == RestartType::Temporary);
        if is_temporary || (self.is_dynamic && !was_wanted) {
            self.forget(turn, key);
        }
        let is_left = |child: &Child| child.policy.significant && child.phase != ChildPhase::Stopped;
        let ends = ends
            && match self.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self.children.values().any(is_left),
            };
        if ends {
            let reason = format!("its significant child {name} ended");
            self.give_up(turn, Failure::new(ActorFailureType::Ended { reason }));
        }
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, failure: Failure) {
        self.cycle = None;
        self.gave_up = Some(failure.clone());
        turn.effects.push(Effect::GiveUp(failure));
    }

    fn begin_cycle(&mut self, turn: &mut Turn<'_>, failed: ChildKey, affected: Vec<ChildKey>, due: Moment) {
        for key in affected {
            let Some(child) = self.children.get_mut(&key) else { continue };
            match child.phase {
                _ if key == failed => {
                    child.phase = ChildPhase::Restarting;
                    child.mark = Some(Mark::Start);
                }
                ChildPhase::Running | ChildPhase::Starting => child.mark = Some(Mark::Stop),
                ChildPhase::Restarting | ChildPhase::Stopped => {
                    // Its own delay is cancelled: the cycle starts it.
                    child.generation += 1;
                    child.mark = Some(Mark::Start);
                    child.phase = ChildPhase::Restarting;
                }
                ChildPhase::Stopping | ChildPhase::Suspended | ChildPhase::Halted => {}
            }
        }
        let due = self.cycle.map_or(due, |cycle| cycle.due.max(due));
        self.cycles += 1;
        self.cycle = Some(Cycle { due, generation: self.cycles });
        if due > turn.now {
            turn.effects.push(Effect::Wake(Wakeup::Cycle(self.cycles), due.since(turn.now)));
        }
    }

    /// Takes the next step of the cycle, if there is one and nothing has to be waited for.
    fn advance(&mut self, turn: &mut Turn<'_>) {
        let Some(cycle) = self.cycle else { return };
        let marked = |mark: Mark| move |(_, child): &(&ChildKey, &mut Child)| child.mark == Some(mark);
        for (key, child) in self.children.iter_mut().rev().filter(marked(Mark::Stop)) {
            match child.phase {
                ChildPhase::Running => {
                    child.phase = ChildPhase::Stopping;
                    child.after = Some(After::Cycle);
                    turn.effects.push(Effect::Stop(*key));
                    return;
                }
                ChildPhase::Stopping | ChildPhase::Starting => return,
                ChildPhase::Restarting => child.mark = Some(Mark::Start),
                ChildPhase::Stopped | ChildPhase::Suspended | ChildPhase::Halted => child.mark = None,
            }
        }
        if turn.now < cycle.due {
            return;
        }
        let Some(key) = self.children.iter_mut().find(marked(Mark::Start)).map(|(key, _)| *key) else {
            self.cycle = None;
            return;
        };
        // Children start in order: wait for an earlier one whose start is pending, including a requested start.
        let comes = |child: &Child| match child.phase {
            ChildPhase::Starting => true,
            ChildPhase::Stopping => matches!(child.after, Some(After::Start)),
            _ => false,
        };
        if !self.children.range(..key).any(|(_, child)| comes(child)) {
            self.start(turn, key, Origin::Restart);
        }
    }

    fn woken(&mut self, turn: &mut Turn<'_>, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Child(key, generation) => {
                let waits = |child: &Child| {
                    (child.phase, child.generation, child.mark) == (ChildPhase::Restarting, generation, None)
                };
                if self.children.get(&key).is_some_and(waits) {
                    self.start(turn, key, Origin::Restart);
                }
            }
            Wakeup::Cycle(generation) => {
                // The cycle is due even if the timer fired early by less than the clock's resolution.
                if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.generation == generation) {
                    cycle.due = cycle.due.min(turn.now);
                }
            }
            Wakeup::Linger(key, generation) => {
                let halted =
                    |child: &&Child| (child.phase, child.generation) == (ChildPhase::Halted, generation);
                if let Some(child) = self.children.get(&key).filter(halted) {
                    let why =
                        format!("consensus was halted for {:?} over {}", self.halt_for, child.policy.name);
                    let told = |failure: &Failure| failure.in_words(format!("{why}: {}", failure.message()));
                    let failure = child.last_failure.as_ref().map(told);
                    let ended = || Failure::new(ActorFailureType::Ended { reason: why.clone() });
                    self.give_up(turn, failure.unwrap_or_else(ended));
                }
            }
        }
    }

    fn command(&mut self, turn: &mut Turn<'_>, key: ChildKey, command: Command) -> Result<(), CommandError> {
        use ChildPhase::{Halted, Restarting, Running, Starting, Stopped, Stopping, Suspended};
        let Some(child) = self.children.get_mut(&key) else { return Ok(()) };
        let refused = |expected| {
            let (child, phase) = (child.policy.name.clone(), child.phase.as_str());
            Err(CommandError::Phase { child, phase, expected })
        };
        match (command, child.phase) {
            (Command::Start | Command::Restart, Stopped | Halted) | (Command::Resume, Suspended) => {
                self.start(turn, key, Origin::Asked);
            }
            // This counts as an automatic restart, so that the child does not stay down if it fails.
            (Command::Restart, Restarting) => self.start(turn, key, Origin::Restart),
            (Command::Start, _) => return refused("stopped or halted"),
            (Command::Resume, _) => return refused("suspended"),
            (Command::Stop, Stopped) | (Command::Suspend, Suspended) => {}
            (Command::Stop, Restarting) => self.stopped(turn, key, After::Rest),
            (Command::Suspend, Restarting | Stopped) => self.stopped(turn, key, After::Suspend),
            (Command::Stop, Running | Starting) => Self::ask_to_stop(turn, key, child, After::Rest),
            (Command::Suspend, Running | Starting) => Self::ask_to_stop(turn, key, child, After::Suspend),
            (Command::Restart, Running) => Self::ask_to_stop(turn, key, child, After::Start),
            (Command::Fail(failure), Running) => Self::ask_to_stop(turn, key, child, After::Fail(failure)),
            (Command::Escalate(failure), Running) => {
                Self::ask_to_stop(turn, key, child, After::Escalate(failure));
            }
            (Command::Escalate(failure), Restarting | Stopped) => {
                self.failed(turn, key, Exit::abnormal(failure), true);
            }
            (Command::Fail(_), _) => return refused("running"),
            (Command::Escalate(_), _) => return refused("running, restarting or stopped"),
            (Command::Delete, Stopped | Suspended | Halted) => {
                turn.effects.push(Effect::Release(key));
                self.forget(turn, key);
            }
            (Command::Delete, _) => return refused("stopped, suspended or halted"),
            // A halted child can only be started or deleted; a stop would leave consensus halted forever.
            (Command::Stop, _) => return refused("running, starting, restarting or stopped"),
            (Command::Suspend, Stopping | Halted) => return refused("neither stopping nor halted"),
            (Command::Restart, Starting | Stopping | Suspended) => {
                return refused("running, restarting, stopped or halted");
            }
        }
        Ok(())
    }

    /// Stops the child. One that is starting stops when its start is over; a supervisor cancels its start.
    fn ask_to_stop(turn: &mut Turn<'_>, key: ChildKey, child: &mut Child, after: After) {
        child.after = Some(after);
        child.mark = None;
        if child.phase == ChildPhase::Running {
            child.phase = ChildPhase::Stopping;
            turn.effects.push(Effect::Stop(key));
        } else if child.policy.is_supervisor {
            turn.effects.push(Effect::CancelStart(key));
        }
    }

    /// Whether the state is consistent; for debug builds and tests.
    fn validate(&self) -> bool {
        // For thousands of children the check would cost more than it is worth.
        let is_small = self.children.len() <= 64;
        !is_small
            || self.children.iter().all(|(key, child)| {
                let named = self.names.get(&child.policy.name) == Some(key);
                let reason = child.phase != ChildPhase::Stopping || child.after.is_some();
                let marked = child.mark.is_none() || self.cycle.is_some() || self.gave_up.is_some();
                named && reason && marked
            })
    }
}

/// Whether the restart type asks for a restart after such an exit.
fn comes_back(restart: RestartType, exit: &Exit) -> bool {
    match restart {
        RestartType::Permanent => true,
        RestartType::Transient => exit.is_abnormal,
        RestartType::Temporary => false,
    }
}

/// One call of [`SupervisorState::handle`].
struct Turn<'a> {
    now: Moment,
    around: &'a mut dyn Environment,
    effects: Vec<Effect>,
}
