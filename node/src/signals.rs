//! Handles signals of a running member.
//!
//! | signal | effect |
//! | --- | --- |
//! | TERM, INT, QUIT | the member shuts down gracefully; a repeated signal insists |
//! | HUP | ignored and logged: there is no configuration to reload, and the member opens no log file |
//! | USR1, USR2, ALRM and all others that would end a process without a fault of its own | ignored and logged |
//! | PIPE, XFSZ | the write fails with an error that names its file; XFSZ is logged once |
//!
//! Other signals keep their default: KILL and STOP cannot be changed; ABRT, BUS, FPE, ILL, SEGV, SYS and TRAP report a
//! fault of the process; TSTP, TTIN and TTOU let a shell stop a job and continue it later.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ignored signals by number, whose default action ends the process.
const IGNORED: [(i32, &str); 10] = [
    (1, "SIGHUP"),
    (10, "SIGUSR1"),
    (12, "SIGUSR2"),
    (14, "SIGALRM"),
    (16, "SIGSTKFLT"),
    (24, "SIGXCPU"),
    (26, "SIGVTALRM"),
    (27, "SIGPROF"),
    (29, "SIGIO"),
    (30, "SIGPWR"),
];
/// A write would exceed the process's file size limit. The write fails; the signal does not have to end the process.
const XFSZ: i32 = 25;
/// Real-time signals, which have numbers only. The first two, 32 and 33, belong to the thread library.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Signals that request a shutdown.
const LEAVE: [i32; 3] = [15, 2, 3];

/// Blocks the signals that are to be ignored until [`Signals::take`] handles them: before that they would end the
/// process. Must be called before other threads exist.
pub(crate) fn hold() -> nix::Result<()> {
    block(&IGNORED.map(|(number, _)| number))
}

/// Also blocks the signals that request a shutdown, in this thread and the threads that it starts. They stay pending
/// until a thread takes them, or until the program that this process executes next takes them.
pub(crate) fn hold_all() -> nix::Result<()> {
    hold()?;
    block(&LEAVE)
}

fn block(numbers: &[i32]) -> nix::Result<()> {
    let mut held = SigSet::empty();
    for number in numbers {
        held.add(Number::try_from(*number)?);
    }
    held.thread_block()
}

/// Blocks SIGXFSZ, so that a write beyond the file size limit fails instead of ending the command. A running member
/// handles the signal later.
pub(crate) fn hold_too_large() -> nix::Result<()> {
    let mut held = SigSet::empty();
    held.add(Number::SIGXFSZ);
    held.thread_block()
}

/// Streams of the signals that request a shutdown.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes over all signals from here on, whatever mask the process inherited. Must be called within a runtime.
    pub(crate) fn take() -> io::Result<Self> {
        let real_time = REAL_TIME.map(|number| (number, format!("real-time signal {number}")));
        let named = IGNORED.map(|(number, name)| (number, name.to_owned()));
        for (number, name) in named.into_iter().chain(real_time) {
            ignore(signal(SignalKind::from_raw(number))?, name);
        }
        let mut too_large = signal(SignalKind::from_raw(XFSZ))?;
        tokio::spawn(async move {
            // Reported once: the log line may itself be written to the file that is full.
            if too_large.recv().await.is_some() {
                tracing::error!(
                    signal = "SIGXFSZ",
                    "a file would grow beyond the limit of this process (`ulimit -f`), and was not written"
                );
            }
        });
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        };
        // Also unblocks signals that the parent process had blocked.
        SigSet::all().thread_unblock()?;
        Ok(signals)
    }

    /// Waits for the next signal that requests a shutdown.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}

fn ignore(mut signals: Signal, signal: String) {
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            tracing::warn!(
                signal,
                "ignored: it has no meaning to a member; SIGTERM, SIGINT or SIGQUIT tell it to leave"
            );
        }
    });
}
