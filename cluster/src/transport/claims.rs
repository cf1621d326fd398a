//! Decides which later incarnation of this member to believe in, given what peers claim.
//!
//! If more peers claim one than may be faulty, the claim is accepted at once: at least one honest peer has met a later
//! incarnation, so this process runs on an older copy of that incarnation's data. A claim by fewer peers is accepted
//! only after a delay, rarely, and only for the incarnation number. It can not be ignored: a peer that alone admitted a
//! copy of this member refuses this process for ever. Because such a claim may be a lie, this member keeps its signing
//! memory; otherwise one lying peer could stop every other member from signing for some heights and halt the
//! federation.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{Moment, WallTime};
use crate::federation::believed;
use crate::id::{Incarnation, NodeId};

/// Maximum lead, in seconds, of a claimed incarnation over the wall clock if no more peers claim it than may be faulty:
/// a lie must not use up the remaining incarnation numbers. Claims by more peers have no such limit, because at least
/// one of those peers has met that incarnation.
const DAY_SECS: u64 = 24 * 60 * 60;
/// How long a peer must repeat the same claim before it is accepted without being certain.
const INSISTED: Duration = Duration::from_mins(1);
/// A claim not repeated for this long starts over.
const FORGOTTEN: Duration = Duration::from_mins(2);
/// Minimum uptime of this process before claims that are not certain are accepted.
const SETTLED: Duration = Duration::from_mins(10);

/// A later incarnation of this member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaterStart {
    /// Incarnation number.
    pub incarnation: Incarnation,
    /// Whether at least one honest peer claims it.
    pub is_certain: bool,
}

struct Claim {
    newest: Incarnation,
    since: Moment,
    repeated: Moment,
}

/// Claims of peers about later incarnations of this member.
pub(super) struct Claims {
    own: Incarnation,
    tolerated: usize,
    started: Moment,
    of: BTreeMap<NodeId, Claim>,
}

impl Claims {
    /// Creates an empty set for incarnation `own`, which started at `started`. Up to `tolerated` peers may be faulty.
    pub(super) fn new(own: Incarnation, tolerated: usize, started: Moment) -> Self {
        Self { own, tolerated, started, of: BTreeMap::new() }
    }

    /// Records that `peer` refused this process because it knows `newest`; returns the accepted later incarnation, if
    /// any. Claims not repeated for two minutes are ignored.
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
