//! Tests the times at which restarts take place.

use super::*;

fn backoff() -> ExponentialBackoffConfig {
    let (initial_delay, max_delay) = (ms(100), ms(1_000));
    ExponentialBackoffConfig { initial_delay, max_delay, jitter: 0.0, ..ExponentialBackoffConfig::default() }
}

fn at_moments<const N: usize>(expected: [(u128, &str); N]) -> Vec<(u128, String)> {
    expected.map(|(at, token)| (at, token.to_owned())).to_vec()
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spaced_as_configured_and_after_the_last_the_next_step_is_taken() {
    let exponential = ExponentialBackoffConfig { max_attempts: Some(5), ..backoff() };
    let stepwise = FixedDelayConfig {
        delay: ms(200),
        max_attempts: Some(5),
        progressive_increment: Some(ms(150)),
        max_delay: Some(ms(600)),
        ..FixedDelayConfig::default()
    };
    let (otp, root_table, tier) = (EscalationTable::OTP, EscalationTable::ROOT, EscalationTable::TIER);
    let exponential = RestartStrategy::ExponentialBackoff(exponential);
    let stepwise = RestartStrategy::FixedDelay(stepwise);
    let (by_backoff, by_steps) = ([100, 300, 700, 1_500, 2_500], [200, 550, 1_050, 1_650, 2_250]);
    for (row, (strategy, at, table, priority, end)) in [
        (exponential, by_backoff, otp, ActorPriority::Normal, "raised"),
        (stepwise, by_steps, otp, ActorPriority::Normal, "raised"),
        (exponential, by_backoff, root_table, ActorPriority::Background, "left"),
        (stepwise, by_steps, tier, ActorPriority::Critical, "together"),
    ]
    .into_iter()
    .enumerate()
    {
        let stage = Stage::new(&format!("otp-spaced-{row}"));
        let a = stage.puppet("a");
        let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 5 });
        let spaced = stage.child(&x).strategy(strategy).priority(priority);
        let spec = stage.spec("root", 9, vec![stage.child(&a), spaced]);
        let spec = SupervisorSpec { escalation: table, ..spec };
        let root = stage.raise(spec).await.expect("the tree starts");
        let failed = stage.context.clock.now();
        x.kill();
        settle().await;
        let mut expected = vec![(0, "+a1".to_owned()), (0, "+x1".to_owned())];
        expected.extend((2..).zip(at).map(|(start, at)| (at, format!("!x{start}"))));
        let follows: &[&str] = match end {
            "raised" => &["-a1"],
            "together" => &["-a1", "+a2", "+x7"],
            _ => &[],
        };
        expected.extend(follows.iter().map(|&token| (at[4], token.to_owned())));
        assert_eq!(moments(&stage, failed), expected, "row {row}");
        assert_eq!(root.ended.is_finished(), end == "raised", "row {row}");
        if end == "left" {
            assert_eq!(standing(&root.face).await, "a running, x stopped");
        }
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_delay_grows_with_failures_in_a_row_and_begins_anew_after_a_window_that_went_well() {
    let stage = Stage::new("otp-in-a-row");
    let x = stage.puppet("x");
    let child = stage.child(&x).strategy(RestartStrategy::ExponentialBackoff(backoff()));
    let intensity = RestartIntensity { max_restarts: 9, within: secs(10) };
    let spec = SupervisorSpec { intensity, ..stage.spec("root", 9, vec![child]) };
    let root = stage.raise(spec).await.expect("the tree starts");
    let mut since = stage.context.clock.now();
    for (start, (ran_ms, delay_ms)) in
        (2..).zip([(5, 100), (9_999, 200), (5, 400), (10_000, 100), (5, 200), (12_000, 100), (5, 200)])
    {
        tokio::time::sleep(ms(ran_ms).saturating_sub(stage.context.clock.now().since(since))).await;
        let failed = stage.context.clock.now();
        x.kill();
        tokio::time::sleep(ms(delay_ms)).await;
        shortly().await;
        let (at, token) = moments(&stage, failed).pop().expect("a start");
        assert_eq!((at, token), (u128::from(delay_ms), format!("+x{start}")), "ran for {ran_ms} ms");
        since = failed + ms(delay_ms);
    }
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_to_the_slots_that_are_known() {
    let slots = SlotTiming { boundary: Moment::at(ms(700)), block_time: secs(2) };
    let polite = ExponentialBackoffConfig { respect_consensus_timing: true, ..backoff() };
    let whole = ExponentialBackoffConfig { align_to_block_boundary: true, ..backoff() };
    let polite = RestartStrategy::ExponentialBackoff(polite);
    let whole = RestartStrategy::ExponentialBackoff(whole);
    let plain = RestartStrategy::ExponentialBackoff(backoff());
    let aligned =
        FixedDelayConfig { delay: ms(2_001), blockchain_aligned: true, ..FixedDelayConfig::default() };
    let aligned = RestartStrategy::FixedDelay(aligned);
    let at_once = RestartStrategy::Immediate;
    for (row, (slots, strategy, at_boundary, failed_ms, started_ms)) in [
        (Some(slots), at_once, true, 1_000, 2_700),
        (Some(slots), at_once, true, 2_700, 2_700),
        (Some(slots), at_once, true, 2_701, 4_700),
        (Some(slots), at_once, false, 1_000, 1_000),
        (None, at_once, true, 1_000, 1_000),
        (Some(slots), fixed(secs(1), None), true, 2_000, 4_700),
        (Some(slots), plain, false, 650, 750),
        (Some(slots), polite, false, 650, 1_300),
        (Some(slots), polite, false, 600, 700),
        (Some(slots), polite, false, 601, 1_300),
        (Some(slots), polite, false, 1_200, 1_300),
        (None, polite, false, 650, 750),
        (Some(slots), polite, true, 650, 2_700),
        (Some(slots), polite, true, 2_550, 2_700),
        // Rounding a delay up to whole blocks does not need a known boundary.
        (None, whole, false, 650, 2_650),
        (Some(slots), whole, true, 650, 2_700),
        (None, aligned, false, 100, 4_100),
    ]
    .into_iter()
    .enumerate()
    {
        let stage = Stage::new(&format!("otp-slots-{row}"));
        let x = stage.puppet("x");
        let child = stage.child(&x).strategy(strategy);
        let child = if at_boundary { child.at_boundary() } else { child };
        let root = raise(&stage, OneForOne, 1, vec![child]).await;
        if let Some(timing) = slots {
            stage.context.slots.set(timing);
        }
        tokio::time::sleep(ms(failed_ms)).await;
        x.kill();
        settle().await;
        let expected = at_moments([(0, "+x1"), (started_ms, "+x2")]);
        assert_eq!(moments(&stage, Moment::ORIGIN), expected, "row {row}: failed at {failed_ms} ms");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_cycle_waits_for_the_boundary_of_the_child_that_failed() {
    let stage = Stage::new("otp-slots-cycle");
    let [a, x, c] = ["a", "x", "c"].map(|name| stage.puppet(name));
    let children = vec![stage.child(&a), stage.child(&x).at_boundary(), stage.child(&c)];
    let root = raise(&stage, RestForOne, 9, children).await;
    stage.context.slots.set(SlotTiming { boundary: Moment::at(ms(700)), block_time: secs(2) });
    tokio::time::sleep(ms(1_000)).await;
    x.kill();
    settle().await;
    let now = stage.context.clock.now().since(Moment::ORIGIN).as_millis();
    a.kill();
    settle().await;
    let expected = at_moments([
        (0, "+a1"),
        (0, "+x1"),
        (0, "+c1"),
        (1_000, "-c1"),
        (2_700, "+x2"),
        (2_700, "+c2"),
        // The first child does not wait for slots, and neither do the children that start after it.
        (now, "-c2"),
        (now, "-x2"),
        (now, "+a2"),
        (now, "+x3"),
        (now, "+c3"),
    ]);
    assert_eq!(moments(&stage, Moment::ORIGIN), expected);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn slots_missed_beyond_the_budget_raise_the_failure_instead() {
    use alys_cluster::supervision::SlotBudget;
    for (delay, survives) in [(secs(6), true), (ms(6_001), false)] {
        let stage = Stage::new(&format!("otp-missed-{survives}"));
        let x = stage.puppet("x");
        let child = stage.child(&x).strategy(fixed(delay, None));
        let slot_budget = SlotBudget { max_missed: 2, within_slots: 30 };
        let spec = SupervisorSpec { slot_budget, ..stage.spec("root", 9, vec![child]) };
        let root = stage.raise(spec).await.expect("the tree starts");
        stage.context.slots.set(SlotTiming { boundary: Moment::ORIGIN, block_time: secs(2) });
        tokio::time::sleep(secs(2)).await;
        // Between two boundaries that are n blocks apart there are n - 1 others.
        x.kill();
        settle().await;
        assert_eq!(!root.ended.is_finished(), survives, "{delay:?}");
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slots_missed_while_a_circuit_is_open_cost_nothing_and_others_do() {
    use alys_cluster::supervision::{PatternConfig, SlotBudget, SupervisionMemory};
    let (well, fails) = (Start::Well, Start::Fails { after: 3, times: 2 });
    for (row, (group, start, at_boundary, survives)) in [
        (OneForOne, well, false, true),
        (OneForOne, well, true, true),
        (OneForAll, well, false, true),
        (OneForAll, well, true, true),
        // Failed starts after the pause do not add missed slots.
        (OneForOne, fails, false, true),
        (OneForAll, fails, false, true),
        // A start that takes three seconds misses slots itself.
        (OneForOne, Start::Takes { after: 3, time: secs(3) }, false, false),
        (OneForAll, Start::Takes { after: 3, time: secs(3) }, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stage = Stage::new(&format!("otp-circuit-{row}"));
        let patterns = PatternConfig { circuit_after: 3, ..PatternConfig::default() };
        stage.context.memory = SupervisionMemory::new(patterns);
        let [a, x] = ["a", "x"].map(|name| stage.puppet(name));
        let x = x.starting(start);
        let child = if at_boundary { stage.child(&x).at_boundary() } else { stage.child(&x) };
        let slot_budget = SlotBudget { max_missed: 0, within_slots: 1_000 };
        let spec = stage.spec("root", 99, vec![stage.child(&a), child]);
        let root = stage.raise(SupervisorSpec { slot_budget, group, ..spec }).await.expect("the tree starts");
        let boundary = stage.context.clock.now() + ms(500);
        stage.context.slots.set(SlotTiming { boundary, block_time: secs(2) });
        for kills in 1..=6 {
            let failed = stage.context.clock.now();
            x.kill();
            tokio::time::sleep(secs(15)).await;
            if root.ended.is_finished() {
                break;
            }
            let (at, _) = moments(&stage, failed).pop().expect("it started");
            // Five slots begin in the ten seconds for which the circuit is open.
            assert_eq!(at >= 10_000, kills >= 3, "row {row}: kill {kills} was answered after {at} ms");
        }
        assert_eq!(!root.ended.is_finished(), survives, "row {row}: {}", story(&stage));
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}
