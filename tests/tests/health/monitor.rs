//! Tests that the health monitor detects the state of real actors through their mailboxes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::event::{ClusterEvent, Recorded};
use alys_cluster::health::actor::SummaryListener;
use alys_cluster::health::state::ActorHealth;
use alys_cluster::health::{
    HealthCheckResult, HealthConfig, HealthMonitor, HealthStatus, MonitorHooks, Pingable,
};
use alys_cluster::health::{HealthMessage, RecoveryAgent, RecoveryConfig, RecoveryMessage};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation};
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::{ChildSpec, HandlerLimits, RestartType, TreeRestartRequester};
use alys_tests::eventually;
use alys_tests::federation::SOON;
use alys_tests::tree::{Order, Root, ScriptedActor, Stage};
use tokio::sync::broadcast::error::TryRecvError;

/// A critical and a background actor under a supervisor, and a monitor that checks both.
struct Pair {
    stage: Stage,
    chain: ScriptedActor,
    metrics: ScriptedActor,
    monitor: Address<HealthMessage>,
    summaries: Arc<Mutex<Vec<HealthCheckResult>>>,
    root: Root,
}

impl Pair {
    async fn start(prefix: &str, restart: RestartType) -> Self {
        let stage = Stage::new(prefix);
        let (chain, metrics) = (stage.puppet("chain"), stage.puppet("metrics"));
        let summaries: Arc<Mutex<Vec<HealthCheckResult>>> = Arc::default();
        let hears = summaries.clone();
        let listener: SummaryListener =
            Arc::new(move |summary| hears.lock().expect("not poisoned").push(summary));
        let monitor = HealthMonitor {
            address: Address::new(ActorName::literal("health"), 64),
            config: HealthConfig {
                critical_interval: Duration::from_millis(500),
                background_interval: Duration::from_millis(500),
                critical_timeout: Duration::from_millis(400),
                timeout: Duration::from_millis(400),
                unhealthy_after: 2,
                ..HealthConfig::default()
            },
            incarnation: Incarnation(1),
            clock: stage.context.clock.clone(),
            events: stage.context.events.clone(),
            actors: [
                Pingable::new(&chain.address, ActorPriority::Critical),
                Pingable::new(&metrics.address, ActorPriority::Background),
            ]
            .into(),
            recorder: Arc::new(|_, _| {}),
            listener,
            hooks: MonitorHooks::default(),
        };
        let address = monitor.address.clone();
        let children = vec![
            stage.child(&chain).restart(restart),
            stage.child(&metrics).restart(restart),
            ChildSpec::worker(&stage.context, &address, move || (monitor.clone(), ())),
        ];
        let root = stage.raise(stage.spec("root", 10, children)).await.expect("the tree starts");
        let watch = Self { stage, chain, metrics, monitor: address, summaries, root };
        watch.becomes("chain", HealthStatus::Healthy).await;
        watch.becomes("metrics", HealthStatus::Healthy).await;
        watch
    }

    async fn health(&self, actor: &str) -> Result<ActorHealth, String> {
        let board = self.monitor.ask(SOON, HealthMessage::Board).await.map_err(|error| error.to_string())?;
        board
            .into_iter()
            .find(|health| health.name.as_str() == actor)
            .ok_or_else(|| "not on the board".to_owned())
    }

    async fn becomes(&self, actor: &str, status: HealthStatus) -> ActorHealth {
        eventually(SOON, &format!("{actor} becomes {status}"), async || {
            let health = self.health(actor).await?;
            if health.status == status {
                Ok(health)
            } else {
                Err(format!("{}: {}", health.status, health.reason))
            }
        })
        .await
    }

    /// Waits for a summary with this status, and returns it.
    async fn hears(&self, status: HealthStatus) -> HealthCheckResult {
        eventually(SOON, &format!("the listener hears {status}"), async || {
            let last = self.summaries.lock().expect("not poisoned").last().cloned();
            let last = last.ok_or("nothing")?;
            if last.status == status { Ok(last) } else { Err(last.status.as_str()) }
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_is_what_it_says_of_itself() {
    let watch = Pair::start("own-word", RestartType::Permanent).await;
    assert_eq!(watch.hears(HealthStatus::Healthy).await, HealthCheckResult::healthy());
    watch.chain.order(Order::Feel(HealthCheckResult::degraded("catching up")));
    assert_eq!(watch.becomes("chain", HealthStatus::Degraded).await.reason, "catching up");
    assert_eq!(watch.hears(HealthStatus::Healthy).await.reason, "", "a degraded actor can be counted on");
    watch.chain.order(Order::Feel(HealthCheckResult::unhealthy("the disk is full")));
    assert_eq!(watch.becomes("chain", HealthStatus::Unhealthy).await.consecutive_failures, 0);
    let summary = watch.hears(HealthStatus::Unhealthy).await;
    assert_eq!(summary.reason, "chain is unhealthy: the disk is full");
    watch.chain.order(Order::Feel(HealthCheckResult::healthy()));
    watch.becomes("chain", HealthStatus::Healthy).await;
    watch.hears(HealthStatus::Healthy).await;
    watch.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_hangs_is_degraded_after_one_check_and_unhealthy_after_two() {
    let watch = Pair::start("hung", RestartType::Permanent).await;
    let mut events = watch.stage.context.events.listen();
    watch.chain.order(Order::Hang);
    let degraded = watch.becomes("chain", HealthStatus::Degraded).await;
    assert_eq!(degraded.consecutive_failures, 1);
    assert!(degraded.reason.contains("did not answer within 400ms"), "{}", degraded.reason);
    let unhealthy = watch.becomes("chain", HealthStatus::Unhealthy).await;
    assert_eq!(unhealthy.consecutive_failures, 2);
    let summary = watch.hears(HealthStatus::Unhealthy).await;
    assert!(summary.reason.contains("chain is unhealthy: actor chain did not answer"), "{}", summary.reason);
    assert_eq!(watch.health("metrics").await.expect("asked").status, HealthStatus::Healthy);

    // A hung actor can be killed; its supervisor restarts it, and the first check finds it healthy.
    watch.chain.kill();
    assert_eq!(watch.becomes("chain", HealthStatus::Healthy).await.consecutive_failures, 0);
    watch.hears(HealthStatus::Healthy).await;
    let mut changes = Vec::new();
    while let Ok(recorded) = events.try_recv() {
        if let ClusterEvent::ActorHealthChanged { actor, status, .. } = &recorded.event {
            changes.push(format!("{actor} {status}"));
        }
    }
    assert_eq!(changes, ["chain degraded", "chain unhealthy", "chain healthy"]);
    watch.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_not_running_is_unhealthy_at_the_first_check() {
    let watch = Pair::start("absent", RestartType::Temporary).await;
    watch.chain.kill();
    let health = watch.becomes("chain", HealthStatus::Unhealthy).await;
    assert_eq!((health.consecutive_failures, health.reason.as_str()), (1, "actor chain is not running"));
    let summary = watch.hears(HealthStatus::Unhealthy).await;
    assert_eq!(summary.reason, "chain is unhealthy: actor chain is not running");
    watch.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_nothing_critical_depends_on_does_not_make_the_member_unhealthy() {
    let watch = Pair::start("background", RestartType::Temporary).await;
    watch.metrics.order(Order::Panic);
    watch.becomes("metrics", HealthStatus::Unhealthy).await;
    let heard = watch.summaries.lock().expect("not poisoned").len();
    eventually(SOON, "two more summaries", async || {
        let now = watch.summaries.lock().expect("not poisoned").len();
        alys_tests::seen(now >= heard + 2, now)
    })
    .await;
    let summaries = watch.summaries.lock().expect("not poisoned").clone();
    assert!(summaries.iter().all(|summary| summary.status == HealthStatus::Healthy), "{summaries:?}");
    watch.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_is_restarted_watches_on() {
    let watch = Pair::start("monitor", RestartType::Permanent).await;
    watch.monitor.target().expect("it was started").kill();
    eventually(SOON, "the monitor is back", async || watch.health("chain").await).await;
    watch.chain.order(Order::Feel(HealthCheckResult::unhealthy("broken")));
    watch.becomes("chain", HealthStatus::Unhealthy).await;
    assert_eq!(watch.hears(HealthStatus::Unhealthy).await.reason, "chain is unhealthy: broken");
    watch.root.stop().await;
}

type MonitorLimits = HandlerLimits<HealthMessage>;

/// Actors of all tiers under one supervisor, with a monitor and a recovery agent.
struct Ward {
    stage: Stage,
    actors: Vec<ScriptedActor>,
    monitor: Address<HealthMessage>,
    events: tokio::sync::broadcast::Receiver<Arc<Recorded>>,
    /// Summaries of the node's health, with their times.
    summaries: Arc<Mutex<Vec<(Moment, HealthCheckResult)>>>,
    root: Root,
}

impl Ward {
    async fn open(prefix: &str, names: &[&'static str], config: HealthConfig) -> Self {
        Self::open_with(prefix, names, config, |limits| limits).await
    }

    /// Like `open`, with `watch` applied to the limits of the monitor's handlers.
    async fn open_with(
        prefix: &str,
        names: &[&'static str],
        config: HealthConfig,
        limits: impl FnOnce(MonitorLimits) -> MonitorLimits,
    ) -> Self {
        let stage = Stage::new(prefix);
        let actors: Vec<_> = names.iter().map(|name| stage.puppet(name)).collect();
        let tiers =
            [ActorPriority::Critical, ActorPriority::High, ActorPriority::Normal, ActorPriority::Background];
        let pingable = |(puppet, tier): (&ScriptedActor, _)| Pingable::new(&puppet.address, tier);
        let agent = Address::new(ActorName::literal("recovery"), 256);
        let follows = agent.clone();
        let summaries: Arc<Mutex<Vec<(Moment, HealthCheckResult)>>> = Arc::default();
        let (hears, clock) = (summaries.clone(), stage.context.clock.clone());
        let monitor = HealthMonitor {
            address: Address::new(ActorName::literal("health"), 64),
            config,
            incarnation: Incarnation(1),
            clock: stage.context.clock.clone(),
            events: stage.context.events.clone(),
            actors: actors.iter().zip(tiers.into_iter().cycle()).map(pingable).collect(),
            recorder: Arc::new(|_, _| {}),
            listener: Arc::new(move |summary| {
                hears.lock().expect("not poisoned").push((clock.now(), summary));
            }),
            hooks: MonitorHooks {
                follower: Some(Arc::new(move |found| drop(follows.cast(RecoveryMessage::Found(found))))),
                ..MonitorHooks::default()
            },
        };
        let recovery = RecoveryAgent {
            config: config.recovery,
            monitor: monitor.address.clone(),
            restart_requester: Arc::new(TreeRestartRequester { context: stage.context.clone() }),
            clock: stage.context.clock.clone(),
            events: stage.context.events.clone(),
        };
        let events = stage.context.events.listen();
        let (address, context) = (monitor.address.clone(), &stage.context);
        let mut children: Vec<_> = actors.iter().map(|puppet| stage.child(puppet)).collect();
        let limits = limits(MonitorLimits::default());
        children.push(ChildSpec::limited(context, &address, limits, move || (monitor.clone(), ())));
        children.push(ChildSpec::worker(context, &agent, move || (recovery.clone(), ())));
        let root = stage.raise(stage.spec("root", 100, children)).await.expect("the tree starts");
        Self { stage, actors, monitor: address, events, summaries, root }
    }

    /// Waits for a new summary with this status, and returns the time of the first one.
    async fn says(&self, status: HealthStatus) -> Moment {
        let known = self.summaries.lock().expect("not poisoned").len();
        eventually(SOON, &format!("the node says that it is {status}"), async || {
            let summaries = self.summaries.lock().expect("not poisoned");
            let found = summaries[known..].iter().find(|(_, summary)| summary.status == status);
            found.map(|(at, _)| *at).ok_or_else(|| format!("{:?}", summaries.last()))
        })
        .await
    }

    async fn becomes(&self, actor: &str, wanted: HealthStatus) -> ActorHealth {
        eventually(Duration::from_mins(2), &format!("{actor} becomes {wanted}"), async || {
            let board = self.monitor.ask(SOON, HealthMessage::Board).await.map_err(|e| e.to_string())?;
            let health = board.into_iter().find(|health| health.name.as_str() == actor);
            let health = health.ok_or_else(|| "not on the board".to_owned())?;
            if health.status == wanted {
                Ok(health)
            } else {
                Err(format!("{}: {}", health.status, health.reason))
            }
        })
        .await
    }

    /// Collects events about recoveries and restarts until `line` is among them.
    async fn tells(&mut self, line: &str) -> Vec<String> {
        let mut told = Vec::new();
        eventually(SOON, &format!("{line} is told"), async || {
            told.extend(self.told());
            alys_tests::seen(told.iter().any(|known| known == line), format!("{told:?}"))
        })
        .await;
        told
    }

    /// Events about recoveries and restarts so far.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            match self.events.try_recv().map(|recorded| recorded.event.clone()) {
                Ok(ClusterEvent::RecoveryChanged { actor, stage, .. }) => {
                    told.push(format!("{actor} {stage}"));
                }
                Ok(ClusterEvent::ActorHealthChanged { actor, status: HealthStatus::Recovering, .. }) => {
                    told.push(format!("{actor} is recovering"));
                }
                Ok(ClusterEvent::RestartDecided { record, .. }) => {
                    told.push(format!("{} {}", record.child, record.failure.kind().kind()));
                }
                Ok(_) | Err(TryRecvError::Lagged(_)) => {}
                Err(_) => return told,
            }
        }
    }
}

/// Checks twice per second, and restarts after two seconds of silence.
fn quick() -> HealthConfig {
    let half = Duration::from_millis(500);
    HealthConfig {
        critical_interval: half,
        high_interval: half,
        normal_interval: half,
        background_interval: half,
        critical_timeout: Duration::from_millis(400),
        timeout: Duration::from_millis(400),
        slow_min: Duration::from_millis(50),
        slow_max: Duration::from_millis(300),
        recovery: RecoveryConfig {
            patience: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
            attempts_max: 2,
            ..RecoveryConfig::default()
        },
        ..HealthConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_hangs_is_restarted_once_by_its_supervisor_and_followed_until_it_answers() {
    let mut ward = Ward::open("ward-hung", &["chain", "sync"], quick()).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    let begun = ward.stage.context.clock.now();
    ward.actors[0].order(Order::Hang);
    let unhealthy = ward.becomes("chain", HealthStatus::Unhealthy).await;
    let found_in = ward.stage.context.clock.now().since(begun);
    // The rest of an interval, one poll, and two checks of 400 ms.
    assert!(found_in <= Duration::from_millis(1_400), "{found_in:?}");
    assert!(unhealthy.reason.contains("the message in hand is"), "{}", unhealthy.reason);
    let told = ward.tells("chain recovered").await;
    assert_eq!((ward.actors[0].starts(), ward.actors[1].starts()), (2, 1));
    assert_eq!(told, ["chain health_check_failure", "chain begun", "chain is recovering", "chain recovered"]);
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_actor_is_its_supervisor_s_alone() {
    let mut ward = Ward::open("ward-panic", &["chain"], quick()).await;
    for start in 2..=4 {
        ward.becomes("chain", HealthStatus::Healthy).await;
        ward.actors[0].order(Order::Panic);
        eventually(SOON, "it is back", async || {
            let who = ward.actors[0].who().await?;
            alys_tests::seen(who == start, who)
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    assert_eq!(ward.told(), ["chain panic"; 3]);
    assert_eq!(ward.actors[0].starts(), 4);
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_actor_is_degraded_and_a_flooded_one_too_and_neither_is_restarted() {
    let mut ward = Ward::open("ward-slow", &["chain", "sync"], quick()).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    ward.actors[0].order(Order::Take(Duration::from_hours(1)));
    // The next incarnation is slow.
    ward.tells("chain recovered").await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    ward.actors[0].order(Order::Jitter(Duration::from_millis(390)));
    let slow = ward.becomes("chain", HealthStatus::Degraded).await;
    assert!(slow.reason.contains("slow: it answered in"), "{}", slow.reason);

    // The mailbox of the other actor is always full, and it takes 100 ms per message.
    let flooded = ward.actors[1].address.clone();
    let flood = tokio::spawn(async move {
        loop {
            while flooded.cast(Order::Take(Duration::from_millis(100))).is_ok() {}
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let busy = ward.becomes("sync", HealthStatus::Degraded).await;
    assert!(busy.reason.contains("busy") || busy.reason.contains("full"), "{}", busy.reason);
    tokio::time::sleep(Duration::from_mins(5)).await;
    let busy = ward.becomes("sync", HealthStatus::Degraded).await;
    assert!(busy.reason.contains("but dealt with"), "{}", busy.reason);
    flood.abort();
    ward.becomes("sync", HealthStatus::Healthy).await;
    assert_eq!(ward.told(), [""; 0]);
    ward.root.stop().await;
}

/// Ends the busy loop of an actor when dropped, even if the test fails.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_actor_in_a_loop_that_never_yields_is_unhealthy_and_replaced_as_soon_as_it_can_be() {
    let mut ward = Ward::open("ward-spin", &["chain"], quick()).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    let release = Release(Arc::default());
    ward.actors[0].order(Order::Spin(release.0.clone()));
    let unhealthy = ward.becomes("chain", HealthStatus::Unhealthy).await;
    assert!(unhealthy.reason.contains("did not answer within 400ms"), "{}", unhealthy.reason);
    ward.tells("chain begun").await;
    // Nothing can stop it before it yields; its supervisor keeps trying until then.
    drop(release);
    ward.becomes("chain", HealthStatus::Healthy).await;
    assert_eq!(ward.actors[0].who().await, Ok(2));
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_that_do_not_help_end_in_an_escalation() {
    let config = HealthConfig {
        recovery: RecoveryConfig { deadline: Duration::from_secs(1), ..quick().recovery },
        ..quick()
    };
    let mut ward = Ward::open("ward-hopeless", &["chain"], config).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    let mut told = Vec::new();
    for life in 1..=3 {
        eventually(SOON, "the next life", async || {
            let who = ward.actors[0].who().await?;
            alys_tests::seen(who == life, who)
        })
        .await;
        ward.actors[0].order(Order::Hang);
    }
    eventually(Duration::from_mins(2), "it gives up", async || {
        told.extend(ward.told());
        alys_tests::seen(told.contains(&"chain gave_up".to_owned()), format!("{told:?}"))
    })
    .await;
    let asked = told.iter().filter(|line| *line == "chain begun").count();
    assert_eq!(asked, 2, "{told:?}");
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_healthy_actor_is_restarted_in_an_hour_under_jitter() {
    let names = ["chain", "engine", "federation", "consensus", "network", "sync", "metrics", "logging"];
    let mut ward = Ward::open("ward-hour", &names, HealthConfig::default()).await;
    for actor in &ward.actors {
        actor.order(Order::Jitter(Duration::from_millis(600)));
    }
    let patience = HealthConfig::default().recovery.patience;
    let (mut told, mut statuses) = (Vec::new(), BTreeSet::new());
    for minute in 0..60_u64 {
        let busy = &ward.actors[(minute % 8) as usize];
        match minute / 8 % 3 {
            // Work that takes longer than a check's timeout.
            0 => busy.order(Order::Take(Duration::from_millis(1_500))),
            // One message that takes as long as the patience with a silent actor.
            1 => busy.order(Order::Take(patience)),
            // Messages that together take longer than the patience, each longer than two checks.
            _ => (0..10).for_each(|_| busy.order(Order::Take(Duration::from_millis(2_200)))),
        }
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let board = ward.monitor.ask(SOON, HealthMessage::Board).await.expect("answers");
            statuses.extend(board.iter().map(|health| (health.priority, health.status)));
        }
        told.extend(ward.told());
    }
    // The statuses were all reported, and yet no actor was restarted.
    for tier in [ActorPriority::Critical, ActorPriority::High] {
        for status in [HealthStatus::Healthy, HealthStatus::Degraded, HealthStatus::Unhealthy] {
            assert!(statuses.contains(&(tier, status)), "{tier:?} {status}: {statuses:?}");
        }
    }
    assert_eq!(told, [""; 0]);
    assert!(ward.actors.iter().all(|actor| actor.starts() == 1));
    let trends = ward.monitor.ask(SOON, HealthMessage::Trends).await.expect("answers");
    let chain = &trends.actors[0].1;
    assert!(chain.samples == 64 && chain.response_mean > Duration::from_millis(100), "{chain:?}");
    assert!(trends.score > 0.4, "{}", trends.score);
    ward.root.stop().await;
}

/// Hangs the monitor's handler, and checks that its next incarnation continues the checks.
async fn is_replaced_and_checks_on(mut ward: Ward, expected: &[&str]) {
    ward.becomes("chain", HealthStatus::Healthy).await;
    let first = ward.monitor.target().expect("it runs").get_id();
    let checked = ward.actors[0].address.handled();
    ward.monitor.inject_hang().expect("it runs");
    eventually(SOON, "another incarnation runs", async || {
        let now = ward.monitor.target().expect("it runs").get_id();
        alys_tests::seen(now != first, now)
    })
    .await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    ward.actors[0].order(Order::Feel(HealthCheckResult::unhealthy("broken")));
    ward.says(HealthStatus::Unhealthy).await;
    let again = ward.actors[0].address.handled();
    assert!(again > checked, "its pings go on: {again}, {checked} before");
    if let Some(last) = expected.last() {
        assert_eq!(ward.tells(last).await, expected);
    }
    assert!(ward.actors.iter().all(|actor| actor.starts() == 1), "nobody else is touched");
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_hangs_is_restarted_by_the_agent_that_watches_it() {
    let config = HealthConfig {
        recovery: RecoveryConfig { monitor_patience: Duration::from_secs(3), ..quick().recovery },
        ..quick()
    };
    let ward = Ward::open("ward-watcher", &["chain", "sync"], config).await;
    is_replaced_and_checks_on(ward, &["health health_check_failure", "health begun", "health recovered"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_hangs_is_restarted_by_its_supervisor_at_its_handler_s_deadline() {
    let config = HealthConfig { recovery: RecoveryConfig { enabled: false, ..quick().recovery }, ..quick() };
    let deadline = |limits: MonitorLimits| limits.deadline(Duration::from_secs(2));
    let ward = Ward::open_with("ward-deadline", &["chain", "sync"], config, deadline).await;
    is_replaced_and_checks_on(ward, &["health timeout"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_is_suspended_on_purpose_is_left_alone() {
    let config = HealthConfig {
        recovery: RecoveryConfig { monitor_patience: Duration::from_secs(3), ..quick().recovery },
        ..quick()
    };
    let mut ward = Ward::open("ward-suspended", &["chain"], config).await;
    ward.becomes("chain", HealthStatus::Healthy).await;
    let child = ActorName::literal("health");
    ward.root.face.suspend_child(&child).await.expect("suspended");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ward.told(), [""; 0]);
    ward.root.face.resume_child(&child).await.expect("resumed");
    ward.becomes("chain", HealthStatus::Healthy).await;
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_critical_actor_that_hangs_makes_its_node_unhealthy_within_1150_ms_whenever_it_hangs() {
    let ward = Ward::open(
        "ward-when",
        &["chain", "engine", "sync", "logging", "consensus"],
        HealthConfig::default(),
    )
    .await;
    let (chain, clock) = (&ward.actors[0], ward.stage.context.clock.clone());
    ward.says(HealthStatus::Healthy).await;
    let mut times = Vec::new();
    for phase in 0..50 {
        tokio::time::sleep(Duration::from_millis(phase * 11)).await;
        let begun = clock.now();
        chain.order(Order::Hang);
        times.push(ward.says(HealthStatus::Unhealthy).await.since(begun));
        assert_eq!(chain.starts(), phase as u32 + 1, "nobody has replaced it yet");
        chain.kill();
        ward.says(HealthStatus::Healthy).await;
    }
    let (soonest, latest) = (times.iter().min().expect("50"), times.iter().max().expect("50"));
    println!("found after {soonest:?} to {latest:?}");
    assert!(*latest <= Duration::from_millis(1_150), "{latest:?}");
    ward.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_critical_actor_that_is_a_slot_behind_makes_its_node_unhealthy_and_works_on() {
    let mut ward = Ward::open("ward-behind", &["chain"], HealthConfig::default()).await;
    let (chain, clock) = (&ward.actors[0], ward.stage.context.clock.clone());
    ward.says(HealthStatus::Healthy).await;
    let flooded = chain.address.clone();
    let begun = clock.now();
    let flood = tokio::spawn(async move {
        loop {
            while flooded.cast(Order::Take(Duration::from_millis(200))).is_ok() {}
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let found = ward.says(HealthStatus::Unhealthy).await.since(begun);
    // The rest of an interval, one poll, one slot, and a check that ends after it.
    println!("behind after {found:?}");
    assert!(found > Duration::from_secs(2) && found <= Duration::from_millis(3_150), "{found:?}");
    let behind = ward.becomes("chain", HealthStatus::Unhealthy).await;
    assert!(behind.reason.contains("behind: no check of the last"), "{}", behind.reason);
    tokio::time::sleep(HealthConfig::default().recovery.patience * 3).await;
    let worked = ward.actors[0].address.handled();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(ward.actors[0].address.handled() > worked, "it works on");
    assert_eq!((ward.told(), ward.actors[0].starts()), (vec![], 1), "and nobody restarts it");
    flood.abort();
    ward.says(HealthStatus::Healthy).await;
    ward.root.stop().await;
}

#[tokio::test]
async fn a_batch_checks_everybody_at_once() {
    let ward = Ward::open("ward-batch", &["a", "b", "c", "d", "e"], HealthConfig::default()).await;
    let board = ward.monitor.ask(SOON, HealthMessage::Batch).await.expect("answers");
    assert_eq!(board.len(), 5);
    assert!(board.iter().all(|health| health.status == HealthStatus::Healthy), "{board:?}");
    ward.root.stop().await;
}
