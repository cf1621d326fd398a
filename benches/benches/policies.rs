//! What a decision costs: suspicion, restart budget, gate, certificate, envelope.

use std::hint::black_box;
use std::time::Duration;

use alys_benches::{certificate, detector, genesis};
use alys_cluster::clock::Moment;
use alys_cluster::federation::gate::Gate;
use alys_cluster::supervision::RestartIntensity;
use alys_cluster::supervision::intensity::RestartWindow;
use criterion::{Criterion, criterion_group, criterion_main};

fn suspicion(c: &mut Criterion) {
    let detector = detector();
    let now = Moment::at(Duration::from_millis(25_500));
    c.bench_function("phi over a window of 100", |b| b.iter(|| detector.phi(black_box(now))));
}

fn restart_decision(c: &mut Criterion) {
    let mut window = RestartWindow::new(RestartIntensity::default());
    let mut ms = 0;
    c.bench_function("restart budget", |b| {
        b.iter(|| {
            ms += 4_000;
            let now = Moment::at(Duration::from_millis(black_box(ms)));
            window.spend(now);
            window.budget(now).allows(1)
        });
    });
}

fn gate(c: &mut Criterion) {
    let mut gate = Gate::new(3, 2);
    c.bench_function("gate round", |b| b.iter(|| gate.round(black_box(4))));
}

fn certificates(c: &mut Criterion) {
    let genesis = genesis();
    let certificate = certificate(&genesis);
    c.bench_function("certificate of three verified", |b| b.iter(|| certificate.verify(&genesis)));
}

criterion_group!(benches, suspicion, restart_decision, gate, certificates);
criterion_main!(benches);
