//! Runs a node's shutdown by applying the effects of [`State`].
//!
//! The coordinator has no mailbox and no loop of its own: each caller takes the lock, passes its input to the state and
//! starts the resulting effects, none of which waits. So shutdown requests bypass actor mailboxes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::phase::{PhaseError, ShutdownPhase};
use super::state::{Effect, Input, Progress, Request, ShutdownAnswer, ShutdownOutcome, State};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};

/// Work of a task: receives the reason for the shutdown, and returns a note about the result, or an error.
pub type Work = Box<dyn FnOnce(String) -> BoxFuture<'static, Result<String, String>> + Send>;

/// A task of a phase. The tasks of one phase run in parallel.
pub struct Task {
    /// Name of the phase.
    pub phase: &'static str,
    /// Name of the task, unique within its phase.
    pub name: String,
    work: Work,
}

impl Task {
    /// Creates a task of `phase` that runs `work`.
    pub fn new<F>(phase: &'static str, name: &str, work: impl FnOnce(String) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self { phase, name: name.to_owned(), work: Box::new(move |reason| Box::pin(work(reason))) }
    }
}

/// Ends everything at once; half a second later the shutdown completes even if something still runs.
pub type Force = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Shutdown of one node. Cheap to clone.
#[derive(Clone)]
pub struct ShutdownCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    force: Force,
    outcome: watch::Sender<Option<ShutdownOutcome>>,
    clock: Arc<dyn Clock>,
    events: EventBus,
}

struct Inner {
    state: State,
    work: HashMap<(&'static str, String), Work>,
    /// Running tasks of the current phase.
    running: Vec<AbortHandle>,
}

impl ShutdownCoordinator {
    /// Creates a shutdown that nobody has requested. `deadline` covers all phases together; `force` ends it forcibly.
    pub fn new(
        phases: Vec<ShutdownPhase>,
        deadline: Duration,
        force: Force,
        clock: Arc<dyn Clock>,
        events: EventBus,
    ) -> Result<Self, PhaseError> {
        let state = State::new(phases, deadline)?;
        let inner = Mutex::new(Inner { state, work: HashMap::new(), running: Vec::new() });
        let shared = Shared { inner, force, outcome: watch::Sender::new(None), clock, events };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task to a phase that has not begun, even during the shutdown; false if the phase has begun.
    pub fn add(&self, task: Task) -> Result<bool, PhaseError> {
        let mut inner = self.inner();
        let is_added = inner.state.add(task.phase, &task.name)?;
        if is_added {
            inner.work.insert((task.phase, task.name), task.work);
        }
        Ok(is_added)
    }

    /// Requests the shutdown. Before this returns, the shutdown has begun or is refused.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn request(&self, request: Request) -> ShutdownAnswer {
        self.input(Input::Request(request)).expect("a request has an answer")
    }

    /// Current progress of the shutdown.
    pub fn progress(&self) -> Progress {
        self.inner().state.progress(self.shared.clock.now())
    }

    /// Waits until the shutdown is complete.
    pub async fn finished(&self) -> ShutdownOutcome {
        let mut outcome = self.shared.outcome.subscribe();
        // The sender lives as long as this handle.
        let found = outcome.wait_for(Option::is_some).await;
        found.ok().and_then(|outcome| *outcome).unwrap_or(ShutdownOutcome::Forced)
    }

    fn input(&self, input: Input) -> Option<ShutdownAnswer> {
        // Held until every effect is started, so that none overtakes another. None of them waits.
        let mut inner = self.inner();
        let (answer, effects) = inner.state.handle(self.shared.clock.now(), input);
        let mut undone = Vec::new();
        for effect in effects {
            self.apply(&mut inner, effect, &mut undone);
        }
        // Values captured by a task may query the progress when they are dropped.
        drop(inner);
        drop(undone);
        answer
    }

    fn apply(&self, inner: &mut Inner, effect: Effect, undone: &mut Vec<Work>) {
        let tell = |event| self.shared.events.tell(event);
        match effect {
            Effect::Become(state) => {
                let reason = inner.state.progress(self.shared.clock.now()).reason;
                tell(ClusterEvent::ShutdownChanged { state: state.as_str(), reason });
            }
            Effect::Refuse(refusal) => tell(ClusterEvent::ShutdownRefused { reason: refusal.to_string() }),
            Effect::Tell { phase, task, outcome } => {
                let (is_done, note) = match outcome {
                    Ok(note) => (true, note),
                    Err(error) => (false, error),
                };
                tell(ClusterEvent::ShutdownTaskEnded { phase, task, is_done, note });
            }
            Effect::Start { phase, tasks } => {
                let reason = inner.state.progress(self.shared.clock.now()).reason;
                inner.running.clear();
                for task in tasks {
                    let work = inner.work.remove(&(phase, task.clone()));
                    inner.running.push(self.start(phase, task, reason.clone(), work));
                }
            }
            Effect::Abandon => inner.running.drain(..).for_each(|task| task.abort()),
            Effect::SetDeadline(after, generation) => {
                // A weak reference, so that a pending deadline keeps nothing alive after the shutdown is complete.
                let shared = Arc::downgrade(&self.shared);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    if let Some(shared) = shared.upgrade() {
                        Self { shared }.input(Input::Deadline(generation));
                    }
                });
            }
            Effect::Force => {
                let coordinator = self.clone();
                // Outside the lock: the force function may query the progress.
                tokio::spawn(async move {
                    (coordinator.shared.force)().await;
                    coordinator.input(Input::ForcedEnd);
                });
            }
            Effect::Finish(outcome) => {
                undone.extend(std::mem::take(&mut inner.work).into_values());
                self.shared.outcome.send_replace(Some(outcome));
            }
        }
    }

    fn start(&self, phase: &'static str, task: String, reason: String, work: Option<Work>) -> AbortHandle {
        let doing = tokio::spawn(async move {
            match work {
                Some(work) => work(reason).await,
                None => Err("there is nothing to do".to_owned()),
            }
        });
        let (coordinator, handle) = (self.clone(), doing.abort_handle());
        tokio::spawn(async move {
            let outcome = doing.await.unwrap_or_else(|error| Err(format!("the task ended: {error}")));
            coordinator.input(Input::TaskEnded { phase, task, outcome });
        });
        handle
    }
}
