//! Counts events as Prometheus metrics. Label values are bounded: member, actor, decision; never a text or a hash.

use std::sync::Arc;

use crate::actor::{Actor, SelfRef};
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use ractor::ActorProcessingErr;

use super::families::Families;
use super::gauges::{Asked, Gauges, LinkReading, PEER_STATES, PeerReading, ReadGauges};
use super::message::MetricsMessage;
use super::{EventReceiver, EventSubscription, forward};
use crate::clock::Clock;
use crate::event::ClusterEvent;
use crate::id::NodeId;
use crate::mailbox::Address;

/// Buckets around the 2 s slot time, in seconds.
const INTERVAL_BUCKETS: [f64; 11] = [0.5, 1.0, 1.5, 1.8, 1.9, 1.95, 2.05, 2.1, 2.3, 3.0, 10.0];
/// Buckets for the time from a proposal to its decision, in seconds.
const DECIDING_BUCKETS: [f64; 9] = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0];
/// Buckets for the duration of a supervisor's decision, in seconds.
const DECISION_BUCKETS: [f64; 8] = [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2];

/// The metrics of a node.
#[derive(Clone)]
pub struct Metrics {
    families: Families,
    restarts: IntCounterVec,
    escalations: IntCounterVec,
    decision: Histogram,
    budget_left: IntGaugeVec,
    patterns: IntGaugeVec,
    child_exits: IntCounterVec,
    supervisors_gave_up: IntCounter,
    actor_healthy: IntGaugeVec,
    recoveries: IntCounterVec,
    health_score: IntGauge,
    members: MemberMetrics,
    gate: GateMetrics,
    links: LinkMetrics,
    chain_height: IntGauge,
    head_time: Gauge,
    head_age: Gauge,
    blocks: IntCounterVec,
    rounds: IntCounter,
    round: IntGauge,
    block_interval: Histogram,
    deciding: Histogram,
    signature_refusals: IntCounter,
    signatures_unknown: IntCounter,
    equivocations: IntCounterVec,
    shutdown_state: IntGaugeVec,
    shutdown_refusals: IntCounter,
    sync_latency: Gauge,
    storage_stuck: Gauge,
    storage_free: Gauge,
    storage_data: Gauge,
    syncs: IntCounter,
    spans_exported: IntCounter,
    spans_lost: IntCounterVec,
    log_lines_lost: IntCounterVec,
    events_missed: IntCounter,
    actors: ActorMetrics,
}

/// Metrics of the actors in the registry, and of those that peers published.
#[derive(Clone)]
struct ActorMetrics {
    by_state: IntGaugeVec,
    subscriptions: IntGauge,
    registrations: IntCounter,
    removals: IntCounter,
    moves: IntCounter,
    remote: IntGaugeVec,
}

impl ActorMetrics {
    fn new(make: &mut Families) -> Self {
        Self {
            by_state: make.gauges("registry_actors", "Registered actors.", &["state"]),
            subscriptions: make.gauge("registry_subscriptions", "Who is told of changes of the registry."),
            registrations: make.counter(
                "registry_registrations_total",
                "Registrations, those of actors that came back included.",
            ),
            removals: make.counter("registry_removals_total", "Actors removed from the registry."),
            moves: make.counter("registry_moves_total", "Moves of actors from one state to another."),
            remote: make.gauges("discovery_remote_actors", "Actors published by the peer.", &["peer"]),
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
            raise(counter, total);
        }
        // A lost peer publishes no actors.
        self.remote.reset();
        for (peer, actors) in &gauges.remote_actors {
            self.remote.with_label_values(&[peer.as_str()]).set(*actors as i64);
        }
    }
}

/// Metrics of the other members.
#[derive(Clone)]
struct MemberMetrics {
    up: IntGaugeVec,
    by_state: IntGaugeVec,
    phi: GaugeVec,
    silence: GaugeVec,
    clock_offset: GaugeVec,
    clock_wrong: IntGauge,
    height: IntGaugeVec,
    losses: IntCounterVec,
    departures: IntCounterVec,
    attested: IntCounterVec,
    duplicates: IntCounterVec,
    refused: IntCounter,
    self_doubts: IntCounter,
}

impl MemberMetrics {
    fn new(make: &mut Families, peers: &[NodeId]) -> Self {
        let by = &["peer"];
        let made = Self {
            up: make.gauges("federation_peer_up", "1 if the peer answers heartbeats, else 0.", by),
            by_state: make.gauges("federation_peers", "Other members by their state.", &["state"]),
            phi: make.measures("federation_peer_phi", "Suspicion that the peer is gone.", by),
            silence: make.measures("federation_peer_silence_seconds", "Since the peer's last answer.", by),
            clock_offset: make.measures(
                "federation_peer_clock_offset_seconds",
                "How far the peer's clock is ahead of this member's.",
                by,
            ),
            clock_wrong: make.gauge(
                "federation_clock_wrong",
                "1 while this member's clock is wrong by the median of its peers' clocks, else 0.",
            ),
            height: make.gauges("federation_peer_height", "The peer's height, as last heard.", by),
            losses: make.counters("federation_peer_losses_total", "Times the peer was lost.", by),
            departures: make.counters(
                "federation_peer_departures_total",
                "Times the peer left in order.",
                by,
            ),
            attested: make.counters(
                "federation_peer_attested_total",
                "Times a peer that did not answer attested its health through another.",
                by,
            ),
            duplicates: make.counters(
                "federation_duplicate_members_total",
                "Times two processes were found to hold the member's key.",
                &["member"],
            ),
            refused: make.counter(
                "federation_attestations_refused_total",
                "Statements of a member's health that were refused.",
            ),
            self_doubts: make.counter(
                "federation_self_doubts_total",
                "Times this member heard nobody and doubted itself.",
            ),
        };
        for peer in peers.iter().map(NodeId::as_str) {
            made.up.with_label_values(&[peer]).set(0);
            for counter in [&made.losses, &made.departures, &made.attested] {
                counter.with_label_values(&[peer]);
            }
        }
        made
    }

    fn show(&self, peers: Option<&[PeerReading]>) {
        // Unknown values are not exported.
        self.by_state.reset();
        self.phi.reset();
        self.silence.reset();
        self.clock_offset.reset();
        self.height.reset();
        let Some(peers) = peers else { return };
        for state in PEER_STATES {
            let count = peers.iter().filter(|peer| peer.state == state).count();
            self.by_state.with_label_values(&[state]).set(count as i64);
        }
        for peer in peers {
            let by = &[peer.peer.as_str()];
            self.up.with_label_values(by).set((peer.state == "up").into());
            self.phi.with_label_values(by).set(peer.phi);
            if let Some(silence) = peer.silence {
                self.silence.with_label_values(by).set(silence.as_secs_f64());
            }
            if let Some(offset) = peer.clock_offset_ms {
                self.clock_offset.with_label_values(by).set(offset as f64 / 1_000.0);
            }
            if let Some(height) = peer.height {
                self.height.with_label_values(by).set(height as i64);
            }
        }
    }
}

/// Metrics of the gate.
#[derive(Clone)]
struct GateMetrics {
    open: IntGauge,
    healthy: IntGauge,
    required: IntGauge,
    decisions: IntCounterVec,
    class_open: IntGaugeVec,
    class_demand: IntGaugeVec,
}

impl GateMetrics {
    fn new(make: &mut Families) -> Self {
        let decisions = make.counters(
            "federation_gate_decisions_total",
            "Decisions that changed the gate or the count.",
            &["decision"],
        );
        for decision in ["open", "closed"] {
            decisions.with_label_values(&[decision]);
        }
        Self {
            open: make.gauge("federation_gate_open", "1 if the federation may work, else 0."),
            healthy: make.gauge("federation_healthy_members", "Healthy members, this one included."),
            required: make.gauge("federation_required_members", "Healthy members required."),
            decisions,
            class_open: make.gauges(
                "federation_gate_class_open",
                "1 if this class of operations is admitted, else 0.",
                &["class"],
            ),
            class_demand: make.gauges(
                "federation_gate_class_demand",
                "Healthy members this class of operations demands.",
                &["class"],
            ),
        }
    }

    fn show(&self, gauges: &Gauges) {
        self.open.set(gauges.gate_open.into());
        self.healthy.set(gauges.healthy as i64);
        self.required.set(gauges.required as i64);
        for (class, demand, open) in &gauges.classes {
            self.class_open.with_label_values(&[class]).set((*open).into());
            self.class_demand.with_label_values(&[class]).set(*demand as i64);
        }
    }
}

/// Metrics of the links.
#[derive(Clone)]
struct LinkMetrics {
    up: IntGaugeVec,
    losses: IntCounterVec,
    refusals: IntCounter,
    dials: IntCounterVec,
    sessions: IntCounterVec,
    sent: IntCounterVec,
    sent_bytes: IntCounterVec,
    received: IntCounterVec,
    received_bytes: IntCounterVec,
    refused: IntCounterVec,
    lost: IntCounterVec,
    dropped: IntCounterVec,
    queued: IntGaugeVec,
    queued_bytes: IntGaugeVec,
    round_trip: GaugeVec,
    expires: Gauge,
    lifetime: Gauge,
}

impl LinkMetrics {
    fn new(make: &mut Families, peers: &[NodeId]) -> Self {
        let by = &["peer"];
        let made = Self {
            up: make.gauges("link_up", "1 if the link carries envelopes, else 0.", by),
            losses: make.counters("link_losses_total", "Times the link was lost.", by),
            refusals: make.counter("link_refusals_total", "Connections and envelopes refused."),
            dials: make.counters("link_dials_total", "Times this member dialled.", by),
            sessions: make.counters("link_sessions_total", "Sessions that became usable.", by),
            sent: make.counters("link_sent_envelopes_total", "Envelopes written to the socket.", by),
            sent_bytes: make.counters("link_sent_bytes_total", "Bytes written, before encryption.", by),
            received: make.counters("link_received_envelopes_total", "Envelopes that arrived.", by),
            received_bytes: make.counters("link_received_bytes_total", "Bytes that arrived.", by),
            refused: make.counters(
                "link_refused_envelopes_total",
                "Envelopes that arrived and were refused.",
                by,
            ),
            lost: make.counters("link_lost_envelopes_total", "Envelopes lost for want of a link.", by),
            dropped: make.counters(
                "link_dropped_envelopes_total",
                "Envelopes that a full queue dropped or refused.",
                &["peer", "class"],
            ),
            queued: make.gauges("link_queued_envelopes", "Envelopes waiting to be sent.", by),
            queued_bytes: make.gauges("link_queued_bytes", "Bytes waiting to be sent.", by),
            round_trip: make.measures("link_round_trip_seconds", "How long the last ping took.", by),
            expires: make.measure(
                "link_certificate_expires_timestamp_seconds",
                "Until when this member's certificate for links holds, since the epoch.",
            ),
            lifetime: make.measure(
                "link_certificate_lifetime_seconds",
                "How long a certificate for links holds; it is made anew at half of that.",
            ),
        };
        for peer in peers.iter().map(NodeId::as_str) {
            made.up.with_label_values(&[peer]).set(0);
            made.losses.with_label_values(&[peer]);
        }
        made
    }

    fn show(&self, links: &[LinkReading]) {
        for link in links {
            let by = &[link.peer.as_str()];
            for (counters, total) in [
                (&self.dials, link.dials),
                (&self.sessions, link.sessions),
                (&self.sent, link.sent.0),
                (&self.sent_bytes, link.sent.1),
                (&self.received, link.received.0),
                (&self.received_bytes, link.received.1),
                (&self.refused, link.refused),
                (&self.lost, link.lost),
            ] {
                raise(&counters.with_label_values(by), total);
            }
            for (class, total) in &link.dropped {
                raise(&self.dropped.with_label_values(&[link.peer.as_str(), class]), *total);
            }
            self.queued.with_label_values(by).set(link.queued.0 as i64);
            self.queued_bytes.with_label_values(by).set(link.queued.1 as i64);
            if let Some(took) = link.round_trip {
                self.round_trip.with_label_values(by).set(took.as_secs_f64());
            }
        }
    }
}

/// Raises a counter to a total that is counted elsewhere and survives restarts of the collector.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

impl Metrics {
    /// Creates every metric at zero, labelled with the member's name.
    #[expect(clippy::too_many_lines, reason = "a list")]
    pub fn new(node: &NodeId, peers: &[NodeId]) -> Self {
        let mut families = Families::new(node);
        let make = &mut families;
        let build = make.gauges("alys_build_info", "Constant 1; the version is a label.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            restarts: make.counters(
                "supervision_restart_attempts_total",
                "Restarts decided.",
                &["actor_type", "reason", "strategy"],
            ),
            escalations: make.counters(
                "supervision_escalations_total",
                "Failures that were answered otherwise than by a restart.",
                &["actor_type", "reason", "step"],
            ),
            child_exits: make.counters(
                "supervision_child_exits_total",
                "Children that ended.",
                &["actor_type"],
            ),
            decision: make.histogram(
                "supervision_decision_seconds",
                "From learning of a failure to the decision.",
                &DECISION_BUCKETS,
            ),
            budget_left: make.gauges(
                "supervision_budget_left",
                "Restarts a supervisor may still make within its window.",
                &["supervisor"],
            ),
            patterns: make.gauges(
                "supervision_patterns",
                "Patterns of failures found within the window.",
                &["pattern"],
            ),
            supervisors_gave_up: make.counter("supervision_gave_up_total", "Supervisors that gave up."),
            actor_healthy: make.gauges("health_actor_serving", "1 if the actor serves, else 0.", &["actor"]),
            health_score: make.gauge(
                "health_score_thousandths",
                "The weighted mean of the actors' statuses, from 0 to 1000.",
            ),
            recoveries: make.counters(
                "health_recoveries_total",
                "Steps of the recovery of actors that did not answer.",
                &["actor", "stage"],
            ),
            members: MemberMetrics::new(make, peers),
            gate: GateMetrics::new(make),
            links: LinkMetrics::new(make, peers),
            chain_height: make.gauge("chain_height", "The height of the last committed block."),
            head_age: make.measure(
                "chain_head_age_seconds",
                "Since the last block was committed, whatever the wall clock did; since the start before the first.",
            ),
            head_time: make.measure(
                "chain_head_timestamp_seconds",
                "The time stamp of the last committed block, since the epoch; 0 before the first.",
            ),
            blocks: make.counters("chain_blocks_total", "Blocks committed.", &["origin"]),
            rounds: make.counter("consensus_rounds_total", "Rounds begun."),
            round: make.gauge("consensus_round", "The round that began last; 0 is a height's first."),
            block_interval: make.histogram(
                "chain_block_interval_seconds",
                "Between two committed blocks.",
                &INTERVAL_BUCKETS,
            ),
            deciding: make.histogram(
                "consensus_deciding_seconds",
                "From seeing a proposal to its certificate.",
                &DECIDING_BUCKETS,
            ),
            signature_refusals: make.counter("consensus_signature_refusals_total", "Signatures refused."),
            signatures_unknown: make.counter(
                "consensus_signatures_unknown_total",
                "Signatures of this member's key, sent by others, that its journal does not know.",
            ),
            equivocations: make.counters(
                "consensus_equivocations_total",
                "Heights for which the member has signed two different things.",
                &["member"],
            ),
            shutdown_state: make.gauges("shutdown_state", "1 for the state the shutdown is in.", &["state"]),
            shutdown_refusals: make
                .counter("shutdown_refusals_total", "Requests to shut down that were refused."),
            actors: ActorMetrics::new(make),
            sync_latency: make.measure(
                "storage_sync_latency_seconds",
                "What a sync to the data directory takes: the median of the last sixteen.",
            ),
            storage_stuck: make.measure(
                "storage_stuck_seconds",
                "How long the write in hand has made no progress; 0 if there is none.",
            ),
            storage_free: make.measure(
                "storage_free_bytes",
                "What is free to the member on the file system of its data directory.",
            ),
            storage_data: make.measure("storage_data_bytes", "What the files of the data directory take."),
            syncs: make.counter("storage_syncs_total", "Syncs to the data directory."),
            spans_exported: make.counter("trace_spans_exported_total", "Spans that a collector took."),
            spans_lost: make.counters("trace_spans_lost_total", "Spans that were lost.", &["reason"]),
            log_lines_lost: make.counters(
                "log_lines_lost_total",
                "Lines of the log that could not be written.",
                &["reason"],
            ),
            events_missed: make
                .counter("telemetry_events_missed_total", "Events the collector was too slow for."),
            families,
        };
        for origin in ["decided", "adopted"] {
            metrics.blocks.with_label_values(&[origin]);
        }
        metrics.shutdown_state.with_label_values(&["running"]).set(1);
        for member in peers.iter().chain([node]) {
            metrics.equivocations.with_label_values(&[member.as_str()]);
        }
        metrics
    }

    /// Counts one event.
    pub fn observe(&self, event: &ClusterEvent) {
        match event {
            ClusterEvent::ChildStarted { .. }
            | ClusterEvent::ShutdownTaskEnded { .. }
            | ClusterEvent::LogLevelChanged { .. } => {}
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
                self.members.up.with_label_values(&[node.as_str()]).set(0);
                self.members.departures.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::PeerUp { node, .. } => self.members.up.with_label_values(&[node.as_str()]).set(1),
            ClusterEvent::PeerDown { node, .. } => {
                self.members.up.with_label_values(&[node.as_str()]).set(0);
                self.members.losses.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::PeerAttested { node, .. } => {
                self.members.up.with_label_values(&[node.as_str()]).set(0);
                self.members.attested.with_label_values(&[node.as_str()]).inc();
            }
            ClusterEvent::AttestationRefused { .. } => self.members.refused.inc(),
            ClusterEvent::SelfDoubted { begins, .. } => {
                self.members.self_doubts.inc_by((*begins).into());
            }
            ClusterEvent::ClockJudged { is_wrong, .. } => self.members.clock_wrong.set((*is_wrong).into()),
            ClusterEvent::VerdictChanged { open, .. } => {
                let decision = if *open { "open" } else { "closed" };
                self.gate.decisions.with_label_values(&[decision]).inc();
            }
            ClusterEvent::LinkUp { peer } => self.links.up.with_label_values(&[peer.as_str()]).set(1),
            ClusterEvent::LinkDown { peer, .. } => {
                self.links.up.with_label_values(&[peer.as_str()]).set(0);
                self.links.losses.with_label_values(&[peer.as_str()]).inc();
            }
            ClusterEvent::LinkRefused { .. } => self.links.refusals.inc(),
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
            ClusterEvent::RoundStarted { round, .. } => {
                self.rounds.inc();
                self.round.set((*round).into());
            }
            ClusterEvent::DuplicateMember { member, .. } => {
                self.members.duplicates.with_label_values(&[member.as_str()]).inc();
            }
            ClusterEvent::SignatureRefused { .. } => self.signature_refusals.inc(),
            ClusterEvent::SignatureUnknown { .. } => self.signatures_unknown.inc(),
            ClusterEvent::Equivocated { member, .. } => {
                self.equivocations.with_label_values(&[member.as_str()]).inc();
            }
        }
    }

    /// Updates the gauges from the values that were read.
    fn show(&self, gauges: &Gauges, asked: &Asked) {
        for (supervisor, left) in &gauges.budgets {
            self.budget_left.with_label_values(&[supervisor.as_str()]).set(*left as i64);
        }
        for (pattern, count) in &gauges.patterns {
            self.patterns.with_label_values(&[pattern]).set(*count as i64);
        }
        self.actors.show(gauges);
        self.health_score.set(gauges.health_score as i64);
        self.chain_height.set(gauges.height as i64);
        self.head_time.set(gauges.head_time.as_secs_f64());
        self.head_age.set(gauges.head_age.as_secs_f64());
        self.gate.show(gauges);
        self.members.show(asked.as_deref());
        self.links.show(&gauges.links);
        if let Some((until, lifetime)) = gauges.certificate {
            self.links.expires.set(until.as_secs_f64());
            self.links.lifetime.set(lifetime.as_secs_f64());
        }
        self.sync_latency.set(gauges.storage.sync_latency.as_secs_f64());
        self.storage_stuck.set(gauges.storage.stuck.as_secs_f64());
        if let Some((free, data)) = gauges.storage.room {
            self.storage_free.set(free as f64);
            self.storage_data.set(data as f64);
        }
        raise(&self.syncs, gauges.storage.syncs);
        let exported = &self.spans_exported;
        exported.inc_by(gauges.spans_exported.saturating_sub(exported.get()));
        for (reason, total) in gauges.spans_lost {
            raise(&self.spans_lost.with_label_values(&[reason]), total);
        }
        for (reason, total) in gauges.log_lines_lost {
            raise(&self.log_lines_lost.with_label_values(&[reason]), total);
        }
    }
}

/// Configuration of the metrics collector. The metrics survive a restart of the actor, so counters do not decrease.
#[derive(Clone)]
pub struct MetricsActor {
    /// Address of the collector.
    pub address: Address<MetricsMessage>,
    /// Metrics to update.
    pub metrics: Metrics,
    /// Reads the gauges.
    pub gauges: ReadGauges,
    /// Clock for health checks.
    pub clock: Arc<dyn Clock>,
    /// Source of events.
    pub event_receiver: EventReceiver,
}

impl Actor for MetricsActor {
    type Msg = MetricsMessage;
    type State = Option<EventSubscription>;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(None)
    }

    async fn post_start(
        &self,
        _: SelfRef<Self::Msg>,
        subscription: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        *subscription = Some(forward(&self.event_receiver, self.address.clone(), MetricsMessage::Event));
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MetricsMessage::Event(heard, done) => {
                match heard {
                    Ok(recorded) => self.metrics.observe(&recorded.event),
                    Err(missed) => self.metrics.events_missed.inc_by(missed),
                }
                let _ = done.send(());
            }
            MetricsMessage::Render(asked, reply) => {
                self.metrics.show(&(self.gauges)(), &asked);
                let _ = reply.send(self.metrics.families.render());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::BlockHeight;

    fn name(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    #[test]
    fn what_has_not_happened_yet_is_declared_and_what_is_bounded_begins_at_zero() {
        let metrics = Metrics::new(&name("one"), &[name("two")]);
        let text = metrics.families.render();
        for line in [
            "# TYPE supervision_restart_attempts_total counter",
            "# TYPE federation_peer_phi gauge",
            "federation_peer_losses_total{peer=\"two\",node=\"one\"} 0",
            "federation_gate_decisions_total{decision=\"closed\",node=\"one\"} 0",
            "shutdown_state{state=\"running\",node=\"one\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[test]
    fn counts_of_a_link_are_shown_as_they_are_counted() {
        let metrics = Metrics::new(&name("one"), &[name("two")]);
        for total in [7, 7, 9] {
            let (sent, dropped) = ((total, 100 * total), vec![("bulk", 1)]);
            let reading = LinkReading { peer: "two".to_owned(), sent, dropped, ..LinkReading::default() };
            metrics.links.show(&[reading]);
        }
        let text = metrics.families.render();
        for line in [
            "link_sent_envelopes_total{peer=\"two\",node=\"one\"} 9",
            "link_sent_bytes_total{peer=\"two\",node=\"one\"} 900",
            "link_dropped_envelopes_total{class=\"bulk\",peer=\"two\",node=\"one\"} 1",
            "# TYPE link_round_trip_seconds gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[test]
    fn members_that_nobody_watches_are_not_shown() {
        let metrics = Metrics::new(&name("one"), &[name("two")]);
        let shown = |metrics: &Metrics, expected: &str| {
            let text = metrics.families.render();
            assert!(text.lines().any(|line| line == expected), "no {expected} in {text}");
        };
        let peer = PeerReading {
            peer: "two".to_owned(),
            state: "down",
            phi: 9.5,
            clock_offset_ms: Some(-1_500),
            silence: Some(Duration::from_millis(1_500)),
            height: None,
        };
        metrics.members.show(Some(&[peer]));
        shown(&metrics, "federation_peers{state=\"down\",node=\"one\"} 1");
        shown(&metrics, "federation_peers{state=\"up\",node=\"one\"} 0");
        shown(&metrics, "federation_peer_silence_seconds{peer=\"two\",node=\"one\"} 1.5");
        metrics.members.show(None);
        assert!(!metrics.families.render().contains("federation_peers{"));
    }

    #[test]
    fn the_round_shown_is_the_one_that_began_last() {
        let metrics = Metrics::new(&name("one"), &[]);
        for round in [0, 1, 2] {
            metrics.observe(&ClusterEvent::RoundStarted { height: BlockHeight(5), round });
        }
        assert_eq!((metrics.round.get(), metrics.rounds.get()), (2, 3));
    }
}
