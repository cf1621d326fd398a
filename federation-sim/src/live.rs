//! Shows progress on standard error: a live line per member on a terminal, plain lines elsewhere, nothing in quiet
//! mode. Only the report goes to standard output.

use std::fmt::Write as _;
use std::io::Write as _;

use alys_node::ops::view::GateDecision;

use crate::record::{MemberRecord, Record};
use crate::runner::{Failure, RunObserver};
use crate::step::Step;

/// Maximum width of the current step's line: a line that the terminal wraps could not be overwritten.
const STEP_WIDTH: usize = 70;

/// Amount and format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No output.
    Quiet,
    /// One line per step.
    Plain,
    /// One line per step, and one line per member that is updated in place.
    Live,
}

/// Displays the progress of a run.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    colour: bool,
    /// Number of live lines that the next update overwrites.
    lines: usize,
    step: String,
}

impl Progress {
    /// Creates a display with the given style, with colours if `colour`.
    pub fn new(style: Style, colour: bool) -> Self {
        Self { style, colour, lines: 0, step: String::new() }
    }

    /// Prints text that is not overwritten.
    pub fn say(&mut self, text: &str) {
        if self.style != Style::Quiet {
            let over = self.over();
            show(&format!("{over}{text}\n"));
        }
    }

    /// Escape sequence that moves the cursor to the start of the live lines and clears them.
    fn over(&mut self) -> String {
        match std::mem::take(&mut self.lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn paint(&self, good: bool, text: &str) -> String {
        let code = if good { 32 } else { 31 };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn member(&self, name: &str, member: &MemberRecord, width: usize) -> String {
        let Some(last) = &member.last else {
            return format!("  {name:<width$}  …");
        };
        let gate = self.paint(last.gate == GateDecision::Open, &format!("{:<6}", last.gate));
        let (height, healthy, links) = (last.height, last.healthy, last.links_up);
        let note = match (&member.silence, &last.unready) {
            (Some(_), _) => "  does not answer",
            (None, Some(_)) => "  not ready",
            (None, None) => "",
        };
        format!("  {name:<width$}  height {height:>5}  gate {gate}  healthy {healthy}  peers {links}{note}")
    }
}

impl RunObserver for Progress {
    fn step_begins(&mut self, number: usize, of: usize, step: &Step) {
        self.step = format!("[{number:>2}/{of}] {step}");
        if self.style == Style::Plain {
            show(&format!("{}\n", self.step));
        }
    }

    fn observed(&mut self, record: &Record) {
        // After the last step there is no progress to show.
        if self.style != Style::Live || self.step.is_empty() {
            return;
        }
        let mut text = self.over();
        let elapsed = record.observed_ms.saturating_sub(record.started_ms) as f64 / 1_000.0;
        let width = record.roster.iter().map(String::len).max().unwrap_or(0);
        let members = record.roster.iter().filter_map(|name| Some((name, record.members.get(name)?)));
        let lines: Vec<_> = members.map(|(name, member)| self.member(name, member, width)).collect();
        self.lines = lines.len() + 1;
        let step: String = self.step.chars().take(STEP_WIDTH).collect();
        let written = writeln!(text, "{step} ({elapsed:.0} s)\n{}", lines.join("\n"));
        written.expect("writing to a string does not fail");
        show(&text);
    }

    fn told(&mut self, text: &str) {
        self.say(&format!("        {text}"));
    }

    fn step_ends(&mut self, record: &Record, failure: Option<&Failure>) {
        let over = self.over();
        let done = record.steps.last().filter(|_| failure.is_none());
        let took = done.and_then(|step| Some(step.done_ms?.saturating_sub(step.at_ms)));
        let took = took.map_or("failed".to_owned(), |ms| format!("{:.2} s", ms as f64 / 1_000.0));
        let took = self.paint(failure.is_none(), &took);
        match self.style {
            Style::Quiet => {}
            Style::Plain => show(&format!("        {took}\n")),
            Style::Live => show(&format!("{over}{}  {took}\n", self.step)),
        }
        self.step.clear();
    }
}

fn show(text: &str) {
    // A closed terminal must not stop the scenario.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
