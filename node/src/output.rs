//! What commands print.
//!
//! The standard library's `println!` and `eprintln!` panic when nobody reads any more, or a disk is full. Those of this
//! module, which every command here uses in their place, do not: a reader that has seen enough
//! (`alys-node audit … | head -1`) changes nothing, and any other failure of standard output is told at the end.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

use alys_node::top::is_hidden;

/// What kept standard output from being written, first.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Prints a line to standard output.
macro_rules! println {
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints text to standard output.
macro_rules! print {
    ($($text:tt)*) => { $crate::output::print(format_args!($($text)*)) };
}

/// Prints a line to standard error.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::complain(format_args!($($text)*)) };
}

/// A text of several lines without what a terminal would obey: a part of it may be what a server says.
fn shown(text: fmt::Arguments<'_>) -> String {
    let is_layout = |c| matches!(c, '\n' | '\t');
    text.to_string().chars().map(|c| if is_hidden(c) && !is_layout(c) { ' ' } else { c }).collect()
}

/// Prints to standard output.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let text = shown(text);
    if let Err(error) = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // The first says why; the others say the same.
        let _ = FAILED.set(error);
    }
}

/// Prints what a command line leads to that is not run: help, a version, or what is wrong with it.
pub(crate) fn said(instead: &clap::Error) -> ExitCode {
    match instead.print() {
        Err(error) if !instead.use_stderr() => drop(FAILED.set(error)),
        _ => {}
    }
    ended(ExitCode::from(u8::try_from(instead.exit_code()).unwrap_or(crate::exit::FAILED)))
}

/// Prints a line to standard error.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    // Where else could it be told that this fails?
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// The exit code of a command that ends with `code`: a success whose output is lost is none.
pub(crate) fn ended(code: ExitCode) -> ExitCode {
    match FAILED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("alys-node: standard output: {error}");
            if code == ExitCode::SUCCESS { ExitCode::from(crate::exit::FAILED) } else { code }
        }
        _ => code,
    }
}
