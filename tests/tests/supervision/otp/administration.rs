//! Tests which commands an operator can give, and which are rejected.

use super::*;

const COMMANDS: [&str; 6] = ["start", "stop", "restart", "suspend", "resume", "delete"];

async fn command(face: &EnhancedSupervision, what: &str, child: &ActorName) -> String {
    told(match what {
        "start" => face.start_stopped(child).await,
        "stop" => face.stop_child(child).await,
        "restart" => face.restart_child(child).await,
        "suspend" => face.suspend_child(child).await,
        "resume" => face.resume_child(child).await,
        "delete" => face.delete_child(child).await,
        other => panic!("no command {other}"),
    })
}

/// A root whose only child is in this phase.
async fn standing_like(stage: &Stage, phase: &str) -> (Root, ScriptedActor) {
    let slow = Start::Takes { after: 1, time: secs(5) };
    let puppet = match phase {
        "starting" => stage.puppet("x").starting(slow),
        "stopping" => stage.puppet("x").stopping_in(secs(5)),
        _ => stage.puppet("x"),
    };
    let child = stage.child(&puppet).priority(ActorPriority::Critical);
    let child = child.shutdown(Shutdown::Within(secs(10)));
    let child = if phase == "restarting" { child.strategy(fixed(secs(600), None)) } else { child };
    let spec = stage.spec("root", 9, vec![child]);
    let spec = SupervisorSpec { escalation: EscalationTable::ROOT, halt_for: secs(3_600), ..spec };
    let root = stage.raise(spec).await.expect("the tree starts");
    let (face, name) = (&root.face, puppet.address.name());
    match phase {
        "stopped" => face.stop_child(name).await.expect("it runs"),
        "suspended" => face.suspend_child(name).await.expect("it runs"),
        "restarting" | "starting" => puppet.kill(),
        "stopping" => {
            let (face, name) = (face.clone(), name.clone());
            tokio::spawn(async move { face.stop_child(&name).await.expect("it runs") });
        }
        "halted" => {
            let fatal = ActorFailureType::ConsensusFailure { error_code: "equivocation".to_owned() };
            face.handle_actor_failure(name, fatal).await.expect("it runs");
        }
        _ => {}
    }
    shortly().await;
    assert_eq!(standing(face).await, format!("x {phase}"));
    (root, puppet)
}

#[tokio::test(start_paused = true)]
async fn each_command_is_done_or_refused_by_where_the_child_stands() {
    const NOT_DOWN: &str = "stopped or halted";
    const NOT_SUSPENDED: &str = "suspended";
    const NOT_DELETABLE: &str = "stopped, suspended or halted";
    const NOT_SUSPENDABLE: &str = "neither stopping nor halted";
    const NOT_STOPPABLE: &str = "running, starting, restarting or stopped";
    const NOT_RESTARTABLE: &str = "running, restarting, stopped or halted";
    // State of the child after each command, or the expectation in the error, in the order of `COMMANDS`.
    type Outcome = Result<&'static str, &'static str>;
    let (running, stopped, suspended, gone) = (Ok("x running"), Ok("x stopped"), Ok("x suspended"), Ok(""));
    let rows: [(&str, [Outcome; 6]); 7] = [
        ("running", [Err(NOT_DOWN), stopped, running, suspended, Err(NOT_SUSPENDED), Err(NOT_DELETABLE)]),
        ("stopped", [running, stopped, running, suspended, Err(NOT_SUSPENDED), gone]),
        ("suspended", [Err(NOT_DOWN), Err(NOT_STOPPABLE), Err(NOT_RESTARTABLE), suspended, running, gone]),
        ("restarting", [Err(NOT_DOWN), stopped, running, suspended, Err(NOT_SUSPENDED), Err(NOT_DELETABLE)]),
        (
            "starting",
            [Err(NOT_DOWN), stopped, Err(NOT_RESTARTABLE), suspended, Err(NOT_SUSPENDED), Err(NOT_DELETABLE)],
        ),
        (
            "stopping",
            [
                Err(NOT_DOWN),
                Err(NOT_STOPPABLE),
                Err(NOT_RESTARTABLE),
                Err(NOT_SUSPENDABLE),
                Err(NOT_SUSPENDED),
                Err(NOT_DELETABLE),
            ],
        ),
        ("halted", [running, Err(NOT_STOPPABLE), running, Err(NOT_SUSPENDABLE), Err(NOT_SUSPENDED), gone]),
    ];
    for (phase, outcomes) in rows {
        for (what, outcome) in COMMANDS.into_iter().zip(outcomes) {
            let case = format!("{what}-{phase}");
            let stage = Stage::new(&format!("otp-command-{case}"));
            let (root, puppet) = standing_like(&stage, phase).await;
            let answer = command(&root.face, what, puppet.address.name()).await;
            match outcome {
                Ok(stands) => {
                    assert_eq!(
                        (answer.as_str(), standing(&root.face).await.as_str()),
                        ("done", stands),
                        "{case}"
                    );
                    // No timer of an earlier incarnation fires in between.
                    tokio::time::sleep(secs(700)).await;
                    assert_eq!(standing(&root.face).await, stands, "{case}, later");
                }
                Err(expected) => {
                    assert_eq!(answer, format!("child x is {phase}; expected {expected}"), "{case}");
                    assert_eq!(standing(&root.face).await, format!("x {phase}"), "{case}: nothing changed");
                }
            }
            root.stop().await;
            nobody_left(&stage).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_nobody_knows_is_named_in_every_refusal() {
    let stage = Stage::new("otp-unknown");
    let root = raise(&stage, OneForOne, 1, Vec::new()).await;
    let nobody = ActorName::literal("nobody");
    for what in COMMANDS {
        assert_eq!(command(&root.face, what, &nobody).await, "supervisor root has no child nobody", "{what}");
    }
    let failure = || ActorFailureType::HealthCheckFailure { consecutive_failures: 3 };
    let reports = [
        told(root.face.handle_actor_failure(&nobody, failure()).await),
        told(root.face.escalate_failure(&nobody, failure()).await),
    ];
    assert_eq!(reports, ["supervisor root has no child nobody"; 2]);
    let face = root.face.clone();
    root.stop().await;
    let silent = told(face.list_children().await);
    assert!(silent.starts_with("supervisor root does not answer"), "{silent}");
}

#[tokio::test(start_paused = true)]
async fn a_name_given_twice_is_refused_before_anybody_starts() {
    let stage = Stage::new("otp-twice");
    let [a, x] = ["a", "x"].map(|name| stage.puppet(name));
    let spec = stage.spec("root", 1, vec![stage.child(&a), stage.child(&x), stage.child(&x)]);
    let error = stage.raise(spec).await.map(drop).expect_err("it is refused").to_string();
    assert!(error.contains("children.name") && error.contains('x'), "{error}");
    assert_eq!(story(&stage), "");
    nobody_left(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_until_its_child_is_forgotten() {
    let stage = Stage::new("otp-taken");
    let x = stage.puppet("x");
    let again = || stage.child(&x);
    let root = raise(&stage, OneForOne, 0, vec![again()]).await;
    let (face, name) = (&root.face, x.address.name());
    let taken = |phase| format!("supervisor root has a child x already, which is {phase}");
    assert_eq!(told(face.start_child(again()).await), taken("running"));
    face.stop_child(name).await.expect("it runs");
    assert_eq!(told(face.start_child(again()).await), taken("stopped"));
    face.start_stopped(name).await.expect("it is stopped");
    face.suspend_child(name).await.expect("it runs");
    assert_eq!(told(face.start_child(again()).await), taken("suspended"));
    face.delete_child(name).await.expect("it is suspended");
    face.start_child(again().restart(Temporary)).await.expect("the name is free");
    face.restart_child(name).await.expect("it runs, and its spec is kept for that");
    face.stop_child(name).await.expect("it runs");
    assert_eq!(standing(face).await, "", "a temporary child that is stopped is forgotten");
    face.start_child(again()).await.expect("the name is free");
    assert_eq!(x.starts(), 5);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_child_whose_first_start_fails_is_not_kept_and_costs_nothing() {
    let stage = Stage::new("otp-not-kept");
    let a = stage.puppet("a");
    let x = stage.puppet("x").starting(Start::Fails { after: 0, times: 2 });
    let root = raise(&stage, OneForAll, 0, vec![stage.child(&a)]).await;
    for start in 1..=2 {
        let failed = told(root.face.start_child(stage.child(&x)).await);
        assert_eq!(failed, format!("child x failed to start: start {start} fails on purpose"));
        assert_eq!(standing(&root.face).await, "a running");
    }
    root.face.start_child(stage.child(&x)).await.expect("the third start goes well");
    assert_eq!(standing(&root.face).await, "a running, x running");
    assert_eq!(a.starts(), 1);
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_by_hand_that_fails_leaves_a_known_child_stopped_and_costs_nothing() {
    let stage = Stage::new("otp-by-hand");
    let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 2 });
    let root = raise(&stage, OneForOne, 0, vec![stage.child(&x)]).await;
    let (face, name) = (&root.face, x.address.name());
    let failed = |start| format!("child x failed to start: start {start} fails on purpose");
    face.stop_child(name).await.expect("it runs");
    for start in [2, 3] {
        assert_eq!(told(face.start_stopped(name).await), failed(start));
        assert_eq!(standing(face).await, "x stopped");
    }
    face.start_stopped(name).await.expect("the fourth start goes well");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_hand_that_fails_is_a_failure_and_the_child_comes_back() {
    let stage = Stage::new("otp-restart-by-hand");
    let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 2 });
    let root = raise(&stage, OneForOne, 9, vec![stage.child(&x)]).await;
    let refused = told(root.face.restart_child(x.address.name()).await);
    assert_eq!(refused, "child x failed to start: start 2 fails on purpose");
    settle().await;
    assert_eq!(standing(&root.face).await, "x running", "a child that is wanted does not stay down for that");
    assert_eq!(story(&stage), "+x1 -x1 !x2 !x3 +x4");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_halted_child_whose_start_fails_is_halted_again_and_its_supervisor_ends_in_time() {
    let stage = Stage::new("otp-halted-again");
    let x = stage.puppet("x").starting(Start::Fails { after: 1, times: 9 });
    let child = stage.child(&x).priority(ActorPriority::Critical);
    let spec = stage.spec("root", 9, vec![child]);
    let spec = SupervisorSpec { escalation: EscalationTable::ROOT, halt_for: secs(600), ..spec };
    let root = stage.raise(spec).await.expect("the tree starts");
    let fatal = ActorFailureType::ConsensusFailure { error_code: "equivocation".to_owned() };
    root.face.handle_actor_failure(x.address.name(), fatal).await.expect("it runs");
    tokio::time::sleep(secs(500)).await;
    root.face.start_stopped(x.address.name()).await.expect_err("it does not start");
    assert_eq!(standing(&root.face).await, "x halted");
    tokio::time::sleep(secs(500)).await;
    assert_eq!(standing(&root.face).await, "x halted", "the time begins anew");
    tokio::time::timeout(secs(200), root.ended).await.expect("it ends").expect("without a panic");
}

#[tokio::test(start_paused = true)]
async fn children_are_listed_in_start_order_and_counted_by_kind() {
    let stage = Stage::new("otp-listed");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| stage.puppet(name));
    let tier = stage.tier("tier", 1, vec![stage.child(&b)]);
    let root = raise(&stage, OneForOne, 1, vec![stage.child(&a), tier, stage.child(&c)]).await;
    let face = &root.face;
    face.start_child(stage.child(&d).restart(Transient)).await.expect("it starts");
    face.stop_child(a.address.name()).await.expect("it runs");
    assert_eq!(standing(face).await, "a stopped, tier running, c running, d running");
    let counts = face.count_children().await.expect("it answers");
    assert_eq!(counts, ChildCounts { specs: 4, active: 3, supervisors: 1, workers: 3 });
    face.start_stopped(a.address.name()).await.expect("it is stopped");
    face.stop_child(c.address.name()).await.expect("it runs");
    face.delete_child(c.address.name()).await.expect("it is stopped");
    face.start_child(stage.child(&c)).await.expect("the name is free");
    let list = face.list_children().await.expect("it answers");
    let rows: Vec<_> =
        list.iter().map(|child| (child.name.as_str(), child.restart, child.is_supervisor)).collect();
    let expected = [
        ("a", Permanent, false),
        ("tier", Permanent, true),
        ("d", Transient, false),
        ("c", Permanent, false),
    ];
    assert_eq!(rows, expected);
    let counts = face.count_children().await.expect("it answers");
    assert_eq!(counts, ChildCounts { specs: 4, active: 4, supervisors: 1, workers: 3 });
    root.stop().await;
    // A child restarted by hand keeps its place; a deleted child does not.
    assert!(story(&stage).ends_with("-c2 -d1 -b1 -a2"), "{}", story(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_start_that_someone_else_stops_is_answered() {
    for restart in [Permanent, Temporary] {
        let stage = Stage::new(&format!("otp-stopped-start-{}", restart.as_str()));
        let x = stage.puppet("x").starting(Start::Takes { after: 0, time: secs(5) });
        let root = raise(&stage, OneForOne, 1, Vec::new()).await;
        let (face, child) = (root.face.clone(), stage.child(&x).restart(restart));
        let starting = tokio::spawn(async move { face.start_child(child).await });
        tokio::time::sleep(secs(1)).await;
        root.face.stop_child(x.address.name()).await.expect("it stops as soon as it has started");
        tokio::time::sleep(secs(1)).await;
        assert!(starting.is_finished(), "{restart:?}: it is known now that it will not run");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_start_of_a_child_that_ends_at_once_is_answered() {
    for restart in [Transient, Temporary] {
        let stage = Stage::new(&format!("otp-brief-{}", restart.as_str()));
        let x = stage.puppet("x").starting(Start::Ends);
        let root = raise(&stage, OneForOne, 1, Vec::new()).await;
        let (face, child) = (root.face.clone(), stage.child(&x).restart(restart));
        let starting = tokio::spawn(async move { face.start_child(child).await });
        tokio::time::sleep(secs(1)).await;
        assert_eq!(story(&stage), "+x1 -x1", "{restart:?}");
        assert!(starting.is_finished(), "{restart:?}: it did start");
        assert_eq!(told(starting.await.expect("joined")), "done", "{restart:?}");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_reports_a_failure_is_told_what_was_decided_whatever_the_restart_type() {
    for (restart, step, stands) in [
        (Permanent, EscalationStep::Restart, "x running"),
        (Transient, EscalationStep::Restart, "x running"),
        (Temporary, EscalationStep::StayDown, ""),
    ] {
        let stage = Stage::new(&format!("otp-reported-{}", restart.as_str()));
        let x = stage.puppet("x");
        let root = raise(&stage, OneForOne, 1, vec![stage.child(&x).restart(restart)]).await;
        let failure = ActorFailureType::HealthCheckFailure { consecutive_failures: 3 };
        let decided = root.face.handle_actor_failure(x.address.name(), failure).await;
        assert_eq!(standing(&root.face).await, stands, "{restart:?}");
        assert_eq!(decided.map(|decision| decision.step), Ok(step), "{restart:?}");
        root.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_hand_replaces_the_one_that_is_waited_for() {
    let stage = Stage::new("otp-replaces");
    let x = stage.puppet("x");
    let root = raise(&stage, OneForOne, 9, vec![stage.child(&x).strategy(fixed(secs(10), None))]).await;
    let origin = stage.context.clock.now();
    x.kill();
    tokio::time::sleep(secs(5)).await;
    root.face.restart_child(x.address.name()).await.expect("it waits");
    tokio::time::sleep(secs(3)).await;
    x.kill();
    settle().await;
    // The first timer would have fired after ten seconds.
    let expected = [(0, "+x1"), (5_000, "+x2"), (18_000, "+x3")];
    assert_eq!(moments(&stage, origin), expected.map(|(at, token)| (at, token.to_owned())));
    root.stop().await;
}
