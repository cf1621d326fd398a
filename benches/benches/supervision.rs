//! Measures supervision: a backoff, a failure, a decision, an actor's start and its messages, and the behaviour in a
//! restart storm. Criterion times the pure core; the report below computes ratios to bare ractor, measured alternately.
//!
//! `cargo bench -p alys-benches --bench supervision -- --quick`; a further word selects measurements by name.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_benches::report::{Pairs, Plan, line, note, percentile, rate};
use alys_benches::supervision::census::{self, Census, Who};
use alys_benches::supervision::core::{BLOCK_TIME, Core, Forgetful, backoffs, failures, inputs, learnt};
use alys_benches::supervision::tree::{
    Asked, Bare, Supervised, Tree, Way, calls, casts, decisions, run, spawns, storm,
};
use alys_cluster::clock::{Clock, SystemClock, WallTime};
use alys_cluster::event::EventBus;
use alys_cluster::supervision::decision::decide;
use alys_cluster::supervision::state::Effect;
use alys_cluster::supervision::{ActorFailureType, Context};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};

fn backoff(c: &mut Criterion) {
    let mut group = c.benchmark_group("backoff");
    for (name, config) in backoffs() {
        let delay = |attempt: u32, random: f64| config.delay(black_box(attempt), random, BLOCK_TIME);
        group.bench_function(BenchmarkId::new("one", name), |b| b.iter(|| delay(4, black_box(0.3))));
        group.bench_function(BenchmarkId::new("ten attempts", name), |b| {
            b.iter(|| (1..=10).map(|attempt| delay(attempt, black_box(0.3))).sum::<Duration>());
        });
        group.bench_function(BenchmarkId::new("a hundred actors", name), |b| {
            let actor = |n: u32| delay(n % 10 + 1, black_box(f64::from(n) / 100.0));
            b.iter(|| (0..100).map(actor).sum::<Duration>());
        });
    }
    group.finish();
}

fn decision(c: &mut Criterion) {
    let inputs = inputs();
    c.bench_function("decide", |b| b.iter(|| decide(black_box(&inputs))));
}

fn context() -> Context {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Context::new("core", clock.clone(), EventBus::new(clock))
}

/// Handles and records one failure, and brings the child back.
fn remembered(core: &mut Core, context: &Context, kind: &ActorFailureType) {
    let mut around = context;
    let name = core.next_name();
    let effects = core.fail(&mut around, learnt(kind));
    for effect in &effects {
        if let Effect::Tell(_, record) = effect {
            context.memory.decided(WallTime(1), record);
        }
    }
    let now = core.recover(&mut around, &effects);
    context.memory.recovered(now, &name);
}

fn handling(c: &mut Criterion) {
    let mut group = c.benchmark_group("failure handling");
    group.throughput(Throughput::Elements(1));
    for (name, kind) in failures() {
        let mut core = Core::new(100, &mut Forgetful);
        group.bench_function(BenchmarkId::new("core", name), |b| {
            b.iter(|| {
                let effects = core.fail(&mut Forgetful, learnt(black_box(&kind)));
                core.recover(&mut Forgetful, &effects)
            });
        });
        for (children, whose) in [(1, "one actor"), (100, "a hundred actors")] {
            let context = context();
            let mut core = Core::new(children, &mut &context);
            let id = BenchmarkId::new(format!("with memory and patterns, {whose}"), name);
            group.bench_function(id, |b| b.iter(|| remembered(&mut core, &context, black_box(&kind))));
        }
    }
    group.finish();
}

fn tails(what: &str, sorted: &[Duration]) {
    let [middle, most, worst] = [0.5, 0.99, 0.999].map(|share| percentile(sorted, share));
    let figure = format!("{middle:.2?} / {most:.2?} / {worst:.2?}");
    line(what, &figure, "p99 <= 10 us", most <= Duration::from_micros(10));
}

fn decisions_tail(plan: &Plan) {
    let context = context();
    let mut around = &context;
    let mut core = Core::new(100, &mut around);
    let kinds = failures();
    let handled = |n: usize| {
        let failure = learnt(&kinds[n % kinds.len()].1);
        let begun = Instant::now();
        let effects = core.fail(&mut around, failure);
        let took = begun.elapsed();
        core.recover(&mut around, &effects);
        took
    };
    let mut all: Vec<_> = (0..plan.size(200_000)).map(handled).collect();
    all.sort();
    tails("restart decision, core with patterns (p50/p99/p99.9)", &all);
    let failures = plan.size(10_000);
    for workers in [1, 100] {
        let all = run(decisions(workers, failures.max(workers)));
        tails(&format!("restart decision, told, storm of {workers} (p50/p99/p99.9)"), &all);
    }
}

/// Alternates between `ours` and `peers`.
fn pairs(rounds: usize, ours: impl Fn() -> Duration, peers: impl Fn() -> Duration) -> Pairs {
    let mut pairs = Pairs::default();
    for _ in 0..rounds {
        pairs.add(ours(), peers());
    }
    pairs
}

fn spawning(plan: &Plan) {
    let count = plan.size(2_000);
    let ours = || run(spawns::<Supervised>(count));
    let linked = pairs(plan.size(9), ours, || run(spawns::<Bare>(count)));
    let asked = pairs(plan.size(9), ours, || run(spawns::<Asked>(count)));
    let each = linked.ours(count);
    line("spawn, supervised", &format!("{each:.2?}"), "<= 10 us", each <= Duration::from_micros(10));
    let times = |pairs: &Pairs| format!("{:.2?}, ratio {:.2}", pairs.peers(count), pairs.ratio());
    line("spawn, bare, linked by the caller", &times(&linked), "ratio <= 2", linked.ratio() <= 2.0);
    note("spawn, bare, asked of the parent", &times(&asked));
}

fn storms(plan: &Plan) {
    for way in [Way::Fail, Way::Panic] {
        // The first panics at a source location capture a backtrace; warm up so that this cost is not measured.
        run(storm::<Supervised>(2, plan.size(4_096), way));
        for workers in [1, 100, 1_000] {
            let failures = plan.size(10_000).max(workers);
            let ours = || run(storm::<Supervised>(workers, failures, way));
            let pairs = pairs(plan.size(5), ours, || run(storm::<Bare>(workers, failures, way)));
            let rates = [pairs.ours(failures), pairs.peers(failures)].map(rate);
            let figure = format!("{:.0} /s, bare {:.0} /s", rates[0], rates[1]);
            line(&format!("storm, {workers} actors, {way:?}"), &figure, ">= 20000 /s", rates[0] >= 20_000.0);
        }
    }
}

fn throughput<T: Tree>(plan: &Plan, actors: usize) -> Duration {
    run(casts::<T>(actors, plan.size(200_000)))
}

fn messages(plan: &Plan) {
    for actors in [1, 5, 20, 50] {
        let ours = || throughput::<Supervised>(plan, actors);
        let pairs = pairs(plan.size(9), ours, || throughput::<Bare>(plan, actors));
        ratio(&format!("casts, {actors} actors"), &pairs, plan.size(200_000));
    }
    let count = plan.size(20_000);
    let pairs = pairs(plan.size(9), || run(calls::<Supervised>(count)), || run(calls::<Bare>(count)));
    ratio("calls, one after the other", &pairs, count);
}

fn ratio(what: &str, pairs: &Pairs, parts: usize) {
    let (rate, ratio) = (rate(pairs.ours(parts)), 1.0 / pairs.ratio());
    line(what, &format!("{rate:.0} /s, ratio {ratio:.2}"), "ratio >= 0.8", ratio >= 0.8);
}

fn crowds(plan: &Plan) {
    let sizes = [10_000, 50_000, 100_000].map(|size| plan.size(size));
    let [supervised, bare] =
        [Who::Supervised, Who::Bare].map(|who| sizes.map(|size| census::take(who, size)));
    for (ours, (peers, size)) in supervised.iter().zip(bare.iter().zip(sizes)) {
        let each = |census: &Census| {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            format!("{:.2?} / {:.2?}", census.started_in / size, census.stopped_in / size)
        };
        note(&format!("{size} children, each (start/stop)"), &each(ours));
        note(&format!("{size} children, each, bare (start/stop)"), &each(peers));
        let orderly = ours.orderly_ends;
        let figure = format!("{orderly} of {size}");
        line(&format!("{size} children, stopped in order"), &figure, "all", orderly == size as u64);
    }
    let [few, _, many] = supervised.map(|census| census.started_in);
    let growth = many.as_secs_f64() / few.as_secs_f64() * sizes[0] as f64 / sizes[2] as f64;
    let figure = format!("{growth:.2} times as long each");
    line("100000 children started, over 10000", &figure, "<= 1.5: linear", growth <= 1.5);
    let [few, _, many] = supervised.map(|census| census.stopped_in);
    let growth = many.as_secs_f64() / few.as_secs_f64() * sizes[0] as f64 / sizes[2] as f64;
    let figure = format!("{growth:.2} times as long each");
    line("100000 children stopped, over 10000", &figure, "<= 1.5: linear", growth <= 1.5);
    let (ours, peers) = (supervised[2], bare[2]);
    let (own, ractors) = (ours.bytes_each(sizes[2]), peers.bytes_each(sizes[2]));
    let figure = format!("{:.0} B, ractor's {ractors:.0} B", own - ractors);
    line("memory of an actor beyond ractor's", &figure, "<= 2048 B", own - ractors <= 2_048.0);
    let base = ours.empty_kb.saturating_sub(peers.empty_kb);
    line("memory of a supervisor beyond ractor's", &format!("{base} kB"), "<= 2048 kB", base <= 2_048);
}

type Report = (&'static str, fn(&Plan));

const REPORTS: [Report; 5] = [
    ("decisions", decisions_tail),
    ("spawn", spawning),
    ("storm", storms),
    ("messages", messages),
    ("crowd", crowds),
];

criterion_group!(benches, backoff, decision, handling);

fn main() {
    if census::obey() {
        return;
    }
    // Do not print the peer's panics: printing takes longer than handling them. Errors of a measurement are reported by
    // this thread.
    std::panic::set_hook(Box::new(|info| {
        if std::thread::current().name() == Some("main") {
            eprintln!("{info}");
        }
    }));
    benches();
    Criterion::default().configure_from_args().final_summary();
    let plan = Plan::of_arguments();
    for (name, report) in REPORTS {
        if plan.wants(name) {
            report(&plan);
        }
    }
}
