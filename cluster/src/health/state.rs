//! Schedules the health checks of all actors and evaluates their results.
//!
//! Each actor has its own offset within the check interval. Critical actors are checked first, because the member
//! counts only if they work; the first checks of the others spread over a second. From then on the checks of each
//! priority spread evenly over its interval, so that a thousand actors are never checked at the same time.
//!
//! A critical actor that does not answer is checked again at once. One that falls too far behind makes the member
//! unhealthy although it works, because the member's promises can not rely on it; it is not restarted for that.
//!
//! The monitor suspects itself first: after a pause of its own process, checks that timed out meanwhile are ignored. It
//! tells a busy actor from a dead one by the state of its mailbox: see [`Reading`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::config::HealthConfig;
use super::message::MemberReading;
use super::recovery::Stage;
use super::status::{HealthRecord, Signal};
use super::trend::{Summary, Trend, node_score};
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority, Incarnation, NodeId};
use crate::ping::{HealthCheckResult, HealthStatus, PongMessage};

/// The first checks of all non-critical actors spread over this time.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// If the monitor did not run for this long, it was paused and ignores checks that timed out meanwhile.
const STANDSTILL: Duration = Duration::from_secs(1);
/// How long the monitor reports such a pause.
const STANDSTILL_TOLD: Duration = Duration::from_secs(10);
/// Maximum number of unanswered pings per actor that are remembered, to recognise late pongs.
const LATE_MAX: usize = 16;

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The actor answered.
    Answered {
        /// Health as reported by the actor.
        result: HealthCheckResult,
        /// Time from ping to pong.
        response_time: Duration,
    },
    /// The actor did not answer in time, with the reason.
    Silent(String),
    /// The actor is not running, with the reason.
    Absent(String),
}

/// State of an actor's mailbox as seen from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Distinguishes incarnations of the actor: a different number for each.
    pub incarnation: u64,
    /// Messages taken out since the mailbox was created. If it does not grow, the actor makes no progress.
    pub handled: u64,
    /// Number of queued messages.
    pub waiting: usize,
}

/// Outcome of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    /// Index of the actor.
    pub index: usize,
    /// Number of the check.
    pub id: u64,
    /// Result of the check.
    pub check: Check,
    /// State of the mailbox after the check.
    pub reading: Reading,
}

/// Classification of a pong that arrives outside its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Answers a check that timed out: the actor is running.
    Late,
    /// Answers a ping that was already answered or never sent.
    Stray,
    /// Belongs to an earlier incarnation of this node.
    Earlier,
}

/// Health of one actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorHealth {
    /// Name of the actor.
    pub name: ActorName,
    /// Priority of the actor.
    pub priority: ActorPriority,
    /// Status according to the checks.
    pub status: HealthStatus,
    /// Why the status is not healthy; empty if it is.
    pub reason: String,
    /// Number of consecutive failed checks.
    pub consecutive_failures: u32,
    /// Response time of the last answered check.
    pub response_time: Option<Duration>,
    /// Whether the actor is running, did not answer its last check, and took no message out of its mailbox since the
    /// check before. An actor that is merely too slow for its checks is not silent, and is not restarted.
    pub is_silent: bool,
    /// Number of messages in its mailbox at the last check.
    pub waiting: usize,
}

/// Trends of a node's checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trends {
    /// Weighted score of the node, from 0 to 1.
    pub score: f64,
    /// For each actor: its summary, and the response time above which it counts as slow.
    pub actors: Vec<(ActorName, Summary, Duration)>,
    /// For each other member: its summary, with the silence since its last response as response time.
    pub members: Vec<(NodeId, Summary)>,
}

/// Check state of one actor besides its health.
#[derive(Clone, Debug)]
struct CheckState {
    standing: HealthRecord,
    /// Offset of its checks within the interval.
    offset: Duration,
    /// Id and start of the pending check.
    under_way: Option<(u64, Moment)>,
    /// State of the mailbox when the pending check started.
    asked: Reading,
    /// State of the mailbox when the previous check ended.
    before: Reading,
    last: Option<Reading>,
    /// Time since when no message was taken out of the mailbox.
    still_since: Moment,
    /// Whether the last check was unanswered and the actor made no progress meanwhile.
    is_failing: bool,
    /// Send time of the oldest ping that is still unanswered.
    behind_since: Option<Moment>,
    /// Ids and send times of pings whose checks timed out.
    late: VecDeque<(u64, Moment)>,
    trend: Trend,
}

/// Health of every actor of the node.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    config: HealthConfig,
    actors: Vec<ActorHealth>,
    checks: Vec<CheckState>,
    /// Due times of the actors' checks.
    calendar: BTreeSet<(Moment, usize)>,
    members: BTreeMap<NodeId, Trend>,
    last_look: Option<Moment>,
    stood_still: Option<(Moment, Duration)>,
    under_way: usize,
    leaving: Option<String>,
}

impl HealthBoard {
    /// Creates a board on which no actor was checked yet.
    pub fn new(config: HealthConfig, actors: impl IntoIterator<Item = (ActorName, ActorPriority)>) -> Self {
        let actors: Vec<_> = actors
            .into_iter()
            .map(|(name, priority)| {
                let HealthRecord { status, reason, failures, .. } = HealthRecord::default();
                ActorHealth {
                    name,
                    priority,
                    status,
                    reason,
                    consecutive_failures: failures,
                    response_time: None,
                    is_silent: false,
                    waiting: 0,
                }
            })
            .collect();
        let mut counts: BTreeMap<ActorPriority, (u32, u32)> = BTreeMap::new();
        for actor in &actors {
            counts.entry(actor.priority).or_default().1 += 1;
        }
        let mut calendar = BTreeSet::new();
        let mut checks = Vec::with_capacity(actors.len());
        for (index, actor) in actors.iter().enumerate() {
            let (before, all) = counts.get_mut(&actor.priority).expect("every priority was counted");
            let share = |of: Duration| of.mul_f64(f64::from(*before) / f64::from(*all));
            let interval = config.interval(actor.priority);
            let first = match actor.priority {
                ActorPriority::Critical => Duration::ZERO,
                _ => share(FIRST_WITHIN.min(interval)),
            };
            calendar.insert((Moment::ORIGIN + first, index));
            checks.push(CheckState {
                standing: HealthRecord::default(),
                offset: share(interval),
                under_way: None,
                asked: Reading::default(),
                before: Reading::default(),
                last: None,
                still_since: Moment::ORIGIN,
                is_failing: false,
                behind_since: None,
                late: VecDeque::new(),
                trend: Trend::default(),
            });
            *before += 1;
        }
        Self {
            config,
            actors,
            checks,
            calendar,
            members: BTreeMap::new(),
            last_look: None,
            stood_still: None,
            under_way: 0,
            leaving: None,
        }
    }

    /// Actors in their given order.
    pub fn actors(&self) -> &[ActorHealth] {
        &self.actors
    }

    /// Number of pending checks.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Starts the checks that are due and returns the indexes of their actors. Each is due again at its next scheduled
    /// time, but never while a check of it is pending.
    pub fn due(&mut self, now: Moment) -> Vec<usize> {
        self.look(now);
        let mut due = Vec::new();
        while let Some((at, index)) = self.calendar.first().copied().filter(|(at, _)| *at <= now) {
            self.calendar.remove(&(at, index));
            if self.begin(now, index) {
                due.push(index);
            }
        }
        due.sort_unstable();
        due
    }

    /// Starts a check of every actor that has none pending, and returns their indexes.
    pub fn all_due(&mut self, now: Moment) -> Vec<usize> {
        self.look(now);
        let mut due = Vec::new();
        for index in 0..self.actors.len() {
            if self.begin(now, index) {
                due.push(index);
            }
        }
        due
    }

    fn begin(&mut self, now: Moment, index: usize) -> bool {
        let is_free = self.checks[index].under_way.is_none();
        if is_free {
            self.under_way += 1;
            self.checks[index].under_way = Some((0, now));
        }
        is_free
    }

    /// Schedules the actor's next check. A critical actor that made no progress on the check begun at `unanswered` is
    /// checked again at once until it is unhealthy; if its mailbox was full, when that check would have timed out.
    fn schedule(&mut self, now: Moment, index: usize, unanswered: Option<Moment>) {
        let actor = &self.actors[index];
        let is_urgent = actor.priority == ActorPriority::Critical && actor.status.is_serving();
        if let Some(begun) = unanswered.filter(|_| is_urgent) {
            self.calendar.insert(((begun + self.config.critical_timeout).max(now), index));
            return;
        }
        let interval = self.config.interval(self.actors[index].priority);
        let elapsed = now.since(Moment::ORIGIN + self.checks[index].offset);
        let beats = elapsed.as_nanos() / interval.as_nanos() + 1;
        let next = interval.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX));
        self.calendar.insert((Moment::ORIGIN + self.checks[index].offset + next, index));
    }

    fn look(&mut self, now: Moment) {
        let Some(last) = self.last_look.replace(now) else {
            // The first checks spread from now: a monitor may start or restart at any time.
            let first = std::mem::take(&mut self.calendar).into_iter();
            self.calendar = first.map(|(at, index)| (now + at.since(Moment::ORIGIN), index)).collect();
            return;
        };
        let gap = now.since(last);
        if gap >= STANDSTILL {
            self.stood_still = Some((now, gap));
        }
    }

    /// Records that check `id` of a due actor starts, and the state of its mailbox.
    pub fn asked(&mut self, now: Moment, index: usize, id: u64, reading: Reading) {
        self.read(now, index, reading);
        let course = &mut self.checks[index];
        course.asked = reading;
        if let Some((number, _)) = &mut course.under_way {
            *number = id;
        }
    }

    fn read(&mut self, now: Moment, index: usize, reading: Reading) {
        let (course, thresholds) = (&mut self.checks[index], self.config.thresholds());
        let last = course.last.replace(reading);
        if last.is_none_or(|last| last.handled != reading.handled) {
            course.still_since = now;
        }
        if last.is_some_and(|last| last.incarnation != reading.incarnation) {
            course.standing.take(thresholds, Signal::Reborn);
            course.late.clear();
            course.behind_since = None;
        }
        self.actors[index].waiting = reading.waiting;
    }

    /// Applies the outcome of a check; returns whether the status changed.
    pub fn over(&mut self, now: Moment, outcome: CheckOutcome) -> bool {
        let CheckOutcome { index, id, check, reading } = outcome;
        if self.checks[index].under_way.is_none_or(|(number, _)| number != id) {
            return false;
        }
        self.read(now, index, reading);
        self.checked(now, index, check)
    }

    /// Same as [`Self::over`], for a check without a number.
    pub fn checked(&mut self, now: Moment, index: usize, check: Check) -> bool {
        let Some((id, begun)) = self.checks[index].under_way.take() else { return false };
        self.under_way -= 1;
        let course = &mut self.checks[index];
        let (signal, response) = match check {
            Check::Answered { result, response_time } => {
                self.actors[index].response_time = Some(response_time);
                course.behind_since = None;
                let limit = course.trend.threshold((self.config.slow_min, self.config.slow_max));
                let signal = match result.status {
                    HealthStatus::Healthy if response_time > limit => Signal::Limited(format!(
                        "slow: it answered in {response_time:.0?}, usual is less than {limit:.0?}"
                    )),
                    HealthStatus::Healthy => Signal::Well,
                    HealthStatus::Degraded => Signal::Limited(result.reason),
                    HealthStatus::ShuttingDown => Signal::ShutdownBegun(result.reason),
                    HealthStatus::Unhealthy | HealthStatus::Recovering | HealthStatus::Unknown => {
                        Signal::Unwell(result.reason)
                    }
                };
                (signal, Some(response_time))
            }
            // The monitor was paused: an answer may have gone unnoticed.
            Check::Silent(_) if self.stood_still_since(now, begun) => {
                self.schedule(now, index, None);
                return false;
            }
            Check::Silent(reason) => {
                let course = &mut self.checks[index];
                course.behind_since.get_or_insert(begun);
                remember(&mut course.late, (id, begun));
                (self.silence(now, index, begun, &reason), None)
            }
            Check::Absent(reason) => (Signal::Absent(reason), None),
        };
        let course = &mut self.checks[index];
        let before = std::mem::replace(&mut course.before, course.last.unwrap_or_default());
        let has_moved =
            (before.incarnation, before.handled) != (course.before.incarnation, course.before.handled);
        course.is_failing = matches!(signal, Signal::Silent(_));
        self.actors[index].is_silent = course.is_failing && !has_moved;
        // A busy actor gets no extra ping, unless its mailbox had no room for the last one.
        let is_unanswered = match signal {
            Signal::Silent(_) => true,
            Signal::Busy(_) => !self.has_waited(now, index, begun),
            _ => false,
        };
        let changed = self.take(index, signal);
        self.schedule(now, index, is_unanswered.then_some(begun));
        let status = self.actors[index].status;
        self.checks[index].trend.record(now, response, status);
        changed
    }

    fn stood_still_since(&self, now: Moment, begun: Moment) -> bool {
        let is_still = self.last_look.is_some_and(|last| now.since(last) >= STANDSTILL);
        is_still || self.stood_still.is_some_and(|(woke, _)| woke > begun)
    }

    /// Whether the completed check waited for an answer, and was not refused by a full mailbox.
    fn has_waited(&self, now: Moment, index: usize, begun: Moment) -> bool {
        now.since(begun) >= self.config.timeout(self.actors[index].priority) / 2
    }

    /// Classifies an unanswered check: the actor is busy if it took messages out of its mailbox during the check. If
    /// the mailbox was full, so that there was no wait, the period since the previous check counts.
    fn silence(&self, now: Moment, index: usize, begun: Moment, reason: &str) -> Signal {
        let course = &self.checks[index];
        let reading = course.last.unwrap_or_default();
        let priority = self.actors[index].priority;
        let has_waited = self.has_waited(now, index, begun);
        let since = if has_waited { course.asked } else { course.before };
        let handled = reading.handled.saturating_sub(since.handled);
        if handled > 0 && reading.incarnation == since.incarnation {
            let waiting = reading.waiting;
            let behind = course.behind_since.map_or(Duration::ZERO, |since| now.since(since));
            if priority == ActorPriority::Critical && behind > self.config.busy_max {
                return Signal::Behind(format!(
                    "behind: no check of the last {behind:.1?} is answered, though it deals with messages; {waiting} wait"
                ));
            }
            return Signal::Busy(format!(
                "busy: {reason}, but dealt with {handled} messages meanwhile; {waiting} wait"
            ));
        }
        let age = now.since(course.still_since);
        let waiting = reading.waiting;
        Signal::Silent(format!("{reason}; the message in hand is {age:.1?} old or older, {waiting} wait"))
    }

    fn take(&mut self, index: usize, signal: Signal) -> bool {
        let thresholds = self.config.thresholds();
        let (actor, standing) = (&mut self.actors[index], &mut self.checks[index].standing);
        let changed = standing.take(thresholds, signal);
        actor.status = standing.status;
        actor.reason.clone_from(&standing.reason);
        actor.consecutive_failures = standing.failures;
        changed
    }

    /// Applies a pong that arrives outside its check; returns its classification, and whether the status changed.
    pub fn late(&mut self, index: usize, pong: &PongMessage, own: Incarnation) -> (Receipt, bool) {
        if pong.incarnation < own {
            return (Receipt::Earlier, false);
        }
        let course = &mut self.checks[index];
        let Some(at) = course.late.iter().position(|(id, _)| *id == pong.ping_id) else {
            return (Receipt::Stray, false);
        };
        // The mailbox is ordered: earlier pings that are still unanswered never will be answered.
        course.late.drain(..=at);
        let oldest = course.late.front().map(|(_, sent)| *sent);
        course.behind_since = course.behind_since.zip(oldest).map(|(since, sent)| since.max(sent));
        // The actor has made progress since, which counts as much as a slow answer.
        let is_failing = std::mem::take(&mut course.is_failing);
        self.actors[index].is_silent = false;
        let reason = || "slow: it answered after its check was given up".to_owned();
        (Receipt::Late, is_failing && self.take(index, Signal::Limited(reason())))
    }

    /// Applies the stage of an actor's recovery; returns its index if its status changed.
    pub fn recovery(&mut self, actor: &ActorName, stage: Stage, note: String) -> Option<usize> {
        let index = self.actors.iter().position(|known| known.name == *actor)?;
        let signal = match stage {
            Stage::Begun => Signal::RecoveryBegun(note),
            Stage::Failed => Signal::RecoveryFailed(note),
            Stage::Recovered | Stage::GaveUp => return None,
        };
        self.take(index, signal).then_some(index)
    }

    /// Starts the shutdown: an actor that stops now was told to. Returns the indexes whose status changed.
    pub fn shut_down(&mut self, reason: &str) -> Vec<usize> {
        self.leaving = Some(reason.to_owned());
        let all = 0..self.actors.len();
        all.filter(|index| self.take(*index, Signal::ShutdownBegun(reason.to_owned()))).collect()
    }

    /// Records the state of the other members.
    pub fn members(&mut self, now: Moment, readings: Vec<MemberReading>) {
        for reading in readings {
            let status = if reading.healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
            self.members.entry(reading.name).or_default().record(now, reading.silence, status);
        }
    }

    /// Trends of all actors and members.
    pub fn trends(&self) -> Trends {
        let limits = (self.config.slow_min, self.config.slow_max);
        let actors = self.actors.iter().zip(&self.checks).map(|(actor, course)| {
            let summary = course.trend.summary(self.config.timeout(actor.priority));
            (actor.name.clone(), summary, course.trend.threshold(limits))
        });
        let timeout = self.config.timeout;
        let members = self.members.iter().map(|(name, trend)| (name.clone(), trend.summary(timeout)));
        Trends { score: self.score(), actors: actors.collect(), members: members.collect() }
    }

    /// Weighted score of the node: see [`node_score`].
    pub fn score(&self) -> f64 {
        node_score(self.actors.iter().map(|actor| (actor.priority, actor.status)))
    }

    /// Health of the monitor itself.
    pub fn own(&self, now: Moment) -> HealthCheckResult {
        match self.stood_still {
            Some((woke, gap)) if now.since(woke) <= STANDSTILL_TOLD => {
                HealthCheckResult::degraded(format!("it stood still for {gap:.1?}"))
            }
            _ => HealthCheckResult::healthy(),
        }
    }

    /// Health of the node: healthy if every critical actor works.
    pub fn summary(&self) -> HealthCheckResult {
        if let Some(reason) = &self.leaving {
            return HealthCheckResult::shutting_down(reason.clone());
        }
        let critical = self.actors.iter().filter(|actor| actor.priority == ActorPriority::Critical);
        let failing: Vec<_> = critical.filter(|actor| !actor.status.is_serving()).collect();
        if failing.is_empty() {
            return HealthCheckResult::healthy();
        }
        let reasons: Vec<_> = failing
            .iter()
            .map(|actor| format!("{} is {}: {}", actor.name, actor.status, actor.reason))
            .collect();
        HealthCheckResult::unhealthy(reasons.join("; "))
    }
}

fn remember(late: &mut VecDeque<(u64, Moment)>, ping: (u64, Moment)) {
    if late.len() == LATE_MAX {
        late.pop_front();
    }
    late.push_back(ping);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> HealthBoard {
        let actors = [("chain", ActorPriority::Critical), ("logging", ActorPriority::Background)];
        HealthBoard::new(
            HealthConfig::default(),
            actors.map(|(name, priority)| (ActorName::literal(name), priority)),
        )
    }

    fn well() -> Check {
        Check::Answered { result: HealthCheckResult::healthy(), response_time: Duration::from_micros(20) }
    }

    #[test]
    fn checks_are_due_by_priority_and_never_twice_at_once() {
        let mut board = board();
        let at = |ms| Moment::at(Duration::from_millis(ms));
        assert_eq!(board.due(at(0)), [0, 1]);
        assert_eq!(board.due(at(600)), [0_usize; 0], "both checks are under way");
        board.checked(at(0), 0, well());
        board.checked(at(0), 1, well());
        assert_eq!(board.due(at(600)), [0]);
        board.checked(at(600), 0, well());
        assert_eq!(board.due(at(60_000)), [0, 1]);
    }

    #[test]
    fn the_status_follows_the_table() {
        let degraded = || Check::Answered {
            result: HealthCheckResult::degraded("catching up"),
            response_time: Duration::from_micros(20),
        };
        let silent = || Check::Silent("no answer".into());
        let absent = || Check::Absent("not running".into());
        for (checks, status) in [
            (vec![well()], HealthStatus::Healthy),
            (vec![degraded()], HealthStatus::Degraded),
            (vec![silent()], HealthStatus::Degraded),
            (vec![well(), silent()], HealthStatus::Degraded),
            (vec![well(), silent(), silent()], HealthStatus::Unhealthy),
            (vec![silent(), well(), silent()], HealthStatus::Degraded),
            (vec![well(), absent()], HealthStatus::Unhealthy),
            (vec![absent(), silent(), well()], HealthStatus::Healthy),
        ] {
            let (mut board, mut at) = (board(), Moment::ORIGIN);
            for check in &checks {
                board.due(at);
                board.checked(at, 0, check.clone());
                at = at + Duration::from_secs(5);
            }
            assert_eq!(board.actors()[0].status, status, "after {checks:?}");
        }
    }

    #[test]
    fn only_critical_actors_decide_the_summary_and_it_names_them() {
        let mut board = board();
        board.due(Moment::ORIGIN);
        board.checked(Moment::ORIGIN, 0, well());
        board.checked(Moment::ORIGIN, 1, Check::Absent("not running".into()));
        assert_eq!(board.summary().status, HealthStatus::Healthy);
        let later = Moment::at(Duration::from_millis(500));
        board.due(later);
        board.checked(later, 0, Check::Absent("not running".into()));
        let summary = board.summary();
        assert_eq!(summary.status, HealthStatus::Unhealthy);
        assert!(summary.reason.contains("chain is unhealthy: not running"), "{}", summary.reason);
    }

    #[test]
    fn the_first_checks_of_a_monitor_that_starts_late_spread_as_well() {
        let name = |n: u64| ActorName::new(&format!("actor-{n}")).expect("a name");
        let actors = (0..1_000).map(|n| (name(n), ActorPriority::Normal));
        let mut board = HealthBoard::new(HealthConfig::default(), actors);
        let mut checked = BTreeSet::new();
        for ms in (3_600_000..=3_601_000).step_by(50) {
            let now = Moment::at(Duration::from_millis(ms));
            let due = board.due(now);
            // Fifty first checks, and a few that are due again within the second.
            assert!(due.len() <= 60, "{} at once after {ms} ms", due.len());
            for index in due {
                checked.insert(index);
                board.checked(now, index, well());
            }
        }
        assert_eq!(checked.len(), 1_000, "everybody is checked within a second");
    }

    #[test]
    fn a_thousand_actors_do_not_beat_together_and_keep_their_interval() {
        let name = |n: u64| ActorName::new(&format!("actor-{n}")).expect("a name");
        let actors = (0..1_000).map(|n| (name(n), ActorPriority::Normal));
        let mut board = HealthBoard::new(HealthConfig::default(), actors);
        let mut checks: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut most_at_once = 0;
        for ms in (0..=120_000).step_by(50) {
            let now = Moment::at(Duration::from_millis(ms));
            let due = board.due(now);
            // The first second is reserved for first checks.
            most_at_once = most_at_once.max(if ms > 1_000 { due.len() } else { 0 });
            assert!(due.len() <= 51, "{} at once after {ms} ms", due.len());
            for index in due {
                checks.entry(index).or_default().push(ms);
                board.checked(now, index, well());
            }
        }
        assert!(most_at_once <= 3, "{most_at_once} at once");
        for (index, at) in checks {
            assert!(at[0] <= 1_000, "actor {index} is first checked after {} ms", at[0]);
            let intervals: Vec<_> = at[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(intervals.iter().all(|ms| ms.abs_diff(30_000) <= 100), "actor {index}: {intervals:?}");
        }
    }

    fn reading(handled: u64, waiting: usize) -> Reading {
        Reading { incarnation: 1, handled, waiting }
    }

    #[test]
    fn a_busy_actor_is_told_from_a_dead_one_by_what_its_mailbox_shows() {
        let secs = |secs| Moment::at(Duration::from_secs(secs));
        let silent = |index, id, reading| CheckOutcome {
            index,
            id,
            check: Check::Silent("no answer".into()),
            reading,
        };
        let mut board = board();
        board.config.busy_max = Duration::from_mins(1);
        for (id, now) in (1..).zip([0, 5, 10, 15]) {
            board.due(secs(now));
            board.asked(secs(now), 0, id, reading(id * 10, 900));
            board.due(secs(now) + Duration::from_millis(900));
            board.over(secs(now) + Duration::from_millis(900), silent(0, id, reading(id * 10 + 4, 900)));
            let actor = &board.actors()[0];
            assert_eq!((actor.status, actor.is_silent), (HealthStatus::Degraded, false), "{}", actor.reason);
            assert!(actor.reason.contains("dealt with 4 messages") && actor.reason.contains("900 wait"));
        }
        for (id, now) in (5..).zip([20_u64, 21]) {
            let now = secs(now);
            board.due(now);
            board.asked(now, 0, id, reading(99, 3));
            let later = now + Duration::from_millis(900);
            board.due(later);
            assert!(!board.over(later, silent(0, id + 7, reading(99, 3))), "another check's outcome");
            board.over(later, silent(0, id, reading(99, 3)));
        }
        let actor = &board.actors()[0];
        assert_eq!(
            (actor.status, actor.is_silent, actor.consecutive_failures),
            (HealthStatus::Unhealthy, true, 2)
        );
        assert!(
            actor.reason.contains("the message in hand is 1.9s old or older, 3 wait"),
            "{}",
            actor.reason
        );
    }

    #[test]
    fn a_critical_actor_that_does_not_answer_is_asked_again_at_once_until_it_is_unhealthy() {
        let at = |ms| Moment::at(Duration::from_millis(ms));
        let silent =
            |id| CheckOutcome { index: 0, id, check: Check::Silent("no".into()), reading: reading(7, 1) };
        let mut board = board();
        let ask = |board: &mut HealthBoard, now, id, handled| {
            assert!(board.due(at(now)).contains(&0), "due after {now} ms");
            board.asked(at(now), 0, id, reading(handled, 1));
        };
        ask(&mut board, 0, 1, 7);
        board.over(at(300), silent(1));
        ask(&mut board, 300, 2, 7);
        // Its mailbox is full now: the ping is refused without waiting, so the next is due when it would have timed
        // out.
        board.over(at(300), CheckOutcome { reading: reading(8, 1), ..silent(2) });
        assert_eq!(board.actors()[0].status, HealthStatus::Degraded, "one message was taken out");
        assert_eq!(board.due(at(599)), [0_usize; 0]);
        ask(&mut board, 600, 3, 8);
        board.over(at(900), CheckOutcome { reading: reading(8, 1), ..silent(3) });
        assert_eq!((board.actors()[0].status, board.actors()[0].is_silent), (HealthStatus::Unhealthy, true));
        assert_eq!(board.due(at(999)), [0_usize; 0], "from here on at its beats");
        ask(&mut board, 1_000, 4, 8);
    }

    #[test]
    fn whoever_is_too_late_is_unhealthy_and_not_silent_and_an_answer_to_a_younger_check_excuses_it() {
        let at = |ms| Moment::at(Duration::from_millis(ms));
        let mut board = board();
        let check = |board: &mut HealthBoard, id: u64, before: u64, after: u64| {
            let now = at(id * 500);
            board.due(now);
            board.asked(now, 0, id, reading(before, 9));
            let check = Check::Silent("no".into());
            board.over(
                now + Duration::from_millis(300),
                CheckOutcome { index: 0, id, check, reading: reading(after, 9) },
            );
            (board.actors()[0].status, board.actors()[0].is_silent)
        };
        let (degraded, unhealthy) = ((HealthStatus::Degraded, false), (HealthStatus::Unhealthy, false));
        for id in 1..=4 {
            assert_eq!(check(&mut board, id, id * 10, id * 10 + 1), degraded, "after {id} checks");
        }
        assert_eq!(check(&mut board, 5, 50, 51), unhealthy, "more than a slot since the first");
        assert_eq!(check(&mut board, 6, 60, 60), unhealthy, "it took messages out between two checks");
        let pong = PongMessage {
            ping_id: 4,
            timestamp: crate::clock::WallTime(0),
            source: "chain".to_owned(),
            incarnation: Incarnation(1),
            status: HealthCheckResult::healthy(),
            metadata: BTreeMap::new(),
        };
        assert_eq!(board.late(0, &pong, Incarnation(1)).0, Receipt::Late);
        assert_eq!(check(&mut board, 7, 70, 71), degraded, "it is behind by two checks only");
    }

    #[test]
    fn pongs_that_are_late_come_twice_or_speak_for_an_earlier_incarnation_are_recognised() {
        let pong = |ping_id, incarnation| PongMessage {
            ping_id,
            timestamp: crate::clock::WallTime(0),
            source: "chain".to_owned(),
            incarnation: Incarnation(incarnation),
            status: HealthCheckResult::healthy(),
            metadata: BTreeMap::new(),
        };
        let (mut board, own) = (board(), Incarnation(5));
        for (id, ms) in [(1, 0), (2, 600)] {
            let now = Moment::at(Duration::from_millis(ms));
            board.due(now);
            board.asked(now, 0, id, reading(7, 1));
            let check = Check::Silent("no answer".into());
            board.over(now, CheckOutcome { index: 0, id, check, reading: reading(7, 1) });
        }
        assert_eq!(board.actors()[0].status, HealthStatus::Unhealthy);
        assert_eq!(board.late(0, &pong(1, 4), own), (Receipt::Earlier, false));
        assert_eq!(board.late(0, &pong(9, 5), own), (Receipt::Stray, false));
        assert_eq!(board.late(0, &pong(2, 5), own), (Receipt::Late, true));
        assert_eq!(board.actors()[0].status, HealthStatus::Degraded, "it lives");
        assert_eq!(board.late(0, &pong(2, 5), own), (Receipt::Stray, false), "it was taken before");
    }

    #[test]
    fn a_monitor_that_stood_still_blames_nobody_and_says_so() {
        let mut board = board();
        board.due(Moment::ORIGIN);
        board.asked(Moment::ORIGIN, 0, 1, reading(0, 0));
        let woke = Moment::at(Duration::from_mins(1));
        let check = || Check::Silent("no answer".into());
        assert!(!board.over(woke, CheckOutcome { index: 0, id: 1, check: check(), reading: reading(0, 1) }));
        assert_eq!(board.actors()[0].status, HealthStatus::Unknown, "its own time was lost");
        board.checked(woke, 1, check());
        assert_eq!(board.due(woke), [0_usize; 0], "their next beats come");
        assert!(board.own(woke).reason.contains("stood still for 60.0s"), "{:?}", board.own(woke));
        assert_eq!(board.own(woke + Duration::from_secs(20)), HealthCheckResult::healthy());
    }

    #[test]
    fn answers_that_take_longer_than_usual_are_slow() {
        let mut board = board();
        let answer = |ms| Check::Answered {
            result: HealthCheckResult::healthy(),
            response_time: Duration::from_millis(ms),
        };
        for (at, ms, status) in (0..)
            .map(|n: u64| (n * 500, 2, HealthStatus::Healthy))
            .take(20)
            .chain([(10_500, 300, HealthStatus::Degraded), (11_000, 2, HealthStatus::Healthy)])
        {
            let now = Moment::at(Duration::from_millis(at));
            board.due(now);
            board.checked(now, 0, answer(ms));
            let actor = &board.actors()[0];
            assert_eq!(actor.status, status, "{ms} ms after {at} ms: {}", actor.reason);
        }
        let trends = board.trends();
        assert_eq!((trends.score > 0.999, trends.actors[0].1.samples), (true, 22));
    }

    #[test]
    fn a_node_that_shuts_down_says_so_and_its_actors_do_not_fail() {
        let mut board = board();
        assert_eq!(board.shut_down("SIGTERM"), [0, 1]);
        board.due(Moment::ORIGIN);
        assert!(!board.checked(Moment::ORIGIN, 0, Check::Absent("not running".into())));
        assert_eq!(board.summary(), HealthCheckResult::shutting_down("SIGTERM"));
    }
}
