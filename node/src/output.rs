//! What commands print.
//!
//! The standard library's `println!` and `eprintln!` panic when the reader has closed the pipe or the disk is full. The
//! macros of this module replace them in every command and never panic: a closed pipe (`alys-node audit … | head -1`)
//! is ignored, and any other failure of standard output is reported when the command ends.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;

use alys_node::top::is_hidden;

/// First error of a write to standard output.
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

/// Replaces terminal control characters, except newline and tab, with spaces: part of the text may come from a server.
fn shown(text: fmt::Arguments<'_>) -> String {
    let is_layout = |c| matches!(c, '\n' | '\t');
    text.to_string().chars().map(|c| if is_hidden(c) && !is_layout(c) { ' ' } else { c }).collect()
}

/// Prints to standard output.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let text = shown(text);
    if let Err(error) = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // Only the first error is kept: later ones have the same cause.
        let _ = FAILED.set(error);
    }
}

/// Prints clap's output for a command line that runs no command: help, the version, or a usage error.
pub(crate) fn said(instead: &clap::Error) -> ExitCode {
    match instead.print() {
        Err(error) if !instead.use_stderr() => drop(FAILED.set(error)),
        _ => {}
    }
    ended(ExitCode::from(u8::try_from(instead.exit_code()).unwrap_or(crate::exit::FAILED)))
}

/// Prints a line to standard error.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    // A failure to write to standard error cannot be reported anywhere.
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// Exit code of a command that ends with `code`; a success becomes a failure if standard output could not be written.
pub(crate) fn ended(code: ExitCode) -> ExitCode {
    match FAILED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("alys-node: standard output: {error}");
            if code == ExitCode::SUCCESS { ExitCode::from(crate::exit::FAILED) } else { code }
        }
        _ => code,
    }
}
