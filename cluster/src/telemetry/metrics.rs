//! Counts events as Prometheus metrics. Labels are bounded: member, actor, decision; never a text or a hash.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::MetricsMessage;
use super::{Ear, Listening, forward};
use crate::clock::Clock;
use crate::event::ClusterEvent;
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::{ActorName, NodeId};
use crate::mailbox::{Address, Mail};
use crate::registry::RegistryStats;

/// Buckets around the 2 s slot, in seconds.
const INTERVAL_BUCKETS: [f64; 11] = [0.5, 1.0, 1.5, 1.8, 1.9, 1.95, 2.05, 2.1, 2.3, 3.0, 10.0];
/// Buckets for the time to a decision, in seconds.
const DECIDING_BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0];
/// Buckets for a decision of a supervisor, in seconds.
const DECISION_BUCKETS: [f64; 8] = [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2];

/// The metrics of a node.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    restarts: IntCounterVec,
    escalations: IntCounterVec,
    decision: Histogram,
    budget_left: IntGaugeVec,
    child_exits: IntCounterVec,
    supervisors_gave_up: IntCounter,
    actor_healthy: IntGaugeVec,
    recoveries: IntCounterVec,
    health_score: IntGauge,
    peer_up: IntGaugeVec,
    peer_losses: IntCounterVec,
    peer_attested: IntCounterVec,
    attestations_refused: IntCounter,
    self_doubts: IntCounter,
    gate_open: IntGauge,
    gate_healthy: IntGauge,
    gate_required: IntGauge,
    gate_decisions: IntCounterVec,
    link_up: IntGaugeVec,
    link_losses: IntCounterVec,
    link_refusals: IntCounter,
    chain_height: IntGauge,
    blocks: IntCounterVec,
    rounds: IntCounter,
    block_interval: Histogram,
    deciding: Histogram,
    signature_refusals: IntCounter,
    shutdown_state: IntGaugeVec,
    shutdown_refusals: IntCounter,
    peer_departures: IntCounterVec,
    events_missed: IntCounter,
    actors: ActorMetrics,
}

/// What is counted of the actors in the registry, and of those that peers published.
#[derive(Clone)]
struct ActorMetrics {
    by_state: IntGaugeVec,
    subscriptions: IntGauge,
    registrations: IntCounter,
    removals: IntCounter,
    moves: IntCounter,
    remote: IntGaugeVec,
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("a metric's name and labels are literals of the right form");
    registry.register(Box::new(metric.clone())).expect("every metric has a name of its own");
    metric
}

impl ActorMetrics {
    fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| register(registry, IntCounter::new(name, help));
        let gauges = |name: &str, help: &str, by: &[&str]| {
            register(registry, IntGaugeVec::new(Opts::new(name, help), by))
        };
        let subscriptions =
            IntGauge::new("registry_subscriptions", "Who is told of changes of the registry.");
        Self {
            by_state: gauges("registry_actors", "Registered actors.", &["state"]),
            subscriptions: register(registry, subscriptions),
            registrations: counter(
                "registry_registrations_total",
                "Registrations, those of actors that came back included.",
            ),
            removals: counter("registry_removals_total", "Actors removed from the registry."),
            moves: counter("registry_moves_total", "Moves of actors from one state to another."),
            remote: gauges("discovery_remote_actors", "Actors published by the peer.", &["peer"]),
        }
    }

    fn show(&self, gauges: &Gauges) {
        let registry = &gauges.registry;
        for (state, count) in registry.by_state {
            self.by_state.with_label_values(&[state.as_str()]).set(count as i64);
        }
        self.subscriptions.set(registry.subscriptions as i64);
        for (counter, total) in [
            (&self.registrations, registry.registrations),
            (&self.removals, registry.removals),
            (&self.moves, registry.moves),
        ] {
            // The registry counts, and outlives the collector.
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        // A lost peer publishes nothing.
        self.remote.reset();
        for (peer, actors) in &gauges.remote_actors {
            self.remote.with_label_values(&[peer.as_str()]).set(*actors as i64);
        }
    }
}

impl Metrics {
    /// Every metric at zero, labelled with the member's name.
    pub fn new(node: &NodeId) -> Self {
        let labels = [("node".to_owned(), node.to_string())].into();
        let registry = Registry::new_custom(None, Some(labels)).expect("a label of the right form");
        let r = &registry;
        let counter = |name: &str, help: &str| register(r, IntCounter::new(name, help));
        let counters =
            |name: &str, help: &str, by: &[&str]| register(r, IntCounterVec::new(Opts::new(name, help), by));
        let gauge = |name: &str, help: &str| register(r, IntGauge::new(name, help));
        let gauges =
            |name: &str, help: &str, by: &[&str]| register(r, IntGaugeVec::new(Opts::new(name, help), by));
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            register(r, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
        };
        let build = gauges("alys_build_info", "Constant 1; the version is a label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        r.register(Box::new(process)).expect("the process collector is registered once");
        Self {
            restarts: counters(
                "supervision_restarts_total",
                "Restarts decided.",
                &["actor_type", "reason", "strategy"],
            ),
            escalations: counters(
                "supervision_escalations_total",
                "Failures that were answered otherwise than by a restart.",
                &["actor_type", "reason", "step"],
            ),
            child_exits: counters("supervision_child_exits_total", "Children that ended.", &["actor_type"]),
            decision: histogram(
                "supervision_decision_seconds",
                "From learning of a failure to the decision.",
                &DECISION_BUCKETS,
            ),
            budget_left: gauges(
                "supervision_budget_left",
                "Restarts a supervisor may still make within its window.",
                &["supervisor"],
            ),
            supervisors_gave_up: counter("supervision_gave_up_total", "Supervisors that gave up."),
            actor_healthy: gauges("health_actor_serving", "1 if the actor serves, else 0.", &["actor"]),
            health_score: gauge(
                "health_score_thousandths",
                "The weighted mean of the actors' statuses, from 0 to 1000.",
            ),
            recoveries: counters(
                "health_recoveries_total",
                "Steps of the recovery of actors that did not answer.",
                &["actor", "stage"],
            ),
            peer_up: gauges("federation_peer_up", "1 if the peer answers heartbeats, else 0.", &["peer"]),
            peer_losses: counters("federation_peer_losses_total", "Times the peer was lost.", &["peer"]),
            peer_attested: counters(
                "federation_peer_attested_total",
                "Times a peer that did not answer attested its health through another.",
                &["peer"],
            ),
            attestations_refused: counter(
                "federation_attestations_refused_total",
                "Statements of health that were refused.",
            ),
            self_doubts: counter(
                "federation_self_doubts_total",
                "Times this member heard none of its peers and doubted itself first.",
            ),
            gate_open: gauge("federation_gate_open", "1 if the gate is open, else 0."),
            gate_healthy: gauge("federation_healthy_members", "Healthy members, this one included."),
            gate_required: gauge("federation_required_members", "Healthy members required."),
            gate_decisions: counters("federation_gate_decisions_total", "Changed verdicts.", &["decision"]),
            link_up: gauges("link_up", "1 if the link carries envelopes, else 0.", &["peer"]),
            link_losses: counters("link_losses_total", "Times the link was lost.", &["peer"]),
            link_refusals: counter("link_refusals_total", "Connections and envelopes refused."),
            chain_height: gauge("chain_height", "The height of the last committed block."),
            blocks: counters("chain_blocks_total", "Blocks committed.", &["origin"]),
            rounds: counter("consensus_rounds_total", "Rounds begun."),
            block_interval: histogram(
                "chain_block_interval_seconds",
                "Between two committed blocks.",
                &INTERVAL_BUCKETS,
            ),
            deciding: histogram(
                "consensus_deciding_seconds",
                "From seeing a proposal to its certificate.",
                &DECIDING_BUCKETS,
            ),
            signature_refusals: counter("consensus_signature_refusals_total", "Signatures refused."),
            shutdown_state: gauges("shutdown_state", "1 for the state the shutdown is in.", &["state"]),
            shutdown_refusals: counter("shutdown_refusals_total", "Requests to shut down that were refused."),
            peer_departures: counters(
                "federation_peer_departures_total",
                "Times the peer left in order.",
                &["peer"],
            ),
            actors: ActorMetrics::new(&registry),
            events_missed: counter("telemetry_events_missed_total", "Events the collector was too slow for."),
            registry,
        }
    }

    /// Counts one event.
    pub fn observe(&self, event: &ClusterEvent) {
        match event {
            ClusterEvent::ChildStarted { .. } | ClusterEvent::ShutdownTaskEnded { .. } => {}
            ClusterEvent::ChildEnded { child, .. } => {
                self.child_exits.with_label_values(&[child.kind()]).inc();
            }
            ClusterEvent::RestartDecided { record, took, .. } => {
                let (actor, reason) = (record.child.kind(), record.failure.kind().kind());
                if record.decision.step.is_restart() {
                    let strategy = record.inputs.strategy.as_str();
                    self.restarts.with_label_values(&[actor, reason, strategy]).inc();
                } else {
                    let step = record.decision.step.as_str();
                    self.escalations.with_label_values(&[actor, reason, step]).inc();
                }
                self.decision.observe(took.as_secs_f64());
            }
            ClusterEvent::SupervisorGaveUp { .. } => self.supervisors_gave_up.inc(),
            ClusterEvent::ActorHealthChanged { actor, status, .. } => {
                self.actor_healthy.with_label_values(&[actor.as_str()]).set(status.is_serving().into());
            }
            ClusterEvent::RecoveryChanged { actor, stage, .. } => {
                self.recoveries.with_label_values(&[actor.as_str(), stage]).inc();
            }
            ClusterEvent::ShutdownChanged { state, .. } => {
                self.shutdown_state.reset();
                self.shutdown_state.with_label_values(&[state]).set(1);
            }
            ClusterEvent::ShutdownRefused { .. } => self.shutdown_refusals.inc(),
            ClusterEvent::PeerLeft { node, .. } => {
                self.peer_up.with_label_values(&[node.as_str()]).set(0);
                self.peer_departures.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::PeerUp { node, .. } => self.peer_up.with_label_values(&[node.as_str()]).set(1),
            ClusterEvent::PeerDown { node, .. } => {
                self.peer_up.with_label_values(&[node.as_str()]).set(0);
                self.peer_losses.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::PeerAttested { node, .. } => {
                self.peer_up.with_label_values(&[node.as_str()]).set(0);
                self.peer_attested.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::AttestationRefused { .. } => self.attestations_refused.inc(),
            ClusterEvent::SelfDoubted { begins, .. } => {
                self.self_doubts.inc_by((*begins).into());
            }
            ClusterEvent::VerdictChanged { open, .. } => {
                let decision = if *open { "open" } else { "closed" };
                self.gate_decisions.with_label_values(&[decision]).inc();
            }
            ClusterEvent::LinkUp { peer } => self.link_up.with_label_values(&[peer.as_str()]).set(1),
            ClusterEvent::LinkDown { peer, .. } => {
                self.link_up.with_label_values(&[peer.as_str()]).set(0);
                self.link_losses.with_label_values(&[peer.as_str()]).inc();
            }
            ClusterEvent::LinkRefused { .. } => self.link_refusals.inc(),
            ClusterEvent::HeightCommitted { adopted, interval, deciding, .. } => {
                let origin = if *adopted { "adopted" } else { "decided" };
                self.blocks.with_label_values(&[origin]).inc();
                if let Some(interval) = interval {
                    self.block_interval.observe(interval.as_secs_f64());
                }
                if let Some(deciding) = deciding {
                    self.deciding.observe(deciding.as_secs_f64());
                }
            }
            ClusterEvent::RoundStarted { .. } => self.rounds.inc(),
            ClusterEvent::SignatureRefused { .. } => self.signature_refusals.inc(),
        }
    }

    /// Sets the gauges.
    pub fn show(&self, gauges: &Gauges) {
        for (supervisor, left) in &gauges.budgets {
            self.budget_left.with_label_values(&[supervisor.as_str()]).set(*left as i64);
        }
        self.actors.show(gauges);
        self.health_score.set(gauges.health_score as i64);
        self.chain_height.set(gauges.height as i64);
        self.gate_open.set(gauges.gate_open.into());
        self.gate_healthy.set(gauges.healthy as i64);
        self.gate_required.set(gauges.required as i64);
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("metrics have a text form");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

/// What a gauge shows is read when it is asked for: an event that was missed must not leave it wrong.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// What is left of each supervisor's restart budget.
    pub budgets: Vec<(ActorName, u64)>,
    /// The registry's numbers.
    pub registry: RegistryStats,
    /// Actors that each peer published.
    pub remote_actors: Vec<(NodeId, usize)>,
    /// The weighted mean of the actors' statuses, in thousandths.
    pub health_score: u64,
    /// The height of the last committed block.
    pub height: u64,
    /// Whether the gate is open.
    pub gate_open: bool,
    /// Healthy members.
    pub healthy: usize,
    /// Healthy members required.
    pub required: usize,
}

/// Reads the gauges. Must not wait.
pub type ReadGauges = Arc<dyn Fn() -> Gauges + Send + Sync>;

/// What the collector works with. The metrics outlive a restart of the actor, so that counters do not fall.
#[derive(Clone)]
pub struct MetricsActor {
    /// Where it is reached.
    pub address: Address<MetricsMessage>,
    /// What it counts into.
    pub metrics: Metrics,
    /// Reads what is shown as it is now.
    pub gauges: ReadGauges,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// What it hears.
    pub ear: Ear,
}

impl Actor for MetricsActor {
    type Msg = Mail<MetricsMessage>;
    type State = Listening;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Listening, ActorProcessingErr> {
        self.address.bind(me);
        Ok(forward(&self.ear, self.address.clone(), MetricsMessage::Event))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        _: &mut Listening,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            MetricsMessage::Event(heard, done) => {
                match heard {
                    Ok(recorded) => self.metrics.observe(&recorded.event),
                    Err(missed) => self.metrics.events_missed.inc_by(missed),
                }
                let _ = done.send(());
            }
            MetricsMessage::Render(reply) => {
                self.metrics.show(&(self.gauges)());
                let _ = reply.send(self.metrics.render());
            }
            MetricsMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
