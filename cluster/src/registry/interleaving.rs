//! Tests the registry under a scheduler that explores thread interleavings.
//!
//! `cargo test -p alys-cluster --features shuttle --lib registry::interleaving`

use futures::FutureExt as _;
use shuttle::thread;

use super::lifecycle::ActorLifecycleState::{Active, Failed, Terminated};
use super::{ActorQuery, Profile, Registration, RegistryChange, Subscription, ThreadSafeActorRegistry};
use crate::clock::Moment;
use crate::id::{ActorName, ActorPriority, ActorType, Incarnation, Tag};

const NOW: Moment = Moment::ORIGIN;
/// Number of interleavings to try; a few hundred are enough to detect a misordered step.
const ORDERS: usize = 3_000;

fn name() -> ActorName {
    ActorName::literal("kind/actor")
}

fn actor(tag: &'static str) -> Registration {
    let mut profile = Profile::new(ActorType::of::<Registration>());
    profile.tags.insert(Tag::literal(tag));
    Registration { priority: ActorPriority::High, ..Registration::new(name(), profile) }
}

/// For each way to find the actor, whether it finds it; the ways are tried in cyclic order, starting with `first`.
fn seen(registry: &ThreadSafeActorRegistry, first: usize) -> Vec<bool> {
    let ways: [&dyn Fn() -> bool; 5] = [
        &|| registry.entry(&name()).is_some(),
        &|| !registry.by_tag(&Tag::literal("a")).is_empty(),
        &|| !registry.by_type(&ActorType::of::<Registration>()).is_empty(),
        &|| !registry.by_priority(ActorPriority::High).is_empty(),
        &|| {
            !registry
                .select(NOW, &ActorQuery::Name(super::Pattern::glob("kind/*").expect("a glob")))
                .is_empty()
        },
    ];
    (0..ways.len()).map(|way| ways[(first + way) % ways.len()]()).collect()
}

#[test]
fn an_actor_appears_in_every_index_at_once_and_vanishes_from_all_at_once() {
    for first in 0..5 {
        shuttle::check_random(
            move || {
                let registry = ThreadSafeActorRegistry::default();
                let writer = registry.clone();
                let writer = thread::spawn(move || writer.register(NOW, actor("a")).expect("registers"));
                let looks = seen(&registry, first);
                assert!(looks.is_sorted(), "seen by one way, and then not by another: {looks:?}");
                writer.join().expect("no panic");

                for to in [Failed, Terminated] {
                    registry.advance(NOW, &name(), to).expect("a legal move");
                }
                let remover = registry.clone();
                let remover = thread::spawn(move || remover.remove(&name()).expect("removes"));
                let looks = seen(&registry, first);
                assert!(
                    looks.is_sorted_by(|a, b| a >= b),
                    "gone by one way, and then seen by another: {looks:?}"
                );
                remover.join().expect("no panic");
                assert_eq!(seen(&registry, first), [false; 5]);
            },
            ORDERS,
        );
    }
}

#[test]
fn writers_take_turns_and_none_of_their_moves_is_lost() {
    shuttle::check_random(
        || {
            let registry = ThreadSafeActorRegistry::default();
            let who = name();
            registry.register(NOW, actor("a")).expect("registers");
            registry.advance(NOW, &who, Active).expect("a legal move");
            let movers: Vec<_> = (0..2)
                .map(|_| {
                    let (registry, who) = (registry.clone(), who.clone());
                    thread::spawn(move || {
                        let failed = registry.advance(NOW, &who, Failed).is_ok();
                        let active = registry.advance(NOW, &who, Active).is_ok();
                        (u64::from(failed), u64::from(active))
                    })
                })
                .collect();
            let moved = movers.into_iter().map(|mover| mover.join().expect("no panic"));
            let (failed, active) = moved.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let standing = registry.standing(&who).expect("it is there");
            assert_eq!((standing.failures, standing.incarnation), (failed, Incarnation(1 + active)));
            assert_eq!(registry.stats().moves, 1 + failed + active);
        },
        ORDERS,
    );
}

#[test]
fn a_name_that_changes_hands_has_one_holder_at_most() {
    shuttle::check_random(
        || {
            let registry = ThreadSafeActorRegistry::default();
            let who = name();
            registry.register(NOW, actor("a")).expect("registers");
            for to in [Failed, Terminated] {
                registry.advance(NOW, &who, to).expect("a legal move");
            }
            let heir = registry.clone();
            let heir = thread::spawn(move || {
                heir.remove(&name()).expect("removes");
                heir.register(NOW, actor("b")).expect("registers");
            });
            // There is one of the two, or none for a moment, but never both.
            let both = registry.select(NOW, &ActorQuery::any_tag(["a", "b"].map(Tag::literal)));
            assert!(both.len() <= 1, "{both:?}");
            heir.join().expect("no panic");
            assert_eq!(registry.by_tag(&Tag::literal("b")).len(), 1);
            assert_eq!(registry.by_tag(&Tag::literal("a")).len(), 0);
        },
        ORDERS,
    );
}

#[test]
fn a_subscriber_that_comes_while_an_actor_moves_misses_nothing() {
    shuttle::check_random(
        || {
            let registry = ThreadSafeActorRegistry::default();
            registry.register(NOW, actor("a")).expect("registers");
            let mover = registry.clone();
            let mover = thread::spawn(move || mover.advance(NOW, &name(), Active).map(drop));
            let mut subscription = registry.subscribe(ActorQuery::All).expect("a query");
            let mut state = None;
            let mut hear = |subscription: &mut Subscription| {
                while let Some(change) = subscription.next().now_or_never() {
                    match change {
                        RegistryChange::Listing(entries) => {
                            state = entries.first().map(|entry| entry.standing.state)
                        }
                        RegistryChange::Added(entry) | RegistryChange::Changed(entry) => {
                            state = Some(entry.standing.state);
                        }
                        RegistryChange::Removed(_) => state = None,
                    }
                }
                state
            };
            hear(&mut subscription);
            mover.join().expect("no panic").expect("a legal move");
            assert_eq!(hear(&mut subscription), Some(Active));
        },
        ORDERS,
    );
}
