//! Decides the next step of a shutdown.
//!
//! A shutdown runs once, and the first reason is kept. Its phases run one after the other; a phase ends when its tasks
//! have, or at its deadline. In any case the shutdown is forced when its overall deadline passes, which is shorter than
//! the time an orchestrator waits before it kills the process.
//!
//! If a member's leaving would take the federation below quorum, the request is refused with the numbers, unless it is
//! forced. A repeated signal within [`REFUSAL_HOLDS`] is obeyed, because its sender has no other way to insist; a
//! signal during the shutdown forces it. Neither counts as a repetition before [`INSISTS_AFTER`]: some supervisors
//! signal a process and its group, or signal twice, for one request. A call insists with `force` and is obeyed at once:
//! before the shutdown it overrides the refusal, during the shutdown it forces the end.
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

/// How long a refused signal is remembered; a later one counts as the first again.
pub const REFUSAL_HOLDS: Duration = Duration::from_mins(1);
/// Minimum time after a signal before another one counts as a repetition. An earlier one counts as the same signal.
pub const INSISTS_AFTER: Duration = Duration::from_secs(1);
/// Maximum duration of a forced end before the shutdown is considered complete.
const FORCE_GRACE: Duration = Duration::from_millis(500);
/// Generation of the overall deadline.
const GLOBAL: u64 = 0;

/// Quorum of the federation at the time of a shutdown request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumImpact {
    /// Number of healthy members, including this one if it is healthy.
    pub healthy: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Whether this member is one of the healthy ones.
    pub is_counted: bool,
    /// Number of other healthy members that may not stay: they want to leave as well, or have not stated that they
    /// stay.
    pub unsure: usize,
    /// Number of other healthy members that were told to leave, and do so once they may.
    pub told: usize,
}

impl QuorumImpact {
    /// Returns the refusal, if the federation has a quorum now and would lose it without this member. There is none if
    /// so many others were told to leave that the quorum is lost even with this member.
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

/// Why a member may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "refused: {healthy} members are healthy, {required} are required, and without this one{} {without} would be \
     left",
    if *.unsure > 0 { format!(" and {unsure} that want to leave as well, or have not said that they stay,") } else { String::new() }
)]
pub struct QuorumRefusal {
    /// Number of healthy members.
    pub healthy: usize,
    /// Number of healthy members left without this one and the unsure ones.
    pub without: usize,
    /// Number of healthy members required.
    pub required: usize,
    /// Number of other members that may leave as well.
    pub unsure: usize,
}

/// Source of a shutdown request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// A caller that can set `force`.
    Call,
    /// A signal, which can only be repeated.
    Signal,
}

/// A request to shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Source of the request.
    pub requester: Requester,
    /// Reason, as part of a sentence: `SIGTERM`, `the operator asked for it`.
    pub reason: String,
    /// Whether to ignore the quorum; during the shutdown, whether to force the end.
    pub force: bool,
    /// Quorum of the federation.
    pub impact: QuorumImpact,
}

/// Answer to a shutdown request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShutdownAnswer {
    /// The shutdown begins, for the requested reason.
    Begun,
    /// The request was refused.
    Refused(QuorumRefusal),
    /// The shutdown is already running, for this reason.
    Runs(String),
    /// The running shutdown, begun for this reason, is now forced.
    Forced(String),
}

/// Input to the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A shutdown was requested.
    Request(Request),
    /// A task ended, with a note or an error.
    TaskEnded {
        /// Phase of the task.
        phase: &'static str,
        /// Name of the task.
        task: String,
        /// Note about the result, or the error.
        outcome: Result<String, String>,
    },
    /// The deadline of this generation passed.
    Deadline(u64),
    /// The forced end is complete.
    ForcedEnd,
}

/// Action that the coordinator must perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Report the new state.
    Become(ShutdownState),
    /// Report that the request was refused.
    Refuse(QuorumRefusal),
    /// Start the tasks of this phase.
    Start {
        /// Name of the phase.
        phase: &'static str,
        /// Names of the tasks, at least one.
        tasks: Vec<String>,
    },
    /// Deliver [`Input::Deadline`] with this generation after this time.
    SetDeadline(Duration, u64),
    /// Abort the remaining tasks of the phase.
    Abandon,
    /// Report that a task ended.
    Tell {
        /// Phase of the task.
        phase: &'static str,
        /// Name of the task.
        task: String,
        /// Note about the result, or the error.
        outcome: Result<String, String>,
    },
    /// End everything at once.
    Force,
    /// The shutdown is complete.
    Finish(ShutdownOutcome),
}

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOutcome {
    /// All phases ran.
    Graceful,
    /// The end was forced.
    Forced,
}

/// State of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// The phase has not begun.
    Waiting,
    /// The task is running.
    Running,
    /// The task is done, with this note.
    Done(String),
    /// The task failed, timed out, or was aborted, for this reason.
    Failed(String),
}

#[derive(Clone, Debug)]
struct Row {
    phase: ShutdownPhase,
    tasks: BTreeMap<String, TaskState>,
}

/// Progress of a shutdown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Current state.
    pub state: ShutdownState,
    /// Reason for the shutdown; empty if it has not begun.
    pub reason: String,
    /// Whether the shutdown is, or was, forced.
    pub forced: bool,
    /// Time since the shutdown began; `None` if it has not.
    pub running_for: Option<Duration>,
    /// Time left until the overall deadline, while the shutdown runs.
    pub left: Option<Duration>,
    /// The last refusal, if the shutdown has not begun since.
    pub refusal: Option<QuorumRefusal>,
    /// Phases in order, with the tasks of each by name.
    pub phases: Vec<(ShutdownPhase, BTreeMap<String, TaskState>)>,
}

/// State of one node's shutdown.
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
    /// Time of the first signal of this shutdown.
    signalled: Option<Moment>,
    refused: Option<(QuorumRefusal, Moment, Requester)>,
}

impl State {
    /// Creates a shutdown that nobody has requested, with an overall `deadline`.
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

    /// Adds a task to a phase that has not begun, even during the shutdown; false if the phase has begun.
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

    /// Applies `input` and returns the resulting actions, and the answer if it was a request.
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
            // A signal that counts as the same one does not restart the wait.
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
            return; // It was already failed.
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
            // The forced end timed out too: nothing more can be done.
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

    /// Marks the running tasks as failed with reason `why`.
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

    /// Current state.
    pub fn state(&self) -> ShutdownState {
        self.now
    }

    /// Current progress.
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

    /// Checks the invariants; for debug builds and tests.
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
    /// Whether no further phase may begin.
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

    /// Preparation with two tasks that may fail, actor shutdown with one that may not, cleanup with one that may not.
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
                // A forced end is reported only after it was requested.
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
