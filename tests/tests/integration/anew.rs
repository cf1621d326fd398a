//! Tests what may happen to a member while its process re-executes itself with a later incarnation.
//!
//! The incarnation file of the member is lost, so its peers know a later incarnation than its own: the member stops,
//! takes a later incarnation, and executes its own binary again.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::{Process, binary};
use alys_tests::{eventually, seen};

const SAYS: &str = "peers know a later start of this member";

/// Four members. The fourth was a process, and its peers know an incarnation of it that is 15 minutes ahead of its
/// clock.
struct Ahead(Federation);

impl Ahead {
    async fn prepare(tag: &str) -> Self {
        let mut federation = Federation::prepare(tag, |_| {}).await;
        for index in 0..3 {
            federation.start_member(index).await;
        }
        let data = &federation.members[3].config.data_dir;
        fs::create_dir(data).expect("a directory");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        fs::write(data.join("incarnation"), (now.as_secs() + 900).to_string()).expect("written");
        let process = Process::start(&federation, 3);
        federation.members[3].gate_open(4).await;
        drop(process);
        Self(federation)
    }

    fn member(&self) -> &Member {
        &self.0.members[3]
    }

    /// Its last incarnation, if the file exists.
    fn number(&self) -> Option<u64> {
        fs::read_to_string(self.member().config.data_dir.join("incarnation")).ok()?.trim().parse().ok()
    }

    /// Deletes the incarnation file and returns the incarnation: on its next start the member will re-execute itself.
    fn lose(&self) -> u64 {
        let known = self.number().expect("a number");
        fs::remove_file(self.member().config.data_dir.join("incarnation")).expect("lost");
        known
    }

    /// Waits until it has re-executed itself once and is ready.
    async fn is_ready(&self, process: &mut Process, known: u64) {
        eventually(SOON, "it takes a later number", async || {
            assert_eq!(process.ended(), None, "{}", process.log());
            seen(self.number() > Some(known), format!("{:?} after {known}", self.number()))
        })
        .await;
        self.member().gate_open(4).await;
        eventually(SOON, "it is ready", async || {
            let answer = self.member().client.send("GET", "/readyz", "", "").await?;
            seen(answer.status == 200, answer.body)
        })
        .await;
        assert_eq!((self.number(), process.ended()), (Some(known + 1), None), "{}", process.log());
        assert_eq!(process.log().matches(SAYS).count(), 1, "{}", process.log());
    }
}

/// Identifies the program that a process executes: its auxiliary vector contains the load address, which differs after
/// each exec.
fn program(process: &Process) -> Vec<u8> {
    fs::read(format!("/proc/{}/auxv", process.id())).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_is_told_to_leave_while_it_begins_anew_ends_in_order() {
    let ahead = Ahead::prepare("anew-term").await;
    for instant in ["it stops", "its number is written", "it has executed itself"] {
        for signal in ["-TERM", "-INT", "-QUIT"] {
            let known = ahead.lose();
            let mut process = Process::start(&ahead.0, 3);
            let until = Instant::now() + SOON;
            eventually(SOON, "it writes", async || seen(!process.log().is_empty(), "nothing")).await;
            let first = program(&process);
            // Polls without a pause, because these states are short.
            loop {
                let is_now = match instant {
                    "it stops" => process.log().contains(SAYS),
                    "its number is written" => ahead.number() >= Some(known),
                    _ => program(&process) != first,
                };
                if is_now {
                    break;
                }
                assert!(Instant::now() < until, "{instant}: {}", process.log());
            }
            process.signal(signal);
            let status = eventually(SOON, &format!("{signal} ends it when {instant}"), async || {
                process.ended().ok_or_else(|| process.log())
            })
            .await;
            assert_eq!(status.code(), Some(0), "{signal} when {instant}: {}", process.log());
            // Peers may not have seen the incarnation that was lost.
            assert!(
                ahead.number() >= Some(known),
                "{signal} when {instant}: the next start needs not begin anew"
            );
        }
    }
    ahead.0.stop().await;
}

/// Starts the fourth member from a copy of the executable.
fn start_from(ahead: &Ahead, executable: &Path) -> Process {
    fs::copy(binary(), executable).expect("copied");
    Process::start_by(&ahead.0, 3, |command| {
        let home = ahead.member().config.data_dir.parent().expect("a directory");
        let log = File::create(home.join("node.log")).expect("a file");
        let mut copy = Command::new(executable);
        copy.args(command.get_args()).stdin(Stdio::null());
        copy.stdout(log.try_clone().expect("a file")).stderr(log);
        *command = copy;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_whose_executable_was_removed_or_replaced_begins_anew_as_it_is() {
    let ahead = Ahead::prepare("anew-replaced").await;
    let directory = tempfile::tempdir().expect("a directory");
    let (executable, other) = (directory.path().join("alys-node"), directory.path().join("other"));
    for is_replaced in [false, true] {
        let known = ahead.lose();
        let mut process = start_from(&ahead, &executable);
        if is_replaced {
            fs::copy("/bin/false", &other).expect("copied");
            fs::rename(&other, &executable).expect("replaced");
        } else {
            fs::remove_file(&executable).expect("removed");
        }
        ahead.is_ready(&mut process, known).await;
        let runs = fs::read_link(format!("/proc/{}/exe", process.id())).expect("it runs");
        assert!(runs.to_string_lossy().ends_with("alys-node (deleted)"), "{}", runs.display());
    }
    ahead.0.stop().await;
}

/// Sends signals to a process repeatedly, until dropped.
struct Storm(Child);

impl Storm {
    fn begin(process: &Process, signal: &str) -> Self {
        let script = format!("while kill -{signal} {}; do sleep 0.002; done", process.id());
        let child = Command::new("bash").args(["-c", &script]).stderr(Stdio::null()).spawn();
        Self(child.expect("there is a shell"))
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_signals_without_a_meaning_does_not_keep_a_member_from_beginning_anew() {
    let ahead = Ahead::prepare("anew-storm").await;
    for signal in ["HUP", "USR1"] {
        let known = ahead.lose();
        let mut process = Process::start(&ahead.0, 3);
        // Before its first line of output the process may not handle signals yet.
        eventually(SOON, "it writes", async || seen(!process.log().is_empty(), "nothing")).await;
        let first = program(&process);
        let mut storm = Storm::begin(&process, signal);
        ahead.is_ready(&mut process, known).await;
        assert_ne!(program(&process), first, "it has executed itself");
        assert!(matches!(storm.0.try_wait(), Ok(None)), "the storm goes on");
        let log = process.log();
        assert!(log.matches(&format!("\"signal\":\"SIG{signal}\"")).count() > 20, "{log}");
        drop(storm);
    }
    ahead.0.stop().await;
}
