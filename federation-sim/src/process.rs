//! Runs one member as a child process: start, kill, stop, pause, resume.

use std::fs::OpenOptions;
use std::io::{self, PipeReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::client::{Client, Cursor};
use crate::guard::Guardian;
use crate::proc::Stat;

/// Time limit for the operating system to end, stop or continue a process after a signal.
const SYSTEM: Duration = Duration::from_secs(5);
/// Interval between two polls of a process's state.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of a member's log shown when it ends unexpectedly.
const LOG_LINES: usize = 3;

/// Capacity of a pipe on Linux.
const PIPE_BYTES: usize = 65_536;
/// Free space left in a pipe that is never read.
const PIPE_BYTES_LEFT: usize = 4_096;

/// One member, running or not.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) ops: SocketAddr,
    pub(crate) link: SocketAddr,
    pub(crate) client: Client,
    pub(crate) cursor: Cursor,
    environment: Vec<(String, String)>,
    reads_log: bool,
    running: Option<Running>,
}

/// Time limit for an audit.
const AUDIT: Duration = Duration::from_secs(30);

/// The process of a running member.
#[derive(Debug)]
struct Running {
    /// Killed when dropped.
    child: Child,
    /// Standard input of the member, which exits when this pipe closes.
    _lifeline: Option<ChildStdin>,
    /// Read end of the member's unread output; held to keep the pipe open.
    _unread: Option<PipeReader>,
    paused: bool,
}

impl Member {
    /// Creates a member that is not started yet.
    pub(crate) fn new(name: &str, config: PathBuf, log: PathBuf, ops: SocketAddr, link: SocketAddr) -> Self {
        let (client, cursor) = (Client::new(ops), Cursor::default());
        let environment = Vec::new();
        let (name, reads_log, running) = (name.to_owned(), true, None);
        Self { name, config, log, ops, link, client, cursor, environment, reads_log, running }
    }

    /// Sends the member's output to a pipe that is never read.
    pub(crate) fn unread(mut self) -> Self {
        self.reads_log = false;
        self
    }

    /// Adds environment variables to those inherited from this process.
    pub(crate) fn with_environment(mut self, environment: &[(String, String)]) -> Self {
        self.environment = environment.to_vec();
        self
    }

    /// Starts the process. Its output is appended to the member's log, unless it goes to an unread pipe.
    pub(crate) fn start(&mut self, binary: &Path, guardian: Option<&mut Guardian>) -> io::Result<()> {
        let mut command = self.command(binary, &["run"]);
        command.arg("--exit-with-parent").stdin(Stdio::piped());
        let unread = if self.reads_log {
            let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
            command.stdout(log.try_clone()?).stderr(log);
            None
        } else {
            let (reader, mut writer) = io::pipe()?;
            writer.write_all(&vec![b'\n'; PIPE_BYTES - PIPE_BYTES_LEFT])?;
            command.stdout(writer.try_clone()?).stderr(writer);
            Some(reader)
        };
        // Ctrl-C must reach the simulator only, which then decides what happens to its members.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take();
        if let (Some(guardian), Some(pid)) = (guardian, child.id()) {
            guardian.watch(pid)?;
        }
        self.client = Client::new(self.ops);
        self.running = Some(Running { child, _lifeline: lifeline, _unread: unread, paused: false });
        Ok(())
    }

    /// Checks that the files of a stopped member are consistent and that its gate decisions follow from their inputs.
    /// The inner error is the output of the member's own program.
    pub(crate) async fn audit(&self, binary: &Path) -> io::Result<Result<(), String>> {
        for verbs in [&["audit"][..], &["decisions", "replay"]] {
            let audit = self.command(binary, verbs).kill_on_drop(true).output();
            let output = tokio::time::timeout(AUDIT, audit).await.map_err(io::Error::other)??;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            if !output.status.success() {
                return Ok(Err([text(&output.stdout), text(&output.stderr)].join(" ")));
            }
        }
        Ok(Ok(()))
    }

    fn command(&self, binary: &Path, verbs: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(verbs).arg("--config").arg(&self.config);
        // Settings of this shell would override the member's configuration file.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"ALYS_")) {
            command.env_remove(key);
        }
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Whether the member runs and is not paused, so that it should answer.
    pub(crate) fn is_active(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.paused)
    }

    /// How the process ended, if it ended without being stopped.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.running.as_mut()?.child.try_wait().ok()??;
        Some(format!("{}{}", describe(status), self.log_tail()))
    }

    /// Sends SIGKILL.
    pub(crate) fn send_kill(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Sends SIGTERM.
    pub(crate) fn send_term(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits until a killed process has ended.
    pub(crate) async fn gone(&mut self) -> io::Result<()> {
        self.wait(SYSTEM).await.map(drop)
    }

    /// Waits until the process has ended. Returns its exit code or signal unless the exit code is 0.
    pub(crate) async fn stopped(&mut self, within: Duration) -> io::Result<Option<String>> {
        let status = self.wait(within).await?;
        Ok((!status.success()).then(|| format!("{}{}", describe(status), self.log_tail())))
    }

    /// Sends SIGSTOP and waits until the process is stopped.
    pub(crate) async fn pause(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        if let Some(running) = &mut self.running {
            running.paused = true;
        }
        self.reaches(Stat::is_stopped).await
    }

    /// Sends SIGCONT and waits until the process runs again.
    pub(crate) async fn resume(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)?;
        if let Some(running) = &mut self.running {
            running.paused = false;
        }
        self.reaches(|stat| !stat.is_stopped()).await
    }

    async fn wait(&mut self, within: Duration) -> io::Result<ExitStatus> {
        let running = self.running.as_mut().ok_or_else(|| io::Error::other("it does not run"))?;
        let status = timeout(within, running.child.wait()).await.map_err(|_| {
            let within = humantime::format_duration(within);
            io::Error::new(io::ErrorKind::TimedOut, format!("it still runs after {within}"))
        })??;
        self.running = None;
        Ok(status)
    }

    pub(crate) fn pid(&self) -> io::Result<u32> {
        let pid = self.running.as_ref().and_then(|running| running.child.id());
        pid.ok_or_else(|| io::Error::other("it does not run"))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid()?).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }

    async fn reaches(&self, state: impl Fn(Stat) -> bool) -> io::Result<()> {
        let pid = self.pid()?;
        let reached = async {
            while !Stat::of(pid).is_some_and(&state) {
                sleep(LOOK).await;
            }
        };
        timeout(SYSTEM, reached)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("its state is {:?}", Stat::of(pid))))
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
        if lines.is_empty() {
            return String::new();
        }
        format!("; its log ends with\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
