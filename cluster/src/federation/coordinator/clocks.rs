//! Estimates how far the clocks of members are apart.
//!
//! A pong carries its sender's wall clock, and arrives half a round trip later: the sender's clock then shows the
//! timestamp plus half the round trip. Of the last answers, the one with the shortest round trip has the smallest error
//! (Marzullo's filter, as in NTP). The error of this member's own clock is the median over its peers, which a tolerated
//! number of faulty peers can not control.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::WallTime;

/// Number of answers considered: two seconds at the default interval.
const SAMPLES_MAX: usize = 8;
/// Error in milliseconds above which this member's clock is wrong.
const WRONG_FROM: i64 = 500;
/// Error in milliseconds below which a wrong clock is right again.
const RIGHT_BELOW: i64 = 400;

/// Clock of one peer, according to its last answers.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerClock {
    /// Round trip and offset of each answer, in milliseconds; newest last.
    samples: VecDeque<(u64, i64)>,
}

impl PeerClock {
    /// Records an answer with timestamp `theirs` that arrived at `own` after this round trip.
    pub(super) fn heard(&mut self, theirs: WallTime, own: WallTime, round_trip: Duration) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        let round_trip = round_trip.as_millis() as u64;
        let shown = i128::from(theirs.0) + i128::from(round_trip / 2);
        let offset = (shown - i128::from(own.0)).clamp(i64::MIN.into(), i64::MAX.into());
        // A clock that was adjusted makes the earlier samples useless.
        let offset = i64::try_from(offset).expect("clamped");
        let is_set = self.offset().is_some_and(|before| before.abs_diff(offset) > round_trip + 250);
        if is_set {
            self.samples.clear();
        }
        self.samples.push_back((round_trip, offset));
    }

    /// Clears the samples of a peer that is not up.
    pub(super) fn forget(&mut self) {
        self.samples.clear();
    }

    /// How far the peer's clock is ahead of this member's, in milliseconds; negative if it is behind.
    pub(super) fn offset(&self) -> Option<i64> {
        self.samples.iter().min_by_key(|(round_trip, _)| *round_trip).map(|(_, offset)| *offset)
    }
}

/// How far this member's clock is ahead of the others', in milliseconds: the median over the `offsets` of peers, if at
/// least `least` of them are known. Of two middle values, the one with the smaller magnitude is used.
pub(super) fn own_error(mut offsets: Vec<i64>, least: usize) -> Option<i64> {
    if offsets.is_empty() || offsets.len() < least {
        return None;
    }
    offsets.sort_unstable();
    let (lower, upper) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
    let median = if lower.unsigned_abs() <= upper.unsigned_abs() { lower } else { upper };
    Some(median.saturating_neg())
}

/// Whether a clock with this error is wrong; the bound depends on whether it was wrong before (hysteresis).
pub(super) fn is_wrong(error_ms: i64, was_wrong: bool) -> bool {
    let bound = if was_wrong { RIGHT_BELOW } else { WRONG_FROM };
    error_ms.unsigned_abs() > bound.unsigned_abs()
}

/// Describes a wrong clock.
pub(super) fn reason(error_ms: i64) -> String {
    let (size, side) = (error_ms.unsigned_abs(), if error_ms > 0 { "ahead of" } else { "behind" });
    format!("its clock is {}.{} s {side} the median of its peers' clocks", size / 1_000, size / 100 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_with_the_shortest_round_trip_says_how_far_a_clock_is_ahead() {
        let mut clock = PeerClock::default();
        assert_eq!(clock.offset(), None);
        // Ahead by 1 s; the second answer was delayed by 180 ms on its way back.
        clock.heard(WallTime(11_010), WallTime(10_020), Duration::from_millis(20));
        clock.heard(WallTime(12_010), WallTime(11_200), Duration::from_millis(200));
        assert_eq!(clock.offset(), Some(1_000));
        // Set back to the right time: earlier samples are useless.
        clock.heard(WallTime(12_010), WallTime(12_020), Duration::from_millis(20));
        assert_eq!(clock.offset(), Some(0));
        clock.forget();
        assert_eq!(clock.offset(), None);
        clock.heard(WallTime(u64::MAX), WallTime(0), Duration::ZERO);
        assert_eq!(clock.offset(), Some(i64::MAX), "any time stamp is taken");
    }

    #[test]
    fn the_median_of_the_peers_says_how_wrong_the_own_clock_is() {
        for (offsets, error) in [
            (vec![], None),
            (vec![30_000], None),
            (vec![30_000, 30_010, 29_990], Some(-30_000)),
            (vec![0, 5, i64::MIN], Some(0)),
            (vec![-30_000, 5], Some(-5)),
            (vec![-3, 2, 40_000, 50_000], Some(-2)),
        ] {
            assert_eq!(own_error(offsets.clone(), 2), error, "{offsets:?}");
        }
        assert!(
            !is_wrong(500, false) && is_wrong(-501, false) && is_wrong(450, true) && !is_wrong(400, true)
        );
        assert_eq!(reason(-30_049), "its clock is 30.0 s behind the median of its peers' clocks");
    }
}
