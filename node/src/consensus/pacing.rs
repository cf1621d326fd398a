//! Decides when the next height starts: one block time after the current one started.
//!
//! All members see the decided proposal at about the same time and count the next start from there, so that members
//! which started at different times are in step after the first decision. Three corrections apply:
//!
//! - If the proposal is seen shortly after this member's own start, the own start counts; otherwise the latency of a
//!   message would be added to every block.
//! - After a failed round the own start counts, so that the next slot makes up for the delay.
//! - A decision that took longer than a block time (because of a halt) starts a new schedule.
//!
//! A proposal for the next height that arrives before this member's own start is followed, but by at most a quarter of
//! the block time, so that a proposer can not make the chain run faster than that.
//!
//! ```text
//!   schedule     |----------- block time -----------| start
//!   proposal                                 x  follow: start now
//!                                     ^ no earlier than a quarter before
//! ```

use std::time::Duration;

use alys_cluster::clock::Moment;

/// The height schedule of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    block_time: Duration,
    begun: Moment,
    /// Time from which the next height is counted; `None` if it may start at any time.
    anchor: Option<Moment>,
    may_follow_from: Moment,
}

impl Pacing {
    /// Creates a schedule without heights: the first one may start at once.
    pub fn new(block_time: Duration) -> Self {
        Self { block_time, begun: Moment::ORIGIN, anchor: None, may_follow_from: Moment::ORIGIN }
    }

    /// Time between two heights.
    pub fn block_time(&self) -> Duration {
        self.block_time
    }

    /// Earliest time at which the next height may start, unless something else delays it.
    pub fn due(&self) -> Moment {
        self.anchor.map_or(Moment::ORIGIN, |anchor| anchor + self.block_time)
    }

    /// Whether a proposal for the next height, seen at `now`, starts it.
    pub fn may_follow(&self, now: Moment) -> bool {
        now >= self.may_follow_from
    }

    /// Starts a height. A start that is only slightly late counts as punctual.
    pub fn begin(&mut self, now: Moment) {
        let due = self.due();
        let punctual = self.anchor.is_some() && now >= due && now.since(due) <= self.slack();
        self.begun = if punctual { due } else { now };
    }

    /// A height was decided at `now` in `round`. Its proposal was seen at `seen`, if at all.
    pub fn decided(&mut self, now: Moment, round: u32, seen: Option<Moment>) {
        // A proposal that is sent early does not advance the schedule: it counts from when it could be followed.
        let seen = seen.unwrap_or(now).max(self.may_follow_from.min(now));
        let anchor = if round == 0 {
            let near_own = seen >= self.begun && seen.since(self.begun) <= self.slack();
            if near_own { self.begun } else { seen }
        } else if now.since(self.begun) <= self.block_time / 2 {
            self.begun
        } else {
            seen
        };
        let anchor = if now.since(anchor) >= self.block_time { now } else { anchor };
        self.anchor = Some(anchor);
        self.may_follow_from = anchor + self.block_time * 3 / 4;
    }

    /// A block was fetched from a peer at `now`. When the others start the next height is unknown: their proposal is
    /// followed at any time, and waited for up to a block time.
    pub fn catch_up(&mut self, now: Moment) {
        self.anchor = Some(now);
        self.may_follow_from = now;
    }

    /// Tolerance within which two times count as equal.
    fn slack(&self) -> Duration {
        self.block_time / 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    /// A member that starts a height at `begin_ms`, sees the proposal at `seen_ms`, and decides 30 ms later in round 0.
    fn height(pacing: &mut Pacing, begin_ms: u64, seen_ms: u64) {
        pacing.begin(at(begin_ms));
        pacing.decided(at(seen_ms.max(begin_ms) + 30), 0, Some(at(seen_ms)));
    }

    fn pacing() -> Pacing {
        Pacing::new(Duration::from_secs(2))
    }

    #[test]
    fn the_first_height_is_due_at_once_and_the_next_one_block_time_later() {
        let mut pacing = pacing();
        assert_eq!(pacing.due(), Moment::ORIGIN);
        height(&mut pacing, 500, 500);
        assert_eq!(pacing.due(), at(2_500));
    }

    #[test]
    fn neither_the_tick_nor_the_way_of_a_proposal_slows_the_beat() {
        let mut pacing = pacing();
        height(&mut pacing, 0, 5);
        for n in 1..=100 {
            height(&mut pacing, n * 2_000 + 18, n * 2_000 + 25);
            assert_eq!(pacing.due(), at((n + 1) * 2_000));
        }
    }

    #[test]
    fn members_that_began_apart_fall_into_step_with_the_first_decision() {
        let (mut early, mut late) = (pacing(), pacing());
        early.begin(at(0));
        late.begin(at(1_900));
        // The early member proposed at 0; the late one saw that at once but could only vote at 1,900.
        early.decided(at(1_930), 0, Some(at(0)));
        late.decided(at(1_930), 0, Some(at(3)));
        assert_eq!((early.due(), late.due()), (at(2_000), at(2_003)));
    }

    #[test]
    fn a_failed_round_is_made_up_in_the_next_slot() {
        let mut pacing = pacing();
        height(&mut pacing, 0, 0);
        pacing.begin(at(2_000));
        pacing.decided(at(2_680), 1, Some(at(2_650)));
        assert_eq!(pacing.due(), at(4_000));
    }

    #[test]
    fn a_halt_starts_a_new_beat_for_everyone_with_the_decision() {
        let (mut held_up, mut paused) = (pacing(), pacing());
        held_up.begin(at(2_000));
        paused.begin(at(13_950));
        held_up.decided(at(14_000), 0, Some(at(2_000)));
        paused.decided(at(14_001), 0, Some(at(13_950)));
        assert_eq!((held_up.due(), paused.due()), (at(16_000), at(15_950)));
    }

    #[test]
    fn a_faster_member_is_followed_but_not_by_more_than_a_quarter() {
        let mut pacing = pacing();
        height(&mut pacing, 0, 0);
        assert!(!pacing.may_follow(at(1_499)));
        assert!(pacing.may_follow(at(1_500)));
        height(&mut pacing, 1_900, 1_900);
        assert_eq!(pacing.due(), at(3_900));
    }

    #[test]
    fn a_proposal_sent_far_ahead_of_its_time_does_not_make_the_chain_run_faster_than_by_a_quarter() {
        let mut pacing = pacing();
        height(&mut pacing, 0, 0);
        for n in 1..10 {
            let begins = n * 1_500;
            assert!(!pacing.may_follow(at(begins - 1)), "height {n}");
            // Sent as soon as the previous height was decided.
            height(&mut pacing, begins, begins - 1_400);
        }
    }

    #[test]
    fn after_catching_up_any_proposal_is_followed_and_none_waited_for_too_long() {
        let mut pacing = pacing();
        height(&mut pacing, 0, 0);
        pacing.catch_up(at(900));
        assert!(pacing.may_follow(at(901)));
        assert_eq!(pacing.due(), at(2_900));
    }
}
