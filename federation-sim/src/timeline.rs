//! Computes the state of each member over the run: up, paused, cut, dead and so on.
//!
//! The state follows from the steps applied to the member and from the polls of it. A poll takes precedence if the
//! member should have answered and did not.

use serde::{Deserialize, Serialize};

use crate::record::{Poll, PollSummary, Record, StepRecord};
use crate::step::{Action, Step};
use crate::topology::{self, Topology};

/// State of a member at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// The process runs and all its links carry traffic.
    Up,
    /// The process was started and has not answered yet.
    Starting,
    /// The process is stopped by SIGSTOP.
    Paused,
    /// The process runs, and at least one of its links is cut in at least one direction.
    Cut,
    /// The process runs, and at least one of its links is delayed.
    Slow,
    /// The process was told to stop and has not ended yet.
    Leaving,
    /// The process stopped gracefully.
    Stopped,
    /// The process was killed.
    Dead,
    /// The member should have answered and did not.
    Silent,
    /// The process ended unexpectedly.
    Ended,
}

impl MemberState {
    /// Every state, from the most healthy to the least.
    pub const ALL: [Self; 10] = [
        Self::Up,
        Self::Starting,
        Self::Slow,
        Self::Cut,
        Self::Paused,
        Self::Leaving,
        Self::Stopped,
        Self::Dead,
        Self::Silent,
        Self::Ended,
    ];

    /// Name of the state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Starting => "starting",
            Self::Paused => "paused",
            Self::Cut => "cut",
            Self::Slow => "slow",
            Self::Leaving => "leaving",
            Self::Stopped => "stopped",
            Self::Dead => "dead",
            Self::Silent => "silent",
            Self::Ended => "ended",
        }
    }

    /// Whether the gate of a member in this state makes decisions.
    pub fn has_gate(self) -> bool {
        matches!(self, Self::Up | Self::Cut | Self::Slow | Self::Leaving | Self::Silent)
    }

    /// Whether a member in this state is expected to answer.
    fn should_answer(self) -> bool {
        matches!(self, Self::Up | Self::Cut | Self::Slow)
    }
}

/// A change of a member's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeLine {
    /// Time of the change, in milliseconds: since the Unix epoch from [`of`], since the run began in a report.
    pub at_ms: u64,
    /// State from then on.
    pub state: MemberState,
    /// Details, such as the members it is cut from; may be empty.
    #[serde(default)]
    pub note: String,
}

/// State changes of `name`, oldest first, with times in milliseconds since the Unix epoch.
pub fn of(record: &Record, name: &str) -> Vec<LifeLine> {
    let done = done_to(record, name);
    let looks = record.members.get(name).map_or(&[][..], |member| &member.looks);
    let mut turns: Vec<u64> = done.iter().map(|line| line.at_ms).collect();
    turns.extend(looks.iter().map(|look| look.at_ms));
    turns.sort_unstable();
    turns.dedup();
    let mut lines: Vec<LifeLine> = Vec::new();
    for at_ms in turns {
        let base = done.iter().rfind(|line| line.at_ms <= at_ms);
        let look = looks.iter().rfind(|look| look.at_ms <= at_ms);
        let Some(base) = base else { continue };
        let line = LifeLine { at_ms, ..seen(base, look) };
        if lines.last().is_none_or(|last| (last.state, &last.note) != (line.state, &line.note)) {
            lines.push(line);
        }
    }
    lines
}

fn seen(base: &LifeLine, look: Option<&Poll>) -> LifeLine {
    let found = look.map(|look| &look.found);
    let (state, note) = match found {
        Some(PollSummary::Silent(how)) if base.state.should_answer() => (MemberState::Silent, how.clone()),
        Some(PollSummary::Ended(how)) if base.state.should_answer() => (MemberState::Ended, how.clone()),
        _ => (base.state, base.note.clone()),
    };
    LifeLine { at_ms: base.at_ms, state, note }
}

/// States of `name` that follow from the steps alone.
fn done_to(record: &Record, name: &str) -> Vec<LifeLine> {
    let mut lines = vec![LifeLine { at_ms: record.started_ms, state: MemberState::Up, note: String::new() }];
    let mut topology = Topology::new(&record.roster);
    // How a member that is down ended; the topology does not say.
    let mut end = (MemberState::Dead, "killed");
    for step in &record.steps {
        let Step::Act(action) = &step.step else { continue };
        let concerned = topology.members_of(action).iter().any(|member| member == name);
        lines.extend(concerned.then(|| under_way(step, action)).flatten());
        if let (true, Action::Kill { .. } | Action::Stop { .. }) = (concerned, action) {
            end = match action {
                Action::Kill { .. } => (MemberState::Dead, "killed"),
                _ => (MemberState::Stopped, "stopped in order"),
            };
        }
        topology.apply(action);
        // Stopping and starting a process takes time; every other action takes effect at once.
        let takes_time = matches!(action, Action::Stop { .. } | Action::Restart { .. });
        let at_ms = match step.done_ms {
            Some(done_ms) if concerned && takes_time => done_ms,
            None if concerned && takes_time => continue,
            _ => step.at_ms,
        };
        lines.push(LifeLine { at_ms, ..standing(&topology, name, end) });
    }
    lines.dedup_by(|after, before| (after.state, &after.note) == (before.state, &before.note));
    lines
}

fn under_way(step: &StepRecord, action: &Action) -> Option<LifeLine> {
    let (state, note) = match action {
        Action::Stop { .. } => (MemberState::Leaving, "told to stop"),
        Action::Restart { .. } => (MemberState::Starting, "its process was started"),
        _ => return None,
    };
    Some(LifeLine { at_ms: step.at_ms, state, note: note.to_owned() })
}

fn standing(topology: &Topology, name: &str, end: (MemberState, &str)) -> LifeLine {
    let (state, note) = match topology.life(name) {
        topology::ProcessState::Down => (end.0, end.1.to_owned()),
        topology::ProcessState::Paused => (MemberState::Paused, "stopped by SIGSTOP".to_owned()),
        topology::ProcessState::Running => match (topology.cut_from(name), topology.slow_with(name)) {
            (cut, _) if !cut.is_empty() => (MemberState::Cut, format!("cut from {}", cut.join(", "))),
            (_, slow) if !slow.is_empty() => (MemberState::Slow, format!("delayed with {}", slow.join(", "))),
            _ => (MemberState::Up, String::new()),
        },
    };
    LifeLine { at_ms: 0, state, note }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::empty;

    fn told(steps: &[(&str, u64, Option<u64>)]) -> Record {
        let mut record = empty();
        for (text, at_ms, done_ms) in steps {
            let step = Step::from_table(text.parse().expect("TOML")).expect("a step");
            record.steps.push(StepRecord { step, at_ms: *at_ms, done_ms: *done_ms });
        }
        record
    }

    fn states(record: &Record, name: &str) -> Vec<(u64, MemberState)> {
        of(record, name).into_iter().map(|line| (line.at_ms, line.state)).collect()
    }

    #[test]
    fn a_member_is_what_the_steps_make_of_it() {
        let record = told(&[
            ("do='kill'\nmembers=['node-4']", 1_000, Some(1_010)),
            ("do='pause'\nmembers=['node-3']", 2_000, Some(2_000)),
            ("do='resume'", 3_000, Some(3_000)),
            ("do='restart'", 4_000, Some(4_500)),
            ("do='cut'\nbetween=[['node-1'],['node-3','node-4']]", 5_000, Some(5_000)),
            ("do='heal'", 6_000, Some(6_000)),
            ("do='delay'\nlinks=['node-1>node-2']\nby='1s'", 7_000, Some(7_000)),
            ("do='stop'\nmembers=['node-1']", 8_000, Some(8_700)),
        ]);
        let four = [
            (0, MemberState::Up),
            (1_000, MemberState::Dead),
            (4_000, MemberState::Starting),
            (4_500, MemberState::Up),
        ];
        assert_eq!(states(&record, "node-4")[..4], four);
        let three = [
            (0, MemberState::Up),
            (2_000, MemberState::Paused),
            (3_000, MemberState::Up),
            (5_000, MemberState::Cut),
        ];
        assert_eq!(states(&record, "node-3")[..4], three);
        let one = [
            (0, MemberState::Up),
            (5_000, MemberState::Cut),
            (6_000, MemberState::Up),
            (7_000, MemberState::Slow),
            (8_000, MemberState::Leaving),
            (8_700, MemberState::Stopped),
        ];
        assert_eq!(states(&record, "node-1"), one);
        assert_eq!(of(&record, "node-1")[1].note, "cut from node-3, node-4");
    }

    #[test]
    fn one_that_never_came_back_is_starting_to_the_end() {
        let kill = ("do='kill'\nmembers=['node-4']", 1_000, Some(1_010));
        let record = told(&[kill, ("do='restart'", 4_000, None)]);
        let four = [(0, MemberState::Up), (1_000, MemberState::Dead), (4_000, MemberState::Starting)];
        assert_eq!(states(&record, "node-4"), four);
    }

    #[test]
    fn silence_counts_where_an_answer_was_due_and_only_there() {
        let mut record = told(&[("do='pause'\nmembers=['node-2']", 2_000, Some(2_000))]);
        let looks = [
            (500, PollSummary::Answers),
            (900, PollSummary::Silent("timed out".to_owned())),
            (1_400, PollSummary::Answers),
            (2_100, PollSummary::Absent),
        ];
        let member = record.members.get_mut("node-2").expect("a member");
        member.looks = looks.into_iter().map(|(at_ms, found)| Poll { at_ms, found }).collect();
        let two = [
            (0, MemberState::Up),
            (900, MemberState::Silent),
            (1_400, MemberState::Up),
            (2_000, MemberState::Paused),
        ];
        assert_eq!(states(&record, "node-2"), two);
        assert_eq!(of(&record, "node-2")[1].note, "timed out");
    }

    #[test]
    fn one_that_ended_by_itself_is_told_apart_from_one_that_was_killed() {
        let mut record = told(&[]);
        let ended = Poll { at_ms: 700, found: PollSummary::Ended("signal 6".to_owned()) };
        record.members.get_mut("node-2").expect("a member").looks = vec![ended];
        assert_eq!(states(&record, "node-2"), [(0, MemberState::Up), (700, MemberState::Ended)]);
    }
}
