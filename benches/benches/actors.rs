//! Measures the cost of the bounded mailbox compared with ractor's own mailbox, in one run.

use std::time::Duration;

use alys_benches::{Bare, Bounded, Echo};
use alys_cluster::id::ActorName;
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::spawn;
use criterion::{Criterion, criterion_group, criterion_main};
use ractor::Actor;
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(5);

fn calls(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("call");
    let bare = runtime.block_on(async { Actor::spawn(None, Bare, ()).await.expect("starts").0 });
    group.bench_function("bare ractor", |b| {
        b.iter(|| runtime.block_on(bare.call(|reply| Echo::Back(1, reply), Some(DEADLINE))));
    });
    let address = Address::new(ActorName::literal("echo"), 1_024);
    runtime.block_on(async { spawn(None, &address, Bounded, ()).await.expect("starts") });
    group.bench_function("bounded mailbox", |b| {
        b.iter(|| runtime.block_on(address.ask(DEADLINE, |reply| Echo::Back(1, reply))));
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
