//! Tests that a member keeps working whatever happens to its output: a terminal, pipe, socket or file.

use std::fs::{File, OpenOptions};
use std::io::{Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::{Process, binary};
use alys_tests::{eventually, seen};
use tokio::time::sleep;

/// `O_NONBLOCK` on Linux.
const NONBLOCK: i32 = 0o4000;
/// Time after which a repeated signal counts as a second one.
const AGAIN: Duration = Duration::from_millis(1_200);

/// A named pipe that is full except for one page. It stays open and unread while the returned file exists.
fn unread_pipe(path: &Path) -> File {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
    assert!(made.success(), "{} is made", path.display());
    let options = OpenOptions::new().read(true).write(true).custom_flags(NONBLOCK).clone();
    let mut keeps_open = options.open(path).expect("a pipe");
    keeps_open.write_all(&vec![0; 61_440]).expect("a pipe holds 64 KiB");
    keeps_open
}

/// One end of a socket whose buffer is full; it stays so while the other end exists.
fn unread_socket() -> (UnixStream, UnixStream) {
    let (mut near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("it is set");
    while near.write(&[b'x'; 4_096]).is_ok() {}
    near.set_nonblocking(false).expect("it is set");
    (near, far)
}

async fn lost(member: &Member, reason: &str) -> Result<u64, String> {
    let metrics = member.client.send("GET", "/metrics", "", "").await?.body;
    let series = |line: &&str| line.starts_with("log_lines_lost_total{") && line.contains(reason);
    let line = metrics.lines().find(series).ok_or_else(|| format!("no series for {reason}"))?;
    line.rsplit(' ').next().and_then(|count| count.parse().ok()).ok_or_else(|| line.to_owned())
}

/// Tells members to leave, repeatedly if they refuse.
async fn leave_in_order(processes: &mut [Process]) {
    for process in processes {
        let code = eventually(SOON, "it ends", async || {
            if let Some(status) = process.ended() {
                return Ok(status.code());
            }
            process.signal("-TERM");
            sleep(AGAIN).await;
            Err("it runs")
        })
        .await;
        assert_eq!(code, Some(0), "in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_members_whose_logs_nobody_reads_make_blocks_when_another_is_killed_and_leave_in_order() {
    let mut federation = Federation::prepare("unread", |config| config.log.level = "debug".to_owned()).await;
    federation.start_member(0).await;
    let killed = Process::start(&federation, 1);
    let directory = tempfile::tempdir().expect("a directory");
    let paths = [directory.path().join("l3"), directory.path().join("l4")];
    let _keep_open = paths.each_ref().map(|path| unread_pipe(path));
    let mut unread = [(2, &paths[0]), (3, &paths[1])].map(|(index, path)| {
        let pipe = OpenOptions::new().write(true).open(path).expect("a pipe");
        Process::start_by(&federation, index, |command| {
            command.stderr(pipe);
        })
    });
    for member in &federation.members {
        member.linked().await;
        member.gate_open(4).await;
    }
    drop(killed);
    let height = federation.members[0].height();
    for member in [0, 2, 3].map(|index| &federation.members[index]) {
        member.reaches(height + 5).await;
        assert_eq!(member.client.status("/livez").await, Ok(200));
    }
    leave_in_order(&mut unread).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_a_closed_pipe_and_a_socket_that_is_full_lose_lines_which_are_counted_and_nothing_else() {
    let mut federation = Federation::prepare("lost-lines", |_| {}).await;
    federation.start_member(0).await;
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a device that is full");
    let (reader, closed) = pipe().expect("a pipe");
    drop(reader);
    let (socket, _unread) = unread_socket();
    let outputs = [OwnedFd::from(full), OwnedFd::from(closed), OwnedFd::from(socket)];
    let mut processes: Vec<_> = (1..)
        .zip(outputs)
        .map(|(index, output)| {
            Process::start_by(&federation, index, |command| {
                command.stdout(output.try_clone().expect("an output")).stderr(output);
            })
        })
        .collect();
    for member in &federation.members {
        member.gate_open(4).await;
        member.reaches(3).await;
    }
    for member in &federation.members[1..3] {
        eventually(SOON, &format!("{} counts lines", member.name), async || {
            let count = lost(member, "write_failed").await?;
            seen(count > 0, count)
        })
        .await;
    }
    assert_eq!(lost(&federation.members[3], "write_failed").await, Ok(0), "they wait");
    // A panic is logged like any other event, and does not block either.
    for member in &federation.members[1..] {
        let body = r#"{"actor":"sync","fault":"panic"}"#;
        let answer =
            member.client.send("POST", "/faults", "application/json", body).await.expect("an answer");
        assert!(answer.status < 500, "{answer:?}");
    }
    let height = federation.members[0].height();
    for member in &federation.members {
        member.reaches(height + 2).await;
    }
    leave_in_order(&mut processes).await;
    federation.stop().await;
}

/// Runs a command of `alys-node` in `directory`, with `stdout`. Returns its exit code and its error output.
fn command(directory: &Path, arguments: &str, stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.current_dir(directory).args(arguments.split(' ')).stdout(stdout).stderr(Stdio::piped());
    let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a command normally, with a closed output and with a full one; only its output may be lost.
fn loses_its_output(directory: &Path, arguments: &str) {
    let clean = || drop(std::fs::remove_file(directory.join("a.key")));
    clean();
    let printed =
        Command::new(binary()).current_dir(directory).args(arguments.split(' ')).output().expect("it runs");
    assert!(
        !printed.stdout.is_empty(),
        "{arguments} prints nothing, so that nothing can be lost: {printed:?}"
    );
    clean();
    let (reader, closed) = pipe().expect("a pipe");
    drop(reader);
    let (code, complaint) = command(directory, arguments, closed);
    assert_eq!((code, complaint.as_str()), (printed.status.code(), ""), "{arguments}, closed");
    clean();
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a device that is full");
    let (code, complaint) = command(directory, arguments, full);
    assert!(complaint.contains("standard output: No space left on device"), "{arguments}: {complaint}");
    assert!(matches!(code, Some(1..=100)), "{arguments}: {code:?}, {complaint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_whose_output_nobody_reads_end_quietly_and_those_whose_output_is_full_say_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let init = command(directory.path(), "testnet init --out testnet", Stdio::null());
    assert_eq!(init, (Some(0), String::new()));
    let of_member = "--config testnet/node-1/node.toml";
    for arguments in [
        "version",
        "--help",
        "keys generate --out a.key",
        "keys show --key testnet/node-1/member.key",
        "completions bash",
        &format!("config show {of_member}"),
    ] {
        loses_its_output(directory.path(), arguments);
    }
    let mut federation = Federation::prepare("lost-output", |_| {}).await;
    for index in 0..3 {
        federation.start_member(index).await;
    }
    let process = Process::start(&federation, 3);
    federation.members[3].gate_open(4).await;
    federation.members[3].reaches(1).await;
    let home = process.home().to_owned();
    for arguments in ["config check", "healthcheck", "status"] {
        loses_its_output(&home, &format!("{arguments} --config node.toml"));
    }
    drop(process);
    loses_its_output(&home, "audit --config node.toml");
    federation.stop().await;
}
