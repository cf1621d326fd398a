//! Tests that `top` shows the state of a running federation: working, then halted with its reason.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use alys_tests::federation::{Federation, SOON};
use alys_tests::{eventually, seen, skip};
use tokio::process::Command;

/// Path of an executable built with these tests.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this executable has a path");
    let binary = own.parent().and_then(|deps| deps.parent()).expect("a target directory").join(name);
    assert!(binary.is_file(), "there is no {}; expected it to be built with the workspace", binary.display());
    binary
}

async fn run(command: &mut Command) -> Output {
    command.kill_on_drop(true).output().await.expect("it runs")
}

/// Exit code and output of `alys-node top --once` for these members.
async fn once(federation: &Federation) -> (Option<i32>, String) {
    let mut command = Command::new(binary("alys-node"));
    command.args(["top", "--once"]);
    for member in &federation.members {
        command.arg("--url").arg(format!("http://{}", member.config.ops.address));
    }
    let output = run(&mut command).await;
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

/// Cells of a member's line.
fn cells<'a>(table: &'a str, member: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(member));
    line.unwrap_or_else(|| panic!("no line of {member} in\n{table}")).split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn top_shows_a_federation_that_works_and_one_that_is_halted_with_the_reason() {
    let mut federation = Federation::start("top", |_| {}).await;
    let names: Vec<_> = federation.members.iter().map(|member| member.name.to_string()).collect();
    federation.members[0].reaches(2).await;
    let (code, table) = once(&federation).await;
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("the federation works: 4 of 4 gates open, 3 required"), "{table}");
    assert!(table.contains(" blocks: "), "{table}");
    for name in &names {
        let cells = cells(&table, name);
        assert_eq!(cells[1..2], ["up"], "{table}");
        assert_eq!(cells[3..7], ["open", "4/4", "3/3", "0"], "{table}");
        assert_eq!(*cells.last().expect("a version"), env!("CARGO_PKG_VERSION"), "{table}");
    }

    for index in [2, 3] {
        let node = federation.members[index].take();
        Box::pin(node.stop()).await;
    }
    federation.members[0].gate_closed().await;
    let table = eventually(alys_tests::federation::SOON, "top shows the halt", async || {
        let (code, table) = once(&federation).await;
        let halted = code == Some(3) && cells(&table, &names[0]).contains(&"closed");
        seen(halted, &table).map(|()| table)
    })
    .await;
    let why = "the federation does not work: top-node-1: halted: 2 of 3 required members are healthy";
    assert!(table.contains(why), "{table}");
    for member in &federation.members[2..] {
        // A member that never responded has no name yet.
        let address = member.config.ops.address.to_string();
        assert_eq!(cells(&table, &address)[1], "unreachable", "{table}");
        assert!(table.contains(&format!("{address}: http://{address} does not answer: ")), "{table}");
    }
    federation.stop().await;
}

#[tokio::test]
async fn without_a_terminal_top_says_what_it_expects() {
    let directory = tempfile::tempdir().expect("a directory");
    let table: [(&str, &[&str], i32, &str); 5] = [
        ("alys-node", &["top"], 4, "standard output is no terminal; expected one, or `--once`"),
        ("alys-node", &["top", "--url", "https://x:1"], 2, "such as http://127.0.0.1:3001"),
        ("alys-node", &["top", "--interval", "1ms"], 2, "expected 100ms to 1m"),
        ("alys-node", &["top", "--once", "--url", "127.0.0.1:9"], 3, ""),
        (
            "federation-sim",
            &["top", ".", "--once"],
            4,
            "has no directory with a node.toml; expected one that",
        ),
    ];
    for (program, arguments, code, part) in table {
        let mut command = Command::new(binary(program));
        let output = run(command.args(arguments).current_dir(Path::new(directory.path()))).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{program} {arguments:?}: {complaint}");
        assert!(complaint.contains(part), "{program} {arguments:?}: {complaint}");
    }
}

/// Process id of the process with this argument, if it exists.
fn running_with(argument: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes.filter_map(|name| name.parse().ok()).find(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        arguments.next().is_some_and(|program| program.ends_with(b"alys-node"))
            && arguments.any(|other| other == argument.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_ends_with_its_terminal() {
    // An interval that no other test uses.
    let (argument, program) = ("13337ms", binary("alys-node"));
    let line = format!("exec {} top --url http://127.0.0.1:9 --interval {argument}", program.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &line, "/dev/null"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut terminal = match command.spawn() {
        Ok(terminal) => terminal,
        Err(error) => return skip(&format!("no pseudo-terminal by the program `script`: {error}")),
    };
    let pid = eventually(SOON, "top runs", async || running_with(argument).ok_or("not yet")).await;
    // It draws the screen and reads keys.
    eventually(SOON, "it has a terminal", async || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        seen(threads >= 3, format!("{threads} threads"))
    })
    .await;
    terminal.kill().await.expect("the terminal is closed");
    eventually(SOON, "it is gone", async || seen(running_with(argument).is_none(), format!("{pid} runs")))
        .await;
}
