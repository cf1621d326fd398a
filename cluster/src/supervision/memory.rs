//! What is remembered of failures and restarts: of each actor the last ones and their sums, and the patterns
//! among them. Bounded: the actor that failed longest ago is forgotten first.

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

/// Actors remembered.
pub const ACTORS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Failures remembered of each.
pub const ATTEMPTS_MAX: usize = 16;

/// One failure and what was decided about it.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartAttemptInfo {
    /// When.
    pub at: WallTime,
    /// What happened.
    pub failure: Failure,
    /// What was decided.
    pub step: EscalationStep,
    /// Which restart in a row it was, from 1.
    pub attempt: u32,
    /// How long the restart was put off.
    pub delay: Duration,
    /// How long the actor was away, once it runs again.
    pub away: Option<Duration>,
}

/// Sums over everything that was seen of an actor since it was last forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestartStatistics {
    /// Failures.
    pub failures: u64,
    /// Restarts decided.
    pub restarts: u64,
    /// Decisions other than a restart.
    pub escalations: u64,
    /// Restarts after which it ran.
    pub recoveries: u64,
    /// Time away before those.
    pub away: Duration,
}

/// What is remembered of one actor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ActorHistory {
    /// Its sums.
    pub statistics: RestartStatistics,
    /// Its last failures, oldest first.
    pub attempts: VecDeque<RestartAttemptInfo>,
    failed_at: Option<Moment>,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// Actors remembered.
    pub actors: usize,
    /// Failures remembered of all of them.
    pub attempts: usize,
    /// Actors forgotten to make room.
    pub forgotten: u64,
}

#[derive(Debug)]
struct Inner {
    histories: LruCache<ActorName, ActorHistory>,
    forgotten: u64,
    detector: FailurePatternDetector,
}

/// The memory of all supervisors of a node. Cheap to clone; everyone sees the same.
#[derive(Clone, Debug)]
pub struct SupervisionMemory(Arc<Mutex<Inner>>);

impl SupervisionMemory {
    /// An empty memory that looks for these patterns.
    pub fn new(patterns: PatternConfig) -> Self {
        let (histories, detector) = (LruCache::new(ACTORS_MAX), FailurePatternDetector::new(patterns));
        Self(Arc::new(Mutex::new(Inner { histories, forgotten: 0, detector })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a failure to the pattern detector.
    pub fn observe(&self, seen: Evidence, depends_on: &[ActorName]) -> RestartThrottle {
        self.inner().detector.observe(seen, depends_on)
    }

    /// Remembers a decision.
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

    /// The actor runs again.
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

    /// Every actor remembered, those that failed last first.
    pub fn histories(&self) -> Vec<(ActorName, ActorHistory)> {
        self.inner().histories.iter().map(|(name, history)| (name.clone(), history.clone())).collect()
    }

    /// What is remembered of one actor.
    pub fn history(&self, actor: &ActorName) -> Option<ActorHistory> {
        self.inner().histories.peek(actor).cloned()
    }

    /// The patterns of late, those seen last first.
    pub fn findings(&self, now: Moment) -> Vec<DetectedPattern> {
        self.inner().detector.findings(now)
    }

    /// How much is remembered.
    pub fn usage(&self) -> MemoryUse {
        let inner = self.inner();
        MemoryUse {
            actors: inner.histories.len(),
            attempts: inner.histories.iter().map(|(_, history)| history.attempts.len()).sum(),
            forgotten: inner.forgotten,
        }
    }
}
