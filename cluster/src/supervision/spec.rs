//! What a child is, as data.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};

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
    /// How long it may take to stop before it is killed.
    pub stop_deadline: Duration,
    /// Whether it supervises others.
    pub is_supervisor: bool,
    pub(super) start: Starter,
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
        let start: Starter = Arc::new(move |supervisor| {
            let (actor, arguments) = make();
            let name = full_name.clone();
            Box::pin(async move {
                let (child, _) = Actor::spawn_linked(Some(name), actor, arguments, supervisor).await?;
                Ok(child.get_cell())
            })
        });
        Self {
            name: name.clone(),
            restart: RestartType::Permanent,
            stop_deadline: WORKER_STOP_DEADLINE,
            is_supervisor: false,
            start,
        }
    }

    /// A permanent supervisor with its own children.
    pub fn supervisor(spec: SupervisorSpec, context: super::actor::Context) -> Self {
        let name = spec.name.clone();
        let stop_deadline = spec.stop_deadline();
        let full_name = format!("{}/{name}", context.prefix);
        let start: Starter = Arc::new(move |supervisor| {
            let (spec, context, name) = (spec.clone(), context.clone(), full_name.clone());
            Box::pin(async move {
                let (child, _) =
                    Actor::spawn_linked(Some(name), Supervisor::new(context), spec, supervisor).await?;
                Ok(child.get_cell())
            })
        });
        Self { name, restart: RestartType::Permanent, stop_deadline, is_supervisor: true, start }
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
    /// The longest its children may take to stop one after the other, and a little for itself.
    pub fn stop_deadline(&self) -> Duration {
        self.children.iter().map(|child| child.stop_deadline).sum::<Duration>() + Duration::from_millis(500)
    }
}
