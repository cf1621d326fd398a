//! The public API of supervision: spawns actors, accepts reports of failures, and administers children.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{ActorCell, RpcReplyPort};

use super::actor::Supervisor;
use super::command::Command;
use super::context::Context;
use super::decision::RestartDecision;
use super::failure::{ActorFailureType, Failure};
use super::message::{AdminError, ChildCounts, ChildInfo, Report, StartError, SupervisorMessage};
use super::spec::{ChildSpec, ExitChannel, RestartType, Shutdown, SupervisorSpec};
use super::strategy::{ExponentialBackoffConfig, RestartStrategy};
use super::supervised_actor::{HandlerLimits, spawn};
use crate::actor::Actor;
use crate::config::{FieldError, require, require_between};
use crate::id::{ActorName, ActorPriority, ActorType, Tag};
use crate::mailbox::{Address, CallError};
use crate::registry::Profile;

/// Maximum time an administrative call waits: enough for a stop and a start with their longest usual deadlines.
const DEADLINE: Duration = Duration::from_secs(30);

/// Supervision settings of one actor.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisedActorConfig {
    /// Name of the actor, unique in the node.
    pub name: ActorName,
    /// Tier; together with the failure class it selects the escalation path. Default normal.
    pub priority: ActorPriority,
    /// Whether it is restarted after it ended. Default permanent.
    pub restart: RestartType,
    /// Delay between its restarts. Default immediate.
    pub strategy: RestartStrategy,
    /// Whether it is restarted only at the next slot boundary. Default false.
    pub at_boundary: bool,
    /// Number of mailbox slots, 1 to 1,000,000; new messages are rejected when all are occupied. Default 1,024.
    pub mailbox: usize,
    /// Number of rejected messages after which the actor fails and its mailbox is emptied. It is checked after each
    /// message, so it requires a `handler_deadline`, which detects a hanging handler. Default never.
    pub overflow_after: Option<u64>,
    /// Maximum time to start, 1 ms to 1 h. Default 10 s.
    pub start_deadline: Duration,
    /// Maximum time to stop before it is killed, up to 1 h; 0 kills at once. Default 1 s.
    pub stop_deadline: Duration,
    /// Maximum time to handle one message, 1 ms to 1 h. Default unlimited.
    pub handler_deadline: Option<Duration>,
    /// Actors that it depends on: failures that follow theirs are reported as cascades, and when their supervisor stops, its
    /// children among them stop after it. Default none.
    pub depends_on: Vec<ActorName>,
    /// Tags in the registry, at most 16. Default none.
    pub tags: Vec<Tag>,
    /// Metadata in the registry, at most 16 entries. Default none.
    pub metadata: BTreeMap<String, String>,
}

impl SupervisedActorConfig {
    /// The default settings for an actor called `name`.
    pub fn new(name: ActorName) -> Self {
        Self {
            name,
            priority: ActorPriority::Normal,
            restart: RestartType::Permanent,
            strategy: RestartStrategy::Immediate,
            at_boundary: false,
            mailbox: 1_024,
            overflow_after: None,
            start_deadline: Duration::from_secs(10),
            stop_deadline: Duration::from_secs(1),
            handler_deadline: None,
            depends_on: Vec::new(),
            tags: Vec::new(),
            metadata: BTreeMap::new(),
        }
    }

    fn profile(&self, actor_type: ActorType) -> Profile {
        let (tags, metadata) = (self.tags.iter().cloned().collect(), self.metadata.clone());
        Profile { actor_type, tags, metadata }
    }

    /// Checks ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        self.strategy.validate()?;
        self.profile(ActorType::of::<Self>()).validate()?;
        require((1..=1_000_000).contains(&self.mailbox), "mailbox", self.mailbox, "1 to 1000000")?;
        let (least, hour) = (Duration::from_millis(1), Duration::from_hours(1));
        let expected = "between 1ms and 1h";
        require_between("start_deadline", self.start_deadline, (least, hour), expected)?;
        require_between("stop_deadline", self.stop_deadline, (Duration::ZERO, hour), "at most 1h")?;
        let is_found = self.overflow_after.is_none() || self.handler_deadline.is_some();
        require(
            is_found,
            "handler_deadline",
            self.handler_deadline,
            "a deadline, for `overflow_after` is set",
        )?;
        let handler = self.handler_deadline.unwrap_or(least);
        require_between("handler_deadline", handler, (least, hour), expected)
    }
}

/// Handle to a supervisor. Cheap to clone; valid across restarts of the supervisor.
#[derive(Clone)]
pub struct EnhancedSupervision {
    address: Address<SupervisorMessage>,
    context: Context,
}

/// A running supervisor without a parent. Dropping this stops nothing.
pub struct Root {
    supervision: EnhancedSupervision,
    cell: ActorCell,
    exit: Arc<ExitChannel>,
    ended: JoinHandle<()>,
}

impl Deref for Root {
    type Target = EnhancedSupervision;

    fn deref(&self) -> &EnhancedSupervision {
        &self.supervision
    }
}

impl Root {
    /// The supervisor as ractor knows it.
    pub fn cell(&self) -> &ActorCell {
        &self.cell
    }

    /// Waits until the supervisor has ended, and says why.
    pub async fn ended(self) -> RootEnd {
        let _ = self.ended.await;
        match self.exit.take_raised() {
            Some(failure) if !matches!(failure.kind(), ActorFailureType::Ended { .. }) => {
                RootEnd::GaveUp(failure)
            }
            _ => RootEnd::Stopped,
        }
    }
}

/// Why a supervisor without a parent ended.
#[derive(Clone, Debug, PartialEq)]
pub enum RootEnd {
    /// It was stopped or killed, shut itself down with its last significant child, or panicked itself, which is printed.
    Stopped,
    /// It gave up over this failure of a child.
    GaveUp(Failure),
}

impl EnhancedSupervision {
    /// Starts a supervisor without a parent.
    ///
    /// # Errors
    ///
    /// If the spec is invalid, the name is taken in this process, or a child fails to start.
    pub async fn start(spec: SupervisorSpec, context: Context) -> Result<Root, StartError> {
        let (name, address) = (format!("{}/{}", context.prefix, spec.name), spec.address.clone());
        let exit = Arc::new(ExitChannel::default());
        let root = Supervisor::raising_to(context.clone(), exit.clone());
        let (cell, ended) = spawn(Some(name), &address, root, spec).await?;
        Ok(Root { supervision: Self { address, context }, cell, exit, ended })
    }

    /// A handle to a supervisor that is started elsewhere.
    pub fn of(spec: &SupervisorSpec, context: Context) -> Self {
        Self { address: spec.address.clone(), context }
    }

    /// A handle to the supervisor at `address`.
    pub fn at(address: Address<SupervisorMessage>, context: Context) -> Self {
        Self { address, context }
    }

    /// Name of the supervisor.
    pub fn name(&self) -> &ActorName {
        self.address.name()
    }

    /// The state shared by all supervisors of the node.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Starts an actor under this supervisor. `factory` returns a new actor and its arguments for every start; the
    /// returned address stays the same for every incarnation.
    pub async fn spawn_supervised<A: Actor>(
        &self,
        config: SupervisedActorConfig,
        factory: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Result<Address<A::Msg>, AdminError> {
        config.validate()?;
        let address = Address::new(config.name.clone(), config.mailbox);
        let mut limits = HandlerLimits::default();
        if let Some(refusals) = config.overflow_after {
            limits = limits.overflow(refusals);
        }
        if let Some(deadline) = config.handler_deadline {
            limits = limits.deadline(deadline);
        }
        let profile = config.profile(ActorType::of::<A>());
        let mut child = ChildSpec::limited(&self.context, &address, limits, factory)
            .restart(config.restart)
            .strategy(config.strategy)
            .priority(config.priority)
            .start_deadline(config.start_deadline)
            .shutdown(match config.stop_deadline {
                Duration::ZERO => Shutdown::BrutalKill,
                deadline => Shutdown::Within(deadline),
            });
        let policy = Arc::make_mut(&mut child.policy);
        policy.at_boundary = config.at_boundary;
        policy.depends_on = Arc::from(config.depends_on);
        child.profile = Arc::new(profile);
        self.start_child(child).await?;
        Ok(address)
    }

    /// Reports a failure of a running actor that someone else found: the actor is stopped, and the supervisor decides
    /// as if it had failed by itself. Returns the decision.
    pub async fn handle_actor_failure(
        &self,
        actor: &ActorName,
        failure: ActorFailureType,
    ) -> Result<RestartDecision, AdminError> {
        self.report(actor, Report::Failed(Failure::new(failure))).await
    }

    /// Like [`Self::handle_actor_failure`], when restarting the actor alone does not help: takes the next escalation
    /// step.
    pub async fn escalate_failure(
        &self,
        actor: &ActorName,
        failure: ActorFailureType,
    ) -> Result<RestartDecision, AdminError> {
        self.report(actor, Report::Escalated(Failure::new(failure))).await
    }

    /// The delay before restart `attempt`, counted from 1, with this node's block time: see
    /// [`ExponentialBackoffConfig::delay`].
    pub fn calculate_exponential_backoff_delay(
        &self,
        config: &ExponentialBackoffConfig,
        attempt: u32,
        random: f64,
    ) -> Duration {
        config.delay(attempt, random, self.context.block_time)
    }

    /// Adds a child after the existing ones and starts it.
    pub async fn start_child(&self, child: ChildSpec) -> Result<(), AdminError> {
        self.ask(|reply| SupervisorMessage::StartChild(Box::new(child), reply)).await?
    }

    /// Starts a child that is stopped or halted, and ends a halt of consensus on its behalf.
    pub async fn start_stopped(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Start).await
    }

    /// Stops a child; the supervisor keeps its spec, unless the child is temporary.
    pub async fn stop_child(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Stop).await
    }

    /// Stops a child if it runs, then starts it. Not charged to the restart budget.
    pub async fn restart_child(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Restart).await
    }

    /// Stops a child until it is resumed: neither its own failure nor its siblings' failures restart it.
    pub async fn suspend_child(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Suspend).await
    }

    /// Starts a suspended child.
    pub async fn resume_child(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Resume).await
    }

    /// Deletes a child that is down.
    pub async fn delete_child(&self, child: &ActorName) -> Result<(), AdminError> {
        self.command(child, Command::Delete).await
    }

    /// Lists the children, in start order.
    pub async fn list_children(&self) -> Result<Vec<ChildInfo>, AdminError> {
        self.ask(SupervisorMessage::List).await
    }

    /// Counts the children.
    pub async fn count_children(&self) -> Result<ChildCounts, AdminError> {
        self.ask(SupervisorMessage::Count).await
    }

    /// Asks the supervisor to stop its children, those that others depend on after these, else in reverse start order, and
    /// then itself.
    pub fn stop(&self) {
        if let Some(supervisor) = self.address.target() {
            supervisor.stop(Some("shutdown".to_owned()));
        }
    }

    async fn report(&self, child: &ActorName, report: Report) -> Result<RestartDecision, AdminError> {
        self.ask(|reply| SupervisorMessage::Report(child.clone(), report, reply)).await?
    }

    async fn command(&self, child: &ActorName, command: Command) -> Result<(), AdminError> {
        self.ask(|reply| SupervisorMessage::Command(child.clone(), command, reply)).await?
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(RpcReplyPort<R>) -> SupervisorMessage,
    ) -> Result<R, AdminError> {
        let silent = |error: CallError| AdminError::Silent {
            supervisor: self.address.name().clone(),
            reason: error.to_string(),
        };
        self.address.ask(DEADLINE, question).await.map_err(silent)
    }
}
