//! `top`: shows a running federation in a terminal, as its members report over their public HTTP.
//!
//! ```text
//! poll (one thread per member, each request with a deadline) ──Heard──► state::Board ──► view (a frame)
//!                                                                                  └──► plain (a table, `--once`)
//! ```
//!
//! Each member is polled on its own thread, so that an unresponsive one delays no other. [`state`], `view` and `plain`
//! are pure: they receive the time as an argument. `poll` sends the requests, `terminal` draws and reads keys. Nothing
//! on a member is ever changed. Read [`state`] first.

mod plain;
mod poll;
pub mod state;
mod target;
mod terminal;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use thiserror::Error;

use alys_cluster::clock::{Clock, SystemClock};

pub use poll::ask;
pub use state::{Board, clean, is_hidden};
pub use target::Target;
pub use view::{duration, time_of_day};

/// Allowed polling intervals.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);

/// Options of the view.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TopOptions {
    /// Print one plain table and exit: code 0 if the federation works, 3 if it is halted or stalled, or does not
    /// answer.
    #[arg(long)]
    pub once: bool,
    /// Interval at which each member is polled, 100ms to 1m.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

/// Parses an interval from the command line.
fn interval(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let expected = || "expected 100ms to 1m".to_owned();
    INTERVAL.contains(&read).then_some(read).ok_or_else(expected)
}

/// Why nothing can be shown.
#[derive(Debug, Error)]
pub enum TopError {
    /// Standard output is not a terminal.
    #[error("standard output is no terminal; expected one, or `--once` for a plain table")]
    NoTerminal,
    /// Drawing or reading keys failed; the terminal is restored.
    #[error("the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// A polling thread ended. This is a bug.
    #[error("a thread that asks a member ended")]
    Watcher,
}

/// How the view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The user quit, or (with `--once`) the federation works.
    Well,
    /// With `--once`: the federation is halted or stalled, or does not answer.
    Halted,
    /// A signal with this number ended the view.
    Signal(u8),
}

impl End {
    /// Exit code of the program.
    pub fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Halted => 3,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// Shows the members at `targets`: in the terminal until the user quits, or once as a plain table.
pub fn run(targets: Vec<Target>, options: TopOptions) -> Result<End, TopError> {
    if options.once {
        let clock = SystemClock::default();
        let mut board = Board::new(targets.clone());
        for heard in poll::once(&targets) {
            board.absorb(clock.now(), heard);
        }
        // A reader such as `head` closes the pipe when it has read enough.
        let _ = io::stdout().write_all(plain::table(&board, clock.now()).as_bytes());
        return Ok(if board.headline(clock.now()).works() { End::Well } else { End::Halted });
    }
    if !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    terminal::show(targets, options.interval)
}
