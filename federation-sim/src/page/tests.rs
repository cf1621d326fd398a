//! Tests the page of a saved report, and of reports with malicious text.

use proptest::prelude::*;

use super::*;
use crate::timeline::{LifeLine, MemberState};

/// The saved report of a run of `gating`.
pub(super) fn report() -> Report {
    Report::from_json(include_str!("testdata/gating.json")).expect("the file is a report")
}

/// The JSON inside a page.
fn inside(page: &str) -> &str {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"run\">").expect("a script");
    let (json, rest) = rest.split_once("</script>").expect("an end");
    assert!(!rest.contains("<script"), "there is one script");
    json
}

/// Checks that every element is closed by its own end tag, attributes are quoted, and only text is in between.
fn is_well_formed(page: &str) -> Result<(), String> {
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").ok_or("no doctype")?;
    while let Some((text, tag)) = rest.split_once('<') {
        if text.contains('>') {
            return Err(format!("a bare > in {text:?}"));
        }
        let (tag, after) = tag.split_once('>').ok_or_else(|| format!("<{tag} has no end"))?;
        rest = after;
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("<{tag}> has an odd number of quotes"));
        }
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default().to_owned();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if open.pop().as_ref() != Some(&name) => return Err(format!("</{name}> ends another")),
            (true, _) | (false, true) => {}
            (false, false) if ["meta", "link", "br"].contains(&name.as_str()) => {}
            (false, false) => open.push(name.clone()),
        }
        if ["style", "script"].contains(&name.as_str()) && !tag.starts_with('/') {
            rest = &rest[rest.find("</").ok_or("no end of a style or script")?..];
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} are never closed")) }
}

#[test]
fn the_page_of_a_report_is_well_formed_and_needs_nothing_besides_itself() {
    let page = page(&report());
    is_well_formed(&page).unwrap_or_else(|error| panic!("{error}"));
    for outside in ["http://", "https://", "src=", "@import", "javascript:", "url(http", "onload"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<script").count(), 1);
    for id in ["run-chart-t", "run-chart-d"] {
        assert_eq!(page.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
    }
}

#[test]
fn the_page_shows_what_the_report_has() {
    let report = report();
    let page = page(&report);
    let halt = lane::halts(&report).into_iter().next().expect("a halt");
    let shown = [
        "<title>gating passed, seed 42</title>".to_owned(),
        "✓ passed".to_owned(),
        report.about.clone(),
        "kill node-4".to_owned(),
        "pause node-3".to_owned(),
        Text(&halt.reason).to_string(),
        "cut from node-3, node-4".to_owned(),
        "no-double-sign".to_owned(),
        "Back to a block".to_owned(),
        report.timings_ms.fault_to_halt.p99.expect("halts").to_string(),
        report.started[..10].to_owned(),
    ];
    for text in shown {
        assert!(page.contains(&text), "{text}");
    }
}

#[test]
fn the_json_inside_is_the_report() {
    let report = report();
    let page = page(&report);
    assert_eq!(Report::from_json(inside(&page)).expect("a report"), report);
}

#[test]
fn a_failed_run_says_so_first_and_opens_the_part_that_failed() {
    let mut report = report();
    report.passed = false;
    report.failure =
        Some(crate::runner::Failure { expected: "5 blocks".to_owned(), seen: "height 3".to_owned() });
    let last = report.steps.len() - 1;
    report.steps[last].took_effect_ms = None;
    let trial = |first_step, time| TrialLine { first_step, time: Some(time), of: Some(2) };
    report.trials = vec![trial(0, 1), trial(last, 2)];
    let page = page(&report);
    is_well_formed(&page).unwrap_or_else(|error| panic!("{error}"));
    let (before, _) = page.split_once("What happened").expect("a chart");
    assert!(
        before.contains("✗ failed") && before.contains("Expected: 5 blocks.<br>Seen: height 3."),
        "{before}"
    );
    assert_eq!((page.matches("<details>").count(), page.matches("<details open>").count()), (1, 1));
}

#[test]
fn of_very_many_parts_those_that_failed_are_drawn_and_the_rest_is_counted() {
    let mut report = report();
    let steps = report.steps.len();
    report.steps[steps - 1].took_effect_ms = None;
    let step = report.steps[0].clone();
    report.steps.splice(0..0, std::iter::repeat_n(step, 300));
    let parts = 0..report.steps.len();
    report.trials = parts.map(|first_step| TrialLine { first_step, time: Some(1), of: Some(1) }).collect();
    let page = page(&report);
    assert_eq!(page.matches("<details").count(), TRIALS_DRAWN);
    assert_eq!(page.matches("<details open>").count(), 1);
    let omitted = report.trials.len() - TRIALS_DRAWN;
    assert!(page.contains(&format!("<p>{omitted} more parts")), "{omitted}");
}

#[test]
fn a_run_of_hours_makes_a_page_of_bounded_size() {
    let mut report = report();
    let (steps, gate, length) = (report.steps.clone(), report.gate.clone(), report.duration_ms);
    for round in 1..200 {
        let later = length * round;
        report.steps.extend(steps.iter().cloned().map(|mut step| {
            step.at_ms += later;
            step
        }));
        report.gate.extend(gate.iter().cloned().map(|mut line| {
            line.at_ms += later;
            line
        }));
    }
    report.duration_ms = length * 200;
    let page = page(&report);
    let json = inside(&page).len();
    let drawn = page.len() - json;
    assert!(drawn < 1_500_000, "{drawn} bytes besides the data");
}

#[test]
fn what_is_said_of_seven_members_names_no_other_number() {
    let mut report = report();
    for number in 5..=7 {
        let mut member = report.members[3].clone();
        member.name = format!("node-{number}");
        report.members.push(member);
    }
    // The scenario's own texts may use any words.
    report.about.clear();
    report.steps.clear();
    let (page, table) = (page(&report), report.to_table(false));
    let (drawn, _) = page.split_once("<script").expect("a script");
    for text in [drawn, &table] {
        let words: Vec<_> = text.split(|letter: char| !letter.is_alphanumeric()).collect();
        for word in ["four", "Four"] {
            assert!(!words.contains(&word), "{word}: {text}");
        }
    }
    assert!(drawn.contains("every member whole") && drawn.contains("node-7"), "{drawn}");
}

/// Text that would break out of an unescaped page.
const HARMFUL: &str =
    "</script><script>alert(1)</script><!-- \" onload='x' &lt; \u{202e}\u{1b}[2J </title></svg>";

#[test]
fn no_text_of_a_member_breaks_out_of_its_place() {
    let mut report = report();
    report.scenario = HARMFUL.to_owned();
    report.about = HARMFUL.to_owned();
    report.version = HARMFUL.to_owned();
    report.started = HARMFUL.to_owned();
    report.passed = false;
    report.failure = Some(crate::runner::Failure { expected: HARMFUL.to_owned(), seen: HARMFUL.to_owned() });
    let harm = |text: &mut String| HARMFUL.clone_into(text);
    for member in &mut report.members {
        harm(&mut member.reason);
        member.lives.push(LifeLine { at_ms: 5_000, state: MemberState::Silent, note: HARMFUL.to_owned() });
    }
    report.members[0].name = HARMFUL.to_owned();
    for line in &mut report.gate {
        harm(&mut line.reason);
    }
    for line in &mut report.steps {
        harm(&mut line.step);
        line.members.push(HARMFUL.to_owned());
    }
    for line in &mut report.restarts {
        harm(&mut line.reason);
        harm(&mut line.decision);
        line.actor = Some(HARMFUL.to_owned());
    }
    for line in &mut report.invariants {
        (line.held, line.violations) = (false, vec![HARMFUL.to_owned()]);
        harm(&mut line.name);
    }
    for line in &mut report.blocks {
        harm(&mut line.proposer);
    }
    let page = page(&report);
    is_well_formed(&page).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<!--") && !page.contains('\u{202e}') && !page.contains('\u{1b}'));
    assert_eq!(Report::from_json(inside(&page)).expect("a report"), report);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_times_a_file_has_the_page_is_drawn(
        times in proptest::collection::vec(any::<u64>(), 12),
        text in "\\PC{0,60}",
        block_time_ms in any::<u64>(),
    ) {
        let mut report = report();
        report.duration_ms = times[0];
        report.block_time_ms = block_time_ms;
        let mut next = times.iter().cycle().copied();
        let mut time = || next.next().unwrap_or(0);
        for step in &mut report.steps {
            (step.at_ms, step.took_effect_ms) = (time(), Some(time()));
            step.step.clone_from(&text);
        }
        for line in &mut report.gate {
            line.at_ms = time();
            line.reason.clone_from(&text);
        }
        for member in &mut report.members {
            member.name.clone_from(&text);
            member.lives.iter_mut().for_each(|line| line.at_ms = time());
            member.blocks.iter_mut().for_each(|line| (line.at_ms, line.height) = (time(), time()));
        }
        for line in &mut report.blocks {
            (line.at_ms, line.height) = (time(), time());
        }
        let page = page(&report);
        prop_assert_eq!(is_well_formed(&page), Ok(()));
        prop_assert!(!page.contains("NaN") && !page.contains("inf\""));
    }
}
