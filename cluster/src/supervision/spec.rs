//! Specifications of children and supervisors, as data.

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::concurrency::JoinHandle;
use ractor::{ActorCell, ActorStatus, SpawnErr};

use super::actor::Supervisor;
use super::context::Context;
use super::escalation::EscalationTable;
use super::failure::Failure;
use super::handling::Traced;
use super::intensity::{RestartIntensity, SlotBudget};
use super::message::SupervisorMessage;
use super::panic::PanicSlot;
use super::start_cancellation::StartCancellation;
use super::strategy::RestartStrategy;
use super::supervised_actor::{HandlerLimits, ShellConfig, SupervisedActor};
use crate::actor::Actor;
use crate::config::{FieldError, require};
use crate::id::{ActorName, ActorPriority, ActorType, Tag};
use crate::mailbox::{Address, AnyAddress};
use crate::registry::{Profile, Registration};

/// Whether a child is restarted after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartType {
    /// Always.
    Permanent,
    /// Only when it ended abnormally: by an error, a panic or a kill.
    Transient,
    /// Never automatically. Its spec is dropped when it ends, and a restart cycle of its siblings does not restart it.
    /// While it runs, its spec is kept, because it can be restarted, or suspended and resumed, on request.
    Temporary,
}

impl RestartType {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
        }
    }
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Kill at once, without running its `post_stop`.
    BrutalKill,
    /// Stop gracefully; kill if that takes longer than this.
    Within(Duration),
    /// Stop gracefully without a deadline: for supervisors, whose children have their own deadlines.
    Infinity,
}

/// Which children are restarted when one fails (Erlang/OTP's strategies). Each step of a restart cycle scans all
/// children of the supervisor, so group strategies suit tens of children, not thousands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SupervisionStrategy {
    /// The failed child only.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The failed child and the children started after it.
    RestForOne,
}

impl SupervisionStrategy {
    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneForOne => "one_for_one",
            Self::OneForAll => "one_for_all",
            Self::RestForOne => "rest_for_one",
        }
    }
}

/// Whether a supervisor ends itself when significant children have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Never; then no child may be significant.
    #[default]
    Never,
    /// When the first significant child has ended.
    AnySignificant,
    /// When the last significant child has ended.
    AllSignificant,
}

/// Starts a child under the given supervisor.
pub type Starter = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// Exit facts of a child that ractor's event cannot carry, and the cancellation of a start, for a supervisor that has
/// no mailbox yet.
#[derive(Debug, Default)]
pub struct ExitChannel {
    /// Panic that ended the child.
    pub panic: Arc<PanicSlot>,
    /// Failure a supervisor gave up for.
    raised: Mutex<Option<Failure>>,
    /// Actors on whose behalf a supervisor halted consensus.
    halted: Mutex<Vec<ActorName>>,
    /// Cancels the start of a supervisor.
    pub start: StartCancellation,
}

impl ExitChannel {
    /// Stores the failure that a supervisor gives up for.
    pub fn raise(&self, failure: Failure) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Records that consensus was halted on behalf of `child`.
    pub fn halted(&self, child: ActorName) {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Takes the actors on whose behalf consensus was halted.
    pub fn take_halted(&self) -> Vec<ActorName> {
        std::mem::take(&mut self.halted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the failure that the supervisor gave up for.
    pub fn take_raised(&self) -> Option<Failure> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The part of a child's specification that restart decisions depend on.
#[derive(Clone, Debug)]
pub struct ChildPolicy {
    /// Name of the child, unique under its supervisor.
    pub name: ActorName,
    /// Whether the child is restarted after it ended.
    pub restart: RestartType,
    /// Delay between its restarts.
    pub strategy: RestartStrategy,
    /// Whether it is restarted only at the next slot boundary: this aligns the *moment*, see [`super::slot`].
    pub at_boundary: bool,
    /// Whether its exit can end its supervisor: see [`AutoShutdown`].
    pub significant: bool,
    /// Whether the child is a supervisor.
    pub is_supervisor: bool,
    /// Tier of the child.
    pub priority: ActorPriority,
    /// Actors of the node that it depends on: a failure that follows one of theirs is reported as a cascade, and when the
    /// supervisor stops, its siblings among them stop after it. A cycle restarts in start order only.
    pub depends_on: Arc<[ActorName]>,
}

/// One child: how to start it, whether and when to restart it, and how to stop it.
#[derive(Clone)]
pub struct ChildSpec {
    /// Inputs for restart decisions.
    pub policy: Arc<ChildPolicy>,
    /// Maximum time to start. A start that takes longer counts as failed.
    pub start_deadline: Duration,
    /// How the child is stopped.
    pub shutdown: Shutdown,
    /// Type, tags and metadata in the registry.
    pub profile: Arc<Profile>,
    /// Address that the registry hands out; `None` if the child is not reachable through the registry.
    pub address: Option<AnyAddress>,
    pub(super) start: Starter,
    pub(super) exit: Arc<ExitChannel>,
}

/// Default maximum time for a worker to start.
const WORKER_START_DEADLINE: Duration = Duration::from_secs(10);
/// Default maximum time for a worker to stop before it is killed: half a slot.
const WORKER_SHUTDOWN: Shutdown = Shutdown::Within(Duration::from_secs(1));
/// Slots of a supervisor's mailbox for requests; messages to itself take none.
const MAILBOX: usize = 1_024;
/// Maximum time to wait for an orphan to end.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(1);

/// The last actor that a spec started.
///
/// When a supervisor is killed, its children are killed too, but only later. A successor that starts in between would
/// find their names, files and ports still in use.
#[derive(Clone, Default)]
struct LastIncarnation(Arc<futures::lock::Mutex<Option<Predecessor>>>);

/// An actor and the task that it runs in.
type Predecessor = (ActorCell, JoinHandle<()>);

impl LastIncarnation {
    async fn see_off(&self) {
        let mut last = self.0.lock().await;
        let Some((orphan, task)) = last.as_mut() else { return };
        if orphan.get_status() != ActorStatus::Stopped {
            orphan.kill();
        }
        // ractor reports the exit before it drops the actor's state, and with it files and ports; the task ends after
        // both. If the orphan does not yield even to a kill, the start fails with a more specific error, and the next
        // start waits for the orphan again.
        if ractor::concurrency::timeout(ORPHAN_DEADLINE, task).await.is_ok() {
            *last = None;
        }
    }

    async fn remember(&self, cell: ActorCell, task: JoinHandle<()>) -> ActorCell {
        *self.0.lock().await = Some((cell.clone(), task));
        cell
    }
}

impl ChildSpec {
    /// A permanent worker that is restarted at once, reached at `address`, whose name is its name. `make` gives a fresh
    /// actor and its arguments for every start.
    pub fn worker<A: Actor>(
        context: &Context,
        address: &Address<A::Msg>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self::limited(context, address, HandlerLimits::default(), make)
    }

    /// The same, with limits for its handlers and its mailbox.
    pub fn limited<A: Actor>(
        context: &Context,
        address: &Address<A::Msg>,
        limits: HandlerLimits<A::Msg>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let traced = Traced::of(address.name(), &context.events);
        Self::build(context, address, limits, traced, Arc::default(), make)
    }

    /// A permanent supervisor with its own children, in the tier of `spec`.
    pub fn supervisor(spec: SupervisorSpec, context: &Context) -> Self {
        let (priority, address) = (spec.priority, spec.address.clone());
        let start_deadline = spec.start_deadline();
        let exit = Arc::new(ExitChannel::default());
        let (left, given) = (exit.clone(), context.clone());
        let make = move || (Supervisor::raising_to(given.clone(), left.clone()), spec.clone());
        let worker = Self::build(context, &address, HandlerLimits::default(), None, exit, make);
        let policy = Arc::new(ChildPolicy { is_supervisor: true, priority, ..(*worker.policy).clone() });
        // Each of its children has a deadline, including those added later.
        Self { policy, start_deadline, shutdown: Shutdown::Infinity, ..worker }
    }

    fn build<A: Actor>(
        context: &Context,
        address: &Address<A::Msg>,
        limits: HandlerLimits<A::Msg>,
        traced: Option<Traced>,
        exit: Arc<ExitChannel>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        // ractor's registry of names spans the process.
        let full_name = format!("{}/{}", context.prefix, address.name());
        let config = Arc::new(ShellConfig {
            address: address.clone(),
            limits,
            panic: Some(exit.panic.clone()),
            traced,
            clock: context.clock.clone(),
            refused_before: AtomicU64::new(0),
        });
        let last = LastIncarnation::default();
        let start: Starter = Arc::new(move |supervisor| {
            let (actor, arguments) = make();
            let shell = SupervisedActor::new(actor, config.clone());
            let (name, last) = (full_name.clone(), last.clone());
            Box::pin(async move {
                last.see_off().await;
                let (child, task) =
                    ractor::Actor::spawn_linked(Some(name), shell, arguments, supervisor).await?;
                Ok(last.remember(child.get_cell(), task).await)
            })
        });
        Self::started_by(address.name(), Some(address.any()), ActorType::of::<A>(), exit, start)
    }

    /// A permanent worker that is written for ractor itself, such as a remotable actor: it has no address, no health
    /// checks, no limits, and its panics are known by their text only.
    pub fn ractor<A: ractor::Actor>(
        context: &Context,
        name: &ActorName,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let full_name = format!("{}/{name}", context.prefix);
        let last = LastIncarnation::default();
        let start: Starter = Arc::new(move |supervisor| {
            let ((actor, arguments), name, last) = (make(), full_name.clone(), last.clone());
            Box::pin(async move {
                last.see_off().await;
                let (child, task) =
                    ractor::Actor::spawn_linked(Some(name), actor, arguments, supervisor).await?;
                Ok(last.remember(child.get_cell(), task).await)
            })
        });
        Self::started_by(name, None, ActorType::of::<A>(), Arc::default(), start)
    }

    fn started_by(
        name: &ActorName,
        address: Option<AnyAddress>,
        actor_type: ActorType,
        exit: Arc<ExitChannel>,
        start: Starter,
    ) -> Self {
        let policy = ChildPolicy {
            name: name.clone(),
            restart: RestartType::Permanent,
            strategy: RestartStrategy::Immediate,
            at_boundary: false,
            significant: false,
            is_supervisor: false,
            priority: ActorPriority::Normal,
            depends_on: Arc::default(),
        };
        Self {
            policy: Arc::new(policy),
            start_deadline: WORKER_START_DEADLINE,
            shutdown: WORKER_SHUTDOWN,
            profile: Arc::new(Profile::new(actor_type)),
            address,
            start,
            exit,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut ChildPolicy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    /// Sets the restart type.
    #[must_use]
    pub fn restart(self, restart: RestartType) -> Self {
        self.with(|policy| policy.restart = restart)
    }

    /// Sets the delay between restarts.
    #[must_use]
    pub fn strategy(self, strategy: RestartStrategy) -> Self {
        self.with(|policy| policy.strategy = strategy)
    }

    /// Restarts the child only at the next slot boundary.
    #[must_use]
    pub fn at_boundary(self) -> Self {
        self.with(|policy| policy.at_boundary = true)
    }

    /// Lets the exit of the child end its supervisor.
    #[must_use]
    pub fn significant(self) -> Self {
        self.with(|policy| policy.significant = true)
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets the maximum time to start.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// Sets the actors that the child depends on.
    #[must_use]
    pub fn depends_on(self, names: &[&ActorName]) -> Self {
        self.with(|policy| policy.depends_on = names.iter().map(|&name| name.clone()).collect())
    }

    /// Sets the tier.
    #[must_use]
    pub fn priority(self, priority: ActorPriority) -> Self {
        self.with(|policy| policy.priority = priority)
    }

    /// Sets the type in the registry, instead of the Rust type.
    #[must_use]
    pub fn actor_type(mut self, actor_type: ActorType) -> Self {
        Arc::make_mut(&mut self.profile).actor_type = actor_type;
        self
    }

    /// Adds tags to find the child by in the registry.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        Arc::make_mut(&mut self.profile).tags.extend(tags);
        self
    }

    /// Adds a metadata entry to the registry.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.profile).metadata.insert(key.into(), value.into());
        self
    }

    /// Name of the child.
    pub fn name(&self) -> &ActorName {
        &self.policy.name
    }

    /// The registration of the child under `supervisor`.
    pub(super) fn registration(&self, supervisor: &ActorName) -> Registration {
        Registration {
            name: self.policy.name.clone(),
            profile: self.profile.clone(),
            priority: self.policy.priority,
            supervisor: Some(supervisor.clone()),
            address: self.address.clone(),
        }
    }
}

/// A supervisor: its children in start order, its restart strategy and its budgets.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Name of the supervisor, unique in the node.
    pub name: ActorName,
    /// Address of the supervisor; it stays the same across restarts.
    pub address: Address<SupervisorMessage>,
    /// Children in start order; they stop in reverse order, but after their siblings that depend on them.
    pub children: Vec<ChildSpec>,
    /// Which children are restarted when one fails.
    pub group: SupervisionStrategy,
    /// Number of restarts allowed before the supervisor gives up.
    pub intensity: RestartIntensity,
    /// Number of slots its restarts may miss before it gives up.
    pub slot_budget: SlotBudget,
    /// Whether it ends itself when significant children have ended.
    pub auto_shutdown: AutoShutdown,
    /// Escalation steps by tier and failure class.
    pub escalation: EscalationTable,
    /// Time the node stays up with consensus halted before [`super::EscalationStep::StopNode`] stops it.
    pub halt_for: Duration,
    /// Tier of the supervisor and of its children.
    pub priority: ActorPriority,
    /// Whether its children stop all at once and are forgotten when they end for good: for thousands of short-lived
    /// children.
    pub is_dynamic: bool,
}

/// Upper limit for a sum of deadlines.
const SUM_MAX: Duration = Duration::from_hours(24);

fn sum(deadlines: impl Iterator<Item = Duration>) -> Duration {
    deadlines.fold(Duration::ZERO, |sum, deadline| sum.saturating_add(deadline).min(SUM_MAX))
}

impl SupervisorSpec {
    /// A one-for-one supervisor of `children` with the default budgets, Erlang/OTP's escalation and normal priority.
    pub fn new(name: ActorName, children: Vec<ChildSpec>) -> Self {
        let address = Address::new(name.clone(), MAILBOX);
        Self {
            name,
            address,
            children,
            group: SupervisionStrategy::OneForOne,
            intensity: RestartIntensity::default(),
            slot_budget: SlotBudget::default(),
            auto_shutdown: AutoShutdown::Never,
            escalation: EscalationTable::OTP,
            halt_for: Duration::ZERO,
            priority: ActorPriority::Normal,
            is_dynamic: false,
        }
    }

    /// A one-for-one supervisor without initial children, for thousands of dynamic ones.
    pub fn dynamic(name: ActorName) -> Self {
        Self { is_dynamic: true, ..Self::new(name, Vec::new()) }
    }

    /// Checks what the types do not: child names are unique, budget windows are not empty, children are significant
    /// only where auto-shutdown is set, and a dynamic supervisor is one-for-one.
    ///
    /// The ranges of the configuration do not apply: a library user may want more than 1,000 restarts.
    pub fn validate(&self) -> Result<(), FieldError> {
        let mut names = HashSet::new();
        for child in &self.children {
            let is_first = names.insert(child.name());
            require(is_first, "children.name", child.name(), "each name once under a supervisor")?;
            self.validate_child(child)?;
        }
        // With an empty window the budget would never be exceeded.
        let within = self.intensity.within;
        require(!within.is_zero(), "intensity.within", within, "more than 0")?;
        let within_slots = self.slot_budget.within_slots;
        require(within_slots > 0, "slot_budget.within_slots", within_slots, "1 or more")?;
        let alone = self.group == SupervisionStrategy::OneForOne;
        require(alone || !self.is_dynamic, "group", self.group, "one-for-one for a dynamic supervisor")
    }

    /// Checks the spec of one child.
    pub fn validate_child(&self, child: &ChildSpec) -> Result<(), FieldError> {
        child.policy.strategy.validate()?;
        child.profile.validate()?;
        let significant = child.policy.significant;
        let may = self.auto_shutdown != AutoShutdown::Never && child.policy.restart != RestartType::Permanent;
        let expected = "false, unless `auto_shutdown` is set and the child is transient or temporary";
        require(may || !significant, "significant", significant, expected)
    }

    /// Maximum time to start all children one after the other, plus one second for the supervisor itself.
    pub fn start_deadline(&self) -> Duration {
        sum(self.children.iter().map(|child| child.start_deadline)) + Duration::from_secs(1)
    }
}
