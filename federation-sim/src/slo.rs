//! Service level objectives: upper and lower bounds for a percentile of a timing.
//!
//! An SLO with too few samples fails. An SLO for gates also fails if a gate that should have closed has not closed:
//! missing data is not a success.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::timing::{Fault, Timings, percentile};

/// Timing that an SLO is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// [`Timings::block_interval`].
    BlockInterval,
    /// [`Timings::shorthanded_interval`].
    ShorthandedInterval,
    /// [`Timings::proposal_to_certificate`].
    ProposalToCertificate,
    /// [`Timings::fault_to_halt`].
    FaultToHalt,
    /// [`Timings::back_to_block`].
    BackToBlock,
}

impl Timing {
    /// Every timing.
    pub const ALL: [Self; 5] = [
        Self::BlockInterval,
        Self::ShorthandedInterval,
        Self::ProposalToCertificate,
        Self::FaultToHalt,
        Self::BackToBlock,
    ];

    /// Name in `snake_case`, as used in scenarios and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlockInterval => "block_interval",
            Self::ShorthandedInterval => "shorthanded_interval",
            Self::ProposalToCertificate => "proposal_to_certificate",
            Self::FaultToHalt => "fault_to_halt",
            Self::BackToBlock => "back_to_block",
        }
    }
}

/// Bounds for one percentile of a timing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slo {
    /// The measured timing.
    pub timing: Timing,
    /// Only samples after this kind of fault; all samples if `None`.
    pub after: Option<Fault>,
    /// Percentile from 1 to 100, by nearest rank.
    pub percentile: usize,
    /// Lower bound of the percentile's value.
    pub at_least: Option<Duration>,
    /// Upper bound of the percentile's value.
    pub at_most: Option<Duration>,
    /// Minimum number of samples.
    pub samples: usize,
}

/// An SLO as written in a scenario, not validated yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    timing: String,
    after: Option<String>,
    percentile: usize,
    #[serde(default, with = "humantime_serde")]
    at_least: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    at_most: Option<Duration>,
    #[serde(default = "one")]
    samples: usize,
}

fn one() -> usize {
    1
}

/// An invalid field of an SLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Name of the field.
    pub field: &'static str,
    /// Value found.
    pub value: String,
    /// Value that would be accepted.
    pub expected: String,
}

impl TryFrom<Written> for Slo {
    type Error = Wrong;

    fn try_from(written: Written) -> Result<Self, Wrong> {
        let Written { timing, after, percentile, at_least, at_most, samples } = written;
        let wrong = |field, value: String, expected: String| Err(Wrong { field, value, expected });
        let Some(found) = Timing::ALL.into_iter().find(|known| known.as_str() == timing) else {
            let known = Timing::ALL.map(Timing::as_str).join(", ");
            return wrong("timing", format!("{timing:?}"), format!("one of {known}"));
        };
        let fault =
            after.as_deref().map(|after| Fault::ALL.into_iter().find(|known| known.as_str() == after));
        let after = match (after, fault) {
            (Some(after), _) if found != Timing::FaultToHalt => {
                let expected = "it with `timing` = \"fault_to_halt\" only";
                return wrong("after", format!("{after:?}"), expected.into());
            }
            (Some(after), Some(None)) => {
                let known = Fault::ALL.map(Fault::as_str).join(", ");
                return wrong("after", format!("{after:?}"), format!("one of {known}"));
            }
            (_, fault) => fault.flatten(),
        };
        if !(1..=100).contains(&percentile) {
            return wrong("percentile", percentile.to_string(), "1 to 100".into());
        }
        if samples == 0 {
            return wrong("samples", "0".into(), "1 or more".into());
        }
        match (at_least, at_most) {
            (None, None) => wrong("at_most", "missing".into(), "`at_most`, `at_least` or both".into()),
            (Some(least), Some(most)) if least > most => {
                wrong("at_least", say(least), format!("at most `at_most`, which is {}", say(most)))
            }
            _ => Ok(Self { timing: found, after, percentile, at_least, at_most, samples }),
        }
    }
}

/// Result of evaluating an SLO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SloResult {
    /// Value of the percentile, in milliseconds; `None` without samples.
    pub value_ms: Option<u64>,
    /// Number of samples.
    pub count: usize,
    /// Why the SLO failed; `None` if it is met.
    pub problem: Option<String>,
}

impl Slo {
    /// Evaluates the SLO against the timings of a run.
    pub fn evaluate(&self, timings: &Timings) -> SloResult {
        let of_fault =
            |halt: &&crate::timing::GateClosing| self.after.is_none_or(|after| halt.after == after);
        let halts = || timings.halts.iter().filter(of_fault);
        let (samples, missed) = match self.timing {
            Timing::BlockInterval => (timings.block_interval.clone(), 0),
            Timing::ShorthandedInterval => (timings.shorthanded_interval.clone(), 0),
            Timing::ProposalToCertificate => (timings.proposal_to_certificate.clone(), 0),
            Timing::BackToBlock => (timings.back_to_block.clone(), 0),
            Timing::FaultToHalt => (
                halts().filter_map(|halt| halt.took_ms).collect(),
                halts().filter(|halt| halt.took_ms.is_none()).count(),
            ),
        };
        let (value_ms, count) = (percentile(&samples, self.percentile), samples.len());
        SloResult { value_ms, count, problem: self.problem(value_ms, (count, missed), timings) }
    }

    fn problem(
        &self,
        value_ms: Option<u64>,
        (count, missed): (usize, usize),
        timings: &Timings,
    ) -> Option<String> {
        if missed > 0 {
            return Some(format!("{missed} of {} gates that stayed open", count + missed));
        }
        if count < self.samples {
            return Some(format!("{count} of {} samples: {}", self.samples, self.why_few(timings)));
        }
        let value = Duration::from_millis(value_ms?);
        let is_off =
            self.at_least.is_some_and(|least| value < least) || self.at_most.is_some_and(|most| value > most);
        is_off.then(|| format!("{} of {count} samples", say(value)))
    }
}

impl Slo {
    /// Explains why there are too few samples: when samples are taken, or which steps produced none.
    fn why_few(&self, timings: &Timings) -> String {
        let waits = "between blocks after a `wait_…` that was met and before the next fault";
        match self.timing {
            Timing::BlockInterval => format!("they are taken with every member whole, {waits}"),
            Timing::ShorthandedInterval => {
                format!("they are taken with enough members, but not all, {waits}")
            }
            Timing::ProposalToCertificate => {
                "they are taken at proposers, of blocks they decided themselves".into()
            }
            Timing::BackToBlock => {
                "they are taken after steps that bring enough members together again".into()
            }
            Timing::FaultToHalt => {
                let is_own = |(_, fault): &&(usize, Fault)| self.after.is_none_or(|after| after == *fault);
                let without: Vec<_> = timings.without_halt.iter().filter(is_own).collect();
                let say = |(step, fault): &&(usize, Fault)| format!("{} (step {step})", fault.as_str());
                if without.is_empty() {
                    let fault = self.after.map_or("that takes members away", Fault::as_str);
                    return format!("the story has no other step {fault}");
                }
                let named: Vec<_> = without.iter().map(say).collect();
                format!("no gate had to close after {}, for enough members were left", named.join(", "))
            }
        }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} of {}", self.percentile, self.timing.as_str())?;
        if let Some(after) = self.after {
            write!(f, " after {}", after.as_str())?;
        }
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => write!(f, " from {} to {}", say(least), say(most)),
            (Some(least), None) => write!(f, " at least {}", say(least)),
            (None, most) => write!(f, " at most {}", say(most.unwrap_or_default())),
        }
    }
}

fn say(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::GateClosing;

    fn read(text: &str) -> Result<Slo, Wrong> {
        toml::from_str::<Written>(text).expect("the test's TOML has a bar's form").try_into()
    }

    #[test]
    fn what_is_wrong_with_a_bar_is_named_with_its_value_and_what_was_expected() {
        let table = [
            ("timing='slot'\npercentile=99\nat_most='1s'", "timing", "\"slot\"", "one of block_interval,"),
            ("timing='block_interval'\npercentile=0\nat_most='1s'", "percentile", "0", "1 to 100"),
            ("timing='block_interval'\npercentile=101\nat_most='1s'", "percentile", "101", "1 to 100"),
            ("timing='block_interval'\npercentile=50", "at_most", "missing", "`at_most`, `at_least` or both"),
            (
                "timing='block_interval'\npercentile=50\nat_least='3s'\nat_most='2s'",
                "at_least",
                "3s",
                "at most `at_most`, which is 2s",
            ),
            (
                "timing='fault_to_halt'\nafter='heal'\npercentile=99\nat_most='1s'",
                "after",
                "\"heal\"",
                "one of kill",
            ),
            (
                "timing='block_interval'\nafter='kill'\npercentile=99\nat_most='1s'",
                "after",
                "\"kill\"",
                "`timing` = \"fault_to_halt\" only",
            ),
            ("timing='block_interval'\npercentile=50\nat_most='1s'\nsamples=0", "samples", "0", "1 or more"),
        ];
        for (text, field, value, expected) in table {
            let wrong = read(text).expect_err(text);
            assert_eq!((wrong.field, wrong.value.as_str()), (field, value), "{text}");
            assert!(wrong.expected.contains(expected), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn a_bar_is_kept_between_its_ends_and_by_the_percentile_it_names() {
        let slo =
            read("timing='block_interval'\npercentile=50\nat_least='1950ms'\nat_most='2050ms'\nsamples=3");
        let slo = slo.expect("a bar");
        assert_eq!(slo.to_string(), "p50 of block_interval from 1s 950ms to 2s 50ms");
        let table: [(&[u64], Option<&str>); 6] = [
            (&[2_000, 1_950, 9_000], None),
            (&[1_950, 1_950, 2_050], None),
            (&[2_050, 2_050, 1_950], None),
            (&[2_051, 2_051, 2_000], Some("2s 51ms of 3 samples")),
            (&[1_949, 1_949, 2_000], Some("1s 949ms of 3 samples")),
            (
                &[2_000, 2_000],
                Some(
                    "2 of 3 samples: they are taken with every member whole, between blocks after a `wait_…` that was met and before the next fault",
                ),
            ),
        ];
        for (samples, problem) in table {
            let timings = Timings { block_interval: samples.to_vec(), ..Timings::default() };
            assert_eq!(slo.evaluate(&timings).problem.as_deref(), problem, "{samples:?}");
        }
    }

    #[test]
    fn a_bar_for_gates_looks_at_its_fault_only_and_is_broken_by_a_gate_that_never_closed() {
        let after = |after: &str| format!("timing='fault_to_halt'\n{after}percentile=99\nat_most='1500ms'");
        let pauses = read(&after("after='pause'\n")).expect("a bar");
        let all = read(&after("")).expect("a bar");
        assert_eq!(pauses.to_string(), "p99 of fault_to_halt after pause at most 1s 500ms");
        let mut timings = Timings::default();
        let none = "0 of 1 samples: the story has no other step that takes members away";
        assert_eq!(all.evaluate(&timings).problem.as_deref(), Some(none));
        timings.without_halt = vec![(2, Fault::Kill), (5, Fault::Pause)];
        let enough =
            "0 of 1 samples: no gate had to close after pause (step 5), for enough members were left";
        assert_eq!(pauses.evaluate(&timings).problem.as_deref(), Some(enough));
        timings.halts = vec![
            GateClosing { after: Fault::Kill, took_ms: Some(1_600) },
            GateClosing { after: Fault::Pause, took_ms: Some(900) },
        ];
        assert_eq!(pauses.evaluate(&timings), SloResult { value_ms: Some(900), count: 1, problem: None });
        assert_eq!(all.evaluate(&timings).problem.as_deref(), Some("1s 600ms of 2 samples"));
        timings.halts.push(GateClosing { after: Fault::Pause, took_ms: None });
        assert_eq!(pauses.evaluate(&timings).problem.as_deref(), Some("1 of 2 gates that stayed open"));
    }
}
