//! Tests that a node shuts down in order, in time, and only if the federation can work without it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use alys_cluster::event::ClusterEvent;
use alys_cluster::federation::WISH_MAX;
use alys_cluster::id::{ActorName, ActorPriority};
use alys_cluster::mailbox::FaultTarget;
use alys_cluster::shutdown::state::INSISTS_AFTER;
use alys_cluster::shutdown::{
    QuorumImpact, QuorumRefusal, Request, Requester, ShutdownAnswer, ShutdownCoordinator, ShutdownOutcome,
    ShutdownPhase, ShutdownState, Task, actors,
};
use alys_cluster::supervision::child::ChildPhase;
use alys_cluster::supervision::{
    EnhancedSupervision, EscalationTable, FixedDelayConfig, RestartStrategy, Shutdown,
};
use alys_node::consensus::log::WriteAheadLog;
use alys_node::ops::view::{FederationView, Problem, ReadyView, ShutdownView, TrendsView};
use alys_node::ports::BlockStore as _;
use alys_node::store::RedbStore;
use alys_tests::federation::{Federation, SOON};
use alys_tests::tree::{Order, Root, ScriptedActor, Stage};
use alys_tests::{eventually, seen};

const PRIORITIES: [ActorPriority; 4] =
    [ActorPriority::Critical, ActorPriority::High, ActorPriority::Normal, ActorPriority::Background];

/// A tree of `count` actors of all tiers; actor `n` depends on actor `n / 2`.
async fn crowd(stage: &Stage, count: usize, make: impl Fn(usize, ScriptedActor) -> ScriptedActor) -> Root {
    let name = |n: usize| ActorName::new(&format!("actor-{n}")).expect("a name");
    let child = |n: usize| {
        let puppet = make(n, stage.puppet_of(name(n)));
        let child = stage.child(&puppet).priority(PRIORITIES[n % 4]);
        if n == 0 { child } else { child.depends_on(&[&name(n / 2)]) }
    };
    let children = (0..count).map(child).collect();
    stage.raise(stage.spec("root", 10, children)).await.expect("the tree starts")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_actors_stop_after_those_that_need_them() {
    let stage = Stage::new("leaving-crowd");
    let root = crowd(&stage, 1_000, |_, puppet| puppet).await;
    let begun = stage.context.clock.now();
    let stopped = actors::stop(&stage.context.tree, SOON).await.expect("no circle");
    let took = stage.context.clock.now().since(begun);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!((stopped.stopped, stopped.forced.len(), stopped.failed.len()), (1_000, 0, 0));
    let lines = stage.record.with("stopped");
    let number = |line: &String| line.split(['-', ' ']).nth(2).and_then(|n| n.parse::<usize>().ok());
    let places: BTreeMap<usize, usize> =
        lines.iter().enumerate().map(|(at, line)| (number(line).expect("a number"), at)).collect();
    assert_eq!(places.len(), 1_000);
    for n in 1..1_000 {
        assert!(places[&n] < places[&(n / 2)], "actor-{n} needs actor-{}", n / 2);
    }
    assert_eq!(stage.context.tree.workers().len(), 1_000, "they keep their places");
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_hangs_is_killed_at_its_deadline_and_named() {
    let stage = Stage::new("leaving-hung");
    let root = crowd(&stage, 20, |n, puppet| if n == 7 { puppet.clinging() } else { puppet }).await;
    let begun = stage.context.clock.now();
    let stopped = actors::stop(&stage.context.tree, SOON).await.expect("no circle");
    let took = stage.context.clock.now().since(begun);
    assert_eq!(stopped.forced, [ActorName::literal("actor-7")]);
    assert_eq!(stopped.stopped, 20, "the others stop all the same");
    assert!(stopped.note().expect("all are gone").contains("killed at their deadline: actor-7"));
    assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_500), "{took:?}");
    root.stop().await;
}

fn phase(name: &'static str, state: ShutdownState, secs: u64, recovers: bool) -> ShutdownPhase {
    ShutdownPhase { name, state, after: Vec::new(), deadline: Duration::from_secs(secs), recovers }
}

fn request(reason: &str) -> Request {
    let impact = QuorumImpact { healthy: 4, required: 3, is_counted: true, unsure: 0, told: 0 };
    Request { requester: Requester::Call, reason: reason.to_owned(), force: false, impact }
}

/// A shutdown that stops the actors of a tree, after a task.
fn shutdown_of<F>(
    stage: &Stage,
    root: &Root,
    before: impl FnOnce(String) -> F + Send + 'static,
) -> ShutdownCoordinator
where
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    let killed = root.actor.clone();
    let shutdown = ShutdownCoordinator::new(
        vec![
            phase("before", ShutdownState::Preparation, 60, true),
            phase("actors", ShutdownState::ActorShutdown, 60, false),
        ],
        Duration::from_secs(8),
        Arc::new(move || {
            let root = killed.clone();
            Box::pin(async move { drop(root.kill_and_wait(Some(Duration::from_millis(200))).await) })
        }),
        stage.context.clock.clone(),
        stage.context.events.clone(),
    )
    .expect("an order");
    let board = stage.context.tree.clone();
    assert_eq!(shutdown.add(Task::new("before", "something", before)), Ok(true));
    let stop = move |_| async move { actors::stop(&board, SOON).await.expect("no circle").note() };
    assert_eq!(shutdown.add(Task::new("actors", "stop", stop)), Ok(true));
    shutdown
}

#[tokio::test(start_paused = true)]
async fn the_deadline_for_all_holds_when_a_task_never_ends_or_an_actor_may_take_for_ever() {
    for endless_task in [true, false] {
        let stage = Stage::new(&format!("leaving-late-{endless_task}"));
        let puppet = stage.puppet("clings").clinging();
        let child = stage.child(&puppet).shutdown(Shutdown::Infinity);
        let root = stage.raise(stage.spec("root", 10, vec![child])).await.expect("the tree starts");
        let mut events = stage.context.events.listen();
        let shutdown = shutdown_of(&stage, &root, move |_| async move {
            if endless_task {
                std::future::pending::<()>().await;
            }
            Ok(String::new())
        });
        let begun = stage.context.clock.now();
        assert_eq!(shutdown.request(request("a drill")), ShutdownAnswer::Begun);
        assert_eq!(shutdown.request(request("another")), ShutdownAnswer::Runs("a drill".to_owned()));
        assert_eq!(shutdown.finished().await, ShutdownOutcome::Forced);
        let took = stage.context.clock.now().since(begun);
        assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(9), "{took:?}");
        let mut failed = Vec::new();
        let mut states = Vec::new();
        while let Ok(recorded) = events.try_recv() {
            match &recorded.event {
                ClusterEvent::ShutdownTaskEnded { task, is_done: false, note, .. } => {
                    failed.push((task.clone(), note.clone()));
                }
                ClusterEvent::ShutdownChanged { state, .. } => states.push(*state),
                _ => {}
            }
        }
        let late = if endless_task { "something" } else { "stop" };
        assert_eq!(failed, [(late.to_owned(), "the shutdown is over after 8s".to_owned())]);
        assert_eq!(states.first().zip(states.last()), Some((&"initiated", &"complete")));
        assert_eq!(states[states.len() - 2], "forced_shutdown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_force_ends_a_shutdown_that_runs() {
    let stage = Stage::new("leaving-forced");
    let puppet = stage.puppet("clings").clinging();
    let child = stage.child(&puppet).shutdown(Shutdown::Infinity);
    let root = stage.raise(stage.spec("root", 10, vec![child])).await.expect("the tree starts");
    let shutdown = shutdown_of(&stage, &root, |_| async { Ok(String::new()) });
    assert_eq!(shutdown.request(request("a drill")), ShutdownAnswer::Begun);
    eventually(SOON, "it waits for the actor that does not end", async || {
        let state = shutdown.progress().state;
        seen(state == ShutdownState::ActorShutdown, state)
    })
    .await;
    let begun = stage.context.clock.now();
    let forced = Request { force: true, ..request("no more patience") };
    assert_eq!(shutdown.request(forced), ShutdownAnswer::Forced("a drill".to_owned()));
    assert_eq!(shutdown.finished().await, ShutdownOutcome::Forced);
    let took = stage.context.clock.now().since(begun);
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_is_a_failed_one_and_cleanup_may_be_added_while_it_runs() {
    let stage = Stage::new("leaving-panic");
    let puppet = stage.puppet("a");
    let root = stage.raise(stage.spec("root", 10, vec![stage.child(&puppet)])).await.expect("it starts");
    let shutdown = shutdown_of(&stage, &root, |reason| async move { panic!("no {reason}") });
    assert_eq!(shutdown.request(request("a drill")), ShutdownAnswer::Begun);
    let added = Task::new("actors", "added", |_| async { Ok("in time".to_owned()) });
    assert_eq!(shutdown.add(added), Ok(true));
    assert_eq!(shutdown.finished().await, ShutdownOutcome::Graceful, "what recovers is left behind");
    let progress = shutdown.progress();
    let tasks = |at: usize| format!("{:?}", progress.phases[at].1);
    assert!(tasks(0).contains("panicked"), "{}", tasks(0));
    assert!(
        tasks(1).contains("in time") && tasks(1).contains("1 actors stopped in 1 stages"),
        "{}",
        tasks(1)
    );
    assert_eq!(stage.record.with("stopped"), ["stopped a 1"]);
    puppet.address.cast(Order::End).expect_err("it is gone");
    root.stop().await;
}

/// Checks that an actor that no longer runs, for whatever reason, counts as stopped.
async fn is_seen_to_be_stopped(stage: &Stage, why: &str) {
    let stopped = actors::stop(&stage.context.tree, Duration::from_secs(2)).await.expect("no circle");
    assert_eq!(stopped.note(), Ok("1 actors stopped in 1 stages".to_owned()), "{why}");
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_suspended_halted_or_stopping_already_is_stopped() {
    let stage = Stage::new("leaving-suspended");
    let puppet = stage.puppet("a").stopping_in(Duration::from_millis(300));
    let root = stage.raise(stage.spec("root", 10, vec![stage.child(&puppet)])).await.expect("it starts");
    root.face.suspend_child(puppet.address.name()).await.expect("it runs");
    is_seen_to_be_stopped(&stage, "suspended").await;
    root.face.resume_child(puppet.address.name()).await.expect("it is suspended");
    let (face, name) = (root.face.clone(), puppet.address.name().clone());
    let restarting = tokio::spawn(async move { face.restart_child(&name).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    is_seen_to_be_stopped(&stage, "stopping, to be started again").await;
    // The result of the restart does not matter.
    drop(restarting.await.expect("joined"));
    root.stop().await;

    let stage = Stage::new("leaving-halted");
    let puppet = stage.puppet("a");
    let mut spec = stage.spec("root", 0, vec![stage.child(&puppet)]);
    (spec.escalation, spec.halt_for) = (EscalationTable::ROOT, Duration::from_hours(1));
    let root = stage.raise(spec).await.expect("it starts");
    puppet.kill();
    eventually(SOON, "it is halted", async || {
        let phase = stage.context.tree.worker(puppet.address.name()).map(|worker| worker.phase);
        seen(phase == Some(ChildPhase::Halted), format!("{phase:?}"))
    })
    .await;
    is_seen_to_be_stopped(&stage, "halted").await;
    root.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_whose_supervisor_ended_is_stopped_and_one_whose_supervisor_hangs_is_not_said_to_be() {
    for way in ["stopped", "killed", "waits for its restart", "hangs"] {
        let stage = Stage::new(&format!("leaving-{}", way.replace(' ', "-")));
        let puppet = stage.puppet("a");
        let slow = FixedDelayConfig { delay: Duration::from_hours(1), ..FixedDelayConfig::default() };
        let tier = stage.tier("tier", 3, vec![stage.child(&puppet)]);
        let tier = tier.strategy(RestartStrategy::FixedDelay(slow));
        let root = stage.raise(stage.spec("root", 10, vec![tier])).await.expect("it starts");
        let hung = match way {
            "stopped" => {
                root.face.stop_child(&ActorName::literal("tier")).await.expect("it runs");
                None
            }
            "killed" => {
                let _ = root.actor.kill_and_wait(Some(SOON)).await;
                None
            }
            "hangs" => {
                // The supervisor waits for this child, which takes a minute to stop.
                let hung = stage.puppet("hung").stopping_in(Duration::from_mins(1));
                let child = stage.child(&hung).shutdown(Shutdown::Infinity);
                let face = EnhancedSupervision::at(
                    stage.context.tree.worker(puppet.address.name()).expect("it is there").supervisor,
                    stage.context.clone(),
                );
                face.start_child(child).await.expect("it starts");
                stage.cell("tier").stop(None);
                Some(hung)
            }
            _ => {
                stage.cell("tier").kill();
                None
            }
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        if hung.is_none() {
            is_seen_to_be_stopped(&stage, way).await;
        } else {
            let stopped = actors::stop(&stage.context.tree, Duration::from_secs(2)).await.expect("no circle");
            assert!(stopped.note().is_err_and(|note| note.contains("not seen to stop")), "{stopped:?}");
        }
        root.actor.kill();
    }
}

/// Calls the function when it is dropped.
struct Looks<F: Fn()>(F);

impl<F: Fn()> Drop for Looks<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_forces_the_end_may_look_at_the_progress_and_so_may_work_that_is_never_done() {
    let stage = Stage::new("leaving-looks");
    let coordinator = Arc::new(OnceLock::<ShutdownCoordinator>::new());
    let states = Arc::new(Mutex::new(Vec::new()));
    let look = {
        let (coordinator, states) = (coordinator.clone(), states.clone());
        move || {
            let state = coordinator.get().expect("it is set").progress().state;
            states.lock().expect("not poisoned").push(state);
        }
    };
    let forced = look.clone();
    let shutdown = ShutdownCoordinator::new(
        vec![
            phase("before", ShutdownState::Preparation, 60, true),
            phase("after", ShutdownState::Cleanup, 60, true),
        ],
        Duration::from_mins(2),
        Arc::new(move || {
            forced();
            Box::pin(async {})
        }),
        stage.context.clock.clone(),
        stage.context.events.clone(),
    )
    .expect("an order");
    assert!(coordinator.set(shutdown.clone()).is_ok());
    // A task that is dropped without being run calls it as well.
    let undone = Looks(look);
    let endless = Task::new("before", "endless", |_| std::future::pending());
    assert_eq!(shutdown.add(endless), Ok(true));
    let never = Task::new("after", "never", move |_| {
        drop(undone);
        async { Ok(String::new()) }
    });
    assert_eq!(shutdown.add(never), Ok(true));
    assert_eq!(shutdown.request(request("a drill")), ShutdownAnswer::Begun);
    // On a separate thread, so that a deadlock does not block the test.
    let (asked, runtime) = (shutdown.clone(), tokio::runtime::Handle::current());
    let asking = std::thread::spawn(move || {
        let _runtime = runtime.enter();
        asked.request(Request { force: true, ..request("no more patience") })
    });
    eventually(Duration::from_secs(10), "the shutdown is forced", async || {
        seen(asking.is_finished(), "the request is not answered")
    })
    .await;
    let outcome = tokio::time::timeout(SOON, shutdown.finished()).await;
    assert_eq!(outcome, Ok(ShutdownOutcome::Forced));
    eventually(SOON, "both looked", async || {
        let seen_states = states.lock().expect("not poisoned").clone();
        seen(seen_states.len() == 2, format!("{seen_states:?}"))
    })
    .await;
}

const TOKEN: &str = "a-token-for-tests-only";

/// Four members whose ops API requires a token.
async fn federation(tag: &str) -> (Federation, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, TOKEN).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let federation = Federation::start(tag, move |config| config.ops.token_file = Some(file.clone())).await;
    (federation, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_third_healthy_member_refuses_to_leave_and_obeys_the_second_signal() {
    let (mut federation, _directory) = federation("leaving").await;
    federation.members[0].reaches(2).await;

    // The fourth member may leave: the others know at once that it is not a failure.
    let node = federation.members[3].take();
    assert_eq!(node.signalled("SIGTERM").await, ShutdownAnswer::Begun);
    let left = federation.members[3].client.clone();
    assert!(node.left().await, "it leaves in time");
    assert!(left.status("/livez").await.is_err(), "it is gone");
    for member in &federation.members[..3] {
        eventually(SOON, "the others see it leave", async || {
            let view: FederationView = member.client.get("/federation/status").await?;
            let fourth = &view.members[3];
            seen(fourth.state == "left" && fourth.reason.contains("leaving: SIGTERM"), &fourth.reason)
        })
        .await;
    }
    let events = federation.members[0].client.send("GET", "/events", "", "").await.expect("events").body;
    assert!(events.contains("left: leaving: SIGTERM"), "told as what it is");
    let down = "/events?kind=link_down";
    for member in &federation.members[..3] {
        let events = member.client.send("GET", down, "", "").await.expect("events").body;
        let is_orderly = events.contains("the connection was closed") || events.contains("gateway is gone");
        assert!(is_orderly && !events.contains("failed"), "no connection that broke: {events}");
    }

    let metrics = federation.members[0].client.send("GET", "/metrics", "", "").await.expect("metrics").body;
    assert!(
        metrics.contains("federation_peer_departures_total") && metrics.contains("health_score_thousandths")
    );
    let trends: TrendsView = federation.members[0].client.get("/health/trends").await.expect("trends");
    assert!(trends.actors.iter().any(|trend| trend.name == "chain" && trend.samples > 0), "{trends:?}");
    assert_eq!(trends.members.len(), 3, "{trends:?}");

    // Its next start has nothing to replay.
    let data = federation.members[3].config.data_dir.clone();
    let identity = federation.genesis.identity_of(&federation.members[3].name).expect("a member");
    let log = WriteAheadLog::open(&data.join("consensus.log"), identity).expect("opens");
    let chain = RedbStore::open(&data.join("chain.redb"), federation.genesis.hash()).expect("opens");
    let height = chain.head().height;
    assert!(height >= 2 && !log.holds(height + 1), "the log holds what is above height {height}");
    drop((log, chain));

    // The third member is needed.
    let third = &federation.members[2];
    third.gate_open(3).await;
    // A federation actor that does not answer cannot permit the shutdown: its last verdict still holds for a while.
    let (parts, shutdown) = (third.node().context(), third.node().shutdown());
    parts.addresses.federation.inject_hang().expect("it runs");
    let answer = alys_node::shutdown::request(parts, shutdown, Requester::Call, "a drill", false).await;
    assert!(matches!(answer, ShutdownAnswer::Refused(QuorumRefusal { without: 2, .. })), "{answer:?}");
    FaultTarget::kill(&parts.addresses.federation).expect("it runs");
    third.gate_open(3).await;
    let height = third.height();
    let answer = third.node().signalled("SIGTERM").await;
    let ShutdownAnswer::Refused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!((refusal.healthy, refusal.without, refusal.required), (3, 2, 3));
    let view: ShutdownView = third.client.get("/shutdown").await.expect("answers");
    assert_eq!((view.state.as_str(), view.forced), ("running", false));
    assert!(view.refusal.contains("without this one 2 would be left"), "{}", view.refusal);
    third.reaches(height + 2).await;

    // It obeys a second signal, sent at least a second later, and the others halt.
    tokio::time::sleep(INSISTS_AFTER).await;
    let node = federation.members[2].take();
    assert_eq!(node.signalled("SIGTERM").await, ShutdownAnswer::Begun);
    assert!(node.left().await, "it leaves in time");
    let gate = federation.members[0].gate_closed().await;
    assert!(gate.reason.contains("leaving: SIGTERM"), "{}", gate.reason);

    // Both recover as if nothing had happened.
    federation.start_member(2).await;
    federation.start_member(3).await;
    for member in &federation.members {
        member.gate_open(4).await;
    }
    let height = federation.members[0].height();
    federation.members[3].reaches(height + 2).await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_members_that_are_told_to_leave_in_the_same_instant_the_second_waits_for_the_first_to_be_back()
{
    let mut federation = Federation::start("two-leave", |_| {}).await;
    // Until then a member takes precedence over no other: it may have granted another's request to leave and forgotten
    // it in a restart.
    tokio::time::sleep(WISH_MAX).await;
    for (one, other) in [(1, 2), (3, 0)] {
        let told = |index: usize| federation.members[index].node().signalled("SIGTERM");
        let (first, second) = tokio::join!(told(one), told(other));
        let refused = [&first, &second].into_iter().find_map(|answer| match answer {
            ShutdownAnswer::Refused(refusal) => Some(*refusal),
            _ => None,
        });
        let refusal = refused.unwrap_or_else(|| panic!("{first:?} and {second:?}"));
        assert_eq!((refusal.required, refusal.without < 3), (3, true), "{refusal}");
        let state = |index: usize| federation.members[index].node().shutdown().progress().state;
        let goes = eventually(SOON, "one of them goes", async || {
            let begun = [one, other].into_iter().find(|index| state(*index) != ShutdownState::Running);
            begun.ok_or_else(|| "none goes".to_owned())
        })
        .await;
        let stays = if goes == one { other } else { one };
        assert!(federation.members[goes].take().left().await, "it leaves in time");
        // Three members continue.
        let member = &federation.members[stays];
        member.gate_open(3).await;
        member.reaches(member.height() + 2).await;
        assert_eq!(member.node().shutdown().progress().state, ShutdownState::Running);
        federation.start_member(goes).await;
        assert!(federation.members[stays].take().left().await, "it leaves in time");
        federation.start_member(stays).await;
        for member in &federation.members {
            member.gate_open(4).await;
        }
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn where_the_rest_could_not_carry_on_all_who_were_told_to_leave_do() {
    for told in [vec![0, 1, 2, 3], vec![3, 1, 0]] {
        let mut federation = Federation::start("all-leave", |_| {}).await;
        let answers = told.iter().map(|index| federation.members[*index].node().signalled("SIGTERM"));
        let answers = futures::future::join_all(answers).await;
        println!("{answers:?}");
        for index in told {
            let node = federation.members[index].take();
            assert!(node.left().await, "member {} leaves in order", index + 1);
        }
        federation.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_ends_for_those_who_know_its_token() {
    let (mut federation, _directory) = federation("token").await;
    let member = &federation.members[3];
    let post = async |token: Option<&str>, body: &str| {
        let mut request = ureq::http::Request::builder()
            .method("POST")
            .uri(format!("http://{}/shutdown", member.config.ops.address))
            .header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body.to_owned()).expect("a request");
        let answer = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut answer = agent.run(request)?;
            Ok::<_, ureq::Error>((answer.status().as_u16(), answer.body_mut().read_to_string()?))
        });
        answer.await.expect("joined").expect("an answer")
    };
    for (token, body, status, said) in [
        (None, "{}", 401, "does not carry this member's token"),
        (Some("a-token-for-tests-onlx"), "{}", 401, "does not carry"),
        (Some(TOKEN), "{\"forced\":true}", 422, "unknown field `forced`"),
        (Some(TOKEN), "{\"reason\":\"a\\u0000b\"}", 422, "field `reason`"),
    ] {
        let (found, body) = post(token, body).await;
        assert_eq!(found, status, "{body}");
        assert!(body.contains(said), "{said:?} in {body}");
    }
    assert_eq!(member.client.status("/readyz").await, Ok(200), "nothing has happened");
    let (status, body) = post(Some(TOKEN), "{\"reason\":\"an upgrade\"}").await;
    assert_eq!(status, 202, "{body}");
    let view: ShutdownView = serde_json::from_str(&body).expect("a view");
    assert_eq!((view.reason.as_str(), view.forced), ("an upgrade", false));
    let names: Vec<_> = view.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, ["farewell", "actors", "supervisors", "record"]);
    if let Ok(ready) = member.client.get::<ReadyView>("/readyz").await {
        assert!(ready.reasons.contains(&"shutting down".to_owned()), "{:?}", ready.reasons);
    }
    let node = federation.members[3].take();
    assert_eq!(node.shutdown().finished().await, ShutdownOutcome::Graceful);
    let progress = node.shutdown().progress();
    let notes = format!("{:?}", progress.phases);
    for part in ["nothing is in hand", "actors stopped in", "the tree is gone", "the chain ends at height"] {
        assert!(notes.contains(part), "{part:?} in {notes}");
    }
    assert!(node.left().await);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_token_nobody_ends_a_member_over_http_and_the_refusal_says_what_is_missing() {
    let federation = Federation::start("no-token", |_| {}).await;
    let answer = federation.members[0].client.post("/shutdown", "{\"force\":true}").await.expect("an answer");
    let problem: Problem = serde_json::from_str(&answer.body).expect("a problem");
    assert_eq!(answer.status, 403);
    assert!(problem.detail.contains("`ops.token_file` is not set"), "{}", problem.detail);
    federation.stop().await;
}
