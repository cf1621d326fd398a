//! Stops the actors of a supervision tree in planned stages, each through its supervisor.

use std::time::Duration;

use futures::StreamExt as _;

use super::plan::{DependencyCycle, StopTarget, stages};
use crate::id::ActorName;
use crate::mailbox::Address;
use crate::supervision::child::ChildPhase;
use crate::supervision::command::Command;
use crate::supervision::tree::Worker;
use crate::supervision::{SupervisorMessage, TreeReader};

/// Maximum number of actors asked to stop at once: less than the capacity of a supervisor's mailbox.
const AT_ONCE: usize = 512;

/// Delay before an actor that is already stopping is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Result of stopping the actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Number of actors that stopped now or had stopped before.
    pub stopped: usize,
    /// Number of stages.
    pub stages: usize,
    /// Actors that did not stop in time and were killed.
    pub forced: Vec<ActorName>,
    /// Actors whose supervisor did not confirm the stop, with the reason.
    pub failed: Vec<(ActorName, String)>,
}

impl Stopped {
    /// Formats the result as a sentence; an error if an actor may still be running.
    pub fn note(&self) -> Result<String, String> {
        let mut note = format!("{} actors stopped in {} stages", self.stopped, self.stages);
        if !self.forced.is_empty() {
            let names: Vec<_> = self.forced.iter().map(ActorName::as_str).collect();
            note = format!("{note}; killed at their deadline: {}", names.join(", "));
        }
        if self.failed.is_empty() {
            return Ok(note);
        }
        let failed: Vec<_> = self.failed.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        Err(format!("{note}; not seen to stop: {}", failed.join(", ")))
    }
}

/// Stops every actor of the tree that is not a supervisor, in stages: see [`stages`]. An actor that hangs is killed by
/// its supervisor at its own deadline; a supervisor that does not answer within `deadline` is skipped.
pub async fn stop(tree: &TreeReader, deadline: Duration) -> Result<Stopped, DependencyCycle> {
    stop_workers(tree, tree.workers(), deadline).await
}

/// Like [`stop`], for the actors below the supervisor `root` only.
pub async fn stop_under(
    tree: &TreeReader,
    root: &ActorName,
    deadline: Duration,
) -> Result<Stopped, DependencyCycle> {
    stop_workers(tree, tree.workers_under(root), deadline).await
}

async fn stop_workers(
    tree: &TreeReader,
    workers: Vec<Worker>,
    deadline: Duration,
) -> Result<Stopped, DependencyCycle> {
    let target = |worker: &Worker| StopTarget {
        name: worker.policy.name.clone(),
        priority: worker.policy.priority,
        depends_on: worker.policy.depends_on.to_vec(),
    };
    let targets: Vec<_> = workers.iter().map(target).collect();
    let plan = stages(&targets)?;
    let mut outcome = Stopped { stages: plan.len(), ..Stopped::default() };
    tree.take_killed();
    for stage in plan {
        let asking = stage.into_iter().map(|at| {
            let worker = &workers[at];
            let (name, supervisor) = (worker.policy.name.clone(), worker.supervisor.clone());
            async move {
                let asked = stop_one(tree, &supervisor, &name, deadline).await;
                (name, asked)
            }
        });
        let mut asked = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
        while let Some((name, outcome_of)) = asked.next().await {
            match outcome_of {
                Ok(()) => outcome.stopped += 1,
                Err(why) => outcome.failed.push((name, why)),
            }
        }
    }
    outcome.forced = tree.take_killed();
    Ok(outcome)
}

/// Stops one actor. Succeeds whenever the actor is down, whatever its supervisor answered. An actor that is already
/// stopping, because of a restart or a pending decision, is asked again until that is over.
async fn stop_one(
    tree: &TreeReader,
    supervisor: &Address<SupervisorMessage>,
    name: &ActorName,
    deadline: Duration,
) -> Result<(), String> {
    let mut looks = deadline.as_millis() / AGAIN_AFTER.as_millis();
    loop {
        let Err(why) = ask(supervisor, name, deadline).await else { return Ok(()) };
        let phase = tree.worker(name).map(|worker| worker.phase);
        if phase.is_none_or(ChildPhase::is_down) {
            return Ok(());
        }
        if phase != Some(ChildPhase::Stopping) || looks == 0 {
            return Err(why);
        }
        looks -= 1;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn ask(
    supervisor: &Address<SupervisorMessage>,
    name: &ActorName,
    deadline: Duration,
) -> Result<(), String> {
    let question = |reply| SupervisorMessage::Command(name.clone(), Command::Stop, reply);
    let answer = supervisor.ask(deadline, question).await.map_err(|error| error.to_string())?;
    answer.map_err(|error| error.to_string())
}
