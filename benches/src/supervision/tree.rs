//! Fixture: the same worker under the real supervisor and under a bare ractor parent, as the baseline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alys_cluster::actor::SelfRef;
use alys_cluster::clock::{Clock, SystemClock};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::id::ActorName;
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::{
    Context, EnhancedSupervision, Root, RootEnd, SlotBudget, SupervisedActorConfig, SupervisorSpec,
};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::core::ENDLESS;

/// Timeout of every operation.
const DEADLINE: Duration = Duration::from_secs(30);

/// Message to a [`Worker`].
pub enum Task {
    /// Increments the counter.
    Count,
    /// Replies when all earlier messages are handled.
    Reach(RpcReplyPort<()>),
    /// Panics.
    Panic,
    /// Returns an error.
    Fail,
}

impl ractor::Message for Task {}

/// How workers fail in a restart storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a panic.
    Panic,
    /// By an error.
    Fail,
}

/// Counters of the workers of one tree, and the failures that remain.
#[derive(Debug, Default)]
pub struct Ledger {
    starts: AtomicU64,
    orderly_ends: AtomicU64,
    counted: AtomicU64,
    failures_left: AtomicU64,
    awaited_starts: AtomicU64,
    reached: Notify,
}

impl Ledger {
    /// Creates a ledger with all counters at zero and no failures ahead.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Number of workers that ended with their `post_stop`.
    pub fn orderly_ends(&self) -> u64 {
        self.orderly_ends.load(Ordering::SeqCst)
    }

    /// Consumes one of the remaining failures; returns whether there was one.
    fn takes_failure(&self) -> bool {
        self.failures_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
    }
}

/// Counts, and fails as often as its ledger says: again right after each start. It is an actor of either kind.
pub struct Worker {
    ledger: Arc<Ledger>,
    way: Way,
}

impl Worker {
    /// Creates a worker that fails by an error.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self::failing(ledger, Way::Fail)
    }

    /// Creates a worker that fails in the given way.
    pub fn failing(ledger: Arc<Ledger>, way: Way) -> Self {
        Self { ledger, way }
    }

    /// The task with which a start begins.
    fn started(&self) -> Option<Task> {
        let starts = self.ledger.starts.fetch_add(1, Ordering::AcqRel) + 1;
        if self.ledger.takes_failure() {
            return Some(if self.way == Way::Panic { Task::Panic } else { Task::Fail });
        }
        if starts == self.ledger.awaited_starts.load(Ordering::Acquire) {
            self.ledger.reached.notify_one();
        }
        None
    }

    fn do_task(&self, task: Task) -> Result<(), ActorProcessingErr> {
        match task {
            Task::Count => drop(self.ledger.counted.fetch_add(1, Ordering::Relaxed)),
            Task::Reach(reply) => reply.send(())?,
            Task::Panic => panic!("panics on purpose"),
            Task::Fail => return Err("fails on purpose".into()),
        }
        Ok(())
    }

    fn stopped(&self) {
        self.ledger.orderly_ends.fetch_add(1, Ordering::AcqRel);
    }
}

impl alys_cluster::actor::Actor for Worker {
    type Msg = Task;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Task>, (): ()) -> Result<(), ActorProcessingErr> {
        if let Some(task) = self.started() {
            me.cast(task);
        }
        Ok(())
    }

    async fn handle(&self, _: SelfRef<Task>, task: Task, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.do_task(task)
    }

    async fn post_stop(&self, _: SelfRef<Task>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.stopped();
        Ok(())
    }
}

impl ractor::Actor for Worker {
    type Msg = Task;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Task>, (): ()) -> Result<(), ActorProcessingErr> {
        if let Some(task) = self.started() {
            me.cast(task)?;
        }
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Task>, task: Task, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.do_task(task)
    }

    async fn post_stop(&self, _: ActorRef<Task>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.stopped();
        Ok(())
    }
}

/// Parent on bare ractor: respawns a failed child immediately, without decisions or history.
struct Parent {
    ledger: Arc<Ledger>,
    way: Way,
}

/// Message to a parent: spawn a child of this name.
struct Bear(String, RpcReplyPort<ActorRef<Task>>);

impl ractor::Message for Bear {}

impl Parent {
    async fn spawn(&self, name: String, me: ActorCell) -> Result<ActorRef<Task>, ActorProcessingErr> {
        let worker = Worker::failing(self.ledger.clone(), self.way);
        Ok(Actor::spawn_linked(Some(name), worker, (), me).await?.0)
    }
}

impl Actor for Parent {
    type Msg = Bear;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Bear>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<Bear>,
        Bear(name, reply): Bear,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(reply.send(self.spawn(name, me.get_cell()).await?)?)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Bear>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(child, _) = event {
            self.spawn(child.get_name().unwrap_or_default(), me.get_cell()).await?;
        }
        Ok(())
    }
}

/// Running tree of workers, of either kind.
pub trait Tree: Sized + Send + Sync + 'static {
    /// Handle of a worker.
    type Worker: Clone + Send + 'static;

    /// Starts a tree without workers; its ractor names begin with `prefix`.
    fn start(prefix: &str, ledger: &Arc<Ledger>, way: Way) -> impl Future<Output = Self> + Send;
    /// Starts one more worker and waits until it runs.
    fn spawn(&self, n: usize) -> impl Future<Output = Self::Worker> + Send;
    /// Stops all workers in order, then the tree.
    fn stop(self) -> impl Future<Output = ()> + Send;
    /// Sends a task.
    fn give(worker: &Self::Worker, task: Task);
    /// Waits until all tasks sent before are handled.
    fn reach(worker: &Self::Worker) -> impl Future<Output = ()> + Send;
}

/// Workers under the real supervisor, reached by their addresses.
pub struct Supervised {
    /// Handle of the supervisor.
    pub face: Root,
    ledger: Arc<Ledger>,
    way: Way,
}

impl Tree for Supervised {
    type Worker = Address<Task>;

    async fn start(prefix: &str, ledger: &Arc<Ledger>, way: Way) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let context = Context::new(prefix, clock.clone(), EventBus::new(clock));
        let slot_budget = SlotBudget { max_missed: 10_000, within_slots: 1 };
        let spec = SupervisorSpec::dynamic(ActorName::literal("workers"));
        let spec = SupervisorSpec { intensity: ENDLESS, slot_budget, ..spec };
        let face = EnhancedSupervision::start(spec, context).await.expect("it starts");
        Self { face, ledger: ledger.clone(), way }
    }

    async fn spawn(&self, n: usize) -> Address<Task> {
        let name = ActorName::new(&format!("worker-{n}")).expect("a name");
        let (ledger, way) = (self.ledger.clone(), self.way);
        let make = move || (Worker::failing(ledger.clone(), way), ());
        // The stop of thousands of workers is measured and must not be cut short.
        let config = SupervisedActorConfig { stop_deadline: DEADLINE, ..SupervisedActorConfig::new(name) };
        self.face.spawn_supervised(config, make).await.expect("it starts")
    }

    async fn stop(self) {
        self.face.stop();
        assert_eq!(self.face.ended().await, RootEnd::Stopped);
    }

    fn give(worker: &Address<Task>, task: Task) {
        worker.cast(task).expect("it is taken");
    }

    async fn reach(worker: &Address<Task>) {
        worker.ask(DEADLINE, Task::Reach).await.expect("it answers");
    }
}

/// Workers under a bare ractor parent, spawned by the caller as is usual with ractor.
pub struct Bare {
    parent: ActorRef<Bear>,
    ended: JoinHandle<()>,
    prefix: String,
    ledger: Arc<Ledger>,
    way: Way,
}

impl Tree for Bare {
    type Worker = ActorRef<Task>;

    async fn start(prefix: &str, ledger: &Arc<Ledger>, way: Way) -> Self {
        let parent = Parent { ledger: ledger.clone(), way };
        let (parent, ended) = Actor::spawn(None, parent, ()).await.expect("it starts");
        Self { parent, ended, prefix: prefix.to_owned(), ledger: ledger.clone(), way }
    }

    async fn spawn(&self, n: usize) -> ActorRef<Task> {
        let worker = Worker::failing(self.ledger.clone(), self.way);
        let name = Some(format!("{}/worker-{n}", self.prefix));
        Actor::spawn_linked(name, worker, (), self.parent.get_cell()).await.expect("it starts").0
    }

    async fn stop(self) {
        self.parent.stop_children_and_wait(None, None).await;
        self.parent.stop(None);
        self.ended.await.expect("it ends without a panic");
    }

    fn give(worker: &ActorRef<Task>, task: Task) {
        worker.cast(task).expect("it is taken");
    }

    async fn reach(worker: &ActorRef<Task>) {
        worker.call(Task::Reach, Some(DEADLINE)).await.expect("it is taken").expect("it answers");
    }
}

/// Workers that the parent spawns on request: the cost of a parent that keeps track of its children, before it does
/// anything about them.
pub struct Asked(Bare);

impl Tree for Asked {
    type Worker = ActorRef<Task>;

    async fn start(prefix: &str, ledger: &Arc<Ledger>, way: Way) -> Self {
        Self(Bare::start(prefix, ledger, way).await)
    }

    async fn spawn(&self, n: usize) -> ActorRef<Task> {
        let name = format!("{}/worker-{n}", self.0.prefix);
        let asked = self.0.parent.call(|reply| Bear(name, reply), Some(DEADLINE)).await;
        asked.expect("it is taken").expect("it answers")
    }

    async fn stop(self) {
        self.0.stop().await;
    }

    fn give(worker: &ActorRef<Task>, task: Task) {
        Bare::give(worker, task);
    }

    async fn reach(worker: &ActorRef<Task>) {
        Bare::reach(worker).await;
    }
}

/// A unique name prefix per tree: ractor's name registry spans the process.
fn fresh_prefix() -> String {
    static TREES: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}", TREES.fetch_add(1, Ordering::Relaxed))
}

/// Waits until ractor knows at most `before` actors: any that remain are leaked.
async fn forgotten(before: usize) {
    let begun = Instant::now();
    while ractor::registry::get_all_pids().len() > before {
        let known = ractor::registry::get_all_pids().len();
        assert!(begun.elapsed() < DEADLINE, "{known} actors are known, and {before} were before");
        tokio::task::yield_now().await;
    }
    let names: Vec<_> = ractor::registry::registered();
    assert!(names.iter().all(|name| !name.starts_with("bench-")), "names are left: {names:?}");
}

/// Time to start `count` workers one after the other.
pub async fn spawns<T: Tree>(count: usize) -> Duration {
    let before = ractor::registry::get_all_pids().len();
    let tree = T::start(&fresh_prefix(), &Ledger::new(), Way::Fail).await;
    let begun = Instant::now();
    for n in 0..count {
        tree.spawn(n).await;
    }
    let took = begun.elapsed();
    tree.stop().await;
    forgotten(before).await;
    took
}

/// Time for `workers` to fail `failures` times in total and to recover from each failure, all at once and again right
/// after each restart.
///
/// # Panics
///
/// If an actor or a name is leaked.
pub async fn storm<T: Tree>(workers: usize, failures: usize, way: Way) -> Duration {
    let before = ractor::registry::get_all_pids().len();
    let ledger = Ledger::new();
    let tree = T::start(&fresh_prefix(), &ledger, way).await;
    let took = rage(&tree, &ledger, workers, failures, way).await;
    tree.stop().await;
    forgotten(before).await;
    took
}

async fn rage<T: Tree>(tree: &T, ledger: &Ledger, workers: usize, failures: usize, way: Way) -> Duration {
    let mut all = Vec::new();
    for n in 0..workers {
        all.push(tree.spawn(n).await);
    }
    let starts = (workers + failures) as u64;
    ledger.awaited_starts.store(starts, Ordering::Release);
    // The first failure of each worker is sent below; the ledger holds the rest.
    ledger.failures_left.store((failures - workers) as u64, Ordering::Release);
    let begun = Instant::now();
    for worker in &all {
        T::give(worker, if way == Way::Panic { Task::Panic } else { Task::Fail });
    }
    tokio::time::timeout(DEADLINE, ledger.reached.notified()).await.expect("everyone comes back");
    let took = begun.elapsed();
    assert_eq!(ledger.starts.load(Ordering::SeqCst), starts, "one start for each failure");
    took
}

/// Durations of the supervisor's decisions in a restart storm, from the exit event to the decision event; sorted.
pub async fn decisions(workers: usize, failures: usize) -> Vec<Duration> {
    let ledger = Ledger::new();
    let tree = Supervised::start(&fresh_prefix(), &ledger, Way::Fail).await;
    let mut events = tree.face.context().events.listen();
    let listener = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            match events.recv().await {
                Ok(told) => {
                    if let ClusterEvent::RestartDecided { took, .. } = &told.event {
                        all.push(*took);
                    }
                }
                // Missed events are not counted; the others are a sample.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return all,
            }
        }
    });
    rage(&tree, &ledger, workers, failures, Way::Fail).await;
    tree.stop().await;
    let mut all = listener.await.expect("it listens to the end");
    all.sort();
    all
}

/// Messages sent before the sender waits for their handling: fewer than the default mailbox capacity.
const BURST: usize = 500;

/// Time for `workers` to handle `messages` in total, each from its own sender, in bursts.
///
/// # Panics
///
/// If a message is lost.
pub async fn casts<T: Tree>(workers: usize, messages: usize) -> Duration {
    let ledger = Ledger::new();
    let tree = T::start(&fresh_prefix(), &ledger, Way::Fail).await;
    let mut all = Vec::new();
    for n in 0..workers {
        all.push(tree.spawn(n).await);
    }
    let bursts = (messages / workers / BURST).max(1);
    let begun = Instant::now();
    let senders: Vec<_> = all
        .into_iter()
        .map(|worker| {
            tokio::spawn(async move {
                for _ in 0..bursts {
                    (0..BURST).for_each(|_| T::give(&worker, Task::Count));
                    T::reach(&worker).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.expect("it sends everything");
    }
    let took = begun.elapsed();
    assert_eq!(ledger.counted.load(Ordering::SeqCst), (bursts * BURST * workers) as u64);
    tree.stop().await;
    took
}

/// Time for one worker to answer `questions` calls one after the other.
pub async fn calls<T: Tree>(questions: usize) -> Duration {
    let tree = T::start(&fresh_prefix(), &Ledger::new(), Way::Fail).await;
    let worker = tree.spawn(0).await;
    let begun = Instant::now();
    for _ in 0..questions {
        T::reach(&worker).await;
    }
    let took = begun.elapsed();
    tree.stop().await;
    took
}

/// Runs `what` as a task of a runtime with two worker threads: a caller outside the runtime would pay for waking a
/// thread.
///
/// # Panics
///
/// If `what` panics.
pub fn run<T: Send + 'static>(what: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::spawn(what).await.expect("it ends well") })
}
