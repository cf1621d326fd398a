//! Tests restarts that fail.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_for_one_tries_again_rest_for_one_resumes_and_one_for_all_begins_again() {
    let begun = "+a1 +b1 +x1 +c1";
    for (group, fails, expected) in [
        (OneForOne, "x", "!x2 !x3 +x4"),
        // Children started in the cycle before the one that fails keep running.
        (RestForOne, "b", "-c1 -x1 +b2 !x2 !x3 +x4 +c2"),
        (OneForAll, "b", "-c1 -x1 -a1 +a2 +b2 !x2 -b2 -a2 +a3 +b3 !x3 -b3 -a3 +a4 +b4 +x4 +c2"),
    ] {
        let stage = Stage::new(&format!("otp-failing-{}", group.as_str()));
        let [a, b, c] = ["a", "b", "c"].map(|name| stage.puppet(name));
        let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 2 });
        let children = [&a, &b, &x, &c].map(|puppet| stage.child(puppet)).to_vec();
        let root = raise(&stage, group, 3, children).await;
        let failing = if fails == "b" { &b } else { &x };
        failing.kill();
        settle().await;
        assert_eq!(story(&stage), format!("{begun} {expected}"), "{group:?}");
        assert!(!root.ended.is_finished(), "the three attempts are within the budget");
        root.stop().await;
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn between_attempts_the_supervisor_answers_and_obeys_a_stop() {
    for group in GROUPS {
        let stage = Stage::new(&format!("otp-between-{}", group.as_str()));
        let [a, c] = ["a", "c"].map(|name| stage.puppet(name));
        let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 99 });
        let spaced = stage.child(&x).strategy(fixed(secs(600), None));
        let root = raise(&stage, group, 9, vec![stage.child(&a), spaced, stage.child(&c)]).await;
        x.kill();
        tokio::time::sleep(secs(700)).await;
        let (stands, active) = match group {
            OneForOne => ("a running, x restarting, c running", 2),
            RestForOne => ("a running, x restarting, c restarting", 1),
            OneForAll => ("a restarting, x restarting, c restarting", 0),
        };
        assert_eq!(standing(&root.face).await, stands);
        let counts = root.face.count_children().await.expect("it answers");
        assert_eq!(counts, ChildCounts { specs: 3, active, supervisors: 0, workers: 3 });
        let asked = stage.context.clock.now();
        root.stop().await;
        assert_eq!(stage.context.clock.now().since(asked), Duration::ZERO, "{group:?}");
        assert_eq!(x.starts(), 2, "{group:?}");
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_an_attempt_leaves_nothing_of_it_behind() {
    let stage = Stage::new("otp-during");
    let a = stage.puppet("a");
    let x = stage.puppet("x").starting(Start::Takes { after: 1, time: secs(5) });
    let root = raise(&stage, OneForOne, 9, vec![stage.child(&a), stage.child(&x)]).await;
    x.kill();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(standing(&root.face).await, "a running, x starting");
    root.stop().await;
    settle().await;
    assert_eq!(story(&stage), "+a1 +x1 -a1");
    nobody_left(&stage).await;
}
