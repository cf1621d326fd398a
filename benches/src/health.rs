//! Fixture: many supervised actors that answer pings, with a health monitor, and their shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_cluster::clock::{Clock, SystemClock, WallTime};
use alys_cluster::event::EventBus;
use alys_cluster::health::message::answer;
use alys_cluster::health::{
    HealthCheckResult, HealthConfig, HealthMessage, HealthMonitor, HealthStatus, MonitorHooks, PingMessage,
    Pingable, PongMessage,
};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation};
use alys_cluster::mailbox::{Address, Mail};
use alys_cluster::shutdown::actors;
use alys_cluster::supervision::{ChildSpec, Context, EnhancedSupervision, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// Timeout of every operation.
const DEADLINE: Duration = Duration::from_secs(30);
const PRIORITIES: [ActorPriority; 4] =
    [ActorPriority::Critical, ActorPriority::High, ActorPriority::Normal, ActorPriority::Background];

/// Message to a [`PingedActor`].
pub enum Question {
    /// Health check.
    Ping(PingMessage, RpcReplyPort<PongMessage>),
}

/// Actor that answers pings.
#[derive(Clone)]
pub struct PingedActor {
    address: Address<Question>,
    clock: Arc<dyn Clock>,
}

impl Actor for PingedActor {
    type Msg = Mail<Question>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        self.address.bind(me);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Question::Ping(ping, reply) = mail.open();
        answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
        Ok(())
    }
}

/// Many supervised actors with their health monitor.
pub struct Crowd {
    context: Context,
    root: EnhancedSupervision,
    monitor: Address<HealthMessage>,
    first: Address<Question>,
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
        let patient = |n| PingedActor { address: Address::new(name(n), 64), clock: clock.clone() };
        let patients: Vec<_> = (0..size).map(patient).collect();
        let child = |(n, patient): (usize, &PingedActor)| {
            let patient = patient.clone();
            let child = ChildSpec::worker(prefix, &name(n), move || (patient.clone(), ()));
            let child = child.priority(PRIORITIES[n % 4]);
            if n == 0 { child } else { child.depends_on(&[&name(n / 2)]) }
        };
        let monitor = Address::new(ActorName::literal("health"), 64);
        let pingable = |(n, patient): (usize, &PingedActor)| {
            Pingable::new(&patient.address, PRIORITIES[n % 4], Question::Ping)
        };
        let actor = HealthMonitor {
            address: monitor.clone(),
            // A long interval keeps the monitor's own checks out of the measured batches.
            config: HealthConfig { critical_interval: Duration::from_mins(1), ..HealthConfig::default() },
            incarnation: Incarnation(1),
            clock: clock.clone(),
            events: context.events.clone(),
            actors: patients.iter().enumerate().map(pingable).collect(),
            recorder: Arc::new(|_, _| {}),
            listener: Arc::new(|_| {}),
            hooks: MonitorHooks::default(),
        };
        let first = patients[0].address.clone();
        let mut children: Vec<_> = patients.iter().enumerate().map(child).collect();
        children.push(ChildSpec::worker(prefix, monitor.name(), move || (actor.clone(), ())));
        let spec = SupervisorSpec::new(ActorName::literal("root"), children);
        let (root, _) = EnhancedSupervision::start(spec, context.clone()).await.expect("they start");
        Self { context, root, monitor, first, size }
    }

    /// Checks all actors at once; returns the duration.
    ///
    /// # Panics
    ///
    /// If an actor is not healthy.
    pub async fn batch(&self) -> Duration {
        let begun = Instant::now();
        let board = self.monitor.call(DEADLINE, HealthMessage::Batch).await.expect("an answer");
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
        self.first.call(DEADLINE, |reply| Question::Ping(ping, reply)).await.expect("an answer");
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
