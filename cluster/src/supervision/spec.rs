//! What a child and a supervisor are, as data.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorStatus, SpawnErr};

use super::actor::Supervisor;
use super::context::Context;
use super::escalation::EscalationTable;
use super::failure::Failure;
use super::intensity::{RestartIntensity, SlotBudget};
use super::message::SupervisorMessage;
use super::panic::PanicSlot;
use super::start_cancellation::StartCancellation;
use super::strategy::RestartStrategy;
use super::supervised_actor::{HandlerLimits, SupervisedActor};
use crate::config::{FieldError, require};
use crate::id::{ActorName, ActorPriority, ActorType, Tag};
use crate::mailbox::{Address, AnyAddress};
use crate::registry::{Profile, Registration};

/// Whether an ended child is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartType {
    /// Always.
    Permanent,
    /// Only when it ended abnormally: by an error, a panic or a kill.
    Transient,
    /// Never by itself; its spec is dropped with it, and it is not brought back when its siblings cycle. While it runs its
    /// spec is kept, for it can be restarted, or suspended and resumed, when somebody asks for that.
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
    /// At once, without its `post_stop`.
    BrutalKill,
    /// In order, and killed if that takes longer.
    Within(Duration),
    /// In order, however long it takes: for supervisors, whose children have deadlines of their own.
    Infinity,
}

/// Which children are restarted when one fails (Erlang/OTP's strategies). A cycle of many looks at all of them for
/// each step: for tens of children, not for thousands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SupervisionStrategy {
    /// The one that failed.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those started after it.
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
    /// No; then no child may be significant.
    #[default]
    Never,
    /// With the first of them.
    AnySignificant,
    /// With the last of them.
    AllSignificant,
}

/// Starts a child under the given supervisor.
pub type Starter = Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// What a child leaves behind for its supervisor, and what is asked of one that cannot be reached yet.
#[derive(Debug, Default)]
pub struct ExitChannel {
    /// The panic that ended it.
    pub panic: Arc<PanicSlot>,
    /// Why it gave up, if it is a supervisor.
    raised: Mutex<Option<Failure>>,
    /// For whom it halted consensus, if it is a supervisor.
    halted: Mutex<Vec<ActorName>>,
    /// Calls it back while it starts, if it is a supervisor.
    pub start: StartCancellation,
}

impl ExitChannel {
    /// Leaves the failure a supervisor gives up for.
    pub fn raise(&self, failure: Failure) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Remembers that consensus was halted in this child's name.
    pub fn halted(&self, child: ActorName) {
        self.halted.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }

    /// Takes the names it was halted in.
    pub fn take_halted(&self) -> Vec<ActorName> {
        std::mem::take(&mut self.halted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes it.
    pub fn take_raised(&self) -> Option<Failure> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the decisions know of a child.
#[derive(Clone, Debug)]
pub struct ChildPolicy {
    /// Unique under its supervisor.
    pub name: ActorName,
    /// Whether it is started again.
    pub restart: RestartType,
    /// How its restarts are spaced.
    pub strategy: RestartStrategy,
    /// Whether it starts again at the next slot boundary only: the alignment of the *moment*, see
    /// [`super::slot`].
    pub at_boundary: bool,
    /// Whether its end can end its supervisor: see [`AutoShutdown`].
    pub significant: bool,
    /// Whether it supervises others.
    pub is_supervisor: bool,
    /// Its tier.
    pub priority: ActorPriority,
    /// Whom it needs, in the whole node: a failure that follows one of theirs is told as a cascade.
    pub depends_on: Arc<[ActorName]>,
}

/// One child: how it is started, whether and when it is restarted, how it is stopped.
#[derive(Clone)]
pub struct ChildSpec {
    /// What the decisions know.
    pub policy: Arc<ChildPolicy>,
    /// How long it may take to start. One that takes longer counts as failed.
    pub start_deadline: Duration,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// What the registry says of it.
    pub profile: Arc<Profile>,
    /// Where it is reached by those who find it in the registry, if anybody may.
    pub address: Option<AnyAddress>,
    pub(super) start: Starter,
    pub(super) exit: Arc<ExitChannel>,
}

/// The longest a worker may take to start, unless its spec says otherwise.
const WORKER_START_DEADLINE: Duration = Duration::from_secs(10);
/// The longest a worker may take to stop before it is killed, unless its spec says otherwise: half a slot.
const WORKER_SHUTDOWN: Shutdown = Shutdown::Within(Duration::from_secs(1));
/// Slots of a supervisor's mailbox for what it is asked; what it tells itself takes none.
const MAILBOX: usize = 1_024;
/// The longest an orphan is waited for.
const ORPHAN_DEADLINE: Duration = Duration::from_secs(1);

/// The last actor a spec started.
///
/// When a supervisor is killed its children are killed too, but later: a successor that starts meanwhile would
/// find their names, files and ports taken.
#[derive(Clone, Default)]
struct LastIncarnation(Arc<futures::lock::Mutex<Option<Predecessor>>>);

/// An actor, and the task it runs in.
type Predecessor = (ActorCell, JoinHandle<()>);

impl LastIncarnation {
    async fn see_off(&self) {
        let mut last = self.0.lock().await;
        let Some((orphan, task)) = last.as_mut() else { return };
        if orphan.get_status() != ActorStatus::Stopped {
            orphan.kill();
        }
        // Its end is told before its state is dropped, and with it files and ports; its task ends after both. One
        // that does not even yield to a kill makes the start fail, which tells more, and is waited for again.
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
    /// A permanent worker that is restarted at once. `make` gives a fresh actor and its arguments for every
    /// start; the actor's ractor name is `prefix/name`, for the registry of names spans the process.
    pub fn worker<A: Actor>(
        prefix: &str,
        name: &ActorName,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self::watched(prefix, name, HandlerLimits::default(), make)
    }

    /// The same, with deadlines for its handlers and limits for its mailbox.
    pub fn watched<A: Actor>(
        prefix: &str,
        name: &ActorName,
        limits: HandlerLimits<A::Msg>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        Self::build(prefix, name, limits, Arc::default(), make)
    }

    /// A permanent supervisor with its own children, in the tier they are in.
    pub fn supervisor(spec: SupervisorSpec, context: Context) -> Self {
        let (name, priority, address) = (spec.name.clone(), spec.priority, spec.address.any());
        let start_deadline = spec.start_deadline();
        let exit = Arc::new(ExitChannel::default());
        let (prefix, left) = (context.prefix.clone(), exit.clone());
        let make = move || (Supervisor::raising_to(context.clone(), left.clone()), spec.clone());
        let worker = Self::build(&prefix, &name, HandlerLimits::default(), exit, make);
        let policy = Arc::new(ChildPolicy { is_supervisor: true, priority, ..(*worker.policy).clone() });
        // Each of its children has a deadline, also those that are added later.
        Self { policy, start_deadline, shutdown: Shutdown::Infinity, address: Some(address), ..worker }
    }

    fn build<A: Actor>(
        prefix: &str,
        name: &ActorName,
        limits: HandlerLimits<A::Msg>,
        exit: Arc<ExitChannel>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let full_name = format!("{prefix}/{name}");
        let limits = Arc::new(limits.reporting_to(exit.panic.clone()));
        let last = LastIncarnation::default();
        let start: Starter = Arc::new(move |supervisor| {
            let (actor, arguments) = make();
            let guarded = SupervisedActor::new(actor, limits.clone());
            let (name, last) = (full_name.clone(), last.clone());
            Box::pin(async move {
                last.see_off().await;
                let (child, task) = Actor::spawn_linked(Some(name), guarded, arguments, supervisor).await?;
                Ok(last.remember(child.get_cell(), task).await)
            })
        });
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
            profile: Arc::new(Profile::new(ActorType::of::<A>())),
            address: None,
            start,
            exit,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut ChildPolicy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    /// The same child with another restart type.
    #[must_use]
    pub fn restart(self, restart: RestartType) -> Self {
        self.with(|policy| policy.restart = restart)
    }

    /// The same child, whose restarts are spaced like this.
    #[must_use]
    pub fn strategy(self, strategy: RestartStrategy) -> Self {
        self.with(|policy| policy.strategy = strategy)
    }

    /// The same child, which starts again at the next slot boundary only.
    #[must_use]
    pub fn at_boundary(self) -> Self {
        self.with(|policy| policy.at_boundary = true)
    }

    /// The same child, whose end can end its supervisor.
    #[must_use]
    pub fn significant(self) -> Self {
        self.with(|policy| policy.significant = true)
    }

    /// The same child, stopped like this.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// The same child, which may take this long to start.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// The same child, which needs these.
    #[must_use]
    pub fn depends_on(self, names: &[&ActorName]) -> Self {
        self.with(|policy| policy.depends_on = names.iter().map(|&name| name.clone()).collect())
    }

    /// The same child in this tier.
    #[must_use]
    pub fn priority(self, priority: ActorPriority) -> Self {
        self.with(|policy| policy.priority = priority)
    }

    /// The same child, found in the registry by this type instead of its Rust type.
    #[must_use]
    pub fn actor_type(mut self, actor_type: ActorType) -> Self {
        Arc::make_mut(&mut self.profile).actor_type = actor_type;
        self
    }

    /// The same child, found in the registry by these tags too.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        Arc::make_mut(&mut self.profile).tags.extend(tags);
        self
    }

    /// The same child, of which the registry says this too.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.profile).metadata.insert(key.into(), value.into());
        self
    }

    /// The same child, reached here by those who find it in the registry.
    #[must_use]
    pub fn reached_at<M: Send + 'static>(mut self, address: &Address<M>) -> Self {
        self.address = Some(address.any());
        self
    }

    /// Its name.
    pub fn name(&self) -> &ActorName {
        &self.policy.name
    }

    /// What it is registered with under `supervisor`.
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

/// A supervisor: its children in start order, who is restarted with whom, and its budgets.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Unique in the node.
    pub name: ActorName,
    /// Where the supervisor is reached, whichever incarnation of it runs.
    pub address: Address<SupervisorMessage>,
    /// In start order; they stop in reverse.
    pub children: Vec<ChildSpec>,
    /// Who is restarted when one fails.
    pub group: SupervisionStrategy,
    /// Restarts allowed before it gives up.
    pub intensity: RestartIntensity,
    /// Slots its restarts may miss before it gives up.
    pub slot_budget: SlotBudget,
    /// What significant children mean.
    pub auto_shutdown: AutoShutdown,
    /// What is done about failures.
    pub escalation: EscalationTable,
    /// How long the node stays up with consensus halted before [`super::EscalationStep::StopNode`] stops it.
    pub halt_for: Duration,
    /// The tier its children are in.
    pub priority: ActorPriority,
    /// Whether its children stop all at once and are forgotten when they end for good: for children by the
    /// thousand, which come and go.
    pub is_dynamic: bool,
}

/// The longest any sum of deadlines comes to.
const SUM_MAX: Duration = Duration::from_hours(24);

fn sum(deadlines: impl Iterator<Item = Duration>) -> Duration {
    deadlines.fold(Duration::ZERO, |sum, deadline| sum.saturating_add(deadline).min(SUM_MAX))
}

impl SupervisorSpec {
    /// A one-for-one supervisor of these children with the default budgets, Erlang/OTP's escalation and the
    /// normal tier.
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

    /// A one-for-one supervisor without children yet, for children by the thousand.
    pub fn dynamic(name: ActorName) -> Self {
        Self { is_dynamic: true, ..Self::new(name, Vec::new()) }
    }

    /// Checks what types do not: names are unique, budgets have a window, and significant children mean something.
    ///
    /// Ranges are for those who configure: a library's user may well want more than 1,000 restarts.
    pub fn validate(&self) -> Result<(), FieldError> {
        let mut names = HashSet::new();
        for child in &self.children {
            let is_first = names.insert(child.name());
            require(is_first, "children.name", child.name(), "each name once under a supervisor")?;
            self.validate_child(child)?;
        }
        // A budget whose window is over at once is none.
        let within = self.intensity.within;
        require(!within.is_zero(), "intensity.within", within, "more than 0")?;
        let within_slots = self.slot_budget.within_slots;
        require(within_slots > 0, "slot_budget.within_slots", within_slots, "1 or more")?;
        let alone = self.group == SupervisionStrategy::OneForOne;
        require(alone || !self.is_dynamic, "group", self.group, "one-for-one for a dynamic supervisor")
    }

    /// The same for one child.
    pub fn validate_child(&self, child: &ChildSpec) -> Result<(), FieldError> {
        child.policy.strategy.validate()?;
        child.profile.validate()?;
        let significant = child.policy.significant;
        let may = self.auto_shutdown != AutoShutdown::Never && child.policy.restart != RestartType::Permanent;
        let expected = "false, unless `auto_shutdown` is set and the child is transient or temporary";
        require(may || !significant, "significant", significant, expected)
    }

    /// The longest its children may take to start one after the other, and a little for itself.
    pub fn start_deadline(&self) -> Duration {
        sum(self.children.iter().map(|child| child.start_deadline)) + Duration::from_secs(1)
    }
}
