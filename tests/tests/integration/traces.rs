//! Tests traces as a collector receives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Moment, SystemClock};
use alys_cluster::id::NodeId;
use alys_cluster::trace::{Span, SpanBuilder, SpanKind, Tracer, Value, new_trace};
use alys_node::Tracing;
use alys_node::ops::view::BlockView;
use alys_node::otlp::{Exporter, OtlpSettings};
use alys_tests::client::Client;
use alys_tests::collector::{Collector, Manner, Memory, Taken};
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::{Process, binary};
use alys_tests::raw::ask;
use alys_tests::{eventually, seen};
use federation_sim::loopback::{Loopback, Options};
use federation_sim::scenario::Scenario;
use serde_json::Value as Json;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

/// A federation of processes that export their traces to `collector`.
async fn traced_processes(directory: &std::path::Path, collector: &Collector) -> Loopback {
    let text = "name = 'traced'\nblock_time = '1s'\nsteps = [{ do = 'stop' }]";
    let scenario = Scenario::parse_with("traced", text, 1).expect("a scenario");
    let options = Options {
        directory: directory.join("run"),
        binary: binary(),
        guard: None,
        log_level: "info".to_owned(),
        environment: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint())],
    };
    Loopback::start(&options, &scenario, 1).await.expect("a federation")
}

/// Timestamps of `count` blocks of a member, starting at height `from`.
async fn timestamps(client: &Client, from: u64, count: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for height in from..from + count {
        let block = eventually(SOON * 3, &format!("block {height} comes"), async || {
            client.get::<BlockView>(&format!("/chain/blocks/{height}")).await
        })
        .await;
        times.push(block.timestamp_ms);
    }
    times
}

fn median_interval(times: &[u64]) -> u64 {
    let mut intervals: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    intervals[intervals.len() / 2]
}

/// Spans of a round that all four members took part in and decided.
fn whole_round(taken: &[Taken]) -> Option<Vec<Taken>> {
    let mut traces: BTreeMap<&[u8], Vec<&Taken>> = BTreeMap::new();
    for one in taken {
        traces.entry(&one.span.trace_id).or_default().push(one);
    }
    let is_whole = |spans: &[&Taken]| {
        let decided = spans.iter().filter(|one| one.text("alys.outcome") == "decided");
        let nodes: BTreeSet<_> = decided.map(|one| &one.node).collect();
        let count = |name: &str| spans.iter().filter(|one| one.span.name == name).count();
        // Two handler spans per member: building or executing the block, and storing it. A late member, for which the
        // votes of others decide, does not precommit.
        nodes.len() == 4 && count("handle") == 8 && count("precommit") == 4
    };
    traces.into_values().find(|spans| is_whole(spans)).map(|spans| spans.into_iter().cloned().collect())
}

/// A trace for people: who, what, and when in microseconds since its start.
fn told(trace: &[Taken]) -> String {
    let begun = trace.iter().map(|one| one.span.start_time_unix_nano).min().unwrap_or_default();
    let mut lines: Vec<_> = trace
        .iter()
        .map(|Taken { node, span }| {
            let [start, end] =
                [span.start_time_unix_nano, span.end_time_unix_nano].map(|at| (at - begun) / 1_000);
            format!("{node} {start:>7} {end:>7} {} < {}", span.name, hex::encode(&span.parent_span_id))
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Child spans of a span with this name.
fn parts<'a>(trace: &'a [Taken], of: &Taken, name: &str) -> Vec<&'a Taken> {
    let is_part = |one: &&Taken| one.span.parent_span_id == of.span.span_id && one.span.name == name;
    trace.iter().filter(is_part).collect()
}

/// The only child span of a span with this name.
fn part<'a>(trace: &'a [Taken], of: &Taken, name: &str) -> &'a Taken {
    let parts = parts(trace, of, name);
    let [one] = parts[..] else {
        panic!(
            "{} of {} has {} parts {name}; expected 1:\n{}",
            of.span.name,
            of.node,
            parts.len(),
            told(trace)
        )
    };
    one
}

fn check_round(trace: &[Taken]) {
    let ids: BTreeSet<_> = trace.iter().map(|one| &one.span.span_id).collect();
    assert_eq!(ids.len(), trace.len(), "every span has an id of its own");
    let (roots, others): (Vec<_>, Vec<_>) = trace.iter().partition(|one| one.span.parent_span_id.is_empty());
    assert_eq!(roots.len(), 1, "one root: {roots:#?}");
    let root = roots[0];
    assert_eq!((root.span.name.as_str(), root.text("alys.proposer")), ("round", root.node.as_str()));
    for one in &others {
        assert!(ids.contains(&one.span.parent_span_id), "its parent was told as well: {one:#?}");
    }
    for one in trace {
        assert!(one.span.end_time_unix_nano >= one.span.start_time_unix_nano, "{one:#?}");
        assert_eq!(one.span.status, None, "nothing failed: {one:#?}");
    }
    let propose = part(trace, root, "propose");
    let rounds: Vec<_> = trace.iter().filter(|one| one.span.name == "round").collect();
    assert_eq!(rounds.len(), 4);
    for round in rounds {
        let gate: Vec<_> = round.span.events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(gate.first(), Some(&"gate open"), "the verdict: {round:#?}");
        let prevote = part(trace, round, "prevote");
        let precommit = part(trace, round, "precommit");
        let aggregate = part(trace, round, "aggregate");
        let commit = part(trace, round, "commit");
        // The span of a slow actor names it.
        let (first, engine) = if round.node == root.node {
            (propose, part(trace, propose, "handle"))
        } else {
            assert_eq!(round.span.parent_span_id, propose.span.span_id, "part of the proposal");
            let execute = part(trace, round, "execute");
            // A proposal that arrives before the round begins causes no wait.
            if let Some(wait) = parts(trace, round, "wait for proposal").first() {
                assert_eq!(
                    wait.span.start_time_unix_nano,
                    round.span.start_time_unix_nano,
                    "{}",
                    told(trace)
                );
                assert_eq!(
                    wait.span.end_time_unix_nano,
                    execute.span.start_time_unix_nano,
                    "{}",
                    told(trace)
                );
            }
            (execute, part(trace, execute, "handle"))
        };
        let chain = part(trace, commit, "handle");
        assert_eq!(engine.text("messaging.destination.name"), "engine");
        assert_eq!(chain.text("messaging.destination.name"), "chain");
        // The child spans follow each other without a gap and add up to the whole span.
        assert!(first.span.end_time_unix_nano <= prevote.span.start_time_unix_nano, "{}", told(trace));
        let parts = [prevote, precommit, aggregate, commit];
        for pair in parts.windows(2) {
            assert_eq!(pair[0].span.end_time_unix_nano, pair[1].span.start_time_unix_nano, "{}", told(trace));
        }
        assert_eq!(commit.span.end_time_unix_nano, round.span.end_time_unix_nano, "{}", told(trace));
        let sum: u64 = parts.iter().map(|one| one.nanos()).sum();
        assert_eq!(sum, round.span.end_time_unix_nano - prevote.span.start_time_unix_nano);
        for (inner, outer) in [(engine, first), (chain, commit)] {
            assert!(inner.span.start_time_unix_nano >= outer.span.start_time_unix_nano, "{}", told(trace));
            assert!(inner.nanos() <= outer.nanos(), "{}", told(trace));
        }
        // The aggregate links to the precommits it was made of, of other members and of the same trace.
        let precommits: BTreeSet<_> =
            trace.iter().filter(|one| one.span.name == "precommit").map(|one| &one.span.span_id).collect();
        assert!(aggregate.span.links.len() >= 2, "{aggregate:#?}");
        assert!(aggregate.span.links.iter().all(|link| precommits.contains(&link.span_id)), "{aggregate:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_round_is_one_trace_of_four_processes_and_a_dead_collector_moves_no_block() {
    let _turn = Federation::turn().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut collector = Collector::start();
    let mut federation = traced_processes(directory.path(), &collector).await;
    let address =
        |(_, url, _): (&str, String, &std::path::Path)| url["http://".len()..].parse().expect("an address");
    let clients: Vec<_> = federation.addresses().map(address).map(Client::new).collect();

    let trace = eventually(SOON * 3, "all four tell one round", async || {
        let taken = collector.taken();
        whole_round(&taken).ok_or_else(|| format!("{} spans", taken.len()))
    })
    .await;
    check_round(&trace);

    // Log lines and events of that round contain the trace id.
    let id = hex::encode(&trace[0].span.trace_id);
    for (name, _, log) in federation.addresses() {
        let text = std::fs::read_to_string(log).expect("a log");
        let is_commit = |line: &&str| line.contains("kind=height_committed") && line.contains(&id);
        assert_eq!(text.lines().filter(is_commit).count(), 1, "one line of {name} names {id}: {text}");
    }
    let events: Vec<Json> = clients[0].get("/events").await.expect("events");
    let named = events.iter().filter(|event| event["trace_id"] == *id);
    let kinds: BTreeSet<_> = named.filter_map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["height_committed", "round_started"]));

    let before = timestamps(&clients[0], 2, 8).await;
    collector.kill();
    let killed_at = eventually(SOON, "a head", async || {
        clients[0].get::<alys_node::ops::view::HeadView>("/chain/head").await
    })
    .await;
    let after = timestamps(&clients[0], killed_at.height, 8).await;
    let (before, after) = (median_interval(&before), median_interval(&after));
    assert!(after.abs_diff(before) <= 50, "a block every {before} ms with a collector, {after} ms without");

    // Spans that no collector receives are counted.
    eventually(SOON, "every member counts what is lost", async || {
        for client in &clients {
            let text = client.send("GET", "/metrics", "text/plain", "").await?.body;
            let lost = text
                .lines()
                .find(|line| line.starts_with("trace_spans_lost_total") && line.contains("unreachable"));
            let count = lost.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0);
            let taken = text.lines().find(|line| line.starts_with("trace_spans_exported_total"));
            seen(count > 0.0, format!("{lost:?}, {taken:?}"))?;
        }
        Ok::<(), String>(())
    })
    .await;
    federation.stop(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halt_is_told_at_once_with_its_reason_and_the_round_goes_on_after_it() {
    let mut federation = Federation::prepare("halt-traces", |_| ()).await;
    let others: Vec<_> = (1..4).map(|index| Process::start(&federation, index)).collect();
    let memory = Arc::new(Memory::default());
    let tracing = Tracing { tracer: Tracer::to(memory.clone()), ..Tracing::default() };
    federation.start_traced(0, tracing).await;
    let member = &federation.members[0];
    member.gate_open(4).await;
    eventually(SOON, "it decides", async || {
        seen(!named(&memory.spans(), "commit").is_empty(), "no commit yet")
    })
    .await;

    let [_second, third, fourth] = <[Process; 3]>::try_from(others).ok().expect("three");
    drop((third, fourth));
    let gate = member.gate_closed().await;
    let rounds = || named(&memory.spans(), "round").into_iter().cloned().collect::<Vec<_>>();
    let halted = eventually(SOON, "the halt is told while it lasts", async || {
        let of = |round: &&Span| attribute(round, "alys.outcome") == Some(&Value::from("halted"));
        rounds().iter().rfind(of).cloned().ok_or_else(|| format!("{:#?}", rounds()))
    })
    .await;
    let reason = halted.error.as_deref().expect("an error, with the reason");
    assert!(reason.contains("2 of 3 required"), "{reason} and {gate:?}");
    let height = attribute(&halted, "alys.height").cloned();
    assert!(matches!(height, Some(Value::Number(1..))), "{halted:#?}");

    let _back = [2, 3].map(|index| Process::start(&federation, index));
    member.gate_open(4).await;
    eventually(SOON * 3, "the round goes on in the same trace", async || {
        let of = |round: &Span| {
            round.context.trace_id == halted.context.trace_id && round.links.contains(&halted.context)
        };
        seen(rounds().iter().any(of), format!("{:#?}", rounds()))
    })
    .await;
    federation.stop().await;
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_is_linked_to_what_the_actor_was_at_work_on() {
    let mut federation = Federation::prepare("cause", |_| ()).await;
    let memory = Arc::new(Memory::default());
    let tracing = Tracing { tracer: Tracer::to(memory.clone()), ..Tracing::default() };
    federation.start_traced(0, tracing).await;
    let member = &federation.members[0];

    // The trace of the caller continues in the member.
    let caller = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    let json = ("content-type", "application/json");
    let order = r#"{"actor":"sync","fault":"panic"}"#;
    let answer = member.client.send_with("POST", "/faults", &[json, ("traceparent", caller)], order).await;
    assert_eq!(answer.expect("an answer").status, 202);
    let restart = eventually(SOON, "the restart is told", async || {
        named(&memory.spans(), "restart").first().map(|span| (*span).clone()).ok_or("none yet")
    })
    .await;

    let spans = memory.spans();
    let request = named(&spans, "POST /faults")[0];
    assert_eq!(request.context.trace_hex(), "0123456789abcdef0123456789abcdef");
    assert_eq!(request.parent, Some([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]));
    let handled: Vec<_> = named(&spans, "handle").into_iter().filter(|span| span.error.is_some()).collect();
    let [handled] = handled[..] else { panic!("one handler failed: {handled:#?}") };
    assert_eq!(handled.parent, Some(request.context.span_id), "part of the request");
    assert_eq!(attribute(handled, "alys.actor"), Some(&Value::from("sync".to_owned())));
    assert_eq!(restart.links, [handled.context], "the decision follows from it");
    assert_ne!(restart.context.trace_id, request.context.trace_id, "a trace of its own");
    assert_eq!(attribute(&restart, "alys.actor"), Some(&Value::from("sync".to_owned())));
    assert_eq!(attribute(&restart, "alys.decision"), Some(&Value::from("restart")));
    assert_eq!(restart.error, None);
    let (wait, start) = (named(&spans, "wait")[0], named(&spans, "start")[0]);
    assert_eq!((wait.parent, start.parent), (Some(restart.context.span_id), Some(restart.context.span_id)));
    assert_eq!((wait.started, wait.ended, start.ended), (restart.started, start.started, restart.ended));
    assert!(wait.ended.since(Moment::ORIGIN) >= handled.ended.since(Moment::ORIGIN));

    // Not traced: endpoints that are polled every few seconds, and requests whose caller disables sampling.
    let unrecorded = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-00";
    for (path, headers) in
        [("/livez", vec![]), ("/metrics", vec![]), ("/genesis", vec![("traceparent", unrecorded)])]
    {
        assert_eq!(member.client.send_with("GET", path, &headers, "").await.expect("an answer").status, 200);
    }
    assert!(memory.spans().iter().all(|span| !span.name.starts_with("GET ")), "{:#?}", memory.spans());
    assert_eq!(member.client.send_with("GET", "/genesis", &[], "").await.expect("an answer").status, 200);
    assert_eq!(named(&memory.spans(), "GET /genesis").len(), 1);
    federation.stop().await;
}

/// `count` spans, each of a separate trace.
fn spans(count: usize) -> Vec<Span> {
    (0..count).map(|_| SpanBuilder::root(new_trace(), "trial", Moment::ORIGIN).end(Moment::ORIGIN)).collect()
}

/// Number of exported spans, and numbers of lost spans by reason.
fn accounts(tracing: &Tracing) -> (u64, BTreeMap<&'static str, u64>) {
    let lost = tracing.spans.lost_total().into_iter().filter(|(_, count)| *count > 0);
    (tracing.spans.exported_total(), lost.collect())
}

/// An exporter to `endpoint`, whether or not a collector is there.
fn exporter(endpoint: &str) -> Exporter {
    let variable = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| endpoint.to_owned());
    let settings = OtlpSettings::read(variable).expect("well-formed").expect("named");
    let (node, clock) = (NodeId::new("node-1").expect("a name"), Arc::new(SystemClock::default()));
    Exporter::start(&settings, &node, clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_span_is_taken_or_counted_as_lost_and_nobody_waits_for_a_collector() {
    // A collector that accepts all spans, including one recorded just before the end.
    let collector = Collector::start();
    let taking = exporter(&collector.endpoint());
    let tracing = taking.tracing();
    tracing.tracer.record_all(spans(1_000));
    taking.finish(SOON).await;
    assert_eq!(accounts(&tracing), (1_000, BTreeMap::new()));
    assert_eq!(collector.taken().len(), 1_000);

    // A collector that accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hung = exporter(&format!("http://{}", silent.local_addr().expect("it is bound")));
    let tracing = hung.tracing();
    for _ in 0..100 {
        tracing.tracer.record_all(spans(100));
    }
    hung.finish(Duration::from_millis(300)).await;
    let (taken, lost) = accounts(&tracing);
    assert_eq!((taken, lost.values().sum()), (0, 10_000u64), "{lost:?}");
    assert!(lost["queue_full"] >= 10_000 - 4_096 - 512 && lost["ended"] > 0, "{lost:?}");

    // A flood of requests leaves room for spans of the member's own work.
    let flooded = exporter(&format!("http://{}", silent.local_addr().expect("it is bound")));
    let tracing = flooded.tracing();
    for _ in 0..5_000 {
        let request = SpanBuilder::root(new_trace(), "GET /genesis", Moment::ORIGIN).kind(SpanKind::Server);
        tracing.tracer.record(request.end(Moment::ORIGIN));
    }
    let (_, before) = accounts(&tracing);
    tracing.tracer.record_all(spans(1_500));
    let (_, after) = accounts(&tracing);
    assert!(before["queue_full"] >= 5_000 - 2_048 - 512, "{before:?}");
    assert_eq!(before, after, "none of these is lost");
    flooded.finish(Duration::from_millis(10)).await;

    // No collector at all.
    let nobody = exporter("http://127.0.0.1:9");
    let tracing = nobody.tracing();
    tracing.tracer.record_all(spans(10));
    eventually(SOON, "they are given up", async || {
        let (_, lost) = accounts(&tracing);
        seen(lost.get("unreachable") == Some(&10), format!("{lost:?}"))
    })
    .await;
    nobody.finish(SOON).await;
}

/// Records spans repeatedly until `collector` receives one.
async fn goes_on(tracing: &Tracing, collector: &Collector, what: &str) {
    eventually(SOON * 2, what, async || {
        tracing.tracer.record_all(spans(1));
        seen(!collector.taken().is_empty(), format!("{:?}", accounts(tracing)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_back_is_told_again_and_one_that_says_no_is_believed() {
    let mut collector = Collector::start();
    let taking = exporter(&collector.endpoint());
    let tracing = taking.tracing();
    goes_on(&tracing, &collector, "the first is taken").await;
    collector.kill();
    eventually(SOON * 2, "what nobody takes is lost", async || {
        tracing.tracer.record_all(spans(1));
        let (_, lost) = accounts(&tracing);
        seen(lost.contains_key("unreachable"), format!("{lost:?}"))
    })
    .await;
    let collector = eventually(SOON, "its port is free", async || collector.again()).await;
    goes_on(&tracing, &collector, "the collector that started again is told").await;
    taking.finish(SOON).await;

    // The response will not change, so the exporter does not retry.
    for (manner, taken, refused) in
        [(Manner::TakesAllBut(4), 6, 4), (Manner::Refuses(Code::Unauthenticated), 0, 10)]
    {
        let collector = Collector::of_manner(manner);
        let refusing = exporter(&collector.endpoint());
        let tracing = refusing.tracing();
        tracing.tracer.record_all(spans(10));
        eventually(SOON, "they are accounted for", async || {
            let accounts = accounts(&tracing);
            let expected = (taken, BTreeMap::from([("refused", refused)]));
            seen(accounts == expected, format!("{manner:?}: {accounts:?}"))
        })
        .await;
        refusing.finish(SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_is_left_for_another() {
    let collector = Collector::start();
    let address = collector.endpoint().trim_start_matches("http://").to_owned();
    let wire = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", wire.local_addr().expect("it is bound"));
    // A network in between: the first connection dies silently, as when the collector's host is gone.
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    let network = tokio::spawn(async move {
        let (mut first, _) = wire.accept().await.expect("a connection");
        let mut inner = TcpStream::connect(&address).await.expect("the collector is there");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut first, &mut inner) => {}
            _ = is_cut => {}
        }
        let (mut second, _) = wire.accept().await.expect("another connection");
        let mut inner = TcpStream::connect(&address).await.expect("the collector is there");
        // Ends with the test.
        let _ = tokio::io::copy_bidirectional(&mut second, &mut inner).await;
        drop(first);
    });
    let taking = exporter(&endpoint);
    let tracing = taking.tracing();
    goes_on(&tracing, &collector, "the first is taken").await;
    cut.send(()).expect("the network is there");
    let before = collector.taken().len();
    eventually(SOON * 3, "another connection is made", async || {
        tracing.tracer.record_all(spans(1));
        let taken = collector.taken().len();
        // Spans in transit at the cut may still have arrived.
        seen(taken > before + 1, format!("{taken} taken, {:?}", accounts(&tracing)))
    })
    .await;
    taking.finish(SOON).await;
    network.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_ends_by_itself_has_told_why() {
    let collector = Collector::start();
    let federation = Federation::prepare("last-words", |config| {
        config.faults.enabled = true;
        config.supervision.max_restarts = 1;
        config.supervision.halt_for = Duration::ZERO;
    })
    .await;
    let mut process =
        Process::start_with(&federation, 0, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let client = &federation.members[0].client;
    let status = eventually(SOON * 3, "it ends", async || {
        let order = r#"{"actor":"chain","fault":"kill"}"#;
        // The actor may be down, or between two incarnations.
        let _ = client.post("/faults", order).await;
        process.ended().ok_or_else(|| process.log())
    })
    .await;
    assert_eq!(status.code(), Some(1), "{}", process.log());
    let taken = collector.taken();
    let is_last = |one: &&Taken| one.span.name == "restart" && one.text("alys.supervisor") == "root";
    let last: Vec<_> = taken.iter().filter(is_last).collect();
    assert!(last.iter().any(|one| one.span.status.is_some()), "{taken:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_are_told_by_names_of_a_bounded_set() {
    let mut federation = Federation::prepare("requests", |_| ()).await;
    let memory = Arc::new(Memory::default());
    let tracing = Tracing { tracer: Tracer::to(memory.clone()), ..Tracing::default() };
    federation.start_traced(0, tracing).await;
    let member = &federation.members[0];
    let address = member.config.ops.address;

    let method = "A".repeat(8_000);
    ask(address, &method, "/genesis", &[], "").await;
    let told = eventually(SOON, "it is told", async || {
        named(&memory.spans(), "_OTHER /genesis").first().map(|span| (*span).clone()).ok_or("none yet")
    })
    .await;
    assert_eq!(attribute(&told, "http.request.method"), Some(&Value::from("_OTHER")));
    federation.stop().await;
}
