//! Tests when significant children end their supervisor.

use super::*;

use AutoShutdown::{AllSignificant, AnySignificant, Never};

type Row = (AutoShutdown, &'static [(RestartType, bool)], &'static [(usize, Exit)], bool);

#[tokio::test(start_paused = true)]
async fn the_supervisor_ends_with_any_or_all_of_them_as_it_is_told() {
    use Exit::{End, Fail, Kill, Panic};
    let rows: [Row; 14] = [
        (Never, &[(Transient, false)], &[(0, End)], false),
        (AnySignificant, &[(Transient, false), (Transient, true)], &[(0, End)], false),
        (AnySignificant, &[(Transient, false), (Transient, true)], &[(1, End)], true),
        (AnySignificant, &[(Temporary, true)], &[(0, End)], true),
        (AnySignificant, &[(Temporary, true)], &[(0, Fail)], true),
        (AnySignificant, &[(Temporary, true)], &[(0, Kill)], true),
        // A transient child that crashes restarts; it ends its supervisor only when it stops normally.
        (AnySignificant, &[(Transient, true)], &[(0, Panic), (0, Kill)], false),
        (AnySignificant, &[(Transient, true)], &[(0, Panic), (0, End)], true),
        (AllSignificant, &[(Transient, true), (Transient, true)], &[(0, End)], false),
        (AllSignificant, &[(Transient, true), (Transient, true)], &[(0, End), (1, End)], true),
        (AllSignificant, &[(Transient, true), (Temporary, true)], &[(1, Panic), (0, End)], true),
        (AllSignificant, &[(Transient, true), (Transient, true)], &[(0, End), (1, Kill)], false),
        (AllSignificant, &[(Permanent, false), (Temporary, true)], &[(0, Kill), (1, End)], true),
        (AllSignificant, &[(Transient, false), (Transient, true)], &[(0, End)], false),
    ];
    for (row, (auto_shutdown, children, exits, ends)) in rows.into_iter().enumerate() {
        let stage = Stage::new(&format!("otp-significant-{row}"));
        let puppets: Vec<_> = ["a", "b"][..children.len()].iter().map(|name| stage.puppet(name)).collect();
        // A further child shows that the remaining children are stopped gracefully.
        let z = stage.puppet("z");
        let spec = |(puppet, &(restart, is_significant)): (&ScriptedActor, &(RestartType, bool))| {
            let child = stage.child(puppet).restart(restart);
            if is_significant { child.significant() } else { child }
        };
        let mut children: Vec<_> = puppets.iter().zip(children).map(spec).collect();
        children.push(stage.child(&z));
        let spec = SupervisorSpec { auto_shutdown, ..stage.spec("root", 9, children) };
        let root = stage.raise(spec).await.expect("the tree starts");
        for (number, &(child, exit)) in exits.iter().enumerate() {
            assert!(!root.ended.is_finished(), "row {row}: not before exit {number}");
            exit.befall(&puppets[child]);
            settle().await;
        }
        assert_eq!(root.ended.is_finished(), ends, "row {row}: {exits:?}");
        assert_eq!(story(&stage).contains("-z1"), ends, "row {row}");
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_significant_is_refused() {
    for (row, (auto_shutdown, restart)) in
        [(AnySignificant, Permanent), (AllSignificant, Permanent), (Never, Transient), (Never, Temporary)]
            .into_iter()
            .enumerate()
    {
        let stage = Stage::new(&format!("otp-insignificant-{row}"));
        let [a, b] = ["a", "b"].map(|name| stage.puppet(name));
        let child = stage.child(&a).restart(restart).significant();
        let spec = stage.spec("root", 1, vec![child.clone()]);
        let refused = stage.raise(SupervisorSpec { auto_shutdown, ..spec }).await.map(drop);
        let error = refused.expect_err("it is refused at boot").to_string();
        assert!(error.contains("significant"), "{error}");

        let spec = stage.spec("root", 1, vec![stage.child(&b)]);
        let root = stage.raise(SupervisorSpec { auto_shutdown, ..spec }).await.expect("the tree starts");
        let error = root.face.start_child(child).await.expect_err("it is refused later");
        assert!(matches!(error, AdminError::Spec(_)), "{error}");
        assert_eq!(standing(&root.face).await, "b running");
        root.stop().await;
        assert_eq!(a.starts(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_and_a_siblings_cycle_do_not_trigger_it() {
    let stage = Stage::new("otp-untriggered");
    let [a, s, t, u] = ["a", "s", "t", "u"].map(|name| stage.puppet(name));
    let children = vec![
        stage.child(&a),
        stage.child(&s).restart(Transient).significant(),
        stage.child(&t).restart(Temporary).significant(),
        stage.child(&u).restart(Temporary).significant(),
    ];
    let spec = stage.spec("root", 3, children);
    let spec = SupervisorSpec { group: OneForAll, auto_shutdown: AnySignificant, ..spec };
    let root = stage.raise(spec).await.expect("the tree starts");
    root.face.stop_child(t.address.name()).await.expect("it stops");
    root.face.stop_child(s.address.name()).await.expect("it stops");
    root.face.start_stopped(s.address.name()).await.expect("it starts");
    a.order(Order::Panic);
    settle().await;
    assert_eq!(standing(&root.face).await, "a running, s running");
    root.face.stop_child(s.address.name()).await.expect("it stops");
    root.face.delete_child(s.address.name()).await.expect("it is deleted");
    settle().await;
    assert_eq!(standing(&root.face).await, "a running");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn those_an_operator_stopped_are_not_waited_for_by_the_last_of_them() {
    let stage = Stage::new("otp-last");
    let [s, t] = ["s", "t"].map(|name| stage.puppet(name));
    let children = [&s, &t].map(|puppet| stage.child(puppet).restart(Transient).significant()).to_vec();
    let spec = SupervisorSpec { auto_shutdown: AllSignificant, ..stage.spec("root", 3, children) };
    let root = stage.raise(spec).await.expect("the tree starts");
    root.face.stop_child(s.address.name()).await.expect("it stops");
    settle().await;
    assert!(!root.ended.is_finished());
    t.order(Order::End);
    settle().await;
    assert!(root.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn one_whose_restart_is_waited_for_has_not_ended() {
    let stage = Stage::new("otp-not-ended");
    let [s, t] = ["s", "t"].map(|name| stage.puppet(name));
    let children = [&s, &t].map(|puppet| stage.child(puppet).restart(Transient).significant());
    let children = children.map(|child| child.strategy(fixed(secs(5), None))).to_vec();
    let spec = SupervisorSpec { auto_shutdown: AllSignificant, ..stage.spec("root", 3, children) };
    let root = stage.raise(spec).await.expect("the tree starts");
    t.kill();
    shortly().await;
    s.order(Order::End);
    settle().await;
    assert_eq!(standing(&root.face).await, "s stopped, t running");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_ends_itself_is_a_significant_end_for_its_parent_unless_it_is_permanent() {
    for (restart, is_significant, ends, expected) in [
        (Permanent, false, false, "+s1 +z1 -s1 +s2"),
        (Transient, false, false, "+s1 +z1 -s1"),
        (Transient, true, true, "+s1 +z1 -s1 -z1"),
    ] {
        let stage = Stage::new(&format!("otp-significant-tier-{}-{is_significant}", restart.as_str()));
        let [s, z] = ["s", "z"].map(|name| stage.puppet(name));
        let inner = stage.spec("tier", 3, vec![stage.child(&s).restart(Transient).significant()]);
        let inner = SupervisorSpec { auto_shutdown: AnySignificant, ..inner };
        let tier = ChildSpec::supervisor(inner, &stage.context).restart(restart);
        let tier = if is_significant { tier.significant() } else { tier };
        let spec = stage.spec("root", 1, vec![tier, stage.child(&z)]);
        let spec = SupervisorSpec { auto_shutdown: AnySignificant, ..spec };
        let root = stage.raise(spec).await.expect("the tree starts");
        s.order(Order::End);
        settle().await;
        assert_eq!((story(&stage).as_str(), root.ended.is_finished()), (expected, ends), "{restart:?}");
        root.actor.stop(None);
        nobody_left(&stage).await;
    }
}
