//! One actor, twice: under the real supervisor, and under a bare ractor parent, the peer to compare with.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alys_cluster::clock::{Clock, SystemClock};
use alys_cluster::event::{ClusterEvent, EventBus};
use alys_cluster::id::ActorName;
use alys_cluster::mailbox::{Address, Mail};
use alys_cluster::supervision::{
    Context, EnhancedSupervision, SlotBudget, SupervisedActorConfig, SupervisorSpec,
};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::core::ENDLESS;

/// The longest anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a [`Worker`] is told.
pub enum Task {
    /// Count this.
    Count,
    /// Say when everything before this is done.
    Reach(RpcReplyPort<()>),
    /// Panic.
    Panic,
    /// Return an error.
    Fail,
}

impl ractor::Message for Task {}

/// A task as it travels: as mail of a bounded mailbox, or as it is.
pub trait Parcel: ractor::Message {
    /// A task an actor sends itself.
    fn to_self(task: Task) -> Self;
    /// The task.
    fn open(self) -> Task;
}

impl Parcel for Task {
    fn to_self(task: Task) -> Self {
        task
    }

    fn open(self) -> Task {
        self
    }
}

impl Parcel for Mail<Task> {
    fn to_self(task: Task) -> Self {
        Self::to_self(task)
    }

    fn open(self) -> Task {
        self.open()
    }
}

/// How workers fail in a storm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By a panic.
    Panic,
    /// By an error.
    Fail,
}

/// What became of the workers of one tree, and what they still have to go through.
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
    /// Nothing happened, and nothing is ahead.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Workers that ended with their `post_stop`.
    pub fn orderly_ends(&self) -> u64 {
        self.orderly_ends.load(Ordering::SeqCst)
    }

    /// Takes one of the failures ahead.
    fn takes_failure(&self) -> bool {
        self.failures_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)).is_ok()
    }
}

/// Counts, and fails as often as its ledger says: again right after each start.
pub struct Worker<P> {
    ledger: Arc<Ledger>,
    way: Way,
    parcel: PhantomData<fn() -> P>,
}

impl<P> Worker<P> {
    /// One that fails by an error.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self::failing(ledger, Way::Fail)
    }

    /// One that fails like this.
    pub fn failing(ledger: Arc<Ledger>, way: Way) -> Self {
        Self { ledger, way, parcel: PhantomData }
    }
}

impl<P: Parcel> Actor for Worker<P> {
    type Msg = P;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<P>, (): ()) -> Result<(), ActorProcessingErr> {
        let starts = self.ledger.starts.fetch_add(1, Ordering::AcqRel) + 1;
        if self.ledger.takes_failure() {
            me.cast(P::to_self(if self.way == Way::Panic { Task::Panic } else { Task::Fail }))?;
        } else if starts == self.ledger.awaited_starts.load(Ordering::Acquire) {
            self.ledger.reached.notify_one();
        }
        Ok(())
    }

    async fn handle(&self, _: ActorRef<P>, parcel: P, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match parcel.open() {
            Task::Count => drop(self.ledger.counted.fetch_add(1, Ordering::Relaxed)),
            Task::Reach(reply) => reply.send(())?,
            Task::Panic => panic!("panics on purpose"),
            Task::Fail => return Err("fails on purpose".into()),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<P>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.ledger.orderly_ends.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

/// A parent on bare ractor: whoever fails is spawned again at once, and nothing is decided or remembered.
struct Parent {
    ledger: Arc<Ledger>,
    way: Way,
}

/// What a parent is asked: a child of this name.
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

/// A running tree of workers, of either kind.
pub trait Tree: Sized + Send + Sync + 'static {
    /// Where a worker is reached.
    type Worker: Clone + Send + 'static;

    /// A tree without workers, whose ractor names begin with `prefix`.
    fn start(prefix: &str, ledger: &Arc<Ledger>, way: Way) -> impl Future<Output = Self> + Send;
    /// Starts one more worker and waits until it runs.
    fn spawn(&self, n: usize) -> impl Future<Output = Self::Worker> + Send;
    /// Stops every worker in order, then the tree.
    fn stop(self) -> impl Future<Output = ()> + Send;
    /// Gives a task.
    fn give(worker: &Self::Worker, task: Task);
    /// Waits until everything given before is done.
    fn reach(worker: &Self::Worker) -> impl Future<Output = ()> + Send;
}

/// Workers under the real supervisor, reached through their addresses.
pub struct Supervised {
    /// The supervisor.
    pub face: EnhancedSupervision,
    ended: JoinHandle<()>,
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
        let (face, ended) = EnhancedSupervision::start(spec, context).await.expect("it starts");
        Self { face, ended, ledger: ledger.clone(), way }
    }

    async fn spawn(&self, n: usize) -> Address<Task> {
        let name = ActorName::new(&format!("worker-{n}")).expect("a name");
        let (ledger, way) = (self.ledger.clone(), self.way);
        let make = move || (Worker::failing(ledger.clone(), way), ());
        // How long thousands take to stop is what is measured, and not cut short.
        let config = SupervisedActorConfig { stop_deadline: DEADLINE, ..SupervisedActorConfig::new(name) };
        self.face.spawn_supervised(config, make).await.expect("it starts")
    }

    async fn stop(self) {
        self.face.stop();
        self.ended.await.expect("it ends without a panic");
    }

    fn give(worker: &Address<Task>, task: Task) {
        worker.cast(task).expect("it is taken");
    }

    async fn reach(worker: &Address<Task>) {
        worker.call(DEADLINE, Task::Reach).await.expect("it answers");
    }
}

/// Workers under a bare ractor parent. They are spawned by whoever wants one, as ractor has it.
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

/// The same, spawned by the parent when asked: what a parent costs that keeps account of its children, before it
/// does anything about them.
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

/// Every name here is the prefix of one tree: ractor's registry of names spans the process.
fn fresh_prefix() -> String {
    static TREES: AtomicU64 = AtomicU64::new(0);
    format!("bench-{}", TREES.fetch_add(1, Ordering::Relaxed))
}

/// Waits until ractor knows as many actors as `before`: whoever is left then is a leak.
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

/// How long it takes to start `count` workers one after the other.
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

/// How long `workers` take to fail `failures` times altogether and to be back after each, all at once and again
/// right after each restart.
///
/// # Panics
///
/// If an actor or a name is left behind.
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
    // The rest of them is given below.
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

/// How long the supervisor's decisions took in a storm, from the news of an exit to its telling; sorted.
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
                // What was missed is not counted; the rest is a sample.
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

/// Messages sent before the sender waits until they are handled: fewer than a mailbox holds by default.
const BURST: usize = 500;

/// How long `workers` take to handle `messages` altogether, each from a sender of its own, in bursts.
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

/// How long one worker takes to answer `questions`, one after the other.
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

/// Runs `what` on a runtime of two workers, as one of its tasks: a caller outside would pay for waking a thread.
///
/// # Panics
///
/// If it does.
pub fn run<T: Send + 'static>(what: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { tokio::spawn(what).await.expect("it ends well") })
}
