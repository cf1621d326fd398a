//! Tests two processes with one member's key: peers and the processes themselves detect it, and the younger one stops.

use std::time::Duration;

use alys_cluster::id::ActorName;
use alys_cluster::port::Outbox as _;
use alys_cluster::transport::envelope::Lane;
use alys_cluster::transport::typed_sender::TypedSender;
use alys_node::consensus::BlockHash;
use alys_node::consensus::context::{BlockVote, ConsensusHeight, MemberIndex, Statement};
use alys_node::consensus::message::ConsensusWire;
use alys_node::keys::SecretKey;
use alys_node::ops::view::{GateDecision, GateView, HeadView};
use alys_tests::client::Client;
use alys_tests::federation::{Federation, SOON, free_addresses};
use alys_tests::process::Process;
use alys_tests::{eventually, seen};
use malachite_types::{NilOrVal, Round, VoteType};

/// Events about two processes with one key, from a member of this process.
fn duplicates_told_by(federation: &Federation, index: usize) -> Vec<String> {
    let recorded = federation.members[index].node().context().history.all();
    let told = recorded.iter().filter(|(_, recorded)| recorded.event.kind() == "duplicate_member");
    told.map(|(_, recorded)| recorded.event.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_that_is_started_beside_its_member_is_named_and_halts_and_a_restart_is_none() {
    let mut federation = Federation::prepare("twins", |_| {}).await;
    let first = Process::start(&federation, 3);
    for index in 0..3 {
        federation.start_member(index).await;
    }
    for member in &federation.members[..3] {
        member.linked().await;
        member.gate_open(4).await;
    }

    // Restart: killed and started at once.
    drop(first);
    let first = Process::start(&federation, 3);
    for member in &federation.members[..3] {
        member.linked().await;
        member.gate_open(4).await;
    }
    for index in 0..3 {
        assert_eq!(duplicates_told_by(&federation, index), Vec::<String>::new(), "a restart is no copy");
    }

    // Wait until it is clearly the older process.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let ports = free_addresses(2);
    let copy = Process::start_copy(&federation, 3, first.home(), ports[0], ports[1]);
    let client = Client::new(ports[1]);
    // The copy closes its links as soon as the first peer notifies it, so the other peers need not see it.
    eventually(SOON, "a member names the copy", async || {
        let told: Vec<_> = (0..3).flat_map(|index| duplicates_told_by(&federation, index)).collect();
        let name = federation.members[3].name.as_str();
        seen(told.iter().any(|text| text.contains(name)), format!("{told:?}"))
    })
    .await;
    eventually(SOON, "the copy halts and says why", async || {
        let gate: GateView = client.get("/federation/gate").await?;
        let halted =
            gate.decision == GateDecision::Closed && gate.reason.contains("another process holds the key");
        seen(halted, gate.reason)
    })
    .await;
    let height = federation.members[0].height();
    federation.members[0].reaches(height + 2).await;
    for member in &federation.members {
        // The first process stays linked and healthy.
        member.gate_open(4).await;
    }
    drop((copy, first));
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_is_shown_a_signature_of_its_key_that_its_journal_does_not_know_says_so_and_goes_on() {
    let mut federation = Federation::prepare("shown", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let mut process = Process::start(&federation, 3);
    let own = &federation.members[3];
    own.gate_open(4).await;
    own.reaches(2).await;
    let channels = federation.members[0].node().context().channels.clone();
    let courier = TypedSender::new(ActorName::literal("consensus"), Lane::Consensus, channels);
    // A vote for a round that the members never reach, so that it does not conflict with other votes.
    let show = |height: u64, round: u32, key: u8| {
        let vote = BlockVote {
            height: ConsensusHeight(height),
            round: Round::new(round),
            kind: VoteType::Precommit,
            block: NilOrVal::Val(BlockHash([7; 32])),
            voter: MemberIndex(3),
        };
        let bytes = Statement::of_vote(&vote).bytes(federation.genesis.chain_id());
        let signature = SecretKey::from_seed(&[key; 32]).sign(&bytes);
        courier.send(&own.name, ConsensusWire::Vote(vote, signature));
    };
    let height = async || own.client.get::<HeadView>("/chain/head").await.map(|head| head.height);
    let unknown = async || {
        let metrics = own.client.send("GET", "/metrics", "", "").await?.body;
        let line = metrics.lines().find(|line| line.starts_with("consensus_signatures_unknown_total{"));
        let value = line.and_then(|line| line.split_whitespace().next_back()).map(str::to_owned);
        value.ok_or_else(|| "no such metric".to_owned())
    };
    // Any peer can use its name; only its key can sign.
    show(height().await.expect("a height") + 1, 40, 1);
    own.reaches(height().await.expect("a height") + 2).await;
    assert_eq!(unknown().await.expect("a metric"), "0");

    let at = height().await.expect("a height") + 1;
    show(at, 41, 4);
    eventually(SOON, "it says so", async || {
        let events = own.client.send("GET", "/events?kind=signature_unknown", "", "").await?.body;
        let is_told = events.contains("\"signature_unknown\"") && events.contains("41");
        let metric = unknown().await?;
        seen(is_told && metric == "1", format!("{metric}: {events}"))
    })
    .await;
    // It does not sign where it may have signed before; after that it signs again.
    let log = process.log();
    assert!(log.contains("signature_unknown") || log.contains("does not know"), "{log}");
    let goal = height().await.expect("a height") + 6;
    own.reaches(goal).await;
    own.gate_open(4).await;
    eventually(SOON, "it signs again", async || {
        let received: alys_node::ops::view::ReceivedView =
            federation.members[0].client.get("/consensus/received").await?;
        let of_own = received.statements.iter().filter(|statement| statement.member == own.name.as_str());
        let newest = of_own.filter(|statement| statement.round < 40).map(|statement| statement.height).max();
        seen(newest.is_some_and(|newest| newest > at + 2), format!("{newest:?}, shown at {at}"))
    })
    .await;
    assert_eq!(unknown().await.expect("a metric"), "1");
    assert!(process.ended().is_none());
    drop(process);
    federation.stop().await;
}
