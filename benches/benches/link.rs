//! Measures the throughput and latency of the link between two processes, compared with a raw socket (the upper bound)
//! and bare `ractor_cluster`.
//!
//! `cargo bench -p alys-benches --bench link -- --quick`. Every figure is the median of rounds that alternate between
//! ours and the raw peer; the ratio is the median of the rounds' ratios.

use std::time::Duration;

use alys_benches::link::{Bare, Ours, Raw, Server, Way, at_once, in_turn, serve, told};
use alys_benches::report::{Pairs, Plan, line, note, percentile, rate};
use tokio::runtime::Runtime;

/// Body sizes whose payloads have 193 bytes and about 4 kB.
const SIZES: [(usize, &str); 2] = [(128, "193 B"), (4_031, "4 kB")];

struct Size {
    rounds: usize,
    calls: usize,
    many: usize,
}

/// Measures sequential calls: the pairs of medians, and all durations for the 99th percentile.
fn turns(runtime: &Runtime, raw: &Raw, way: &impl Way, bytes: usize, plan: &Size) -> (Pairs, Vec<Duration>) {
    let (mut pairs, mut all) = (Pairs::default(), Vec::new());
    for _ in 0..plan.rounds {
        let mut ours = runtime.block_on(in_turn(way, bytes, plan.calls));
        let mut raws = runtime.block_on(in_turn(raw, bytes, plan.calls));
        ours.sort();
        raws.sort();
        pairs.add(percentile(&ours, 0.5), percentile(&raws, 0.5));
        all.extend(ours);
    }
    all.sort();
    (pairs, all)
}

fn measure(runtime: &Runtime, raw: &Raw, way: &impl Way, plan: &Size, has_target: bool) {
    for (bytes, size) in SIZES {
        let (pairs, all) = turns(runtime, raw, way, bytes, plan);
        let figure =
            format!("{:.0?} / {:.0?}, {:.2} x", percentile(&all, 0.5), percentile(&all, 0.99), pairs.ratio());
        let what = format!("{}: call of {size} (p50/p99)", way.name());
        if has_target {
            line(&what, &figure, "p50 <= 1.5 x raw", pairs.ratio() <= 1.5);
        } else {
            note(&what, &figure);
        }
        for under_way in [64, 256] {
            let mut pairs = Pairs::default();
            for _ in 0..plan.rounds {
                let ours = runtime.block_on(at_once(way, bytes, plan.many, under_way));
                let raws = runtime.block_on(at_once(raw, bytes, plan.many, under_way));
                pairs.add(ours, raws);
            }
            show(&format!("{}: {under_way} under way, {size}", way.name()), &pairs, plan.many, has_target);
        }
        let mut pairs = Pairs::default();
        for _ in 0..plan.rounds {
            let ours = runtime.block_on(told(way, bytes, plan.many * 2));
            pairs.add(ours, runtime.block_on(told(raw, bytes, plan.many * 2)));
        }
        show(&format!("{}: casts of {size}", way.name()), &pairs, plan.many * 2, has_target);
    }
}

fn show(what: &str, pairs: &Pairs, count: usize, has_target: bool) {
    let share = 1.0 / pairs.ratio();
    let figure = format!("{:.0} k/s, {share:.2} x", rate(pairs.ours(count)) / 1_000.0);
    if has_target {
        line(what, &figure, ">= 0.8 x raw", share >= 0.8);
    } else {
        note(what, &figure);
    }
}

fn main() {
    serve();
    let plan = Plan::of_arguments();
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if plan.is_test || is_quick { 3 } else { 15 };
    let plan_of = Size { rounds, calls: plan.size(2_000), many: plan.size(40_960).max(256) };
    let runtime = Runtime::new().expect("a runtime");
    let limit = Server::start("raw");
    let raw = runtime.block_on(Raw::connect(limit.address));
    if plan.wants("raw") {
        measure(&runtime, &raw, &raw, &plan_of, false);
    }
    for (name, is_secure) in [("plain", false), ("tls", true)] {
        if plan.wants(name) {
            let server = Server::start(name);
            let ours = runtime.block_on(Ours::connect(server.address, is_secure));
            measure(&runtime, &raw, &ours, &plan_of, true);
        }
    }
    if plan.wants("bare") {
        let server = Server::start("bare");
        let bare = runtime.block_on(Bare::connect(server.address));
        measure(&runtime, &raw, &bare, &plan_of, false);
    }
}
