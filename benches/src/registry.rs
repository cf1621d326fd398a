//! Fixture: registries with many actors, ours and others, to measure lookups, queries and registrations under
//! concurrent reads and writes.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use alys_cluster::clock::Moment;
use alys_cluster::id::{ActorName, ActorPriority, ActorType, Tag};
use alys_cluster::mailbox::Address;
use alys_cluster::registry::{ActorLifecycleState, Profile, Registration, ThreadSafeActorRegistry};

/// Message type of the actors, which receive no messages here.
pub struct Nothing;

/// Registry that finds addresses by name while names are added and removed.
pub trait Names: Send + Sync {
    /// Whether the actor is found.
    fn find(&self, name: &ActorName) -> bool;
    /// Adds a name.
    fn add(&self, name: &ActorName);
    /// Removes a name.
    fn remove(&self, name: &ActorName);
}

/// Name of actor `number`.
///
/// # Panics
///
/// Never: the name is valid.
pub fn name(number: usize) -> ActorName {
    ActorName::new(&format!("worker/{number}")).expect("a name")
}

/// A hundred profiles of ten types, each tagged `common` and with a tag of its own. Every thousandth actor is `rare`
/// instead.
fn profiles() -> Vec<Arc<Profile>> {
    let profile = |number: usize| {
        let mut profile = Profile::new(ActorType::new(&format!("Worker{}", number % 10)).expect("a type"));
        profile.tags = [Tag::literal("common"), Tag::new(&format!("kind-{number}")).expect("a tag")].into();
        Arc::new(profile)
    };
    (0..100).map(profile).collect()
}

/// Our registry with actors in it.
pub struct Ours {
    /// The registry.
    pub registry: ThreadSafeActorRegistry,
    profiles: Vec<Arc<Profile>>,
    rare: Arc<Profile>,
    /// Address shared by all actors, if the memory of the addresses is not to be counted.
    shared: Option<Address<Nothing>>,
}

impl Ours {
    /// Creates an empty registry.
    pub fn empty() -> Self {
        let mut rare = Profile::new(ActorType::new("RareWorker").expect("a type"));
        rare.tags = [Tag::literal("common"), Tag::literal("rare")].into();
        let registry = ThreadSafeActorRegistry::default();
        Self { registry, profiles: profiles(), rare: Arc::new(rare), shared: None }
    }

    /// Creates an empty registry whose actors share one address.
    pub fn sharing_an_address() -> Self {
        Self { shared: Some(Address::new(ActorName::literal("worker"), 1)), ..Self::empty() }
    }

    fn address(&self, name: &ActorName) -> Address<Nothing> {
        self.shared.clone().unwrap_or_else(|| Address::new(name.clone(), 1))
    }

    /// Creates a registry with `count` active actors.
    pub fn of(count: usize) -> Self {
        let ours = Self::empty();
        (0..count).for_each(|number| ours.register(number));
        ours
    }

    fn registration(&self, number: usize) -> Registration {
        let profile = if number.is_multiple_of(1_000) { &self.rare } else { &self.profiles[number % 100] };
        let name = name(number);
        Registration {
            address: Some(self.address(&name).any()),
            name,
            profile: profile.clone(),
            priority: ActorPriority::ALL[number % 4],
            supervisor: None,
        }
    }

    /// Registers an actor and makes it active.
    ///
    /// # Panics
    ///
    /// If its name is taken.
    pub fn register(&self, number: usize) {
        let registration = self.registration(number);
        let name = registration.name.clone();
        self.registry.register(Moment::ORIGIN, registration).expect("a free name");
        self.registry.advance(Moment::ORIGIN, &name, ActorLifecycleState::Active).expect("a legal move");
    }
}

impl Names for Ours {
    fn find(&self, name: &ActorName) -> bool {
        black_box(self.registry.find::<Nothing>(name)).is_ok()
    }

    fn add(&self, name: &ActorName) {
        let registration = Registration {
            address: Some(self.address(name).any()),
            profile: self.profiles[0].clone(),
            ..Registration::new(name.clone(), Profile::new(self.profiles[0].actor_type.clone()))
        };
        let _ = self.registry.register(Moment::ORIGIN, registration);
    }

    fn remove(&self, name: &ActorName) {
        for to in [ActorLifecycleState::Failed, ActorLifecycleState::Terminated] {
            let _ = self.registry.advance(Moment::ORIGIN, name, to);
        }
        let _ = self.registry.remove(name);
    }
}

/// Upper bound: only a concurrent map from names to addresses, with the same hash function.
pub struct BareMap(papaya::HashMap<ActorName, Address<Nothing>, foldhash::fast::RandomState>);

impl BareMap {
    /// Creates a map with `count` names.
    pub fn of(count: usize) -> Self {
        let map = Self(papaya::HashMap::with_hasher(foldhash::fast::RandomState::default()));
        (0..count).for_each(|number| map.add(&name(number)));
        map
    }
}

impl Names for BareMap {
    fn find(&self, name: &ActorName) -> bool {
        black_box(self.0.pin().get(name).cloned()).is_some()
    }

    fn add(&self, name: &ActorName) {
        self.0.pin().insert(name.clone(), Address::new(name.clone(), 1));
    }

    fn remove(&self, name: &ActorName) {
        self.0.pin().remove(name);
    }
}

/// Simplest possible registry: a map behind one lock.
pub struct LockedMap(std::sync::RwLock<HashMap<ActorName, Address<Nothing>, foldhash::fast::RandomState>>);

impl LockedMap {
    /// Creates a map with `count` names.
    pub fn of(count: usize) -> Self {
        let map = Self(std::sync::RwLock::default());
        (0..count).for_each(|number| map.add(&name(number)));
        map
    }
}

impl Names for LockedMap {
    fn find(&self, name: &ActorName) -> bool {
        black_box(self.0.read().expect("nobody panics").get(name).cloned()).is_some()
    }

    fn add(&self, name: &ActorName) {
        self.0.write().expect("nobody panics").insert(name.clone(), Address::new(name.clone(), 1));
    }

    fn remove(&self, name: &ActorName) {
        self.0.write().expect("nobody panics").remove(name);
    }
}

/// Time per lookup in each of two threads that look up the names of `keys` in scattered order, while a third thread
/// adds and removes other names as fast as it can.
///
/// # Panics
///
/// If a thread panics.
pub fn lookups(names: &dyn Names, keys: &[ActorName], time: Duration) -> Duration {
    let (is_over, found) = (AtomicBool::new(false), AtomicU64::new(0));
    let strangers: Vec<ActorName> = (0..64).map(|number| name(1_000_000_000 + number)).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for stranger in strangers.iter().cycle() {
                names.add(stranger);
                names.remove(stranger);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let found = &found;
                threads.spawn(move || {
                    let (mut count, mut at) = (0u64, reader * keys.len() / 2);
                    let begun = Instant::now();
                    while begun.elapsed() < time {
                        for _ in 0..256 {
                            // A stride that is coprime with the number of keys visits all of them in an order that
                            // caches cannot predict.
                            at = (at + 7_919) % keys.len();
                            count += u64::from(names.find(&keys[at]));
                        }
                    }
                    found.fetch_add(count, Ordering::Relaxed);
                    begun.elapsed()
                })
            })
            .collect();
        let spent: Duration = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
        is_over.store(true, Ordering::Relaxed);
        Duration::from_secs_f64(spent.as_secs_f64() / found.load(Ordering::Relaxed).max(1) as f64)
    })
}

/// Mean time of `times` runs of `work`.
pub fn each(times: u32, mut work: impl FnMut()) -> Duration {
    let begun = Instant::now();
    (0..times).for_each(|_| work());
    begun.elapsed() / times
}
