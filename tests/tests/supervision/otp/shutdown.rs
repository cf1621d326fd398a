//! Tests how children are stopped.

use super::*;

/// Cause of the child's stop.
#[derive(Clone, Copy, Debug)]
enum By {
    Hand,
    Parent,
    Cycle,
}

#[tokio::test(start_paused = true)]
async fn each_child_is_stopped_as_its_spec_says_whoever_stops_it() {
    let within = Shutdown::Within(secs(3));
    for (shutdown, stops_in, is_in_order, took) in [
        (Shutdown::BrutalKill, 0, false, 0),
        (within, 0, true, 0),
        (within, 2, true, 2),
        (within, 5, false, 3),
        (Shutdown::Infinity, 20, true, 20),
    ] {
        for by in [By::Hand, By::Parent, By::Cycle] {
            let case = format!("{shutdown:?} {stops_in} {by:?}");
            let stage = Stage::new(&format!("otp-shutdown-{case}"));
            let x = stage.puppet("x").stopping_in(secs(stops_in));
            let y = stage.puppet("y");
            let children = vec![stage.child(&x).shutdown(shutdown), stage.child(&y)];
            let root = raise(&stage, OneForAll, 1, children).await;
            let begun = stage.context.clock.now();
            let took_it = || stage.context.clock.now().since(begun);
            let end = if is_in_order { " -x1" } else { "" };
            match by {
                By::Hand => {
                    root.face.stop_child(x.address.name()).await.expect("it stops");
                    assert_eq!(took_it(), secs(took), "{case}");
                    assert_eq!(story(&stage), format!("+x1 +y1{end}"), "{case}");
                    root.stop().await;
                }
                By::Parent => {
                    root.stop().await;
                    assert_eq!(took_it(), secs(took), "{case}");
                    assert_eq!(story(&stage), format!("+x1 +y1 -y1{end}"), "{case}");
                }
                By::Cycle => {
                    y.kill();
                    settle().await;
                    assert_eq!(story(&stage), format!("+x1 +y1{end} +x2 +y2"), "{case}");
                    let (at, _) = moments(&stage, begun).pop().expect("the last start");
                    assert_eq!(at, u128::from(took) * 1_000, "{case}");
                    root.stop().await;
                }
            }
            nobody_left(&stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn children_stop_in_order_when_their_parent_ends_by_hand_by_giving_up_or_in_a_cycle() {
    for way in ["stopped", "gives-up", "cycle"] {
        let stage = Stage::new(&format!("otp-parent-ends-{way}"));
        let [a, b, c, y] = ["a", "b", "c", "y"].map(|name| stage.puppet(name).stopping_in(ms(900)));
        let tier = stage.tier("tier", 3, [&a, &b, &c].map(|puppet| stage.child(puppet)).to_vec());
        let root = raise(&stage, OneForAll, 1, vec![tier, stage.child(&y)]).await;
        match way {
            "stopped" => root.face.stop_child(&ActorName::literal("tier")).await.expect("it stops"),
            "gives-up" => {
                let failure = ActorFailureType::CorruptState { component: "x".into(), error: "y".into() };
                let decided = root.face.escalate_failure(y.address.name(), failure).await;
                assert_eq!(decided.expect("decided").step, EscalationStep::RaiseToParent);
            }
            _ => y.kill(),
        }
        settle().await;
        let expected = match way {
            "stopped" => "-c1 -b1 -a1",
            "gives-up" => "-y1 -c1 -b1 -a1",
            _ => "-c1 -b1 -a1 +a2 +b2 +c2 +y2",
        };
        assert_eq!(story(&stage), format!("+a1 +b1 +c1 +y1 {expected}"), "{way}");
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}

/// A root whose second child is a tier that is being restarted: the tier's last child `c` takes three seconds to start.
async fn restarting(prefix: &str, is_deep: bool, first: fn(ScriptedActor) -> ScriptedActor) -> (Stage, Root) {
    let stage = Stage::new(prefix);
    let first = first(stage.puppet("a"));
    let [b, y, z] = ["b", "y", "z"].map(|name| stage.puppet(name));
    let last = stage.puppet("c").starting(Start::Takes { after: 1, time: secs(3) });
    let within = Shutdown::Within(secs(5));
    let children = [&first, &b, &last].map(|puppet| stage.child(puppet).shutdown(within));
    let children = match (is_deep, children) {
        (false, children) => children.to_vec(),
        (true, [first, b, last]) => vec![first, stage.tier("low", 3, vec![b, last])],
    };
    let children = vec![stage.child(&y), stage.tier("tier", 3, children), stage.child(&z)];
    let root = raise(&stage, OneForOne, 3, children).await;
    stage.cell("tier").kill();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(story(&stage), "+y1 +a1 +b1 +c1 +z1 +a2 +b2", "the tier is being restarted");
    (stage, root)
}

#[tokio::test(start_paused = true)]
async fn what_runs_of_a_tier_that_is_being_restarted_stops_in_order_and_in_time_with_everything_else() {
    type Way = fn(ScriptedActor) -> ScriptedActor;
    let ways: [(&str, Way, &str, u64); 3] = [
        ("at-once", |a| a, "-z1 -b2 -a2 -y1", 0),
        ("slow", |a| a.stopping_in(secs(4)), "-z1 -b2 -a2 -y1", 4),
        ("clinging", ScriptedActor::clinging, "-z1 -b2 -y1", 5),
    ];
    for (way, a, stops, took) in ways {
        for is_deep in [false, true] {
            let (stage, root) = restarting(&format!("otp-restarting-{way}-{is_deep}"), is_deep, a).await;
            let begun = stage.context.clock.now();
            root.stop().await;
            let expected = format!("+y1 +a1 +b1 +c1 +z1 +a2 +b2 {stops}");
            assert_eq!(story(&stage), expected, "{way} {is_deep}");
            assert_eq!(stage.context.clock.now().since(begun), secs(took), "{way} {is_deep}");
            nobody_left(&stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_is_being_restarted_is_stopped_by_hand_without_waiting_for_its_last_child() {
    for is_deep in [false, true] {
        let (stage, root) = restarting(&format!("otp-recalled-{is_deep}"), is_deep, |a| a).await;
        let tier = ActorName::literal("tier");
        let begun = stage.context.clock.now();
        root.face.stop_child(&tier).await.expect("it stops");
        assert_eq!(stage.context.clock.now(), begun);
        assert_eq!(standing(&root.face).await, "y running, tier stopped, z running");
        root.face.start_stopped(&tier).await.expect("it starts again");
        assert_eq!(story(&stage), "+y1 +a1 +b1 +c1 +z1 +a2 +b2 -b2 -a2 +a3 +b3 +c3");
        root.stop().await;
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_of_a_tier_that_takes_too_long_to_start_stops_in_order() {
    let stage = Stage::new("otp-tier-too-long");
    let [a, b] = ["a", "b"].map(|name| stage.puppet(name));
    let c = stage.puppet("c").starting(Start::Takes { after: 1, time: secs(3) });
    let tier = stage.tier("tier", 3, [&a, &b, &c].map(|puppet| stage.child(puppet)).to_vec());
    let root = raise(&stage, OneForOne, 1, vec![tier.start_deadline(secs(2))]).await;
    stage.cell("tier").kill();
    root.ended.await.expect("the root ends without a panic");
    assert_eq!(story(&stage), "+a1 +b1 +c1 +a2 +b2 -b2 -a2");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_added_to_a_running_tier_has_its_own_deadline_when_the_whole_tree_stops() {
    let stage = Stage::new("otp-added");
    let spec = stage.spec("tier", 3, Vec::new());
    let face = EnhancedSupervision::of(&spec, stage.context.clone());
    let tier = ChildSpec::supervisor(spec, &stage.context);
    let root = raise(&stage, OneForOne, 3, vec![tier]).await;
    let x = stage.puppet("x").stopping_in(secs(4));
    let added = stage.child(&x).shutdown(Shutdown::Within(secs(5)));
    face.start_child(added).await.expect("it starts");
    root.stop().await;
    assert_eq!(story(&stage), "+x1 -x1");
    nobody_left(&stage).await;
}
