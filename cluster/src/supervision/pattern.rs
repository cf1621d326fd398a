//! Detects patterns in failures: repeats, cascades along dependencies, and correlated failures.
//!
//! A pattern is reported with its evidence, the failures themselves. A repeat may also throttle the next restart,
//! within configured limits: first by a longer delay, then by an open circuit breaker, which pauses all attempts. The
//! restart budget ends fast crash loops; patterns slow down loops that are slow enough to stay within the budget.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::decision::RestartThrottle;
use super::failure::Failure;
use crate::clock::{Moment, WallTime};
use crate::config::{FieldError, require, require_between};
use crate::id::ActorName;

/// Number of recent failures kept.
const RECENT_MAX: usize = 256;
/// Number of failures before the current one that are searched for neighbours.
const LOOK_BACK_MAX: usize = 32;
/// Number of neighbours a failure is compared with. In a failure storm everything fails together, which proves nothing.
const NEIGHBOURS_MAX: usize = 4;
/// Number of patterns kept; the one seen longest ago is dropped first.
const PATTERNS_MAX: NonZeroUsize = NonZeroUsize::new(128).unwrap();
/// Number of failure signatures counted; the one seen longest ago is dropped first.
const SIGNATURES_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// Number of failures kept as evidence of a pattern: the last ones.
const EVIDENCE_MAX: usize = 8;
/// Number of occurrences kept per failure signature.
const TIMES_MAX: usize = 1_000;

/// What counts as a pattern, and how patterns throttle restarts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PatternConfig {
    /// Time for which a failure counts. 1 s to 1 h. Default 1 min.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Number of equal failures of one actor that make a repeat. 2 to 1,000. Default 3.
    pub repeat_after: u32,
    /// Maximum time between the failure of a dependency and a failure in its cascade. Up to 1 min. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub cascade_within: Duration,
    /// Maximum time between failures of two actors that count as joint. Up to 1 min. Default 200 ms.
    #[serde(with = "humantime_serde")]
    pub together_within: Duration,
    /// Number of joint failures that make a correlation. 2 to 1,000. Default 3.
    pub correlated_after: u32,
    /// A repeat doubles the restart delay with each further failure, up to this factor. 1 to 100; 1 changes nothing.
    /// Default 4.
    pub factor_max: f64,
    /// Number of equal failures that open the circuit breaker. 2 to 1,000. Default 8.
    pub circuit_after: u32,
    /// Time for which an open circuit breaker prevents a restart. Up to 1 h; 0 disables the breaker. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub cool_down: Duration,
}

impl Default for PatternConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_mins(1),
            repeat_after: 3,
            cascade_within: Duration::from_secs(1),
            together_within: Duration::from_millis(200),
            correlated_after: 3,
            factor_max: 4.0,
            circuit_after: 8,
            cool_down: Duration::from_secs(10),
        }
    }
}

impl PatternConfig {
    /// Detects patterns but never throttles restarts.
    pub const WATCH_ONLY: Self = Self {
        window: Duration::from_mins(1),
        repeat_after: 3,
        cascade_within: Duration::from_secs(1),
        together_within: Duration::from_millis(200),
        correlated_after: 3,
        factor_max: 1.0,
        circuit_after: 8,
        cool_down: Duration::ZERO,
    };

    /// Checks ranges.
    pub fn validate(&self) -> Result<(), FieldError> {
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        require_between("window", self.window, (Duration::from_secs(1), hour), "between 1s and 1h")?;
        let times = 2..=1_000;
        let expected = "2 to 1000";
        require(times.contains(&self.repeat_after), "repeat_after", self.repeat_after, expected)?;
        require(times.contains(&self.correlated_after), "correlated_after", self.correlated_after, expected)?;
        require(times.contains(&self.circuit_after), "circuit_after", self.circuit_after, expected)?;
        let (none, at_most) = (Duration::ZERO, "at most 1m");
        require_between("cascade_within", self.cascade_within, (none, minute), at_most)?;
        require_between("together_within", self.together_within, (none, minute), at_most)?;
        require((1.0..=100.0).contains(&self.factor_max), "factor_max", self.factor_max, "1 to 100")?;
        require_between("cool_down", self.cool_down, (none, hour), "at most 1h")
    }
}

/// One failure, as evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Time on this process's monotonic clock.
    pub at: Moment,
    /// Time on the wall clock.
    pub wall: WallTime,
    /// Actor that failed.
    pub actor: ActorName,
    /// Failure that occurred.
    pub failure: Failure,
}

/// A pattern among failures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// One actor repeatedly fails in the same way.
    Repeat {
        /// Actor that fails.
        actor: ActorName,
        /// Kind of the failure.
        kind: &'static str,
        /// Source location, for a panic.
        location: Option<String>,
    },
    /// An actor fails right after one of its dependencies.
    Cascade {
        /// Actor that failed first.
        from: ActorName,
        /// Actor that failed next.
        to: ActorName,
    },
    /// Two independent actors repeatedly fail together, which suggests a common cause.
    Correlation {
        /// First of the two actors, by name.
        one: ActorName,
        /// Second of the two actors.
        other: ActorName,
    },
}

impl Pattern {
    /// All pattern kinds.
    pub const KINDS: [&'static str; 3] = ["repeat", "cascade", "correlation"];

    /// The kind of pattern in lower case.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Repeat { .. } => "repeat",
            Self::Cascade { .. } => "cascade",
            Self::Correlation { .. } => "correlation",
        }
    }

    /// The actors in the pattern.
    pub fn actors(&self) -> Vec<&ActorName> {
        match self {
            Self::Repeat { actor, .. } => vec![actor],
            Self::Cascade { from, to } => vec![from, to],
            Self::Correlation { one, other } => vec![one, other],
        }
    }
}

/// A pattern with its number of occurrences and its evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct DetectedPattern {
    /// Pattern that was detected.
    pub pattern: Pattern,
    /// Number of occurrences.
    pub times: u64,
    /// Last failures that belong to it.
    pub evidence: VecDeque<Evidence>,
    /// Throttling it last caused.
    pub tightening: RestartThrottle,
}

type Signature = (ActorName, &'static str, Option<String>);

/// Detects patterns in a stream of failures.
#[derive(Debug)]
pub struct FailurePatternDetector {
    config: PatternConfig,
    recent: VecDeque<Evidence>,
    times: LruCache<Signature, VecDeque<Moment>>,
    together: LruCache<(ActorName, ActorName), VecDeque<Moment>>,
    findings: LruCache<Pattern, DetectedPattern>,
}

impl FailurePatternDetector {
    /// A detector without history.
    pub fn new(config: PatternConfig) -> Self {
        Self {
            config,
            recent: VecDeque::new(),
            times: LruCache::new(SIGNATURES_MAX),
            together: LruCache::new(SIGNATURES_MAX),
            findings: LruCache::new(PATTERNS_MAX),
        }
    }

    /// The patterns within the window, most recently seen first.
    pub fn findings(&self, now: Moment) -> Vec<DetectedPattern> {
        let recent = |finding: &&DetectedPattern| {
            finding.evidence.back().is_some_and(|last| now.since(last.at) <= self.config.window)
        };
        self.findings.iter().map(|(_, finding)| finding).filter(recent).cloned().collect()
    }

    /// Evaluates a failure of an actor that depends on `depends_on`; returns the throttling of its restart.
    pub fn observe(&mut self, seen: Evidence, depends_on: &[ActorName]) -> RestartThrottle {
        let tightening = self.repeat(&seen);
        self.neighbours(&seen, depends_on);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seen);
        tightening
    }

    fn repeat(&mut self, seen: &Evidence) -> RestartThrottle {
        let (kind, location) = (seen.failure.kind().kind(), seen.failure.location().map(str::to_owned));
        let signature = (seen.actor.clone(), kind, location);
        let times = count_of(&mut self.times, signature.clone(), seen.at, self.config.window);
        if times < self.config.repeat_after {
            return RestartThrottle::NONE;
        }
        let doublings = i32::try_from(times - self.config.repeat_after + 1).unwrap_or(i32::MAX);
        let is_open = times >= self.config.circuit_after && !self.config.cool_down.is_zero();
        let tightening = RestartThrottle {
            factor: 2f64.powi(doublings).min(self.config.factor_max),
            open_until: is_open.then(|| seen.at + self.config.cool_down),
        };
        let (actor, kind, location) = signature;
        // The failures before the one that completed the pattern are evidence too.
        let like_it = |evidence: &&Evidence| {
            evidence.actor == actor
                && evidence.failure.kind().kind() == kind
                && evidence.failure.location() == location.as_deref()
        };
        let is_new = times == self.config.repeat_after;
        let before: Vec<_> =
            if is_new { self.recent.iter().filter(like_it).cloned().collect() } else { Vec::new() };
        let pattern = Pattern::Repeat { actor, kind, location };
        self.found(&pattern, before, seen, tightening);
        tightening
    }

    fn neighbours(&mut self, seen: &Evidence, depends_on: &[ActorName]) {
        let farthest = self.config.cascade_within.max(self.config.together_within);
        let mut others: [Option<usize>; NEIGHBOURS_MAX] = [None; NEIGHBOURS_MAX];
        let mut count = 0;
        // Collects the nearest failure of each of the nearest actors. Indexes, because copies would cost more than the
        // search.
        for (index, other) in self.recent.iter().enumerate().rev().take(LOOK_BACK_MAX) {
            if seen.at.since(other.at) > farthest || count == NEIGHBOURS_MAX {
                break;
            }
            let known = |index: &usize| self.recent[*index].actor == other.actor;
            if other.actor != seen.actor && !others.iter().flatten().any(known) {
                others[count] = Some(index);
                count += 1;
            }
        }
        for index in others.into_iter().flatten() {
            let other = &self.recent[index];
            let apart = seen.at.since(other.at);
            if depends_on.contains(&other.actor) && apart <= self.config.cascade_within {
                let pattern = Pattern::Cascade { from: other.actor.clone(), to: seen.actor.clone() };
                let before = vec![other.clone()];
                self.found(&pattern, before, seen, RestartThrottle::NONE);
            } else if apart <= self.config.together_within {
                let (one, other) = (seen.actor.clone(), other.actor.clone());
                let pair = if one < other { (one, other) } else { (other, one) };
                let times = count_of(&mut self.together, pair.clone(), seen.at, self.config.window);
                if times >= self.config.correlated_after {
                    let pattern = Pattern::Correlation { one: pair.0, other: pair.1 };
                    let before = vec![self.recent[index].clone()];
                    self.found(&pattern, before, seen, RestartThrottle::NONE);
                }
            }
        }
    }

    fn found(
        &mut self,
        pattern: &Pattern,
        before: Vec<Evidence>,
        seen: &Evidence,
        tightening: RestartThrottle,
    ) {
        let finding = self.findings.get_or_insert_mut_ref(pattern, || DetectedPattern {
            pattern: pattern.clone(),
            times: 0,
            evidence: VecDeque::new(),
            tightening: RestartThrottle::NONE,
        });
        finding.times += 1;
        finding.tightening = tightening;
        for evidence in before.into_iter().chain([seen.clone()]) {
            if finding.evidence.len() == EVIDENCE_MAX {
                finding.evidence.pop_front();
            }
            finding.evidence.push_back(evidence);
        }
    }
}

/// Counts one more occurrence of `key` at `now`; returns the number within the window.
fn count_of<K: std::hash::Hash + Eq>(
    counts: &mut LruCache<K, VecDeque<Moment>>,
    key: K,
    now: Moment,
    window: Duration,
) -> u32 {
    let times = counts.get_or_insert_mut(key, VecDeque::new);
    while times.len() == TIMES_MAX || times.front().is_some_and(|&first| now.since(first) > window) {
        times.pop_front();
    }
    times.push_back(now);
    times.len() as u32
}

#[cfg(test)]
mod tests {
    use super::super::failure::ActorFailureType;
    use super::*;

    fn failure(actor: &'static str, at_ms: u64, kind: ActorFailureType) -> Evidence {
        Evidence {
            at: Moment::at(Duration::from_millis(at_ms)),
            wall: WallTime(at_ms),
            actor: ActorName::literal(actor),
            failure: Failure::new(kind),
        }
    }

    fn killed(actor: &'static str, at_ms: u64) -> Evidence {
        failure(actor, at_ms, ActorFailureType::Killed)
    }

    fn found(detector: &FailurePatternDetector, at_ms: u64) -> Vec<(Pattern, u64, Vec<u64>)> {
        let findings = detector.findings(Moment::at(Duration::from_millis(at_ms)));
        let times =
            |finding: &DetectedPattern| finding.evidence.iter().map(|evidence| evidence.wall.0).collect();
        findings.iter().map(|f| (f.pattern.clone(), f.times, times(f))).collect()
    }

    #[test]
    fn the_same_failure_again_and_again_is_a_repeat_that_slows_and_then_pauses_restarts() {
        let mut detector = FailurePatternDetector::new(PatternConfig::default());
        let mut asked = Vec::new();
        for n in 0..9 {
            asked.push(detector.observe(killed("chain", n * 1_000), &[]));
        }
        let factors: Vec<_> = asked.iter().map(|tightening| tightening.factor).collect();
        assert_eq!(factors, [1.0, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0], "within the stated limit");
        let open: Vec<_> = asked.iter().map(|tightening| tightening.open_until).collect();
        assert_eq!(open[..7], [None; 7]);
        assert_eq!(open[8], Some(Moment::at(Duration::from_secs(18))));
        let repeat = Pattern::Repeat { actor: ActorName::literal("chain"), kind: "killed", location: None };
        let evidence = (1..9).map(|n| n * 1_000).collect();
        assert_eq!(found(&detector, 9_000), [(repeat, 7, evidence)]);
        assert_eq!(found(&detector, 69_000), [], "an old pattern is not shown");
        assert_eq!(detector.observe(killed("chain", 200_000), &[]), RestartThrottle::NONE);
    }

    #[test]
    fn different_failures_of_one_actor_and_the_same_of_different_actors_are_no_repeat() {
        let mut detector = FailurePatternDetector::new(PatternConfig::default());
        for n in 0..2 {
            detector.observe(killed("chain", n * 1_000), &[]);
            let timeout = ActorFailureType::Timeout { duration: Duration::from_secs(5) };
            detector.observe(failure("chain", n * 1_000 + 400, timeout), &[]);
            detector.observe(killed("engine", n * 1_000 + 800), &[]);
        }
        assert_eq!(found(&detector, 2_000), []);
    }

    #[test]
    fn a_failure_after_one_of_a_dependency_is_a_cascade_with_both_as_evidence() {
        let mut detector = FailurePatternDetector::new(PatternConfig::default());
        let chain = ActorName::literal("chain");
        detector.observe(killed("chain", 100), &[]);
        detector.observe(killed("consensus", 900), std::slice::from_ref(&chain));
        detector.observe(killed("sync", 1_200), std::slice::from_ref(&chain));
        let cascade = Pattern::Cascade { from: chain, to: ActorName::literal("consensus") };
        assert_eq!(
            found(&detector, 2_000),
            [(cascade, 1, vec![100, 900])],
            "sync failed too late to blame it"
        );
    }

    #[test]
    fn two_that_keep_failing_together_are_correlated_and_once_is_chance() {
        let mut detector = FailurePatternDetector::new(PatternConfig::default());
        for n in 0..3 {
            assert_eq!(found(&detector, n * 10_000), []);
            detector.observe(killed("link/b", n * 10_000), &[]);
            detector.observe(killed("link/a", n * 10_000 + 150), &[]);
            detector.observe(killed("sync", n * 10_000 + 900), &[]);
        }
        let findings = found(&detector, 21_000);
        let (one, other) = (ActorName::literal("link/a"), ActorName::literal("link/b"));
        let correlation = Pattern::Correlation { one, other };
        assert!(findings.contains(&(correlation, 1, vec![20_000, 20_150])), "{findings:?}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut detector = FailurePatternDetector::new(PatternConfig::default());
        for n in 0..10_000u64 {
            let actor = ActorName::new(&format!("worker/{}", n % 3_000)).expect("a name");
            let evidence = Evidence { actor, ..killed("worker", n) };
            detector.observe(evidence, &[]);
        }
        assert_eq!(detector.recent.len(), RECENT_MAX);
        assert!(detector.times.len() <= 1_024 && detector.together.len() <= 1_024);
        assert!(detector.findings.len() <= 128);
    }
}
