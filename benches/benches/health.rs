//! Measures the cost of health checks and of a shutdown: one check, batches of a thousand and ten thousand, and the
//! shutdown of a thousand actors that depend on each other.
//!
//! `cargo bench -p alys-benches --bench health -- --quick`

use std::hint::black_box;
use std::time::Duration;

use alys_benches::health::Crowd;
use alys_benches::report::{line, note, percentile};
use alys_cluster::clock::Moment;
use alys_cluster::health::HealthStatus;
use alys_cluster::health::trend::Trend;
use alys_cluster::id::{ActorName, ActorPriority};
use alys_cluster::shutdown::plan::{StopTarget, stages};
use criterion::{Criterion, criterion_group};
use tokio::runtime::Runtime;

fn trend(c: &mut Criterion) {
    let mut trend = Trend::default();
    for n in 0..64_u64 {
        let at = Moment::at(Duration::from_millis(n * 500));
        trend.record(at, Some(Duration::from_micros(100 + n)), HealthStatus::Healthy);
    }
    let limits = (Duration::from_millis(50), Duration::from_millis(500));
    c.bench_function("adaptive threshold over 64 samples", |b| {
        b.iter(|| black_box(&trend).threshold(limits));
    });
    c.bench_function("slope and forecast over 64 samples", |b| {
        b.iter(|| black_box(&trend).summary(Duration::from_secs(1)));
    });
}

fn plan(c: &mut Criterion) {
    let name = |n: usize| ActorName::new(&format!("actor-{n}")).expect("a name");
    let leaver = |n: usize| StopTarget {
        name: name(n),
        priority: ActorPriority::Normal,
        depends_on: (n > 0).then(|| name(n / 2)).into_iter().collect(),
    };
    let actors: Vec<_> = (0..1_000).map(leaver).collect();
    c.bench_function("plan of a thousand actors", |b| b.iter(|| stages(black_box(&actors))));
}

fn checks(runtime: &Runtime, rounds: usize) {
    let batches = |size: usize, rounds: usize| {
        let (all, asked) = runtime.block_on(async {
            let crowd = Crowd::start(&format!("batch-{size}"), size).await;
            // The monitor's own first round, requested earlier, has finished when this one has.
            crowd.batch().await;
            let (mut all, mut asked) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                all.push(crowd.batch().await);
                asked.push(crowd.ask().await);
            }
            crowd.shut_down().await;
            (all, asked)
        });
        [all, asked].map(|mut all| {
            all.sort();
            [0.5, 0.99].map(|share| percentile(&all, share))
        })
    };
    // Cost of a single call, measured alternately with the checks: a check is two calls and a task.
    let [[middle, most], [asked, asked_most]] = batches(1, rounds * 100);
    note("one call of the same actor (p50/p99)", &format!("{asked:.2?} / {asked_most:.2?}"));
    let figure = format!("{middle:.2?} / {most:.2?}");
    line("one health check (p50/p99)", &figure, "p99 <= 50 us", most <= Duration::from_micros(50));
    let [[middle, most], _] = batches(1_000, rounds);
    let figure = format!("{middle:.2?} / {most:.2?}");
    line("batch of 1000 (p50/p99)", &figure, "p50 <= 5 ms", middle <= Duration::from_millis(5));
    let [[middle, most], _] = batches(10_000, rounds.div_ceil(10));
    let figure = format!("{middle:.2?} / {most:.2?}");
    line("batch of 10000 (p50/p99)", &figure, "p50 <= 50 ms", middle <= Duration::from_millis(50));
}

fn shutdowns(runtime: &Runtime, rounds: usize) {
    let one = |n: usize| {
        runtime.block_on(async { Crowd::start(&format!("end-{n}"), 1_000).await.shut_down().await })
    };
    let mut all: Vec<_> = (0..rounds).map(one).collect();
    all.sort();
    let [middle, worst] = [0.5, 1.0].map(|share| percentile(&all, share));
    let figure = format!("{middle:.2?} / {worst:.2?}");
    line("1000 actors stopped by plan (p50/max)", &figure, "<= 1 s", worst <= Duration::from_secs(1));
}

criterion_group!(benches, trend, plan);

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = Runtime::new().expect("a runtime");
    let rounds = if is_quick { 20 } else { 200 };
    checks(&runtime, rounds);
    shutdowns(&runtime, rounds / 10);
    benches();
    Criterion::default().configure_from_args().final_summary();
}
