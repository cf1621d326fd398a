//! Computes a member's process states and gate decisions as time intervals without gaps.

use alys_node::ops::view::GateDecision;

use crate::report::{GateLine, MemberLine, Report};
use crate::timeline::{LifeLine, MemberState};

/// State during an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// State of the member's process.
    MemberState(MemberState),
    /// Decision of its gate.
    Gate(GateDecision),
    /// No process runs that could have a gate, or the gate has not decided yet.
    NoGate,
    /// Several process states, too short to draw separately; the value is the worst of them.
    Many(MemberState),
    /// Several gate decisions, too short to draw separately; the value is the worst of them.
    ManyGates(GateDecision),
}

impl Kind {
    /// Priority of the state when short intervals are merged; the highest is shown.
    fn weight(self) -> usize {
        match self {
            Self::MemberState(life) | Self::Many(life) => {
                MemberState::ALL.iter().position(|known| *known == life).unwrap_or(0)
            }
            Self::NoGate => 0,
            Self::Gate(decision) | Self::ManyGates(decision) => {
                1 + usize::from(decision == GateDecision::Closed)
            }
        }
    }

    fn many(self) -> Self {
        match self {
            Self::MemberState(life) => Self::Many(life),
            Self::Gate(decision) => Self::ManyGates(decision),
            other => other,
        }
    }
}

/// A time interval and the state during it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    pub(super) kind: Kind,
    /// Reason or details; may be empty.
    pub(super) note: String,
}

impl Stretch {
    pub(super) fn length_ms(&self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }
}

/// An interval during which a gate was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClosedStretch {
    pub(super) member: String,
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
    /// Whether the gate was still closed when the run, or the member's incarnation, ended.
    pub(super) is_open_ended: bool,
    pub(super) reason: String,
}

/// Process states of a member from `from_ms` to `to_ms`.
pub(super) fn lives(member: &MemberLine, from_ms: u64, to_ms: u64) -> Vec<Stretch> {
    let turns =
        member.lives.iter().map(|line| (line.at_ms, Kind::MemberState(line.state), line.note.clone()));
    stretches(turns.collect(), (Kind::MemberState(MemberState::Up), String::new()), from_ms, to_ms)
}

/// Gate decisions of a member from `from_ms` to `to_ms`. A member that is paused, down or starting has no gate.
pub(super) fn gates(report: &Report, member: &MemberLine, from_ms: u64, to_ms: u64) -> Vec<Stretch> {
    stretches(gate_turns(report, member), (Kind::NoGate, String::new()), from_ms, to_ms)
}

fn gate_turns(report: &Report, member: &MemberLine) -> Vec<(u64, Kind, String)> {
    let decisions: Vec<&GateLine> = report.gate.iter().filter(|line| line.member == member.name).collect();
    let mut moments: Vec<u64> = decisions.iter().map(|line| line.at_ms).collect();
    moments.extend(member.lives.iter().map(|line| line.at_ms));
    moments.sort_unstable();
    moments.dedup();
    let turn = |at_ms: u64| {
        let life = member.lives.iter().rfind(|line| line.at_ms <= at_ms);
        // A restarted process does not know the decisions of the incarnation before.
        let begins =
            member.lives.iter().rfind(|line| line.state == MemberState::Starting && line.at_ms <= at_ms);
        let since = begins.map_or(0, |line| line.at_ms);
        let decision = decisions.iter().rfind(|line| (since..=at_ms).contains(&line.at_ms));
        let nothing = |note: &str| (at_ms, Kind::NoGate, note.to_owned());
        match (life.map_or(MemberState::Up, |line| line.state), decision) {
            (life, _) if !life.has_gate() => {
                nothing(&format!("none decides: the member is {}", life.as_str()))
            }
            (_, None) => nothing("it has not decided yet"),
            (_, Some(line)) => (at_ms, Kind::Gate(line.decision), line.reason.clone()),
        }
    };
    moments.into_iter().map(turn).collect()
}

/// Every time a gate closed, in order of time. The initial state of an incarnation is not a halt.
pub(super) fn halts(report: &Report) -> Vec<ClosedStretch> {
    let of_member = |member: &MemberLine| {
        let stretches = gates(report, member, 0, report.duration_ms);
        let mut halts: Vec<ClosedStretch> = Vec::new();
        let mut was_open = false;
        for stretch in &stretches {
            let Kind::Gate(decision) = stretch.kind else {
                let within = stretch.from_ms..=stretch.to_ms;
                let begins =
                    |line: &LifeLine| line.state == MemberState::Starting && within.contains(&line.at_ms);
                was_open &= !member.lives.iter().any(begins);
                continue;
            };
            if decision == GateDecision::Closed && was_open {
                halts.push(ClosedStretch {
                    member: member.name.clone(),
                    from_ms: stretch.from_ms,
                    to_ms: stretch.to_ms,
                    is_open_ended: true,
                    reason: stretch.note.clone(),
                });
            }
            if decision == GateDecision::Closed && !was_open {
                // The closed gate has a new reason, or the member was resumed after a pause.
                if let Some(last) = halts.last_mut().filter(|last| last.is_open_ended) {
                    last.to_ms = stretch.to_ms;
                }
            }
            if let (GateDecision::Open, Some(last)) = (decision, halts.last_mut()) {
                last.is_open_ended = false;
            }
            was_open = decision == GateDecision::Open;
        }
        halts
    };
    let mut halts: Vec<_> = report.members.iter().flat_map(of_member).collect();
    halts.sort_by_key(|halt| halt.from_ms);
    halts
}

/// Intervals from each change to the next, within a range; `before` is the state until the first change.
fn stretches(
    turns: Vec<(u64, Kind, String)>,
    before: (Kind, String),
    from_ms: u64,
    to_ms: u64,
) -> Vec<Stretch> {
    let to_ms = to_ms.max(from_ms);
    let mut found: Vec<Stretch> = vec![Stretch { from_ms, to_ms, kind: before.0, note: before.1 }];
    for (at_ms, kind, note) in turns.into_iter().filter(|(at_ms, ..)| *at_ms <= to_ms) {
        let at_ms = at_ms.max(from_ms);
        let last = found.last_mut().expect("there is one from the beginning");
        if (last.kind, &last.note) == (kind, &note) {
            continue;
        }
        last.to_ms = at_ms.max(last.from_ms);
        let from_ms = last.to_ms;
        if last.from_ms == last.to_ms {
            found.pop();
        }
        found.push(Stretch { from_ms, to_ms, kind, note });
    }
    found
}

/// Merges neighbouring intervals shorter than `least_ms` and shows the worst state of each group, so that the drawing
/// of a long run stays small and still shows every halt.
pub(super) fn squeeze(stretches: Vec<Stretch>, least_ms: u64) -> Vec<Stretch> {
    let mut squeezed: Vec<Stretch> = Vec::new();
    // Whether the last interval is shorter than `least_ms` and can absorb the next one.
    let mut is_short = false;
    for stretch in stretches {
        match squeezed.last_mut() {
            Some(last) if is_short && stretch.length_ms() < least_ms => {
                last.to_ms = stretch.to_ms;
                if stretch.kind.weight() > last.kind.weight() {
                    last.note.clone_from(&stretch.note);
                    last.kind = stretch.kind;
                }
                last.kind = last.kind.many();
            }
            _ => {
                is_short = stretch.length_ms() < least_ms;
                squeezed.push(stretch);
            }
        }
        is_short &= squeezed.last().is_some_and(|last| last.length_ms() < least_ms);
    }
    squeezed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::tests::report;

    fn turn(at_ms: u64, life: MemberState) -> (u64, Kind, String) {
        (at_ms, Kind::MemberState(life), String::new())
    }

    fn kinds(stretches: &[Stretch]) -> Vec<(u64, u64, Kind)> {
        stretches.iter().map(|stretch| (stretch.from_ms, stretch.to_ms, stretch.kind)).collect()
    }

    #[test]
    fn a_range_begins_with_what_held_before_it() {
        let turns = vec![
            turn(0, MemberState::Up),
            turn(1_000, MemberState::Dead),
            turn(5_000, MemberState::Starting),
        ];
        let found = stretches(turns, (Kind::MemberState(MemberState::Up), String::new()), 2_000, 6_000);
        let (dead, starting) =
            (Kind::MemberState(MemberState::Dead), Kind::MemberState(MemberState::Starting));
        assert_eq!(kinds(&found), [(2_000, 5_000, dead), (5_000, 6_000, starting)]);
    }

    #[test]
    fn a_gate_says_nothing_while_its_member_is_dead_and_knows_nothing_of_the_life_before() {
        let mut report = report();
        let life = |at_ms, state| LifeLine { at_ms, state, note: String::new() };
        report.duration_ms = 10_000;
        report.members[0].lives = vec![
            life(0, MemberState::Up),
            life(2_000, MemberState::Dead),
            life(4_000, MemberState::Starting),
            life(5_000, MemberState::Up),
        ];
        let decide = |at_ms, decision| GateLine {
            at_ms,
            member: report.members[0].name.clone(),
            decision,
            healthy: 3,
            required: 3,
            reason: String::new(),
        };
        let (open, closed) = (GateDecision::Open, GateDecision::Closed);
        report.gate = vec![decide(0, open), decide(6_000, open), decide(8_000, closed)];
        let found = gates(&report, &report.members[0], 0, 10_000);
        let expected = [
            (0, 2_000, Kind::Gate(open)),
            (2_000, 4_000, Kind::NoGate),
            (4_000, 5_000, Kind::NoGate),
            (5_000, 6_000, Kind::NoGate),
            (6_000, 8_000, Kind::Gate(open)),
            (8_000, 10_000, Kind::Gate(closed)),
        ];
        assert_eq!(kinds(&found), expected);
        let halts = halts(&report);
        assert_eq!(halts.len(), 1);
        assert_eq!((halts[0].from_ms, halts[0].to_ms, halts[0].is_open_ended), (8_000, 10_000, true));
    }

    #[test]
    fn of_changes_too_short_to_be_drawn_the_worst_shows() {
        let turns = vec![
            turn(0, MemberState::Up),
            turn(1_000, MemberState::Cut),
            turn(1_010, MemberState::Dead),
            turn(1_020, MemberState::Up),
        ];
        let found = stretches(turns, (Kind::MemberState(MemberState::Up), String::new()), 0, 9_000);
        let squeezed = squeeze(found, 100);
        let expected = [
            (0, 1_000, Kind::MemberState(MemberState::Up)),
            (1_000, 1_020, Kind::Many(MemberState::Dead)),
            (1_020, 9_000, Kind::MemberState(MemberState::Up)),
        ];
        assert_eq!(kinds(&squeezed), expected);
    }

    proptest! {
        #[test]
        fn stretches_leave_no_gap_and_squeezed_ones_are_few(
            mut moments in proptest::collection::vec(0_u64..100_000, 0..300),
            from_ms in 0_u64..50_000,
            length in 0_u64..60_000,
        ) {
            moments.sort_unstable();
            let lives = MemberState::ALL.iter().cycle();
            let turns = moments.into_iter().zip(lives).map(|(at_ms, life)| turn(at_ms, *life)).collect();
            let to_ms = from_ms + length;
            let found = stretches(turns, (Kind::MemberState(MemberState::Up), String::new()), from_ms, to_ms);
            let squeezed = squeeze(found.clone(), 500);
            prop_assert!(squeezed.len() as u64 <= 2 * (length / 500) + 3);
            for lane in [found, squeezed] {
                prop_assert_eq!(lane.first().map(|stretch| stretch.from_ms), Some(from_ms));
                prop_assert_eq!(lane.last().map(|stretch| stretch.to_ms), Some(to_ms));
                prop_assert!(lane.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms));
            }
        }
    }
}
