//! Runs scripted actors under the real supervisor, and records what happens to them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::{Clock, Moment, SystemClock};
use alys_cluster::event::EventBus;
use alys_cluster::health::HealthCheckResult;
use alys_cluster::id::ActorName;
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::{
    ActorFailureType, ChildSpec, Context, EnhancedSupervision, RestartIntensity, SlotBudget, Supervisor,
    SupervisorSpec, spawn,
};
use ractor::concurrency::JoinHandle;
use ractor::{ActorCell, ActorProcessingErr, RpcReplyPort, SpawnErr};

/// Log of what happened to the actors of one tree, in order: `started a 1`, `stopped a 1`.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Vec<(Moment, String)>>>);

impl Record {
    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.timed().into_iter().map(|(_, line)| line).collect()
    }

    /// All lines so far, each with its time on the stage's clock.
    pub fn timed(&self) -> Vec<(Moment, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All lines so far that begin with `word`.
    pub fn with(&self, word: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with(word)).collect()
    }

    fn add(&self, at: Moment, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
    }
}

/// Message to a [`ScriptedActor`].
pub enum Order {
    /// Reply with the number of the actor's current start, from 1.
    Who(RpcReplyPort<u32>),
    /// Panic.
    Panic,
    /// Return an error.
    Fail,
    /// Return this error.
    FailAs(ActorFailureType),
    /// Stop.
    End,
    /// Never return from the handler.
    Hang,
    /// Process the message for this duration.
    Take(Duration),
    /// Block without yielding until this is true.
    Spin(Arc<AtomicBool>),
    /// From now on, delay each answer to a ping by a pseudo-random duration up to this.
    Jitter(Duration),
    /// From now on, report this health.
    Feel(HealthCheckResult),
}

/// How starts of a [`ScriptedActor`] go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Every start succeeds.
    #[default]
    Well,
    /// The first `after` starts succeed, the next `times` starts fail, and later ones succeed.
    Fails {
        /// Number of successful starts before the failures.
        after: u32,
        /// Number of failing starts.
        times: u32,
    },
    /// Starts never complete.
    Hangs,
    /// Every start but the first `after` takes `time`.
    Takes {
        /// Number of starts before, which take no time.
        after: u32,
        /// Duration of the later starts.
        time: Duration,
    },
    /// Every start succeeds, and the actor stops at once.
    Ends,
    /// Every start succeeds, and after the start with this number the actor stops at once.
    EndsOn(u32),
}

/// An actor that follows the orders it receives.
#[derive(Clone)]
pub struct ScriptedActor {
    /// Address of the actor.
    pub address: Address<Order>,
    start: Start,
    clings: bool,
    stops_in: Duration,
    starts: Arc<AtomicU32>,
    record: Record,
    clock: Arc<dyn Clock>,
}

/// State of one incarnation: the number of its start, and what it answers to pings.
pub struct Life {
    start: u32,
    health: HealthCheckResult,
    jitter: Duration,
    chance: u64,
}

impl Life {
    /// The next pseudo-random delay up to the jitter (Knuth's linear congruential generator).
    fn lag(&mut self) -> Duration {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.jitter.mul_f64((self.chance >> 33) as f64 / f64::from(1_u32 << 31))
    }
}

impl Actor for ScriptedActor {
    type Msg = Order;
    type State = Life;
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<Life, ActorProcessingErr> {
        let start = self.starts.fetch_add(1, Ordering::SeqCst) + 1;
        match self.start {
            Start::Well => {}
            Start::Fails { after, times } => {
                if (after + 1..=after + times).contains(&start) {
                    self.note("failed", start);
                    return Err(format!("start {start} fails on purpose").into());
                }
            }
            Start::Hangs => std::future::pending().await,
            Start::Takes { after, time } => {
                if start > after {
                    tokio::time::sleep(time).await;
                }
            }
            Start::EndsOn(number) if number != start => {}
            Start::Ends | Start::EndsOn(_) => me.stop(Some("ends at once".to_owned())),
        }
        self.note("started", start);
        let chance = u64::from(start) + self.address.name().as_str().bytes().map(u64::from).sum::<u64>();
        Ok(Life { start, health: HealthCheckResult::healthy(), jitter: Duration::ZERO, chance })
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Order::Who(reply) => drop(reply.send(life.start)),
            Order::Panic => panic!("panics on purpose"),
            Order::Fail => return Err("fails on purpose".into()),
            Order::FailAs(kind) => return Err(kind.into()),
            Order::End => me.stop(Some("ends on purpose".to_owned())),
            Order::Hang => std::future::pending().await,
            Order::Take(time) => tokio::time::sleep(time).await,
            Order::Spin(until) => {
                while !until.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
            }
            Order::Jitter(most) => life.jitter = most,
            Order::Feel(health) => life.health = health,
        }
        Ok(())
    }

    async fn health(&self, life: &mut Life) -> HealthCheckResult {
        if !life.jitter.is_zero() {
            tokio::time::sleep(life.lag()).await;
        }
        life.health.clone()
    }

    async fn post_stop(&self, _: SelfRef<Self::Msg>, life: &mut Life) -> Result<(), ActorProcessingErr> {
        if self.clings {
            std::future::pending::<()>().await;
        }
        if !self.stops_in.is_zero() {
            tokio::time::sleep(self.stops_in).await;
        }
        self.note("stopped", life.start);
        Ok(())
    }
}

/// Environment of the tests of one tree.
#[derive(Clone)]
pub struct Stage {
    /// Context shared by all supervisors of the tree.
    pub context: Context,
    /// Log of what happened to its actors.
    pub record: Record,
}

impl Stage {
    /// Creates a stage. `prefix` starts the ractor names of its actors; no other test uses it.
    pub fn new(prefix: &str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let events = EventBus::new(clock.clone());
        let context = Context::new(prefix, clock, events);
        Self { context, record: Record::default() }
    }

    /// Creates a scripted actor with this name.
    pub fn puppet(&self, name: &'static str) -> ScriptedActor {
        self.puppet_of(ActorName::literal(name))
    }

    /// Creates a scripted actor with a name made at run time.
    pub fn puppet_of(&self, name: ActorName) -> ScriptedActor {
        ScriptedActor {
            address: Address::new(name, 16),
            start: Start::Well,
            clings: false,
            stops_in: Duration::ZERO,
            starts: Arc::default(),
            record: self.record.clone(),
            clock: self.context.clock.clone(),
        }
    }

    /// Child specification of the actor.
    pub fn child(&self, puppet: &ScriptedActor) -> ChildSpec {
        let puppet = puppet.clone();
        ChildSpec::worker(&self.context, &puppet.address.clone(), move || (puppet.clone(), ()))
    }

    /// Specification of a supervisor with these children.
    pub fn spec(&self, name: &'static str, max_restarts: u32, children: Vec<ChildSpec>) -> SupervisorSpec {
        let intensity = RestartIntensity { max_restarts, within: Duration::from_hours(1) };
        // A test of thousands of restarts must not exhaust the budget of missed slots.
        let slot_budget = SlotBudget { max_missed: 10_000, within_slots: 1 };
        SupervisorSpec { intensity, slot_budget, ..SupervisorSpec::new(ActorName::literal(name), children) }
    }

    /// Child specification of a supervisor with these children.
    pub fn tier(&self, name: &'static str, max_restarts: u32, children: Vec<ChildSpec>) -> ChildSpec {
        ChildSpec::supervisor(self.spec(name, max_restarts, children), &self.context)
    }

    /// Starts a root supervisor.
    pub async fn raise(&self, spec: SupervisorSpec) -> Result<Root, SpawnErr> {
        let name = format!("{}/{}", self.context.prefix, spec.name);
        let face = EnhancedSupervision::of(&spec, self.context.clone());
        let (address, root) = (spec.address.clone(), Supervisor::new(self.context.clone()));
        let (actor, ended) = spawn(Some(name), &address, root, spec).await?;
        Ok(Root { actor, face, ended })
    }

    /// Names of all actors of this stage in ractor's registries.
    pub fn known(&self) -> Vec<String> {
        let mut names: Vec<_> = self.cells().iter().filter_map(ActorCell::get_name).collect();
        let begins = format!("{}/", self.context.prefix);
        names.extend(ractor::registry::registered().into_iter().filter(|name| name.starts_with(&begins)));
        names.sort();
        names.dedup();
        names
    }

    /// All actors of this stage in ractor's pid registry.
    pub fn cells(&self) -> Vec<ActorCell> {
        let begins = format!("{}/", self.context.prefix);
        let ours = |cell: &ActorCell| cell.get_name().is_some_and(|name| name.starts_with(&begins));
        ractor::registry::pid_registry::get_all_pids().into_iter().filter(ours).collect()
    }

    /// The actor of this stage with this name.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn cell(&self, name: &str) -> ActorCell {
        let full = format!("{}/{name}", self.context.prefix);
        ractor::registry::where_is(full).expect("the actor is registered")
    }
}

/// The root of a running tree.
pub struct Root {
    /// The root supervisor.
    pub actor: ActorCell,
    /// Supervision interface of the root.
    pub face: EnhancedSupervision,
    /// Completes when the root ends.
    pub ended: JoinHandle<()>,
}

impl Root {
    /// Stops the tree and waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub async fn stop(self) {
        self.actor.stop(Some("the test is over".to_owned()));
        let ended = tokio::time::timeout(Duration::from_secs(30), self.ended).await;
        ended.expect("the root ends").expect("the root does not panic");
    }
}

impl ScriptedActor {
    /// Sets how its starts go.
    #[must_use]
    pub fn starting(self, start: Start) -> Self {
        Self { start, ..self }
    }

    /// Makes its `post_stop` never return.
    #[must_use]
    pub fn clinging(self) -> Self {
        Self { clings: true, ..self }
    }

    /// Makes its `post_stop` take this long.
    #[must_use]
    pub fn stopping_in(self, stops_in: Duration) -> Self {
        Self { stops_in, ..self }
    }

    fn note(&self, what: &str, start: u32) {
        self.record.add(self.clock.now(), format!("{what} {} {start}", self.address.name()));
    }

    /// Number of the start that answers.
    pub async fn who(&self) -> Result<u32, String> {
        let asked = self.address.ask(Duration::from_secs(2), Order::Who).await;
        asked.map_err(|error| error.to_string())
    }

    /// Sends an order.
    ///
    /// # Panics
    ///
    /// If the mailbox rejects it.
    pub fn order(&self, order: Order) {
        self.address.cast(order).expect("the order is taken");
    }

    /// Kills the actor as ractor does: at its next await, without `post_stop`.
    ///
    /// # Panics
    ///
    /// If it was never started.
    pub fn kill(&self) {
        self.address.target().expect("it was started").kill();
    }

    /// Number of starts, including failed ones.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }
}
