//! Maps times to positions on an axis and chooses the axis's marks.

/// Allowed distances between marks, in milliseconds.
const DISTANCES_MS: [u64; 16] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000,
    1_800_000, 3_600_000,
];
/// Minimum distance between marks, in units of the drawing.
const MARK_DISTANCE_MIN: f64 = 64.0;
/// Maximum number of marks on an axis of any length.
const MARKS_MAX: u64 = 40;

/// Maps times to positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Time at the start of the axis, milliseconds since the run began.
    pub(super) from_ms: u64,
    /// Time at the end of the axis, milliseconds since the run began.
    pub(super) to_ms: u64,
    /// Position of the start of the axis.
    pub(super) left: f64,
    /// Position of the end of the axis.
    pub(super) right: f64,
}

/// A mark of the axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) label: String,
}

impl Scale {
    fn length_ms(&self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms).max(1)
    }

    /// Position of a time; times outside the axis are clamped to its ends.
    pub(super) fn x(&self, at_ms: u64) -> f64 {
        let since = at_ms.clamp(self.from_ms, self.to_ms.max(self.from_ms)) - self.from_ms;
        self.left + (self.right - self.left) * since as f64 / self.length_ms() as f64
    }

    /// Whether a time is on the axis.
    pub(super) fn shows(&self, at_ms: u64) -> bool {
        (self.from_ms..=self.to_ms).contains(&at_ms)
    }

    /// Marks at round times.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let length = self.length_ms();
        let distance_min = length as f64 * MARK_DISTANCE_MIN / (self.right - self.left).max(1.0);
        let found = DISTANCES_MS.into_iter().find(|distance| *distance as f64 >= distance_min);
        let distance = found.unwrap_or(u64::MAX).max(length / MARKS_MAX).max(1);
        let first = self.from_ms.div_ceil(distance);
        let moments = (first..=self.to_ms / distance).take(MARKS_MAX as usize + 1);
        moments.map(|n| n * distance).map(|at_ms| Mark { x: self.x(at_ms), label: moment(at_ms) }).collect()
    }
}

/// Formats a time of a run: `12 s`, `0.5 s`, `2:05`.
fn moment(at_ms: u64) -> String {
    match at_ms {
        120_000.. => format!("{}:{:02}", at_ms / 60_000, at_ms / 1_000 % 60),
        _ if at_ms.is_multiple_of(1_000) => format!("{} s", at_ms / 1_000),
        _ => format!("{:.1} s", at_ms as f64 / 1_000.0),
    }
}

/// Formats a duration: `0.88 s`, `12.3 s`, `4 min 05 s`.
pub(super) fn seconds(ms: u64) -> String {
    match ms {
        ..10_000 => format!("{:.2} s", ms as f64 / 1_000.0),
        10_000..120_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => format!("{} min {:02} s", ms / 60_000, ms / 1_000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scale(from_ms: u64, to_ms: u64) -> Scale {
        Scale { from_ms, to_ms, left: 100.0, right: 1_100.0 }
    }

    #[test]
    fn moments_have_their_places_and_none_is_beyond_an_end() {
        let table = [(0, 100.0), (30_000, 600.0), (60_000, 1_100.0), (90_000, 1_100.0)];
        for (at_ms, x) in table {
            assert!((scale(0, 60_000).x(at_ms) - x).abs() < 1e-9, "{at_ms}");
        }
        assert!((scale(5_000, 5_000).x(5_000) - 100.0).abs() < 1e-9, "an axis without length has a place");
    }

    #[test]
    fn marks_are_at_round_moments() {
        let labels =
            |from, to| scale(from, to).marks().into_iter().map(|mark| mark.label).collect::<Vec<_>>();
        assert_eq!(labels(0, 30_000)[..3], ["0 s", "2 s", "4 s"]);
        assert_eq!(labels(118_000, 132_000)[..3], ["118 s", "119 s", "2:00"]);
        assert_eq!(labels(0, 1_500)[..3], ["0 s", "0.1 s", "0.2 s"]);
    }

    #[test]
    fn durations_are_told_as_exactly_as_they_matter() {
        let told = [880, 12_340, 245_000].map(seconds);
        assert_eq!(told, ["0.88 s", "12.3 s", "4 min 05 s"]);
    }

    proptest! {
        #[test]
        fn marks_never_crowd_and_never_leave_the_axis(from in any::<u64>(), length in any::<u64>()) {
            let scale = scale(from, from.saturating_add(length));
            let marks = scale.marks();
            prop_assert!(marks.len() <= MARKS_MAX as usize + 1);
            for pair in marks.windows(2) {
                // Above about 2^53 milliseconds, neighbouring times have the same position.
                prop_assert!(pair[1].x > pair[0].x || length > 1 << 50);
            }
            prop_assert!(marks.iter().all(|mark| (100.0..=1_100.0).contains(&mark.x)));
        }
    }
}
