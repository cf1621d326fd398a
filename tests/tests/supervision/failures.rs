//! Tests that every kind of failure of real actors is classified, handled as the policy says, and survived by callers.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::Moment;
use alys_cluster::config::FieldError;
use alys_cluster::event::{ClusterEvent, Recorded};
use alys_cluster::health::{HealthConfig, HealthMonitor, HealthStatus, MonitorHooks, Pingable};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation};
use alys_cluster::mailbox::Address;
use alys_cluster::port::ConsensusHalt;
use alys_cluster::supervision::child::ChildPhase;
use alys_cluster::supervision::decision::{DecisionRecord, Obstacle, decide};
use alys_cluster::supervision::memory::{ACTORS_MAX, ATTEMPTS_MAX};
use alys_cluster::supervision::pattern::Pattern;
use alys_cluster::supervision::{
    ActorFailureType, ChildSpec, EscalationStep, EscalationTable, ExponentialBackoffConfig, FailureClass,
    FixedDelayConfig, HandlerLimits, PatternConfig, RestartIntensity, RestartStrategy, RestartType,
    SlotBudget, SlotTiming, SupervisedActorConfig, SupervisionMemory, SupervisionStrategy, SupervisorSpec,
};
use alys_tests::federation::SOON;
use alys_tests::tree::{Root, Stage};
use alys_tests::{eventually, seen};
use ractor::{ActorProcessingErr, RpcReplyPort};
use tokio::sync::broadcast::Receiver;

type Outcome = Result<(), ActorProcessingErr>;
type Deed = Box<dyn FnOnce(SelfRef<Order>) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send>;

/// Message to a [`FailingActor`].
enum Order {
    /// Reply with the number of the actor's current start, from 1.
    Who(RpcReplyPort<u32>),
    /// Run this and return its result.
    Do(Deed),
    /// Like `Do`, but a deadline on `Do` messages does not apply.
    DoAtLeisure(Deed),
}

/// A deed that takes no time.
fn deed(act: impl FnOnce() -> Outcome + Send + 'static) -> Deed {
    Box::new(move |_| Box::pin(async move { act() }))
}

/// A deed that fails with `kind`.
fn fails(kind: ActorFailureType) -> Deed {
    deed(move || Err(kind.into()))
}

/// A deed that takes this long.
fn takes(time: Duration) -> Deed {
    Box::new(move |_| {
        Box::pin(async move {
            tokio::time::sleep(time).await;
            Ok(())
        })
    })
}

/// Where the second start of a [`FailingActor`] fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    Factory,
    PreStart,
    PreStartHangs,
    PreStartFails,
    PostStart,
}

/// An actor that can fail in every way.
#[derive(Clone)]
struct FailingActor {
    starts: Arc<AtomicU32>,
    trouble: Trouble,
    /// Whether every start panics.
    is_hopeless: bool,
}

impl FailingActor {
    fn new(trouble: Trouble) -> Self {
        Self { starts: Arc::default(), trouble, is_hopeless: false }
    }

    /// Factory for its starts.
    fn factory(self) -> impl Fn() -> (Self, ()) + Send + Sync + 'static {
        move || {
            let before = self.starts.load(Ordering::SeqCst);
            if self.trouble == Trouble::Factory && before == 1 {
                self.starts.fetch_add(1, Ordering::SeqCst);
                panic!("the factory panics");
            }
            (self.clone(), ())
        }
    }
}

impl Actor for FailingActor {
    type Msg = Order;
    type State = u32;
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<u32, ActorProcessingErr> {
        let start = self.starts.fetch_add(1, Ordering::SeqCst) + 1;
        match self.trouble {
            Trouble::PreStart if start == 2 => panic!("pre_start panics"),
            Trouble::PreStartHangs if start == 2 => std::future::pending().await,
            Trouble::PreStartFails if start == 2 => {
                let error = "twice".to_owned();
                return Err(ActorFailureType::NetworkFailure { peer_id: None, error }.into());
            }
            _ => {}
        }
        if self.is_hopeless {
            me.cast(Order::Do(deed(|| panic!("hopeless"))));
        }
        Ok(start)
    }

    async fn post_start(&self, _: SelfRef<Self::Msg>, start: &mut u32) -> Outcome {
        assert!(self.trouble != Trouble::PostStart || *start != 2, "post_start panics");
        Ok(())
    }

    async fn handle(&self, me: SelfRef<Self::Msg>, message: Self::Msg, start: &mut u32) -> Outcome {
        match message {
            Order::Who(reply) => Ok(reply.send(*start)?),
            Order::Do(deed) | Order::DoAtLeisure(deed) => deed(me).await,
        }
    }
}

/// A supervisor with failing actors, and the events about them.
struct Ward {
    stage: Stage,
    root: Root,
    events: Receiver<Arc<Recorded>>,
    table: EscalationTable,
}

impl Ward {
    async fn open(prefix: &str, table: &EscalationTable) -> Self {
        Self::with(Stage::new(prefix), table, |_| {}).await
    }

    async fn with(stage: Stage, table: &EscalationTable, change: impl FnOnce(&mut SupervisorSpec)) -> Self {
        let events = stage.context.events.listen();
        let mut spec = SupervisorSpec { escalation: *table, ..stage.spec("root", 100, Vec::new()) };
        change(&mut spec);
        let root = stage.raise(spec).await.expect("the tree starts");
        Self { stage, root, events, table: *table }
    }

    async fn admit(&self, config: SupervisedActorConfig, patient: FailingActor) -> Address<Order> {
        let admitted = self.root.face.spawn_supervised(config, patient.factory()).await;
        admitted.expect("the patient starts")
    }

    /// Waits for the next decision. Checks that its inputs reproduce it and that its escalation path is that of the
    /// table.
    async fn decided(&mut self) -> Arc<DecisionRecord> {
        loop {
            let heard = tokio::time::timeout(SOON, self.events.recv()).await;
            let recorded = heard.expect("something is told").expect("nothing was missed");
            if let Some(record) = replayed(&recorded) {
                return record;
            }
        }
    }

    /// Waits for the next decision, about a failure of kind `kind` of a child with normal priority.
    async fn decided_normal(&mut self, kind: &str) -> Arc<DecisionRecord> {
        let record = self.decided().await;
        assert_eq!(record.failure.kind().kind(), kind, "{record}");
        let ladder = self.table.ladder(ActorPriority::Normal, record.failure.class());
        assert_eq!(record.inputs.ladder, ladder, "{record}");
        record
    }

    /// Replays the remaining decisions and stops the tree.
    async fn close(mut self) {
        while let Ok(recorded) = self.events.try_recv() {
            let _ = replayed(&recorded);
        }
        self.root.stop().await;
    }

    /// All events so far as text; decisions are replayed.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(recorded) = self.events.try_recv() {
            let _ = replayed(&recorded);
            told.push(recorded.event.to_string());
        }
        told
    }

    async fn phase(&self, child: &str, phase: ChildPhase) {
        eventually(SOON, &format!("{child} is {}", phase.as_str()), async || {
            let row = self.stage.context.tree.row(&ActorName::literal("root"), usize::MAX).ok_or("no row")?;
            let child = row.children.into_iter().find(|known| known.policy.name.as_str() == child);
            let is = child.ok_or("no child")?.phase;
            if is == phase { Ok(()) } else { Err(is.as_str()) }
        })
        .await;
    }
}

/// The decision, if the event is one. Checks that the same inputs give the same decision.
fn replayed(recorded: &Recorded) -> Option<Arc<DecisionRecord>> {
    let ClusterEvent::RestartDecided { record, .. } = &recorded.event else { return None };
    assert_eq!(decide(&record.inputs), record.decision, "{record}");
    Some(record.clone())
}

fn named(name: &'static str) -> SupervisedActorConfig {
    SupervisedActorConfig::new(ActorName::literal(name))
}

/// Waits until the start with this number answers at the callers' address.
async fn answers(address: &Address<Order>, start: u32) {
    eventually(SOON, &format!("start {start} of {address:?} answers"), async || {
        let who = address.ask(SOON, Order::Who).await.map_err(|error| error.to_string())?;
        seen(who == start, format!("start {who}"))
    })
    .await;
}

fn order(address: &Address<Order>, deed: Deed) {
    address.cast(Order::Do(deed)).expect("the order is taken");
}

/// A consensus halt that records its calls.
#[derive(Clone, Default)]
struct RecordingHalt(Arc<Mutex<(Vec<String>, BTreeSet<String>)>>);

impl RecordingHalt {
    /// Every halt, in order.
    fn asked(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").0.clone()
    }

    /// Names of the actors that currently halt consensus.
    fn standing(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").1.iter().cloned().collect()
    }
}

impl ConsensusHalt for RecordingHalt {
    fn halt(&self, by: &ActorName, reason: &str) {
        let mut inner = self.0.lock().expect("not poisoned");
        inner.0.push(reason.to_owned());
        inner.1.insert(by.to_string());
    }

    fn resume(&self, by: &ActorName) {
        self.0.lock().expect("not poisoned").1.remove(by.as_str());
    }
}

/// An error that has another error as its cause.
#[derive(Debug)]
struct Writing(std::io::Error);

impl std::fmt::Display for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("while writing block 7")
    }
}

impl std::error::Error for Writing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_fails_in_a_way_that_may_pass_is_restarted_and_its_callers_reach_it() {
    use ActorFailureType as T;
    let text = |text: &str| text.to_owned();
    let typed = [
        T::Timeout { duration: Duration::from_secs(7) },
        T::MailboxOverflow { capacity: 8, pending: 8 },
        T::ResourceExhaustion { resource_type: text("memory"), usage: 0.97 },
        T::NetworkFailure { peer_id: Some(text("node-2")), error: text("reset") },
        T::GovernanceFailure { event_type: text("vote"), error: text("unknown") },
        T::FederationFailure { operation: text("peg-out"), error: text("refused") },
        T::HealthCheckFailure { consecutive_failures: 3 },
        T::DependencyFailure { service: text("engine"), error: text("silent") },
        T::Error { error: text("something else") },
    ];
    let mut ward = Ward::open("transient", &EscalationTable::TIER).await;
    let address = ward.admit(named("patient"), FailingActor::new(Trouble::None)).await;
    let mut start = 1;
    for kind in typed {
        order(&address, fails(kind.clone()));
        let record = ward.decided_normal(kind.kind()).await;
        start += 1;
        answers(&address, start).await;
        assert_eq!(record.failure.kind(), &kind, "a typed error comes through unchanged");
        assert_eq!(record.failure.class(), kind.class());
        assert_eq!((record.decision.step, record.decision.obstacle), (EscalationStep::Restart, None));
    }

    // Other error types that are classified.
    let absent = Address::<Order>::new(ActorName::literal("engine"), 1);
    let calls = Box::new(move |_| -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(async move {
            absent.ask(SOON, Order::Who).await?;
            Ok(())
        })
    });
    let ends = Box::new(|me: SelfRef<Order>| -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        me.stop(Some("had enough".to_owned()));
        Box::pin(async { Ok(()) })
    });
    let full = || Writing(std::io::Error::from(std::io::ErrorKind::StorageFull));
    let others: [(Deed, &str, FailureClass, &str); 6] = [
        (calls, "dependency_failure", FailureClass::Transient, "actor engine is not running"),
        (
            deed(move || Err(full().into())),
            "resource_exhaustion",
            FailureClass::Exhausted,
            "while writing block 7",
        ),
        (deed(|| Err("in words".into())), "error", FailureClass::Transient, "in words"),
        (ends, "ended", FailureClass::Transient, "had enough"),
        (deed(|| panic!("out of luck")), "panic", FailureClass::Transient, "out of luck"),
        (
            deed(|| Err(std::io::Error::other("the wire broke").into())),
            "error",
            FailureClass::Transient,
            "the wire broke",
        ),
    ];
    for (act, kind, class, message) in others {
        order(&address, act);
        let record = ward.decided_normal(kind).await;
        start += 1;
        answers(&address, start).await;
        assert_eq!((record.failure.class(), record.failure.message()), (class, message), "{record}");
        assert_eq!(record.decision.step, EscalationStep::Restart, "{record}");
    }
    address.target().expect("it runs").kill();
    let record = ward.decided_normal("killed").await;
    assert_eq!(record.failure.kind(), &T::Killed);
    answers(&address, start + 1).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_restart_would_only_repeat_stays_down_until_someone_starts_it_or_is_raised() {
    type Act = Arc<dyn Fn() -> Deed>;
    let field = FieldError { field: "within", value: "0ns".into(), expected: "more" };
    let (found, expected) = (field.clone(), ("within".to_owned(), "0ns".to_owned()));
    let typed = ActorFailureType::ConfigurationError { field: expected.0, value: expected.1 };
    let corrupt = ActorFailureType::CorruptState { component: "index".into(), error: "two heads".into() };
    let ways: [(Act, ActorFailureType, FailureClass); 3] = [
        (
            Arc::new({
                let corrupt = corrupt.clone();
                move || fails(corrupt.clone())
            }),
            corrupt,
            FailureClass::Corrupt,
        ),
        (
            Arc::new({
                let typed = typed.clone();
                move || fails(typed.clone())
            }),
            typed.clone(),
            FailureClass::Configuration,
        ),
        (
            Arc::new(move || {
                let found = found.clone();
                deed(move || Err(found.into()))
            }),
            typed,
            FailureClass::Configuration,
        ),
    ];
    for (n, (act, kind, class)) in ways.into_iter().enumerate() {
        let mut ward = Ward::open(&format!("stays-down-{n}"), &EscalationTable::TIER).await;
        let background = SupervisedActorConfig { priority: ActorPriority::Background, ..named("patient") };
        let address = ward.admit(background, FailingActor::new(Trouble::None)).await;
        order(&address, act());
        let record = ward.decided().await;
        assert_eq!((record.failure.kind(), record.failure.class()), (&kind, class), "{record}");
        assert_eq!(
            (record.decision.step, record.decision.obstacle),
            (EscalationStep::StayDown, Some(Obstacle::Class))
        );
        ward.phase("patient", ChildPhase::Stopped).await;
        assert!(address.ask(SOON, Order::Who).await.is_err(), "nobody is there");
        ward.root.face.start_stopped(&ActorName::literal("patient")).await.expect("it starts");
        answers(&address, 2).await;

        let normal = ward.admit(named("normal"), FailingActor::new(Trouble::None)).await;
        order(&normal, act());
        let record = ward.decided().await;
        assert_eq!(record.decision.step, EscalationStep::RaiseToParent, "{record}");
        ward.root.ended.await.expect("the root gives up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_keeps_its_message_and_place_and_every_doubling_its_backtrace() {
    let mut ward = Ward::open("panics", &EscalationTable::TIER).await;
    let address = ward.admit(named("patient"), FailingActor::new(Trouble::None)).await;
    let mut with_backtrace = Vec::new();
    for n in 1..=5 {
        let line = line!() + 1;
        order(&address, deed(move || panic!("for the {n}. time")));
        let record = ward.decided_normal("panic").await;
        answers(&address, n + 1).await;
        assert_eq!(record.failure.message(), format!("for the {n}. time"));
        let place = record.failure.location().expect("a place");
        assert!(place.contains(&format!("failures.rs:{line}:")), "{place}");
        let ActorFailureType::Panic { backtrace } = record.failure.kind() else { panic!("a panic") };
        with_backtrace.push(backtrace.is_some());
        assert!(backtrace.as_ref().is_none_or(|trace| trace.contains("failures")), "{backtrace:?}");
    }
    assert_eq!(with_backtrace, [true, true, false, true, false]);

    // A panic without a text still has a location.
    order(&address, deed(|| panic_any(42_u8)));
    let record = ward.decided_normal("panic").await;
    assert!(record.failure.location().is_some_and(|place| place.contains("failures.rs")), "{record}");
    answers(&address, 7).await;
    // A panic injected from outside.
    address.inject_panic("a drill").expect("taken");
    assert_eq!(ward.decided_normal("panic").await.failure.message(), "a drill");
    answers(&address, 8).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_the_actor_caught_is_not_blamed_for_what_happens_later() {
    let mut ward = Ward::open("caught", &EscalationTable::TIER).await;
    let address = ward.admit(named("patient"), FailingActor::new(Trouble::None)).await;
    let catches = || drop(catch_unwind(AssertUnwindSafe(|| panic!("caught"))));
    order(
        &address,
        deed(move || {
            catches();
            Ok(())
        }),
    );
    answers(&address, 1).await;
    order(&address, deed(|| Err("another matter".into())));
    let record = ward.decided_normal("error").await;
    assert_eq!((record.failure.message(), record.failure.location()), ("another matter", None));
    answers(&address, 2).await;
    order(
        &address,
        deed(move || {
            catches();
            panic!("not caught")
        }),
    );
    assert_eq!(ward.decided_normal("panic").await.failure.message(), "not caught");
    answers(&address, 3).await;
    order(
        &address,
        deed(move || {
            catches();
            Ok(())
        }),
    );
    answers(&address, 3).await;
    address.target().expect("it runs").kill();
    assert_eq!(ward.decided_normal("killed").await.failure.location(), None);
    answers(&address, 4).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_goes_wrong_anywhere_is_one_more_failure_with_its_own_reason() {
    for (trouble, kind, message, at_start) in [
        (Trouble::Factory, "panic", "failed to start: the factory panics", true),
        (Trouble::PreStart, "panic", "failed to start: pre_start panics", true),
        (Trouble::PreStartFails, "network_failure", "failed to start: the network failed: twice", true),
        (Trouble::PreStartHangs, "timeout", "failed to start: it took longer than 3s", true),
        (Trouble::PostStart, "panic", "post_start panics", false),
    ] {
        let mut ward = Ward::open(&format!("start-{trouble:?}").to_lowercase(), &EscalationTable::TIER).await;
        let config = SupervisedActorConfig { start_deadline: Duration::from_secs(3), ..named("patient") };
        let address = ward.admit(config, FailingActor::new(trouble)).await;
        address.target().expect("it runs").kill();
        ward.decided_normal("killed").await;
        let record = ward.decided_normal(kind).await;
        assert_eq!(
            (record.failure.message(), record.failure.is_at_start(), record.inputs.attempt),
            (message, at_start, 2),
            "{record}"
        );
        if let ActorFailureType::Panic { backtrace } = record.failure.kind() {
            assert!(backtrace.is_some(), "{record}");
            assert!(record.failure.location().is_some_and(|place| place.contains("failures.rs")), "{record}");
        }
        answers(&address, 3).await;
        ward.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_longer_than_its_kind_of_message_may_is_a_timeout() {
    let mut ward = Ward::open("deadline", &EscalationTable::TIER).await;
    let (address, patient) =
        (Address::new(ActorName::literal("patient"), 16), FailingActor::new(Trouble::None));
    let second = Duration::from_secs(1);
    let limits =
        HandlerLimits::default().deadline_of(move |order| matches!(order, Order::Do(_)).then_some(second));
    let child = ChildSpec::limited(&ward.stage.context, &address, limits, patient.factory());
    ward.root.face.start_child(child).await.expect("it starts");

    address.cast(Order::DoAtLeisure(takes(second * 5))).expect("taken");
    order(&address, takes(second / 2));
    answers(&address, 1).await;
    order(&address, takes(second * 2));
    let record = ward.decided_normal("timeout").await;
    assert_eq!(record.failure.kind(), &ActorFailureType::Timeout { duration: second });
    assert_eq!(record.decision.step, EscalationStep::Restart);
    answers(&address, 2).await;

    // The supervision interface sets one deadline for all actors.
    let config = SupervisedActorConfig { handler_deadline: Some(second), ..named("other") };
    let other = ward.admit(config, FailingActor::new(Trouble::None)).await;
    other.cast(Order::DoAtLeisure(takes(second * 5))).expect("taken");
    ward.decided_normal("timeout").await;
    answers(&other, 2).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_flooded_fails_sheds_what_waits_and_starts_with_an_empty_mailbox() {
    let mut ward = Ward::open("flooded", &EscalationTable::TIER).await;
    let config = SupervisedActorConfig {
        mailbox: 4,
        overflow_after: Some(8),
        handler_deadline: Some(SOON),
        ..named("patient")
    };
    let address = ward.admit(config, FailingActor::new(Trouble::None)).await;
    let flood = async |refusals: u64| {
        order(&address, takes(Duration::from_secs(1)));
        eventually(SOON, "the actor is at work", async || seen(address.depth() == 0, address.depth())).await;
        let before = address.refused();
        while address.refused() < before + refusals {
            // Accepted messages take no time; rejected ones are what this test is about.
            let _ = address.cast(Order::Do(deed(|| Ok(()))));
        }
    };
    let idle = async || {
        eventually(SOON, "nothing waits", async || seen(address.depth() == 0, address.depth())).await;
    };
    flood(8).await;
    // A question to a full mailbox would count as one more rejection.
    idle().await;
    answers(&address, 1).await;
    flood(1).await;
    let record = ward.decided_normal("mailbox_overflow").await;
    assert_eq!(record.failure.kind(), &ActorFailureType::MailboxOverflow { capacity: 4, pending: 4 });
    assert_eq!(
        (record.failure.class(), record.decision.step),
        (FailureClass::Exhausted, EscalationStep::Restart)
    );
    answers(&address, 2).await;
    assert_eq!(address.depth(), 0);
    // Rejections before the restart do not count against the new incarnation.
    flood(8).await;
    idle().await;
    answers(&address, 2).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_the_health_monitor_finds_hanging_is_reported_and_restarted() {
    let stage = Stage::new("unhealthy");
    let puppet = stage.puppet("chain");
    let monitor = HealthMonitor {
        address: Address::new(ActorName::literal("health"), 64),
        config: HealthConfig { unhealthy_after: 2, ..HealthConfig::default() },
        incarnation: Incarnation(1),
        clock: stage.context.clock.clone(),
        events: stage.context.events.clone(),
        actors: [Pingable::new(&puppet.address, ActorPriority::Critical)].into(),
        recorder: Arc::new(|_, _| {}),
        listener: Arc::new(|_| {}),
        hooks: MonitorHooks::default(),
    };
    let address = monitor.address.clone();
    let children = vec![
        stage.child(&puppet),
        ChildSpec::worker(&stage.context, &address, move || (monitor.clone(), ())),
    ];
    let mut ward = Ward::with(stage, &EscalationTable::TIER, |spec| spec.children = children).await;
    let becomes = async |events: &mut Receiver<Arc<Recorded>>, wanted: HealthStatus| loop {
        let heard = tokio::time::timeout(SOON, events.recv()).await.expect("told").expect("not missed");
        if let ClusterEvent::ActorHealthChanged { actor, status, .. } = &heard.event
            && *status == wanted
        {
            return actor.clone();
        }
    };
    becomes(&mut ward.events, HealthStatus::Healthy).await;
    puppet.order(alys_tests::tree::Order::Hang);
    let actor = becomes(&mut ward.events, HealthStatus::Unhealthy).await;
    let found = ActorFailureType::HealthCheckFailure { consecutive_failures: 2 };
    let decision = ward.root.face.handle_actor_failure(&actor, found.clone()).await.expect("it is decided");
    let record = ward.decided_normal("health_check_failure").await;
    assert_eq!(
        (record.failure.kind(), &record.decision),
        (&found, &decision),
        "the answer is what was decided"
    );
    assert_eq!(decision.step, EscalationStep::Restart);
    becomes(&mut ward.events, HealthStatus::Healthy).await;
    assert_eq!(puppet.who().await, Ok(2));
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_temporary_child_that_fails_is_not_wanted_back_and_one_that_just_ends_is_no_failure() {
    let mut ward = Ward::open("not-wanted", &EscalationTable::TIER).await;
    let of = |name, restart| SupervisedActorConfig { restart, ..named(name) };
    let transient =
        ward.admit(of("transient", RestartType::Transient), FailingActor::new(Trouble::None)).await;
    let temporary =
        ward.admit(of("temporary", RestartType::Temporary), FailingActor::new(Trouble::None)).await;
    transient.target().expect("it runs").stop(Some("done".to_owned()));
    ward.phase("transient", ChildPhase::Stopped).await;
    order(&temporary, deed(|| panic!("not again")));
    let record = ward.decided_normal("panic").await;
    assert_eq!(record.child, *temporary.name(), "the first end was not decided about");
    assert_eq!(
        (record.decision.step, record.decision.obstacle),
        (EscalationStep::StayDown, Some(Obstacle::NotWanted))
    );
    assert_eq!(ward.root.face.count_children().await.expect("asked").specs, 1, "it is forgotten");
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_escalated_failure_takes_the_next_step_of_the_ladder() {
    let mut ward = Ward::open("escalated", &EscalationTable::TIER).await;
    let critical = |name| SupervisedActorConfig { priority: ActorPriority::Critical, ..named(name) };
    let one = ward.admit(critical("one"), FailingActor::new(Trouble::None)).await;
    let other = ward.admit(critical("other"), FailingActor::new(Trouble::None)).await;
    let failure = || ActorFailureType::NetworkFailure { peer_id: None, error: "again".into() };
    let name = ActorName::literal("one");
    let decision = ward.root.face.escalate_failure(&name, failure()).await.expect("it is decided");
    assert_eq!((decision.step, decision.obstacle), (EscalationStep::RestartSiblings, None));
    assert_eq!(ward.decided().await.decision, decision);
    answers(&one, 2).await;
    answers(&other, 2).await;
    // Siblings are restarted once per window.
    let decision = ward.root.face.escalate_failure(&name, failure()).await.expect("it is decided");
    assert_eq!((decision.step, decision.obstacle), (EscalationStep::RaiseToParent, Some(Obstacle::Attempts)));
    ward.root.ended.await.expect("the root gives up");
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_attempts_are_used_up_takes_its_siblings_along_once_and_then_the_tier_is_raised() {
    use EscalationStep::{RaiseToParent, Restart, RestartSiblings};
    let mut ward = Ward::open("siblings", &EscalationTable::TIER).await;
    let backoff = ExponentialBackoffConfig { max_attempts: Some(2), jitter: 0.0, ..Default::default() };
    let config = SupervisedActorConfig {
        priority: ActorPriority::High,
        strategy: RestartStrategy::ExponentialBackoff(backoff),
        ..named("patient")
    };
    let sibling = ward.admit(named("sibling"), FailingActor::new(Trouble::None)).await;
    let patient = ward.admit(config, FailingActor::new(Trouble::None)).await;
    let mut steps = Vec::new();
    for start in 1..=4 {
        answers(&patient, start).await;
        order(&patient, deed(|| panic!("again and again")));
        let record = ward.decided().await;
        let delay = record.decision.due.since(record.inputs.now).as_millis();
        steps.push((record.decision.step, delay, record.decision.obstacle));
        if start < 3 {
            answers(&sibling, 1).await;
        }
    }
    assert_eq!(
        steps,
        [
            (Restart, 100, None),
            (Restart, 200, None),
            (RestartSiblings, 0, None),
            (RaiseToParent, 0, Some(Obstacle::Attempts)),
        ]
    );
    ward.root.ended.await.expect("the root gives up");
}

/// Number of restarts decided in a tree of two levels whose only worker always fails.
async fn restarts_of_a_hopeless_tree(prefix: &str, bound: Option<u32>) -> (usize, Option<Obstacle>) {
    let mut stage = Stage::new(prefix);
    if let Some(max_restarts) = bound {
        let within = Duration::from_hours(1);
        stage.context = stage.context.bound(RestartIntensity { max_restarts, within });
    }
    let patient = FailingActor { is_hopeless: true, ..FailingActor::new(Trouble::None) };
    let address = Address::new(ActorName::literal("patient"), 16);
    let child = ChildSpec::worker(&stage.context, &address, patient.factory());
    let mut events = stage.context.events.listen();
    let tier = stage.tier("tier", 3, vec![child]);
    let root = stage.raise(stage.spec("root", 4, vec![tier])).await.expect("the tree starts");
    root.ended.await.expect("the root gives up");
    let (mut restarts, mut obstacle) = (0, None);
    while let Ok(recorded) = events.try_recv() {
        if let Some(record) = replayed(&recorded) {
            restarts += usize::from(record.decision.step.is_restart());
            obstacle = record.decision.obstacle;
        }
    }
    (restarts, obstacle)
}

#[tokio::test(start_paused = true)]
async fn a_bound_across_levels_keeps_their_budgets_from_multiplying() {
    // The tier restarts three times in each of its five incarnations, and the root restarts the tier four times.
    let unbound = restarts_of_a_hopeless_tree("unbound", None).await;
    assert_eq!(unbound, (3 * 5 + 4, Some(Obstacle::Intensity)));
    let bound = restarts_of_a_hopeless_tree("bound", Some(6)).await;
    assert_eq!(bound, (6, Some(Obstacle::Bound)));
}

#[tokio::test(start_paused = true)]
async fn a_child_that_misses_more_slots_than_allowed_is_raised() {
    use EscalationStep::{RaiseToParent, Restart};
    let stage = Stage::new("slots");
    let boundary = stage.context.clock.now();
    stage.context.slots.set(SlotTiming { boundary, block_time: Duration::from_secs(2) });
    let budget = SlotBudget { max_missed: 5, within_slots: 30 };
    let mut ward = Ward::with(stage, &EscalationTable::TIER, |spec| spec.slot_budget = budget).await;
    let slow = FixedDelayConfig { delay: Duration::from_millis(4_500), ..FixedDelayConfig::default() };
    let config = SupervisedActorConfig { strategy: RestartStrategy::FixedDelay(slow), ..named("patient") };
    let address = ward.admit(config, FailingActor::new(Trouble::None)).await;
    let mut used = Vec::new();
    for start in 1..=3 {
        answers(&address, start).await;
        order(&address, deed(|| Err("slow".into())));
        let record = ward.decided().await;
        used.push((record.inputs.slots_missed.used, record.decision.step, record.decision.obstacle));
    }
    assert_eq!(used, [(0, Restart, None), (2, Restart, None), (4, RaiseToParent, Some(Obstacle::Slots))]);
    ward.root.ended.await.expect("the root gives up");
}

/// A root as in a node, with one critical tier and one other actor.
async fn node(prefix: &str, halt: &RecordingHalt) -> (Ward, Address<Order>, Address<Order>) {
    let mut stage = Stage::new(prefix);
    stage.context.halt = Arc::new(halt.clone());
    let address = Address::new(ActorName::literal("consensus"), 16);
    let child = ChildSpec::worker(&stage.context, &address, FailingActor::new(Trouble::None).factory());
    let tier = SupervisorSpec {
        escalation: EscalationTable::TIER,
        priority: ActorPriority::Critical,
        ..stage.spec("tier", 3, vec![child.priority(ActorPriority::Critical)])
    };
    let tier = ChildSpec::supervisor(tier, &stage.context);
    let ward = Ward::with(stage, &EscalationTable::ROOT, |spec| {
        spec.children = vec![tier];
        spec.halt_for = Duration::from_mins(1);
    })
    .await;
    let beside = ward.admit(named("api"), FailingActor::new(Trouble::None)).await;
    (ward, address, beside)
}

fn fatal() -> Deed {
    fails(ActorFailureType::ConsensusFailure { error_code: "two-locks".into() })
}

#[tokio::test(start_paused = true)]
async fn a_consensus_failure_halts_before_it_is_raised_and_the_root_lives_until_someone_starts_the_tier() {
    let halt = RecordingHalt::default();
    let (mut ward, consensus, api) = node("halted", &halt).await;
    order(&consensus, fatal());
    let record = ward.decided().await;
    assert_eq!(record.failure.class(), FailureClass::ConsensusFatal);
    assert_eq!((record.decision.step, record.decision.halts), (EscalationStep::RaiseToParent, true));
    let record = ward.decided().await;
    assert_eq!((record.child.as_str(), record.failure.class()), ("tier", FailureClass::ConsensusFatal));
    assert_eq!((record.decision.step, record.decision.halts), (EscalationStep::StopNode, true));
    ward.phase("tier", ChildPhase::Halted).await;
    let asked = halt.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.iter().all(|reason| reason.contains("consensus failed: two-locks")), "{asked:?}");
    assert_eq!(halt.standing(), ["consensus", "tier"]);

    // It does not restart by itself, and the other actors continue.
    tokio::time::sleep(Duration::from_secs(50)).await;
    answers(&api, 1).await;
    assert_eq!(halt.standing(), ["consensus", "tier"]);
    ward.root.face.start_stopped(&ActorName::literal("tier")).await.expect("it starts");
    answers(&consensus, 2).await;
    assert_eq!(halt.standing(), [""; 0]);
    // The timeout that began with the halt ends with it.
    tokio::time::sleep(Duration::from_mins(2)).await;
    answers(&api, 1).await;
    answers(&consensus, 2).await;
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_halted_tier_nobody_starts_ends_after_its_time_with_consensus_halted() {
    let halt = RecordingHalt::default();
    let (mut ward, consensus, api) = node("lingers", &halt).await;
    order(&consensus, fatal());
    ward.phase("tier", ChildPhase::Halted).await;
    let halted = ward.stage.context.clock.now();
    answers(&api, 1).await;
    (&mut ward.root.ended).await.expect("the root ends");
    let lingered = ward.stage.context.clock.now().since(halted);
    assert!(lingered.abs_diff(Duration::from_mins(1)) < Duration::from_secs(1), "{lingered:?}");
    assert_eq!(halt.standing(), ["consensus", "tier"]);
    let told = ward.told();
    let gave_up = told.iter().find(|line| line.starts_with("root gave up")).expect("it says why");
    assert!(
        gave_up.contains("consensus was halted for 60s over tier") && gave_up.contains("two-locks"),
        "{gave_up}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_halted_child_is_not_brought_back_by_the_restart_it_waited_for() {
    let halt = RecordingHalt::default();
    let mut stage = Stage::new("halted-while-waiting");
    stage.context.halt = Arc::new(halt.clone());
    let ward = Ward::with(stage, &EscalationTable::ROOT, |spec| {
        spec.group = SupervisionStrategy::RestForOne;
        spec.halt_for = Duration::from_mins(1);
    })
    .await;
    let config = SupervisedActorConfig {
        priority: ActorPriority::Critical,
        strategy: RestartStrategy::FixedDelay(FixedDelayConfig::default()),
        ..named("patient")
    };
    let address = ward.admit(config, FailingActor::new(Trouble::None)).await;
    address.target().expect("it runs").kill();
    ward.phase("patient", ChildPhase::Restarting).await;
    let failure = ActorFailureType::ConsensusFailure { error_code: "two-locks".into() };
    let decision = ward.root.face.escalate_failure(address.name(), failure).await.expect("it is decided");
    assert_eq!((decision.step, decision.halts), (EscalationStep::StopNode, true));
    ward.phase("patient", ChildPhase::Halted).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(halt.standing(), ["patient"], "nobody said that consensus may go on");
    ward.phase("patient", ChildPhase::Halted).await;
    ward.root.face.start_stopped(address.name()).await.expect("it starts");
    answers(&address, 2).await;
    assert_eq!(halt.standing(), [""; 0]);
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_repeats_itself_comes_back_later_and_later_and_then_after_a_pause() {
    let mut stage = Stage::new("repeats");
    stage.context.memory = SupervisionMemory::new(PatternConfig::default());
    let mut ward = Ward::with(stage, &EscalationTable::TIER, |_| {}).await;
    let delay = FixedDelayConfig { delay: Duration::from_millis(500), ..FixedDelayConfig::default() };
    let config = SupervisedActorConfig { strategy: RestartStrategy::FixedDelay(delay), ..named("patient") };
    let address = ward.admit(config, FailingActor::new(Trouble::None)).await;
    let clock = ward.stage.context.clock.clone();
    let (mut away, mut happened): (Vec<u128>, Vec<Moment>) = (Vec::new(), Vec::new());
    for start in 1..=9 {
        answers(&address, start).await;
        order(&address, deed(|| Err("the same".into())));
        let record = ward.decided_normal("error").await;
        happened.push(record.inputs.now);
        let back = eventually(SOON, "it is back", async || {
            let who = address.ask(SOON, Order::Who).await.map_err(|error| error.to_string())?;
            seen(who == start + 1, who).map(|()| clock.now())
        })
        .await;
        assert!(back >= record.decision.due, "not before it is due");
        away.push(back.since(record.inputs.now).as_millis() / 100);
        let open = record.inputs.tightening.open_until;
        assert_eq!(open, (start >= 8).then(|| record.inputs.now + Duration::from_secs(10)), "{record}");
    }
    assert_eq!(away, [5, 5, 10, 20, 20, 20, 20, 100, 100], "tenths of a second");

    let findings = ward.stage.context.memory.findings(clock.now());
    let [finding] = &findings[..] else { panic!("one finding, not {findings:?}") };
    let actor = ActorName::literal("patient");
    assert_eq!(finding.pattern, Pattern::Repeat { actor, kind: "error", location: None });
    let shown: Vec<_> = finding.evidence.iter().map(|evidence| evidence.at).collect();
    assert_eq!(shown, happened[1..], "the evidence is what happened");
    assert!(finding.evidence.iter().all(|evidence| evidence.failure.message() == "the same"));
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_one_of_a_dependency_is_told_as_a_cascade_and_no_other() {
    let mut ward = Ward::open("cascade", &EscalationTable::TIER).await;
    let engine = ward.admit(named("engine"), FailingActor::new(Trouble::None)).await;
    let needs = SupervisedActorConfig { depends_on: vec![ActorName::literal("engine")], ..named("chain") };
    let chain = ward.admit(needs, FailingActor::new(Trouble::None)).await;
    let stranger = ward.admit(named("stranger"), FailingActor::new(Trouble::None)).await;
    engine.target().expect("it runs").kill();
    ward.decided_normal("killed").await;
    for address in [&chain, &stranger] {
        order(address, deed(|| Err("it went away".into())));
        ward.decided_normal("error").await;
    }
    answers(&chain, 2).await;
    let context = &ward.stage.context;
    let findings = context.memory.findings(context.clock.now());
    let [finding] = &findings[..] else { panic!("one finding, not {findings:?}") };
    let (from, to) = (ActorName::literal("engine"), ActorName::literal("chain"));
    assert_eq!(finding.pattern, Pattern::Cascade { from, to });
    let shown: Vec<_> = finding.evidence.iter().map(|evidence| evidence.failure.message()).collect();
    assert_eq!(shown, ["killed", "it went away"]);
    ward.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_failures_is_bounded_and_forgets_who_failed_longest_ago() {
    let actors = ACTORS_MAX.get() + 76;
    let ward = Ward::with(Stage::new("bounded"), &EscalationTable::TIER, |spec| {
        spec.is_dynamic = true;
        spec.intensity.max_restarts = 100_000;
    })
    .await;
    let memory = ward.stage.context.memory.clone();
    for n in 0..actors {
        let config = SupervisedActorConfig::new(ActorName::new(&format!("worker/{n}")).expect("a name"));
        let address = ward.admit(config, FailingActor::new(Trouble::None)).await;
        address.target().expect("it runs").kill();
        answers(&address, 2).await;
        // The last actor fails more often than the history keeps per actor.
        for start in 3..=20 {
            if n == actors - 1 {
                address.target().expect("it runs").kill();
                answers(&address, start).await;
            }
        }
    }
    let usage = memory.usage();
    assert_eq!((usage.actors, usage.forgotten), (ACTORS_MAX.get(), 76));
    assert_eq!(usage.attempts, ACTORS_MAX.get() - 1 + ATTEMPTS_MAX);
    assert_eq!(memory.history(&ActorName::literal("worker/75")), None);
    let last = memory.history(&ActorName::new(&format!("worker/{}", actors - 1)).expect("a name"));
    let last = last.expect("it is remembered");
    assert_eq!((last.statistics.failures, last.statistics.recoveries), (19, 19));
    ward.root.stop().await;
}
