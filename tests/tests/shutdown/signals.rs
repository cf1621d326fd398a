//! Tests which signals end a member and which do not.

use alys_cluster::shutdown::state::INSISTS_AFTER;
use alys_node::ops::view::{ShutdownView, SignaturesView};
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::Process;
use alys_tests::{eventually, seen};

/// Signals whose default action ends a process and that no fault of the process causes, with the names that a member
/// logs.
const MEANINGLESS: [(&str, &str); 12] = [
    ("-HUP", "SIGHUP"),
    ("-USR1", "SIGUSR1"),
    ("-USR2", "SIGUSR2"),
    ("-ALRM", "SIGALRM"),
    ("-STKFLT", "SIGSTKFLT"),
    ("-XCPU", "SIGXCPU"),
    ("-VTALRM", "SIGVTALRM"),
    ("-PROF", "SIGPROF"),
    ("-IO", "SIGIO"),
    ("-PWR", "SIGPWR"),
    ("-34", "real-time signal 34"),
    ("-64", "real-time signal 64"),
];

/// Four members; the third is a process.
async fn federation(name: &str) -> (Federation, Process) {
    let mut federation = Federation::prepare(name, |_| {}).await;
    for index in [0, 1, 3] {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 2);
    for member in &federation.members {
        member.gate_open(4).await;
    }
    // A member that has just started does not sign at heights where it may have signed before. If another member left
    // now, no block would be made until it signs.
    eventually(SOON, "the process signs", async || {
        let view: SignaturesView = federation.members[2].client.get("/consensus/signatures").await?;
        seen(!view.signatures.is_empty(), "nothing yet")
    })
    .await;
    (federation, process)
}

async fn says(process: &Process, text: &str) {
    eventually(SOON, &format!("{text:?} is in the log"), async || {
        let log = process.log();
        seen(log.contains(text), log)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn signals_without_a_meaning_are_ignored_and_said_and_the_others_ask_before_they_end_a_member() {
    let (mut federation, mut process) = federation("signals").await;
    // From here on three members are healthy: if another one ended, the others would halt.
    federation.members[3].take().stop().await;
    federation.members[2].gate_open(3).await;
    for (signal, name) in MEANINGLESS {
        process.signal(signal);
        says(&process, &format!("\"signal\":\"{name}\"")).await;
        assert_eq!(process.ended(), None, "{name}");
    }
    let member = &federation.members[2];
    member.reaches(federation.members[0].height() + 2).await;

    process.signal("-QUIT");
    eventually(SOON, "it refuses", async || {
        let view: ShutdownView = member.client.get("/shutdown").await?;
        seen(view.refusal.contains("without this one 2 would be left"), view.refusal)
    })
    .await;
    assert_eq!(process.ended(), None);
    tokio::time::sleep(INSISTS_AFTER).await;
    process.signal("-QUIT");
    let code = eventually(SOON, "it obeys who insists", async || {
        process.ended().map(|status| status.code()).ok_or("it runs")
    })
    .await;
    assert_eq!(code, Some(0), "in order, not with a core dump");
    federation.stop().await;
}
