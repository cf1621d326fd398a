//! Which later start of this member is believed, of those that peers say they know.
//!
//! More peers than may lie are believed at once: one of them has met a later start, so that this process runs on an older copy
//! of what that one wrote. Fewer are believed only after a while, and seldom, and only as far as the number goes: a copy of this
//! member that one peer alone admitted has this process refused there for ever. They may be lying, so this member keeps its
//! memory: else one liar could have every other member sign nothing for some heights, and the federation halt.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{Moment, WallTime};
use crate::federation::believed;
use crate::id::{Incarnation, NodeId};

/// How far ahead of the wall clock the number of a start may be that fewer peers claim than may lie, in seconds: a lie must not
/// use up the numbers that are left. More are believed whatever they claim, for one of them has met that start.
const DAY_SECS: u64 = 24 * 60 * 60;
/// How long fewer must go on claiming the same.
const INSISTED: Duration = Duration::from_mins(1);
/// A claim that is not repeated for so long begins anew.
const FORGOTTEN: Duration = Duration::from_mins(2);
/// How long this process must have run before fewer are believed.
const SETTLED: Duration = Duration::from_mins(10);

/// A later start of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterStart {
    /// Its number.
    pub incarnation: Incarnation,
    /// Whether one of those who claim it is honest for certain.
    pub is_certain: bool,
}

struct Claim {
    newest: Incarnation,
    since: Moment,
    repeated: Moment,
}

/// What peers claim.
pub(super) struct Claims {
    own: Incarnation,
    tolerated: usize,
    started: Moment,
    of: BTreeMap<NodeId, Claim>,
}

impl Claims {
    /// None yet, of a process that is start `own` and began at `started`. `tolerated` peers may lie.
    pub(super) fn new(own: Incarnation, tolerated: usize, started: Moment) -> Self {
        Self { own, tolerated, started, of: BTreeMap::new() }
    }

    /// A peer refused this process, for it knows `newest`: gives the start that is believed, if one is. Claims that were not
    /// repeated for two minutes count no more.
    pub(super) fn hear(
        &mut self,
        now: Moment,
        wall: WallTime,
        peer: &NodeId,
        newest: Incarnation,
    ) -> Option<LaterStart> {
        self.of.retain(|other, claim| other == peer || now.since(claim.repeated) <= FORGOTTEN);
        let claim = self.of.entry(peer.clone()).or_insert(Claim { newest, since: now, repeated: now });
        if claim.newest != newest || now.since(claim.repeated) > FORGOTTEN {
            claim.since = now;
        }
        (claim.newest, claim.repeated) = (newest, now);
        let has_insisted = now.since(claim.since) >= INSISTED && now.since(self.started) >= SETTLED;
        let is_near = newest.0 <= (wall.0 / 1_000).saturating_add(DAY_SECS);
        let claims = self.of.values().map(|claim| claim.newest).filter(|claim| *claim >= self.own);
        let certain = believed(claims.collect(), self.tolerated);
        let insisted = Some(newest).filter(|newest| has_insisted && is_near && *newest >= self.own);
        let certain = certain.map(|incarnation| LaterStart { incarnation, is_certain: true });
        certain.or_else(|| insisted.map(|incarnation| LaterStart { incarnation, is_certain: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: WallTime = WallTime(1_000_000);

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn peer(n: usize) -> NodeId {
        NodeId::new(&format!("node-{n}")).expect("a name")
    }

    fn claims() -> Claims {
        Claims::new(Incarnation(100), 1, at(0))
    }

    #[test]
    fn one_peer_that_lies_about_this_member_s_starts_changes_nothing() {
        for (told, found) in [
            (&[] as &[u64], None),
            (&[900], None),
            (&[900, 90], None),
            (&[900, 99], None),
            (&[900, 100], Some(100)),
            (&[u64::MAX, 1_000_000_000, 900], Some(1_000_000_000)),
            (&[200, 200], Some(200)),
            (&[200, 900], Some(200)),
            (&[900, 210, 200], Some(210)),
        ] {
            let mut claims = claims();
            let heard =
                (1..).zip(told).map(|(n, newest)| claims.hear(at(9), WALL, &peer(n), Incarnation(*newest)));
            let found = found.map(|found| LaterStart { incarnation: Incarnation(found), is_certain: true });
            assert_eq!(heard.last().flatten(), found, "{told:?}");
        }
    }

    #[test]
    fn claims_of_long_ago_make_no_liar_certain() {
        let mut claims = claims();
        assert_eq!(claims.hear(at(5), WALL, &peer(1), Incarnation(900)), None);
        assert_eq!(claims.hear(at(5 + 121), WALL, &peer(2), Incarnation(900)), None);
        let certain = LaterStart { incarnation: Incarnation(900), is_certain: true };
        assert_eq!(claims.hear(at(5 + 122), WALL, &peer(1), Incarnation(900)), Some(certain));
    }

    #[test]
    fn one_peer_that_insists_is_believed_after_a_while_and_seldom_and_costs_no_memory() {
        let hear =
            |claims: &mut Claims, secs, newest| claims.hear(at(secs), WALL, &peer(1), Incarnation(newest));
        // Every 10 s from the start on.
        let mut insists = claims();
        let first = (0..2_000).step_by(10).find(|secs| hear(&mut insists, *secs, 900).is_some());
        assert_eq!(first, Some(600), "this process has run for ten minutes");
        let insisted = LaterStart { incarnation: Incarnation(900), is_certain: false };
        assert_eq!(hear(&mut insists, 600, 900), Some(insisted));
        let mut late = claims();
        let first = (5_000..7_000).step_by(10).find(|secs| hear(&mut late, *secs, 900).is_some());
        assert_eq!(first, Some(5_060), "it has insisted for a minute");
        let mut now_and_then = claims();
        assert_eq!((5_000..9_000).step_by(130).find_map(|secs| hear(&mut now_and_then, secs, 900)), None);
        let mut fickle = claims();
        assert_eq!((5_000..9_000).step_by(10).find_map(|secs| hear(&mut fickle, secs, secs)), None);
        for impossible in [99, 1_001 + DAY_SECS] {
            let mut claims = claims();
            assert_eq!((5_000..9_000).step_by(10).find_map(|secs| hear(&mut claims, secs, impossible)), None);
        }
    }
}
