//! Tests that three honest members keep agreeing and keep the evidence while the fourth breaks the protocol in every
//! supported way, over real links.
//!
//! The same faults run with many seeds in virtual time (`node/src/actors/consensus/byzantine/simulated.rs`), and
//! between processes in the simulator's scenario `byzantine`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_node::actors::consensus::byzantine::Misbehaviour;
use alys_node::consensus::evidence::EVIDENCE_PER_MEMBER;
use alys_node::ops::view::{BlockView, EvidenceView, MisbehaviourRequest, ReceivedView};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};

const BLOCK_TIME: Duration = Duration::from_millis(300);

/// Index of the Byzantine member: the last one.
const LIAR: usize = 3;

async fn order(federation: &Federation, misbehaviour: Option<Misbehaviour>) {
    let request = serde_json::to_string(&MisbehaviourRequest { misbehaviour }).expect("JSON");
    let answer =
        federation.members[LIAR].client.post("/faults/consensus", &request).await.expect("an answer");
    assert_eq!(answer.status, 202, "{answer:?}");
}

async fn evidence(member: &Member) -> Result<EvidenceView, String> {
    member.client.get("/consensus/evidence").await
}

/// Checks that all honest members have the same blocks from `from` on. The number of rounds per block is checked in
/// virtual time, where machine load does not matter.
async fn agree(federation: &Federation, how: Misbehaviour, from: u64) {
    let honest = &federation.members[..LIAR];
    let lowest = honest.iter().map(Member::height).min().expect("three");
    for height in from..=lowest {
        let mut hashes = BTreeSet::new();
        for member in honest {
            let block: BlockView =
                member.client.get(&format!("/chain/blocks/{height}")).await.expect("the block");
            hashes.insert(block.hash);
        }
        assert_eq!(hashes.len(), 1, "{how}: a fork at height {height}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_honest_members_go_on_with_one_that_breaks_the_protocol_and_keep_the_evidence() {
    let tune = |config: &mut alys_node::config::NodeConfig| {
        // Timeouts in proportion to the block time, with a margin for a loaded machine.
        config.consensus.propose = Duration::from_millis(400);
    };
    let federation = Federation::prepare_paced("byzantine", BLOCK_TIME, tune).await.started().await;
    let honest = &federation.members[..LIAR];
    let liar = federation.members[LIAR].name.to_string();
    for member in honest {
        member.reaches(2).await;
        assert_eq!(evidence(member).await.expect("an answer").evidence, []);
    }
    // Faults that leave evidence come last, so that evidence is attributed to the right fault.
    let mut ways = Misbehaviour::ALL;
    ways.sort_by_key(|how| how.equivocates());
    for how in ways {
        let from = honest.iter().map(Member::height).max().expect("three") + 1;
        let before = evidence(&honest[0]).await.expect("an answer").evidence.len();
        order(&federation, Some(how)).await;
        for member in honest {
            // After this height every member has been proposer.
            member.reaches(from + 4).await;
        }
        agree(&federation, how, from).await;
        for member in honest {
            eventually(
                SOON,
                &format!("{} keeps evidence of {how}, or has no cause to", member.name),
                async || {
                    let kept = evidence(member).await?.evidence;
                    let is_of_liar = kept.iter().all(|kept| kept.member == liar);
                    seen(is_of_liar && (kept.len() > before) == how.equivocates(), format!("{kept:?}"))
                },
            )
            .await;
        }
    }
    // The counter keeps counting even when no more evidence is stored.
    eventually(SOON, "it is told of more heights than evidence is kept of", async || {
        let metrics = honest[0].client.send("GET", "/metrics", "", "").await?.body;
        let of_liar = format!("consensus_equivocations_total{{member=\"{liar}\"");
        let told = metrics.lines().find(|line| line.starts_with(&of_liar));
        let count = told.and_then(|line| line.split_whitespace().next_back()?.parse::<f64>().ok());
        seen(count.is_some_and(|count| count > EVIDENCE_PER_MEMBER as f64), format!("{told:?}"))
    })
    .await;
    order(&federation, None).await;
    // Others received one statement per position from each honest member: an honest member never equivocates.
    let mut stated: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for member in honest {
        let received: ReceivedView = member.client.get("/consensus/received").await.expect("an answer");
        for statement in received.statements.into_iter().filter(|statement| statement.member != liar) {
            let place = (statement.member, statement.height, statement.round, statement.step);
            stated.entry(place).or_default().insert(statement.block);
        }
    }
    assert!(stated.len() > 40, "{} statements", stated.len());
    assert!(stated.values().all(|blocks| blocks.len() == 1), "an honest member signed twice: {stated:?}");
    federation.stop().await;
}
