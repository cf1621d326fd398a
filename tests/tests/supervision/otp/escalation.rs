//! Tests what happens when a supervisor gives up, level by level.

use super::*;

#[tokio::test(start_paused = true)]
async fn giving_up_is_a_shutdown_after_which_a_permanent_tier_returns_and_a_transient_one_does_not() {
    for (restart, end, stands) in [
        (Permanent, " +a2 +b2 +c2", "tier running, z running"),
        (Transient, "", "tier stopped, z running"),
        (Temporary, "", "z running"),
    ] {
        let stage = Stage::new(&format!("otp-shutdown-{}", restart.as_str()));
        let [a, b, c, z] = ["a", "b", "c", "z"].map(|name| stage.puppet(name));
        let children = [&a, &b, &c].map(|puppet| stage.child(puppet)).to_vec();
        let tier = stage.tier("tier", 0, children).restart(restart);
        let root = raise(&stage, OneForOne, 1, vec![tier, stage.child(&z)]).await;
        b.order(Order::Panic);
        settle().await;
        assert_eq!(story(&stage), format!("+a1 +b1 +c1 +z1 -c1 -a1{end}"), "{restart:?}");
        assert_eq!(standing(&root.face).await, stands, "{restart:?}");
        root.stop().await;
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_transient_tier_returns_for_a_kill_is_no_shutdown() {
    let stage = Stage::new("otp-killed-tier");
    let a = stage.puppet("a");
    let tier = stage.tier("tier", 0, vec![stage.child(&a)]).restart(Transient);
    let root = raise(&stage, OneForOne, 1, vec![tier]).await;
    stage.cell("tier").kill();
    settle().await;
    assert_eq!((story(&stage).as_str(), standing(&root.face).await.as_str()), ("+a1 +a2", "tier running"));
    root.stop().await;
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn budgets_are_spent_level_by_level_and_every_level_ends_in_reverse() {
    let stage = Stage::new("otp-nested");
    let [first, b, c, last, other] = ["a", "b", "c", "d", "z"].map(|name| stage.puppet(name));
    let low = stage.tier("low", 0, vec![stage.child(&b), stage.child(&c)]);
    let mid = stage.tier("mid", 1, vec![stage.child(&first), low, stage.child(&last)]);
    let root = raise(&stage, OneForOne, 1, vec![mid, stage.child(&other)]).await;
    let mut expected = "+a1 +b1 +c1 +d1 +z1".to_owned();
    for (what, follows) in [
        ("low gives up and mid restarts it", " -c1 +b2 +c2"),
        ("low gives up, mid gives up and root restarts it", " -c2 -d1 -a1 +a2 +b3 +c3 +d2"),
        ("mid's budget is new", " -c3 +b4 +c4"),
        ("all three give up", " -c4 -d2 -a2 -z1"),
    ] {
        b.kill();
        settle().await;
        expected.push_str(follows);
        assert_eq!(story(&stage), expected, "{what}");
    }
    root.ended.await.expect("the root ends without a panic");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_transient_level_ends_the_chain_of_restarts() {
    let stage = Stage::new("otp-nested-transient");
    let [a, b, z] = ["a", "b", "z"].map(|name| stage.puppet(name));
    let low = stage.tier("low", 0, vec![stage.child(&b)]);
    let mid = stage.tier("mid", 0, vec![stage.child(&a), low]).restart(Transient);
    let root = raise(&stage, OneForAll, 0, vec![stage.child(&z), mid]).await;
    b.order(Order::Panic);
    settle().await;
    assert_eq!(story(&stage), "+z1 +a1 +b1 -a1");
    assert_eq!(standing(&root.face).await, "z running, mid stopped");
    root.face.start_stopped(&ActorName::literal("mid")).await.expect("it starts by hand");
    assert_eq!(story(&stage), "+z1 +a1 +b1 -a1 +a2 +b2");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_fails_to_start_again_costs_its_parent_one_for_each_attempt() {
    for (max_restarts, survives, expected) in [
        (3, true, "+a1 +b1 -b1 +a2 !b2 -a2 +a3 !b3 -a3 +a4 +b4"),
        (2, false, "+a1 +b1 -b1 +a2 !b2 -a2 +a3 !b3 -a3"),
    ] {
        let stage = Stage::new(&format!("otp-tier-starts-{max_restarts}"));
        let a = stage.puppet("a");
        let b = stage.puppet("b").starting(Start::Fails { after: 1, times: 2 });
        let tier = stage.tier("tier", 0, vec![stage.child(&a), stage.child(&b)]);
        let root = raise(&stage, OneForOne, max_restarts, vec![tier]).await;
        a.kill();
        settle().await;
        assert_eq!((story(&stage).as_str(), !root.ended.is_finished()), (expected, survives));
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}
