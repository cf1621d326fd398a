//! Tests supervisors with thousands of children.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_thousand_children_come_and_go_and_end_together() {
    let stage = Stage::new("otp-dynamic");
    let intensity = RestartIntensity { max_restarts: 1_000, within: secs(3_600) };
    let spec = SupervisorSpec { intensity, ..SupervisorSpec::dynamic(ActorName::literal("pool")) };
    let root = stage.raise(spec).await.expect("the pool starts");
    let mut children = Vec::new();
    for number in 0..1_000 {
        let name = ActorName::new(&format!("w{number}")).expect("a name");
        let puppet = stage.puppet_of(name).stopping_in(ms(500));
        let restart = [Permanent, Transient, Temporary][number % 3];
        root.face.start_child(stage.child(&puppet).restart(restart)).await.expect("it starts");
        children.push((puppet, restart));
    }
    let counts = root.face.count_children().await.expect("it answers");
    assert_eq!(counts, ChildCounts { specs: 1_000, active: 1_000, supervisors: 0, workers: 1_000 });

    // A hundred children crash, a hundred stop by themselves.
    let mut left = Vec::new();
    for (number, (puppet, restart)) in children.iter().enumerate() {
        let exit = match number % 10 {
            0 => Some(Exit::ALL[1 + number / 10 % 3]),
            5 => Some(Exit::End),
            _ => None,
        };
        if let Some(exit) = exit {
            exit.befall(puppet);
        }
        let comes_back = match restart {
            Permanent => true,
            Transient => exit != Some(Exit::End),
            Temporary => exit.is_none(),
        };
        if comes_back {
            left.push((puppet, if exit.is_some() { 2 } else { 1 }));
        }
    }
    settle().await;
    let expected: Vec<_> =
        left.iter().map(|(puppet, _)| format!("{} running", puppet.address.name())).collect();
    assert_eq!(standing(&root.face).await, expected.join(", "));
    for (puppet, starts) in &left {
        assert_eq!(puppet.starts(), *starts, "{:?}", puppet.address);
    }
    assert_eq!(stage.known().len(), left.len() + 1, "whoever is forgotten is gone");

    let (asked, before) = (stage.context.clock.now(), stage.record.with("stopped").len());
    root.stop().await;
    assert_eq!(stage.context.clock.now().since(asked), ms(500), "they stop together");
    assert_eq!(stage.record.with("stopped").len() - before, left.len(), "each runs its post_stop");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_run_together_and_only_those_who_exceed_theirs_are_killed() {
    let stage = Stage::new("otp-dynamic-deadlines");
    let root = stage.raise(SupervisorSpec::dynamic(ActorName::literal("pool"))).await.expect("it starts");
    for (name, stops_in, shutdown) in [
        ("b", 0, Shutdown::BrutalKill),
        ("c", 9, Shutdown::Within(secs(2))),
        ("d", 9, Shutdown::Within(secs(3))),
        ("e", 4, Shutdown::Within(secs(5))),
        ("i", 6, Shutdown::Infinity),
    ] {
        let puppet = stage.puppet(name).stopping_in(secs(stops_in));
        root.face.start_child(stage.child(&puppet).shutdown(shutdown)).await.expect("it starts");
    }
    let asked = stage.context.clock.now();
    root.stop().await;
    assert_eq!(stage.context.clock.now().since(asked), secs(6));
    let stopped = moments(&stage, asked).split_off(5);
    assert_eq!(stopped, [(4_000, "-e1".to_owned()), (6_000, "-i1".to_owned())]);
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_last_of_its_significant_children() {
    let stage = Stage::new("otp-dynamic-significant");
    let pool = SupervisorSpec::dynamic(ActorName::literal("pool"));
    let spec = SupervisorSpec { auto_shutdown: AutoShutdown::AllSignificant, ..pool };
    let root = stage.raise(spec).await.expect("it starts");
    let [a, b, z] = ["a", "b", "z"].map(|name| stage.puppet(name));
    for (puppet, restart) in [(&a, Temporary), (&b, Transient)] {
        let child = stage.child(puppet).restart(restart).significant();
        root.face.start_child(child).await.expect("it starts");
    }
    root.face.start_child(stage.child(&z)).await.expect("it starts");
    a.kill();
    settle().await;
    assert_eq!(standing(&root.face).await, "b running, z running");
    b.order(Order::End);
    settle().await;
    assert!(root.ended.is_finished());
    assert_eq!(story(&stage), "+a1 +b1 +z1 -b1 -z1");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_the_operator_stopped_keeps_its_place_and_only_one_for_one_is_dynamic() {
    let stage = Stage::new("otp-dynamic-stopped");
    let pool = || SupervisorSpec::dynamic(ActorName::literal("pool"));
    for group in [OneForAll, RestForOne] {
        let refused = stage.raise(SupervisorSpec { group, ..pool() }).await.map(drop);
        let error = refused.expect_err("it is refused").to_string();
        assert!(error.contains("one-for-one for a dynamic supervisor"), "{error}");
    }
    let root = stage.raise(pool()).await.expect("it starts");
    let x = stage.puppet("x");
    root.face.start_child(stage.child(&x)).await.expect("it starts");
    root.face.stop_child(x.address.name()).await.expect("it runs");
    assert_eq!(standing(&root.face).await, "x stopped");
    root.face.start_stopped(x.address.name()).await.expect("it is stopped");
    root.stop().await;
    nobody_left(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_child_that_ends_right_after_its_start_is_lost_among_many_that_start_together() {
    // The notification that a child has started and the notification that it has ended arrive on different paths.
    for round in 0..20 {
        let stage = Stage::new(&format!("otp-nobody-lost-{round}"));
        let name = |n: usize| ActorName::new(&format!("x/{n}")).expect("a name");
        let puppets: Vec<ScriptedActor> =
            (0..20).map(|n| stage.puppet_of(name(n)).starting(Start::EndsOn(2))).collect();
        let children = puppets.iter().map(|puppet| stage.child(puppet)).collect();
        let root = raise(&stage, OneForOne, 1_000, children).await;
        puppets.iter().for_each(ScriptedActor::kill);
        for puppet in &puppets {
            eventually(secs(20), &format!("the third start of {:?} answers", puppet.address), async || {
                let who = puppet.who().await?;
                seen(who == 3, format!("start {who}"))
            })
            .await;
        }
        root.stop().await;
        nobody_left(&stage).await;
    }
}
