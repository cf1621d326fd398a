//! When the next height begins: one block time after this one did.
//!
//! Each member keeps its own beat and follows a faster one: a proposal for the next height that comes a
//! little before the own beat moves it. Without that, members that started at different moments would each
//! offer blocks on their own beat, and intervals would swing by the difference. A member can drag the beat
//! forward by a quarter of the block time at most, so that a proposer can not make the chain run faster than
//! that.
//!
//! ```text
//!   own beat     |----------- block time -----------|start
//!   proposal                                 x  follow: start now, the beat moves here
//!                                     ^ no earlier than a quarter before
//! ```

use std::time::Duration;

use alys_cluster::clock::Moment;

/// The beat of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    block_time: Duration,
    beat: Option<Moment>,
}

impl Pacing {
    /// No height has begun yet: the first one may at once.
    pub fn new(block_time: Duration) -> Self {
        Self { block_time, beat: None }
    }

    /// The moment from which the next height may begin, given that nothing else holds it up.
    pub fn due(&self) -> Moment {
        self.beat.map_or(Moment::ORIGIN, |beat| beat + self.block_time)
    }

    /// Whether a proposal for the next height, seen `now`, begins it.
    pub fn may_follow(&self, now: Moment) -> bool {
        self.beat.is_none_or(|beat| now >= beat + self.block_time * 3 / 4)
    }

    /// A height begins. If it is due for less than half a block time the beat goes on undisturbed, so that a
    /// moment's delay is not carried on for ever; otherwise the beat begins anew.
    pub fn begin(&mut self, now: Moment) {
        let due = self.due();
        let keeps = self.beat.is_some() && now >= due && now.since(due) < self.block_time / 2;
        self.beat = Some(if keeps { due } else { now });
    }

    /// A block was fetched from a peer: the next height is due at once.
    pub fn catch_up(&mut self) {
        self.beat = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    fn begun_at(ms: u64) -> Pacing {
        let mut pacing = Pacing::new(Duration::from_secs(2));
        pacing.begin(at(ms));
        pacing
    }

    #[test]
    fn the_first_height_is_due_at_once_and_the_next_one_block_time_later() {
        assert_eq!(Pacing::new(Duration::from_secs(2)).due(), Moment::ORIGIN);
        assert_eq!(begun_at(500).due(), at(2_500));
    }

    #[test]
    fn small_delays_do_not_add_up_and_long_ones_start_a_new_beat() {
        let mut pacing = begun_at(0);
        for n in 1..=100 {
            pacing.begin(at(n * 2_000 + 30));
            assert_eq!(pacing.due(), at((n + 1) * 2_000));
        }
        pacing.begin(at(500_000));
        assert_eq!(pacing.due(), at(502_000));
    }

    #[test]
    fn a_faster_member_is_followed_but_not_by_more_than_a_quarter() {
        let mut pacing = begun_at(0);
        assert!(!pacing.may_follow(at(1_499)));
        assert!(pacing.may_follow(at(1_500)));
        pacing.begin(at(1_900));
        assert_eq!(pacing.due(), at(3_900));
    }

    #[test]
    fn after_catching_up_the_next_height_is_due() {
        let mut pacing = begun_at(0);
        pacing.catch_up();
        assert_eq!(pacing.due(), Moment::ORIGIN);
    }
}
