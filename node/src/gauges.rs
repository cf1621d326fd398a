//! Reads the values of a member's gauges without waiting for any actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alys_cluster::federation::Decision;
use alys_cluster::supervision::pattern::Pattern;
use alys_cluster::telemetry::gauges::{Gauges, LinkReading, ReadGauges, StorageReading};
use alys_cluster::transport::PeerChannel;
use alys_cluster::transport::statistics::Count;

use crate::storage::DiskReading;
use crate::tree::NodeContext;

/// Returns the function that reads the gauges of the member with this `context`.
pub(crate) fn of(context: &NodeContext) -> ReadGauges {
    let (gate, head, clock) = (context.gate.clone(), context.head.clone(), context.clock.clone());
    let supervision = context.supervision.clone();
    let (trust, lifetime) = (context.trust.clone(), context.config.link.certificate_lifetime);
    let (channels, spans) = (context.channels.clone(), context.spans.clone());
    let storage = context.storage.clone();
    let log_lines_lost = context.log_lines_lost.clone();
    let (directory, score) = (context.discovery.directory.clone(), context.health_score.clone());
    Arc::new(move || {
        let now = clock.now();
        let verdict = gate.verdict(now);
        let budgets = supervision.tree.budgets(now).into_iter();
        let found = supervision.memory.findings(now);
        let pattern = |kind| (kind, found.iter().filter(|finding| finding.pattern.kind() == kind).count());
        let (head, head_reader) = (head.head(), &head);
        Gauges {
            budgets: budgets.map(|(name, budget)| (name, budget.left())).collect(),
            patterns: Pattern::KINDS.map(pattern).to_vec(),
            registry: supervision.registry.stats(),
            remote_actors: directory.members().into_iter().map(|(node, _, actors)| (node, actors)).collect(),
            health_score: score.load(Ordering::Relaxed),
            height: head.height,
            head_age: head_reader.age(now),
            head_time: Duration::from_millis(head.timestamp_ms),
            gate_open: verdict.decision == Decision::Open,
            healthy: verdict.healthy,
            required: verdict.required,
            classes: gate
                .classes(now)
                .into_iter()
                .map(|class| (class.class.as_str(), class.demand, class.decision == Decision::Open))
                .collect(),
            certificate: trust.expiry().map(|until| (Duration::from_secs(until.0.max(0) as u64), lifetime)),
            storage: storage_reading(&storage.disk().reading()),
            spans_exported: spans.exported_total(),
            spans_lost: spans.lost_total(),
            log_lines_lost: log_lines_lost.by_reason(),
            links: channels.values().map(|line| link(line)).collect(),
        }
    })
}

fn storage_reading(disk: &DiskReading) -> StorageReading {
    let room = disk.room.map(|room| (room.free, room.data));
    StorageReading { sync_latency: disk.latency, stuck: disk.stuck, syncs: disk.syncs, room }
}

fn link(line: &PeerChannel) -> LinkReading {
    let counters = line.counters();
    let of = |count| counters.get(count);
    let (queued, queued_bytes) = line.connection().map(|connection| connection.waiting()).unwrap_or_default();
    LinkReading {
        peer: line.peer().to_string(),
        dials: of(Count::Dials),
        sessions: of(Count::Sessions),
        queued: (queued as u64, queued_bytes as u64),
        sent: (of(Count::EnvelopesSent), of(Count::BytesSent)),
        received: (of(Count::EnvelopesReceived), of(Count::BytesReceived)),
        refused: of(Count::EnvelopesRefused),
        dropped: counters.dropped().map(|(class, count)| (class.as_str(), count)).to_vec(),
        lost: of(Count::Lost),
        round_trip: counters.last_round_trip(),
    }
}
