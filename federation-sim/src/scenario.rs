//! Reads and validates scenarios: a federation and the steps to run against it, as data.
//!
//! Scenarios are TOML. The shipped ones are in `scenarios/`, one per file, and are read by the same code as a user's
//! file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use serde::Deserialize;
use thiserror::Error;

use crate::chaos;
use crate::seed;
use crate::slo::{Slo, Written};
use crate::step::{Action, Check, Step};
use crate::topology::Topology;

/// Scenario that runs when none is named.
pub const DEFAULT: &str = "gating";

/// Shipped scenarios, by name.
const SHIPPED: &[(&str, &str)] = &[
    ("attack", include_str!("scenarios/attack.toml")),
    ("byzantine", include_str!("scenarios/byzantine.toml")),
    ("chaos", include_str!("scenarios/chaos.toml")),
    ("gating", include_str!("scenarios/gating.toml")),
    ("healthy", include_str!("scenarios/healthy.toml")),
    ("leaving", include_str!("scenarios/leaving.toml")),
    ("partition", include_str!("scenarios/partition.toml")),
    ("rolling-restart", include_str!("scenarios/rolling-restart.toml")),
    ("upgrade", include_str!("scenarios/upgrade.toml")),
    ("supervision", include_str!("scenarios/supervision.toml")),
    ("all-crash", include_str!("scenarios/all-crash.toml")),
    ("clocks", include_str!("scenarios/clocks.toml")),
    ("faults", include_str!("scenarios/faults.toml")),
    ("slow-disks", include_str!("scenarios/slow-disks.toml")),
    ("one-dead", include_str!("scenarios/one-dead.toml")),
    ("twins", include_str!("scenarios/twins.toml")),
    ("unread-logs", include_str!("scenarios/unread-logs.toml")),
];

/// Allowed number of members.
const MEMBERS: std::ops::RangeInclusive<usize> = 4..=16;
/// Maximum number of steps.
const STEPS_MAX: usize = 5_000;
/// Maximum number of SLOs.
const BARS_MAX: usize = 100;
/// Maximum number of transactions one step can submit.
const SUBMIT_MAX: usize = 1_000;
/// Maximum number of connections one step can make.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Maximum number of faults one `chaos` step can expand to.
const FAULTS_MAX: usize = 150;
/// Block times that a genesis accepts.
const BLOCK_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_mins(1);

/// A federation and the steps to run against it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Name; letters, digits and `-` only.
    pub name: String,
    /// Description in one sentence.
    pub about: String,
    /// Names of the members, in genesis order.
    pub members: Vec<String>,
    /// Time between blocks.
    pub block_time: Duration,
    /// Time limit for the whole scenario.
    pub timeout: Duration,
    /// Sections added unchanged to every member's configuration.
    pub sections: Sections,
    /// Members whose output goes to a nearly full pipe that is never read.
    pub unread_logs: Vec<String>,
    /// Steps in order, with repetitions and random faults expanded.
    pub steps: Vec<Step>,
    /// Trials in order, if some steps are repeated or random; otherwise empty.
    pub trials: Vec<Trial>,
    /// SLOs that the timings must meet.
    pub bars: Vec<Slo>,
}

/// A section of the steps: one repetition, one random fault, or the steps in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Index of its first step, from 0.
    pub first_step: usize,
    /// Number of the repetition from 1, and the total; `None` for steps that are not repeated.
    pub time: Option<(usize, usize)>,
}

/// Sections of the members' configuration that a scenario may set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sections {
    /// Heartbeats between members, and the gate that depends on them.
    pub heartbeat: Option<toml::Table>,
    /// Consensus timeouts.
    pub consensus: Option<toml::Table>,
    /// Health checks of a member's own actors.
    pub health: Option<toml::Table>,
    /// Limits on how often a supervisor restarts its children.
    pub supervision: Option<toml::Table>,
    /// Links between members, except for their listen addresses.
    pub link: Option<toml::Table>,
}

impl Sections {
    /// Sections that are set, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &toml::Table)> {
        let sections = [
            ("heartbeat", &self.heartbeat),
            ("consensus", &self.consensus),
            ("health", &self.health),
            ("supervision", &self.supervision),
            ("link", &self.link),
        ];
        sections.into_iter().filter_map(|(name, table)| table.as_ref().map(|table| (name, table)))
    }
}

/// Why a scenario is invalid.
#[derive(Debug, Error)]
pub enum ScenarioError {
    /// Neither the name of a shipped scenario nor a file.
    #[error("scenario is {0:?}; expected one of {known}, or a file that ends in .toml", known = names().join(", "))]
    Unknown(String),
    /// The file cannot be read.
    #[error("scenario file {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error from the operating system.
        source: std::io::Error,
    },
    /// The text is not TOML, or a key is unknown, missing, or of the wrong type.
    #[error("scenario {origin}: {source}")]
    Shape {
        /// Path of the file, or name of the scenario.
        origin: String,
        /// Position and cause.
        source: Box<toml::de::Error>,
    },
    /// A value is out of range.
    #[error("scenario {origin}: `{field}` is {value}; expected {expected}")]
    Field {
        /// Path of the file, or name of the scenario.
        origin: String,
        /// Path of the field.
        field: String,
        /// Value found.
        value: String,
        /// Value that would be accepted.
        expected: String,
    },
    /// A step cannot be read, or is invalid at its position.
    #[error("scenario {origin}: `steps[{index}]` {problem}")]
    Step {
        /// Path of the file, or name of the scenario.
        origin: String,
        /// Index of the step, from 0.
        index: usize,
        /// What is wrong with the step.
        problem: String,
    },
}

/// A scenario as written in TOML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default = "four_members")]
    members: Vec<String>,
    #[serde(default = "two_seconds", with = "humantime_serde")]
    block_time: Duration,
    #[serde(default = "ten_minutes", with = "humantime_serde")]
    timeout: Duration,
    #[serde(default)]
    node: Sections,
    #[serde(default)]
    unread_logs: Vec<String>,
    steps: Vec<toml::Table>,
    #[serde(default)]
    expect: Vec<Written>,
}

fn four_members() -> Vec<String> {
    (1..=4).map(|n| format!("node-{n}")).collect()
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn ten_minutes() -> Duration {
    Duration::from_mins(10)
}

/// Names of the shipped scenarios.
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

/// Text of a shipped scenario, or of a file that ends in `.toml`.
pub fn text_of(name_or_file: &str) -> Result<String, ScenarioError> {
    if let Some((_, text)) = SHIPPED.iter().find(|(name, _)| *name == name_or_file) {
        return Ok((*text).to_owned());
    }
    let path = Path::new(name_or_file);
    if path.extension().is_none_or(|extension| extension != "toml") {
        return Err(ScenarioError::Unknown(name_or_file.to_owned()));
    }
    std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.into(), source })
}

impl Scenario {
    /// Removes the final steps that stop or audit all members, for a federation that must keep running.
    pub fn leave_running(&mut self) {
        let is_ending = |step: &Step| {
            let everybody = step.members().is_empty();
            everybody && matches!(step, Step::Act(Action::Stop { .. } | Action::Audit { .. }))
        };
        while self.steps.last().is_some_and(is_ending) {
            self.steps.pop();
        }
    }

    /// Reads and validates a shipped scenario, or a file that ends in `.toml`. Random faults are generated from seed 0.
    pub fn load(name_or_file: &str) -> Result<Self, ScenarioError> {
        Self::load_with(name_or_file, 0, None)
    }

    /// Like [`load`](Self::load), but random faults are generated from `seed`, and `times` overrides every number of
    /// repetitions.
    pub fn load_with(name_or_file: &str, seed: u64, times: Option<usize>) -> Result<Self, ScenarioError> {
        Self::read(name_or_file, &text_of(name_or_file)?, seed, times)
    }

    /// Reads and validates the text of a scenario; error messages name `origin` as its source.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ScenarioError> {
        Self::parse_with(origin, text, 0)
    }

    /// Like [`parse`](Self::parse), but random faults are generated from `seed`.
    pub fn parse_with(origin: &str, text: &str, seed: u64) -> Result<Self, ScenarioError> {
        Self::read(origin, text, seed, None)
    }

    fn read(origin: &str, text: &str, seed: u64, times: Option<usize>) -> Result<Self, ScenarioError> {
        let file: File = toml::from_str(text)
            .map_err(|source| ScenarioError::Shape { origin: origin.to_owned(), source: Box::new(source) })?;
        let step_error = |index, problem| ScenarioError::Step { origin: origin.to_owned(), index, problem };
        let mut chance = seed::stream(seed, "chaos");
        let tables = unrolled(file.steps, &file.members, &mut chance, times);
        let (tables, trials) = tables.map_err(|(index, problem)| step_error(index, problem))?;
        let steps = tables
            .into_iter()
            .enumerate()
            .map(|(index, table)| Step::from_table(table).map_err(|problem| step_error(index, problem)));
        let field_error = |field, value, expected| ScenarioError::Field {
            origin: origin.to_owned(),
            field,
            value,
            expected,
        };
        if file.expect.len() > BARS_MAX {
            let value = format!("{} tables", file.expect.len());
            return Err(field_error("expect".to_owned(), value, format!("at most {BARS_MAX}")));
        }
        let bars = file.expect.into_iter().enumerate().map(|(index, written)| {
            let field = |field| format!("expect[{index}].{field}");
            Slo::try_from(written)
                .map_err(|wrong| field_error(field(wrong.field), wrong.value, wrong.expected))
        });
        let scenario = Self {
            bars: bars.collect::<Result<_, _>>()?,
            steps: steps.collect::<Result<_, _>>()?,
            trials,
            name: file.name,
            about: file.about,
            members: file.members,
            block_time: file.block_time,
            timeout: file.timeout,
            sections: file.node,
            unread_logs: file.unread_logs,
        };
        scenario.check_fields().map_err(|(field, value, expected)| field_error(field, value, expected))?;
        scenario.check_story().map_err(|(index, problem)| step_error(index, problem))?;
        Ok(scenario)
    }

    /// Number of healthy members the gate requires: more than two thirds of the roster.
    pub fn required(&self) -> usize {
        self.members.len() * 2 / 3 + 1
    }

    fn check_fields(&self) -> Result<(), (String, String, String)> {
        let wrong =
            |field: &str, value: String, expected: &str| Err((field.to_owned(), value, expected.to_owned()));
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(legal) {
            return wrong("name", format!("{:?}", self.name), "characters of a-z, 0-9 and '-'");
        }
        if !MEMBERS.contains(&self.members.len()) {
            return wrong("members", format!("{} names", self.members.len()), "4 to 16 names");
        }
        for (index, name) in self.members.iter().enumerate() {
            let field = format!("members[{index}]");
            let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
            if !begins || name.len() > 32 || !name.chars().all(legal) {
                let expected = "1 to 32 characters of a-z, 0-9 and '-', beginning with a letter";
                return wrong(&field, format!("{name:?}"), expected);
            }
            if self.members[..index].contains(name) {
                return wrong(&field, format!("{name:?}"), "a name used once");
            }
        }
        for (index, name) in self.unread_logs.iter().enumerate() {
            if !self.members.contains(name) {
                let expected = format!("one of {}", self.members.join(", "));
                return wrong(&format!("unread_logs[{index}]"), format!("{name:?}"), &expected);
            }
        }
        if !BLOCK_TIME.contains(&self.block_time) {
            let value = humantime::format_duration(self.block_time).to_string();
            return wrong("block_time", value, "between 200ms and 60s");
        }
        if self.timeout.is_zero() {
            return wrong("timeout", "0s".to_owned(), "more than 0s");
        }
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return wrong("steps", format!("{} steps", self.steps.len()), &format!("1 to {STEPS_MAX} steps"));
        }
        Ok(())
    }

    /// Checks each step against the state that the steps before it lead to. Returns the first invalid step.
    fn check_story(&self) -> Result<(), (usize, String)> {
        let mut topology = Topology::new(&self.members);
        for (index, step) in self.steps.iter().enumerate() {
            topology.check(step).and_then(|()| check_numbers(step)).map_err(|problem| (index, problem))?;
            if let Step::Act(action) = step {
                topology.apply(action);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.about.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.name, self.about)
    }
}

/// A `chaos` step: a number of random faults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chaos {
    #[serde(rename = "do")]
    _kind: String,
    faults: usize,
}

/// Expands `repeat` steps (`times` each, if given) and `chaos` steps. An error has the index of its step.
fn unrolled(
    tables: Vec<toml::Table>,
    members: &[String],
    chance: &mut StdRng,
    times: Option<usize>,
) -> Result<(Vec<toml::Table>, Vec<Trial>), (usize, String)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Repeat {
        #[serde(rename = "do")]
        _kind: String,
        times: usize,
        steps: Vec<toml::Table>,
    }
    let mut unrolled = Vec::new();
    let mut trials: Vec<Trial> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        match table.get("do").and_then(toml::Value::as_str) {
            Some("repeat") => {}
            Some("chaos") if !members.is_empty() => {
                let chaos: Chaos =
                    toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| {
                        (index, format!("(`do` = \"chaos\") {}", error.message()))
                    })?;
                if !(1..=FAULTS_MAX).contains(&chaos.faults) {
                    return Err((
                        index,
                        format!("has `faults` = {}; expected 1 to {FAULTS_MAX}", chaos.faults),
                    ));
                }
                for time in 1..=chaos.faults {
                    trials.push(Trial { first_step: unrolled.len(), time: Some((time, chaos.faults)) });
                    unrolled.extend(chaos::fault(members, chance));
                }
                continue;
            }
            _ => {
                if trials.last().is_none_or(|trial| trial.time.is_some()) {
                    trials.push(Trial { first_step: unrolled.len(), time: None });
                }
                unrolled.push(table);
                continue;
            }
        }
        let mut repeat: Repeat = toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| (index, format!("(`do` = \"repeat\") {}", error.message())))?;
        repeat.times = times.unwrap_or(repeat.times);
        if !(1..=STEPS_MAX).contains(&repeat.times) {
            return Err((index, format!("has `times` = {}; expected 1 to {STEPS_MAX}", repeat.times)));
        }
        // Stops expanding once there are too many steps; the check of the number of steps reports it.
        for time in 1..=repeat.times {
            if unrolled.len() <= STEPS_MAX {
                trials.push(Trial { first_step: unrolled.len(), time: Some((time, repeat.times)) });
                unrolled.extend(repeat.steps.iter().cloned());
            }
        }
    }
    if trials.len() < 2 {
        trials.clear();
    }
    Ok((unrolled, trials))
}

/// Checks the numeric ranges within one step.
fn check_numbers(step: &Step) -> Result<(), String> {
    match step {
        Step::Act(Action::Submit { count, .. }) if !(1..=SUBMIT_MAX).contains(count) => {
            Err(format!("has `count` = {count}; expected 1 to {SUBMIT_MAX}"))
        }
        Step::Act(Action::Delay { by, .. }) if *by > Duration::from_mins(1) => {
            Err(format!("has `by` = {}; expected at most 60s", humantime::format_duration(*by)))
        }
        Step::Act(Action::Clock { ahead, behind, .. }) if !ahead.is_zero() && !behind.is_zero() => {
            Err("has `ahead` and `behind`; expected one of them".to_owned())
        }
        Step::Act(Action::Attack { connections, .. }) if !(1..=CONNECTIONS_MAX).contains(connections) => {
            Err(format!("has `connections` = {connections}; expected 1 to {CONNECTIONS_MAX}"))
        }
        Step::Check(Check::WaitBlocks { count: 0, .. }) => {
            Err("has `count` = 0; expected 1 or more".to_owned())
        }
        Step::Check(Check::Expect(facts)) => {
            let some = facts.no_block_for.is_some()
                || facts.no_halt_for.is_some()
                || facts.healthy.is_some()
                || facts.gate.is_some()
                || facts.heights_equal
                || facts.transactions_included
                || facts.min_height.is_some()
                || facts.finds.is_some()
                || facts.says.is_some()
                || facts.links_up
                || facts.link_versions.is_some()
                || facts.evidence.is_some()
                || facts.blocks_apart_max.is_some();
            if !some {
                return Err("expects nothing; expected one of no_block_for, no_halt_for, gate, healthy, \
                            heights_equal, transactions_included, min_height, finds, says, links_up, link_versions, \
                            evidence, blocks_apart_max"
                    .to_owned());
            }
            if facts.no_halt_for.is_some() && (facts.no_block_for.is_some() || facts.within.is_some()) {
                return Err(
                    "has `no_halt_for` with `no_block_for` or `within`; expected one of them".to_owned()
                );
            }
            if facts.no_block_for.is_some() && facts.within.is_some() {
                return Err("has both `no_block_for` and `within`; expected one of them".to_owned());
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse("test.toml", text).expect_err(text).to_string()
    }

    #[test]
    fn every_shipped_scenario_reads_and_is_named_after_its_file() {
        for name in names() {
            let scenario = Scenario::load(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name} says what it is about");
            assert_eq!(scenario.members.len(), 4, "{name}");
        }
        assert!(names().contains(&DEFAULT));
    }

    #[test]
    fn what_is_repeated_is_told_in_trials_and_the_rest_between_them() {
        let text = "name='x'\nsteps=[{do='wait',duration='1s'},{do='wait',duration='1s'},
            {do='repeat',times=2,steps=[{do='kill',members=['node-1']},{do='restart'}]},{do='wait',duration='1s'}]";
        let scenario = Scenario::parse("x", text).expect("a scenario");
        let trial = |first_step, time| Trial { first_step, time };
        let expected = [trial(0, None), trial(2, Some((1, 2))), trial(4, Some((2, 2))), trial(6, None)];
        assert_eq!(scenario.trials, expected);
        let once = Scenario::load("gating").expect("a shipped scenario");
        assert!(once.trials.is_empty(), "a story told once has no parts");
    }

    #[test]
    fn an_unknown_name_is_refused_with_those_that_exist() {
        let error = Scenario::load("gaiting").expect_err("no such scenario").to_string();
        assert!(error.contains("\"gaiting\"") && error.contains("all-crash"), "{error}");
        let error = Scenario::load("/nowhere/story.toml").expect_err("no such file").to_string();
        assert!(error.contains("/nowhere/story.toml"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_what_was_expected() {
        let steps = "steps = [{ do = 'wait', duration = '1s' }]";
        let table = [
            ("name = 'x'\nsteps = 3".to_owned(), "steps"),
            (format!("name = 'x'\nsetps = 1\n{steps}"), "unknown field `setps`"),
            (format!("name = 'a b'\n{steps}"), "`name` is \"a b\"; expected"),
            (
                format!("name = 'x'\nmembers = ['a', 'b', 'c']\n{steps}"),
                "`members` is 3 names; expected 4 to 16",
            ),
            (
                format!("name = 'x'\nmembers = ['a', 'b', 'c', 'a']\n{steps}"),
                "`members[3]` is \"a\"; expected",
            ),
            (
                format!("name = 'x'\nunread_logs = ['node-5']\n{steps}"),
                "`unread_logs[0]` is \"node-5\"; expected",
            ),
            (format!("name = 'x'\nblock_time = '1ms'\n{steps}"), "`block_time` is 1ms; expected"),
            (format!("name = 'x'\nblock_time = 'soon'\n{steps}"), "block_time"),
            ("name = 'x'\nsteps = []".to_owned(), "`steps` is 0 steps; expected"),
            (
                "name = 'x'\nsteps = [{ do = 'wait_blocks', count = 0, within = '1s' }]".to_owned(),
                "`steps[0]` has `count` = 0; expected",
            ),
            (
                format!("name = 'x'\n{steps}\n[[expect]]\ntiming = 'slot'\npercentile = 9\nat_most = '1s'"),
                "`expect[0].timing` is \"slot\"; expected one of block_interval",
            ),
            (
                format!("name = 'x'\n{steps}\n[[expect]]\ntiming = 'block_interval'\npercent = 9"),
                "unknown field `percent`",
            ),
            (
                "name = 'x'\nsteps = [{ do = 'expect' }]".to_owned(),
                "`steps[0]` expects nothing; expected one of",
            ),
            (
                "name = 'x'\nsteps = [{ do = 'kill', members = ['node-5'] }]".to_owned(),
                "`steps[0]` names \"node-5\"; expected one of node-1",
            ),
            (
                "name = 'x'\nsteps = [{ do = 'submit', member = 'node-1', count = 1001 }]".to_owned(),
                "`steps[0]` has `count` = 1001; expected 1 to 1000",
            ),
        ];
        for (text, expected) in table {
            let error = error(&text);
            assert!(error.contains(expected) && error.contains("test.toml"), "{text}\n{error}");
        }
    }

    #[test]
    fn steps_that_are_repeated_are_written_out() {
        let text = |times: usize| {
            format!(
                "name = 'x'\nsteps = [{{ do = 'wait', duration = '1s' }}, {{ do = 'repeat', times = {times}, \
                     steps = [{{ do = 'pause', members = ['node-1'] }}, {{ do = 'resume' }}] }}]"
            )
        };
        let steps = Scenario::parse("test.toml", &text(3)).expect("a scenario").steps;
        assert_eq!(steps.len(), 7);
        assert!(error(&text(0)).contains("`times` = 0; expected 1 to 5000"));
        assert!(error(&text(2_500)).contains("`steps` is 5001"), "{}", error(&text(2_500)));
        let with = |times| {
            Scenario::read("test.toml", &text(3), 0, Some(times)).map(|scenario| scenario.steps.len())
        };
        assert_eq!(with(5).expect("a scenario"), 11);
        assert!(with(0).expect_err("none").to_string().contains("`times` = 0"));
        let nested = "name = 'x'\nsteps = [{ do = 'repeat', times = 1, steps = [{ do = 'repeat' }] }]";
        assert!(error(nested).contains("\"repeat\""), "{}", error(nested));
    }

    #[test]
    fn sections_of_the_members_configuration_are_kept() {
        let text =
            "name = 'x'\nsteps = [{ do = 'wait', duration = '1s' }]\n[node.heartbeat]\ninterval = '100ms'";
        let scenario = Scenario::parse("test.toml", text).expect("a section is accepted");
        let sections: Vec<_> = scenario.sections.iter().map(|(name, _)| name).collect();
        assert_eq!(sections, ["heartbeat"]);
    }

    #[test]
    fn a_federation_that_is_to_go_on_is_not_stopped_at_the_end() {
        for name in ["gating", "healthy", "partition", "rolling-restart", "all-crash"] {
            let mut scenario = Scenario::load(name).expect(name);
            scenario.leave_running();
            let last = scenario.steps.last().expect("a story").to_string();
            assert!(!last.starts_with("stop") && !last.starts_with("audit"), "{name} ends with: {last}");
        }
    }
}
