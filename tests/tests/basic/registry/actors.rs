//! Tests what the registry reports about real actors under real supervisors.

use ActorLifecycleState::{Active, Failed, Registering, ShuttingDown, Suspended, Terminated};
use alys_cluster::id::Incarnation;
use alys_cluster::registry::{ActorLifecycleState, LookupError, RegistryChange, Subscription};
use alys_cluster::supervision::child::ChildPhase;
use alys_cluster::supervision::{
    AdminError, ChildSpec, EnhancedSupervision, RestartType, SupervisionStrategy, SupervisorSpec,
};
use alys_cluster::transport::Gateway;
use alys_tests::federation::SOON;
use alys_tests::tree::{Order, Root, ScriptedActor, Stage, Start};
use alys_tests::{eventually, seen};

use super::*;

/// A child that is found by its tag and reached at its address.
fn child(stage: &Stage, puppet: &ScriptedActor) -> ChildSpec {
    stage.child(puppet).tags([tag("puppet")])
}

fn stands(stage: &Stage, who: &str) -> Option<(ActorLifecycleState, u64)> {
    let standing = stage.context.registry.standing(&name(who))?;
    Some((standing.state, standing.incarnation.0))
}

/// Waits until the registry shows this status of the actor.
async fn shows(stage: &Stage, who: &str, expected: Option<(ActorLifecycleState, u64)>) {
    eventually(SOON, &format!("the registry shows {who} {expected:?}"), async || {
        let found = stands(stage, who);
        seen(found == expected, format!("{found:?}"))
    })
    .await;
}

/// The next `count` changes of the actor's status.
async fn hears(subscription: &mut Subscription, count: usize) -> Vec<(ActorLifecycleState, u64)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let change = tokio::time::timeout(SOON, subscription.next()).await.expect("a change comes");
        match change {
            RegistryChange::Listing(entries) => assert!(entries.is_empty(), "{entries:?}"),
            RegistryChange::Added(entry) | RegistryChange::Changed(entry) => {
                heard.push((entry.standing.state, entry.standing.incarnation.0));
            }
            RegistryChange::Removed(name) => panic!("{name} was removed"),
        }
    }
    heard
}

/// Waits until the registry contains exactly the children that the supervisors have.
async fn agrees(stage: &Stage, root: &Root, supervisors: &[&'static str]) {
    let registry = &stage.context.registry;
    eventually(SOON, "the registry agrees with the supervisors", async || {
        let mut expected = vec!["root Active".to_owned()];
        for supervisor in supervisors {
            let row = stage.context.tree.row(&ActorName::literal(supervisor), usize::MAX).ok_or("no row")?;
            for child in row.children {
                let state = match child.phase {
                    ChildPhase::Running => Active,
                    ChildPhase::Suspended => Suspended,
                    ChildPhase::Stopped => Terminated,
                    phase => return Err(format!("{} is {}", child.policy.name, phase.as_str())),
                };
                expected.push(format!("{} {state:?}", child.policy.name));
            }
        }
        expected.sort();
        let mut found: Vec<_> = registry
            .select(at(0), &ActorQuery::All)
            .iter()
            .map(|entry| format!("{} {:?}", entry.name(), entry.standing.state))
            .collect();
        found.sort();
        seen(found == expected, format!("{found:?} instead of {expected:?}"))
    })
    .await;
    indexes_agree(registry);
    assert!(root.face.list_children().await.is_ok(), "the root lives");
}

#[tokio::test]
async fn an_actor_is_registered_with_its_start_and_followed_through_its_deaths() {
    let stage = Stage::new("registry-follow");
    let registry = stage.context.registry.clone();
    let puppet = stage.puppet("worker");
    let mut changes = registry.subscribe(query("name=worker")).expect("a query");
    assert_eq!(changes.next().await, RegistryChange::Listing(Vec::new()));
    let root = stage.raise(stage.spec("root", 10, vec![child(&stage, &puppet)])).await.expect("it starts");
    assert_eq!(hears(&mut changes, 2).await, [(Registering, 1), (Active, 1)]);

    // Found by type and tag, and reached through the entry.
    let puppets = registry.by_type(&ActorType::of::<ScriptedActor>());
    assert_eq!(names(&puppets), ["worker"]);
    assert_eq!(puppets[0].registration().supervisor, Some(name("root")));
    let [found] = &registry.by_tag(&tag("puppet"))[..] else { panic!("one puppet") };
    let address = found.address::<Order>().expect("the right type");

    let ways: [fn(&ScriptedActor); 4] = [
        |puppet| puppet.kill(),
        |puppet| puppet.order(Order::Panic),
        |puppet| puppet.order(Order::Fail),
        |puppet| puppet.order(Order::End),
    ];
    for (life, hurt) in (2..).zip(ways) {
        hurt(&puppet);
        assert_eq!(hears(&mut changes, 2).await, [(Failed, life - 1), (Active, life)]);
        // The address found before also reaches the new incarnation.
        let who = address.ask_retrying(SOON, Order::Who).await;
        assert_eq!(who, Ok(u32::try_from(life).expect("few lives")));
    }
    let entry = registry.entry(&name("worker")).expect("it is there");
    assert_eq!((entry.standing.incarnation, entry.standing.failures), (Incarnation(5), 4));

    root.stop().await;
    assert_eq!(hears(&mut changes, 2).await, [(ShuttingDown, 5), (Terminated, 5)]);
    assert_eq!(stands(&stage, "root"), Some((Terminated, 1)));
    indexes_agree(&registry);
}

#[tokio::test]
async fn a_handle_of_the_wrong_type_is_an_error_and_no_lost_message() {
    let stage = Stage::new("registry-typed");
    let registry = &stage.context.registry;
    let puppet = stage.puppet("worker");
    // An actor written for ractor itself has no address.
    let gateway = Gateway { incarnation: Incarnation(1) };
    let shy = ChildSpec::ractor(&stage.context, &name("shy"), move || (gateway, ()));
    let children = vec![child(&stage, &puppet), shy];
    let root = stage.raise(stage.spec("root", 10, children)).await.expect("it starts");
    assert!(registry.find::<Order>(&name("worker")).is_ok());
    let wrong = registry.find::<u8>(&name("worker")).expect_err("another type").to_string();
    assert_eq!(wrong, "actor worker takes messages of type alys_tests::tree::Order; asked for u8");
    let error = |who: &str| registry.find::<Order>(&name(who)).map(drop);
    assert_eq!(error("shy"), Err(LookupError::Unreachable { name: name("shy") }));
    assert_eq!(error("nobody"), Err(LookupError::Unknown { name: name("nobody") }));
    root.stop().await;
}

#[tokio::test]
async fn what_an_operator_does_to_a_child_shows_in_its_state() {
    let stage = Stage::new("registry-operator");
    let puppet = stage.puppet("worker");
    let root = stage.raise(stage.spec("root", 10, vec![child(&stage, &puppet)])).await.expect("it starts");
    let (face, worker) = (&root.face, name("worker"));
    assert_eq!(stands(&stage, "worker"), Some((Active, 1)));
    face.suspend_child(&worker).await.expect("suspended");
    assert_eq!(stands(&stage, "worker"), Some((Suspended, 1)));
    face.resume_child(&worker).await.expect("resumed");
    assert_eq!(stands(&stage, "worker"), Some((Active, 2)));
    face.restart_child(&worker).await.expect("restarted");
    assert_eq!(stands(&stage, "worker"), Some((Active, 3)));
    face.stop_child(&worker).await.expect("stopped");
    assert_eq!(stands(&stage, "worker"), Some((Terminated, 3)));
    face.start_stopped(&worker).await.expect("started");
    assert_eq!(stands(&stage, "worker"), Some((Active, 4)));
    face.stop_child(&worker).await.expect("stopped");
    face.delete_child(&worker).await.expect("deleted");
    assert_eq!(stands(&stage, "worker"), None);
    // The actor that takes the name now is a different one.
    face.start_child(child(&stage, &puppet)).await.expect("started");
    assert_eq!(stands(&stage, "worker"), Some((Active, 1)));
    let failed =
        alys_cluster::supervision::failure::ActorFailureType::HealthCheckFailure { consecutive_failures: 3 };
    face.handle_actor_failure(&worker, failed).await.expect("decided");
    shows(&stage, "worker", Some((Active, 2))).await;
    let standing = stage.context.registry.standing(&worker).expect("it is there");
    assert_eq!(standing.failures, 1, "the failure that somebody else found is one");
    agrees(&stage, &root, &["root"]).await;
    root.stop().await;
}

#[tokio::test]
async fn a_child_whose_start_fails_is_failed_until_it_starts_and_one_nobody_keeps_is_gone() {
    let stage = Stage::new("registry-starts");
    let limps = stage.puppet("limps").starting(Start::Fails { after: 1, times: 2 });
    let never = stage.puppet("never").starting(Start::Fails { after: 0, times: 99 });
    let brief = stage.puppet("brief");
    let children = vec![child(&stage, &limps), child(&stage, &brief).restart(RestartType::Temporary)];
    let root = stage.raise(stage.spec("root", 10, children)).await.expect("it starts");
    limps.kill();
    shows(&stage, "limps", Some((Active, 2))).await;
    let refused = root.face.start_child(child(&stage, &never)).await;
    assert!(matches!(refused, Err(AdminError::Start { .. })), "{refused:?}");
    assert_eq!(stands(&stage, "never"), None, "its place was not kept");
    brief.order(Order::Panic);
    shows(&stage, "brief", None).await;
    agrees(&stage, &root, &["root"]).await;
    root.stop().await;
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_to_another_supervisor_and_its_holder_is_not_touched() {
    let stage = Stage::new("registry-duplicate");
    let puppet = stage.puppet("worker");
    let tier = stage.tier("tier", 10, vec![child(&stage, &puppet)]);
    let root = stage.raise(stage.spec("root", 10, vec![tier])).await.expect("it starts");
    let second =
        root.face.start_child(child(&stage, &stage.puppet("worker"))).await.expect_err("taken").to_string();
    assert!(
        second.contains("actor worker is registered already and active; expected a name of its own"),
        "{second}"
    );
    assert_eq!(stands(&stage, "worker"), Some((Active, 1)));
    assert_eq!(puppet.who().await, Ok(1), "its holder answers as before");
    agrees(&stage, &root, &["root", "tier"]).await;
    root.stop().await;
}

#[tokio::test]
async fn a_killed_supervisor_leaves_nobody_behind_in_the_registry() {
    let stage = Stage::new("registry-killed");
    let (steady, added) = (stage.puppet("steady"), stage.puppet("added"));
    let inner = stage.tier("inner", 10, vec![child(&stage, &steady)]);
    let pool = ChildSpec::supervisor(SupervisorSpec::dynamic(ActorName::literal("pool")), &stage.context);
    let tier = stage.spec("tier", 10, vec![inner, pool]);
    let face = EnhancedSupervision::of(&tier, stage.context.clone());
    let tier = ChildSpec::supervisor(tier, &stage.context);
    let root = stage.raise(stage.spec("root", 10, vec![tier])).await.expect("it starts");
    face.start_child(child(&stage, &added)).await.expect("it starts");
    assert_eq!(stands(&stage, "added"), Some((Active, 1)));
    let mut changes = stage.context.registry.subscribe(query("name=steady")).expect("a query");
    let listing = changes.next().await;
    assert!(matches!(&listing, RegistryChange::Listing(entries) if entries.len() == 1), "{listing:?}");

    // A killed tier cannot deregister its children and their children.
    stage.cell("tier").kill();
    assert_eq!(hears(&mut changes, 2).await, [(Failed, 1), (Active, 2)]);
    shows(&stage, "added", None).await;
    shows(&stage, "tier", Some((Active, 2))).await;
    shows(&stage, "inner", Some((Active, 2))).await;
    agrees(&stage, &root, &["root", "tier", "inner", "pool"]).await;
    root.stop().await;
    let left = stage.context.registry.select(at(0), &query("not state=terminated"));
    assert_eq!(names(&left), [""; 0]);
}

#[tokio::test]
async fn after_many_deaths_in_every_kind_of_group_the_registry_agrees_with_the_supervisors() {
    let stage = Stage::new("registry-storm");
    let mut tiers = Vec::new();
    let mut puppets = Vec::new();
    for (tier, group) in [
        ("one", SupervisionStrategy::OneForOne),
        ("all", SupervisionStrategy::OneForAll),
        ("rest", SupervisionStrategy::RestForOne),
    ] {
        let mut children = Vec::new();
        for (number, restart) in
            [RestartType::Permanent, RestartType::Transient, RestartType::Temporary].into_iter().enumerate()
        {
            let puppet = stage.puppet_of(name(&format!("{tier}-{number}")));
            children.push(child(&stage, &puppet).restart(restart));
            puppets.push(puppet);
        }
        let spec = SupervisorSpec { group, ..stage.spec(tier, 10_000, children) };
        tiers.push(ChildSpec::supervisor(spec, &stage.context));
    }
    let root = stage.raise(stage.spec("root", 10_000, tiers)).await.expect("it starts");
    for round in 0..60 {
        let puppet = &puppets[round * 7 % puppets.len()];
        // An actor that is down, or gone for good, is skipped.
        match round % 4 {
            0 => drop(puppet.address.cast(Order::Panic)),
            1 => drop(puppet.address.target().map(|actor| actor.kill())),
            2 => drop(puppet.address.cast(Order::End)),
            _ => stage
                .cells()
                .iter()
                .filter(|cell| {
                    cell.get_name().is_some_and(|name| name.ends_with(["one", "all", "rest"][round / 4 % 3]))
                })
                .for_each(ractor::ActorCell::kill),
        }
        tokio::task::yield_now().await;
    }
    agrees(&stage, &root, &["root", "one", "all", "rest"]).await;
    root.stop().await;
}

#[tokio::test]
async fn whoever_is_refused_for_its_name_touches_neither_its_holder_nor_what_that_one_supervises() {
    let stage = Stage::new("registry-refused");
    let worker = stage.puppet("worker");
    let tier = stage.tier("tier", 10, vec![stage.tier("inner", 10, vec![child(&stage, &worker)])]);
    let root = stage.raise(stage.spec("root", 10, vec![tier])).await.expect("it starts");
    for second in [stage.tier("inner", 10, Vec::new()), child(&stage, &stage.puppet("inner"))] {
        let refused = root.face.start_child(second).await.expect_err("taken").to_string();
        assert!(refused.contains("actor inner is registered already and active"), "{refused}");
    }
    assert_eq!(stands(&stage, "worker"), Some((Active, 1)));
    worker.kill();
    shows(&stage, "worker", Some((Active, 2))).await;
    agrees(&stage, &root, &["root", "tier", "inner"]).await;
    root.stop().await;
}

#[tokio::test]
async fn a_supervisor_that_keeps_the_place_of_a_stopped_child_keeps_its_name() {
    let stage = Stage::new("registry-kept");
    let (worker, thief) = (stage.puppet("worker"), stage.puppet("worker"));
    let (one, other) =
        (stage.spec("one", 10, vec![child(&stage, &worker)]), stage.spec("other", 10, Vec::new()));
    let [face, second] = [&one, &other].map(|spec| EnhancedSupervision::of(spec, stage.context.clone()));
    let tiers = [one, other].map(|spec| ChildSpec::supervisor(spec, &stage.context));
    let root = stage.raise(stage.spec("root", 10, tiers.to_vec())).await.expect("it starts");
    face.stop_child(&name("worker")).await.expect("stopped");
    let refused = second.start_child(child(&stage, &thief)).await.expect_err("kept").to_string();
    assert!(refused.contains("expected a name of its own, or one of the same supervisor"), "{refused}");
    // So it restarts with its supervisor.
    stage.cell("one").kill();
    shows(&stage, "worker", Some((Active, 2))).await;
    agrees(&stage, &root, &["root", "one", "other"]).await;
    root.stop().await;
}

#[tokio::test]
async fn with_a_supervisor_that_ends_for_good_everybody_below_it_is_terminated() {
    let stage = Stage::new("registry-ends");
    let (worker, idle) = (stage.puppet("worker"), stage.puppet("idle"));
    let inner = stage.spec("inner", 10, vec![child(&stage, &worker), child(&stage, &idle)]);
    let face = EnhancedSupervision::of(&inner, stage.context.clone());
    let inner = ChildSpec::supervisor(inner, &stage.context);
    let tier = stage.tier("tier", 10, vec![inner]);
    let root = stage.raise(stage.spec("root", 0, vec![tier])).await.expect("it starts");
    face.suspend_child(&name("idle")).await.expect("suspended");
    // The root has no restarts left, so it gives up on a tier that could not deregister anything.
    stage.cell("tier").kill();
    tokio::time::timeout(SOON, root.ended).await.expect("it ends").expect("in order");
    for who in ["root", "tier", "inner", "worker", "idle"] {
        assert_eq!(stands(&stage, who), Some((Terminated, 1)), "{who}");
    }
    let standing = stage.context.registry.standing(&name("idle")).expect("it is there");
    assert_eq!(standing.failures, 0, "what was suspended had nothing to fail with");
    assert!(standing.started.is_some());
}
