//! Tests what happens to siblings while they are restarted together.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_sibling_that_clings_is_killed_at_its_deadline_and_the_cycle_goes_on() {
    let stage = Stage::new("otp-clinging");
    let [a, c] = ["a", "c"].map(|name| stage.puppet(name));
    let b = stage.puppet("b").clinging();
    let clinging = stage.child(&b).shutdown(Shutdown::Within(secs(3)));
    let root = raise(&stage, OneForAll, 1, vec![stage.child(&a), clinging, stage.child(&c)]).await;
    let failed = stage.context.clock.now();
    a.order(Order::Panic);
    tokio::time::sleep(secs(2)).await;
    assert_eq!(standing(&root.face).await, "a restarting, b stopping, c restarting");
    settle().await;
    let expected = [(0, "-c1"), (3_000, "+a2"), (3_000, "+b2"), (3_000, "+c2")];
    assert_eq!(moments(&stage, failed)[3..], expected.map(|(at, token)| (at, token.to_owned())));
    root.stop().await;
    nobody_left(&stage).await;
}

/// A tree whose `a` has failed, and whose `c` takes two seconds to stop in the restart cycle that follows: one second
/// into it, the others are to be stopped but still run.
async fn cycling(stage: &Stage, max_restarts: u32, auto_shutdown: AutoShutdown, b: ChildSpec) -> Root {
    let a = stage.puppet("a");
    let c = stage.puppet("c").stopping_in(secs(2));
    let slow = stage.child(&c).shutdown(Shutdown::Within(secs(5)));
    let spec = stage.spec("root", max_restarts, vec![stage.child(&a), b, slow]);
    let spec = SupervisorSpec { group: OneForAll, auto_shutdown, ..spec };
    let root = stage.raise(spec).await.expect("the tree starts");
    a.order(Order::Panic);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(standing(&root.face).await, "a restarting, b running, c stopping");
    root
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_fails_before_the_cycle_stops_it_starts_again_with_the_others() {
    let stage = Stage::new("otp-second-failure");
    let b = stage.puppet("b");
    let root = cycling(&stage, 2, AutoShutdown::Never, stage.child(&b)).await;
    b.order(Order::Panic);
    settle().await;
    assert_eq!(story(&stage), "+a1 +b1 +c1 -c1 +a2 +b2 +c2");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sibling_that_fails_before_the_cycle_stops_it_costs_no_second_restart() {
    let stage = Stage::new("otp-second-failure-costs");
    let b = stage.puppet("b");
    let root = cycling(&stage, 1, AutoShutdown::Never, stage.child(&b)).await;
    b.order(Order::Panic);
    settle().await;
    assert!(!root.ended.is_finished(), "a whole cycle costs one: {}", story(&stage));
    assert_eq!(story(&stage), "+a1 +b1 +c1 -c1 +a2 +b2 +c2");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_sibling_that_ends_before_the_cycle_stops_it_starts_again_with_the_others() {
    let stage = Stage::new("otp-second-end");
    let b = stage.puppet("b");
    let root = cycling(&stage, 1, AutoShutdown::Never, stage.child(&b).restart(Transient)).await;
    b.order(Order::End);
    settle().await;
    assert_eq!(story(&stage), "+a1 +b1 +c1 -b1 -c1 +a2 +b2 +c2");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_significant_sibling_that_ends_before_the_cycle_stops_it_does_not_end_the_supervisor() {
    let stage = Stage::new("otp-second-significant");
    let b = stage.puppet("b");
    let significant = stage.child(&b).restart(Transient).significant();
    let root = cycling(&stage, 1, AutoShutdown::AnySignificant, significant).await;
    b.order(Order::End);
    settle().await;
    assert!(!root.ended.is_finished(), "the cycle would have stopped it anyway: {}", story(&stage));
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_again_while_the_cycle_starts_the_others_begins_it_anew() {
    for (group, expected) in [
        (OneForAll, "+a1 +x1 +c1 -c1 -x1 +a2 +x2 -x2 +a3 +x3 +c2"),
        (RestForOne, "+a1 +x1 +c1 -c1 -x1 +a2 +x2 -x2 +a3 +x3 +c2"),
    ] {
        let stage = Stage::new(&format!("otp-fails-again-{}", group.as_str()));
        let [a, c] = ["a", "c"].map(|name| stage.puppet(name));
        let x = stage.puppet("x").starting(Start::Takes { after: 1, time: secs(4) });
        let children = [&a, &x, &c].map(|puppet| stage.child(puppet)).to_vec();
        let root = raise(&stage, group, 2, children).await;
        a.order(Order::Panic);
        tokio::time::sleep(secs(2)).await;
        assert_eq!(standing(&root.face).await, "a running, x starting, c restarting");
        a.order(Order::Panic);
        settle().await;
        assert_eq!(story(&stage), expected, "{group:?}");
        assert!(!root.ended.is_finished(), "two failures cost two");
        a.order(Order::Panic);
        settle().await;
        assert!(root.ended.is_finished(), "the third is one too many");
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_stopped_by_hand_while_its_cycle_waits_stays_down_and_the_others_return() {
    for group in [OneForAll, RestForOne] {
        let stage = Stage::new(&format!("otp-taken-out-{}", group.as_str()));
        let [a, x, c] = ["a", "x", "c"].map(|name| stage.puppet(name));
        let spaced = stage.child(&x).strategy(fixed(secs(5), None));
        let root = raise(&stage, group, 1, vec![stage.child(&a), spaced, stage.child(&c)]).await;
        x.kill();
        tokio::time::sleep(secs(1)).await;
        root.face.stop_child(x.address.name()).await.expect("it waits");
        settle().await;
        let expected = match group {
            OneForAll => "+a1 +x1 +c1 -c1 -a1 +a2 +c2",
            _ => "+a1 +x1 +c1 -c1 +c2",
        };
        assert_eq!(story(&stage), expected, "{group:?}");
        assert_eq!(standing(&root.face).await, "a running, x stopped, c running");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_starts_nobody_before_an_earlier_sibling_that_is_being_restarted_by_hand() {
    let stage = Stage::new("otp-by-hand-first");
    let a = stage.puppet("a").stopping_in(secs(2));
    let [b, c] = ["b", "c"].map(|name| stage.puppet(name));
    let slow = stage.child(&a).shutdown(Shutdown::Within(secs(5)));
    let root = raise(&stage, OneForAll, 2, vec![slow, stage.child(&b), stage.child(&c)]).await;
    let (face, name) = (root.face.clone(), a.address.name().clone());
    let restarting = tokio::spawn(async move { face.restart_child(&name).await });
    tokio::time::sleep(secs(1)).await;
    b.kill();
    settle().await;
    assert_eq!(told(restarting.await.expect("joined")), "done");
    assert_eq!(story(&stage), "+a1 +b1 +c1 -c1 -a1 +a2 +b2 +c2");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_child_is_left_alone_by_its_siblings_cycles() {
    for group in [OneForAll, RestForOne] {
        let stage = Stage::new(&format!("otp-suspended-{}", group.as_str()));
        let [a, b, c] = ["a", "b", "c"].map(|name| stage.puppet(name));
        let children = [&a, &b, &c].map(|puppet| stage.child(puppet)).to_vec();
        let root = raise(&stage, group, 1, children).await;
        root.face.suspend_child(b.address.name()).await.expect("it runs");
        a.order(Order::Panic);
        settle().await;
        assert_eq!(standing(&root.face).await, "a running, b suspended, c running");
        root.face.resume_child(b.address.name()).await.expect("it is suspended");
        assert_eq!(story(&stage), "+a1 +b1 +c1 -b1 -c1 +a2 +c2 +b2");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_delayed_cycle_stops_the_siblings_at_once_and_starts_all_when_it_is_due() {
    let stage = Stage::new("otp-delayed-cycle");
    let [a, b, c] = ["a", "b", "c"].map(|name| stage.puppet(name));
    let spaced = stage.child(&b).strategy(fixed(secs(5), None));
    let root = raise(&stage, OneForAll, 1, vec![stage.child(&a), spaced, stage.child(&c)]).await;
    let failed = stage.context.clock.now();
    b.kill();
    settle().await;
    let expected = [(0, "-c1"), (0, "-a1"), (5_000, "+a2"), (5_000, "+b2"), (5_000, "+c2")];
    assert_eq!(moments(&stage, failed)[3..], expected.map(|(at, token)| (at, token.to_owned())));
    root.stop().await;
}
