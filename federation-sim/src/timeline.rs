//! What became of each member over a run: up, paused, cut off, dead and so on, from moment to moment.
//!
//! The steps say what was done to a member; the looks say what was seen of it. Where a member should have
//! answered and did not, that is what counts.

use serde::{Deserialize, Serialize};

use crate::record::{Poll, PollSummary, Record, StepRecord};
use crate::step::{Action, Step};
use crate::topology::{self, Topology};

/// What a member is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It runs and its links carry.
    Up,
    /// Its process was started and has not answered yet.
    Starting,
    /// It is stopped by SIGSTOP.
    Paused,
    /// It runs, and one or more of its links carry nothing, one way or both.
    Cut,
    /// It runs, and one or more of its links are delayed.
    Slow,
    /// It was told to stop.
    Leaving,
    /// It has stopped in order.
    Stopped,
    /// It was killed.
    Dead,
    /// It should have answered and did not.
    Silent,
    /// It ended though nobody ended it.
    Ended,
}

impl MemberState {
    /// Every life, those of a member that does well first.
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

    /// The life in a word.
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

    /// Whether a gate of such a member decides something.
    pub fn has_gate(self) -> bool {
        matches!(self, Self::Up | Self::Cut | Self::Slow | Self::Leaving | Self::Silent)
    }

    /// Whether such a member is expected to answer.
    fn should_answer(self) -> bool {
        matches!(self, Self::Up | Self::Cut | Self::Slow)
    }
}

/// What a member is from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeLine {
    /// Since when.
    pub at_ms: u64,
    /// What it is.
    pub state: MemberState,
    /// More about it, such as whom it is cut from; may be empty.
    #[serde(default)]
    pub note: String,
}

/// The lives of `name`, oldest first; times as the record has them.
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

/// What the steps have made of `name`.
fn done_to(record: &Record, name: &str) -> Vec<LifeLine> {
    let mut lines = vec![LifeLine { at_ms: record.started_ms, state: MemberState::Up, note: String::new() }];
    let mut topology = Topology::new(&record.roster);
    // How a member that is down came to it: the topology does not tell.
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
        // What ends or begins a process takes its time; everything else holds at once.
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
