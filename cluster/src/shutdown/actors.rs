//! Stops the actors of a supervision tree by plan, each through its supervisor.

use std::time::Duration;

use futures::StreamExt as _;

use super::plan::{DependencyCycle, StopTarget, stages};
use crate::id::ActorName;
use crate::mailbox::Address;
use crate::supervision::child::ChildPhase;
use crate::supervision::command::Command;
use crate::supervision::{SupervisorMessage, TreeReader};

/// Actors asked to stop at the same time: fewer than a supervisor's mailbox has slots.
const AT_ONCE: usize = 512;

/// Between two looks at an actor that is stopping already.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What became of the actors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Actors that stopped, or had before.
    pub stopped: usize,
    /// Waves they were stopped in.
    pub stages: usize,
    /// Actors that did not stop in time and were killed.
    pub forced: Vec<ActorName>,
    /// Actors whose supervisor did not see them stop, and why.
    pub failed: Vec<(ActorName, String)>,
}

impl Stopped {
    /// The same as a sentence; an error if somebody may still run.
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

/// Stops every actor of the tree that is no supervisor, in stages: see [`stages`]. An actor that hangs is killed by
/// its supervisor at its own deadline; a supervisor that does not answer within `deadline` is left behind.
pub async fn stop(tree: &TreeReader, deadline: Duration) -> Result<Stopped, DependencyCycle> {
    let workers = tree.workers();
    let target = |worker: &crate::supervision::tree::Worker| StopTarget {
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

/// Stops one actor. Whatever its supervisor could not do: one that does not run is stopped. One that is stopping
/// already, to be started again or to be judged, is asked again until it is over that.
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
    let answer = supervisor.call(deadline, question).await.map_err(|error| error.to_string())?;
    answer.map_err(|error| error.to_string())
}
