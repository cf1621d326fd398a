//! Runs the steps of a scenario against a federation and records the results.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::assertion::{Assertion, AssertionOutcome};
use crate::federation::{ActionError, Depth, Federation};
use crate::record::{Record, StepRecord};
use crate::scenario::Scenario;
use crate::seed;
use crate::step::{Action, Check, Step};
use crate::topology::{ProcessState, Topology};

/// Interval between two polls of the members.
const POLL: Duration = Duration::from_millis(100);
/// Polling interval while waiting for a point in time within a slot, which needs more precision.
const AIM: Duration = Duration::from_millis(5);

/// Outcome of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// All observations of the run.
    pub record: Record,
    /// The step that failed, if any.
    pub failure: Option<Failure>,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was expected.
    pub expected: String,
    /// What was observed instead.
    pub seen: String,
}

/// Receives progress notifications of a run.
pub trait RunObserver: Send {
    /// A step starts; `number` counts from 1.
    fn step_begins(&mut self, number: usize, of: usize, step: &Step);
    /// The members were polled.
    fn observed(&mut self, record: &Record);
    /// The step's action reported a message.
    fn told(&mut self, _: &str) {}
    /// The step ended; it succeeded if `failure` is `None`.
    fn step_ends(&mut self, record: &Record, failure: Option<&Failure>);
}

/// Time limit at the end of a run for the running members to be at most one block apart.
const AGREEMENT: Duration = Duration::from_secs(20);

/// Runs `scenario` on `federation`.
pub async fn run<F: Federation>(
    scenario: &Scenario,
    seed: u64,
    federation: &mut F,
    watch: &mut dyn RunObserver,
) -> RunOutcome {
    let started_ms = federation.now_ms();
    let timeout_ms = u64::try_from(scenario.timeout.as_millis()).unwrap_or(u64::MAX);
    let mut runner = Runner {
        deadline_ms: started_ms.saturating_add(timeout_ms),
        record: Record::new(&scenario.members, scenario.required(), started_ms),
        topology: Topology::new(&scenario.members),
        chance: seed::stream(seed, "story"),
        scenario,
        federation,
        watch,
    };
    let mut failure = None;
    for (index, step) in scenario.steps.iter().enumerate() {
        runner.watch.step_begins(index + 1, scenario.steps.len(), step);
        failure = runner.step(step).await.err();
        runner.watch.step_ends(&runner.record, failure.as_ref());
        if failure.is_some() {
            break;
        }
    }
    if !runner.topology.running().is_empty() {
        // After a failed step, the run is judged by what has been observed so far.
        if failure.is_none() {
            failure = runner.agree().await.err();
        }
        runner.close().await;
    }
    RunOutcome { record: runner.record, failure }
}

struct Runner<'a, F> {
    scenario: &'a Scenario,
    federation: &'a mut F,
    watch: &'a mut dyn RunObserver,
    record: Record,
    topology: Topology,
    chance: StdRng,
    deadline_ms: u64,
}

impl<F: Federation> Runner<'_, F> {
    async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Act(action) => self.act(step, action).await,
            Step::Check(check) => self.check(step, check).await,
        }
    }

    async fn act(&mut self, step: &Step, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Kill { mid_slot: true, .. } | Action::Fault { mid_slot: true, .. } => {
                self.reach_mid_slot().await?;
            }
            Action::Stop { .. } if self.leaves_nobody(action) => {
                self.agree().await?;
                self.close().await;
            }
            // The latest signatures and decisions are read before the members become unreachable.
            _ if !action.is_harmless() => self.look(Depth::News).await?,
            _ => {}
        }
        let number = self.begin(step);
        let effect = self.federation.apply(action, &self.topology).await;
        let effect = effect.map_err(|ActionError { expected, seen }| Failure { expected, seen })?;
        self.topology.apply(action);
        self.record.submitted.extend(effect.submitted);
        if !effect.told.is_empty() {
            self.watch.told(&effect.told);
        }
        self.record.steps[number].done_ms = Some(self.federation.now_ms());
        Ok(())
    }

    async fn check(&mut self, step: &Step, check: &Check) -> Result<(), Failure> {
        let number = self.begin(step);
        let members =
            if check.members().is_empty() { self.topology.running() } else { check.members().to_vec() };
        // The check counts from the heights read here.
        self.look(Depth::News).await?;
        let assertion = Assertion::new(check, members, &self.record, self.record.steps[number].at_ms);
        loop {
            let now_ms = self.federation.now_ms();
            let seen = match assertion.evaluate(&self.record, now_ms) {
                AssertionOutcome::Met => break,
                AssertionOutcome::Broken(seen) => seen,
                AssertionOutcome::Pending(seen) if now_ms >= self.deadline_ms => self.too_late(&seen),
                AssertionOutcome::Pending(_) => {
                    self.federation.sleep(POLL).await;
                    self.look(Depth::News).await?;
                    continue;
                }
            };
            return Err(Failure { expected: check.to_string(), seen });
        }
        self.record.steps[number].done_ms = Some(self.federation.now_ms());
        Ok(())
    }

    fn begin(&mut self, step: &Step) -> usize {
        let at_ms = self.federation.now_ms();
        self.record.steps.push(StepRecord { step: step.clone(), at_ms, done_ms: None });
        self.record.steps.len() - 1
    }

    /// Polls the members. Fails if one ended unexpectedly.
    async fn look(&mut self, depth: Depth) -> Result<(), Failure> {
        let observation = self.federation.observe(depth).await;
        let ended = self.record.absorb(&observation);
        self.watch.observed(&self.record);
        match ended.into_iter().next() {
            None => Ok(()),
            Some((name, how)) => {
                Err(Failure { expected: format!("{name} to run"), seen: format!("it ended: {how}") })
            }
        }
    }

    /// Waits for a limited time until all running members have answered and are at most one block apart: a member that
    /// has just restarted may not have caught up yet. Does not wait while links are cut.
    async fn agree(&mut self) -> Result<(), Failure> {
        let bound_ms = u64::try_from(AGREEMENT.as_millis()).unwrap_or(u64::MAX);
        let began_ms = self.federation.now_ms();
        let until_ms = began_ms.saturating_add(bound_ms).min(self.deadline_ms);
        while self.topology.is_connected() {
            self.look(Depth::News).await?;
            let Some(apart) = self.apart(began_ms) else { return Ok(()) };
            if self.federation.now_ms() >= until_ms {
                let bound = humantime::format_duration(AGREEMENT);
                self.watch.told(&format!("the members were waited for, {bound} at most: {apart}"));
                return Ok(());
            }
            self.federation.sleep(POLL).await;
        }
        Ok(())
    }

    /// Why the running members do not agree yet, from answers at or after `since_ms`.
    fn apart(&self, since_ms: u64) -> Option<String> {
        let running = self.topology.running();
        if let Some(silent) = running.iter().find(|name| self.record.fresh(name, since_ms).is_none()) {
            return Some(format!("{silent} has not answered"));
        }
        let heights = || running.iter().map(|name| (self.record.height(name), name));
        let (lowest, highest) = (heights().min()?, heights().max()?);
        let is_apart = highest.0 - lowest.0 > 1;
        is_apart.then(|| format!("{} is at height {}, {} at {}", lowest.1, lowest.0, highest.1, highest.0))
    }

    /// Takes the final full observation, for the invariants.
    async fn close(&mut self) {
        let observation = self.federation.observe(Depth::Everything).await;
        self.record.close(&observation, self.topology.is_connected());
        self.watch.observed(&self.record);
    }

    fn leaves_nobody(&self, action: &Action) -> bool {
        let mut after = self.topology.clone();
        after.apply(action);
        after.with(ProcessState::Running).is_empty()
    }

    /// Waits for a random time after the next block: for half of the seeds anywhere in the slot, for the other half
    /// close to the next proposal, while a round is in progress.
    async fn reach_mid_slot(&mut self) -> Result<(), Failure> {
        let slot_ms = u64::try_from(self.scenario.block_time.as_millis()).unwrap_or(u64::MAX);
        let offset_ms = if self.chance.random() {
            self.chance.random_range(0..slot_ms)
        } else {
            slot_ms - slot_ms / 40 + self.chance.random_range(0..slot_ms / 8)
        };
        self.look(Depth::News).await?;
        let newest = |record: &Record| record.decided().last_key_value().map(|(height, at)| (*height, *at));
        let before = newest(&self.record).map_or(0, |(height, _)| height);
        let decided_ms = loop {
            match newest(&self.record) {
                Some((height, at_ms)) if height > before => break at_ms,
                _ if self.federation.now_ms() >= self.deadline_ms => {
                    let seen = self.too_late(&format!("height {before} all the time"));
                    return Err(Failure { expected: "a block to strike after".to_owned(), seen });
                }
                _ => {
                    self.federation.sleep(POLL).await;
                    self.look(Depth::News).await?;
                }
            }
        };
        while self.federation.now_ms() < decided_ms.saturating_add(offset_ms) {
            self.federation.sleep(AIM).await;
        }
        Ok(())
    }

    fn too_late(&self, seen: &str) -> String {
        let timeout = humantime::format_duration(self.scenario.timeout);
        format!("the scenario's time of {timeout} is over: {seen}")
    }
}

#[cfg(test)]
mod tests {
    use alys_node::ops::view::{FederationView, GateDecision, GateView, ReadyView};

    use super::*;
    use crate::federation::{Effect, MemberObservation, MemberReport, Observation, PollResult};

    /// Members that make a block every two seconds while at least three run. Only sleeping advances their clock.
    struct Fake {
        now_ms: std::sync::atomic::AtomicU64,
        height: u64,
        next_ms: u64,
        ended: Option<&'static str>,
        topology: Topology,
        /// Time until which node-4 stays at height 0, in milliseconds.
        lags_until_ms: u64,
    }

    impl Fake {
        fn new() -> Self {
            let roster: Vec<_> = (1..=4).map(|n| format!("node-{n}")).collect();
            let topology = Topology::new(&roster);
            Self { now_ms: 0.into(), height: 0, next_ms: 2_000, ended: None, topology, lags_until_ms: 0 }
        }

        fn answer(&self, name: &str) -> MemberReport {
            let healthy = self.topology.healthy_seen_by(name);
            let gate = if healthy >= 3 { GateDecision::Open } else { GateDecision::Closed };
            let (node, reason) = (name.to_owned(), String::new());
            let lags = name == "node-4" && self.now_ms() < self.lags_until_ms;
            let status = FederationView {
                node: node.clone(),
                chain_id: "fake".to_owned(),
                incarnation: 1,
                uptime_ms: self.now_ms(),
                height: if lags { 0 } else { self.height },
                gate,
                healthy,
                required: 3,
                reason: reason.clone(),
                members: Vec::new(),
                links: Vec::new(),
                disk: None,
            };
            let gate = GateView {
                node,
                incarnation: 1,
                decision: gate,
                healthy,
                required: 3,
                reason: reason.clone(),
                would_change: reason,
                classes: Vec::new(),
                history: Vec::new(),
            };
            let ready = ReadyView { ready: gate.decision == GateDecision::Open, reasons: Vec::new() };
            MemberReport {
                received: Vec::new(),
                evidence: Vec::new(),
                status,
                gate,
                ready,
                genesis: None,
                blocks: Vec::new(),
                signatures: Vec::new(),
                attempts: Vec::new(),
            }
        }
    }

    impl Federation for Fake {
        async fn apply(&mut self, action: &Action, _: &Topology) -> Result<Effect, ActionError> {
            self.topology.apply(action);
            Ok(Effect::default())
        }

        async fn observe(&mut self, _: Depth) -> Observation {
            let at_ms = self.now_ms();
            while self.next_ms <= at_ms {
                self.next_ms += 2_000;
                self.height += u64::from(self.topology.healthy_at_best() >= 3);
            }
            let running = self.topology.running();
            let find = |name: &String| match self.ended {
                Some(ended) if ended == name => PollResult::Ended("signal 6".to_owned()),
                _ if running.contains(name) => PollResult::Answer(Box::new(self.answer(name))),
                _ => PollResult::Absent,
            };
            let names = (1..=4).map(|n| format!("node-{n}"));
            let members = names.map(|name| MemberObservation { finding: find(&name), name });
            Observation { at_ms, members: members.collect() }
        }

        fn now_ms(&self) -> u64 {
            self.now_ms.load(std::sync::atomic::Ordering::Relaxed)
        }

        async fn sleep(&self, duration: Duration) {
            let ms = u64::try_from(duration.as_millis()).expect("a short sleep");
            self.now_ms.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
        }
    }

    struct Nobody;

    impl RunObserver for Nobody {
        fn step_begins(&mut self, _: usize, _: usize, _: &Step) {}
        fn observed(&mut self, _: &Record) {}
        fn step_ends(&mut self, _: &Record, _: Option<&Failure>) {}
    }

    async fn tell(fake: &mut Fake, steps: &str) -> RunOutcome {
        let text = format!("name='test'\ntimeout='60s'\nsteps=[{steps}]");
        let scenario = Scenario::parse("test", &text).expect("a scenario");
        run(&scenario, 1, fake, &mut Nobody).await
    }

    #[tokio::test]
    async fn a_story_that_goes_well_is_recorded_to_its_end() {
        let steps = "{ do='wait_blocks', count=2, within='5s' },
            { do='kill', members=['node-3', 'node-4'] },
            { do='wait_gate', decision='closed', within='1s' },
            { do='expect', no_block_for='10s', gate='closed' },
            { do='restart' },
            { do='wait_blocks', count=1, within='3s' }";
        let outcome = tell(&mut Fake::new(), steps).await;
        assert_eq!(outcome.failure, None);
        let ends: Vec<_> = outcome.record.steps.iter().map(|step| step.done_ms).collect();
        assert_eq!(ends, [4_000, 4_000, 4_000, 14_000, 14_000, 16_000].map(Some));
        let closing = outcome.record.closing.expect("a last look");
        assert_eq!(closing.members.len(), 4);
    }

    #[tokio::test]
    async fn who_came_back_last_is_waited_for_before_the_end_and_not_for_ever() {
        let steps = "{ do='kill', members=['node-4'] }, { do='wait_blocks', count=3, within='10s' }, { do='restart' }";
        let heights = async |lags_until_ms| {
            let mut fake = Fake { lags_until_ms, ..Fake::new() };
            let outcome = tell(&mut fake, steps).await;
            assert_eq!(outcome.failure, None);
            let closing = outcome.record.closing.expect("a last look");
            let heights: Vec<_> = closing.members.values().map(|member| member.height).collect();
            (fake.now_ms() - 6_000, heights)
        };
        assert_eq!(heights(0).await, (0, vec![3; 4]));
        let (waited, caught_up) = heights(11_000).await;
        assert_eq!((waited, caught_up), (5_000, vec![5; 4]));
        let (waited, apart) = heights(u64::MAX).await;
        assert_eq!((waited, apart), (20_000, vec![13, 13, 13, 0]), "that is judged as it is");
    }

    #[tokio::test]
    async fn a_check_that_fails_ends_the_story_with_what_was_seen() {
        let steps = "{ do='kill', members=['node-3', 'node-4'] },
            { do='wait_blocks', count=1, within='5s' }, { do='wait', duration='1s' }";
        let outcome = tell(&mut Fake::new(), steps).await;
        let failure = outcome.failure.expect("two make no block");
        assert_eq!(failure.expected, "wait for 1 more block on all running members within 5s");
        assert_eq!(failure.seen, "after 5s: node-1 has height 0, not yet 1");
        assert_eq!(outcome.record.steps.len(), 2);
    }

    #[tokio::test]
    async fn a_story_ends_when_its_time_is_over() {
        let outcome = tell(&mut Fake::new(), "{ do='wait', duration='2m' }").await;
        let failure = outcome.failure.expect("too long");
        assert!(failure.seen.starts_with("the scenario's time of 1m is over"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_member_that_ends_by_itself_fails_the_story() {
        let mut fake = Fake { ended: Some("node-2"), ..Fake::new() };
        let outcome = tell(&mut fake, "{ do='wait', duration='5s' }").await;
        let failure = outcome.failure.expect("node-2 ended");
        assert_eq!(
            (failure.expected.as_str(), failure.seen.as_str()),
            ("node-2 to run", "it ended: signal 6")
        );
    }

    #[tokio::test]
    async fn members_are_looked_at_closely_before_the_last_are_stopped() {
        let outcome = tell(&mut Fake::new(), "{ do='stop' }").await;
        assert_eq!(outcome.record.closing.expect("a last look").members.len(), 4);
    }
}
