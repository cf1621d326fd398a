//! Fixture: many supervised actors that answer pings, with a health monitor, and their shutdown.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::{Clock, SystemClock, WallTime};
use alys_cluster::event::EventBus;
use alys_cluster::health::{
    HealthConfig, HealthMessage, HealthMonitor, HealthStatus, MonitorHooks, PingMessage, Pingable,
};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation};
use alys_cluster::mailbox::Address;
use alys_cluster::shutdown::actors;
use alys_cluster::supervision::{ChildSpec, Context, EnhancedSupervision, Root, SupervisorSpec};
use ractor::ActorProcessingErr;

/// Timeout of every operation.
const DEADLINE: Duration = Duration::from_secs(30);
const PRIORITIES: [ActorPriority; 4] =
    [ActorPriority::Critical, ActorPriority::High, ActorPriority::Normal, ActorPriority::Background];

/// An actor that answers health checks and takes no messages.
#[derive(Clone)]
pub struct PingedActor;

impl Actor for PingedActor {
    type Msg = Infallible;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {}
    }
}

/// Many supervised actors with their health monitor.
pub struct Crowd {
    context: Context,
    root: Root,
    monitor: Address<HealthMessage>,
    first: Address<Infallible>,
    size: usize,
}

impl Crowd {
    /// Starts `size` actors of all priorities, each of which depends on the one with half its number.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub async fn start(prefix: &str, size: usize) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let context = Context::new(prefix, clock.clone(), EventBus::new(clock.clone()));
        let name = |n: usize| ActorName::new(&format!("actor-{n}")).expect("a name");
        let addresses: Vec<_> = (0..size).map(|n| Address::new(name(n), 64)).collect();
        let child = |(n, address): (usize, &Address<Infallible>)| {
            let child = ChildSpec::worker(&context, address, || (PingedActor, ()));
            let child = child.priority(PRIORITIES[n % 4]);
            if n == 0 { child } else { child.depends_on(&[&name(n / 2)]) }
        };
        let monitor = Address::new(ActorName::literal("health"), 64);
        let pingable =
            |(n, address): (usize, &Address<Infallible>)| Pingable::new(address, PRIORITIES[n % 4]);
        let actor = HealthMonitor {
            address: monitor.clone(),
            // A long interval keeps the monitor's own checks out of the measured batches.
            config: HealthConfig { critical_interval: Duration::from_mins(1), ..HealthConfig::default() },
            incarnation: Incarnation(1),
            clock: clock.clone(),
            events: context.events.clone(),
            actors: addresses.iter().enumerate().map(pingable).collect(),
            recorder: Arc::new(|_, _| {}),
            listener: Arc::new(|_| {}),
            hooks: MonitorHooks::default(),
        };
        let first = addresses[0].clone();
        let mut children: Vec<_> = addresses.iter().enumerate().map(child).collect();
        children.push(ChildSpec::worker(&context, &monitor, move || (actor.clone(), ())));
        let spec = SupervisorSpec::new(ActorName::literal("root"), children);
        let root = EnhancedSupervision::start(spec, context.clone()).await.expect("they start");
        Self { context, root, monitor, first, size }
    }

    /// Checks all actors at once; returns the duration.
    ///
    /// # Panics
    ///
    /// If an actor is not healthy.
    pub async fn batch(&self) -> Duration {
        let begun = Instant::now();
        let board = self.monitor.ask(DEADLINE, HealthMessage::Batch).await.expect("an answer");
        let took = begun.elapsed();
        let healthy = board.iter().filter(|health| health.status == HealthStatus::Healthy).count();
        assert_eq!(healthy, self.size);
        took
    }

    /// Pings the first actor directly, without the monitor; returns the duration.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub async fn ask(&self) -> Duration {
        let ping = PingMessage {
            id: 1,
            timestamp: WallTime(0),
            source: "bench".to_owned(),
            incarnation: Incarnation(1),
            federation_check: false,
            metadata: BTreeMap::new(),
        };
        let begun = Instant::now();
        self.first.ping(DEADLINE, ping).await.expect("an answer");
        begun.elapsed()
    }

    /// Stops all actors in dependency order; returns the duration.
    ///
    /// # Panics
    ///
    /// If an actor has to be killed.
    pub async fn shut_down(self) -> Duration {
        let begun = Instant::now();
        let stopped = actors::stop(&self.context.tree, DEADLINE).await.expect("no circle");
        let took = begun.elapsed();
        assert_eq!((stopped.stopped, stopped.forced.len()), (self.size + 1, 0));
        self.root.stop();
        took
    }
}
