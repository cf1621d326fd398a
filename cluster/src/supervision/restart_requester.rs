//! Reports an actor as failed to its supervisor, because of failed health checks or because a linked partner is down.
//!
//! It first checks the actor's phase: an actor that is being started, restarted or stopped is left to its supervisor.

use futures::future::BoxFuture;

use super::child::ChildPhase;
use super::context::Context;
use super::decision::RestartDecision;
use super::enhanced::EnhancedSupervision;
use super::failure::ActorFailureType;
use super::message::AdminError;
use crate::id::ActorName;
use crate::port::{LinkTarget, RestartOutcome, RestartRequester};

/// Finds each actor's supervisor in the tree view and requests a restart.
#[derive(Clone)]
pub struct TreeRestartRequester {
    /// State shared by all supervisors of the node.
    pub context: Context,
}

impl TreeRestartRequester {
    fn face(&self, actor: &ActorName) -> Result<EnhancedSupervision, RestartOutcome> {
        let Some(worker) = self.context.tree.worker(actor) else {
            return Err(RestartOutcome::NotNow(format!("no supervisor has a child {actor}")));
        };
        match worker.phase {
            ChildPhase::Running => Ok(EnhancedSupervision::at(worker.supervisor, self.context.clone())),
            phase => Err(RestartOutcome::NotNow(format!("{actor} is {}", phase.as_str()))),
        }
    }
}

fn remedy(answer: Result<RestartDecision, AdminError>) -> RestartOutcome {
    match answer {
        Ok(decision) if decision.step.is_restart() => RestartOutcome::Restarts,
        Ok(decision) => RestartOutcome::Otherwise(decision.step.as_str().to_owned()),
        Err(error) => RestartOutcome::NotNow(error.to_string()),
    }
}

impl RestartRequester for TreeRestartRequester {
    fn restart(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome> {
        let (face, actor) = (self.face(actor), actor.clone());
        Box::pin(async move {
            let failure = ActorFailureType::HealthCheckFailure { consecutive_failures: failures };
            match face {
                Ok(face) => remedy(face.handle_actor_failure(&actor, failure).await),
                Err(remedy) => remedy,
            }
        })
    }

    fn escalate(&self, actor: &ActorName, failures: u32) -> BoxFuture<'static, RestartOutcome> {
        let (face, actor) = (self.face(actor), actor.clone());
        Box::pin(async move {
            let failure = ActorFailureType::HealthCheckFailure { consecutive_failures: failures };
            match face {
                Ok(face) => remedy(face.escalate_failure(&actor, failure).await),
                Err(remedy) => remedy,
            }
        })
    }
}

impl LinkTarget for TreeRestartRequester {
    fn fail(&self, actor: &ActorName, partner: String, reason: String) -> BoxFuture<'static, RestartOutcome> {
        let (face, actor) = (self.face(actor), actor.clone());
        Box::pin(async move {
            let failure = ActorFailureType::DependencyFailure { service: partner, error: reason };
            match face {
                Ok(face) => remedy(face.handle_actor_failure(&actor, failure).await),
                Err(remedy) => remedy,
            }
        })
    }
}
