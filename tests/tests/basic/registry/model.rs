//! Compares the registry with a model that is obviously correct: a list.

use std::collections::BTreeMap;

use alys_cluster::health::HealthStatus;
use alys_cluster::id::Incarnation;
use alys_cluster::registry::{
    ActorLifecycleState, EntryStatus, LookupError, Order, Page, RegistryChange, RegistryError, Subscription,
    ThreadSafeActorRegistry,
};
use futures::FutureExt as _;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const NAMES: [&str; 6] = ["chain", "engine", "link/node-2", "link/node-3", "w/1", "w/2"];
const TYPES: [&str; 3] = ["ChainActor", "LinkActor", "Worker"];
const TAGS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    Register(Registration),
    Advance(ActorName, ActorLifecycleState),
    Health(ActorName, HealthStatus),
    Remove(ActorName),
    /// Subscribers receive all pending changes.
    Listen,
}

fn arb_name() -> impl Strategy<Value = ActorName> {
    select(&NAMES[..]).prop_map(name)
}

prop_compose! {
    fn arb_registration()(
        who in select(&NAMES[..]),
        kind in select(&TYPES[..]),
        priority in select(&ActorPriority::ALL[..]),
        tags in prop::collection::btree_set(select(&TAGS[..]), 0..4),
        supervisor in prop::option::of(Just("root")),
        role in prop::option::of(select(&["leader", "follower"][..])),
    ) -> Registration {
        let mut profile = Profile::new(ActorType::new(kind).expect("a type"));
        profile.tags = tags.into_iter().map(tag).collect();
        profile.metadata.extend(role.map(|role| ("role".to_owned(), role.to_owned())));
        Registration { priority, supervisor: supervisor.map(name), ..Registration::new(name(who), profile) }
    }
}

fn arb_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => arb_registration().prop_map(Step::Register),
        8 => (arb_name(), select(&ActorLifecycleState::ALL[..])).prop_map(|(name, to)| Step::Advance(name, to)),
        2 => (arb_name(), select(&HealthStatus::ALL[..])).prop_map(|(name, health)| Step::Health(name, health)),
        3 => arb_name().prop_map(Step::Remove),
        2 => Just(Step::Listen),
    ]
}

/// Nested queries of every kind.
pub(super) fn arb_query() -> impl Strategy<Value = ActorQuery> {
    let leaf = select(vec![
        "all",
        "name=chain",
        "name=nobody",
        "name=link/*",
        "name=*n*",
        r#"name~"/[0-9]$""#,
        "type=Worker",
        "type=Nothing",
        "tag=a",
        "tag=b",
        "tag=zz",
        "tag=a,c",
        "priority=critical",
        "priority=normal,background",
        "state=active",
        "state=failed,terminated",
        "health=healthy",
        "uptime>=30s",
        "uptime<30s",
        "supervisor=root",
        "meta.role=lead*",
    ])
    .prop_map(query);
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(ActorQuery::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(ActorQuery::Or),
            inner.prop_map(|query| !query),
        ]
    })
}

/// A naive implementation of the registry.
#[derive(Default)]
struct Naive {
    actors: BTreeMap<ActorName, (Registration, EntryStatus)>,
    version: u64,
}

impl Naive {
    fn register(&mut self, now: Moment, actor: Registration) -> Result<Incarnation, RegistryError> {
        let taken = self.actors.get(&actor.name);
        let lives = |supervisor: &Option<ActorName>| {
            let known = supervisor.as_ref().and_then(|name| self.actors.get(name));
            known.is_some_and(|(_, standing)| standing.state != ActorLifecycleState::Terminated)
        };
        let is_other = |holder: &Registration, standing: &EntryStatus| {
            let is_free = standing.state == ActorLifecycleState::Terminated && !lives(&holder.supervisor);
            holder.supervisor != actor.supervisor && !is_free
        };
        if let Some((holder, standing)) = taken.filter(|(holder, standing)| is_other(holder, standing)) {
            return Err(RegistryError::Duplicate { name: holder.name.clone(), state: standing.state });
        }
        let before = taken.map(|(_, standing)| *standing);
        let incarnation = match before {
            Some(standing) if standing.state != ActorLifecycleState::Terminated => {
                return Err(RegistryError::Duplicate { name: actor.name, state: standing.state });
            }
            Some(standing) => standing.incarnation.0 + 1,
            None => 1,
        };
        self.version += 1;
        let standing = EntryStatus {
            state: ActorLifecycleState::Registering,
            health: HealthStatus::Unknown,
            incarnation: Incarnation(incarnation),
            since: now,
            started: None,
            failures: before.map_or(0, |standing| standing.failures),
            version: self.version,
        };
        self.actors.insert(actor.name.clone(), (actor, standing));
        Ok(Incarnation(incarnation))
    }

    fn change(
        &mut self,
        name: &ActorName,
        change: impl FnOnce(&mut EntryStatus) -> Result<bool, RegistryError>,
    ) -> Result<(), RegistryError> {
        let unknown = || RegistryError::Unknown { name: name.clone() };
        let (_, standing) = self.actors.get_mut(name).ok_or_else(unknown)?;
        if change(standing)? {
            self.version += 1;
            standing.version = self.version;
        }
        Ok(())
    }

    fn advance(
        &mut self,
        now: Moment,
        name: &ActorName,
        to: ActorLifecycleState,
    ) -> Result<(), RegistryError> {
        self.change(name, |standing| {
            let from = standing.state;
            from.check(to).map_err(|source| RegistryError::Move { name: name.clone(), source })?;
            if to == ActorLifecycleState::Active && from != ActorLifecycleState::Registering {
                standing.incarnation.0 += 1;
                standing.health = HealthStatus::Unknown;
            }
            let ran = from != ActorLifecycleState::Suspended;
            standing.failures += u64::from(to == ActorLifecycleState::Failed && ran);
            if to == ActorLifecycleState::Active {
                standing.started = Some(now);
            }
            (standing.state, standing.since) = (to, now);
            Ok(true)
        })
    }

    fn remove(&mut self, name: &ActorName) -> Result<(), RegistryError> {
        let unknown = || RegistryError::Unknown { name: name.clone() };
        let state = self.actors.get(name).ok_or_else(unknown)?.1.state;
        if state != ActorLifecycleState::Terminated {
            return Err(RegistryError::Alive { name: name.clone(), state });
        }
        self.version += 1;
        self.actors.remove(name);
        Ok(())
    }

    fn select(&self, now: Moment, query: &ActorQuery) -> Vec<(ActorName, EntryStatus)> {
        let actors = self.actors.values().filter(|(actor, standing)| query.matches(now, actor, standing));
        actors.map(|(actor, standing)| (actor.name.clone(), *standing)).collect()
    }
}

fn plain(entries: &[ActorRegistryEntry]) -> Vec<(ActorName, EntryStatus)> {
    entries.iter().map(|entry| (entry.name().clone(), entry.standing)).collect()
}

/// State that a subscriber derives from the changes it received.
#[derive(Default)]
struct Replay(BTreeMap<ActorName, EntryStatus>);

impl Replay {
    fn hear(&mut self, change: RegistryChange) {
        match change {
            RegistryChange::Listing(entries) => self.0 = plain(&entries).into_iter().collect(),
            RegistryChange::Added(entry) => {
                let before = self.0.insert(entry.name().clone(), entry.standing);
                assert!(before.is_none(), "added once");
            }
            RegistryChange::Changed(entry) => {
                let before = self.0.insert(entry.name().clone(), entry.standing);
                assert!(
                    before.is_some_and(|before| before.version < entry.standing.version),
                    "known, and older"
                );
            }
            RegistryChange::Removed(name) => assert!(self.0.remove(&name).is_some(), "known"),
        }
    }

    /// Receives all pending changes.
    fn catch_up(&mut self, subscription: &mut Subscription) {
        while let Some(change) = subscription.next().now_or_never() {
            self.hear(change);
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_registry_says_what_a_list_says(
        steps in prop::collection::vec(arb_step(), 1..60),
        queries in prop::collection::vec(arb_query(), 1..6),
        limit in 1usize..4,
        order in select(&Order::ALL[..]),
    ) {
        let (registry, mut naive) = (ThreadSafeActorRegistry::default(), Naive::default());
        let asked: Vec<_> = queries.iter().filter(|query| !query.depends_on_time()).cloned().collect();
        let mut subscribers: Vec<_> = asked
            .iter()
            .map(|query| (registry.subscribe(query.clone()).expect("a query"), Replay::default()))
            .collect();
        for (second, step) in steps.iter().enumerate() {
            let now = at(second as u64 * 10);
            match step.clone() {
                Step::Register(actor) => {
                    prop_assert_eq!(registry.register(now, actor.clone()), naive.register(now, actor));
                }
                Step::Advance(name, to) => {
                    let advanced = registry.advance(now, &name, to).map(drop);
                    prop_assert_eq!(advanced, naive.advance(now, &name, to));
                }
                Step::Health(name, health) => {
                    let change = |standing: &mut EntryStatus| {
                        let is_new = standing.health != health;
                        standing.health = health;
                        Ok(is_new)
                    };
                    prop_assert_eq!(registry.record_health(&name, health), naive.change(&name, change));
                }
                Step::Remove(name) => prop_assert_eq!(registry.remove(&name), naive.remove(&name)),
                Step::Listen => {
                    for (subscription, replay) in &mut subscribers {
                        replay.catch_up(subscription);
                    }
                }
            }
        }
        indexes_agree(&registry);
        let now = at(steps.len() as u64 * 10);
        for query in &queries {
            let expected = naive.select(now, query);
            prop_assert_eq!(plain(&registry.select(now, query)), expected.clone(), "{}", query);
            prop_assert!(registry.explain(query).candidates >= expected.len(), "{}", registry.explain(query));
            // Page by page, in any order, every entry appears once.
            let mut page = Page { order, limit, after: None };
            let mut paged = Vec::new();
            loop {
                let answer = registry.query(now, query, &page);
                prop_assert_eq!(answer.matched, expected.len());
                prop_assert!(answer.entries.len() <= limit);
                paged.extend(plain(&answer.entries));
                let Some(next) = answer.next else { break };
                page.after = Some(next.to_string().parse().expect("a cursor reads what it writes"));
            }
            if order == Order::Failures {
                prop_assert!(paged.is_sorted_by(|a, b| (b.1.failures, &a.0) <= (a.1.failures, &b.0)));
            }
            paged.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(paged, expected);
        }
        for ((subscription, replay), query) in subscribers.iter_mut().zip(&asked) {
            replay.catch_up(subscription);
            let replayed: Vec<_> = replay.0.clone().into_iter().collect();
            prop_assert_eq!(replayed, naive.select(now, query), "{}", query);
        }
    }
}

#[test]
fn each_condition_holds_for_those_it_describes_and_no_others() {
    let registry = ThreadSafeActorRegistry::default();
    let mut chain = actor("chain", "ChainActor", ActorPriority::Critical, &["storage", "consensus-critical"]);
    chain.supervisor = Some(name("critical"));
    let mut link = actor("link/node-2", "LinkActor", ActorPriority::Normal, &["network"]);
    let profile =
        Profile { metadata: [("peer".to_owned(), "node-2".to_owned())].into(), ..(*link.profile).clone() };
    link.profile = profile.into();
    for actor in [chain, link, actor("sync", "SyncActor", ActorPriority::Normal, &["network", "storage"])] {
        registry.register(at(0), actor).expect("registers");
    }
    for (who, second) in [("chain", 10), ("link/node-2", 50)] {
        registry.advance(at(second), &name(who), ActorLifecycleState::Active).expect("it runs");
    }
    registry.record_health(&name("chain"), HealthStatus::Healthy).expect("it is there");
    for (text, expected) in [
        ("all", &["chain", "link/node-2", "sync"][..]),
        ("name=chain", &["chain"]),
        ("name=*n*", &["chain", "link/node-2", "sync"]),
        ("name=link/*", &["link/node-2"]),
        ("name=link/nobody*", &[]),
        ("name~^s", &["sync"]),
        ("type=SyncActor,LinkActor", &["link/node-2", "sync"]),
        ("tag=storage", &["chain", "sync"]),
        ("tag=storage and tag=network", &["sync"]),
        ("not tag=storage", &["link/node-2"]),
        ("priority=normal", &["link/node-2", "sync"]),
        ("state=registering", &["sync"]),
        ("health=healthy", &["chain"]),
        ("uptime>=30s", &["chain"]),
        ("uptime<30s", &["link/node-2"]),
        ("not uptime>=30s", &["link/node-2", "sync"]),
        ("supervisor=critical", &["chain"]),
        ("meta.peer=node-*", &["link/node-2"]),
        ("meta.role=*", &[]),
        ("tag=network and (state=active or priority=critical)", &["link/node-2"]),
    ] {
        assert_eq!(names(&registry.select(at(60), &query(text))), expected, "{text}");
    }
    let any = ActorQuery::any_tag([tag("network"), tag("consensus-critical")]);
    assert_eq!(registry.select(at(60), &any).len(), 3);
    let none = ActorQuery::no_tag([tag("network"), tag("consensus-critical")]);
    assert_eq!(registry.select(at(60), &none), []);
    let batch =
        registry.query_batch(at(60), &[(query("tag=network"), Page::default()), (none, Page::default())]);
    assert_eq!(batch.iter().map(|page| page.matched).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn a_query_begins_where_the_fewest_are_and_says_so() {
    let registry = ThreadSafeActorRegistry::default();
    for number in 0..100 {
        let tags: &[&str] = if number % 10 == 0 { &["many", "few"] } else { &["many"] };
        registry
            .register(at(0), actor(&format!("w/{number}"), "Worker", ActorPriority::Normal, tags))
            .expect("registers");
    }
    registry
        .register(at(0), actor("chain", "ChainActor", ActorPriority::Critical, &["few"]))
        .expect("registers");
    for (text, plan) in [
        ("tag=few", "begin with tag=few (11): at most 11 of 101 actors; check tag=few"),
        (
            "tag=many and state=active and tag=few",
            "begin with tag=few (11), within tag=many (100): at most 11 of 101 actors; \
             check (tag=many and state=active and tag=few)",
        ),
        (
            "tag=few and name=chain",
            "begin with name=chain: at most 1 of 101 actors; check (tag=few and name=chain)",
        ),
        (
            "name=w/1* and state=active",
            "begin with kind=w (100): at most 100 of 101 actors; check (name=w/1* and state=active)",
        ),
        (
            "type=ChainActor or priority=critical",
            "begin with any of [type=ChainActor (1); priority=critical (1)]: at most 2 of 101 actors; \
             check (type=ChainActor or priority=critical)",
        ),
        ("not tag=few", "begin with everybody: at most 101 of 101 actors; check not tag=few"),
        (
            "tag=few or state=failed",
            "begin with everybody: at most 101 of 101 actors; check (tag=few or state=failed)",
        ),
    ] {
        assert_eq!(registry.explain(&query(text)).to_string(), plan);
    }
}

#[test]
fn what_can_not_be_registered_or_moved_is_refused_with_names_and_states() {
    let registry = ThreadSafeActorRegistry::new(2);
    let chain = || actor("chain", "ChainActor", ActorPriority::Critical, &[]);
    assert_eq!(registry.register(at(0), chain()), Ok(Incarnation(1)));
    let told = |error: RegistryError| error.to_string();
    let duplicate = registry.register(at(0), chain()).map_err(told);
    assert_eq!(
        duplicate,
        Err("actor chain is registered already and registering; expected a name of its own, or one of the \
             same supervisor that is terminated"
            .to_owned())
    );
    let skipped = registry.advance(at(0), &name("chain"), ActorLifecycleState::Suspended).map_err(told);
    assert_eq!(
        skipped,
        Err("actor chain: an actor that is registering can not become suspended; expected active, or failed"
            .to_owned())
    );
    let alive = registry.remove(&name("chain")).map_err(told);
    assert_eq!(
        alive,
        Err("actor chain is registering and can not be removed; expected it to be terminated".to_owned())
    );
    assert_eq!(
        registry.remove(&name("engine")).map_err(told),
        Err("no actor engine is registered".to_owned())
    );
    registry
        .register(at(0), actor("engine", "EngineActor", ActorPriority::High, &[]))
        .expect("there is room");
    let full = registry.register(at(0), actor("sync", "SyncActor", ActorPriority::High, &[])).map_err(told);
    assert_eq!(full, Err("2 actors are registered; expected fewer than 2".to_owned()));
    let many: Vec<String> = (0..17).map(|number| format!("t{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let wrong =
        registry.register(at(0), actor("sync", "SyncActor", ActorPriority::High, &many)).map_err(told);
    assert_eq!(wrong, Err("registration of actor sync: `tags` is 17; expected at most 16".to_owned()));
    let mut sneaky = actor("sync", "SyncActor", ActorPriority::High, &[]);
    let metadata = [("role".to_owned(), "a\nb".to_owned())].into();
    sneaky.profile = Profile { metadata, ..(*sneaky.profile).clone() }.into();
    let sneaky = registry.register(at(0), sneaky).map_err(told).expect_err("control characters");
    assert!(sneaky.contains("`metadata`") && sneaky.contains("without control characters"), "{sneaky}");
    assert_eq!(
        registry.find::<u8>(&name("chain")).map(drop),
        Err(LookupError::Unreachable { name: name("chain") })
    );
    indexes_agree(&registry);
}

#[test]
fn a_subscriber_that_lags_is_given_a_fresh_listing_and_nothing_is_lost() {
    let registry = ThreadSafeActorRegistry::default();
    let mut subscription = registry.subscribe(query("tag=a")).expect("a query");
    let mut replay = Replay::default();
    replay.catch_up(&mut subscription);
    for number in 0..3_000 {
        let who = format!("w/{number}");
        registry.register(at(0), actor(&who, "Worker", ActorPriority::Normal, &["a"])).expect("registers");
    }
    replay.catch_up(&mut subscription);
    assert_eq!(replay.0.len(), 3_000);
    let time = registry.subscribe(query("uptime>=1s")).err().expect("refused").to_string();
    assert!(time.starts_with("a subscription can not ask for an uptime"), "{time}");
    assert_eq!(registry.stats().subscriptions, 1);
    drop(subscription);
    assert_eq!(registry.stats().subscriptions, 0);
}
