//! Renders the results of a run as tables.

use std::fmt::{self, Write as _};

use crate::page::escape::Text;
use crate::page::lane;
use crate::page::scale::seconds;
use crate::report::{ExpectationLine, Report, TimingLine};

/// Maximum number of rows in a table; further rows are only counted.
const ROWS_MAX: usize = 250;

/// A cell of a table.
enum Cell {
    /// A text.
    Text(String),
    /// A number; a dash where it is not known.
    Number(String),
    /// Whether something held, shown by a sign and a word.
    Held(bool, &'static str),
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn number(value: Option<u64>) -> Cell {
    Cell::Number(value.map_or_else(|| "–".to_owned(), |value| value.to_string()))
}

fn moment(ms: u64) -> Cell {
    Cell::Number(seconds(ms))
}

/// Writes a table, or `nothing` if it has no rows.
fn table(html: &mut String, caption: &str, heads: &[&str], rows: &[Vec<Cell>], nothing: &str) -> fmt::Result {
    writeln!(html, "<h2>{caption}</h2>")?;
    if rows.is_empty() {
        return writeln!(html, "<p class=\"nothing\">{nothing}</p>");
    }
    html.push_str("<div class=\"scroll\"><table><thead><tr>");
    // Each column is aligned like its first cell.
    for (head, cell) in heads.iter().zip(&rows[0]) {
        let class = if matches!(cell, Cell::Number(_)) { " class=\"n\"" } else { "" };
        write!(html, "<th scope=\"col\"{class}>{head}</th>")?;
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows.iter().take(ROWS_MAX) {
        html.push_str("<tr>");
        for cell in row {
            match cell {
                Cell::Text(text) => write!(html, "<td>{}</td>", Text(text))?,
                Cell::Number(text) => write!(html, "<td class=\"n\">{}</td>", Text(text))?,
                Cell::Held(true, word) => write!(html, "<td class=\"good\">✓ {word}</td>")?,
                Cell::Held(false, word) => write!(html, "<td class=\"bad\">✗ {word}</td>")?,
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    match rows.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => writeln!(html, "<p>{more} more rows are in the JSON of this page.</p>"),
    }
}

/// Writes what went wrong, at the top of the page.
pub(super) fn failure(html: &mut String, report: &Report) -> fmt::Result {
    if report.passed {
        return Ok(());
    }
    html.push_str("<section class=\"failure\">\n<h2>What went wrong</h2>\n<ul>\n");
    if let Some(failure) = &report.failure {
        let (expected, seen) = (Text(&failure.expected), Text(&failure.seen));
        writeln!(html, "<li>Expected: {expected}.<br>Seen: {seen}.</li>")?;
    }
    for line in report.expectations.iter().filter(|line| !line.held) {
        writeln!(html, "<li>Expected: {}.<br>Seen: {}.</li>", Text(&line.expected), Text(&line.problem))?;
    }
    for line in report.invariants.iter().filter(|line| !line.held) {
        let why = if line.violations.is_empty() {
            "nothing was observed that could show it".to_owned()
        } else {
            line.violations.join("; ")
        };
        writeln!(html, "<li>Violated: {}: {}.</li>", Text(&line.name), Text(&why))?;
    }
    html.push_str("</ul>\n</section>\n");
    Ok(())
}

/// Writes all other tables.
pub(super) fn all(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str("<section>\n");
    timings(html, report)?;
    html.push_str("</section>\n<section>\n");
    invariants(html, report)?;
    html.push_str("</section>\n<section>\n");
    halts(html, report)?;
    html.push_str("</section>\n<section>\n");
    restarts(html, report)?;
    html.push_str("</section>\n<section>\n");
    audits(html, report)?;
    html.push_str("</section>\n<section>\n");
    members(html, report)?;
    html.push_str("</section>\n<section>\n");
    steps(html, report)?;
    html.push_str("</section>\n");
    Ok(())
}

fn timings(html: &mut String, report: &Report) -> fmt::Result {
    let lines = &report.timings_ms;
    let mut named = vec![
        ("Between blocks, every member whole", "block_interval", None, &lines.block_interval),
        ("Between blocks, some members missing", "shorthanded_interval", None, &lines.shorthanded_interval),
        ("Proposal to certificate", "proposal_to_certificate", None, &lines.proposal_to_certificate),
        ("Fault to halt", "fault_to_halt", None, &lines.fault_to_halt),
    ];
    let after = lines.fault_to_halt_after.iter();
    named.extend(after.map(|(fault, line)| ("– after", "fault_to_halt", Some(fault.as_str()), line)));
    named.push(("Back to a block", "back_to_block", None, &lines.back_to_block));
    let has_bars = !report.expectations.is_empty();
    let row = |(name, timing, after, line): (&str, &str, Option<&str>, &TimingLine)| {
        let own = |bar: &&ExpectationLine| bar.timing == timing && bar.after.as_deref() == after;
        let bars: Vec<_> = report.expectations.iter().filter(own).collect();
        let told: Vec<_> = bars.iter().map(|bar| bar.expected.as_str()).collect();
        let verdict = match (bars.is_empty(), bars.iter().all(|bar| bar.held)) {
            (true, _) => text("–"),
            (false, true) => Cell::Held(true, "kept"),
            (false, false) => Cell::Held(false, "not kept"),
        };
        let name = after.map_or_else(|| name.to_owned(), |after| format!("{name} {after}"));
        let mut cells = vec![
            Cell::Text(name),
            number(line.min),
            number(line.p50),
            number(line.p99),
            number(line.max),
            Cell::Number(line.count.to_string()),
        ];
        if has_bars {
            cells.extend([Cell::Text(told.join("; ")), verdict]);
        }
        cells
    };
    let rows: Vec<_> = named.into_iter().map(row).collect();
    let heads = ["Timing, in ms", "min", "p50", "p99", "max", "n", "Bar", "Kept"];
    table(html, "Timings", &heads, &rows, "Nothing was timed.")?;
    if !has_bars {
        html.push_str("<p class=\"nothing\">This scenario sets no bar for its timings.</p>\n");
    }
    Ok(())
}

fn invariants(html: &mut String, report: &Report) -> fmt::Result {
    let row = |line: &crate::report::InvariantLine| {
        let why = match (line.held, line.violations.is_empty()) {
            (true, _) => "nothing contradicts it".to_owned(),
            (false, true) => "nothing was observed that could show it".to_owned(),
            (false, false) => line.violations.join("; "),
        };
        let verdict = Cell::Held(line.held, if line.held { "held" } else { "not held" });
        vec![text(&line.name), verdict, Cell::Number(line.observations.to_string()), Cell::Text(why)]
    };
    let rows: Vec<_> = report.invariants.iter().map(row).collect();
    table(html, "Invariants", &["Invariant", "Held", "Facts", "Why"], &rows, "None was looked at.")
}

fn halts(html: &mut String, report: &Report) -> fmt::Result {
    let row = |halt: &lane::ClosedStretch| {
        let took = seconds(halt.to_ms.saturating_sub(halt.from_ms));
        let took = if halt.is_open_ended { format!("{took}, to the end") } else { took };
        vec![moment(halt.from_ms), text(&halt.member), Cell::Number(took), text(&halt.reason)]
    };
    let rows: Vec<_> = lane::halts(report).iter().map(row).collect();
    table(html, "Halts", &["At", "Gate of", "Closed for", "Reason"], &rows, "No gate closed.")
}

fn restarts(html: &mut String, report: &Report) -> fmt::Result {
    let row = |line: &crate::report::RestartLine| {
        let who = line.actor.as_deref().unwrap_or("the member itself");
        let away = line.away_ms.map_or_else(|| "–".to_owned(), seconds);
        let decision = line.decision.replace('_', " ");
        vec![
            moment(line.at_ms),
            text(&line.member),
            text(who),
            Cell::Text(decision),
            Cell::Number(away),
            text(&line.reason),
        ]
    };
    let rows: Vec<_> = report.restarts.iter().map(row).collect();
    let heads = ["At", "Member", "Who", "Answer", "Away for", "Reason"];
    table(html, "Failures and restarts", &heads, &rows, "No actor failed, and no member was started again.")
}

fn audits(html: &mut String, report: &Report) -> fmt::Result {
    let audits = report.steps.iter().filter(|step| step.kind == "audit");
    let row = |step: &crate::report::StepLine| {
        let verdict = match step.took_effect_ms {
            Some(_) => Cell::Held(true, "chain, log, signatures and decisions agree"),
            None => Cell::Held(false, "they do not agree"),
        };
        vec![moment(step.at_ms), Cell::Text(step.members.join(", ")), verdict]
    };
    let rows: Vec<_> = audits.map(row).collect();
    let nothing = "This scenario audits no member's disk.";
    table(html, "Audits of what members have on disk", &["At", "Members", "Finding"], &rows, nothing)
}

fn members(html: &mut String, report: &Report) -> fmt::Result {
    let row = |line: &crate::report::MemberLine| {
        vec![
            text(&line.name),
            Cell::Number(line.height.to_string()),
            Cell::Text(line.gate.to_string()),
            Cell::Number(line.incarnations.to_string()),
            text(&line.reason),
        ]
    };
    let rows: Vec<_> = report.members.iter().map(row).collect();
    let heads = ["Member", "Height", "Gate", "Lives", "Reason"];
    table(html, "Members as they were last seen", &heads, &rows, "There was none.")
}

fn steps(html: &mut String, report: &Report) -> fmt::Result {
    let row = |step: &crate::report::StepLine| {
        let done = step.took_effect_ms;
        let took = done.map_or_else(|| "never".to_owned(), seconds);
        let verdict = Cell::Held(done.is_some(), if done.is_some() { "done" } else { "failed" });
        vec![moment(step.at_ms), Cell::Number(took), text(&step.step), verdict]
    };
    let rows: Vec<_> = report.steps.iter().map(row).collect();
    table(html, "Every step", &["At", "Took", "Step", "Outcome"], &rows, "None was begun.")
}
