//! The supervisor as an actor: receives exits, passes them to [`SupervisorState`] and applies its effects.
//!
//! Starts run in their own tasks, so that a supervisor can answer and stop during a slow start. Only at boot does it
//! wait for each start, because its own start includes the starts of its children.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use crate::id::ActorName;
use futures::FutureExt as _;
use ractor::{ActorCell, ActorId, ActorProcessingErr, RpcReplyPort, SpawnErr, SupervisionEvent};
use tokio::task::{AbortHandle, JoinHandle};

use super::child::{ChildKey, ChildPhase};
use super::command::Command;
use super::context::Context;
use super::decision::{DecisionRecord, RestartDecision};
use super::failure::{ActorFailureType, Exit, Failure};
use super::message::{AdminError, ChildCounts, ChildInfo, Report, StartError, SupervisorMessage};
use super::panic;
use super::restart_trace::Restarts;
use super::spec::{ChildSpec, ExitChannel, Shutdown, SupervisorSpec};
use super::state::{Effect, Input, SupervisorState};
use crate::clock::Moment;
use crate::config::FieldError;
use crate::event::ClusterEvent;
use crate::registry::RegistryError;
use crate::trace::{ParentSpan, TraceContext, within_sync};

/// ractor's exit reason of a killed actor.
const KILLED: &str = "killed";
/// ractor's error for an actor killed during its start.
const KILLED_AT_START: &str = "Actor killed during startup";
/// Maximum time to wait for a killed actor; one that does not yield to a kill cannot be ended.
const KILL_GRACE: Duration = Duration::from_millis(200);

type Me = SelfRef<SupervisorMessage>;
type Reply<T> = RpcReplyPort<Result<T, AdminError>>;

/// Supervises the children of a [`SupervisorSpec`].
pub struct Supervisor {
    context: Context,
    exit: Arc<ExitChannel>,
}

/// A caller that waits until a child reaches the requested phase.
enum Waiting {
    Runs(Reply<()>),
    IsDown(Reply<()>),
    Decided(Option<Reply<RestartDecision>>),
}

/// State of the actor: the state machine, and the current actor of each child.
pub struct SupervisorActorState {
    context: Context,
    spec: SupervisorSpec,
    state: Arc<Mutex<SupervisorState>>,
    specs: HashMap<ChildKey, ChildSpec>,
    cells: BTreeMap<ChildKey, ActorCell>,
    keys: HashMap<ActorId, ChildKey>,
    /// Start tasks whose outcome was not handled yet; the task itself may be over.
    attempts: BTreeMap<ChildKey, Attempt>,
    /// Number of start attempts whose outcome was not handled yet, including those without a task.
    unheard: usize,
    /// Exits that arrived before the outcome of the child's start.
    early: HashMap<ActorId, SupervisionEvent>,
    waiting: HashMap<ChildKey, Vec<Waiting>>,
    /// Traces of the restarts in progress.
    restarts: Restarts,
    /// Timers of stop deadlines; aborted when the child ends.
    reminders: HashMap<ChildKey, AbortHandle>,
}

/// An attempt to start a child. It is aborted with the supervisor.
struct Attempt(JoinHandle<Option<ActorCell>>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for SupervisorActorState {
    /// However the supervisor ended, its children ended with it. If it has no parent and was killed or panicked,
    /// nothing else updates the registry.
    fn drop(&mut self) {
        self.state().ended();
        let children = self.specs.values().map(ChildSpec::name);
        self.context.root_is_gone(&self.spec.name, &self.state, children);
    }
}

impl SupervisorActorState {
    /// How many children that run or start need each name.
    fn needs(&self) -> HashMap<ActorName, usize> {
        let mut needs = HashMap::new();
        for spec in self.cells.keys().chain(self.attempts.keys()).filter_map(|key| self.specs.get(key)) {
            for name in spec.policy.depends_on.iter() {
                *needs.entry(name.clone()).or_default() += 1;
            }
        }
        needs
    }

    /// Takes the children that stop next: those that no running or starting child needs, and if there is none, the last
    /// started of a circle. Of a supervisor that is not dynamic only the last started.
    fn take_next_to_stop(&mut self, needs: &mut HashMap<ActorName, usize>) -> Vec<(ChildKey, ActorCell)> {
        let is_free = |key: &&ChildKey| {
            let needed = self.specs.get(*key).and_then(|spec| needs.get(spec.name()));
            needed.is_none_or(|count| *count == 0)
        };
        let limit = if self.spec.is_dynamic { usize::MAX } else { 1 };
        let mut next: Vec<_> = self.cells.keys().rev().filter(is_free).take(limit).copied().collect();
        if next.is_empty() && self.attempts.is_empty() {
            // Not what the circle needs and needs nothing itself.
            let running: HashSet<_> =
                self.cells.keys().filter_map(|key| self.specs.get(key)).map(ChildSpec::name).collect();
            let is_in_need = |key: &&ChildKey| {
                let needed = self.specs.get(*key).map(|spec| spec.policy.depends_on.iter());
                needed.into_iter().flatten().any(|name| running.contains(name))
            };
            let mut last_first = self.cells.keys().rev();
            next.extend(last_first.clone().find(is_in_need).or_else(|| last_first.next()).copied());
        }
        for spec in next.iter().filter_map(|key| self.specs.get(key)) {
            for name in spec.policy.depends_on.iter() {
                needs.entry(name.clone()).and_modify(|count| *count = count.saturating_sub(1));
            }
        }
        next.into_iter().filter_map(|key| self.cells.remove_entry(&key)).collect()
    }

    fn state(&self) -> MutexGuard<'_, SupervisorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A child failed to start at boot. The error's source is the failure type, so that the parent recognises it.
#[derive(Debug)]
struct NotBooted(Failure);

impl std::fmt::Display for NotBooted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotBooted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.kind())
    }
}

/// Tries to start a child. A factory that panics counts as a failed start.
async fn attempt(spec: ChildSpec, supervisor: ActorCell) -> Result<ActorCell, Failure> {
    let slot = spec.exit.panic.clone();
    let starting = panic::watched(slot.clone(), async { (spec.start)(supervisor).await });
    let mut starting = pin!(AssertUnwindSafe(starting).catch_unwind());
    let outcome = tokio::time::timeout(spec.start_deadline, &mut starting).await;
    if outcome.is_err() && spec.policy.is_supervisor {
        // Dropping a half-started supervisor would kill its running children; it must stop them instead.
        spec.exit.start.cancel();
        if let Ok(Ok(cell)) = starting.await {
            return Ok(cell);
        }
    }
    let failure = match outcome {
        Ok(Ok(Ok(cell))) => return Ok(cell),
        Ok(Ok(Err(SpawnErr::StartupFailed(error)))) => failure_of(&*error, &spec.exit),
        Ok(Ok(Err(error))) => Failure::of_error(&error),
        Ok(Err(_)) => slot.take_any().map_or_else(
            || Failure::new(ActorFailureType::Panic { backtrace: None }),
            panic::PanicReport::into_failure,
        ),
        Err(_) => Failure::new(ActorFailureType::Timeout { duration: spec.start_deadline }),
    };
    Err(failure.at_start())
}

/// The failure behind an error: the captured panic, if its message is the same.
fn failure_of(error: &(dyn std::error::Error + Send + Sync + 'static), exit: &ExitChannel) -> Failure {
    let text = error.to_string();
    match exit.panic.take(&text) {
        Some(report) => report.into_failure(),
        None if text == KILLED_AT_START => Failure::new(ActorFailureType::Killed),
        None => Failure::of_error(error),
    }
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        let SpawnErr::StartupFailed(reason) = error else { return Self::NotSpawned(error.to_string()) };
        if let Some(NotBooted(failure)) = reason.downcast_ref() {
            return Self::Child(failure.clone());
        }
        if let Some(error) = reason.downcast_ref::<RegistryError>() {
            return Self::Registry(error.clone());
        }
        match reason.downcast_ref::<FieldError>() {
            Some(error) => Self::Spec(error.clone()),
            None => Self::NotSpawned(reason.to_string()),
        }
    }
}

impl Supervisor {
    /// A supervisor without a parent.
    pub fn new(context: Context) -> Self {
        Self::raising_to(context, Arc::default())
    }

    /// A supervisor that stores its reason to give up in `exit`, where its parent reads it.
    pub(super) fn raising_to(context: Context, exit: Arc<ExitChannel>) -> Self {
        panic::install();
        Self { context, exit }
    }

    /// Passes `input` to the state machine and applies the effects.
    fn input(&self, me: &Me, shell: &mut SupervisorActorState, input: Input) -> Result<(), AdminError> {
        let (key, failed) = match &input {
            Input::Started(key) | Input::Command(key, _) => (Some(*key), false),
            Input::Ended(key, exit) => (Some(*key), exit.is_abnormal),
            Input::Wake(_) => (None, false),
        };
        let effects = self.decide(shell, input)?;
        if let Some(key) = key {
            self.sync_registry(shell, key, failed);
        }
        for effect in effects {
            self.apply(me, shell, effect);
        }
        if let Some(key) = key {
            use ChildPhase::{Restarting, Running, Starting, Stopping};
            let phase = shell.state().child(key).map(|child| child.phase);
            if !matches!(phase, Some(Starting | Running | Stopping | Restarting)) {
                shell.restarts.given_up(key, phase.map_or("removed", ChildPhase::as_str));
            }
        }
        Ok(())
    }

    /// Updates the registry state of a child.
    fn sync_registry(&self, shell: &SupervisorActorState, key: ChildKey, failed: bool) {
        if let Some(spec) = shell.specs.get(&key) {
            self.context.follow(&shell.spec.name, spec.name(), shell.state().child(key), failed);
        }
    }

    /// Registers a child that is about to be started.
    fn register(&self, shell: &SupervisorActorState, spec: &ChildSpec, key: ChildKey) -> Result<(), Failure> {
        let registered = self.context.register(&shell.spec.name, spec, shell.state().child(key));
        registered.map_err(|error| {
            let (field, value) = ("name".to_owned(), spec.name().to_string());
            let failure = Failure::new(ActorFailureType::ConfigurationError { field, value });
            failure.in_words(error.to_string()).at_start()
        })
    }

    fn decide(&self, shell: &SupervisorActorState, input: Input) -> Result<Vec<Effect>, AdminError> {
        Ok(shell.state().handle(self.context.clock.now(), &mut &self.context, input)?)
    }

    fn apply(&self, me: &Me, shell: &mut SupervisorActorState, effect: Effect) {
        match effect {
            Effect::Start(key) => self.start(me, shell, key),
            Effect::Stop(key) => {
                self.sync_registry(shell, key, false);
                Self::stop(me, shell, key);
            }
            Effect::CancelStart(key) => {
                if let Some(spec) = shell.specs.get(&key) {
                    spec.exit.start.cancel();
                }
            }
            Effect::Wake(wakeup, after) => me.send_after(after, SupervisorMessage::Wake(wakeup)),
            Effect::Tell(key, record) => self.tell(shell, key, *record),
            Effect::Halt(key, failure) => {
                let name = shell.specs.get(&key).map_or(&shell.spec.name, ChildSpec::name);
                self.context.halt.halt(name, &format!("{name}: {failure}"));
                self.exit.halted(name.clone());
            }
            Effect::Release(key) => {
                if let Some(spec) = shell.specs.get(&key) {
                    self.context.halt.resume(spec.name());
                }
            }
            Effect::Forget(key) => {
                if let Some(spec) = shell.specs.remove(&key) {
                    self.context.deregister(&shell.spec.name, spec.name());
                }
            }
            Effect::GiveUp(failure) => {
                let (supervisor, reason) = (shell.spec.name.clone(), failure.to_string());
                me.stop(Some(format!("shutdown: {reason}")));
                self.context.events.tell(ClusterEvent::SupervisorGaveUp { supervisor, reason });
                self.exit.panic.set_cause(shell.restarts.last());
                self.exit.raise(failure);
            }
        }
    }

    /// Starts a child in its own task, so that a slow start does not block the supervisor.
    fn start(&self, me: &Me, shell: &mut SupervisorActorState, key: ChildKey) {
        let Some(spec) = shell.specs.get(&key).cloned() else { return };
        let is_dynamic = shell.spec.is_dynamic;
        let registered = self.register(shell, &spec, key);
        spec.exit.start.begin();
        shell.restarts.starting(key);
        let cell = me.cell();
        let mut attempt = Box::pin(async move {
            registered?;
            attempt(spec, cell).await
        });
        // Most children of a dynamic supervisor start without waiting, so they need no task. A failed start is still
        // reported through the mailbox, so that the supervisor can answer between attempts.
        let outcome = if is_dynamic { attempt.as_mut().now_or_never() } else { None };
        match outcome {
            Some(Ok(cell)) => return self.started(me, shell, key, cell),
            Some(failed) => {
                me.cast(SupervisorMessage::Attempted(key, failed));
            }
            None => {
                let me = me.clone();
                let task = tokio::spawn(async move {
                    let outcome = attempt.await;
                    let cell = outcome.as_ref().ok().cloned();
                    // A supervisor that is ending does not read this; it awaits the task instead.
                    me.cast(SupervisorMessage::Attempted(key, outcome));
                    cell
                });
                shell.attempts.insert(key, Attempt(task));
            }
        }
        shell.unheard += 1;
    }

    /// Asks a child to stop, and kills it at its deadline.
    fn stop(me: &Me, shell: &mut SupervisorActorState, key: ChildKey) {
        let (Some(cell), Some(spec)) = (shell.cells.get(&key), shell.specs.get(&key)) else { return };
        let (id, reason) = (cell.get_id(), || Some("its supervisor stops it".to_owned()));
        let (deadline, then) = match spec.shutdown {
            Shutdown::BrutalKill => {
                cell.kill();
                (KILL_GRACE, SupervisorMessage::Abandon(key, id))
            }
            Shutdown::Within(deadline) => {
                cell.stop(reason());
                (deadline, SupervisorMessage::Kill(key, id))
            }
            Shutdown::Infinity => {
                cell.stop(reason());
                (Duration::MAX, SupervisorMessage::Kill(key, id))
            }
        };
        shell.reminders.insert(key, Self::wait_for(me, cell.clone(), key, deadline, then));
    }

    /// Waits for the end of a child that was asked to stop, and sends `then` at the deadline. For a child that is no
    /// longer linked to its supervisor ractor reports no exit; for a linked one, ractor's event arrives first.
    fn wait_for(
        me: &Me,
        cell: ActorCell,
        key: ChildKey,
        deadline: Duration,
        then: SupervisorMessage,
    ) -> AbortHandle {
        let (me, id) = (me.clone(), cell.get_id());
        let waiting = tokio::spawn(async move {
            let has_ended = cell.wait(Some(deadline)).await.is_ok();
            let told = if has_ended { SupervisorMessage::Gone(key, id) } else { then };
            // A supervisor that is ending waits for its children itself.
            me.cast(told);
        });
        waiting.abort_handle()
    }

    fn tell(&self, shell: &mut SupervisorActorState, key: ChildKey, record: DecisionRecord) {
        let (wall, took) = (self.context.clock.wall(), self.context.clock.now().since(record.inputs.now));
        self.context.memory.decided(wall, &record);
        for waiting in shell.waiting.get_mut(&key).into_iter().flatten() {
            waiting.decided(&record.decision);
        }
        let supervisor = shell.spec.name.clone();
        let cause = shell.specs.get(&key).map(|spec| spec.exit.panic.take_cause()).unwrap_or_default();
        let trace = shell.restarts.decided(key, &supervisor, &record, cause);
        self.tell_within(trace, ClusterEvent::RestartDecided { supervisor, record: Arc::new(record), took });
    }

    fn tell_within(&self, trace: TraceContext, event: ClusterEvent) {
        let cause = trace.is_sampled().then(|| ParentSpan::local(trace));
        within_sync(cause, || self.context.events.tell(event));
    }

    fn started(&self, me: &Me, shell: &mut SupervisorActorState, key: ChildKey, cell: ActorCell) {
        let id = cell.get_id();
        shell.keys.insert(id, key);
        shell.cells.insert(key, cell);
        let Some(name) = shell.specs.get(&key).map(|spec| spec.name().clone()) else { return };
        self.context.halt.resume(&name);
        // Also ends the halts of its former incarnation, including those for children that no longer exist.
        let before = shell.specs.get(&key).map(|spec| spec.exit.take_halted()).unwrap_or_default();
        for child in &before {
            self.context.halt.resume(child);
        }
        self.context.memory.recovered(self.context.clock.now(), &name);
        // Only a command can be refused.
        let _ = self.input(me, shell, Input::Started(key));
        // Answer before the phase can change again.
        Self::answer(shell, key);
        let restarts = shell.state().child(key).map_or(0, |child| child.restarts);
        let supervisor = shell.spec.name.clone();
        let trace = shell.restarts.started(key);
        self.tell_within(trace, ClusterEvent::ChildStarted { supervisor, child: name, restarts });
        if let Some((_, exit)) = shell.early.remove(&id).and_then(|event| Self::exit_of(shell, event)) {
            self.ended(me, shell, id, exit);
        }
    }

    /// Handles the end of the actor with this id.
    fn ended(&self, me: &Me, shell: &mut SupervisorActorState, id: ActorId, exit: Exit) {
        let Some(key) = shell.keys.remove(&id) else { return };
        shell.cells.remove(&key);
        if let Some(reminder) = shell.reminders.remove(&key) {
            reminder.abort();
        }
        if let Some(spec) = shell.specs.get(&key).filter(|spec| spec.policy.is_supervisor) {
            // If it was killed, it could not update its children in the registry.
            self.context.orphan(spec.name());
        }
        self.child_ended(me, shell, key, exit);
    }

    fn child_ended(&self, me: &Me, shell: &mut SupervisorActorState, key: ChildKey, exit: Exit) {
        if let Some(spec) = shell.specs.get(&key) {
            let (supervisor, child) = (shell.spec.name.clone(), spec.name().clone());
            let reason = exit.failure.to_string();
            self.context.events.tell(ClusterEvent::ChildEnded { supervisor, child, reason });
        }
        // Only a command can be refused.
        let _ = self.input(me, shell, Input::Ended(key, exit));
    }

    /// The exit that a ractor event describes.
    fn exit_of(shell: &SupervisorActorState, event: SupervisionEvent) -> Option<(ActorId, Exit)> {
        let exit = |cell: &ActorCell| {
            shell.keys.get(&cell.get_id()).and_then(|key| shell.specs.get(key)).map(|spec| &spec.exit)
        };
        // A supervisor that gave up counts as such, whatever ended it.
        if let SupervisionEvent::ActorTerminated(cell, ..) | SupervisionEvent::ActorFailed(cell, _) = &event
            && let Some(failure) = exit(cell).and_then(|exit| exit.take_raised())
        {
            return Some((cell.get_id(), Exit::raised(failure)));
        }
        Some(match event {
            // ractor reports a kill as a termination with this reason, and an actor whose task was dropped as one
            // without a state.
            SupervisionEvent::ActorTerminated(cell, state, reason)
                if state.is_none() || reason.as_deref() == Some(KILLED) =>
            {
                (cell.get_id(), Exit::abnormal(Failure::new(ActorFailureType::Killed)))
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell.get_id(), Exit::normal(reason.unwrap_or_else(|| "by itself".to_owned())))
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                let failure = match exit(&cell) {
                    Some(exit) => failure_of(&*error, exit),
                    None => Failure::of_error(&*error),
                };
                (cell.get_id(), Exit::abnormal(failure))
            }
            _ => return None,
        })
    }

    fn start_child(&self, me: &Me, shell: &mut SupervisorActorState, spec: ChildSpec, reply: Reply<()>) {
        let added = shell
            .spec
            .validate_child(&spec)
            .map_err(AdminError::from)
            .and_then(|()| Ok(shell.state().add(self.context.clock.now(), spec.policy.clone())?));
        match added {
            Err(error) => drop(reply.send(Err(error))),
            Ok(key) => {
                shell.specs.insert(key, spec);
                self.command(me, shell, key, Command::Start, Waiting::Runs(reply));
            }
        }
    }

    fn command(
        &self,
        me: &Me,
        shell: &mut SupervisorActorState,
        key: ChildKey,
        command: Command,
        waiting: Waiting,
    ) {
        // Add it first, because the command's effects may already satisfy it.
        shell.waiting.entry(key).or_default().push(waiting);
        match self.input(me, shell, Input::Command(key, command)) {
            Ok(()) => Self::answer(shell, key),
            Err(error) => {
                if let Some(waiting) = shell.waiting.get_mut(&key).and_then(Vec::pop) {
                    waiting.refused(error);
                }
            }
        }
    }

    /// Answers the callers whose requested phase `key` has reached.
    fn answer(shell: &mut SupervisorActorState, key: ChildKey) {
        let Some(waiting) = shell.waiting.remove(&key) else { return };
        let phase = shell.state().child(key).map(|child| child.phase);
        let still: Vec<_> = waiting.into_iter().filter_map(|waiting| waiting.seen(phase)).collect();
        if !still.is_empty() {
            shell.waiting.insert(key, still);
        }
    }

    /// Handles a failed start, and returns the error to the callers that wait for the child to run.
    fn failed_to_start(&self, me: &Me, shell: &mut SupervisorActorState, key: ChildKey, failure: Failure) {
        if let (Some(waiting), Some(spec)) = (shell.waiting.remove(&key), shell.specs.get(&key)) {
            let error = AdminError::Start { child: spec.name().clone(), failure: failure.clone() };
            let (vain, still): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|waiting| matches!(waiting, Waiting::Runs(_)));
            if !still.is_empty() {
                shell.waiting.insert(key, still);
            }
            for waiting in vain {
                waiting.refused(error.clone());
            }
        }
        self.child_ended(me, shell, key, Exit::abnormal(failure));
    }

    /// Stops the children in stages, each child within its own deadline: a child stops after those that depend on it, and
    /// of the rest the last started stops first; those of a dynamic supervisor stop together. A child that exceeds its
    /// deadline is killed. The start of a worker is aborted, because it has nothing to stop yet; the start of a supervisor
    /// is cancelled and awaited, because it may have children to stop.
    async fn stop_children(&self, shell: &mut SupervisorActorState) {
        for (key, attempt) in &shell.attempts {
            match shell.specs.get(key) {
                Some(spec) if !spec.policy.is_supervisor => attempt.0.abort(),
                Some(spec) if shell.spec.is_dynamic => spec.exit.start.cancel(),
                _ => {}
            }
        }
        let mut needs = shell.needs();
        loop {
            // Those of a dynamic supervisor are asked before it waits for a start.
            let waits = !shell.spec.is_dynamic || shell.cells.is_empty();
            if waits && Self::await_starts(shell, false).await {
                needs = shell.needs();
            }
            let mut stage = shell.take_next_to_stop(&mut needs);
            // What is left may be needed by children that are starting.
            if stage.is_empty() && Self::await_starts(shell, true).await {
                needs = shell.needs();
                stage = shell.take_next_to_stop(&mut needs);
            }
            if stage.is_empty() {
                return;
            }
            for (key, cell) in &stage {
                let Some(spec) = shell.specs.get(key) else { continue };
                self.context.stops(&shell.spec.name, spec.name());
                match spec.shutdown {
                    Shutdown::BrutalKill => cell.kill(),
                    _ => cell.stop(Some("its supervisor stops".to_owned())),
                }
            }
            let begun = self.context.clock.now();
            for (key, cell) in stage {
                self.await_stopped(shell.specs.get(&key), cell, begun).await;
            }
        }
    }

    /// Waits for a child that was asked to stop at `begun`, and kills it at its deadline.
    async fn await_stopped(&self, child: Option<&ChildSpec>, cell: ActorCell, begun: Moment) {
        let shutdown = child.map_or(Shutdown::BrutalKill, |child| child.shutdown);
        let in_time = match shutdown {
            Shutdown::BrutalKill => false,
            Shutdown::Within(deadline) => {
                let spent = self.context.clock.now().since(begun);
                cell.wait(Some(deadline.saturating_sub(spent))).await.is_ok()
            }
            Shutdown::Infinity => cell.wait(None).await.is_ok(),
        };
        if in_time {
            return;
        }
        if let Some(child) = child.filter(|_| shutdown != Shutdown::BrutalKill) {
            tracing::warn!(child = child.name().as_str(), ?shutdown, "killed: it did not stop in time");
            self.context.tree.note_killed(child.name());
        }
        let _ = cell.kill_and_wait(Some(KILL_GRACE)).await;
    }

    /// Cancels the pending starts and waits for them: all, or those after the last running child. One that completed is
    /// stopped like any other child. Returns whether there were any.
    async fn await_starts(shell: &mut SupervisorActorState, all: bool) -> bool {
        let mut any = false;
        while let Some((key, mut attempt)) = shell.attempts.pop_last() {
            if !all && shell.cells.last_key_value().is_some_and(|(last, _)| *last > key) {
                shell.attempts.insert(key, attempt);
                break;
            }
            any = true;
            if let Some(spec) = shell.specs.get(&key) {
                spec.exit.start.cancel();
            }
            if let Ok(Some(cell)) = (&mut attempt.0).await {
                shell.cells.insert(key, cell);
            }
        }
        any
    }

    /// Marks every child as ended in the registry, because the supervisor ends.
    fn close(&self, shell: &SupervisorActorState, failed: bool) {
        for spec in shell.specs.values() {
            self.context.ends(&shell.spec.name, spec.name(), failed);
        }
        self.context.root_ends(&shell.spec.name, failed);
    }

    /// Starts every child in order, waiting for each.
    async fn boot(&self, me: &Me, shell: &mut SupervisorActorState) -> Result<(), Failure> {
        for spec in std::mem::take(&mut shell.spec.children) {
            let name = spec.name().clone();
            let refused = |error: AdminError| Failure::of_error(&error);
            let now = self.context.clock.now();
            let key = shell.state().add(now, spec.policy.clone()).map_err(|e| refused(e.into()))?;
            shell.specs.insert(key, spec.clone());
            // There is no other effect than this start, which happens below.
            self.decide(shell, Input::Command(key, Command::Start)).map_err(refused)?;
            let named = |failure: Failure| failure.in_words(format!("child {name} {}", failure.message()));
            self.register(shell, &spec, key).map_err(named)?;
            let cell = self.boot_child(spec, me.cell()).await.map_err(named)?;
            self.started(me, shell, key, cell);
        }
        Ok(())
    }

    /// Starts one child at boot. If the start of this supervisor is cancelled, so is the child's.
    async fn boot_child(&self, spec: ChildSpec, me: ActorCell) -> Result<ActorCell, Failure> {
        spec.exit.start.begin();
        let (exit, is_supervisor) = (spec.exit.clone(), spec.policy.is_supervisor);
        let mut starting = pin!(attempt(spec, me));
        tokio::select! {
            biased;
            () = self.exit.start.cancelled() => {
                if is_supervisor {
                    exit.start.cancel();
                    starting.await
                } else {
                    let reason = "its supervisor is not to start".to_owned();
                    Err(Failure::new(ActorFailureType::Ended { reason }).at_start())
                }
            }
            outcome = &mut starting => outcome,
        }
    }
}

impl Waiting {
    /// Answers if `phase` satisfies the caller; otherwise returns `self`.
    fn seen(self, phase: Option<ChildPhase>) -> Option<Self> {
        match (self, phase) {
            (Self::Runs(reply), Some(ChildPhase::Running))
            | (Self::IsDown(reply), None | Some(ChildPhase::Stopped | ChildPhase::Suspended)) => {
                // An error means that the caller no longer waits.
                let _ = reply.send(Ok(()));
                None
            }
            // Answered before, or another request changed the child's course. Dropping the reply port tells the caller
            // that there is no answer.
            (Self::Decided(None), _)
            | (
                Self::Runs(_),
                None | Some(ChildPhase::Stopped | ChildPhase::Suspended | ChildPhase::Halted),
            ) => None,
            (waiting, _) => Some(waiting),
        }
    }

    fn decided(&mut self, decision: &RestartDecision) {
        if let Self::Decided(reply) = self
            && let Some(reply) = reply.take()
        {
            let _ = reply.send(Ok(decision.clone()));
        }
    }

    fn refused(self, error: AdminError) {
        match self {
            // An error means that the caller no longer waits.
            Self::Runs(reply) | Self::IsDown(reply) => drop(reply.send(Err(error))),
            Self::Decided(Some(reply)) => drop(reply.send(Err(error))),
            Self::Decided(None) => {}
        }
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorActorState;
    type Arguments = SupervisorSpec;

    /// Starts every child in order. If one fails, the children before it are stopped and the supervisor fails to start.
    async fn pre_start(
        &self,
        me: Me,
        spec: SupervisorSpec,
    ) -> Result<SupervisorActorState, ActorProcessingErr> {
        spec.validate()?;
        let state = Arc::new(Mutex::new(SupervisorState::new(&spec)));
        self.context.take_place(&spec, &state)?;
        let mut shell = SupervisorActorState {
            context: self.context.clone(),
            spec,
            state,
            specs: HashMap::new(),
            cells: BTreeMap::new(),
            keys: HashMap::new(),
            attempts: BTreeMap::new(),
            unheard: 0,
            early: HashMap::new(),
            waiting: HashMap::new(),
            restarts: Restarts::new(self.context.events.clone()),
            reminders: HashMap::new(),
        };
        if let Err(failure) = self.boot(&me, &mut shell).await {
            self.stop_children(&mut shell).await;
            shell.state().ended();
            self.close(&shell, true);
            return Err(NotBooted(failure).into());
        }
        // It can be reached a moment later; whoever started it finds it active.
        self.context.root_runs(&shell.spec.name);
        Ok(shell)
    }

    async fn handle(
        &self,
        me: Me,
        message: Self::Msg,
        shell: &mut SupervisorActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Attempted(key, outcome) => {
                shell.unheard -= 1;
                shell.attempts.remove(&key);
                match outcome {
                    Ok(cell) => self.started(&me, shell, key, cell),
                    Err(failure) => self.failed_to_start(&me, shell, key, failure),
                }
                if shell.unheard == 0 {
                    shell.early.clear();
                }
                Self::answer(shell, key);
            }
            SupervisorMessage::Wake(wakeup) => drop(self.input(&me, shell, Input::Wake(wakeup))),
            SupervisorMessage::Kill(key, id) => {
                if let Some(cell) = shell.cells.get(&key).filter(|cell| cell.get_id() == id) {
                    if let Some(child) = shell.specs.get(&key).map(ChildSpec::name) {
                        tracing::warn!(child = child.as_str(), "killed: it did not stop in time");
                        self.context.tree.note_killed(child);
                    }
                    cell.kill();
                    let (cell, then) = (cell.clone(), SupervisorMessage::Abandon(key, id));
                    shell.reminders.insert(key, Self::wait_for(&me, cell, key, KILL_GRACE, then));
                }
            }
            SupervisorMessage::Gone(key, id) => {
                if shell.cells.get(&key).is_some_and(|cell| cell.get_id() == id) {
                    self.ended(
                        &me,
                        shell,
                        id,
                        Exit::normal("it ended, and was not linked to its supervisor"),
                    );
                    Self::answer(shell, key);
                }
            }
            SupervisorMessage::Abandon(key, id) => {
                if shell.cells.get(&key).is_some_and(|cell| cell.get_id() == id) {
                    self.ended(&me, shell, id, Exit::normal("abandoned: it does not even yield to a kill"));
                    Self::answer(shell, key);
                }
            }
            SupervisorMessage::StartChild(spec, reply) => self.start_child(&me, shell, *spec, reply),
            SupervisorMessage::Command(name, command, reply) => {
                let key = shell.state().key(&name);
                match key {
                    Err(error) => drop(reply.send(Err(error.into()))),
                    Ok(key) => {
                        let waiting = match command {
                            Command::Start | Command::Restart | Command::Resume => Waiting::Runs(reply),
                            _ => Waiting::IsDown(reply),
                        };
                        self.command(&me, shell, key, command, waiting);
                    }
                }
            }
            SupervisorMessage::Report(name, report, reply) => {
                let command = match report {
                    Report::Failed(failure) => Command::Fail(failure),
                    Report::Escalated(failure) => Command::Escalate(failure),
                };
                let key = shell.state().key(&name);
                match key {
                    Err(error) => drop(reply.send(Err(error.into()))),
                    Ok(key) => self.command(&me, shell, key, command, Waiting::Decided(Some(reply))),
                }
            }
            SupervisorMessage::List(reply) => {
                let list = shell.state().children().map(|(_, child)| ChildInfo::from(child)).collect();
                let _ = reply.send(list);
            }
            SupervisorMessage::Count(reply) => {
                let counts = ChildCounts::of(shell.state().children().map(|(_, child)| child));
                let _ = reply.send(counts);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: Me,
        event: SupervisionEvent,
        shell: &mut SupervisorActorState,
    ) -> Result<(), ActorProcessingErr> {
        let id = match &event {
            SupervisionEvent::ActorTerminated(cell, ..) | SupervisionEvent::ActorFailed(cell, _) => {
                cell.get_id()
            }
            _ => return Ok(()),
        };
        match shell.keys.get(&id).copied() {
            Some(key) => {
                if let Some((id, exit)) = Self::exit_of(shell, event) {
                    self.ended(&me, shell, id, exit);
                    Self::answer(shell, key);
                }
            }
            // Either the outcome of its start is not handled yet, or it is no longer a child.
            None if shell.unheard > 0 => drop(shell.early.insert(id, event)),
            None => {}
        }
        Ok(())
    }

    async fn post_stop(&self, me: Me, shell: &mut SupervisorActorState) -> Result<(), ActorProcessingErr> {
        // ractor would kill them without running their `post_stop`.
        self.stop_children(shell).await;
        // Children that started so late that their outcome was never handled.
        let late = Some("its supervisor stops".to_owned());
        me.cell().stop_children_and_wait(late, Some(KILL_GRACE)).await;
        shell.state().ended();
        self.close(shell, false);
        Ok(())
    }
}
