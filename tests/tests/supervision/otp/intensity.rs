//! Tests when a supervisor has restarted too often.

use super::*;
use alys_cluster::supervision::SlotBudget;

#[tokio::test(start_paused = true)]
async fn a_budget_without_a_window_is_refused_for_it_would_never_be_exceeded() {
    let stage = Stage::new("otp-no-window");
    let x = stage.puppet("x");
    let spec = stage.spec("root", 3, vec![stage.child(&x)]);
    let intensity = RestartIntensity { within: Duration::ZERO, ..spec.intensity };
    let slot_budget = SlotBudget { within_slots: 0, ..spec.slot_budget };
    for (wrong, expected) in [
        (SupervisorSpec { intensity, ..spec.clone() }, "`intensity.within` is 0ns; expected more than 0"),
        (SupervisorSpec { slot_budget, ..spec }, "`slot_budget.within_slots` is 0; expected 1 or more"),
    ] {
        let refused = stage
            .raise(wrong)
            .await
            .err()
            .map(|error| alys_cluster::supervision::StartError::from(error).to_string());
        assert_eq!(refused.as_deref(), Some(expected));
    }
    assert_eq!(story(&stage), "", "nothing was started");
}

#[tokio::test(start_paused = true)]
async fn the_maximum_is_exceeded_not_reached_and_a_whole_cycle_costs_one() {
    for group in GROUPS {
        for max_restarts in [0, 1, 3] {
            let case = format!("{}-{max_restarts}", group.as_str());
            let stage = Stage::new(&format!("otp-exceeded-{case}"));
            let [a, x, c] = ["a", "x", "c"].map(|name| stage.puppet(name));
            let children = [&a, &x, &c].map(|puppet| stage.child(puppet)).to_vec();
            let root = raise(&stage, group, max_restarts, children).await;
            for failure in 1..=max_restarts {
                a.kill();
                settle().await;
                assert!(!root.ended.is_finished(), "{case}: failure {failure}");
            }
            a.kill();
            settle().await;
            assert!(root.ended.is_finished(), "{case}: one too many");
            assert_eq!(a.starts(), max_restarts + 1, "{case}");
            nobody_left(&stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_slides() {
    // Times at which the child is killed, in milliseconds, and how many of these failures the supervisor survives.
    let rows: [(&[u64], usize); 6] = [
        (&[0, 6_000, 12_000, 18_000, 24_000, 30_000], 6),
        (&[0, 5_000, 10_000], 2),
        (&[0, 5_000, 10_001, 15_001, 20_002], 5),
        (&[0, 4_000, 8_000], 2),
        // Because of the pause, the second series of failures is no longer than the first.
        (&[0, 1_000, 30_000, 31_000, 32_000], 4),
        // A failure after a quiet period only drops failures outside the window.
        (&[0, 9_000, 11_000, 12_000], 3),
    ];
    for (row, (kills, survived)) in rows.into_iter().enumerate() {
        let stage = Stage::new(&format!("otp-slides-{row}"));
        let x = stage.puppet("x");
        let intensity = RestartIntensity { max_restarts: 2, within: secs(10) };
        let spec = SupervisorSpec { intensity, ..stage.spec("root", 0, vec![stage.child(&x)]) };
        let root = stage.raise(spec).await.expect("the tree starts");
        let begun = stage.context.clock.now();
        let mut survivals = 0;
        for &at in kills {
            tokio::time::sleep(ms(at).saturating_sub(stage.context.clock.now().since(begun))).await;
            x.kill();
            tokio::task::yield_now().await;
            shortly().await;
            survivals += usize::from(!root.ended.is_finished());
        }
        assert_eq!(survivals, survived, "{kills:?}");
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_failed_start_costs_one_under_each_strategy() {
    for group in GROUPS {
        for (max_restarts, survives) in [(3, true), (2, false)] {
            let stage = Stage::new(&format!("otp-starts-{}-{max_restarts}", group.as_str()));
            let a = stage.puppet("a");
            let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 2 });
            let children = vec![stage.child(&a), stage.child(&x)];
            let root = raise(&stage, group, max_restarts, children).await;
            x.kill();
            settle().await;
            assert_eq!(!root.ended.is_finished(), survives, "{group:?}, {max_restarts}");
            root.actor.stop(None);
            nobody_left(&stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_ends_right_after_each_start_spends_the_budget() {
    let stage = Stage::new("otp-brief-permanent");
    let x = stage.puppet("x").starting(Start::Ends);
    let root = raise(&stage, OneForOne, 3, vec![stage.child(&x)]).await;
    root.ended.await.expect("the root ends without a panic");
    assert_eq!(story(&stage), "+x1 -x1 +x2 -x2 +x3 -x3 +x4 -x4");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_automatic_restart_costs_nothing() {
    let stage = Stage::new("otp-costless");
    let [p, t, e] = ["p", "t", "e"].map(|name| stage.puppet(name));
    let children =
        vec![stage.child(&p), stage.child(&t).restart(Transient), stage.child(&e).restart(Temporary)];
    let root = raise(&stage, OneForOne, 0, children).await;
    let (permanent, transient) = (p.address.name(), t.address.name());
    e.order(Order::Panic);
    for _ in 0..3 {
        t.order(Order::End);
        shortly().await;
        root.face.start_stopped(transient).await.expect("it is stopped");
        root.face.restart_child(permanent).await.expect("it runs");
        root.face.suspend_child(permanent).await.expect("it runs");
        root.face.resume_child(permanent).await.expect("it is suspended");
    }
    settle().await;
    assert_eq!(standing(&root.face).await, "p running, t running");
    assert_eq!((p.starts(), t.starts(), e.starts()), (7, 4, 1));
    let list = root.face.list_children().await.expect("it answers");
    assert!(list.iter().all(|child| child.restarts == 0), "{list:?}");
    root.stop().await;
}
