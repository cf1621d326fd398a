//! Measures the cost of decisions: suspicion, restart budget, gate, attestation, certificate.

use std::hint::black_box;
use std::time::Duration;

use alys_benches::{certificate, detector, gate_inputs, genesis, secret};
use alys_cluster::clock::{Moment, WallTime};
use alys_cluster::federation::attestation::Attestations;
use alys_cluster::federation::decide;
use alys_cluster::federation::gate::Gate;
use alys_cluster::health::HealthCheckResult;
use alys_cluster::id::Incarnation;
use alys_cluster::supervision::RestartIntensity;
use alys_cluster::supervision::intensity::RestartWindow;
use alys_node::attest::HealthSigner;
use criterion::{Criterion, criterion_group, criterion_main};

fn suspicion(c: &mut Criterion) {
    let detector = detector();
    let now = Moment::at(Duration::from_millis(25_500));
    c.bench_function("phi over a window of 100", |b| b.iter(|| detector.phi(black_box(now))));
    let mut detector = alys_benches::detector();
    let mut ms = 25_000;
    c.bench_function("heartbeat into a window of 100", |b| {
        b.iter(|| {
            ms += 250;
            detector.heartbeat(Moment::at(Duration::from_millis(black_box(ms))));
        });
    });
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

fn decisions(c: &mut Criterion) {
    let inputs = gate_inputs();
    c.bench_function("gate decision from its inputs", |b| b.iter(|| decide(black_box(&inputs))));
}

fn attestations(c: &mut Criterion) {
    let genesis = genesis();
    let (author, reader) = (HealthSigner::new(&genesis, secret(0)), HealthSigner::new(&genesis, secret(1)));
    let (name, other) = (&genesis.members()[0].name, &genesis.members()[1].name);
    let mut made = Attestations::new(name.clone(), Incarnation(1));
    let report = HealthCheckResult::healthy();
    let issue = |made: &mut Attestations| made.issue(Moment::ORIGIN, WallTime(0), &report, &[], &author);
    c.bench_function("attestation signed", |b| b.iter(|| issue(&mut made)));
    let signed = issue(&mut made);
    c.bench_function("attestation verified", |b| {
        b.iter(|| {
            Attestations::new(other.clone(), Incarnation(1)).take(black_box(&signed), None, &reader, || true)
        });
    });
}

fn certificates(c: &mut Criterion) {
    let genesis = genesis();
    let certificate = certificate(&genesis);
    c.bench_function("certificate of three verified", |b| b.iter(|| certificate.verify(&genesis)));
}

criterion_group!(benches, suspicion, restart_decision, gate, decisions, attestations, certificates);
criterion_main!(benches);
