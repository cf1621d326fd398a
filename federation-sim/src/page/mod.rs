//! Renders the report as one self-contained HTML page.
//!
//! The page is a pure function of a [`Report`]: a saved report gives the same page as the run. This module decides the
//! layout only; every verdict is the report's. All text from members or files is escaped where it is written, by
//! [`escape::Text`], and the page contains no executable script.
//!
//! ```text
//! Report ──► lane (a member's states as time intervals) ──┐
//!            scale (position of a time on the axis)       ├─► chart ─┐
//!            label (texts that do not overlap) ───────────┘          ├─► page
//!            table ──────────────────────────────────────────────────┘
//! ```
//!
//! Read `lane` and `label` first, then `chart`, then `table`.

mod chart;
pub mod escape;
mod label;
mod lane;
mod scale;
mod table;

use std::fmt::{self, Write as _};

use crate::page::chart::Chart;
use crate::page::escape::Text;
use crate::page::scale::seconds;
use crate::report::{Report, StepLine, TrialLine};

/// Number of trials drawn; if there are more, all failed ones and the earliest of the others.
const TRIALS_DRAWN: usize = 60;
/// Style sheet of the page.
const STYLE: &str = include_str!("style.css");

/// Renders the page of a report.
pub fn page(report: &Report) -> String {
    let mut html = String::new();
    write_page(&mut html, report).expect("writing to a string does not fail");
    html
}

/// The verdict in a word, with a sign so that it does not depend on colour.
fn verdict(passed: bool) -> &'static str {
    if passed { "✓ passed" } else { "✗ failed" }
}

fn write_page(html: &mut String, report: &Report) -> fmt::Result {
    let outcome = if report.passed { "passed" } else { "failed" };
    html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // The page may use its own style and nothing else, whatever its texts contain.
    html.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n",
    );
    writeln!(html, "<title>{} {outcome}, seed {}</title>", Text(&report.scenario), report.seed)?;
    writeln!(html, "<style>\n{STYLE}</style>\n</head>\n<body>\n<main>")?;
    header(html, report)?;
    table::failure(html, report)?;
    overview(html, report)?;
    trials(html, report)?;
    table::all(html, report)?;
    writeln!(html, "</main>")?;
    writeln!(
        html,
        "<script type=\"application/json\" id=\"run\">{}</script>",
        escape::json(&report.to_line())
    )?;
    html.push_str("</body>\n</html>\n");
    Ok(())
}

fn header(html: &mut String, report: &Report) -> fmt::Result {
    let class = if report.passed { "good" } else { "bad" };
    writeln!(
        html,
        "<header>\n<h1>{} <span class=\"verdict {class}\">{}</span></h1>",
        Text(&report.scenario),
        verdict(report.passed)
    )?;
    if !report.about.is_empty() {
        writeln!(html, "<p class=\"about\">{}</p>", Text(&report.about))?;
    }
    let heights = report.members.iter().map(|member| member.height);
    let facts = [
        ("Seed", report.seed.to_string()),
        ("Began", report.started.replace('T', " ").replace('Z', " UTC")),
        ("Took", seconds(report.duration_ms)),
        ("Members", report.members.len().to_string()),
        ("Height", heights.max().unwrap_or(0).to_string()),
        ("Version", report.version.clone()),
    ];
    html.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", Text(&value))?;
    }
    html.push_str("</dl>\n");
    writeln!(html, "<p class=\"sum\">{}</p>\n</header>", Text(&summary(report)))
}

/// Summarizes the run in a few sentences.
fn summary(report: &Report) -> String {
    let many = |count: usize, one: &str, several: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {several}"),
    };
    let faults = report.steps.iter().filter(|step| is_fault(step)).count();
    let halts = lane::halts(report);
    let longest = halts.iter().map(|halt| halt.to_ms.saturating_sub(halt.from_ms)).max();
    let longest = longest.map_or(String::new(), |ms| format!(", the longest for {}", seconds(ms)));
    let later = report.blocks.iter().filter(|block| block.round > 0).count();
    let later = if later == 0 { String::new() } else { format!(", {later} of them in a later round") };
    let actors = report.restarts.iter().filter(|line| line.actor.is_some()).count();
    let held = report.invariants.iter().filter(|line| line.held).count();
    format!(
        "{}. Gates closed {}{longest}. {}{later}. {}, {}. {held} of {} invariants held.",
        many(faults, "fault was injected", "faults were injected"),
        many(halts.len(), "time", "times"),
        many(report.blocks.len(), "block was made", "blocks were made"),
        many(actors, "actor failed", "actors failed"),
        many(report.restarts.len() - actors, "member was started again", "members were started again"),
        report.invariants.len(),
    )
}

/// Whether a step injects a fault.
fn is_fault(step: &StepLine) -> bool {
    step.acts && matches!(step.kind.as_str(), "kill" | "pause" | "cut" | "delay" | "fault" | "attack")
}

fn overview(html: &mut String, report: &Report) -> fmt::Result {
    html.push_str("<section>\n<h2>What happened</h2>\n");
    chart::legend(html)?;
    let chart =
        Chart { report, from_ms: 0, to_ms: report.duration_ms, id: "run-chart", title: "The whole run" };
    chart.write(html)?;
    html.push_str("</section>\n");
    Ok(())
}

/// One section of the steps, with the data to draw it.
struct Part<'a> {
    number: usize,
    trial: &'a TrialLine,
    steps: &'a [StepLine],
    to_ms: u64,
}

impl Part<'_> {
    fn begins_ms(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.at_ms)
    }

    fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.took_effect_ms.is_none())
    }

    fn name(&self) -> String {
        let told = self.steps.iter().find(|step| step.acts).or(self.steps.first());
        let told = told.map_or("nothing", |step| step.step.as_str());
        match (self.trial.time, self.trial.of) {
            (Some(time), Some(of)) => format!("Trial {time} of {of}: {told}"),
            _ => format!("Once: {told}"),
        }
    }
}

/// The sections of the steps, each with its steps and its end.
fn parts(report: &Report) -> Vec<Part<'_>> {
    let steps = |from: usize, to: usize| report.steps.get(from..to.min(report.steps.len())).unwrap_or(&[]);
    let next = |index: usize| report.trials.get(index + 1).map_or(usize::MAX, |trial| trial.first_step);
    let begun = |step: usize| report.steps.get(step).map_or(report.duration_ms, |step| step.at_ms);
    let part = |(index, trial)| {
        let trial: &TrialLine = trial;
        let end = next(index);
        Part { number: index + 1, trial, steps: steps(trial.first_step, end), to_ms: begun(end) }
    };
    report.trials.iter().enumerate().map(part).collect()
}

fn trials(html: &mut String, report: &Report) -> fmt::Result {
    let parts = parts(report);
    if parts.is_empty() {
        return Ok(());
    }
    writeln!(html, "<section>\n<h2>Part by part</h2>")?;
    writeln!(
        html,
        "<p>The same story in its {} parts, each with its own time axis; open one to see it.</p>",
        parts.len()
    )?;
    let failed = parts.iter().filter(|part| part.failed()).count();
    let mut left = TRIALS_DRAWN.saturating_sub(failed);
    let mut omitted = 0;
    let halts = lane::halts(report);
    for part in &parts {
        if !part.failed() {
            if left == 0 {
                omitted += 1;
                continue;
            }
            left -= 1;
        }
        write_part(html, report, part, &halts)?;
    }
    if omitted > 0 {
        writeln!(
            html,
            "<p>{omitted} more parts, in which every step succeeded, are not drawn; the JSON in this page has them.</p>"
        )?;
    }
    html.push_str("</section>\n");
    Ok(())
}

fn write_part(
    html: &mut String,
    report: &Report,
    part: &Part<'_>,
    halts: &[lane::ClosedStretch],
) -> fmt::Result {
    let (name, from_ms) = (part.name(), part.begins_ms());
    let failed = part.failed();
    let (open, class) = if failed { (" open", "bad") } else { ("", "good") };
    let took = seconds(part.to_ms.saturating_sub(from_ms));
    let closed = halts.iter().filter(|halt| (from_ms..part.to_ms).contains(&halt.from_ms)).count();
    let closed = match closed {
        0 => "no gate closed".to_owned(),
        1 => "1 gate closed".to_owned(),
        _ => format!("{closed} gates closed"),
    };
    writeln!(
        html,
        "<details{open}><summary>{} <small>from {}, for {took}; {closed}</small> \
         <span class=\"{class}\">{}</span></summary>",
        Text(&name),
        seconds(from_ms),
        if failed { "✗ failed" } else { "✓" },
    )?;
    let id = format!("part-{}", part.number);
    Chart { report, from_ms, to_ms: part.to_ms, id: &id, title: &name }.write(html)?;
    html.push_str("</details>\n");
    Ok(())
}

#[cfg(test)]
mod tests;
