//! The library's front door: a [`System`] of supervised actors, without blocks and without other processes.
//!
//! ```
//! use std::time::Duration;
//!
//! use alys_cluster::prelude::*;
//!
//! /// A request to add to the sum; the reply is the sum.
//! struct Add(u64);
//!
//! impl Request for Add {
//!     type Reply = u64;
//! }
//!
//! struct Counter;
//!
//! impl Actor for Counter {
//!     type Msg = Call<Add>;
//!     type State = u64;
//!     type Arguments = ();
//!
//!     async fn pre_start(&self, _: SelfRef<Call<Add>>, (): ()) -> Result<u64, ActorProcessingErr> {
//!         Ok(0)
//!     }
//!
//!     async fn handle(
//!         &self,
//!         _: SelfRef<Call<Add>>,
//!         call: Call<Add>,
//!         sum: &mut u64,
//!     ) -> Result<(), ActorProcessingErr> {
//!         *sum += call.request.0;
//!         call.reply(*sum);
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::new("example");
//! let root =
//!     system.supervisor("root").one_for_one().intensity(3, Duration::from_secs(10)).start().await?;
//! let counter = root.child("counter", || Counter).permanent().backoff(Backoff::default()).spawn().await?;
//! assert_eq!(counter.call(Add(1)).timeout(Duration::from_secs(1)).await?, 1);
//! root.stop_all(Duration::from_secs(5)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A child that fails is restarted under the same [`Address`]; what its supervisor decided is logged with
//! `tracing::warn!`, so that no panic is silent, and is an event of the [`System`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::actor::Actor;
use crate::clock::SystemClock;
use crate::config::FieldError;
use crate::event::{EventBus, Recorded};
use crate::id::{ActorName, ActorPriority};
use crate::mailbox::Address;
use crate::shutdown::actors::{self, Stopped};
use crate::shutdown::plan::DependencyCycle;
use crate::supervision::{
    AdminError, ChildSpec, Context, EnhancedSupervision, ExponentialBackoffConfig, RestartIntensity,
    RestartStrategy, RestartType, Root, SlotBudget, StartError, SupervisedActorConfig, SupervisionStrategy,
    SupervisorSpec,
};

fn named(name: &str) -> Result<ActorName, FieldError> {
    ActorName::new(name).map_err(|error| FieldError {
        field: "name",
        value: name.to_owned(),
        expected: error.expected,
    })
}

/// Supervision trees that share one clock, one event bus and one registry.
#[derive(Clone)]
pub struct System {
    context: Context,
    /// Whether warnings are to be logged by this system, and are not yet.
    logs_warnings: Arc<AtomicBool>,
}

impl System {
    /// A system whose actors' names in ractor's registry, which spans the process, begin with `name`.
    pub fn new(name: &str) -> Self {
        let clock = Arc::new(SystemClock::default());
        let events = EventBus::new(clock.clone());
        Self { context: Context::new(name, clock, events), logs_warnings: Arc::new(true.into()) }
    }

    /// A system with another clock, event bus, or bound on restarts. What happens in it is on the event bus only.
    pub fn with(context: Context) -> Self {
        Self { context, logs_warnings: Arc::default() }
    }

    /// What all supervisors of this system share: the registry, the events, the view of the tree.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Describes a supervisor without a parent.
    pub fn supervisor(&self, name: &str) -> SupervisorBuilder {
        SupervisorBuilder {
            logs_warnings: self.logs_warnings.clone(),
            ..SupervisorBuilder::new(name, &self.context)
        }
    }
}

/// Logs the warnings of `events` until nothing can be told any more.
async fn log_warnings(mut events: Receiver<Arc<Recorded>>) {
    loop {
        match events.recv().await {
            Ok(recorded) if recorded.event.is_warning() => {
                tracing::warn!(kind = recorded.event.kind(), "{}", recorded.event);
            }
            Ok(_) => {}
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Describes a supervisor: one-for-one, with the default intensity, unless it is told otherwise.
#[must_use = "a supervisor is described here, and started by `start`"]
pub struct SupervisorBuilder {
    spec: Result<SupervisorSpec, FieldError>,
    context: Context,
    logs_warnings: Arc<AtomicBool>,
}

impl SupervisorBuilder {
    fn new(name: &str, context: &Context) -> Self {
        // Slots are a blockchain's; here restarts alone are counted.
        let slot_budget = SlotBudget { max_missed: u32::MAX, within_slots: 1 };
        let spec =
            named(name).map(|name| SupervisorSpec { slot_budget, ..SupervisorSpec::new(name, Vec::new()) });
        Self { spec, context: context.clone(), logs_warnings: Arc::default() }
    }

    fn change(mut self, change: impl FnOnce(&mut SupervisorSpec)) -> Self {
        if let Ok(spec) = &mut self.spec {
            change(spec);
        }
        self
    }

    /// Restarts only the child that failed.
    pub fn one_for_one(self) -> Self {
        self.change(|spec| spec.group = SupervisionStrategy::OneForOne)
    }

    /// Restarts all children when one fails.
    pub fn one_for_all(self) -> Self {
        self.change(|spec| spec.group = SupervisionStrategy::OneForAll)
    }

    /// Restarts the child that failed and those started after it.
    pub fn rest_for_one(self) -> Self {
        self.change(|spec| spec.group = SupervisionStrategy::RestForOne)
    }

    /// Keeps thousands of short-lived children: they stop together, and are forgotten when they end for good. As in
    /// Erlang/OTP, a dynamic supervisor that is itself restarted begins without children; whoever added them adds them
    /// again.
    pub fn dynamic(self) -> Self {
        self.change(|spec| spec.is_dynamic = true)
    }

    /// Gives up after more than `max_restarts` restarts within `within`.
    pub fn intensity(self, max_restarts: u32, within: Duration) -> Self {
        self.change(|spec| spec.intensity = RestartIntensity { max_restarts, within })
    }

    /// Starts the supervisor.
    ///
    /// # Errors
    ///
    /// If a value is out of range, or the name is taken in this process.
    pub async fn start(self) -> Result<Root, StartError> {
        if self.logs_warnings.swap(false, Ordering::Relaxed) {
            tokio::spawn(log_warnings(self.context.events.listen()));
        }
        EnhancedSupervision::start(self.spec?, self.context).await
    }
}

impl Root {
    /// Stops every actor below this root in the order of their dependencies, then the supervisors. A supervisor that does
    /// not answer within `deadline` is skipped; one that has not ended after another `deadline` is killed.
    ///
    /// # Errors
    ///
    /// If the actors depend on one another in a circle. They are stopped then too, each supervisor's in its own order.
    pub async fn stop_all(self, deadline: Duration) -> Result<Stopped, DependencyCycle> {
        let stopped = actors::stop_under(&self.context().tree, self.name(), deadline).await;
        self.stop();
        let cell = self.cell().clone();
        if tokio::time::timeout(deadline, self.ended()).await.is_err() {
            let _ = cell.kill_and_wait(None).await;
        }
        stopped
    }
}

impl EnhancedSupervision {
    /// Describes a child: `make` makes a new actor for every start.
    pub fn child<A, F>(&self, name: &str, make: F) -> ChildBuilder<'_, F>
    where
        A: Actor<Arguments = ()>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        ChildBuilder { supervision: self, config: named(name).map(SupervisedActorConfig::new), make }
    }

    /// Starts a supervisor below this one.
    ///
    /// # Errors
    ///
    /// If a value is out of range, the name is taken, or this supervisor does not answer.
    pub async fn start_supervisor(
        &self,
        supervisor: SupervisorBuilder,
    ) -> Result<EnhancedSupervision, AdminError> {
        let spec = supervisor.spec?;
        let address = spec.address.clone();
        self.start_child(ChildSpec::supervisor(spec, self.context())).await?;
        Ok(Self::at(address, self.context().clone()))
    }

    /// Describes a supervisor that [`start_supervisor`](Self::start_supervisor) starts below this one.
    pub fn supervisor(&self, name: &str) -> SupervisorBuilder {
        SupervisorBuilder::new(name, self.context())
    }
}

/// Describes a child; what is not said is as in [`SupervisedActorConfig::new`].
#[must_use = "a child is described here, and started by `spawn`"]
pub struct ChildBuilder<'a, F> {
    supervision: &'a EnhancedSupervision,
    config: Result<SupervisedActorConfig, FieldError>,
    make: F,
}

impl<F> ChildBuilder<'_, F> {
    fn change(mut self, change: impl FnOnce(&mut SupervisedActorConfig)) -> Self {
        if let Ok(config) = &mut self.config {
            change(config);
        }
        self
    }

    /// Is always restarted. The default.
    pub fn permanent(self) -> Self {
        self.change(|config| config.restart = RestartType::Permanent)
    }

    /// Is restarted when it ended by an error, a panic or a kill.
    pub fn transient(self) -> Self {
        self.change(|config| config.restart = RestartType::Transient)
    }

    /// Is never restarted.
    pub fn temporary(self) -> Self {
        self.change(|config| config.restart = RestartType::Temporary)
    }

    /// Waits longer before each restart in a row. The default is no wait.
    pub fn backoff(self, backoff: ExponentialBackoffConfig) -> Self {
        self.change(|config| config.strategy = RestartStrategy::ExponentialBackoff(backoff))
    }

    /// The tier that, with the class of a failure, decides what follows it.
    pub fn priority(self, priority: ActorPriority) -> Self {
        self.change(|config| config.priority = priority)
    }

    /// Slots of the mailbox, 1 to 1,000,000; the newest message is refused when all are taken.
    pub fn mailbox(self, slots: usize) -> Self {
        self.change(|config| config.mailbox = slots)
    }

    /// The longest it may take over one message, after which it fails. The default is no limit.
    pub fn handler_deadline(self, deadline: Duration) -> Self {
        self.change(|config| config.handler_deadline = Some(deadline))
    }

    /// The longest it may take to start. The default is 10 s.
    pub fn start_deadline(self, deadline: Duration) -> Self {
        self.change(|config| config.start_deadline = deadline)
    }

    /// The longest it may take to stop before it is killed; zero kills at once. The default is 1 s.
    pub fn stop_deadline(self, deadline: Duration) -> Self {
        self.change(|config| config.stop_deadline = deadline)
    }

    /// Stops before those of `actors` that have the same supervisor, and with [`Root::stop_all`] before all of them; its
    /// failures that follow theirs are recognised as cascades.
    pub fn depends_on(self, actors: &[&ActorName]) -> Self {
        self.change(|config| config.depends_on = actors.iter().copied().cloned().collect())
    }

    /// Starts the child, and gives the address under which every incarnation of it is reached.
    ///
    /// # Errors
    ///
    /// If a value is out of range, the name is taken, the start fails, or the supervisor does not answer.
    pub async fn spawn<A>(self) -> Result<Address<A::Msg>, AdminError>
    where
        A: Actor<Arguments = ()>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let Self { supervision, config, make } = self;
        supervision.spawn_supervised(config?, move || (make(), ())).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;
    use crate::actor::SelfRef;
    use crate::prelude::{ActorProcessingErr, Backoff, Call, Request};
    use crate::supervision::RootEnd;

    const SOON: Duration = Duration::from_secs(10);

    /// What actors did, in order.
    type Diary = Arc<Mutex<Vec<String>>>;

    fn entries(diary: &Diary) -> Vec<String> {
        diary.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Panics on request, and writes down its orderly end.
    #[derive(Clone)]
    struct Clerk {
        name: &'static str,
        diary: Diary,
    }

    struct Sum(u32, u32);

    impl Request for Sum {
        type Reply = u32;
    }

    enum Order {
        Sum(Call<Sum>),
        Panic,
    }

    impl From<Call<Sum>> for Order {
        fn from(call: Call<Sum>) -> Self {
            Self::Sum(call)
        }
    }

    impl Actor for Clerk {
        type Msg = Order;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: SelfRef<Order>,
            order: Order,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            match order {
                Order::Sum(call) => {
                    let Sum(one, other) = call.request;
                    call.reply(one + other);
                    Ok(())
                }
                Order::Panic => panic!("panics on purpose"),
            }
        }

        async fn post_stop(&self, _: SelfRef<Order>, (): &mut ()) -> Result<(), ActorProcessingErr> {
            self.diary.lock().unwrap_or_else(PoisonError::into_inner).push(self.name.to_owned());
            Ok(())
        }
    }

    /// Keeps what is logged on this thread.
    #[derive(Clone, Default)]
    struct Log(Diary);

    impl Visit for Log {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{value:?}"));
            }
        }
    }

    impl tracing::Subscriber for Log {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() <= tracing::Level::WARN
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_logged_and_the_child_comes_back_under_its_address() {
        // While there is only one dispatcher, tracing asks that of whichever thread meets a callsite first.
        let (log, _second) = (Log::default(), tracing::Dispatch::new(Log::default()));
        let _guard = tracing::subscriber::set_default(log.clone());
        let root = System::new("system-panic").supervisor("root").start().await.expect("it starts");
        let clerk = Clerk { name: "clerk", diary: Diary::default() };
        let address = root.child("clerk", move || clerk.clone()).permanent().backoff(Backoff::default());
        let address = address.spawn().await.expect("it starts");
        assert_eq!(address.call(Sum(1, 2)).await, Ok(3));
        address.cast(Order::Panic).expect("taken");
        tokio::time::sleep(SOON).await;
        assert_eq!(address.call(Sum(2, 2)).timeout(SOON).await, Ok(4));
        let logged = entries(&log.0);
        assert!(
            logged.iter().any(|line| line.contains("clerk under root ended: panics on purpose")),
            "{logged:?}"
        );
        root.stop_all(SOON).await.expect("no circle");
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_says_why_it_ended() {
        let system = System::new("system-end");
        let clerk = Clerk { name: "clerk", diary: Diary::default() };
        let root = system.supervisor("root").intensity(0, SOON).start().await.expect("it starts");
        let address = root.child("clerk", move || clerk.clone()).spawn().await.expect("it starts");
        address.cast(Order::Panic).expect("taken");
        let RootEnd::GaveUp(failure) = root.ended().await else { panic!("it gave up") };
        let expected = "restart intensity exceeded; the last failure was clerk's: panics on purpose";
        assert_eq!(failure.message(), expected);

        let root = system.supervisor("other").start().await.expect("it starts");
        root.stop();
        assert_eq!(root.ended().await, RootEnd::Stopped);
        let refused = system.supervisor("No Name").start().await.err().map(|error| error.to_string());
        let expected = "`name` is No Name; expected 1 to 64 characters of a-z, 0-9, '-' and '/', beginning with a letter";
        assert_eq!(refused.as_deref(), Some(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn two_roots_of_a_system_log_each_warning_once_and_end_apart() {
        // See above.
        let (log, _second) = (Log::default(), tracing::Dispatch::new(Log::default()));
        let _guard = tracing::subscriber::set_default(log.clone());
        let (system, diary) = (System::new("system-two"), Diary::default());
        let mut roots = Vec::new();
        for (root, name) in [("one", "first"), ("two", "second")] {
            let root = system.supervisor(root).start().await.expect("it starts");
            let clerk = Clerk { name, diary: diary.clone() };
            let address = root.child(name, move || clerk.clone()).spawn().await.expect("it starts");
            roots.push((root, address));
        }
        roots[0].1.cast(Order::Panic).expect("taken");
        tokio::time::sleep(SOON).await;
        let ends = entries(&log.0).iter().filter(|line| line.contains("first under one ended")).count();
        assert_eq!(ends, 1, "{:?}", entries(&log.0));
        let (other, address) = roots.pop().expect("two");
        roots.pop().expect("one").0.stop_all(SOON).await.expect("no circle");
        assert_eq!((entries(&diary), address.call(Sum(1, 1)).await), (vec!["first".to_owned()], Ok(2)));
        other.stop_all(SOON).await.expect("no circle");
    }

    #[tokio::test(start_paused = true)]
    async fn actors_that_need_one_another_end_all_the_same_and_that_is_told() {
        let (system, diary) = (System::new("system-circle"), Diary::default());
        let root = system.supervisor("root").start().await.expect("it starts");
        let (one, two, database) =
            (ActorName::literal("one"), ActorName::literal("two"), ActorName::literal("database"));
        for (name, needs) in [("one", vec![&two, &database]), ("two", vec![&one]), ("database", vec![])] {
            let clerk = Clerk { name, diary: diary.clone() };
            root.child(name, move || clerk.clone()).depends_on(&needs).spawn().await.expect("it starts");
        }
        let error = root.stop_all(SOON).await.expect_err("a circle").to_string();
        assert!(error.contains("one") && error.contains("two"), "{error}");
        let stopped = entries(&diary);
        assert_eq!((stopped.len(), stopped.last().map(String::as_str)), (3, Some("database")), "{stopped:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_stops_a_system_stops_a_database_after_its_users_wherever_it_was_started() {
        for (prefix, is_dynamic, by_plan) in [
            ("stop-1", false, false),
            ("stop-2", true, false),
            ("stop-3", false, true),
            ("stop-4", true, true),
        ] {
            let diary = Diary::default();
            let builder = System::new(prefix).supervisor("root");
            let builder = if is_dynamic { builder.dynamic() } else { builder };
            let root = builder.start().await.expect("it starts");
            let database = ActorName::literal("database");
            // The database is started last, so that the reverse of the start order would stop it first.
            for name in ["user-1", "user-2", "database"] {
                let clerk = Clerk { name, diary: diary.clone() };
                let child = root.child(name, move || clerk.clone());
                let child = if name == "database" { child } else { child.depends_on(&[&database]) };
                child.spawn().await.expect("it starts");
            }
            if by_plan {
                root.stop_all(SOON).await.expect("no circle");
            } else {
                root.stop();
                assert_eq!(root.ended().await, RootEnd::Stopped);
            }
            let stopped = entries(&diary);
            assert_eq!(
                (stopped.len(), stopped.last().map(String::as_str)),
                (3, Some("database")),
                "{stopped:?}"
            );
        }
    }
}
