//! Measures the registry: lookups by name, type and tag while one thread writes and two read, queries, registrations
//! and memory. Compares with a bare concurrent map, ractor's registry and kameo's registry in the same run.
//!
//! `cargo bench -p alys-benches --bench registry`; a further word selects measurements by name.

use std::env;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use alys_benches::registry::{BareMap, LockedMap, Names, Ours, each, lookups, name};
use alys_benches::report::{Pairs, Plan, line, note};
use alys_benches::supervision::census::resident_kb;
use alys_cluster::clock::Moment;
use alys_cluster::id::{ActorName, Tag};
use alys_cluster::registry::{ActorQuery, Page};
use ractor::{Actor, ActorProcessingErr, ActorRef};

/// Environment variable with the number of actors that this process is to register, to measure their memory.
const ORDER: &str = "ALYS_BENCH_REGISTRY";
const NOW: Moment = Moment::ORIGIN;

fn keys(count: usize) -> Vec<ActorName> {
    (0..count).map(name).collect()
}

/// Measures our lookups and the peer's alternately.
fn pairs(plan: &Plan, ours: &dyn Names, peer: &dyn Names, keys: &[ActorName]) -> Pairs {
    let time = Duration::from_millis(plan.size(150) as u64);
    let mut pairs = Pairs::default();
    for _ in 0..plan.size(9).min(9) {
        pairs.add(lookups(ours, keys, time), lookups(peer, keys, time));
    }
    pairs
}

fn by_name(plan: &Plan) {
    for size in [100, 10_000, 100_000, 1_000_000].map(|size| plan.size(size)) {
        let (keys, ours) = (keys(size), Ours::of(size));
        let bare = pairs(plan, &ours, &BareMap::of(size), &keys);
        let figure = format!("{:.0?}, map {:.0?}, ratio {:.2}", bare.ours(1), bare.peers(1), bare.ratio());
        let is_met = bare.ratio() <= 1.5 && bare.ours(1) <= Duration::from_nanos(100);
        line(&format!("by name, {size} actors"), &figure, "<= 100 ns, ratio <= 1.5", is_met);
        let locked = pairs(plan, &ours, &LockedMap::of(size), &keys);
        note(&format!("the same over a locked map, {size}"), &format!("ratio {:.2}", locked.ratio()));
    }
}

struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct KameoIdle;

impl kameo::Actor for KameoIdle {
    type Args = Self;
    type Error = std::convert::Infallible;

    async fn on_start(idle: Self, _: kameo::actor::ActorRef<Self>) -> Result<Self, Self::Error> {
        Ok(idle)
    }
}

/// Registries that require real actors. Measured with one thread, because they are not designed for constant writes.
fn other_registries(plan: &Plan) {
    let size = plan.size(10_000);
    let (keys, ours) = (keys(size), Ours::of(size));
    let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for text in &texts {
            Actor::spawn(Some(text.clone()), Idle, ()).await.expect("it starts");
        }
        let one = <KameoIdle as kameo::actor::Spawn>::spawn(KameoIdle);
        {
            let mut registry = kameo::registry::ACTOR_REGISTRY.lock().expect("nobody panics");
            for text in &texts {
                registry.insert(text.clone(), one.clone());
            }
        }
        let mut at = 0;
        let mut next = move || {
            at = (at + 7_919) % size;
            at
        };
        let times = plan.size(200_000) as u32;
        let (mut ractors, mut kameos) = (Pairs::default(), Pairs::default());
        for _ in 0..plan.size(9).min(9) {
            let own = each(times, || assert!(ours.find(&keys[next()])));
            ractors
                .add(own, each(times, || drop(black_box(ractor::registry::where_is(texts[next()].clone())))));
            let kameo = |text: &str| {
                let mut registry = kameo::registry::ACTOR_REGISTRY.lock().expect("nobody panics");
                registry.get::<KameoIdle, str>(text).ok().flatten()
            };
            kameos.add(own, each(times, || drop(black_box(kameo(&texts[next()])))));
        }
        for (peer, pairs) in [("ractor::registry::where_is", ractors), ("kameo's registry", kameos)] {
            let figure =
                format!("{:.0?}, peer {:.0?}, ratio {:.2}", pairs.ours(1), pairs.peers(1), pairs.ratio());
            note(&format!("by name, over {peer}, {size} actors"), &figure);
        }
    });
}

fn queries(plan: &Plan) {
    for size in [100, 10_000, 100_000, 1_000_000].map(|size| plan.size(size)) {
        let ours = Ours::of(size);
        let registry = &ours.registry;
        let read = |text: &str| text.parse::<ActorQuery>().expect(text);
        let ten = Page { limit: 10, ..Page::default() };
        let found = registry.by_tag(&Tag::literal("rare")).len();
        let times = plan.size(2_000) as u32;
        let tag = each(times, || drop(black_box(registry.by_tag(&Tag::literal("rare")))));
        note(&format!("by tag, {size} actors, {found} found"), &format!("{tag:.2?}"));
        let rare = registry.by_tag(&Tag::literal("rare"));
        let actor_type = rare[0].registration().profile.actor_type.clone();
        let typed = each(times, || drop(black_box(registry.by_type(&actor_type))));
        note(&format!("by type, {size} actors, {found} found"), &format!("{typed:.2?}"));
        // Matches the rare actors, one in a thousand, all of which are critical; every other condition matches many more.
        let selective =
            read("tag=common and priority=critical and tag=rare and state=active and not health=healthy");
        let matched = registry.query(NOW, &selective, &ten).matched;
        let took = each(times, || drop(black_box(registry.query(NOW, &selective, &ten))));
        let per = took / u32::try_from(found.max(1)).unwrap_or(1);
        let is_met = took <= Duration::from_micros(10) || found > 25;
        let figure = format!("{took:.2?}, {per:.0?} each lead");
        line(
            &format!("selective query, {size} actors, {matched} of {found}"),
            &figure,
            "<= 10 us up to 25",
            is_met,
        );
        let all = read("state=active");
        let took = each((times / 1_000).max(2), || drop(black_box(registry.query(NOW, &all, &ten))));
        let figure = format!("{took:.2?}, {:.0?} an actor", took / size as u32);
        note(&format!("unselective query, {size} actors"), &figure);
    }
}

fn registrations(plan: &Plan) {
    for size in [10_000, 100_000, 1_000_000].map(|size| plan.size(size)) {
        let ours = Ours::empty();
        let mut number = 0;
        let took = each(size as u32, || {
            ours.register(number);
            number += 1;
        });
        note(&format!("registered and active, {size} actors, each"), &format!("{took:.2?}"));
    }
}

fn memory(plan: &Plan) {
    for size in [10_000, 100_000].map(|size| plan.size(size)) {
        let program = env::current_exe().expect("this program");
        let output = Command::new(program).env(ORDER, size.to_string()).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let kb: u64 = text.trim().parse().expect("a number of kilobytes");
        let each = kb * 1_024 / size as u64;
        line(
            &format!("memory of {size} actors"),
            &format!("{kb} kB, {each} B each"),
            "<= 300 B each",
            each <= 300,
        );
    }
}

fn weigh(order: &str) {
    let count = order.parse().expect("a number of actors");
    let ours = Ours::sharing_an_address();
    let before = resident_kb();
    (0..count).for_each(|number| ours.register(number));
    println!("{}", resident_kb().saturating_sub(before));
}

type Report = (&'static str, fn(&Plan));

const REPORTS: [Report; 5] = [
    ("name", by_name),
    ("peers", other_registries),
    ("query", queries),
    ("registration", registrations),
    ("memory", memory),
];

fn main() {
    if let Ok(order) = env::var(ORDER) {
        return weigh(&order);
    }
    let plan = Plan::of_arguments();
    for (name, report) in REPORTS {
        if plan.wants(name) {
            report(&plan);
        }
    }
}
