//! Many threads write and read at once.

use std::sync::atomic::{AtomicBool, Ordering};

use alys_cluster::registry::{ActorLifecycleState, ThreadSafeActorRegistry};

use super::*;

const WRITERS: usize = 4;
const ROUNDS: usize = 3_000;

/// A small generator, so that each thread's steps are its own and the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn while_many_write_whoever_stays_is_always_found_by_everything_and_nobody_is_found_by_what_it_is_not() {
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
                        // Half of the names are everybody's, so that writers also meet.
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
                    assert!(
                        critical.iter().all(|entry| entry.registration().priority == ActorPriority::Critical)
                    );
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
