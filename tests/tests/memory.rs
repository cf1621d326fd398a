//! What becomes of a member that has lost its memory of what it signed?

use std::fs;

use alys_node::ops::view::{HealthView, SignaturesView};
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::Process;
use alys_tests::{eventually, seen};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_data_directory_is_gone_signs_nothing_where_it_may_have_signed_before_and_says_so() {
    let mut federation = Federation::prepare("memory", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    let lost = &federation.members[3];
    lost.gate_open(4).await;
    lost.reaches(3).await;
    drop(process);
    fs::remove_dir_all(&lost.config.data_dir).expect("removed");
    let height = federation.members[0].height();
    let mut process = Process::start(&federation, 3);
    eventually(SOON, "it says so", async || {
        let health: HealthView = lost.client.get("/health/status").await?;
        let consensus = health.actors.into_iter().find(|actor| actor.name == "consensus").ok_or("none")?;
        let is_told = consensus.reason.contains("no memory of what it signed: signs nothing up to height");
        seen(is_told, consensus.reason)
    })
    .await;
    let signed = eventually(SOON, "it signs again", async || {
        let view: SignaturesView = lost.client.get("/consensus/signatures").await?;
        let lowest = view.signatures.iter().map(|signature| signature.height).min();
        lowest.ok_or_else(|| "nothing yet".to_owned())
    })
    .await;
    assert!(signed > height + 2, "the first signature is at height {signed}, its disk was lost at {height}");
    // It is killed, and knows what it signed from here on.
    lost.reaches(signed + 1).await;
    process.signal("-KILL");
    while process.ended().is_none() {
        tokio::task::yield_now().await;
    }
    let process = Process::start(&federation, 3);
    lost.gate_open(4).await;
    let view: SignaturesView = lost.client.get("/consensus/signatures").await.expect("an answer");
    assert_eq!(view.signatures.iter().map(|signature| signature.height).min(), Some(signed));
    drop(process);
    federation.stop().await;
}
