//! What is refused is counted, and told at a bounded rate: whoever sends garbage must not fill the log with it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::id::NodeId;

/// Refusals told of one member, or of all strangers together, within [`WINDOW`].
const TOLD_MAX: u64 = 20;
/// See there.
const WINDOW: Duration = Duration::from_secs(1);
/// The longest reason that is told, in bytes: events are kept by the thousand.
const REASON_BYTES_MAX: usize = 1_024;

/// Lets some things be told and counts the others.
#[derive(Clone, Copy, Debug, Default)]
struct Throttle {
    since: Option<Moment>,
    told: u64,
    silenced: u64,
}

impl Throttle {
    /// Whether this one is told, and then how many before it were not.
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

/// Counts and tells refusals. Cheap to clone.
#[derive(Clone)]
pub struct RejectionLog(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    events: EventBus,
    total: AtomicU64,
    /// By member; `None` for strangers, who have no name that could be believed.
    throttles: Mutex<BTreeMap<Option<NodeId>, Throttle>>,
}

impl RejectionLog {
    /// Told to `events`.
    pub fn new(clock: Arc<dyn Clock>, events: EventBus) -> Self {
        Self(Arc::new(Shared { clock, events, total: AtomicU64::new(0), throttles: Mutex::default() }))
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    /// Something a member sent was refused.
    pub fn of_member(&self, peer: &NodeId, reason: &dyn Display) {
        self.refuse(Some(peer.clone()), peer, reason);
    }

    /// Something was refused that came from who knows whom.
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
