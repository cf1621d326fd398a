//! Tests that the supervisor restarts real actors, within its budget, and stops them in order.

use alys_cluster::event::ClusterEvent;
use alys_cluster::id::ActorName;
use alys_cluster::registry::ActorLifecycleState;
use alys_cluster::supervision::RestartType;
use alys_cluster::supervision::child::ChildPhase;
use alys_tests::federation::SOON;
use alys_tests::tree::{Order, ScriptedActor, Stage, Start};
use alys_tests::{eventually, seen};

/// Waits until the start with this number answers.
async fn answers(puppet: &ScriptedActor, start: u32) {
    eventually(SOON, &format!("start {start} of {:?} answers", puppet.address), async || {
        let who = puppet.who().await?;
        seen(who == start, format!("start {who}"))
    })
    .await;
}

/// Waits until the stage's record contains `line`.
async fn recorded(stage: &Stage, line: &str) {
    eventually(SOON, &format!("the record holds {line:?}"), async || {
        let lines = stage.record.lines();
        seen(lines.iter().any(|known| known == line), lines.join(", "))
    })
    .await;
}

/// State of the child in the tree view.
fn row(stage: &Stage, supervisor: &'static str, child: &str) -> (ChildPhase, u64, String) {
    let row = stage.context.tree.row(&ActorName::literal(supervisor), usize::MAX).expect("a row");
    let child = row.children.into_iter().find(|known| known.policy.name.as_str() == child).expect("a child");
    let failure = child.last_failure.as_ref().map(|failure| failure.message().to_owned());
    (child.phase, child.restarts, failure.unwrap_or_default())
}

/// Waits until the tree view shows this state of the child.
async fn shows(stage: &Stage, supervisor: &'static str, child: &str, expected: (ChildPhase, u64, &str)) {
    eventually(SOON, &format!("the board shows {child} {expected:?}"), async || {
        let (phase, restarts, failure) = row(stage, supervisor, child);
        seen((phase, restarts, failure.as_str()) == expected, format!("{phase:?} {restarts} {failure:?}"))
    })
    .await;
}

/// Waits until no actor of the stage is registered.
async fn forgotten(stage: &Stage) {
    eventually(SOON, "no actor of the tree is left", async || {
        let known = stage.known();
        seen(known.is_empty(), known.join(", "))
    })
    .await;
}

#[tokio::test]
async fn a_child_that_panics_fails_is_killed_or_ends_comes_back_under_the_address_its_callers_hold() {
    type End = fn(&ScriptedActor);
    let ways: [(&str, End, &str); 4] = [
        ("panics", |puppet| puppet.order(Order::Panic), "panics on purpose"),
        ("fails", |puppet| puppet.order(Order::Fail), "fails on purpose"),
        ("killed", ScriptedActor::kill, "killed"),
        ("ends", |puppet| puppet.order(Order::End), "ends on purpose"),
    ];
    for (name, end, reason) in ways {
        let stage = Stage::new(&format!("comes-back-{name}"));
        let (child, other) = (stage.puppet("child"), stage.puppet("other"));
        let mut events = stage.context.events.listen();
        let spec = stage.spec("root", 3, vec![stage.child(&child), stage.child(&other)]);
        let root = stage.raise(spec).await.expect("the tree starts");
        answers(&child, 1).await;
        end(&child);
        answers(&child, 2).await;
        shows(&stage, "root", "child", (ChildPhase::Running, 1, reason)).await;
        assert_eq!((other.starts(), row(&stage, "root", "other").1), (1, 0), "the other child is left alone");

        let mut told = Vec::new();
        while let Ok(recorded) = events.try_recv() {
            told.push(recorded.event.to_string());
        }
        let begins = [
            "root started child".to_owned(),
            "root started other".to_owned(),
            format!("child under root ended: {reason}"),
            "root decided: child failed".to_owned(),
            "root restarted child (restart 1)".to_owned(),
        ];
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (event, begin) in told.iter().zip(&begins) {
            assert!(event.starts_with(begin), "{begin:?} begins {event:?}");
        }
        root.stop().await;
    }
}

#[tokio::test]
async fn a_transient_child_returns_after_a_failure_only_and_a_temporary_one_never() {
    let stage = Stage::new("restart-types");
    let (transient, temporary) = (stage.puppet("transient"), stage.puppet("temporary"));
    let children = vec![
        stage.child(&transient).restart(RestartType::Transient),
        stage.child(&temporary).restart(RestartType::Temporary),
    ];
    let root = stage.raise(stage.spec("root", 0, children.clone())).await.expect("the tree starts");
    temporary.order(Order::Panic);
    eventually(SOON, "the temporary child is forgotten", async || {
        let count = root.face.count_children().await.map_err(|error| error.to_string())?;
        seen(count.specs == 1, format!("{count:?}"))
    })
    .await;
    transient.order(Order::End);
    shows(&stage, "root", "transient", (ChildPhase::Stopped, 0, "ends on purpose")).await;
    assert_eq!((transient.starts(), temporary.starts()), (1, 1));
    root.stop().await;

    let root = stage.raise(stage.spec("root", 3, children)).await.expect("the tree starts");
    for (restarts, start) in [(1, 3), (2, 4)] {
        if restarts == 1 {
            transient.order(Order::Fail);
        } else {
            transient.kill();
        }
        answers(&transient, start).await;
        assert_eq!(row(&stage, "root", "transient").1, restarts);
    }
    root.stop().await;
}

#[tokio::test]
async fn a_child_that_fails_to_start_at_boot_ends_those_before_it_in_reverse_and_its_supervisor() {
    let stage = Stage::new("boot");
    let (a, b, d) = (stage.puppet("a"), stage.puppet("b"), stage.puppet("d"));
    let c = stage.puppet("c").starting(Start::Fails { after: 0, times: 1 });
    let tier = stage.tier("tier", 3, vec![stage.child(&b), stage.child(&c), stage.child(&d)]);
    let spec = stage.spec("root", 3, vec![stage.child(&a), tier]);
    let error = stage.raise(spec).await.map(drop).expect_err("the tree does not start").to_string();
    for part in ["child tier failed to start", "child c failed to start", "start 1 fails on purpose"] {
        assert!(error.contains(part), "{part:?} in {error:?}");
    }
    assert_eq!(
        stage.record.lines(),
        ["started a 1", "started b 1", "failed c 1", "stopped b 1", "stopped a 1"]
    );
    assert_eq!(d.starts(), 0);
    forgotten(&stage).await;
}

#[tokio::test]
async fn a_restart_that_fails_is_tried_again_and_each_attempt_costs_the_budget() {
    let stage = Stage::new("failed-restarts");
    let child = stage.puppet("child").starting(Start::Fails { after: 1, times: 2 });
    let root = stage.raise(stage.spec("root", 3, vec![stage.child(&child)])).await.expect("the tree starts");
    child.kill();
    answers(&child, 4).await;
    let (phase, restarts, failure) = row(&stage, "root", "child");
    assert_eq!((phase, restarts), (ChildPhase::Running, 3));
    assert!(failure.contains("start 3 fails on purpose"), "{failure}");
    root.stop().await;

    let stage = Stage::new("failed-restarts-too-often");
    let child = stage.puppet("child").starting(Start::Fails { after: 1, times: 9 });
    let root = stage.raise(stage.spec("root", 3, vec![stage.child(&child)])).await.expect("the tree starts");
    child.kill();
    root.ended.await.expect("the root ends without a panic");
    assert_eq!(child.starts(), 4, "one start, and three more that the budget allows");
    forgotten(&stage).await;
}

#[tokio::test]
async fn a_tier_over_its_budget_ends_its_children_in_reverse_and_is_restarted_whole_by_its_parent() {
    let stage = Stage::new("tier");
    let (a, b, c, z) = (stage.puppet("a"), stage.puppet("b"), stage.puppet("c"), stage.puppet("z"));
    let tier = stage.tier("tier", 1, vec![stage.child(&a), stage.child(&b), stage.child(&c)]);
    let mut events = stage.context.events.listen();
    let root =
        stage.raise(stage.spec("root", 1, vec![tier, stage.child(&z)])).await.expect("the tree starts");
    b.order(Order::Panic);
    answers(&b, 2).await;
    b.order(Order::Panic);
    answers(&b, 3).await;
    answers(&c, 2).await;
    assert_eq!(
        stage.record.lines(),
        [
            "started a 1",
            "started b 1",
            "started c 1",
            "started z 1",
            "started b 2", // the first panic
            "stopped c 1",
            "stopped a 1",
            "started a 2",
            "started b 3",
            "started c 2", // one too many
        ]
    );
    let (phase, restarts, failure) = row(&stage, "root", "tier");
    assert_eq!((phase, restarts), (ChildPhase::Running, 1));
    assert!(
        failure.contains("restart intensity exceeded") && failure.contains("panics on purpose"),
        "{failure}"
    );
    let tier_row = stage.context.tree.row(&ActorName::literal("tier"), 0).expect("a row");
    assert_eq!(tier_row.gave_up, None, "the tier that runs now did not give up");
    let mut gave_up = 0;
    while let Ok(recorded) = events.try_recv() {
        gave_up += usize::from(matches!(&recorded.event, ClusterEvent::SupervisorGaveUp { .. }));
    }
    assert_eq!(gave_up, 1);
    // The restarted tier has a new restart history.
    a.kill();
    answers(&a, 3).await;
    assert_eq!(z.starts(), 1);
    root.stop().await;
}

#[tokio::test]
async fn a_root_over_its_budget_ends_after_its_children_and_says_why_on_the_board() {
    let stage = Stage::new("root-gives-up");
    let (a, b) = (stage.puppet("a"), stage.puppet("b"));
    let spec = stage.spec("root", 0, vec![stage.child(&a), stage.child(&b)]);
    let root = stage.raise(spec).await.expect("the tree starts");
    a.order(Order::Fail);
    root.ended.await.expect("the root ends without a panic");
    assert_eq!(stage.record.lines(), ["started a 1", "started b 1", "stopped b 1"]);
    let row = stage.context.tree.row(&ActorName::literal("root"), 0).expect("a row");
    let reason = row.gave_up.expect("a reason");
    assert!(reason.contains("restart intensity exceeded") && reason.contains("fails on purpose"), "{reason}");
    forgotten(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_over_its_stop_deadline_is_killed_and_the_others_still_end_in_order() {
    let stage = Stage::new("clings");
    let (a, d) = (stage.puppet("a"), stage.puppet("d"));
    let b = stage.puppet("b").clinging();
    let c = stage.puppet("c");
    let tier = stage.tier("tier", 3, vec![stage.child(&b), stage.child(&c)]);
    let spec = stage.spec("root", 3, vec![stage.child(&a), tier, stage.child(&d)]);
    let root = stage.raise(spec).await.expect("the tree starts");
    // One never finishes `post_stop`, the other never finishes the current message.
    c.order(Order::Hang);
    eventually(SOON, "the order is being followed", async || seen(c.address.depth() == 0, c.address.depth()))
        .await;
    root.stop().await;
    assert_eq!(stage.record.with("stopped"), ["stopped d 1", "stopped a 1"]);
    forgotten(&stage).await;
}

#[tokio::test]
async fn children_run_their_post_stop_in_reverse_when_the_tree_is_stopped() {
    let stage = Stage::new("stops");
    let names = ["a", "b", "c", "d"];
    let [a, b, c, d] = names.map(|name| stage.puppet(name));
    let tier = stage.tier("tier", 3, vec![stage.child(&b), stage.child(&c)]);
    let spec = stage.spec("root", 3, vec![stage.child(&a), tier, stage.child(&d)]);
    let root = stage.raise(spec).await.expect("the tree starts");
    root.stop().await;
    assert_eq!(stage.record.with("stopped"), ["stopped d 1", "stopped c 1", "stopped b 1", "stopped a 1"]);
    forgotten(&stage).await;
}

#[tokio::test]
async fn a_killed_tier_comes_back_with_all_its_children_and_leaves_no_second_one_behind() {
    let stage = Stage::new("killed-tier");
    let (a, b) = (stage.puppet("a"), stage.puppet("b"));
    let tier = stage.tier("tier", 3, vec![stage.child(&a), stage.child(&b)]);
    let root = stage.raise(stage.spec("root", 3, vec![tier])).await.expect("the tree starts");
    for start in 2..=4 {
        stage.cell("tier").kill();
        answers(&a, start).await;
        answers(&b, start).await;
        shows(&stage, "root", "tier", (ChildPhase::Running, u64::from(start) - 1, "killed")).await;
        eventually(SOON, "the killed children are gone", async || {
            let cells = stage.cells();
            seen(cells.len() == 4, format!("{} actors", cells.len()))
        })
        .await;
    }
    root.stop().await;
    forgotten(&stage).await;
}

#[tokio::test]
async fn a_thousand_restarts_leave_no_actor_behind() {
    let stage = Stage::new("thousand");
    let (child, other) = (stage.puppet("child"), stage.puppet("other"));
    let spec = stage.spec("root", 1_000, vec![stage.child(&child), stage.child(&other)]);
    let root = stage.raise(spec).await.expect("the tree starts");
    for restart in 1..=1_000 {
        match restart % 4 {
            0 => child.order(Order::Panic),
            1 => child.order(Order::Fail),
            2 => child.order(Order::End),
            _ => child.kill(),
        }
        answers(&child, restart + 1).await;
    }
    assert_eq!(row(&stage, "root", "child").1, 1_000);
    assert_eq!(other.starts(), 1);
    eventually(SOON, "only the present actors are known", async || {
        let cells = stage.cells();
        seen(cells.len() == 3, format!("{} actors", cells.len()))
    })
    .await;
    assert_eq!(stage.known(), ["thousand/child", "thousand/other", "thousand/root"]);
    root.stop().await;
    forgotten(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_start_never_ends_is_given_up_and_leaves_nothing_behind() {
    let stage = Stage::new("hangs");
    let (a, b) = (stage.puppet("a"), stage.puppet("b"));
    let c = stage.puppet("c").starting(Start::Hangs);
    // The start of the tier includes the start of its child.
    let tier = stage.tier("tier", 3, vec![stage.child(&b), stage.child(&c)]);
    let spec = stage.spec("root", 3, vec![stage.child(&a), tier]);
    let error = stage.raise(spec).await.map(drop).expect_err("the tree does not start").to_string();
    assert!(error.contains("failed to start: it took longer than"), "{error}");
    forgotten(&stage).await;
    assert_eq!(stage.record.with("stopped"), ["stopped b 1", "stopped a 1"], "they end in order");
}

#[tokio::test]
async fn a_supervisor_obeys_a_stop_between_two_attempts_to_start_a_child() {
    let stage = Stage::new("obeys");
    let a = stage.puppet("a");
    let b = stage.puppet("b").starting(Start::Fails { after: 1, times: u32::MAX - 1 });
    let spec = stage.spec("root", 1_000_000, vec![stage.child(&a), stage.child(&b)]);
    let root = stage.raise(spec).await.expect("the tree starts");
    b.kill();
    recorded(&stage, "failed b 9").await;
    root.stop().await;
    assert_eq!(stage.record.with("stopped"), ["stopped a 1"]);
    assert!(b.starts() < 1_000_000, "it stopped because it was told to, not because its budget was spent");
    forgotten(&stage).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_names_of_a_tree_are_free_when_its_root_has_ended_however_it_did() {
    for end in ["stopped", "gave up", "was killed"] {
        let stage = Stage::new(&format!("freed-{}", end.replace(' ', "-")));
        let [a, b] = ["a", "b"].map(|name| stage.puppet(name));
        let children = || vec![stage.child(&a), stage.tier("tier", 0, vec![stage.child(&b)])];
        // First again with the same name, then with another.
        for root in ["root", "root", "other"] {
            let raised = eventually(SOON, &format!("{root} takes the names of one that {end}"), async || {
                stage.raise(stage.spec(root, 0, children())).await.map_err(|error| error.to_string())
            })
            .await;
            for name in [root, "a", "tier", "b"].map(ActorName::literal) {
                let state = stage.context.registry.standing(&name).map(|standing| standing.state);
                assert_eq!(state, Some(ActorLifecycleState::Active), "{name} after one that {end}");
            }
            match end {
                "stopped" => raised.actor.stop(None),
                "gave up" => a.order(Order::Panic),
                _ => raised.actor.kill(),
            }
            raised.ended.await.expect("the root does not panic");
            // They have no supervisor any more: the registry must not show them alive.
            for name in [root, "a", "tier", "b"].map(ActorName::literal) {
                let state = stage.context.registry.standing(&name).map(|standing| standing.state);
                assert_eq!(state, Some(ActorLifecycleState::Terminated), "{name} of one that {end}");
            }
        }
        forgotten(&stage).await;
    }
}
