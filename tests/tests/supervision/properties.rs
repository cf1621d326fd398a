//! Property tests of supervision, over all configurations, failures and orders of events.
//!
//! The generators and properties from the specification keep its names ("Property-Based Testing"). A counterexample
//! shrinks to small numbers, early times and few steps; proptest prints it with its seed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::id::{ActorName, ActorPriority};
use alys_cluster::supervision::child::{ChildKey, ChildPhase};
use alys_cluster::supervision::command::Command;
use alys_cluster::supervision::decision::{DecisionInputs, Obstacle, RestartThrottle, decide};
use alys_cluster::supervision::escalation::EscalationPath;
use alys_cluster::supervision::failure::Exit;
use alys_cluster::supervision::intensity::Budget;
use alys_cluster::supervision::slot::align_delay_to_block_boundary;
use alys_cluster::supervision::spec::ChildPolicy;
use alys_cluster::supervision::state::{Effect, Environment, Input, SupervisorState, Wakeup};
use alys_cluster::supervision::{
    ActorFailureType, AutoShutdown, EscalationStep, EscalationTable, ExponentialBackoffConfig, Failure,
    FailureClass, FixedDelayConfig, RestartIntensity, RestartStrategy, RestartType, SlotBudget, SlotTiming,
    SupervisedActorConfig, SupervisionStrategy, SupervisorSpec,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const BLOCK: Duration = Duration::from_secs(2);
const HOUR_MS: u64 = 3_600_000;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::at(ms(millis))
}

fn arb_actor_priority() -> impl Strategy<Value = ActorPriority> {
    select(vec![
        ActorPriority::Normal,
        ActorPriority::Background,
        ActorPriority::High,
        ActorPriority::Critical,
    ])
}

fn arb_exponential_backoff_config() -> impl Strategy<Value = ExponentialBackoffConfig> {
    let delays = (1..=HOUR_MS).prop_flat_map(|initial| (Just(initial), initial..=HOUR_MS));
    (delays, 1.0..=10.0, option::of(1usize..10), 0.0..=1.0, any::<bool>(), any::<bool>()).prop_map(
        |((initial, most), multiplier, max_attempts, jitter, aligned, respects)| ExponentialBackoffConfig {
            initial_delay: ms(initial),
            max_delay: ms(most),
            multiplier,
            max_attempts,
            jitter,
            align_to_block_boundary: aligned,
            respect_consensus_timing: respects,
        },
    )
}

fn arb_fixed_delay_config() -> impl Strategy<Value = FixedDelayConfig> {
    let delays = (1..=HOUR_MS).prop_flat_map(|delay| (Just(delay), option::of(delay..=HOUR_MS)));
    (delays, option::of(1usize..10), option::of(0..=HOUR_MS), any::<bool>()).prop_map(
        |((delay, most), max_attempts, increment, blockchain_aligned)| FixedDelayConfig {
            delay: ms(delay),
            max_attempts,
            progressive_increment: increment.map(ms),
            max_delay: most.map(ms),
            blockchain_aligned,
        },
    )
}

fn arb_restart_strategy() -> impl Strategy<Value = RestartStrategy> {
    prop_oneof![
        Just(RestartStrategy::Immediate),
        Just(RestartStrategy::Never),
        arb_fixed_delay_config().prop_map(RestartStrategy::FixedDelay),
        arb_exponential_backoff_config().prop_map(RestartStrategy::ExponentialBackoff),
    ]
}

fn arb_actor_failure_type() -> impl Strategy<Value = ActorFailureType> {
    use ActorFailureType as T;
    let text = "[a-z]{1,8}";
    prop_oneof![
        Just(T::Killed),
        option::of(text).prop_map(|backtrace| T::Panic { backtrace }),
        (1..=HOUR_MS).prop_map(|millis| T::Timeout { duration: ms(millis) }),
        (1usize..100, 0usize..100)
            .prop_map(|(capacity, more)| { T::MailboxOverflow { capacity, pending: more.min(capacity) } }),
        (text, 0.0..=1.0).prop_map(|(resource_type, usage)| T::ResourceExhaustion { resource_type, usage }),
        text.prop_map(|error_code| T::ConsensusFailure { error_code }),
        (option::of(text), text).prop_map(|(peer_id, error)| T::NetworkFailure { peer_id, error }),
        (text, text).prop_map(|(event_type, error)| T::GovernanceFailure { event_type, error }),
        (text, text).prop_map(|(operation, error)| T::FederationFailure { operation, error }),
        (1u32..10).prop_map(|consecutive_failures| T::HealthCheckFailure { consecutive_failures }),
        (text, text).prop_map(|(field, value)| T::ConfigurationError { field, value }),
        (text, text).prop_map(|(service, error)| T::DependencyFailure { service, error }),
        (text, text).prop_map(|(component, error)| T::CorruptState { component, error }),
        text.prop_map(|reason| T::Ended { reason }),
        text.prop_map(|error| T::Error { error }),
    ]
}

fn arb_restart_type() -> impl Strategy<Value = RestartType> {
    select(vec![RestartType::Permanent, RestartType::Transient, RestartType::Temporary])
}

prop_compose! {
    fn arb_supervised_actor_config()(
        name in "[a-z][a-z0-9-]{0,7}",
        priority in arb_actor_priority(),
        restart in arb_restart_type(),
        strategy in arb_restart_strategy(),
        at_boundary: bool,
        mailbox in 1usize..=1_000_000,
        overflow_after in option::of(0u64..1_000),
        (start, stop, handler) in (1..=HOUR_MS, 0..=HOUR_MS, option::of(1..=HOUR_MS)),
        depends_on in vec("[a-z][a-z0-9-]{0,7}", 0..3),
    ) -> SupervisedActorConfig {
        let name_of = |name: &String| ActorName::new(name).expect("the pattern is that of a name");
        SupervisedActorConfig {
            name: name_of(&name),
            priority,
            restart,
            strategy,
            at_boundary,
            mailbox,
            overflow_after,
            start_deadline: ms(start),
            stop_deadline: ms(stop),
            // An overflow limit requires a handler deadline.
            handler_deadline: handler.or(overflow_after.map(|_| HOUR_MS)).map(ms),
            depends_on: depends_on.iter().map(name_of).collect(),
            tags: depends_on.iter().map(|tag| tag.parse().expect("the pattern is that of a name")).collect(),
            metadata: depends_on.iter().map(|key| (key.clone(), name.clone())).collect(),
        }
    }
}

/// Floating-point numbers that break arithmetic.
fn arb_wild() -> impl Strategy<Value = f64> {
    select(vec![0.5, 0.0, -0.0, 1.0, -1.0, 2.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN])
}

/// Attempt numbers near both ends of the range.
fn arb_attempt() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..20, any::<u32>(), (u32::MAX - 3)..=u32::MAX]
}

/// Paths from the project's tables, and any other paths.
fn arb_ladder() -> impl Strategy<Value = EscalationPath> {
    let tables = select(vec![EscalationTable::OTP, EscalationTable::TIER, EscalationTable::ROOT]);
    let class = select(FailureClass::ALL.to_vec());
    let known =
        (tables, arb_actor_priority(), class).prop_map(|(table, tier, class)| table.ladder(tier, class));
    prop_oneof![known, select(LADDERS.clone())]
}

/// Every path of up to three steps.
static LADDERS: LazyLock<Vec<EscalationPath>> = LazyLock::new(|| {
    use EscalationStep::{HaltConsensus, RaiseToParent, Restart, RestartSiblings, StayDown, StopNode};
    let steps = [StayDown, Restart, RestartSiblings, RaiseToParent, HaltConsensus, StopNode];
    let mut ladders: Vec<Vec<EscalationStep>> = vec![Vec::new()];
    let mut last = 0;
    for _ in 0..3 {
        let end = ladders.len();
        for ladder in last..end {
            for step in steps {
                let longer = ladders[ladder].iter().copied().chain([step]).collect();
                ladders.push(longer);
            }
        }
        last = end;
    }
    // Leaked, because paths are static like those of the tables.
    ladders.into_iter().map(|ladder| &*ladder.leak()).collect()
});

prop_compose! {
    fn arb_slots()(boundary in 0u64..20_000, block in 1u64..5_000) -> SlotTiming {
        SlotTiming { boundary: at(boundary), block_time: ms(block) }
    }
}

fn arb_budget() -> impl Strategy<Value = Budget> {
    prop_oneof![
        (0u64..5, 0u64..5).prop_map(|(used, most)| Budget { used, most }),
        Just(Budget::UNLIMITED),
        Just(Budget { used: u64::MAX, most: u64::MAX }),
    ]
}

prop_compose! {
    fn arb_tightening()(
        factor in prop_oneof![Just(1.0), 1.0..=100.0, arb_wild()],
        open_until in option::of((0u64..100_000).prop_map(at)),
    ) -> RestartThrottle {
        RestartThrottle { factor, open_until }
    }
}

prop_compose! {
    fn arb_inputs()(
        (now, away_for) in (0u64..100_000, 0u64..20_000),
        comes_back: bool,
        class in select(FailureClass::ALL.to_vec()),
        ladder in arb_ladder(),
        strategy in arb_restart_strategy(),
        at_boundary: bool,
        attempt in arb_attempt(),
        random in prop_oneof![0.0..=1.0, arb_wild()],
        slots in option::of(arb_slots()),
        (block, window) in (0u64..5_000, 0u64..5_000),
        (restarts, slots_missed, bound) in (arb_budget(), arb_budget(), arb_budget()),
        slots_spared in 0u64..10,
        siblings_restarted: bool,
        tightening in arb_tightening(),
    ) -> DecisionInputs {
        DecisionInputs {
            now: at(now),
            away_since: at(now.saturating_sub(away_for)),
            comes_back,
            class,
            ladder,
            strategy,
            at_boundary,
            attempt,
            random,
            slots,
            block_time: ms(block),
            consensus_window: ms(window),
            restarts,
            slots_missed,
            slots_spared,
            bound,
            siblings_restarted,
            tightening,
        }
    }
}

proptest! {
    /// Accepted configurations are followed: attempts end where the strategy says, and a running child that is killed
    /// restarts, is removed or ends its tier as its type and its strategy say. Rejected ones are rejected.
    #[test]
    fn test_supervision_consistency(config in arb_supervised_actor_config()) {
        prop_assert_eq!(config.validate(), Ok(()));
        let attempts = match config.strategy {
            RestartStrategy::Immediate => usize::MAX,
            RestartStrategy::Never => 0,
            RestartStrategy::ExponentialBackoff(backoff) => backoff.max_attempts.unwrap_or(usize::MAX),
            RestartStrategy::FixedDelay(fixed) => fixed.max_attempts.unwrap_or(usize::MAX),
        };
        for attempt in 1..=12u32 {
            let delay = config.strategy.delay(attempt, 0.5, BLOCK);
            prop_assert_eq!(delay.is_some(), attempt as usize <= attempts, "attempt {}", attempt);
        }
        let policy = ChildPolicy {
            name: config.name.clone(),
            restart: config.restart,
            strategy: config.strategy,
            at_boundary: config.at_boundary,
            significant: false,
            is_supervisor: false,
            priority: config.priority,
            depends_on: config.depends_on.clone().into(),
        };
        let around = Around { slots: None, random: 0.5, bound: u64::MAX };
        let tier = SupervisorSpec::new(ActorName::literal("tier"), Vec::new());
        let mut world = World::new(&tier, vec![policy], around);
        world.settle();
        let child = world.at(&[Life::Running])[0];
        world.ends(child, Exit::abnormal(Failure::new(ActorFailureType::Killed)));
        world.settle();
        let is_temporary = config.restart == RestartType::Temporary;
        prop_assert_eq!(world.is_over, attempts == 0 && !is_temporary);
        let phase = world.state.child(child).map(|child| child.phase);
        let back = (!is_temporary && !world.is_over).then_some(ChildPhase::Running);
        prop_assert_eq!(phase.filter(|_| !world.is_over), back);
        for wrong in [
            SupervisedActorConfig { mailbox: 0, ..config.clone() },
            SupervisedActorConfig { mailbox: 1_000_001, ..config.clone() },
            SupervisedActorConfig { metadata: [("A".to_owned(), String::new())].into(), ..config.clone() },
            SupervisedActorConfig { start_deadline: Duration::ZERO, ..config.clone() },
            SupervisedActorConfig { stop_deadline: ms(HOUR_MS + 1), ..config.clone() },
            SupervisedActorConfig { handler_deadline: Some(Duration::ZERO), ..config.clone() },
        ] {
            prop_assert!(wrong.validate().is_err(), "{:?}", wrong);
        }
    }

    /// Without jitter, delays are monotone; before alignment, they never exceed the maximum; with alignment, they are
    /// at most one block longer; jitter stays within its share of the delay.
    #[test]
    fn test_exponential_backoff_properties(
        config in arb_exponential_backoff_config(),
        attempt in arb_attempt(),
        random in 0.0..=1.0,
        block in 1u64..5_000,
    ) {
        prop_assert_eq!(config.validate(), Ok(()));
        let block = ms(block);
        let plain = ExponentialBackoffConfig { align_to_block_boundary: false, ..config };
        let still = ExponentialBackoffConfig { jitter: 0.0, ..plain };
        let (first, second) = (still.delay(attempt, random, block), still.delay(attempt.saturating_add(1), random, block));
        prop_assert!(first <= second, "{:?} then {:?}", first, second);
        prop_assert_eq!(still.delay(1, random, block), config.initial_delay);
        prop_assert!(second >= config.initial_delay && second <= config.max_delay);

        let varied = plain.delay(attempt, random, block);
        let share = first.as_secs_f64() * config.jitter + 1e-9;
        prop_assert!(varied <= config.max_delay);
        prop_assert!((varied.as_secs_f64() - first.as_secs_f64()).abs() <= share, "{:?} of {:?}", varied, first);
        prop_assert_eq!(plain.delay(attempt, 0.5, block), first, "the middle is no jitter");

        let aligned = ExponentialBackoffConfig { align_to_block_boundary: true, ..config };
        let aligned = aligned.delay(attempt, random, block);
        // A fraction of a millisecond is rounded up.
        prop_assert!(aligned >= varied && aligned < varied + block + ms(1), "{:?} from {:?}", aligned, varied);
        prop_assert_eq!(aligned.as_millis() % block.as_millis(), 0);
    }

    /// Each delay is the previous one plus the increment, up to the maximum.
    #[test]
    fn test_fixed_delay_patterns(config in arb_fixed_delay_config(), attempt in arb_attempt()) {
        prop_assert_eq!(config.validate(), Ok(()));
        let plain = FixedDelayConfig { blockchain_aligned: false, ..config };
        let most = config.max_delay.unwrap_or(ms(HOUR_MS));
        let (first, second) = (plain.delay(attempt, BLOCK), plain.delay(attempt.saturating_add(1), BLOCK));
        prop_assert_eq!(plain.delay(1, BLOCK), config.delay);
        prop_assert!(config.delay <= first && first <= second && second <= most);
        let step = if (1..u32::MAX).contains(&attempt) { config.progressive_increment.unwrap_or_default() } else { Duration::ZERO };
        prop_assert_eq!(second, (first + step).min(most));
        let aligned = FixedDelayConfig { blockchain_aligned: true, ..config }.delay(attempt, BLOCK);
        prop_assert!(aligned >= first && aligned < first + BLOCK, "{:?} from {:?}", aligned, first);
        prop_assert_eq!(aligned.as_millis() % BLOCK.as_millis(), 0);
    }

    /// The aligned delay is the smallest multiple of the block time that is not less than the delay.
    #[test]
    fn test_blockchain_alignment_correctness(delay_ms in 1u64..=10000) {
        for block_ms in [1, 500, 1_999, 2_000, 10_000] {
            let aligned = align_delay_to_block_boundary(ms(delay_ms), ms(block_ms));
            let expected = (1..=delay_ms).map(|blocks| blocks * block_ms).find(|&whole| whole >= delay_ms);
            prop_assert_eq!(Some(aligned), expected.map(ms));
            prop_assert_eq!(align_delay_to_block_boundary(aligned, ms(block_ms)), aligned, "twice is once");
        }
    }

    /// Computing a delay never panics, and the delay never exceeds the maximum, for any attempt and random number.
    #[test]
    fn extreme_attempts_and_randoms_have_a_delay_within_the_most(
        config in arb_exponential_backoff_config(),
        attempt in arb_attempt(),
        random in arb_wild(),
    ) {
        let plain = ExponentialBackoffConfig { align_to_block_boundary: false, ..config };
        prop_assert!(plain.delay(attempt, random, BLOCK) <= config.max_delay);
        for block in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let aligned = ExponentialBackoffConfig { align_to_block_boundary: true, ..config };
            prop_assert!(aligned.delay(attempt, random, block) >= plain.delay(attempt, random, block));
        }
    }

    /// Even an unvalidated configuration does not panic.
    #[test]
    fn a_configuration_that_nobody_checked_has_a_delay_within_the_most(
        (initial, most) in (select(vec![Duration::ZERO, ms(1), Duration::MAX]), select(vec![Duration::ZERO, ms(1), Duration::MAX])),
        (multiplier, jitter, random) in (arb_wild(), arb_wild(), arb_wild()),
        attempt in arb_attempt(),
    ) {
        let config = ExponentialBackoffConfig { initial_delay: initial, max_delay: most, multiplier, jitter, ..ExponentialBackoffConfig::default() };
        prop_assert!(config.delay(attempt, random, BLOCK) <= most);
        let fixed = FixedDelayConfig { delay: initial, progressive_increment: Some(initial), max_delay: Some(most), ..FixedDelayConfig::default() };
        prop_assert!(fixed.delay(attempt, BLOCK) <= most);
    }

    /// The next boundary is the earliest one, and does not depend on which boundary is known.
    #[test]
    fn the_next_boundary_is_the_first_at_or_after_the_moment(slots in arb_slots(), moment in 0u64..50_000, later in 0u32..5) {
        let next = slots.next_boundary(at(moment));
        prop_assert!(next >= at(moment));
        prop_assert_eq!(slots.next_boundary(next), next);
        let phase = slots.boundary.since(Moment::ORIGIN).as_millis() % slots.block_time.as_millis();
        prop_assert_eq!(next.since(Moment::ORIGIN).as_millis() % slots.block_time.as_millis(), phase);
        prop_assert!(next == at(moment) || next.since(at(moment)) < slots.block_time || next.since(Moment::ORIGIN).as_millis() == phase);
        let other = SlotTiming { boundary: slots.boundary + slots.block_time * later, ..slots };
        prop_assert_eq!(other.next_boundary(at(moment)), next);
    }

    /// Missed slots are the boundaries strictly between two times; they add up over adjoining intervals.
    #[test]
    fn missed_slots_are_the_boundaries_between_two_moments(slots in arb_slots(), mut moments in [0u64..50_000, 0u64..50_000, 0u64..50_000]) {
        moments.sort_unstable();
        let [a, b, c] = moments.map(at);
        let counted = {
            let mut boundary = slots.next_boundary(a);
            let mut count = 0;
            while boundary < c {
                count += u64::from(boundary > a);
                boundary = boundary + slots.block_time;
            }
            count
        };
        prop_assert_eq!(slots.missed(a, c), counted);
        let at_b = u64::from(a < b && b < c && slots.next_boundary(b) == b);
        prop_assert_eq!(slots.missed(a, b) + slots.missed(b, c) + at_b, counted);
        prop_assert_eq!(slots.missed(c, a), 0);
    }

    /// The time after a window is in no window, not earlier, at most a window later, and idempotent.
    #[test]
    fn after_the_window_no_window_is_open(slots in arb_slots(), moment in 0u64..50_000, window in 0u64..6_000) {
        let window = ms(window);
        let after = slots.after_window(at(moment), window);
        prop_assert!(after >= at(moment) && after.since(at(moment)) <= window.min(slots.block_time));
        prop_assert_eq!(slots.after_window(after, window), after);
        if slots.next_boundary(at(moment)) == at(moment) {
            prop_assert_eq!(after, at(moment), "the boundary is outside");
        }
        prop_assert!(after <= slots.next_boundary(at(moment)) || window.is_zero() || slots.next_boundary(at(moment)).since(Moment::ORIGIN) < slots.block_time);
    }

    /// A decision is total and deterministic, and obeys type, class and budgets.
    #[test]
    fn a_decision_is_total_and_deterministic_and_exceeds_no_budget(inputs in arb_inputs()) {
        let decision = decide(&inputs);
        prop_assert_eq!(&decide(&inputs), &decision);
        prop_assert!(decision.due >= inputs.now);
        let restarts = decision.step.is_restart();
        prop_assert_eq!(restarts, decision.obstacle.is_none());
        prop_assert!(decision.step == EscalationStep::StayDown || inputs.ladder.contains(&decision.step));
        prop_assert_ne!(decision.step, EscalationStep::HaltConsensus, "halting is not the end of a climb");
        if restarts {
            // Slots missed because of an open circuit are not counted.
            let until = inputs.pause(&decision).map_or(decision.due, |(from, _)| from);
            let missed = inputs.slots.map_or(0, |slots| slots.missed(inputs.away_since, until));
            let missed = missed.saturating_sub(inputs.slots_spared);
            prop_assert!(inputs.restarts.allows(1) && inputs.bound.allows(1) && inputs.slots_missed.allows(missed));
            prop_assert!(decision.step == EscalationStep::Restart || !inputs.siblings_restarted);
            let open = inputs.tightening.open_until.filter(|_| decision.step == EscalationStep::Restart);
            prop_assert!(open.is_none_or(|until| decision.due >= until));
        } else {
            prop_assert_eq!(decision.due, inputs.now);
        }
        if decision.halts {
            prop_assert!(inputs.ladder.contains(&EscalationStep::HaltConsensus));
        }
        if decision.obstacle == Some(Obstacle::NotWanted) {
            prop_assert!(!inputs.comes_back && decision.step == EscalationStep::StayDown && !decision.halts);
        }
    }

    /// An open circuit does not change the decision, and never makes a restart earlier.
    #[test]
    fn an_open_circuit_makes_a_restart_later_and_never_refuses_one(inputs in arb_inputs()) {
        let tightening = RestartThrottle { open_until: None, ..inputs.tightening };
        let closed = decide(&DecisionInputs { tightening, ..inputs.clone() });
        let decision = decide(&inputs);
        prop_assert_eq!((decision.step, decision.halts, decision.obstacle), (closed.step, closed.halts, closed.obstacle));
        prop_assert!(decision.due >= closed.due);
        if let Some((from, until)) = inputs.pause(&decision) {
            prop_assert_eq!((from, until), (closed.due, decision.due));
        }
    }

    /// A child that its type does not restart is never restarted.
    #[test]
    fn what_does_not_come_back_is_never_restarted(inputs in arb_inputs()) {
        let decision = decide(&DecisionInputs { comes_back: false, ..inputs });
        prop_assert!(!decision.step.is_restart(), "{:?}", decision);
    }

    /// Under every table, a class of failures that a restart would only repeat is never restarted.
    #[test]
    fn a_class_that_would_repeat_is_never_restarted(
        kind in arb_actor_failure_type(),
        tier in arb_actor_priority(),
        table in select(vec![EscalationTable::OTP, EscalationTable::TIER, EscalationTable::ROOT]),
        inputs in arb_inputs(),
    ) {
        let class = Failure::new(kind.clone()).class();
        prop_assert_eq!(class, kind.class());
        let decision = decide(&DecisionInputs { class, ladder: table.ladder(tier, class), ..inputs });
        let may = matches!(class, FailureClass::Transient | FailureClass::Exhausted);
        prop_assert!(may || !decision.step.is_restart(), "{} {:?}", class, decision);
        if class == FailureClass::ConsensusFatal {
            prop_assert!(decision.halts, "{:?}", decision);
        }
    }
}

/// Environment of the state under test: slots, jitter and a separate bound.
#[derive(Debug)]
struct Around {
    slots: Option<SlotTiming>,
    random: f64,
    bound: u64,
}

impl Environment for Around {
    fn slots(&self) -> Option<SlotTiming> {
        self.slots
    }

    fn block_time(&self) -> (Duration, Duration) {
        (BLOCK, BLOCK * 3 / 10)
    }

    fn random(&mut self) -> f64 {
        self.random
    }

    fn bound(&mut self, _: Moment, _: ActorPriority) -> Budget {
        Budget { used: 0, most: self.bound }
    }

    fn spend(&mut self, _: Moment, _: ActorPriority) -> bool {
        let is_left = self.bound > 0;
        self.bound = self.bound.saturating_sub(1);
        is_left
    }

    fn observe(&mut self, _: Moment, _: &ChildPolicy, _: &Failure) -> RestartThrottle {
        RestartThrottle::NONE
    }
}

/// An event that happens to one of the children or wake-ups.
#[derive(Clone, Debug)]
enum Step {
    /// The oldest pending start succeeds.
    Starts,
    /// The oldest pending start fails.
    StartFails(ActorFailureType),
    /// A running or stopping child ends by itself or as ordered.
    Ends(Index),
    /// A running or stopping child fails.
    Fails(Index, ActorFailureType),
    /// The next wake-up arrives when it is due.
    Wakes,
    /// A stray wake-up arrives, long before or after it is due.
    WakesStray(Index),
    /// A child that does not run is reported to have ended.
    EndsStray(Index),
    /// Time passes, in milliseconds.
    Passes(u64),
    /// An administrative command arrives.
    Asks(Index, Command),
}

fn arb_command() -> impl Strategy<Value = Command> {
    let failure = || arb_actor_failure_type().prop_map(Failure::new);
    prop_oneof![
        1 => Just(Command::Start),
        1 => Just(Command::Stop),
        1 => Just(Command::Restart),
        1 => Just(Command::Suspend),
        1 => Just(Command::Resume),
        1 => Just(Command::Delete),
        1 => failure().prop_map(Command::Fail),
        3 => failure().prop_map(Command::Escalate),
    ]
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Starts),
        4 => Just(Step::Wakes),
        3 => any::<Index>().prop_map(Step::Ends),
        3 => (any::<Index>(), arb_actor_failure_type()).prop_map(|(child, kind)| Step::Fails(child, kind)),
        2 => arb_actor_failure_type().prop_map(Step::StartFails),
        1 => (0u64..20_000).prop_map(Step::Passes),
        1 => any::<Index>().prop_map(Step::WakesStray),
        1 => any::<Index>().prop_map(Step::EndsStray),
        3 => (any::<Index>(), arb_command()).prop_map(|(child, command)| Step::Asks(child, command)),
    ]
}

prop_compose! {
    fn arb_policy()(
        restart in arb_restart_type(),
        strategy in arb_restart_strategy(),
        at_boundary: bool,
        significant: bool,
        is_supervisor: bool,
        priority in arb_actor_priority(),
    ) -> ChildPolicy {
        ChildPolicy {
            name: ActorName::literal("child"),
            restart,
            strategy,
            at_boundary,
            significant: significant && restart != RestartType::Permanent,
            is_supervisor,
            priority,
            depends_on: Arc::default(),
        }
    }
}

/// A supervisor specification without children.
#[derive(Clone, Copy, Debug)]
struct Tier {
    group: SupervisionStrategy,
    is_dynamic: bool,
    intensity: RestartIntensity,
    slots: SlotBudget,
    auto_shutdown: AutoShutdown,
    table: Table,
    halt_for: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Table {
    Tier,
    Otp,
    Root,
}

impl Tier {
    fn spec(&self) -> SupervisorSpec {
        SupervisorSpec {
            group: self.group,
            is_dynamic: self.is_dynamic,
            intensity: self.intensity,
            slot_budget: self.slots,
            auto_shutdown: self.auto_shutdown,
            escalation: match self.table {
                Table::Tier => EscalationTable::TIER,
                Table::Otp => EscalationTable::OTP,
                Table::Root => EscalationTable::ROOT,
            },
            halt_for: self.halt_for,
            ..SupervisorSpec::new(ActorName::literal("tier"), Vec::new())
        }
    }
}

prop_compose! {
    fn arb_tier()(
        (group, is_dynamic) in select(vec![
            (SupervisionStrategy::OneForOne, false),
            (SupervisionStrategy::RestForOne, false),
            (SupervisionStrategy::OneForAll, false),
            (SupervisionStrategy::OneForOne, true),
        ]),
        (max_restarts, within) in (0u32..20, 1u64..60),
        max_missed in select(vec![10_000, 5, 0]),
        auto_shutdown in select(vec![
            AutoShutdown::Never,
            AutoShutdown::AnySignificant,
            AutoShutdown::AllSignificant,
        ]),
        table in select(vec![Table::Tier, Table::Otp, Table::Root]),
        halt_for in select(vec![Duration::ZERO, Duration::from_mins(1)]),
    ) -> Tier {
        let intensity = RestartIntensity { max_restarts, within: Duration::from_secs(within) };
        let slots = SlotBudget { max_missed, within_slots: 30 };
        Tier { group, is_dynamic, intensity, slots, auto_shutdown, table, halt_for }
    }
}

prop_compose! {
    fn arb_around()(
        slots in option::of(arb_slots()),
        random in 0.0..=1.0,
        bound in prop_oneof![3 => Just(u64::MAX), 1 => 0u64..10],
    ) -> Around {
        Around { slots, random, bound }
    }
}

/// Actual state of a child, outside the state under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Starting,
    Running,
    /// It was asked to stop.
    Stopping,
}

/// Simulates everything outside the state: it carries out the effects and checks that each is valid.
struct World {
    state: SupervisorState,
    around: Around,
    intensity: RestartIntensity,
    now: Moment,
    lives: BTreeMap<ChildKey, Life>,
    wakeups: Vec<(Moment, Wakeup)>,
    heard: Vec<Wakeup>,
    /// Times of restarts, by the priority of the restarted child.
    restarts: BTreeMap<ActorPriority, Vec<Moment>>,
    halted: Vec<ChildKey>,
    /// Children that a decision leaves down, until their siblings are restarted or a command starts them.
    down: Vec<ChildKey>,
    is_over: bool,
}

impl World {
    /// Creates a supervisor whose children have all been asked to start.
    fn new(spec: &SupervisorSpec, policies: Vec<ChildPolicy>, around: Around) -> Self {
        let mut world = Self {
            state: SupervisorState::new(spec),
            around,
            intensity: spec.intensity,
            now: Moment::ORIGIN,
            lives: BTreeMap::new(),
            wakeups: Vec::new(),
            heard: Vec::new(),
            restarts: BTreeMap::new(),
            halted: Vec::new(),
            down: Vec::new(),
            is_over: false,
        };
        for (n, policy) in policies.into_iter().enumerate() {
            let name = ActorName::new(&format!("child-{n}")).expect("a name");
            let significant = policy.significant && spec.auto_shutdown != AutoShutdown::Never;
            let policy = ChildPolicy { name, significant, ..policy };
            let key = world.state.add(world.now, policy.into()).expect("each name once");
            world.tell(&Input::Command(key, Command::Start));
        }
        world
    }

    /// Sends an input to the state and carries out the effects.
    fn tell(&mut self, input: &Input) {
        let asked = match input {
            Input::Command(key, Command::Start | Command::Restart | Command::Resume) => Some(*key),
            _ => None,
        };
        let before: Vec<_> = self.state.children().map(|(key, child)| (key, child.phase)).collect();
        let Ok(effects) = self.state.handle(self.now, &mut self.around, input.clone()) else {
            let after: Vec<_> = self.state.children().map(|(key, child)| (key, child.phase)).collect();
            assert_eq!(before, after, "a refused command changes nothing");
            return;
        };
        for effect in effects {
            self.apply(input, asked, effect);
        }
        self.check();
    }

    fn apply(&mut self, input: &Input, asked: Option<ChildKey>, effect: Effect) {
        assert!(!self.is_over, "after it gave up nothing follows, but {effect:?} from {input:?}");
        match effect {
            Effect::Start(key) => {
                let live = self.lives.insert(key, Life::Starting);
                assert_eq!(live, None, "{key:?} is started, and lives already");
                let stays = self.down.contains(&key) && asked != Some(key);
                assert!(!stays, "{key:?} was decided to stay down, and is started by {input:?}");
                self.down.retain(|&down| down != key);
                if let Some(at) = self.halted.iter().position(|&halted| halted == key) {
                    assert_eq!(asked, Some(key), "only a person's word brings a halted child back");
                    self.halted.remove(at);
                }
            }
            Effect::Stop(key) => {
                let live = self.lives.insert(key, Life::Stopping);
                assert_eq!(live, Some(Life::Running), "{key:?} is stopped, and does not run");
            }
            Effect::CancelStart(key) => {
                let live = self.lives.get(&key);
                assert_eq!(live, Some(&Life::Starting), "{key:?} is recalled, and is not being started");
            }
            Effect::Wake(wakeup, after) => self.wakeups.push((self.now + after, wakeup)),
            Effect::Tell(key, record) => {
                assert_eq!(decide(&record.inputs), record.decision, "the inputs give the decision again");
                if record.decision.step.is_restart() {
                    let priority = self.state.child(key).expect("it is a child").policy.priority;
                    self.restarts.entry(priority).or_default().push(self.now);
                    self.down.clear();
                } else {
                    self.down.push(key);
                }
            }
            Effect::Halt(..) => {}
            Effect::Release(key) => {
                let is_word = matches!(input, Input::Command(child, Command::Delete) if *child == key);
                assert!(is_word, "only a person's word ends a halt, not {input:?}");
            }
            Effect::Forget(key) => {
                assert_eq!(self.lives.get(&key), None, "{key:?} is forgotten, and lives");
                self.halted.retain(|&halted| halted != key);
            }
            Effect::GiveUp(_) => self.is_over = true,
        }
    }

    /// Invariants after every step.
    fn check(&mut self) {
        let within = |at: &&Moment| self.now.since(**at) <= self.intensity.within;
        for (priority, restarts) in &self.restarts {
            let recent = restarts.iter().filter(within).count();
            let most = self.intensity.max_restarts as usize;
            assert!(recent <= most, "{recent} restarts of {priority}, {:?}", self.intensity);
        }
        for (key, child) in self.state.children() {
            let life = match child.phase {
                ChildPhase::Starting => Some(Life::Starting),
                ChildPhase::Running => Some(Life::Running),
                ChildPhase::Stopping => Some(Life::Stopping),
                ChildPhase::Restarting | ChildPhase::Stopped | ChildPhase::Suspended | ChildPhase::Halted => {
                    None
                }
            };
            assert_eq!(self.lives.get(&key).copied(), life, "{key:?} is {:?}", child.phase);
            if child.phase == ChildPhase::Halted && !self.halted.contains(&key) {
                self.halted.push(key);
            } else if matches!(child.phase, ChildPhase::Stopped | ChildPhase::Suspended) {
                // An operator stopped or suspended it.
                self.halted.retain(|&halted| halted != key);
            }
        }
        let known = |key: &ChildKey| self.state.child(*key).is_some();
        assert!(self.lives.keys().all(known), "nobody lives who is not known");
    }

    fn at(&self, life: &[Life]) -> Vec<ChildKey> {
        self.lives.iter().filter(|(_, is)| life.contains(is)).map(|(key, _)| *key).collect()
    }

    fn ends(&mut self, key: ChildKey, exit: Exit) {
        self.lives.remove(&key);
        self.tell(&Input::Ended(key, exit));
    }

    fn starts(&mut self) -> bool {
        let Some(&key) = self.at(&[Life::Starting]).first() else { return false };
        self.lives.insert(key, Life::Running);
        self.tell(&Input::Started(key));
        true
    }

    fn wakes(&mut self) -> bool {
        let next = self.wakeups.iter().enumerate().min_by_key(|(_, (due, _))| *due).map(|(n, _)| n);
        let Some((due, wakeup)) = next.map(|n| self.wakeups.remove(n)) else { return false };
        self.now = self.now.max(due);
        self.heard.push(wakeup);
        self.tell(&Input::Wake(wakeup));
        true
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Starts => drop(self.starts()),
            Step::StartFails(kind) => {
                if let Some(&key) = self.at(&[Life::Starting]).first() {
                    self.ends(key, Exit::abnormal(Failure::new(kind).at_start()));
                }
            }
            Step::Ends(which) => {
                let live = self.at(&[Life::Running, Life::Stopping]);
                if !live.is_empty() {
                    self.ends(*which.get(&live), Exit::normal("by itself"));
                }
            }
            Step::Fails(which, kind) => {
                let live = self.at(&[Life::Running, Life::Stopping]);
                if !live.is_empty() {
                    self.ends(*which.get(&live), Exit::abnormal(Failure::new(kind)));
                }
            }
            Step::Wakes => drop(self.wakes()),
            Step::WakesStray(which) => {
                if !self.heard.is_empty() {
                    self.tell(&Input::Wake(*which.get(&self.heard)));
                }
            }
            Step::EndsStray(which) => {
                let away: Vec<_> = self.state.children().map(|(key, _)| key).collect();
                let away: Vec<_> = away.into_iter().filter(|key| !self.lives.contains_key(key)).collect();
                if !away.is_empty() {
                    self.tell(&Input::Ended(*which.get(&away), Exit::normal("long ago")));
                }
            }
            Step::Passes(millis) => {
                // Timers that are due first.
                let until = self.now + ms(millis);
                while self.wakeups.iter().any(|(due, _)| *due <= until) && !self.is_over {
                    self.wakes();
                }
                self.now = self.now.max(until);
            }
            Step::Asks(which, command) => {
                let keys: Vec<_> = self.state.children().map(|(key, _)| key).collect();
                if !keys.is_empty() {
                    self.tell(&Input::Command(*which.get(&keys), command));
                }
            }
        }
    }

    /// Lets every pending start, stop and wake-up succeed, until none is left.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.is_over {
                return;
            }
            if let Some(&key) = self.at(&[Life::Stopping]).first() {
                self.ends(key, Exit::normal("as it was told"));
            } else if !self.starts() && !self.wakes() {
                return;
            }
        }
        panic!("it does not settle");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// For any order of events: no child runs twice, no child is stopped that does not run, no budget is exceeded, and
    /// a halted child waits for an operator; and if everything succeeds from then on, every child that should restart
    /// runs.
    #[test]
    fn a_supervisor_keeps_its_children_and_its_budget_whatever_happens(
        tier in arb_tier(),
        policies in vec(arb_policy(), 1..5),
        around in arb_around(),
        steps in vec(arb_step(), 0..60),
    ) {
        let mut world = World::new(&tier.spec(), policies, around);
        for step in steps {
            world.step(step);
            if world.is_over {
                break;
            }
        }
        world.settle();
        if !world.is_over {
            for (_, child) in world.state.children() {
                let phase = child.phase;
                let rests = matches!(phase, ChildPhase::Stopped | ChildPhase::Suspended | ChildPhase::Halted);
                prop_assert!(rests || phase == ChildPhase::Running, "{} is {:?} for ever", child.policy.name, phase);
            }
        }
    }
}
