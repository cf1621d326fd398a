//! Tests what members that are processes log and do when one or all of them are told to leave.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use alys_cluster::shutdown::state::INSISTS_AFTER;
use alys_tests::federation::{Federation, SOON};
use alys_tests::process::{Process, binary};
use alys_tests::{eventually, seen, skip};

const TOKEN: &str = "a-token-for-tests-only";

/// Starts four processes and waits until they make blocks.
async fn started(tag: &str) -> (Federation, Vec<Process>, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    fs::write(&file, TOKEN).expect("a file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let federation = Federation::prepare(tag, |config| config.ops.token_file = Some(file.clone())).await;
    let processes: Vec<_> = (0..4).map(|index| Process::start(&federation, index)).collect();
    for member in &federation.members {
        member.gate_open(4).await;
        member.reaches(2).await;
    }
    (federation, processes, directory)
}

async fn ends(process: &mut Process) {
    let code = eventually(SOON, "it ends", async || {
        process.ended().map(|status| status.code()).ok_or_else(|| process.log())
    })
    .await;
    assert_eq!(code, Some(0), "in order: {}", process.log());
}

/// Lines of a log with level WARN or ERROR.
fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_that_are_sent_sigterm_at_once_all_end_in_order() {
    let (_federation, mut processes, _directory) = started("sigterm").await;
    let begun = Instant::now();
    for process in &processes {
        process.signal("-TERM");
    }
    for process in &mut processes {
        ends(process).await;
    }
    println!("all four ended after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orderly_leave_is_no_failure_in_anybody_s_log_and_names_no_signal_that_was_not_sent() {
    let (federation, mut processes, _directory) = started("orderly").await;
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let leaves = federation.members[3].client.send_with("POST", "/shutdown", &headers, "{}");
    assert_eq!(leaves.await.expect("an answer").status, 202);
    ends(&mut processes[3]).await;
    // Three members are left: a request to the third is refused, without any signal.
    federation.members[2].gate_open(3).await;
    let refused = federation.members[2].client.send_with("POST", "/shutdown", &headers, "{}");
    let refused = refused.await.expect("an answer");
    assert_eq!(refused.status, 409, "{refused:?}");
    let height = 2 + eventually(SOON, "a height", async || {
        let head: alys_node::ops::view::HeadView = federation.members[0].client.get("/chain/head").await?;
        Ok::<_, String>(head.height)
    })
    .await;
    for member in &federation.members[..3] {
        member.reaches(height).await;
    }
    for (process, member) in processes.iter().zip(&federation.members) {
        let log = process.log();
        assert!(log.contains("\"INFO\""), "it is a log: {log}");
        assert!(!log.contains("signal"), "{} was sent no signal: {log}", member.name);
        for line in complaints(&log) {
            let lower = line.to_lowercase();
            let is_failure = ["tls", "close_notify", "\"error\"", "broken pipe", "reset by peer"];
            assert!(!is_failure.iter().any(|part| lower.contains(part)), "{}: {line}", member.name);
        }
    }
    // The next member gets a signal, and leaves only at the second one.
    processes[2].signal("-TERM");
    eventually(SOON, "it refuses", async || {
        let log = processes[2].log();
        seen(log.contains("the signal again"), log)
    })
    .await;
    tokio::time::sleep(INSISTS_AFTER).await;
    processes[2].signal("-TERM");
    ends(&mut processes[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_presses_keys_in_the_terminal_of_a_member_is_told_there_why_it_does_not_stop() {
    let mut federation = Federation::prepare("terminal", |_| {}).await;
    for index in 0..2 {
        federation.start_member(index).await;
    }
    // Writes the member's files without running the member.
    let home = Process::start_by(&federation, 2, |command| *command = Command::new("true")).home().to_owned();
    let (config, log, screen) = (home.join("node.toml"), home.join("terminal.log"), home.join("screen"));
    let line = format!(
        "exec {} run --exit-with-parent --config {} 2> {}",
        binary().display(),
        config.display(),
        log.display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", &line]).arg(&screen);
    let terminal = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut terminal = match terminal {
        Ok(terminal) => terminal,
        Err(error) => return skip(&format!("no pseudo-terminal by the program `script`: {error}")),
    };
    let mut keys = terminal.stdin.take().expect("piped");
    federation.members[2].gate_open(3).await;
    federation.members[2].reaches(1).await;
    keys.write_all(b"\x03").expect("a key is pressed");
    eventually(SOON, "the terminal shows the refusal", async || {
        let shown = fs::read(&screen).map_err(|error| error.to_string())?;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let parts = ["is not stopping: ", "without this one 2 would be left", "the signal again"];
        seen(parts.iter().all(|part| shown.contains(part)), shown)
    })
    .await;
    let said = fs::read_to_string(&log).expect("its log");
    assert!(said.contains("not stopping: "), "the log says it too: {said}");
    tokio::time::sleep(INSISTS_AFTER).await;
    keys.write_all(b"\x03").expect("a key is pressed");
    let code = eventually(SOON, "it ends", async || {
        terminal.try_wait().expect("a child").map(|status| status.code()).ok_or("it runs")
    })
    .await;
    assert_eq!(code, Some(0), "{}", fs::read_to_string(&log).expect("its log"));
    federation.stop().await;
}
