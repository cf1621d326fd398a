//! Tests that every gate decision follows from its inputs, and that each class of operations gets the quorum it
//! requires.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_cluster::clock::{Clock, Moment, WallTime};
use alys_cluster::federation::decision::{Evaluation, Gates, MemberFacts, MemberState};
use alys_cluster::federation::{Decision, GateInputs, OperationClass, decide};
use alys_cluster::health::HealthStatus;
use alys_cluster::id::{ActorName, NodeId};
use alys_cluster::supervision::EnhancedSupervision;
use alys_node::consensus::context::{Statement, Step};
use alys_node::consensus::guard::{self, GuardedSigner, Journal, JournalMark, Signer as _, SigningRefusal};
use alys_node::decisions::DecisionFile;
use alys_node::decisions::line::DecisionLine;
use alys_node::ops::view::{
    ClassView, DecisionsView, FederationView, GateDecision, GateView, LinkView, MemberView,
};
use alys_node::tree::NodeContext;
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

prop_compose! {
    fn any_member()(
        name in "[a-z][a-z0-9-]{0,20}",
        state in prop::sample::select(vec![
            MemberState::Own,
            MemberState::Unknown,
            MemberState::Up,
            MemberState::Attested,
            MemberState::Suspected,
            MemberState::Down,
            MemberState::Left,
        ]),
        status in prop::sample::select(HealthStatus::ALL.to_vec()),
        silent_ms in any::<Option<u64>>(),
        phi_thousandths in any::<u64>(),
        reason in ".{0,40}",
    ) -> MemberFacts {
        let name = NodeId::new(&name).expect("of the right form");
        MemberFacts { name, state, status, silent_ms, phi_thousandths, reason }
    }
}

prop_compose! {
    fn any_inputs()(
        required in 1usize..6,
        stable_rounds in 1u32..4,
        demands in prop::array::uniform4(0usize..8),
        rounds in prop::collection::vec(0usize..8, 0..6),
        evaluation in prop_oneof![
            prop::sample::select(vec![Evaluation::Round, Evaluation::BetweenRounds, Evaluation::Untrusted]),
            (any::<u64>(), any::<u64>()).prop_map(|(granted_ms, age_ms)| Evaluation::Lease { granted_ms, age_ms }),
        ],
        members in prop::collection::vec(any_member(), 0..8),
        in_doubt in any::<bool>(),
        interval_ms in any::<u64>(),
        hold in prop::option::of(".{0,30}"),
    ) -> GateInputs {
        let mut gates = Gates::new(required, stable_rounds, |class| demands[class as usize]);
        for healthy in rounds {
            gates.federation.round(healthy);
            for gate in gates.classes.values_mut() {
                gate.round(healthy);
            }
        }
        let holds = hold.into_iter().map(|why| (ActorName::literal("chain"), why));
        let holds: BTreeMap<_, _> = holds.collect();
        GateInputs { gates, evaluation, members, in_doubt, interval_ms, holds }
    }
}

proptest! {
    #[test]
    fn inputs_that_were_written_down_and_read_again_are_decided_the_same_byte_for_byte(inputs in any_inputs()) {
        let written = serde_json::to_vec(&inputs).expect("inputs have a JSON form");
        let read: GateInputs = serde_json::from_slice(&written).expect("what was written can be read");
        prop_assert_eq!(&read, &inputs);
        let bytes = |inputs: &GateInputs| serde_json::to_vec(&decide(inputs)).expect("an outcome has a JSON form");
        prop_assert_eq!(bytes(&read), bytes(&inputs));
    }
}

/// Downloads a member's decision log, recomputes every decision, and compares the bytes of the whole document.
async fn replays(member: &Member) -> DecisionsView {
    let answer = member.client.send("GET", "/federation/decisions", "", "").await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let log: DecisionsView = serde_json::from_str(&answer.body).expect("a log");
    let mut replayed = log.clone();
    for record in &mut replayed.decisions {
        record.outcome = decide(&record.inputs);
    }
    let replayed = serde_json::to_string(&replayed).expect("a log has a JSON form");
    assert_eq!(replayed, answer.body, "{} decided otherwise than its inputs say", member.name);
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_of_a_running_member_is_replayed_byte_for_byte_through_halts_and_returns() {
    let mut federation = Federation::start("replay", |_| {}).await;
    federation.members[0].reaches(1).await;
    for index in [2, 3] {
        assert!(federation.members[index].take().stop().await, "it stops in time");
    }
    federation.members[0].gate_closed().await;
    federation.start_member(2).await;
    federation.members[0].gate_open(3).await;
    federation.start_member(3).await;
    federation.members[0].gate_open(4).await;
    for member in &federation.members {
        let log = replays(member).await;
        let sequences: Vec<_> = log.decisions.iter().map(|record| record.sequence).collect();
        assert_eq!(sequences, (1..=log.decisions.len() as u64).collect::<Vec<_>>());
        let gate: GateView = member.client.get("/federation/gate").await.expect("a gate");
        for (record, told) in log.decisions.iter().zip(&gate.history) {
            let open = record.outcome.decision == Decision::Open;
            assert_eq!((open, record.outcome.healthy), (told.decision == GateDecision::Open, told.healthy));
            assert_eq!(record.outcome.reason, told.reason);
        }
    }
    let log = replays(&federation.members[0]).await;
    let decisions: Vec<_> = log.decisions.iter().map(|record| record.outcome.decision).collect();
    let changes = decisions.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 3, "closed, open, closed, open: {decisions:?}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_that_nobody_watches_any_more_closes_with_a_record_that_no_signature_follows_and_that_is_on_file()
 {
    let mut federation = Federation::start("lapse", |_| {}).await;
    federation.members[0].reaches(2).await;
    let member = &federation.members[0];
    let context = member.node().context();
    let name = context.addresses.federation.name().clone();
    let tier = tier_of(context, &name);
    tier.suspend_child(&name).await.expect("nobody renews its verdict any more");
    let lapsed = async || {
        let log = replays(member).await;
        let last = log.decisions.last().expect("decisions").clone();
        let too_late = last.inputs.evaluation.is_too_late();
        if too_late { Ok((last, log.written, log.dropped)) } else { Err(format!("{last:?}")) }
    };
    let (lapse, ..) = eventually(SOON, "the lease runs out", lapsed).await;
    assert_eq!((lapse.outcome.decision, lapse.outcome.healthy), (Decision::Closed, 4), "{lapse:?}");
    let Evaluation::Lease { granted_ms, age_ms } = lapse.inputs.evaluation else { panic!("{lapse:?}") };
    assert!(granted_ms > 0 && granted_ms <= age_ms, "{lapse:?}");
    // The other three continue, and would need its votes.
    let height = federation.members[1].height();
    federation.members[1].reaches(height + 2).await;
    let signed: alys_node::ops::view::SignaturesView =
        member.client.get("/consensus/signatures").await.expect("signatures");
    assert!(!signed.signatures.is_empty());
    let after: Vec<_> = signed.signatures.iter().filter(|signature| signature.at_ms > lapse.at_ms).collect();
    assert!(after.is_empty(), "signed after the lease ran out at {}: {after:?}", lapse.at_ms);
    let (_, written, dropped) = eventually(SOON, "everything is on file", async || {
        let (last, written, dropped) = lapsed().await?;
        if written == last.sequence {
            Ok((last, written, dropped))
        } else {
            Err(format!("{written} written"))
        }
    })
    .await;
    assert_eq!((written, dropped), (lapse.sequence, 0));
    tier.resume_child(&name).await.expect("it watches again");
    member.gate_open(4).await;
    let log = replays(member).await;
    let (data_dir, incarnation) = (member.config.data_dir.clone(), log.incarnation);
    assert!(federation.members[0].take().stop().await, "it stops in time");

    let replay = DecisionFile::replay(&data_dir).expect("a log");
    assert!(replay.findings.is_empty() && !replay.is_torn, "{replay:?}");
    let text = std::fs::read_to_string(data_dir.join("decisions.jsonl")).expect("a file");
    let lines = text.lines().map(|line| serde_json::from_str::<DecisionLine>(line).expect("a line"));
    let lines: Vec<_> = lines.filter(|line| line.incarnation == incarnation).collect();
    for (line, record) in lines.iter().zip(&log.decisions) {
        let of_line = (line.sequence, line.at_ms, &line.inputs, &line.outcome);
        assert_eq!(of_line, (record.sequence, record.at_ms, &record.inputs, &record.outcome));
    }
    assert!(lines.len() >= log.decisions.len(), "what was in memory is on file");
    federation.stop().await;
}

fn class<'a>(gate: &'a GateView, class: &str) -> &'a ClassView {
    gate.classes.iter().find(|view| view.class == class).expect("every class is shown")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_class_that_demands_all_four_is_closed_with_three_and_the_others_are_not() {
    let demand_four = |config: &mut alys_node::config::NodeConfig| {
        config.heartbeat.demand.propose = Some(4);
        config.heartbeat.demand.change_membership = Some(4);
    };
    let mut federation = Federation::start("demand", demand_four).await;
    federation.members[0].reaches(2).await;
    assert!(federation.members[3].take().stop().await, "it stops in time");
    let member = &federation.members[0];
    let gate = eventually(SOON, "proposals are refused, and votes are not", async || {
        let gate: GateView = member.client.get("/federation/gate").await?;
        let passed = class(&gate, "propose").decision == GateDecision::Closed;
        if passed && gate.healthy == 3 { Ok(gate) } else { Err(gate.reason) }
    })
    .await;
    assert_eq!((gate.decision, gate.required), (GateDecision::Open, 3));
    for (name, demand, decision) in [
        ("propose", 4, GateDecision::Closed),
        ("vote", 3, GateDecision::Open),
        ("sign_for_bridge", 3, GateDecision::Open),
        ("change_membership", 4, GateDecision::Closed),
    ] {
        let found = class(&gate, name);
        assert_eq!((found.demand, found.decision), (demand, decision), "{name}");
    }
    let context = member.node().context();
    let halt =
        context.gate.admit(context.clock.now(), OperationClass::Propose).expect_err("three are not four");
    assert!(halt.to_string().contains("propose demands 4"), "{halt}");

    // A height proposed earlier may still be decided; after it no member proposes one, and nothing fails.
    sleep(Duration::from_secs(2)).await;
    let (height, until) = (member.height(), Instant::now() + Duration::from_secs(3));
    while Instant::now() < until {
        assert_eq!(member.height(), height, "a block that nobody may propose");
        sleep(Duration::from_millis(100)).await;
    }
    federation.start_member(3).await;
    for member in &federation.members {
        member.gate_open(4).await;
        member.reaches(height + 2).await;
        replays(member).await;
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_was_lost_is_shown_as_down_one_that_left_as_left_and_one_that_answers_as_up() {
    let mut federation = Federation::start("states", |_| {}).await;
    let is_seen = async |federation: &Federation, expected: &str| {
        let (member, of) = (&federation.members[0], federation.members[3].name.to_string());
        eventually(SOON, &format!("the fourth member is {expected}, and nobody else"), async || {
            let view: alys_node::ops::view::FederationView = member.client.get("/federation/status").await?;
            let state = |member: &MemberView| if member.name == of { expected } else { "up" };
            let others = view.members.iter().filter(|member| member.state != "self");
            let wrong: Vec<_> = others.filter(|member| member.state != state(member)).collect();
            seen(wrong.is_empty(), format!("{wrong:?}"))
        })
        .await;
    };
    let context = federation.members[3].node().context();
    let name = context.addresses.federation.name().clone();
    let tier = tier_of(context, &name);
    tier.suspend_child(&name).await.expect("nobody answers for it any more");
    is_seen(&federation, "down").await;
    tier.resume_child(&name).await.expect("it answers again");
    is_seen(&federation, "up").await;
    assert!(federation.members[3].take().stop().await, "it stops in time");
    is_seen(&federation, "left").await;
    federation.stop().await;
}

/// The supervisor of one of a member's workers.
fn tier_of(context: &NodeContext, worker: &ActorName) -> EnhancedSupervision {
    let found = context.supervision.tree.worker(worker).expect("it is in the tree");
    EnhancedSupervision::at(found.supervisor, context.supervision.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_link_whose_actor_is_not_there_is_shown_with_what_is_known_without_it() {
    let federation = Federation::start("linkless", |_| {}).await;
    let member = &federation.members[0];
    member.gate_open(4).await;
    let context = member.node().context();
    let (peer, link) = context.addresses.links.first_key_value().expect("three links");
    tier_of(context, link.name()).suspend_child(link.name()).await.expect("it runs");
    eventually(SOON, "it is shown as unknown, and the others as they are", async || {
        let status: FederationView = member.client.get("/federation/status").await?;
        let state = |link: &LinkView| if link.peer == peer.as_str() { "unknown" } else { "up" };
        let wrong: Vec<_> = status.links.iter().filter(|link| link.state != state(link)).collect();
        seen(status.links.len() == 3 && wrong.is_empty(), format!("{wrong:?}"))
    })
    .await;
    federation.stop().await;
}

/// A clock that jumps one hour between its first reading and all later ones.
struct SlowDisk {
    clock: Arc<dyn Clock>,
    readings: AtomicUsize,
}

impl Clock for SlowDisk {
    fn now(&self) -> Moment {
        let lost = Duration::from_hours(u64::from(self.readings.fetch_add(1, Ordering::SeqCst) > 0));
        self.clock.now() + lost
    }

    fn wall(&self) -> WallTime {
        self.clock.wall()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gate_that_closes_during_the_fsync_holds_the_signature_back_until_it_is_open() {
    let federation = Federation::start("fsync", |_| {}).await;
    let context = federation.members[0].node().context();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("signatures.journal");
    let signer = |clock: Arc<dyn Clock>| {
        let identity = guard::identity(context.genesis.hash(), &context.key.public_key());
        let mut journal = Journal::open(&path, identity, 0, JournalMark::default()).expect("opens");
        journal.set_floor(0).expect("kept");
        let (key, chain, gate) = (context.key.clone(), context.genesis.chain_id(), context.gate.clone());
        GuardedSigner::new(key, chain, context.incarnation, journal, gate, clock)
    };
    let vote = Statement { step: Step::Prevote, height: 1, round: 0, block: None, pol_round: -1 };
    let slow = SlowDisk { clock: context.clock.clone(), readings: AtomicUsize::new(0) };
    let mut late = signer(Arc::new(slow));
    let signed = late.sign(&vote).map(drop);
    let held = if signed.is_ok() { late.flush() } else { signed };
    assert!(
        matches!(&held, Err(SigningRefusal::Gate(halt)) if halt.to_string().contains("ran out")),
        "{held:?}"
    );
    assert_eq!(late.signed_at(1), [vote], "the journal has it");
    drop(late);
    let mut now = signer(context.clock.clone());
    // The lease that expired on that clock has expired for all readers; the next verdict opens the gate again.
    eventually(SOON, "the gate is open", async || {
        now.sign(&vote).map_err(|refusal| format!("{refusal:?}"))?;
        now.flush().map_err(|refusal| format!("{refusal:?}"))
    })
    .await;
    assert_eq!(now.signed_at(1), [vote], "it stands there once");
    federation.stop().await;
}
