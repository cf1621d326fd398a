//! Tests members that are processes: the cost of unauthenticated connections, faults, an upgrade and a stopped peer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use alys_cluster::transport::envelope::Body;
use alys_cluster::transport::error::Unsent;
use alys_cluster::transport::frame::Kind;
use alys_cluster::transport::{Envelope, Lane};
use alys_node::ops::view::HeadView;
use alys_tests::byzantine_peer::{ByzantinePeer, RawPeer, RawSession, envelope, framed, header, roster_of};
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::{Process, binary, listeners, resident_bytes};
use alys_tests::raw::{ask, request, rest, send};
use alys_tests::{eventually, seen, skip};
use federation_sim::federation::Federation as _;
use federation_sim::loopback::{Loopback, Options};
use federation_sim::record::Record;
use federation_sim::report::Report;
use federation_sim::runner::{self, Failure, RunObserver};
use federation_sim::scenario::Scenario;
use federation_sim::step::Step;
use tokio::io::AsyncWriteExt as _;

/// Maximum growth of a process's resident memory, in bytes.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

struct Quiet;

impl RunObserver for Quiet {
    fn step_begins(&mut self, _: usize, _: usize, _: &Step) {}
    fn observed(&mut self, _: &Record) {}
    fn told(&mut self, text: &str) {
        println!("{text}");
    }
    fn step_ends(&mut self, _: &Record, _: Option<&Failure>) {}
}

/// Runs a scenario on four processes; every step and every invariant must succeed.
async fn tell(name: &str, seed: u64, node: &str, steps: &str) {
    // Only one federation runs at a time.
    let _turn = Federation::turn().await;
    let text = format!("name = {name:?}\nblock_time = '1s'\nsteps = [{steps}]\n{node}");
    let scenario = Scenario::parse_with(name, &text, seed).unwrap_or_else(|error| panic!("{error}"));
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options {
        directory: directory.path().join("run"),
        binary: binary(),
        guard: None,
        log_level: "info".to_owned(),
        environment: Vec::new(),
    };
    let mut federation = Loopback::start(&options, &scenario, seed).await.expect("a federation");
    let outcome = runner::run(&scenario, seed, &mut federation, &mut Quiet).await;
    let report = Report::of(&scenario, seed, &outcome, federation.now_ms());
    federation.stop(SOON).await;
    assert!(report.passed, "{}\n{}", report.complaint(), report.to_table(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_takes_no_port_of_ipv4_but_those_it_is_told_to_listen_on() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return skip("this system has no IPv6");
    }
    let mut federation = Federation::prepare("ports", |_| {}).await;
    for index in [0, 1, 2] {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    federation.members[3].gate_open(4).await;
    let config = &federation.members[3].config;
    let listens: BTreeSet<_> = listeners(process.id()).into_iter().filter(SocketAddr::is_ipv4).collect();
    assert_eq!(listens, [config.link.listen, config.ops.address].into());
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_paused_member_does_not_obey_what_was_given_up_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-for-tests-only").expect("a file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("its mode");
    let federation =
        Federation::prepare("given-up", |config| config.ops.token_file = Some(file.clone())).await;
    let mut process = Process::start(&federation, 0);
    let member = &federation.members[0];
    let address = member.config.ops.address;
    eventually(SOON, "it answers", async || member.client.status("/livez").await.map(|_| ())).await;
    let headers = [("authorization", "Bearer a-token-for-tests-only"), ("content-type", "application/json")];
    let shutdown = request("POST", "/shutdown", &headers, r#"{"force":true}"#);
    process.signal("-STOP");
    let mut given_up = Vec::new();
    for _ in 0..8 {
        let mut stream = send(address, &shutdown).await;
        // The receiving half of the connection stays open to see the result.
        stream.shutdown().await.expect("it is closed");
        given_up.push(stream);
    }
    process.signal("-CONT");
    for stream in &mut given_up {
        assert_eq!(rest(stream).await, b"", "nobody was to be answered");
    }
    let answer = ask(address, "GET", "/shutdown", &headers, "").await;
    assert!(answer.body.contains("running"), "{answer:?}");
    assert_eq!(process.ended(), None);
    let answer = ask(address, "POST", "/shutdown", &headers, r#"{"force":true}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    eventually(SOON, "it leaves", async || seen(process.ended().is_some(), "it runs")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_thousand_connections_of_strangers_cost_a_member_little_and_nobody_a_block() {
    let steps = "{ do = 'wait_ready', within = '60s' },
        { do = 'expect', links_up = true, within = '20s' },
        { do = 'attack', member = 'node-1', connections = 3000 },
        { do = 'expect', links_up = true, within = '5s' },
        { do = 'pairs' },
        { do = 'wait_blocks', count = 2, within = '30s' },
        { do = 'stop' }";
    tell("strangers", 1, "", steps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn links_come_back_one_for_each_pair_after_faults_at_random() {
    let steps = "{ do = 'wait_ready', within = '60s' },
        { do = 'expect', links_up = true, within = '20s' },
        { do = 'chaos', faults = 7 },
        { do = 'expect', links_up = true, no_halt_for = '2s' },
        { do = 'wait_blocks', count = 1, within = '30s' },
        { do = 'stop' }";
    tell("short-chaos", 11, "", steps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_are_upgraded_to_another_version_of_the_link_while_blocks_go_on() {
    let one = |name: &str, after: &str| {
        format!(
            "{{ do = 'stop', members = ['{name}'] }}, {{ do = 'upgrade' }},
            {{ do = 'wait_blocks', count = 1, within = '30s' }},
            {{ do = 'restart' }}, {{ do = 'wait_ready', within = '60s' }}, {after},
            {{ do = 'wait_blocks', count = 1, within = '30s' }},"
        )
    };
    let versions = |members: &str, versions: &str| {
        format!("{{ do = 'expect', members = [{members}], link_versions = {versions}, within = '30s' }}")
    };
    let all = "'node-1', 'node-2', 'node-3', 'node-4'";
    let steps = [
        "{ do = 'wait_ready', within = '60s' },".to_owned(),
        versions(all, "[1, 1, 1]") + ",",
        one("node-1", &versions(all, "[1, 1, 1]")),
        one("node-2", &versions("'node-1', 'node-2'", "[1, 1, 2]")),
        one("node-3", &versions("'node-1', 'node-2', 'node-3'", "[1, 2, 2]")),
        one("node-4", &versions(all, "[2, 2, 2]")),
        "{ do = 'stop' }".to_owned(),
    ];
    tell("short-upgrade", 5, "[node.link]\nversion = 1", &steps.concat()).await;
}

/// The fourth member is a process, so that it can be stopped; the other three run in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_million_messages_to_a_stopped_peer_cost_a_bounded_amount_of_memory() {
    let mut federation = Federation::prepare("stopped", |_| {}).await;
    let peer = Process::start(&federation, 3);
    for index in 0..3 {
        federation.start_member(index).await;
    }
    for member in &federation.members[..3] {
        member.linked().await;
        member.gate_open(4).await;
    }
    let sender = &federation.members[0];
    let line = sender.node().context().channels[&federation.members[3].name].clone();
    peer.signal("-STOP");

    let own = std::process::id();
    let before = resident_bytes(own);
    let (mut most, mut given_up) = (before, 0u64);
    for number in 0..1_000_000u32 {
        let payload = vec![7; 193].into();
        let body = Body::Tell { to: b"consensus"[..].into(), payload };
        match line.send(Lane::Bulk, Envelope::new(body)) {
            Ok(()) => {}
            Err(Unsent::NoLink(_)) => given_up += 1,
            Err(error) => panic!("message {number}: {error}"),
        }
        if number % 4_096 == 0 {
            most = most.max(resident_bytes(own));
            tokio::task::yield_now().await;
        }
    }
    most = most.max(resident_bytes(own));
    println!("memory {} KiB before, {} KiB at most; {given_up} found no link", before >> 10, most >> 10);
    assert!(most - before < GROWTH_BYTES_MAX, "{before} bytes before, {most} at most");
    for member in &federation.members[..3] {
        member.gate_open(3).await;
        member.reaches(member.height() + 2).await;
    }

    // It recovers as if nothing had happened.
    peer.signal("-CONT");
    for member in &federation.members[..3] {
        member.linked().await;
        member.gate_open(4).await;
    }
    eventually(SOON, "it makes blocks", async || {
        let view: HeadView = federation.members[3].client.get("/chain/head").await?;
        seen(view.height + 2 > sender.height(), format!("height {}", view.height))
    })
    .await;
    drop(peer);
    federation.stop().await;
}

/// The first member is a process; a Byzantine peer with the fourth member's key tries to make its memory grow.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_turned_member_sends_without_end_costs_a_process_a_bounded_amount_of_memory() {
    let mut federation = Federation::prepare("grows", |_| {}).await;
    let target = Process::start(&federation, 0);
    for index in 1..3 {
        federation.start_member(index).await;
    }
    for member in &federation.members[1..3] {
        member.gate_open(3).await;
    }
    let turned = ByzantinePeer::of(&federation, 3);
    let member = &federation.members[0];
    let height = federation.members[1].height();
    let before = target.resident_bytes();
    let mut most = before;

    // A hundred thousand actors, above and below the rate limit, in repeated rounds.
    for (round, batch) in [2_000u64, 100, 2_000, 100, 2_000].into_iter().enumerate() {
        let puppet = RawPeer::of(&turned, turned.meets(member).await, &turned.name).await;
        eventually(SOON, "the session stands", async || seen(puppet.is_ready(), "not yet")).await;
        let mut shown = 1_000_000;
        eventually(SOON, &format!("it is cut off in round {round}"), async || {
            if shown < 1_100_000 {
                puppet.adds(roster_of(shown..shown + batch));
                shown += batch;
            }
            most = most.max(target.resident_bytes());
            seen(puppet.connection.ended().is_some(), format!("{shown} shown"))
        })
        .await;
        puppet.leaves().await;
    }
    // Undecodable envelopes, envelopes for an actor that rejects them, and beginnings of the largest envelope.
    let undecodable = framed(Kind::Envelope, &[0xff; 64]).repeat(1_000);
    let refused = framed(Kind::Envelope, &envelope(1, b"root", &[7; 193])).repeat(1_000);
    let large = header(Kind::Envelope.body_max() as u32 + 1, Kind::Envelope);
    for round in 0..60 {
        let mut voice = RawSession::of(turned.meets(member).await);
        let bytes = if round % 2 == 0 { &undecodable } else { &refused };
        for _ in 0..4 {
            // The member may close the connection midway.
            let _ = voice.says(bytes).await;
        }
        let _ = voice.says(&large).await && voice.says(&vec![7; 1 << 20]).await;
        most = most.max(target.resident_bytes());
    }
    println!("memory {} KiB before, {} KiB at most", before >> 10, most >> 10);
    assert!(most - before < GROWTH_BYTES_MAX, "{before} bytes before, {most} at most");
    for honest in &federation.members[1..3] {
        honest.gate_open(3).await;
        honest.reaches(height + 3).await;
    }
    drop(target);
    federation.stop().await;
}
