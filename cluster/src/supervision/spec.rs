//! What a child is, as data.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorStatus, SpawnErr};

use super::actor::Supervisor;
use super::intensity::RestartIntensity;
use crate::id::ActorName;

/// Whether an ended child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartType {
    /// Always.
    Permanent,
    /// Only when it ended abnormally: by an error, a panic or a kill.
    Transient,
    /// Never.
    Temporary,
}

/// Starts a child under the given supervisor.
pub type Starter = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// One child: how it is started, whether it is restarted, how it is stopped.
#[derive(Clone)]
pub struct ChildSpec {
    /// Unique under its supervisor.
    pub name: ActorName,
    /// Whether it is started again.
    pub restart: RestartType,
    /// How long it may take to start. One that takes longer counts as failed.
    pub start_deadline: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_deadline: Duration,
    /// Whether it supervises others.
    pub is_supervisor: bool,
    pub(super) start: Starter,
}

/// The longest a worker may take to start, unless its spec says otherwise.
const WORKER_START_DEADLINE: Duration = Duration::from_secs(10);
/// The longest an orphan is waited for.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(1);

/// The last actor a spec started.
///
/// When a supervisor is killed its children are killed too, but later: a successor that starts meanwhile would
/// find their names, files and ports taken.
#[derive(Clone, Default)]
struct Last(Arc<Mutex<Option<ActorCell>>>);

impl Last {
    async fn see_off(&self) {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(orphan) = last.filter(|cell| cell.get_status() != ActorStatus::Stopped) {
            // One that does not even yield to a kill makes the start fail, which tells more.
            let _ = orphan.kill_and_wait(Some(ORPHAN_DEADLINE)).await;
        }
    }

    fn remember(&self, cell: ActorCell) -> ActorCell {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cell.clone());
        cell
    }
}

/// The longest a worker may take to stop before it is killed, unless its spec says otherwise: half a slot.
const WORKER_STOP_DEADLINE: Duration = Duration::from_secs(1);

impl ChildSpec {
    /// A permanent worker. `make` gives a fresh actor and its arguments for every start; the actor's ractor
    /// name is `prefix/name`, for the registry of names spans the process.
    pub fn worker<A: Actor>(
        prefix: &str,
        name: &ActorName,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let full_name = format!("{prefix}/{name}");
        let last = Last::default();
        let start: Starter = Arc::new(move |supervisor| {
            let (actor, arguments) = make();
            let (name, last) = (full_name.clone(), last.clone());
            Box::pin(async move {
                last.see_off().await;
                let (child, _) = Actor::spawn_linked(Some(name), actor, arguments, supervisor).await?;
                Ok(last.remember(child.get_cell()))
            })
        });
        Self {
            name: name.clone(),
            restart: RestartType::Permanent,
            start_deadline: WORKER_START_DEADLINE,
            stop_deadline: WORKER_STOP_DEADLINE,
            is_supervisor: false,
            start,
        }
    }

    /// A permanent supervisor with its own children.
    pub fn supervisor(spec: SupervisorSpec, context: super::actor::Context) -> Self {
        let name = spec.name.clone();
        let (start_deadline, stop_deadline) = (spec.start_deadline(), spec.stop_deadline());
        let full_name = format!("{}/{name}", context.prefix);
        let last = Last::default();
        let start: Starter = Arc::new(move |supervisor| {
            let (spec, context, name) = (spec.clone(), context.clone(), full_name.clone());
            let last = last.clone();
            Box::pin(async move {
                last.see_off().await;
                let (child, _) =
                    Actor::spawn_linked(Some(name), Supervisor::new(context), spec, supervisor).await?;
                Ok(last.remember(child.get_cell()))
            })
        });
        let restart = RestartType::Permanent;
        Self { name, restart, start_deadline, stop_deadline, is_supervisor: true, start }
    }

    /// The same child with another restart type.
    #[must_use]
    pub fn restart(mut self, restart: RestartType) -> Self {
        self.restart = restart;
        self
    }
}

/// A supervisor: its children in start order, and its budget. A child that ends is restarted alone
/// (one-for-one).
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Unique in the node.
    pub name: ActorName,
    /// Restarts allowed before it gives up.
    pub intensity: RestartIntensity,
    /// In start order; they stop in reverse.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// The longest its children may take to start one after the other, and a little for itself.
    pub fn start_deadline(&self) -> Duration {
        self.children.iter().map(|child| child.start_deadline).sum::<Duration>() + Duration::from_secs(1)
    }

    /// The longest its children may take to stop one after the other, and a little for itself.
    pub fn stop_deadline(&self) -> Duration {
        self.children.iter().map(|child| child.stop_deadline).sum::<Duration>() + Duration::from_millis(500)
    }
}
