//! Tests commands when the operating system refuses them resources, or when a server is malicious.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use alys_cluster::clock::ManualClock;

const BINARY: &str = env!("CARGO_BIN_EXE_alys-node");
/// Keeps a failing test from hanging.
const DEADLINE: Duration = Duration::from_secs(30);

fn node(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALYS_")) {
        command.env_remove(name);
    }
    command.output().expect("the node runs")
}

/// Runs a command through a shell with resource limits.
fn limited(limits: &str, arguments: &str, change: impl FnOnce(&mut Command)) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits} '{BINARY}' {arguments}")]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut shell);
    let mut child = shell.spawn().expect("a shell");
    let until = Instant::now() + DEADLINE;
    while child.try_wait().expect("a status").is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait_with_output().expect("it is ended")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_key_that_can_not_be_written_leaves_nothing_and_takes_nobody_s_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new.key");
    symlink(directory.path().join("nowhere"), &path).expect("a link");
    let refused = node(&["keys", "generate", "--out", &path.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    let error = said(&refused);
    assert!(error.contains("new.key: a symbolic link that leads nowhere is there"), "{error}");
    assert_eq!(names(directory.path()), ["new.key"]);
    assert!(fs::symlink_metadata(&path).expect("it is there").is_symlink());

    fs::remove_file(&path).expect("removed");
    let out = format!("keys generate --out '{}'", path.display());
    let refused = limited("ulimit -f 0 && exec", &out, |_| {});
    assert_eq!(refused.status.code(), Some(4), "{:?}: {}", refused.status, said(&refused));
    assert!(said(&refused).contains("new.key: File too large"), "{}", said(&refused));
    assert_eq!(names(directory.path()), [""; 0]);
    let testnet = format!("testnet init --out '{}'", directory.path().join("net").display());
    let refused = limited("ulimit -f 0 && exec", &testnet, |_| {});
    assert_eq!(refused.status.code(), Some(4), "{:?}: {}", refused.status, said(&refused));
    assert!(said(&refused).contains("File too large"), "{}", said(&refused));
}

#[test]
fn a_clock_before_1970_is_refused_by_name() {
    // `SystemClock` clamps times before 1970 to 1970; a manual clock at 0 reads the same.
    let clock = ManualClock::default();
    let error = alys_node::check_clock(&clock).expect_err("no time").to_string();
    assert!(error.contains("the clock of this machine shows a time before 1970"), "{error}");
    clock.advance(Duration::from_millis(1));
    alys_node::check_clock(&clock).expect("a machine without a battery begins so");
}

#[test]
fn a_member_that_is_refused_threads_says_so() {
    // User id without other processes, so that only this process counts towards the limit.
    const USER: u32 = 61_234;
    if fs::metadata("/proc/self").expect("this process").uid() != 0 {
        assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "only root sets a user");
        return println!("skipped: only root can have another user run a member");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let net = directory.path().join("net");
    let owner = format!("{USER}:{USER}");
    let made = node(&["testnet", "init", "--owner", &owner, "--out", &net.to_string_lossy()]);
    assert!(made.status.success(), "{}", said(&made));
    let owned = Command::new("chown").arg(&owner).args([directory.path(), &net]).status();
    assert!(owned.is_ok_and(|status| status.success()), "it is given away");
    let run = format!("run --config '{}'", net.join("node-1/node.toml").display());
    for threads in 1..=6 {
        let output = limited(&format!("exec prlimit --nproc={threads}"), &run, |shell| {
            shell.uid(USER).gid(USER);
        });
        let error = said(&output);
        assert_eq!(output.status.code(), Some(4), "{threads} threads: {:?}: {error}", output.status);
        assert!(error.contains("the system refuses a thread"), "{threads} threads: {error}");
        assert!(!error.contains("panicked"), "{threads} threads: {error}");
    }
}

/// Text of a malicious server: clears the screen, sets the title, changes the colour, and reverses the writing
/// direction.
const HOSTILE: &str = "\\u001b[2J\\u001b]0;gone\\u0007\\u009b31m\\u202e";

/// Answers every request with this status and document until the test ends.
fn server(status: u16, document: impl Fn(&str) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let body = document(request.split(' ').nth(1).unwrap_or("/"));
            let head = format!(
                "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    address
}

/// JSON of an actor all of whose texts are malicious.
fn actor() -> String {
    let text = format!("\"{HOSTILE}\"");
    format!(
        "{{\"member\":{text},\"name\":{text},\"actor_type\":{text},\"priority\":{text},\"state\":{text},\"health\":{text},\
         \"metadata\":{{}},\"incarnation\":1,\"failures\":0,\"tags\":[{text}]}}"
    )
}

#[test]
fn whatever_a_server_says_no_command_gives_a_terminal_orders() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef\n").expect("a token");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&token, mode).expect("permissions");
    let token = token.to_string_lossy().into_owned();
    let problem = |_: &str| {
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"{HOSTILE}\",\"status\":400,\"detail\":\"{HOSTILE}\",\"code\":\"{HOSTILE}\"}}"
        )
    };
    let garbage = |_: &str| format!("{{\"{HOSTILE}\": \x1b[2J");
    let actors = |_: &str| {
        format!(
            "{{\"node\":\"{HOSTILE}\",\"matched\":7,\"actors\":[{}],\"next\":\"{HOSTILE}\",\"plan\":\"{HOSTILE}\"}}",
            actor()
        )
    };
    let leaving = |_: &str| {
        format!(
            "{{\"node\":\"{HOSTILE}\",\"state\":\"leaving\",\"reason\":\"{HOSTILE}\",\"forced\":false,\"refusal\":\"\",\"phases\":[]}}"
        )
    };
    let raw = |_: &str| "\x1b[2J".to_owned();
    let servers = [
        ("problem", server(400, problem)),
        ("refusal", server(409, problem)),
        ("garbage", server(200, garbage)),
        ("actors", server(200, actors)),
        ("leaving", server(200, leaving)),
        ("raw", server(200, raw)),
    ];
    let net = directory.path().join("net");
    assert!(node(&["testnet", "init", "--out", &net.to_string_lossy()]).status.success(), "a testnet");
    let config = net.join("node-1/node.toml").to_string_lossy().into_owned();
    let out = directory.path().join("backup").to_string_lossy().into_owned();
    let commands: [&[&str]; 9] = [
        &["healthcheck", "--url"],
        &["status", "--url"],
        &["status", "--output", "json", "--url"],
        &["actors", "--url"],
        &["actors", "--output", "json", "--url"],
        &["top", "--once", "--url"],
        &["shutdown", "--token-file", &token, "--url"],
        &["shutdown", "--dry-run", "--url"],
        &["backup", "--config", &config, "--out", &out, "--from"],
    ];
    let mut told = 0;
    for (what, address) in servers {
        for command in commands {
            let output = node(&[command, &[&format!("http://{address}")]].concat());
            for bytes in [&output.stdout, &output.stderr] {
                let text = String::from_utf8_lossy(bytes);
                let is_order = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
                assert!(!text.contains(is_order), "{command:?} of {what}: {text:?}");
                told += usize::from(text.contains("[2J"));
            }
            assert!(!said(&output).contains("panicked"), "{command:?} of {what}: {}", said(&output));
        }
    }
    assert!(told >= 5, "what a server says was shown {told} times, or this tests nothing");
}
