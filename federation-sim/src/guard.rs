//! The guardian: a small process that outlives the simulator by a moment and leaves none of its members
//! behind.
//!
//! A member notices by itself that the simulator is gone (`--exit-with-parent`), unless it is stopped by
//! SIGSTOP. So the simulator runs itself once more as `guard` and tells it, line by line, the pid and start
//! time of every member it starts. However the simulator ends, the pipe ends with it, and the guardian kills
//! who is still there.

use std::io::{BufRead, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::proc::Stat;

/// The hidden subcommand under which the simulator's executable is the guardian.
pub const SUBCOMMAND: &str = "guard";

/// The simulator's end of the pipe.
#[derive(Debug)]
pub(crate) struct Guardian {
    process: Child,
    /// Taken when dropped: closing it is what the guardian waits for.
    pipe: Option<ChildStdin>,
}

impl Guardian {
    /// Starts `program guard` in a process group of its own, so that Ctrl-C does not reach it.
    pub(crate) fn start(program: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.process_group(0).spawn()?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
    }

    /// Puts a process under guard.
    pub(crate) fn watch(&mut self, pid: u32) -> std::io::Result<()> {
        match (&mut self.pipe, Stat::of(pid)) {
            (Some(pipe), Some(stat)) => {
                writeln!(pipe, "{pid} {}", stat.started)?;
                pipe.flush()
            }
            // A process that is gone already needs no guard.
            _ => Ok(()),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // The guardian ends by itself when the pipe does; whether waiting succeeds changes nothing.
        let _ = self.process.wait();
    }
}

/// The guardian's whole life: reads who is watched until the pipe ends, then kills who is left.
pub fn stand(input: impl BufRead) {
    // The signals that end a simulator must not end its guardian first. It is one thread, so blocking them
    // here blocks them for the process. Should that fail, it is still better to stand than not to.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    let _ = signals.thread_block();
    let watched: Vec<_> = input.lines().map_while(Result::ok).filter_map(|line| parse(&line)).collect();
    for (pid, started) in watched {
        let same = u32::try_from(pid.as_raw()).ok().and_then(Stat::of).is_some_and(|s| s.started == started);
        if same {
            // It may have ended in between, which is as good.
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
