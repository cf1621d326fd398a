//! Two processes with one member's key: found by peers and by themselves; the younger does not go on.

use std::time::Duration;

use alys_node::ops::view::{GateDecision, GateView};
use alys_tests::client::Client;
use alys_tests::federation::{Federation, SOON, free_addresses};
use alys_tests::process::Process;
use alys_tests::{eventually, seen};

/// What the members of this process have told of two processes with one key.
fn duplicates_told_by(federation: &Federation, index: usize) -> Vec<String> {
    let recorded = federation.members[index].node().parts().history.all();
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

    // A restart, killed and started at once.
    drop(first);
    let first = Process::start(&federation, 3);
    for member in &federation.members[..3] {
        member.linked().await;
        member.gate_open(4).await;
    }
    for index in 0..3 {
        assert_eq!(duplicates_told_by(&federation, index), Vec::<String>::new(), "a restart is no copy");
    }

    // Long enough to be the elder.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let ports = free_addresses(2);
    let copy = Process::start_copy(&federation, 3, first.home(), ports[0], ports[1]);
    let client = Client::new(ports[1]);
    // The copy closes its links as soon as the first of them tells it: the others need not meet it.
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
        // The first holder is linked and counted all the while.
        member.gate_open(4).await;
    }
    drop((copy, first));
    federation.stop().await;
}
