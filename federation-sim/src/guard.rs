//! The guardian: a small process that outlives the simulator and kills members that are left over.
//!
//! A member exits by itself when the simulator is gone (`--exit-with-parent`), unless it is stopped by SIGSTOP. So the
//! simulator starts itself once more as `guard` and writes the pid and start time of every member it starts to a pipe,
//! one per line. However the simulator ends, the pipe closes, and the guardian kills the members that still exist.

use std::io::{BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::proc::Stat;

/// Hidden subcommand that runs the simulator's executable as the guardian.
pub const SUBCOMMAND: &str = "guard";

/// The simulator's handle of the guardian.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Child,
    /// Closed on drop; the guardian waits for that.
    pipe: Option<ChildStdin>,
}

impl Guardian {
    /// Starts `program guard` in its own process group, so that Ctrl-C does not reach it.
    pub(crate) fn start(program: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.process_group(0).spawn()?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }

    /// Registers a process to be killed when the simulator ends.
    pub(crate) fn watch(&mut self, pid: u32) -> std::io::Result<()> {
        match (&mut self.pipe, Stat::of(pid)) {
            (Some(pipe), Some(stat)) => {
                writeln!(pipe, "{pid} {}", stat.started)?;
                pipe.flush()
            }
            // A process that is already gone needs no guard.
            _ => Ok(()),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The guardian ends by itself when the pipe closes; an error of waiting is irrelevant.
        let _ = self.process.wait();
    }
}

/// Main loop of the guardian: reads registered processes until the pipe closes, then kills those that still exist.
pub fn stand(input: impl BufRead) {
    // Signals that end the simulator must not end the guardian first. The guardian has one thread, so blocking them
    // here blocks them for the process. If blocking fails, the guardian runs anyway.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    let _ = signals.thread_block();
    let watched: Vec<_> = input.lines().map_while(Result::ok).filter_map(|line| parse(&line)).collect();
    for (pid, started) in watched {
        let same = u32::try_from(pid.as_raw()).ok().and_then(Stat::of).is_some_and(|s| s.started == started);
        if same {
            // The process may have ended in between; then nothing is left to do.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn parse(line: &str) -> Option<(Pid, u64)> {
    let (pid, started) = line.split_once(' ')?;
    let pid: i32 = pid.parse().ok().filter(|pid| *pid > 1)?;
    Some((Pid::from_raw(pid), started.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().expect("sleep is there")
    }

    fn line(child: &Child) -> String {
        format!("{} {}\n", child.id(), Stat::of(child.id()).expect("it runs").started)
    }

    #[test]
    fn who_is_left_is_killed_even_if_stopped() {
        let mut child = sleeper();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP).expect("stops");
        stand(line(&child).as_bytes());
        let status = child.wait().expect("ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn a_pid_that_belongs_to_another_process_by_now_is_left_alone() {
        let mut child = sleeper();
        stand(format!("{} 1\nnonsense\n-1 1\n1 1\n", child.id()).as_bytes());
        assert!(child.try_wait().expect("waits").is_none());
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
}
