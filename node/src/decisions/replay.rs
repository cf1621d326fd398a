//! Checks that a log of decisions is complete, and that every decision in it follows from its inputs.

use super::line::DecisionLine;

/// Result of replaying a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Decisions that were reproduced with the same bytes.
    pub decisions: u64,
    /// Number of incarnations in the log.
    pub incarnations: u64,
    /// Decisions that the log reports as missing.
    pub dropped: u64,
    /// Whether the last line is incomplete, because a killed process was writing it.
    pub is_torn: bool,
    /// Every inconsistency, as a sentence.
    pub findings: Vec<String>,
    /// Position of the last line that could be read.
    last: Option<LogPlace>,
    /// Whether the next line need not follow the last one.
    is_broken: bool,
}

/// Position of a line in the order of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogPlace {
    incarnation: u64,
    sequence: u64,
    dropped: u64,
}

impl Replay {
    /// Replays files, oldest first, each with its name. `is_complete` says that no older file was deleted.
    pub fn of(files: &[(&str, &[u8])], is_complete: bool) -> Self {
        let mut replay = Self { is_broken: !is_complete, ..Self::default() };
        for (index, (name, bytes)) in files.iter().enumerate() {
            replay.file(name, bytes, index + 1 == files.len());
        }
        replay
    }

    fn file(&mut self, name: &str, bytes: &[u8], is_newest: bool) {
        for (index, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let place = format!("{name}, line {}", index + 1);
            match text.strip_suffix(b"\n") {
                Some(text) => self.line(&place, text),
                // Only the file that is being written can end with an incomplete line.
                None if is_newest => self.is_torn = true,
                None => self.findings.push(format!("{place} has no end")),
            }
        }
    }

    fn line(&mut self, place: &str, text: &[u8]) {
        let line = match DecisionLine::replay(text) {
            Ok(line) => line,
            Err(error) => {
                self.findings.push(format!("{place} {error}"));
                self.is_broken = true;
                return;
            }
        };
        let DecisionLine { incarnation, sequence, dropped, .. } = line;
        if !std::mem::take(&mut self.is_broken)
            && let Some(problem) = self.misplaced(LogPlace { incarnation, sequence, dropped })
        {
            self.findings
                .push(format!("{place} is decision {sequence} of incarnation {incarnation}; {problem}"));
        }
        let is_new = self.last.is_none_or(|last| last.incarnation != incarnation);
        let before = if is_new { 0 } else { self.last.map_or(0, |last| last.dropped) };
        self.incarnations += u64::from(is_new);
        self.dropped += dropped.saturating_sub(before);
        self.decisions += 1;
        self.last = Some(LogPlace { incarnation, sequence, dropped });
    }

    /// Describes the decision expected at the position of `next`, if `next` is not it.
    fn misplaced(&self, next: LogPlace) -> Option<String> {
        let begun = LogPlace { sequence: 0, dropped: 0, ..next };
        let last = match self.last {
            Some(last) if last.incarnation > next.incarnation => {
                return Some(format!("expected none before incarnation {}", last.incarnation));
            }
            Some(last) if last.incarnation == next.incarnation => last,
            _ => begun,
        };
        let expected = last.sequence + 1 + next.dropped.saturating_sub(last.dropped);
        let fits = next.sequence == expected && next.dropped >= last.dropped;
        (!fits).then(|| format!("expected decision {expected}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alys_cluster::federation::decision::{Evaluation, Gates};
    use alys_cluster::federation::{GateInputs, decide};

    use super::*;

    fn line(incarnation: u64, sequence: u64, dropped: u64) -> String {
        let evaluation = Evaluation::Lease { granted_ms: 800, age_ms: sequence };
        let inputs = GateInputs { evaluation, ..GateInputs::unknown(Gates::new(3, 1, |_| 3)) };
        let outcome = decide(&inputs);
        let at_ms = Duration::from_secs(sequence).as_millis() as u64;
        DecisionLine { incarnation, sequence, at_ms, dropped, inputs, outcome }.to_text()
    }

    /// Incarnation, sequence number and dropped count.
    type Numbers = (u64, u64, u64);

    fn log(places: &[Numbers]) -> String {
        places
            .iter()
            .map(|(incarnation, sequence, dropped)| line(*incarnation, *sequence, *dropped) + "\n")
            .collect()
    }

    fn replay(text: &str) -> Replay {
        Replay::of(&[("log", text.as_bytes())], true)
    }

    #[test]
    fn a_log_that_was_left_alone_is_decided_again_byte_for_byte() {
        let replay = replay(&log(&[(4, 1, 0), (4, 2, 0), (5, 1, 0), (9, 1, 0), (9, 2, 0)]));
        assert_eq!((replay.decisions, replay.incarnations, replay.dropped), (5, 3, 0));
        assert!(!replay.is_torn && replay.findings.is_empty(), "{replay:?}");
    }

    #[test]
    fn every_doctored_byte_that_decides_is_found_with_its_line() {
        let whole = log(&[(4, 1, 0), (4, 2, 0), (4, 3, 0)]);
        let doctored = [
            ("\"closed\"", "\"open\"", "is otherwise than its inputs say"),
            ("\"required\":3", "\"required\":2", "is otherwise than its inputs say"),
            ("\"healthy\":0", "\"healthy\":4", "is otherwise than its inputs say"),
            ("is not known yet", "is known", "is otherwise than its inputs say"),
            ("\"inputs\":{", "\"inputs\": {", "is otherwise than its inputs say"),
            ("\"dropped\":0,", "", "is no decision"),
            ("\"sequence\":2", "\"sequence\":7", "expected decision 2"),
            ("\"dropped\":0", "\"dropped\":3", "expected decision 5"),
        ];
        for (from, to, problem) in doctored {
            let mut lines: Vec<_> = whole.lines().map(str::to_owned).collect();
            assert!(lines[1].contains(from), "{from} in {}", lines[1]);
            // The last occurrence is in the outcome.
            let at = lines[1].rfind(from).expect("just found");
            lines[1].replace_range(at..at + from.len(), to);
            let replay = replay(&(lines.join("\n") + "\n"));
            let first = replay.findings.first().unwrap_or_else(|| panic!("{from} → {to} is not found"));
            assert!(first.starts_with("log, line 2 ") && first.contains(problem), "{from}: {first}");
        }
    }

    #[test]
    fn lines_that_are_missing_moved_or_twice_are_found_unless_the_log_says_that_it_dropped_them() {
        let table: [(&[Numbers], &[&str]); 7] = [
            (&[(4, 1, 0), (4, 4, 2), (4, 5, 2)], &[]),
            (&[(4, 3, 2)], &[]),
            (&[(4, 1, 0), (4, 3, 0)], &["log, line 2 is decision 3 of incarnation 4; expected decision 2"]),
            (&[(4, 2, 0)], &["log, line 1 is decision 2 of incarnation 4; expected decision 1"]),
            (&[(4, 1, 0), (4, 1, 0)], &["log, line 2 is decision 1 of incarnation 4; expected decision 2"]),
            (
                &[(4, 1, 1), (4, 2, 0)],
                &[
                    "log, line 1 is decision 1 of incarnation 4; expected decision 2",
                    "log, line 2 is decision 2 of incarnation 4; expected decision 2",
                ],
            ),
            (
                &[(4, 1, 0), (3, 1, 0)],
                &["log, line 2 is decision 1 of incarnation 3; expected none before incarnation 4"],
            ),
        ];
        for (places, findings) in table {
            assert_eq!(replay(&log(places)).findings, findings, "{places:?}");
        }
        assert_eq!(replay(&log(&[(4, 1, 0), (4, 4, 2), (5, 2, 1)])).dropped, 3);
    }

    #[test]
    fn a_torn_last_line_is_told_and_no_finding_but_in_an_older_file_it_is_one() {
        let whole = log(&[(4, 1, 0), (4, 2, 0)]);
        let torn = &whole[..whole.len() - 7];
        let read = replay(torn);
        assert!(read.is_torn && read.findings.is_empty() && read.decisions == 1, "{read:?}");
        let after = log(&[(5, 1, 0)]);
        let read = Replay::of(&[("old", torn.as_bytes()), ("new", after.as_bytes())], true);
        assert_eq!(read.findings, ["old, line 2 has no end"]);
    }

    #[test]
    fn what_an_older_file_had_is_not_missed_once_it_is_gone() {
        let (old, new) = (log(&[(4, 7, 1), (4, 8, 1)]), log(&[(4, 9, 1), (5, 1, 0)]));
        let read = Replay::of(&[("old", old.as_bytes()), ("new", new.as_bytes())], false);
        assert!(read.findings.is_empty() && read.decisions == 4, "{read:?}");
        let gap = log(&[(4, 10, 1)]);
        let read = Replay::of(&[("old", old.as_bytes()), ("new", gap.as_bytes())], false);
        assert_eq!(read.findings.len(), 1);
    }
}
