//! Bounded history of failures and restarts: the last ones and the totals of each actor, and the patterns among them.
//! When it is full, the actor that failed longest ago is dropped first.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;

use super::decision::DecisionRecord;
use super::decision::RestartThrottle;
use super::escalation::EscalationStep;
use super::failure::Failure;
use super::pattern::{DetectedPattern, Evidence, FailurePatternDetector, PatternConfig};
use crate::clock::{Moment, WallTime};
use crate::id::ActorName;

/// Maximum number of actors in the history.
pub const ACTORS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Maximum number of failures kept per actor.
pub const ATTEMPTS_MAX: usize = 16;

/// One failure and the decision about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartAttemptInfo {
    /// Time of the decision.
    pub at: WallTime,
    /// Failure that occurred.
    pub failure: Failure,
    /// Escalation step that was taken.
    pub step: EscalationStep,
    /// Number of this restart in a row, from 1.
    pub attempt: u32,
    /// Delay before the restart.
    pub delay: Duration,
    /// Downtime of the actor; `None` until it runs again.
    pub away: Option<Duration>,
}

/// Totals of an actor since it entered the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartStatistics {
    /// Number of failures.
    pub failures: u64,
    /// Number of restarts decided.
    pub restarts: u64,
    /// Number of decisions other than a restart.
    pub escalations: u64,
    /// Number of restarts after which the actor ran.
    pub recoveries: u64,
    /// Total downtime before those recoveries.
    pub away: Duration,
}

/// History of one actor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActorHistory {
    /// Totals.
    pub statistics: RestartStatistics,
    /// Last failures, oldest first.
    pub attempts: VecDeque<RestartAttemptInfo>,
    failed_at: Option<Moment>,
}

/// Size of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Number of actors in the history.
    pub actors: usize,
    /// Number of failures kept for all actors together.
    pub attempts: usize,
    /// Number of actors dropped to make room.
    pub forgotten: u64,
}

#[derive(Debug)]
struct Inner {
    histories: LruCache<ActorName, ActorHistory>,
    forgotten: u64,
    detector: FailurePatternDetector,
}

/// Failure history of all supervisors of a node. Cheap to clone; all clones share one history.
#[derive(Clone, Debug)]
pub struct SupervisionMemory(Arc<Mutex<Inner>>);

impl SupervisionMemory {
    /// An empty history with a detector for `patterns`.
    pub fn new(patterns: PatternConfig) -> Self {
        let (histories, detector) = (LruCache::new(ACTORS_MAX), FailurePatternDetector::new(patterns));
        Self(Arc::new(Mutex::new(Inner { histories, forgotten: 0, detector })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a failure to the pattern detector.
    pub fn observe(&self, seen: Evidence, depends_on: &[ActorName]) -> RestartThrottle {
        self.inner().detector.observe(seen, depends_on)
    }

    /// Records a decision.
    pub fn decided(&self, at: WallTime, record: &DecisionRecord) {
        let mut inner = self.inner();
        if inner.histories.len() == ACTORS_MAX.get() && !inner.histories.contains(&record.child) {
            inner.forgotten += 1;
        }
        let history = inner.histories.get_or_insert_mut(record.child.clone(), ActorHistory::default);
        let (step, now) = (record.decision.step, record.inputs.now);
        let restarts = step.is_restart();
        history.statistics.failures += 1;
        history.statistics.restarts += u64::from(restarts);
        history.statistics.escalations += u64::from(!restarts);
        history.failed_at.get_or_insert(now);
        if history.attempts.len() == ATTEMPTS_MAX {
            history.attempts.pop_front();
        }
        history.attempts.push_back(RestartAttemptInfo {
            at,
            failure: record.failure.clone(),
            step,
            attempt: record.inputs.attempt,
            delay: record.decision.due.since(now),
            away: None,
        });
    }

    /// Records that the actor runs again.
    pub fn recovered(&self, now: Moment, actor: &ActorName) {
        let mut inner = self.inner();
        let Some(history) = inner.histories.peek_mut(actor) else { return };
        let Some(failed_at) = history.failed_at.take() else { return };
        let away = now.since(failed_at);
        history.statistics.recoveries += 1;
        history.statistics.away += away;
        if let Some(last) = history.attempts.back_mut() {
            last.away = Some(away);
        }
    }

    /// The history of every actor, most recently failed first.
    pub fn histories(&self) -> Vec<(ActorName, ActorHistory)> {
        self.inner().histories.iter().map(|(name, history)| (name.clone(), history.clone())).collect()
    }

    /// The history of one actor.
    pub fn history(&self, actor: &ActorName) -> Option<ActorHistory> {
        self.inner().histories.peek(actor).cloned()
    }

    /// The patterns within the window, most recently seen first.
    pub fn findings(&self, now: Moment) -> Vec<DetectedPattern> {
        self.inner().detector.findings(now)
    }

    /// The current size of the history.
    pub fn usage(&self) -> MemoryUse {
        let inner = self.inner();
        MemoryUse {
            actors: inner.histories.len(),
            attempts: inner.histories.iter().map(|(_, history)| history.attempts.len()).sum(),
            forgotten: inner.forgotten,
        }
    }
}
