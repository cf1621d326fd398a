//! Every actor under health checks: who is due, and what came of it.
//!
//! Each actor has its own beat. Critical ones are checked first of all, for the member counts only when they serve;
//! the others spread over a second, and from then on each priority spreads evenly over its interval, so that a
//! thousand actors never beat together.
//!
//! A critical actor that does not answer is asked again at once, and one that falls too far behind makes the member
//! unhealthy though it works: nothing that its member promises can rely on it. Nobody restarts it for that.
//!
//! The monitor doubts itself first: when it stood still, checks that ran out meanwhile say nothing of others. And a
//! busy actor is told from a dead one by what its mailbox shows: see [`Reading`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::config::HealthConfig;
use super::message::MemberReading;
use super::ping::{HealthCheckResult, HealthStatus, PongMessage};
use super::recovery::Stage;
use super::status::{HealthRecord, Signal};
use super::trend::{Summary, Trend, node_score};
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority, Incarnation, NodeId};

/// The first checks of all actors but the critical ones spread over this.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// A monitor that did not look for this long stood still, and does not blame others for it.
const STANDSTILL: Duration = Duration::from_secs(1);
/// How long a standstill is told of.
const STANDSTILL_TOLD: Duration = Duration::from_secs(10);
/// Unanswered pings of one actor that are recognised when they are answered after all.
const LATE_MAX: usize = 16;

/// How one check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The actor answered.
    Answered {
        /// What it said of itself.
        result: HealthCheckResult,
        /// From ping to pong.
        response_time: Duration,
    },
    /// It did not answer in time.
    Silent(String),
    /// It is not running.
    Absent(String),
}

/// What an actor's mailbox shows from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Which start of the actor this is: another number with each.
    pub incarnation: u64,
    /// Messages it has taken out since the mailbox was made. While it stands still, so does the actor.
    pub handled: u64,
    /// Messages that wait.
    pub waiting: usize,
}

/// One check, when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckOutcome {
    /// The actor's place.
    pub index: usize,
    /// The check's number.
    pub id: u64,
    /// How it went.
    pub check: Check,
    /// What the mailbox shows now.
    pub reading: Reading,
}

/// What a pong is that comes outside of its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It answers a check that was given up: the actor lives.
    Late,
    /// It answers what was answered before, or was never asked.
    Stray,
    /// It speaks for an earlier incarnation of this node.
    Earlier,
}

/// One actor under health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorHealth {
    /// The actor.
    pub name: ActorName,
    /// How much depends on it.
    pub priority: ActorPriority,
    /// What the checks say.
    pub status: HealthStatus,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// Checks failed in a row.
    pub consecutive_failures: u32,
    /// Of the last check that was answered.
    pub response_time: Option<Duration>,
    /// Whether it ran, did not answer its last check, and took no message out since the check before. One that is merely
    /// too late for its checks is not silent, and nobody restarts it.
    pub is_silent: bool,
    /// Messages in its mailbox when it was last checked.
    pub waiting: usize,
}

/// How the checks of a node develop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trends {
    /// The weighted score of the node, from 0 to 1.
    pub score: f64,
    /// Each actor: its summary, and above which response time it is called slow.
    pub actors: Vec<(ActorName, Summary, Duration)>,
    /// Each other member: its response time is the silence since its last answer.
    pub members: Vec<(NodeId, Summary)>,
}

/// What is remembered of one actor besides its health.
#[derive(Clone, Debug)]
struct CheckState {
    standing: HealthRecord,
    /// Where in its interval its beat lies.
    offset: Duration,
    /// The check under way, and since when.
    under_way: Option<(u64, Moment)>,
    /// What the mailbox showed when it was asked.
    asked: Reading,
    /// What it showed when the check before was over.
    before: Reading,
    last: Option<Reading>,
    /// Since when nothing was taken out.
    still_since: Moment,
    /// Whether the last check was not answered, nor anything else done meanwhile.
    is_failing: bool,
    /// When the oldest ping was sent that nothing has answered yet.
    behind_since: Option<Moment>,
    /// Pings whose checks were given up, and when they were sent.
    late: VecDeque<(u64, Moment)>,
    trend: Trend,
}

/// Every actor of the node under health checks.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    config: HealthConfig,
    actors: Vec<ActorHealth>,
    checks: Vec<CheckState>,
    /// Who is due when.
    calendar: BTreeSet<(Moment, usize)>,
    members: BTreeMap<NodeId, Trend>,
    last_look: Option<Moment>,
    stood_still: Option<(Moment, Duration)>,
    under_way: usize,
    leaving: Option<String>,
}

impl HealthBoard {
    /// Nobody checked yet.
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

    /// The actors, in the order given.
    pub fn actors(&self) -> &[ActorHealth] {
        &self.actors
    }

    /// Checks that are not over.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// The actors to check now, by their place. Each is due again at its next beat, and not while a check of it
    /// is under way.
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

    /// The same for everybody, whenever they are due.
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

    /// Puts the actor's next check into the calendar, where it does not stand yet. A critical one that did
    /// nothing about the check begun at `unanswered` is asked again at once, until it is unhealthy; one whose mailbox
    /// was full, when the check would have been over.
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
            // The first checks spread from here: a monitor may be started, or restarted, at any time.
            let first = std::mem::take(&mut self.calendar).into_iter();
            self.calendar = first.map(|(at, index)| (now + at.since(Moment::ORIGIN), index)).collect();
            return;
        };
        let gap = now.since(last);
        if gap >= STANDSTILL {
            self.stood_still = Some((now, gap));
        }
    }

    /// The check `id` of an actor that was due begins, and its mailbox shows this.
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

    /// Takes the outcome of a check; true if the status changed.
    pub fn over(&mut self, now: Moment, outcome: CheckOutcome) -> bool {
        let CheckOutcome { index, id, check, reading } = outcome;
        if self.checks[index].under_way.is_none_or(|(number, _)| number != id) {
            return false;
        }
        self.read(now, index, reading);
        self.checked(now, index, check)
    }

    /// The same, for a check without a number.
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
            // The monitor did not look: nobody knows who would have answered.
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
        // A busy one is not given more to do, unless its mailbox had no room for the ping.
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

    /// Whether the check that is over was one that waited, and not one that a full mailbox refused.
    fn has_waited(&self, now: Moment, index: usize, begun: Moment) -> bool {
        now.since(begun) >= self.config.timeout(self.actors[index].priority) / 2
    }

    /// What it means that an actor did not answer: it is busy if it took messages out meanwhile. Where there was no
    /// meanwhile, because its mailbox was full, since the check before.
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

    /// Takes a pong that comes outside of its check: what it is, and whether the status changed by it.
    pub fn late(&mut self, index: usize, pong: &PongMessage, own: Incarnation) -> (Receipt, bool) {
        if pong.incarnation < own {
            return (Receipt::Earlier, false);
        }
        let course = &mut self.checks[index];
        let Some(at) = course.late.iter().position(|(id, _)| *id == pong.ping_id) else {
            return (Receipt::Stray, false);
        };
        // Its mailbox has an order: what was sent before and is not answered yet never will be.
        course.late.drain(..=at);
        let oldest = course.late.front().map(|(_, sent)| *sent);
        course.behind_since = course.behind_since.zip(oldest).map(|(since, sent)| since.max(sent));
        // It has done something since: that is worth as much as an answer that took too long.
        let is_failing = std::mem::take(&mut course.is_failing);
        self.actors[index].is_silent = false;
        let reason = || "slow: it answered after its check was given up".to_owned();
        (Receipt::Late, is_failing && self.take(index, Signal::Limited(reason())))
    }

    /// Takes the news of an actor's recovery; its place, if its status changed.
    pub fn recovery(&mut self, actor: &ActorName, stage: Stage, note: String) -> Option<usize> {
        let index = self.actors.iter().position(|known| known.name == *actor)?;
        let signal = match stage {
            Stage::Begun => Signal::RecoveryBegun(note),
            Stage::Failed => Signal::RecoveryFailed(note),
            Stage::Recovered | Stage::GaveUp => return None,
        };
        self.take(index, signal).then_some(index)
    }

    /// The node shuts down: whoever ends now was told to. The places of those whose status changed.
    pub fn shut_down(&mut self, reason: &str) -> Vec<usize> {
        self.leaving = Some(reason.to_owned());
        let all = 0..self.actors.len();
        all.filter(|index| self.take(*index, Signal::ShutdownBegun(reason.to_owned()))).collect()
    }

    /// Takes what is known of the other members.
    pub fn members(&mut self, now: Moment, readings: Vec<MemberReading>) {
        for reading in readings {
            let status = if reading.healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
            self.members.entry(reading.name).or_default().record(now, reading.silence, status);
        }
    }

    /// How all of it develops.
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

    /// The weighted score of the node: see [`node_score`].
    pub fn score(&self) -> f64 {
        node_score(self.actors.iter().map(|actor| (actor.priority, actor.status)))
    }

    /// What the monitor says of itself.
    pub fn own(&self, now: Moment) -> HealthCheckResult {
        match self.stood_still {
            Some((woke, gap)) if now.since(woke) <= STANDSTILL_TOLD => {
                HealthCheckResult::degraded(format!("it stood still for {gap:.1?}"))
            }
            _ => HealthCheckResult::healthy(),
        }
    }

    /// What the node says of itself: healthy if every critical actor serves.
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
            // Fifty are due for the first time, and a few have their next beat within the second.
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
            // The first second is for those that were never checked.
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
        // Its mailbox is full now: it is refused without waiting, and asked when it would have had to.
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
