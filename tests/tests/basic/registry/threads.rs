//! Tests concurrent reads and writes from many threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use alys_cluster::registry::{ActorLifecycleState, RegistryChange, ThreadSafeActorRegistry};
use futures::FutureExt as _;

use super::*;

const WRITERS: usize = 4;
const ROUNDS: usize = 3_000;

/// A small generator, so that each thread's steps are independent and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn while_many_write_whoever_stays_is_always_found_by_everything_and_nobody_comes_twice() {
    let registry = ThreadSafeActorRegistry::default();
    for number in 0..8 {
        let who = format!("steady/{number}");
        registry
            .register(at(0), actor(&who, "Steady", ActorPriority::Critical, &["shared", "steady"]))
            .expect("registers");
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|thread| {
                let registry = &registry;
                threads.spawn(move || {
                    let mut dice = Dice(thread as u64);
                    for _ in 0..ROUNDS {
                        // Half of the names are shared, so that writers also conflict.
                        let own = if dice.roll(2) == 0 { thread } else { WRITERS };
                        let who = format!("w/{own}-{}", dice.roll(5));
                        let tags: &[&str] = [&["shared"][..], &["shared", "odd"], &[]][dice.roll(3)];
                        let priority = ActorPriority::ALL[dice.roll(4)];
                        let _ = match dice.roll(4) {
                            0 => registry.register(at(0), actor(&who, "Worker", priority, tags)).map(drop),
                            1 => registry.remove(&name(&who)),
                            _ => {
                                let to = ActorLifecycleState::ALL[dice.roll(6)];
                                registry.advance(at(0), &name(&who), to).map(drop)
                            }
                        };
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            threads.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    for text in ["tag=steady", "type=Steady", "name=steady/*", "tag=shared and type=Steady"] {
                        assert_eq!(registry.select(at(0), &query(text)).len(), 8, "{text}");
                    }
                    assert!(registry.entry(&name("steady/3")).is_some());
                    for entry in registry.by_tag(&tag("odd")) {
                        assert!(entry.tags().contains(&tag("odd")), "{entry:?}");
                    }
                    let critical = registry.by_priority(ActorPriority::Critical);
                    assert!(critical.is_sorted_by(|a, b| a.name() < b.name()), "nobody comes twice");
                }
            });
        }
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    indexes_agree(&registry);
}

#[test]
fn what_each_of_many_threads_did_is_what_the_registry_says_and_what_subscribers_replay() {
    let registry = ThreadSafeActorRegistry::default();
    let is_over = AtomicBool::new(false);
    let expected = std::thread::scope(|threads| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|thread| {
                let registry = &registry;
                threads.spawn(move || {
                    // A naive copy of this thread's own entries.
                    let (mut dice, mut own) = (Dice(thread as u64 + 7), BTreeMap::new());
                    for _ in 0..ROUNDS {
                        let who = name(&format!("w/{thread}-{}", dice.roll(4)));
                        let tags: &[&str] = if dice.roll(2) == 0 { &["a"] } else { &["b"] };
                        match dice.roll(6) {
                            0 => {
                                let registration = actor(who.as_str(), "Worker", ActorPriority::High, tags);
                                if registry.register(at(0), registration).is_ok() {
                                    own.insert(who, (ActorLifecycleState::Registering, tags));
                                }
                            }
                            1 => {
                                if registry.remove(&who).is_ok() {
                                    own.remove(&who);
                                }
                            }
                            _ => {
                                let to = ActorLifecycleState::ALL[dice.roll(6)];
                                if registry.advance(at(0), &who, to).is_ok() {
                                    own.get_mut(&who).expect("it was registered here").0 = to;
                                }
                            }
                        }
                    }
                    own
                })
            })
            .collect();
        let subscribers: Vec<_> = ["all", "tag=a and not state=terminated"]
            .into_iter()
            .map(|text| {
                let (registry, is_over) = (&registry, &is_over);
                threads.spawn(move || {
                    let mut subscription = registry.subscribe(query(text)).expect("a query");
                    let mut known = BTreeMap::new();
                    loop {
                        let is_last = is_over.load(Ordering::SeqCst);
                        while let Some(change) = subscription.next().now_or_never() {
                            match change {
                                RegistryChange::Listing(entries) => {
                                    let listed = entries.into_iter();
                                    known = listed.map(|entry| (entry.name().clone(), entry)).collect();
                                }
                                RegistryChange::Added(entry) | RegistryChange::Changed(entry) => {
                                    known.insert(entry.name().clone(), entry);
                                }
                                RegistryChange::Removed(name) => drop(known.remove(&name)),
                            }
                        }
                        if is_last {
                            break (text, known);
                        }
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        let own = writers.into_iter().map(|writer| writer.join().expect("no panic"));
        let expected: BTreeMap<_, _> = own.flatten().collect();
        is_over.store(true, Ordering::SeqCst);
        for subscriber in subscribers {
            let (text, known) = subscriber.join().expect("no panic");
            let there = registry.select(at(0), &query(text));
            assert_eq!(known.into_values().collect::<Vec<_>>(), there, "{text}");
        }
        expected
    });
    let found = registry.select(at(0), &ActorQuery::All);
    let found: Vec<_> =
        found.iter().map(|entry| (entry.name(), entry.standing.state, entry.tags().len())).collect();
    let expected: Vec<_> = expected.iter().map(|(name, (state, tags))| (name, *state, tags.len())).collect();
    assert_eq!(found, expected);
    indexes_agree(&registry);
}

#[test]
fn of_many_who_want_one_name_one_gets_it_and_incarnations_are_counted_without_gaps() {
    let registry = ThreadSafeActorRegistry::default();
    let lives = 200;
    for life in 1..=lives {
        let winners = std::thread::scope(|threads| {
            let attempts: Vec<_> = (0..4)
                .map(|_| {
                    threads
                        .spawn(|| registry.register(at(0), actor("one", "Worker", ActorPriority::High, &[])))
                })
                .collect();
            let outcomes = attempts.into_iter().map(|attempt| attempt.join().expect("no panic"));
            outcomes.filter_map(Result::ok).collect::<Vec<_>>()
        });
        assert_eq!(winners.iter().map(|incarnation| incarnation.0).collect::<Vec<_>>(), [life]);
        for to in [ActorLifecycleState::Failed, ActorLifecycleState::Terminated] {
            registry.advance(at(0), &name("one"), to).expect("a legal move");
        }
    }
    assert_eq!(registry.entry(&name("one")).expect("it is there").standing.failures, lives);
}
