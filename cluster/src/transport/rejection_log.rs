//! Counts rejections and reports them at a bounded rate: a peer that sends garbage must not fill the log.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::id::NodeId;

/// Maximum number of rejections reported within [`WINDOW`], per member and for all unauthenticated peers together.
const TOLD_MAX: u64 = 20;
/// Length of one rate limiting window.
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum length of a reported reason, in bytes: events are kept by the thousand.
const REASON_BYTES_MAX: usize = 1_024;

/// Rate limiter that counts what it suppresses.
#[derive(Clone, Copy, Debug, Default)]
struct Throttle {
    since: Option<Moment>,
    told: u64,
    silenced: u64,
}

impl Throttle {
    /// Returns whether to report this rejection: `Some` with the number suppressed before it, or `None`.
    fn tell(&mut self, now: Moment) -> Option<u64> {
        if self.since.is_none_or(|since| now.since(since) >= WINDOW) {
            let silenced = self.silenced;
            *self = Self { since: Some(now), told: 1, silenced: 0 };
            return Some(silenced);
        }
        if self.told < TOLD_MAX {
            self.told += 1;
            return Some(0);
        }
        self.silenced += 1;
        None
    }
}

/// Counts and reports rejections. Cheap to clone.
#[derive(Clone)]
pub struct RejectionLog(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    events: EventBus,
    total: AtomicU64,
    /// Rate limiters by member; `None` for unauthenticated peers, whose claimed names can not be trusted.
    throttles: Mutex<BTreeMap<Option<NodeId>, Throttle>>,
}

impl RejectionLog {
    /// Creates a log that reports to `events`.
    pub fn new(clock: Arc<dyn Clock>, events: EventBus) -> Self {
        Self(Arc::new(Shared { clock, events, total: AtomicU64::new(0), throttles: Mutex::default() }))
    }

    /// Total number of rejections.
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Records the rejection of something a member sent.
    pub fn of_member(&self, peer: &NodeId, reason: &dyn Display) {
        self.refuse(Some(peer.clone()), peer, reason);
    }

    /// Records the rejection of something an unauthenticated peer sent.
    pub fn of_stranger(&self, from: &dyn Display, reason: &dyn Display) {
        self.refuse(None, from, reason);
    }

    fn refuse(&self, key: Option<NodeId>, from: &dyn Display, reason: &dyn Display) {
        self.0.total.fetch_add(1, Ordering::Relaxed);
        let now = self.0.clock.now();
        let mut throttles = self.0.throttles.lock().unwrap_or_else(PoisonError::into_inner);
        let told = throttles.entry(key).or_default().tell(now);
        drop(throttles);
        if let Some(silenced) = told {
            let more = if silenced > 0 { format!(" (and {silenced} more before)") } else { String::new() };
            let mut reason = reason.to_string();
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            let (peer, reason) = (from.to_string(), format!("{reason}{more}"));
            self.0.events.tell(ClusterEvent::LinkRefused { peer, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn a_flood_is_told_at_a_bounded_rate_with_the_number_left_out_and_hides_no_member() {
        let clock = Arc::new(ManualClock::default());
        let events = EventBus::new(clock.clone());
        let mut told = events.listen();
        let rejections = RejectionLog::new(clock.clone(), events);
        for _ in 0..1_000 {
            rejections.of_stranger(&"1.2.3.4:5", &"garbage");
        }
        let node = NodeId::new("node-2").expect("a name");
        rejections.of_member(&node, &"no such actor");
        clock.advance(WINDOW);
        rejections.of_stranger(&"1.2.3.4:5", &"garbage");
        let mut texts = vec![];
        while let Ok(recorded) = told.try_recv() {
            texts.push(recorded.event.to_string());
        }
        assert_eq!((texts.len() as u64, rejections.total()), (TOLD_MAX + 2, 1_002));
        assert!(texts[TOLD_MAX as usize].contains("node-2"), "{texts:?}");
        assert!(texts.last().is_some_and(|text| text.contains("(and 980 more before)")), "{texts:?}");
    }
}
