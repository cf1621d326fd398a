//! Measures the cost of traces: a block round of four members with and without a collector, and the recording of one
//! round's spans.
//!
//! `cargo bench -p alys-benches --bench traces`

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_benches::report::{Plan, line, note, percentile};
use alys_cluster::clock::{Clock as _, Moment, SystemClock};
use alys_cluster::event::ClusterEvent;
use alys_cluster::id::NodeId;
use alys_cluster::trace::{SpanBuilder, new_trace, span_id};
use alys_node::otlp::{Exporter, OtlpSettings};
use alys_tests::collector::Collector;
use alys_tests::federation::Federation;
use criterion::{Criterion, criterion_group};
use tokio::runtime::Runtime;

/// Number of blocks per federation, and number of federations of each kind.
const BLOCKS: usize = 20;
const TURNS: usize = 4;

fn exporter(collector: &Collector, node: &NodeId) -> Exporter {
    let endpoint = collector.endpoint();
    let variable = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.clone());
    let settings = OtlpSettings::read(variable).expect("well-formed").expect("named");
    Exporter::start(&settings, node, Arc::new(SystemClock::default()))
}

/// Time from the start of a height on a member until its block is stored there, for all members.
async fn rounds(tag: &str, blocks: usize, collector: Option<&Collector>) -> Vec<Duration> {
    let mut federation = Federation::prepare(tag, |_| ()).await;
    let names: Vec<_> = federation.members.iter().map(|member| member.name.clone()).collect();
    let exporters: Vec<_> = names.iter().filter_map(|name| Some(exporter(collector?, name))).collect();
    for index in 0..names.len() {
        let tracing = exporters.get(index).map(Exporter::tracing).unwrap_or_default();
        federation.start_traced(index, tracing).await;
    }
    for member in &federation.members {
        member.gate_open(4).await;
    }
    let listeners = federation.members.iter().map(|member| {
        let mut events = member.node().context().events.listen();
        tokio::spawn(async move {
            let (mut took, mut begun) = (Vec::new(), None);
            while took.len() < blocks {
                match events.recv().await.map(|recorded| recorded.event.clone()) {
                    Ok(ClusterEvent::RoundStarted { round: 0, .. }) => begun = Some(Instant::now()),
                    Ok(ClusterEvent::HeightCommitted { round: 0, adopted: false, .. }) => {
                        took.extend(begun.take().map(|begun| begun.elapsed()));
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            took
        })
    });
    let mut all = Vec::new();
    for listener in listeners.collect::<Vec<_>>() {
        all.extend(listener.await.expect("it listens"));
    }
    federation.stop().await;
    for exporter in exporters {
        exporter.finish(Duration::from_secs(1)).await;
    }
    all
}

fn block_rounds(runtime: &Runtime, turns: usize, blocks: usize) {
    let collector = Collector::start();
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // Alternates which kind runs first, so that other load of the machine affects both equally.
    for turn in 0..turns * 2 {
        let (is_traced, pair) = ((turn + turn / 2) % 2 == 1, turn / 2);
        let tag = format!("{}{pair}", if is_traced { "on" } else { "off" });
        let mut took = runtime.block_on(rounds(&tag, blocks, Some(&collector).filter(|_| is_traced)));
        if is_traced { &mut with } else { &mut without }.extend(took.iter().copied());
        took.sort();
        note(
            &format!("median of {tag}"),
            &format!("{:.1} ms", percentile(&took, 0.5).as_secs_f64() * 1_000.0),
        );
    }
    let [without, with] = [without, with].map(|mut took: Vec<Duration>| {
        took.sort();
        took
    });
    for (name, took) in [("without a collector", &without), ("with one", &with)] {
        let [half, most] = [0.5, 0.9].map(|share| percentile(took, share).as_secs_f64() * 1_000.0);
        note(
            &format!("a block round {name}, {} of them", took.len()),
            &format!("p50 {half:.1} ms, p90 {most:.1} ms"),
        );
    }
    let half = |took| percentile(took, 0.5).as_secs_f64();
    let (medians, means) = (half(&with) / half(&without), mean(&with) / mean(&without));
    line(
        "a block round with traces over one without, medians",
        &format!("{medians:.3}"),
        "≤ 1.02",
        medians <= 1.02,
    );
    line("the same, means", &format!("{means:.3}"), "≤ 1.02", means <= 1.02);
    note("spans that were taken", &collector.taken().len().to_string());
}

fn mean(took: &[Duration]) -> f64 {
    took.iter().sum::<Duration>().as_secs_f64() / took.len() as f64
}

/// Measures building and queueing the spans of one round of one member.
fn telling(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let collector = Collector::start();
    let node = NodeId::new("node-1").expect("a name");
    let exporter = runtime.block_on(async { exporter(&collector, &node) });
    let (tracer, clock) = (exporter.tracing().tracer, SystemClock::default());
    c.bench_function("eight spans, made and queued", |b| {
        b.iter(|| {
            let mut round = SpanBuilder::root(new_trace(), "round", Moment::ORIGIN);
            round.set("alys.height", 7u64);
            let steps =
                ["wait for proposal", "execute", "prevote", "precommit", "aggregate", "commit", "handle"];
            let mut spans: Vec<_> = steps
                .map(|step| {
                    SpanBuilder::child(round.context(), span_id(), step, clock.now()).end(clock.now())
                })
                .into();
            spans.push(round.end(clock.now()));
            tracer.record_all(spans);
        });
    });
}

criterion_group!(telling_a_round, telling);

fn main() {
    let plan = Plan::of_arguments();
    if plan.wants("round") {
        let runtime = Runtime::new().expect("a runtime");
        let (turns, blocks) = if plan.is_test { (1, 2) } else { (TURNS, BLOCKS) };
        block_rounds(&runtime, turns, blocks);
    }
    telling_a_round();
    Criterion::default().configure_from_args().final_summary();
}
