//! Does the health monitor find out what became of real actors, through their mailboxes?

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_cluster::event::ClusterEvent;
use alys_cluster::health::HealthMessage;
use alys_cluster::health::actor::SummaryListener;
use alys_cluster::health::state::ActorHealth;
use alys_cluster::health::{HealthCheckResult, HealthConfig, HealthMonitor, HealthStatus, Pingable};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation};
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::{ChildSpec, RestartType};
use alys_tests::eventually;
use alys_tests::federation::SOON;
use alys_tests::tree::{Order, Puppet, Root, Stage};

/// A critical and a background actor under a supervisor, and a monitor that watches both.
struct Watch {
    stage: Stage,
    chain: Puppet,
    metrics: Puppet,
    monitor: Address<HealthMessage>,
    summaries: Arc<Mutex<Vec<HealthCheckResult>>>,
    root: Root,
}

impl Watch {
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
                timeout: Duration::from_millis(400),
                unhealthy_after: 2,
                ..HealthConfig::default()
            },
            incarnation: Incarnation(1),
            clock: stage.context.clock.clone(),
            events: stage.context.events.clone(),
            actors: [
                Pingable::new(&chain.address, ActorPriority::Critical, Order::Ping),
                Pingable::new(&metrics.address, ActorPriority::Background, Order::Ping),
            ]
            .into(),
            recorder: Arc::new(|_, _| {}),
            listener,
        };
        let address = monitor.address.clone();
        let children = vec![
            stage.child(&chain).restart(restart),
            stage.child(&metrics).restart(restart),
            ChildSpec::worker(&stage.context.prefix, &address.name().clone(), move || (monitor.clone(), ())),
        ];
        let root = stage.raise(stage.spec("root", 10, children)).await.expect("the tree starts");
        let watch = Self { stage, chain, metrics, monitor: address, summaries, root };
        watch.becomes("chain", HealthStatus::Healthy).await;
        watch.becomes("metrics", HealthStatus::Healthy).await;
        watch
    }

    async fn health(&self, actor: &str) -> Result<ActorHealth, String> {
        let board = self.monitor.call(SOON, HealthMessage::Board).await.map_err(|error| error.to_string())?;
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

    /// Waits for a summary of this status, and returns it.
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
    let watch = Watch::start("own-word", RestartType::Permanent).await;
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
    let watch = Watch::start("hung", RestartType::Permanent).await;
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

    // A hung actor can be killed; its supervisor starts it again, and the first check finds it well.
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
    let watch = Watch::start("absent", RestartType::Temporary).await;
    watch.chain.kill();
    let health = watch.becomes("chain", HealthStatus::Unhealthy).await;
    assert_eq!((health.consecutive_failures, health.reason.as_str()), (1, "actor chain is not running"));
    let summary = watch.hears(HealthStatus::Unhealthy).await;
    assert_eq!(summary.reason, "chain is unhealthy: actor chain is not running");
    watch.root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_nothing_critical_depends_on_does_not_make_the_member_unhealthy() {
    let watch = Watch::start("background", RestartType::Temporary).await;
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
    let watch = Watch::start("monitor", RestartType::Permanent).await;
    watch.monitor.target().expect("it was started").get_cell().kill();
    eventually(SOON, "the monitor is back", async || watch.health("chain").await).await;
    watch.chain.order(Order::Feel(HealthCheckResult::unhealthy("broken")));
    watch.becomes("chain", HealthStatus::Unhealthy).await;
    assert_eq!(watch.hears(HealthStatus::Unhealthy).await.reason, "chain is unhealthy: broken");
    watch.root.stop().await;
}
