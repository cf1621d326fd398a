//! What a shutdown does next.
//!
//! It runs once, and the first reason wins. Its phases run one after the other; a phase is over when its tasks
//! are, or at its deadline. Whatever happens, the shutdown is forced when its one deadline passes: that deadline
//! is shorter than what an orchestrator waits before it kills.
//!
//! A member whose leaving would take the federation below what it needs is asked to stay: the request is refused,
//! with the numbers, unless it is forced. A signal that is repeated within [`REFUSAL_HOLDS`] is obeyed, for whoever
//! sends it has no other way to insist; one that comes while the shutdown runs forces it. Neither counts as a repetition
//! before [`INSISTS_AFTER`]: some supervisors signal a process and its group, or twice to be sure, and mean it once. A
//! call says `force` when it means it, and is obeyed at once: before the shutdown it overrules the refusal, while it runs
//! it ends the patience.
//!
//! ```text
//!   SIGTERM ── refused ──┬─ < 1 s ── the same refusal
//!                        ├─ 1 s to 60 s ── begun ──┬─ < 1 s ── runs
//!                        └─ > 60 s ── refused      └─ ≥ 1 s ── forced
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use super::phase::{PhaseError, ShutdownPhase, ShutdownState, in_order};
use crate::clock::Moment;

/// How long a refused signal is remembered: one that comes later is a first one again.
pub const REFUSAL_HOLDS: Duration = Duration::from_mins(1);
/// How long after a signal another one insists. Sooner it is taken for the same.
pub const INSISTS_AFTER: Duration = Duration::from_secs(1);
/// The longest a forced end may take before the shutdown calls itself complete.
const FORCE_GRACE: Duration = Duration::from_millis(500);
/// The generation of the deadline for all.
const GLOBAL: u64 = 0;

/// Where the federation stands when a member is asked to leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumImpact {
    /// Healthy members, this one included if it is.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
    /// Whether this member is one of the healthy ones.
    pub is_counted: bool,
    /// Other healthy members that this one may not count on to stay: they want to leave as well, or have not said that
    /// they do not.
    pub unsure: usize,
    /// Other healthy members that were told to leave, and do so once they may.
    pub told: usize,
}

impl QuorumImpact {
    /// The refusal, if the federation can work now and could not without this member. Where so many others were told to
    /// leave that it could not work with this member either, there is none.
    pub fn refusal(self) -> Option<QuorumRefusal> {
        if !self.is_counted {
            return None;
        }
        let Self { healthy, required, unsure, told, .. } = self;
        let without = healthy.saturating_sub(1 + unsure);
        let with = healthy.saturating_sub(told);
        let takes_below = with >= required && without < required;
        takes_below.then_some(QuorumRefusal { healthy, without, required, unsure })
    }
}

/// Why a member does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "refused: {healthy} members are healthy, {required} are required, and without this one{} {without} would be \
     left",
    if *.unsure > 0 { format!(" and {unsure} that want to leave as well, or have not said that they stay,") } else { String::new() }
)]
pub struct QuorumRefusal {
    /// Healthy members.
    pub healthy: usize,
    /// Healthy members without this one.
    pub without: usize,
    /// Healthy members required.
    pub required: usize,
    /// Others that may leave as well.
    pub unsure: usize,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// Somebody who can say `force`.
    Call,
    /// A signal, which can only be repeated.
    Signal,
}

/// A request to shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub requester: Requester,
    /// Why, as a sentence's part: `SIGTERM`, `the operator asked for it`.
    pub reason: String,
    /// Whether it is obeyed whatever becomes of the federation; while the shutdown runs, whether it ends at once.
    pub force: bool,
    /// Where the federation stands.
    pub impact: QuorumImpact,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShutdownAnswer {
    /// The shutdown begins, for the reason given.
    Begun,
    /// It does not.
    Refused(QuorumRefusal),
    /// It runs already, for this reason.
    Runs(String),
    /// It ran, and from here on is forced.
    Forced(String),
}

/// What the state learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody wants the node to end.
    Request(Request),
    /// A task is over: with a note, or with what went wrong.
    TaskEnded {
        /// Its phase.
        phase: &'static str,
        /// Which.
        task: String,
        /// How.
        outcome: Result<String, String>,
    },
    /// A deadline passed.
    Deadline(u64),
    /// The forced end is over.
    ForcedEnd,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The state is this now.
    Become(ShutdownState),
    /// The request was refused.
    Refuse(QuorumRefusal),
    /// Start the tasks of this phase.
    Start {
        /// Which phase.
        phase: &'static str,
        /// Which tasks, at least one.
        tasks: Vec<String>,
    },
    /// Say when this much time has passed.
    SetDeadline(Duration, u64),
    /// Drop what is left of the phase's tasks.
    Abandon,
    /// A task is over.
    Tell {
        /// Its phase.
        phase: &'static str,
        /// Which.
        task: String,
        /// How.
        outcome: Result<String, String>,
    },
    /// End everything at once.
    Force,
    /// All is over.
    Finish(ShutdownOutcome),
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// In order.
    Graceful,
    /// By force.
    Forced,
}

/// Where a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// Its phase has not begun.
    Waiting,
    /// It runs.
    Running,
    /// It is done, with a note.
    Done(String),
    /// It failed, was not done in time, or was dropped.
    Failed(String),
}

#[derive(Clone, Debug)]
struct Row {
    phase: ShutdownPhase,
    tasks: BTreeMap<String, TaskState>,
}

/// What a shutdown looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub state: ShutdownState,
    /// Why it began; empty if it has not.
    pub reason: String,
    /// Whether it is, or was, forced.
    pub forced: bool,
    /// Since when it runs.
    pub running_for: Option<Duration>,
    /// How long is left until it is forced, while it runs.
    pub left: Option<Duration>,
    /// The last refusal, if there was one and it did not begin since.
    pub refusal: Option<QuorumRefusal>,
    /// Its phases in order, with the tasks of each by name.
    pub phases: Vec<(ShutdownPhase, BTreeMap<String, TaskState>)>,
}

/// The state of one node's shutdown.
#[derive(Clone, Debug)]
pub struct State {
    now: ShutdownState,
    deadline: Duration,
    rows: Vec<Row>,
    current: Option<usize>,
    generation: u64,
    reason: String,
    forced: bool,
    begun: Option<Moment>,
    /// The first signal of this shutdown.
    signalled: Option<Moment>,
    refused: Option<(QuorumRefusal, Moment, Requester)>,
}

impl State {
    /// A shutdown nobody has asked for, with `deadline` for all of it.
    pub fn new(phases: Vec<ShutdownPhase>, deadline: Duration) -> Result<Self, PhaseError> {
        let row = |phase| Row { phase, tasks: BTreeMap::new() };
        Ok(Self {
            now: ShutdownState::Running,
            deadline,
            rows: in_order(phases)?.into_iter().map(row).collect(),
            current: None,
            generation: GLOBAL,
            reason: String::new(),
            forced: false,
            begun: None,
            signalled: None,
            refused: None,
        })
    }

    /// Adds a task to a phase that has not begun, also while the shutdown runs; false if it has.
    pub fn add(&mut self, phase: &str, task: &str) -> Result<bool, PhaseError> {
        let error = || PhaseError::Task { task: task.to_owned(), phase: phase.to_owned() };
        let at = self.rows.iter().position(|row| row.phase.name == phase).ok_or_else(error)?;
        let has_begun = self.current.is_some_and(|current| at <= current) || self.now.is_past();
        if has_begun {
            return Ok(false);
        }
        match self.rows[at].tasks.insert(task.to_owned(), TaskState::Waiting) {
            None => Ok(true),
            Some(_) => Err(error()),
        }
    }

    /// What follows from `input`, and the answer if it was a request.
    pub fn handle(&mut self, now: Moment, input: Input) -> (Option<ShutdownAnswer>, Vec<Effect>) {
        let mut effects = Vec::new();
        let answer = match input {
            Input::Request(request) => Some(self.request(now, request, &mut effects)),
            Input::TaskEnded { phase, task, outcome } => {
                self.task_ended(phase, &task, outcome, &mut effects);
                None
            }
            Input::Deadline(generation) => {
                self.deadline_passed(generation, &mut effects);
                None
            }
            Input::ForcedEnd => {
                self.finish(&mut effects);
                None
            }
        };
        debug_assert!(self.validate(), "{self:?}");
        (answer, effects)
    }

    fn request(&mut self, now: Moment, request: Request, effects: &mut Vec<Effect>) -> ShutdownAnswer {
        let is_signal = request.requester == Requester::Signal;
        if self.now != ShutdownState::Running {
            let first = is_signal.then(|| *self.signalled.get_or_insert(now));
            let insists = first.is_some_and(|first| now.since(first) >= INSISTS_AFTER);
            if (insists || request.force) && !self.now.is_past() {
                self.force(effects);
                return ShutdownAnswer::Forced(self.reason.clone());
            }
            return ShutdownAnswer::Runs(self.reason.clone());
        }
        let signal_before = self.refused.filter(|(_, at, requester)| {
            is_signal && *requester == Requester::Signal && now.since(*at) <= REFUSAL_HOLDS
        });
        let insists = signal_before.is_some_and(|(_, at, _)| now.since(at) >= INSISTS_AFTER);
        if let Some(refusal) = request.impact.refusal().filter(|_| !request.force && !insists) {
            // What is taken for the same signal does not begin the wait anew.
            let since = signal_before.map_or(now, |(_, at, _)| at);
            self.refused = Some((refusal, since, request.requester));
            effects.push(Effect::Refuse(refusal));
            return ShutdownAnswer::Refused(refusal);
        }
        self.refused = None;
        self.signalled = is_signal.then_some(now);
        self.reason = request.reason;
        self.begun = Some(now);
        self.become_(ShutdownState::Initiated, effects);
        effects.push(Effect::SetDeadline(self.deadline, GLOBAL));
        self.next_phase(effects);
        ShutdownAnswer::Begun
    }

    fn become_(&mut self, next: ShutdownState, effects: &mut Vec<Effect>) {
        if self.now != next {
            assert!(self.now.may_become(next), "{} does not become {next}", self.now);
            self.now = next;
            effects.push(Effect::Become(next));
        }
    }

    fn next_phase(&mut self, effects: &mut Vec<Effect>) {
        loop {
            let next = self.current.map_or(0, |current| current + 1);
            self.current = Some(next);
            let Some(row) = self.rows.get_mut(next) else { return self.finish(effects) };
            let (phase, state, deadline) = (row.phase.name, row.phase.state, row.phase.deadline);
            row.tasks.values_mut().for_each(|task| *task = TaskState::Running);
            let tasks: Vec<_> = row.tasks.keys().cloned().collect();
            self.become_(state, effects);
            if !tasks.is_empty() {
                self.generation += 1;
                effects.push(Effect::SetDeadline(deadline, self.generation));
                effects.push(Effect::Start { phase, tasks });
                return;
            }
        }
    }

    fn task_ended(
        &mut self,
        phase: &'static str,
        task: &str,
        outcome: Result<String, String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(row) = self.current.and_then(|current| self.rows.get_mut(current)) else { return };
        let runs = row.phase.name == phase && row.tasks.get(task) == Some(&TaskState::Running);
        if !runs || self.now.is_past() {
            return; // It was given up before.
        }
        let state = match &outcome {
            Ok(note) => TaskState::Done(note.clone()),
            Err(error) => TaskState::Failed(error.clone()),
        };
        row.tasks.insert(task.to_owned(), state);
        effects.push(Effect::Tell { phase, task: task.to_owned(), outcome });
        if !row.tasks.values().any(|task| *task == TaskState::Running) {
            self.phase_ended(effects);
        }
    }

    fn phase_ended(&mut self, effects: &mut Vec<Effect>) {
        let Some(row) = self.current.and_then(|current| self.rows.get(current)) else { return };
        let failed = row.tasks.values().any(|task| matches!(task, TaskState::Failed(_)));
        if failed && !row.phase.recovers { self.force(effects) } else { self.next_phase(effects) }
    }

    fn deadline_passed(&mut self, generation: u64, effects: &mut Vec<Effect>) {
        match self.now {
            // Nothing more can be done about what does not even end by force.
            ShutdownState::ForcedShutdown if generation == self.generation => self.finish(effects),
            ShutdownState::Running | ShutdownState::ForcedShutdown | ShutdownState::Complete => {}
            _ if generation == GLOBAL => {
                let deadline = self.deadline;
                self.give_up(&format!("the shutdown is over after {deadline:?}"), effects);
                self.force(effects);
            }
            _ if generation == self.generation => {
                let deadline = self.current.and_then(|at| self.rows.get(at)).map(|row| row.phase.deadline);
                self.give_up(&format!("not done within {:?}", deadline.unwrap_or_default()), effects);
                effects.push(Effect::Abandon);
                self.phase_ended(effects);
            }
            _ => {}
        }
    }

    /// Tasks that run are failed for `why`.
    fn give_up(&mut self, why: &str, effects: &mut Vec<Effect>) {
        let Some(row) = self.current.and_then(|current| self.rows.get_mut(current)) else { return };
        let phase = row.phase.name;
        for (task, state) in row.tasks.iter_mut().filter(|(_, state)| **state == TaskState::Running) {
            *state = TaskState::Failed(why.to_owned());
            effects.push(Effect::Tell { phase, task: task.clone(), outcome: Err(why.to_owned()) });
        }
    }

    fn force(&mut self, effects: &mut Vec<Effect>) {
        self.give_up("the shutdown is forced", effects);
        self.forced = true;
        self.become_(ShutdownState::ForcedShutdown, effects);
        self.generation += 1;
        effects.push(Effect::Abandon);
        effects.push(Effect::SetDeadline(FORCE_GRACE, self.generation));
        effects.push(Effect::Force);
    }

    fn finish(&mut self, effects: &mut Vec<Effect>) {
        if matches!(self.now, ShutdownState::Running | ShutdownState::Complete) {
            return;
        }
        self.become_(ShutdownState::Complete, effects);
        effects.push(Effect::Finish(self.outcome()));
    }

    fn outcome(&self) -> ShutdownOutcome {
        if self.forced { ShutdownOutcome::Forced } else { ShutdownOutcome::Graceful }
    }

    /// Where it stands.
    pub fn state(&self) -> ShutdownState {
        self.now
    }

    /// Everything there is to see.
    pub fn progress(&self, now: Moment) -> Progress {
        let running_for = self.begun.map(|begun| now.since(begun));
        let is_over = matches!(self.now, ShutdownState::Complete);
        Progress {
            state: self.now,
            reason: self.reason.clone(),
            forced: self.forced,
            running_for,
            left: running_for.filter(|_| !is_over).map(|spent| self.deadline.saturating_sub(spent)),
            refusal: self.refused.as_ref().map(|(refusal, ..)| *refusal),
            phases: self.rows.iter().map(|row| (row.phase.clone(), row.tasks.clone())).collect(),
        }
    }

    /// Whether everything fits together; for debug builds and tests.
    fn validate(&self) -> bool {
        let has_begun = self.now != ShutdownState::Running;
        let running = |row: &Row| row.tasks.values().any(|task| *task == TaskState::Running);
        let others_rest =
            self.rows.iter().enumerate().all(|(at, row)| self.current == Some(at) || !running(row));
        let nothing_after_the_end = !self.now.is_past() || !self.rows.iter().any(running);
        has_begun == self.begun.is_some() && others_rest && nothing_after_the_end
    }
}

impl ShutdownState {
    /// Whether no phase begins any more.
    fn is_past(self) -> bool {
        matches!(self, Self::ForcedShutdown | Self::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ShutdownState::{ActorShutdown, Cleanup, Complete, ForcedShutdown, Initiated, Preparation};
    use proptest::prelude::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn phase(name: &'static str, state: ShutdownState, recovers: bool) -> ShutdownPhase {
        ShutdownPhase { name, state, after: Vec::new(), deadline: secs(2), recovers }
    }

    /// Preparation of two tasks that may fail, actors of one that may not, cleanup of one that may not.
    fn shutdown() -> State {
        let phases = vec![
            phase("leave", Preparation, true),
            phase("actors", ActorShutdown, false),
            phase("tidy", Cleanup, false),
        ];
        let mut state = State::new(phases, secs(8)).expect("an order");
        for (phase, task) in [("leave", "tell"), ("leave", "finish"), ("actors", "stop"), ("tidy", "files")] {
            assert_eq!(state.add(phase, task), Ok(true));
        }
        state
    }

    const FOUR: QuorumImpact = QuorumImpact { healthy: 4, required: 3, is_counted: true, unsure: 0, told: 0 };
    const THREE: QuorumImpact =
        QuorumImpact { healthy: 3, required: 3, is_counted: true, unsure: 0, told: 0 };

    fn request(requester: Requester, force: bool, impact: QuorumImpact) -> Input {
        Input::Request(Request { requester, reason: "because".to_owned(), force, impact })
    }

    fn ended(phase: &'static str, task: &str, outcome: Result<&str, &str>) -> Input {
        let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
        Input::TaskEnded { phase, task: task.to_owned(), outcome }
    }

    fn states(effects: &[Effect]) -> Vec<ShutdownState> {
        let state = |effect: &Effect| match effect {
            Effect::Become(state) => Some(*state),
            _ => None,
        };
        effects.iter().filter_map(state).collect()
    }

    #[test]
    fn a_shutdown_goes_through_its_phases_and_ends_gracefully() {
        let mut state = shutdown();
        let (answer, effects) = state.handle(at(1), request(Requester::Call, false, FOUR));
        assert_eq!(answer, Some(ShutdownAnswer::Begun));
        assert_eq!(
            effects,
            [
                Effect::Become(Initiated),
                Effect::SetDeadline(secs(8), 0),
                Effect::Become(Preparation),
                Effect::SetDeadline(secs(2), 1),
                Effect::Start { phase: "leave", tasks: vec!["finish".to_owned(), "tell".to_owned()] },
            ]
        );
        let (_, effects) = state.handle(at(1), ended("leave", "tell", Ok("3 peers know")));
        assert_eq!(
            effects,
            [Effect::Tell {
                phase: "leave",
                task: "tell".to_owned(),
                outcome: Ok("3 peers know".to_owned())
            }]
        );
        let (_, effects) = state.handle(at(2), ended("leave", "finish", Err("the gate closed")));
        assert_eq!(states(&effects), [ActorShutdown], "what recovers goes on without it");
        assert!(!state.add("leave", "late").expect("a phase") && state.add("tidy", "late").expect("a phase"));
        state.handle(at(2), ended("actors", "stop", Ok("")));
        state.handle(at(2), ended("tidy", "files", Ok("")));
        let (_, effects) = state.handle(at(3), ended("tidy", "late", Ok("")));
        assert_eq!(states(&effects), [Complete]);
        assert_eq!(effects.last(), Some(&Effect::Finish(ShutdownOutcome::Graceful)));
        let (answer, effects) = state.handle(at(4), request(Requester::Call, true, FOUR));
        assert_eq!(
            (answer, effects),
            (Some(ShutdownAnswer::Runs("because".to_owned())), vec![]),
            "it runs once"
        );
    }

    #[test]
    fn a_phase_that_may_not_fail_forces_when_it_does_or_takes_too_long() {
        for late in [false, true] {
            let mut state = shutdown();
            state.handle(at(1), request(Requester::Call, false, FOUR));
            let (_, effects) = state.handle(at(3), Input::Deadline(1));
            assert_eq!(states(&effects), [ActorShutdown]);
            assert!(effects.contains(&Effect::Abandon));
            let input = if late { Input::Deadline(2) } else { ended("actors", "stop", Err("a circle")) };
            let (_, effects) = state.handle(at(5), input);
            assert_eq!(states(&effects), [ForcedShutdown], "late: {late}");
            assert!(effects.contains(&Effect::Force));
            let why = if late { "not done within 2s" } else { "a circle" };
            let row = &state.progress(at(5)).phases[1].1["stop"];
            assert_eq!(row, &TaskState::Failed(why.to_owned()));
            let (_, effects) = state.handle(at(5), Input::ForcedEnd);
            assert_eq!(effects, [Effect::Become(Complete), Effect::Finish(ShutdownOutcome::Forced)]);
        }
    }

    #[test]
    fn the_deadline_for_all_holds_whatever_the_phases_may_take_and_force_has_one_of_its_own() {
        let mut state = shutdown();
        state.handle(at(1), request(Requester::Call, false, FOUR));
        assert_eq!(state.progress(at(3)).left, Some(secs(6)));
        let (_, effects) = state.handle(at(9), Input::Deadline(0));
        assert_eq!(states(&effects), [ForcedShutdown]);
        let wake = effects.iter().find_map(|effect| match effect {
            Effect::SetDeadline(_, generation) => Some(*generation),
            _ => None,
        });
        let (_, effects) = state.handle(at(10), Input::Deadline(wake.expect("a deadline")));
        assert_eq!(effects.last(), Some(&Effect::Finish(ShutdownOutcome::Forced)));
    }

    #[test]
    fn the_third_healthy_member_stays_unless_it_is_forced_or_signalled_twice() {
        let refusal = QuorumRefusal { healthy: 3, without: 2, required: 3, unsure: 0 };
        let refused = Some(ShutdownAnswer::Refused(refusal));
        let mut state = shutdown();
        let (answer, effects) = state.handle(at(1), request(Requester::Call, false, THREE));
        assert_eq!((answer, effects), (refused.clone(), vec![Effect::Refuse(refusal)]));
        let (answer, _) = state.handle(at(2), request(Requester::Call, false, THREE));
        assert_eq!(answer, refused, "a call that is repeated says nothing new");
        let (answer, _) = state.handle(at(3), request(Requester::Signal, false, THREE));
        assert_eq!(answer, refused, "a call before is no signal before");
        assert_eq!(state.progress(at(3)).refusal, Some(refusal));
        let (answer, _) = state.handle(at(64), request(Requester::Signal, false, THREE));
        assert_eq!(answer, refused, "the first one is forgotten");
        for ms in [64_001, 64_500, 64_999] {
            let soon = Moment::at(Duration::from_millis(ms));
            let (answer, _) = state.handle(soon, request(Requester::Signal, false, THREE));
            assert_eq!(answer, refused, "it is the same one after {ms} ms");
        }
        let (answer, _) = state.handle(at(65), request(Requester::Signal, false, THREE));
        assert_eq!(answer, Some(ShutdownAnswer::Begun));
        let soon = Moment::at(Duration::from_millis(65_999));
        let (answer, effects) = state.handle(soon, request(Requester::Signal, false, THREE));
        assert_eq!((answer, effects), (Some(ShutdownAnswer::Runs("because".to_owned())), vec![]));
        let (answer, effects) = state.handle(at(66), request(Requester::Signal, false, THREE));
        assert_eq!(answer, Some(ShutdownAnswer::Forced("because".to_owned())));
        assert!(effects.contains(&Effect::Force));

        let mut state = shutdown();
        let (answer, _) = state.handle(at(1), request(Requester::Call, true, THREE));
        assert_eq!(answer, Some(ShutdownAnswer::Begun), "force is obeyed");
        let (answer, effects) = state.handle(at(1), request(Requester::Signal, false, THREE));
        assert_eq!((answer, effects), (Some(ShutdownAnswer::Runs("because".to_owned())), vec![]));
        let (answer, _) = state.handle(at(2), request(Requester::Signal, false, THREE));
        assert_eq!(answer, Some(ShutdownAnswer::Forced("because".to_owned())), "the second signal forces");
    }

    #[test]
    fn a_call_that_says_force_forces_a_shutdown_that_runs_and_one_that_does_not_say_it_waits() {
        let mut state = shutdown();
        state.handle(at(1), request(Requester::Signal, false, FOUR));
        let (answer, effects) = state.handle(at(1), request(Requester::Call, false, FOUR));
        assert_eq!((answer, effects), (Some(ShutdownAnswer::Runs("because".to_owned())), vec![]));
        let (answer, effects) = state.handle(at(1), request(Requester::Call, true, FOUR));
        assert_eq!(answer, Some(ShutdownAnswer::Forced("because".to_owned())));
        assert!(effects.contains(&Effect::Force));
        assert!(state.progress(at(1)).forced);
        let (answer, effects) = state.handle(at(2), request(Requester::Call, true, FOUR));
        assert_eq!(
            (answer, effects),
            (Some(ShutdownAnswer::Runs("because".to_owned())), vec![]),
            "it is forced once"
        );
    }

    #[test]
    fn leaving_is_refused_only_where_it_makes_the_difference() {
        let impact =
            |healthy, is_counted, unsure| QuorumImpact { healthy, required: 3, is_counted, unsure, told: 0 };
        let refused = |healthy, is_counted| impact(healthy, is_counted, 0).refusal().is_some();
        let found: Vec<_> =
            (0..=4).map(|healthy| (refused(healthy, true), refused(healthy, false))).collect();
        assert_eq!(
            found,
            [(false, false), (false, false), (false, false), (true, false), (false, false)],
            "by the number of healthy members, from 0 to 4"
        );
        let refusal = impact(4, true, 1).refusal().expect("another may leave as well").to_string();
        assert!(refusal.contains("without this one and 1 that want to leave as well"), "{refusal}");
        assert!(refusal.contains("2 would be left"), "{refusal}");
        assert_eq!(impact(4, false, 1).refusal(), None, "one that does not count takes nothing away");
        let told = |healthy, told| QuorumImpact { told, ..impact(healthy, true, told) }.refusal().is_some();
        assert_eq!([told(4, 1), told(4, 2), told(3, 0), told(3, 1)], [true, false, true, false]);
    }

    proptest! {
        #[test]
        fn whatever_comes_a_shutdown_that_began_ends_once_and_with_its_deadline_at_the_latest(
            steps in prop::collection::vec((0u8..8, 0u64..4), 0..40),
        ) {
            let mut state = shutdown();
            let mut finishes = 0;
            let mut now = 1;
            let count = |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Finish(_))).count();
            let (_, effects) = state.handle(at(now), request(Requester::Call, true, THREE));
            finishes += count(&effects);
            for (what, more) in steps {
                now += more;
                let input = match what {
                    0 => ended("leave", "tell", Ok("")),
                    1 => ended("leave", "finish", Err("no")),
                    2 => ended("actors", "stop", if more > 1 { Ok("") } else { Err("no") }),
                    3 => ended("tidy", "files", Ok("")),
                    4 => Input::Deadline(more + 1),
                    5 => Input::ForcedEnd,
                    6 => request(Requester::Signal, false, THREE),
                    _ => request(Requester::Call, more > 2, FOUR),
                };
                // A forced end is only told of once it was asked for.
                if input != Input::ForcedEnd || state.state() == ForcedShutdown {
                    let (_, effects) = state.handle(at(now), input);
                    finishes += count(&effects);
                }
            }
            let (_, effects) = state.handle(at(now), Input::Deadline(0));
            finishes += count(&effects);
            let (_, effects) = state.handle(at(now), Input::ForcedEnd);
            finishes += count(&effects);
            prop_assert_eq!((finishes, state.state()), (1, Complete));
        }
    }
}
