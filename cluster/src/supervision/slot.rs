//! Slot timing for supervision: when slots begin, and two ways to align a restart to them.
//!
//! The specification rounds a *delay* up to whole block intervals ([`align_delay_to_block_boundary`]): a delay of 100
//! ms becomes one block time, whenever it begins. This keeps restarts at least one slot apart, but they can fall
//! anywhere in a slot. [`SlotTiming::next_boundary`] aligns the *moment* instead: the restart happens when the chain's
//! next slot begins.
//!
//! ```text
//!   fails            slot begins                     slot begins
//!     x                   |///window///                   |///window///
//!     |- next_boundary -->|
//!     |- delay rounded up to 2 s ------->|
//! ```
//!
//! The consensus window is the part of a slot in which the members propose and vote. A restart exactly at the boundary
//! lies outside the window: the actor is back when the window opens.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::Moment;

/// Rounds `delay` up to whole block intervals; zero stays zero. The delay is unchanged if its milliseconds exceed 64
/// bits or the block time is below 1 ms.
///
/// This is the specification's `align_delay_to_block_boundary`, which counts in milliseconds; a fraction of one is
/// rounded up.
pub fn align_delay_to_block_boundary(delay: Duration, block_time: Duration) -> Duration {
    let block_ms = u64::try_from(block_time.as_millis()).unwrap_or(u64::MAX);
    let delay_ms = u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    match delay_ms.checked_next_multiple_of(block_ms) {
        Some(aligned) => Duration::from_millis(aligned),
        None => delay,
    }
}

/// Start times of the slots on this process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotTiming {
    /// Start of any slot, past or future.
    pub boundary: Moment,
    /// Length of a slot; more than zero.
    pub block_time: Duration,
}

fn nanos(duration: Duration) -> u64 {
    // Enough for 584 years.
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl SlotTiming {
    fn phase(&self) -> u64 {
        nanos(self.boundary.since(Moment::ORIGIN)) % nanos(self.block_time)
    }

    /// The first boundary at or after `at`.
    pub fn next_boundary(&self, at: Moment) -> Moment {
        let (at, block, phase) = (nanos(at.since(Moment::ORIGIN)), nanos(self.block_time), self.phase());
        let next = at.saturating_sub(phase).div_ceil(block).saturating_mul(block).saturating_add(phase);
        Moment::at(Duration::from_nanos(next))
    }

    /// Number of boundaries after `from` and before `to`: slots that begin while an actor is down from `from` to `to`.
    pub fn missed(&self, from: Moment, to: Moment) -> u64 {
        let first = self.next_boundary(from + Duration::from_nanos(1));
        match nanos(to.since(Moment::ORIGIN)).checked_sub(nanos(first.since(Moment::ORIGIN))) {
            None | Some(0) => 0,
            Some(span) => span.div_ceil(nanos(self.block_time)),
        }
    }

    /// `at`, or the end of the consensus window that contains `at`. The window is open at both ends.
    pub fn after_window(&self, at: Moment, window: Duration) -> Moment {
        let (moment, block, phase) = (nanos(at.since(Moment::ORIGIN)), nanos(self.block_time), self.phase());
        // Before the first boundary since the origin: the current slot began before the origin.
        let into = if moment >= phase { (moment - phase) % block } else { block - (phase - moment) };
        let window = nanos(window).min(block);
        if into > 0 && into < window { at + Duration::from_nanos(window - into) } else { at }
    }
}

/// Slots a child misses because a failure pattern delays its restart, beyond those the restart would miss anyway. They
/// are not charged to the budget of missed slots: a pattern delays a restart but never refuses one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spared {
    /// Number of slots in the pauses before the last one.
    before: u64,
    from: Moment,
    until: Moment,
}

impl Spared {
    /// Number of slots missed from `away` to `to` that are not charged.
    pub(super) fn count(&self, slots: &SlotTiming, away: Moment, to: Moment) -> u64 {
        let until = self.until.min(to);
        let from = self.from.min(until);
        let last = slots.missed(away, until).saturating_sub(slots.missed(away, from));
        self.before.min(slots.missed(away, from)) + last
    }

    /// Adds a pause of a child that is down since `away`. Overlapping pauses count once.
    pub(super) fn and(self, slots: &SlotTiming, away: Moment, (from, until): (Moment, Moment)) -> Self {
        let from = from.max(self.until);
        if until <= from {
            return self;
        }
        Self { before: self.count(slots, away, from), from, until }
    }
}

/// Slot timing as last set by the chain actor; unknown before the first slot.
#[derive(Clone, Debug, Default)]
pub struct SlotReader(Arc<RwLock<Option<SlotTiming>>>);

impl SlotReader {
    /// The current timing, if known.
    pub fn timing(&self) -> Option<SlotTiming> {
        // Slots of zero length have no boundaries.
        self.0.read().unwrap_or_else(PoisonError::into_inner).filter(|timing| !timing.block_time.is_zero())
    }

    /// Sets the slot timing.
    pub fn set(&self, timing: SlotTiming) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(timing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Duration = Duration::from_secs(2);

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn timing(boundary_ms: u64) -> SlotTiming {
        SlotTiming { boundary: at(boundary_ms), block_time: BLOCK }
    }

    #[test]
    fn delays_are_rounded_up_to_whole_blocks() {
        for (delay_ms, aligned_ms) in [(0, 0), (1, 2_000), (1_999, 2_000), (2_000, 2_000), (2_001, 4_000)] {
            let aligned = align_delay_to_block_boundary(Duration::from_millis(delay_ms), BLOCK);
            assert_eq!(aligned, Duration::from_millis(aligned_ms), "{delay_ms} ms");
        }
        assert_eq!(align_delay_to_block_boundary(Duration::from_nanos(1), BLOCK), BLOCK);
        assert_eq!(align_delay_to_block_boundary(Duration::MAX, BLOCK), Duration::MAX);
        assert_eq!(align_delay_to_block_boundary(BLOCK, Duration::ZERO), BLOCK);
    }

    #[test]
    fn moments_are_aligned_to_the_next_boundary_whichever_boundary_is_known() {
        for known in [700, 2_700, 10_700] {
            for (moment, boundary) in [(0, 700), (700, 700), (701, 2_700), (2_699, 2_700), (9_000, 10_700)] {
                assert_eq!(timing(known).next_boundary(at(moment)), at(boundary), "{known} {moment}");
            }
        }
    }

    #[test]
    fn slots_that_begin_while_an_actor_is_away_are_missed() {
        for (from, to, missed) in
            [(100, 600, 0), (600, 700, 0), (600, 701, 1), (700, 2_700, 0), (600, 4_701, 3), (900, 800, 0)]
        {
            assert_eq!(timing(700).missed(at(from), at(to)), missed, "{from} to {to}");
        }
    }

    #[test]
    fn slots_in_a_pause_are_spared_once_and_only_after_the_actor_went_away() {
        let slots = timing(0);
        let pause = |from, until| (at(from), at(until));
        let spared = |pauses: &[(Moment, Moment)]| {
            pauses.iter().fold(Spared::default(), |spared, pause| spared.and(&slots, at(1_000), *pause))
        };
        for (pauses, away, to, count) in [
            (vec![], 1_000, 9_000, 0),
            // Boundaries at 4, 6 and 8 s.
            (vec![pause(3_000, 9_000)], 1_000, 9_000, 3),
            (vec![pause(3_000, 9_000)], 5_000, 9_000, 2),
            (vec![pause(3_000, 9_000)], 9_500, 15_000, 0),
            (vec![pause(3_000, 9_000)], 1_000, 7_000, 2),
            // The pause begins at a boundary, which the restart would have met anyway.
            (vec![pause(2_000, 8_000)], 1_000, 8_001, 3),
            (vec![pause(3_000, 9_000), pause(5_000, 9_000)], 1_000, 9_000, 3),
            (vec![pause(3_000, 9_000), pause(5_000, 11_000)], 1_000, 11_000, 4),
            (vec![pause(3_000, 5_000), pause(7_000, 9_000)], 1_000, 9_000, 2),
            (vec![pause(3_000, 5_000), pause(7_000, 9_000)], 6_500, 9_000, 1),
        ] {
            assert_eq!(spared(&pauses).count(&slots, at(away), at(to)), count, "{pauses:?} {away} {to}");
        }
    }

    #[test]
    fn a_moment_inside_the_window_is_put_off_to_its_end_and_the_boundary_is_outside() {
        let window = Duration::from_millis(600);
        for (moment, after) in
            [(700, 700), (701, 1_300), (1_299, 1_300), (1_300, 1_300), (2_000, 2_000), (2_800, 3_300)]
        {
            assert_eq!(timing(4_700).after_window(at(moment), window), at(after), "{moment}");
        }
        assert_eq!(
            timing(1_900).after_window(at(100), window),
            at(500),
            "a slot that began before the clock"
        );
    }
}
