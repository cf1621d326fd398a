//! Which signals a running member obeys, and what becomes of the others.
//!
//! | signal | effect |
//! | --- | --- |
//! | TERM, INT, QUIT | the member leaves in order; again, it insists |
//! | HUP | ignored, and said: there is nothing to reload, and the log is no file that a member opens |
//! | USR1, USR2, ALRM and all others that would end a process without a fault of its own | ignored, and said |
//! | PIPE, XFSZ | the write fails with an error that names its file; XFSZ is said once |
//!
//! Left as they are: KILL and STOP, which no process can change; ABRT, BUS, FPE, ILL, SEGV, SYS and TRAP, which tell of a
//! fault of the process; TSTP, TTIN and TTOU, with which a shell stops a job that it continues later.

use std::io;

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ignored, by number: those whose effect would else be the end of the process.
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
/// A write would make a file larger than the process may: the write fails, and the signal need not end the process.
const XFSZ: i32 = 25;
/// Real-time signals, which have numbers only. The first two belong to the system's thread library.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// What tells a member to leave.
const LEAVE: [i32; 3] = [15, 2, 3];

/// Holds back what is to be ignored until [`Signals::take`] knows of it: it would end a process that begins. To be called
/// before there are other threads.
pub(crate) fn hold() -> nix::Result<()> {
    block(&IGNORED.map(|(number, _)| number))
}

/// Holds back what tells a member to leave as well, from this thread and from those that it starts: what comes waits for
/// a thread that takes it, or for the program that this process executes next.
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

/// Holds back what would end a command that writes more to a file than it may: the write fails. A member takes it later.
pub(crate) fn hold_too_large() -> nix::Result<()> {
    let mut held = SigSet::empty();
    held.add(Number::SIGXFSZ);
    held.thread_block()
}

/// The signals that tell a member to leave.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes all signals from here on, whatever the process inherited. Must be called within a runtime.
    pub(crate) fn take() -> io::Result<Self> {
        let real_time = REAL_TIME.map(|number| (number, format!("real-time signal {number}")));
        let named = IGNORED.map(|(number, name)| (number, name.to_owned()));
        for (number, name) in named.into_iter().chain(real_time) {
            ignore(signal(SignalKind::from_raw(number))?, name);
        }
        let mut too_large = signal(SignalKind::from_raw(XFSZ))?;
        tokio::spawn(async move {
            // Once: the line about it may be what is written to that file.
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
        // Also those that whoever started this process had blocked.
        SigSet::all().thread_unblock()?;
        Ok(signals)
    }

    /// Waits for the next signal that tells the member to leave.
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
