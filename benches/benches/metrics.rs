//! Measures `/metrics` of a member with ten thousand actors in its tree and its registry, over a persistent connection
//! as Prometheus uses it. Criterion measures the mean; the report below shows the tail latency.
//!
//! `cargo bench -p alys-benches --bench metrics`

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use alys_benches::report::{Plan, line, note, percentile};
use alys_benches::supervision::tree::{Ledger, Way, Worker};
use alys_cluster::id::ActorName;
use alys_cluster::supervision::{ChildSpec, EnhancedSupervision, SupervisedActorConfig, SupervisorSpec};
use alys_tests::federation::{Federation, Member};
use criterion::{Criterion, criterion_group};
use tokio::runtime::Runtime;

/// Number of actors in addition to the member's own.
const ACTORS: usize = 10_000;
/// Target for the latency of a response.
const TARGET: Duration = Duration::from_millis(5);

/// A member with many actors.
struct Crowded {
    runtime: Runtime,
    federation: Option<Federation>,
    crowd: EnhancedSupervision,
}

impl Crowded {
    fn start(actors: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (federation, crowd) = runtime.block_on(async {
            let mut federation = Federation::prepare("crowded", |_| {}).await;
            federation.start_member(0).await;
            let root = federation.members[0].node().supervision().clone();
            let spec = SupervisorSpec::dynamic(ActorName::literal("crowd"));
            let crowd = EnhancedSupervision::of(&spec, root.context().clone());
            root.start_child(ChildSpec::supervisor(spec, root.context())).await.expect("it starts");
            let ledger = Ledger::new();
            for number in 0..actors {
                let name = ActorName::new(&format!("worker/{number}")).expect("a name");
                let ledger = ledger.clone();
                let make = move || (Worker::failing(ledger.clone(), Way::Fail), ());
                crowd.spawn_supervised(SupervisedActorConfig::new(name), make).await.expect("it starts");
            }
            (federation, crowd)
        });
        Self { runtime, federation: Some(federation), crowd }
    }

    fn member(&self) -> &Member {
        &self.federation.as_ref().expect("it runs").members[0]
    }

    fn actors(&self) -> usize {
        self.crowd.context().registry.stats().actors
    }

    fn stop(mut self) {
        let federation = self.federation.take().expect("it runs");
        // The member is forced to stop if its actors exceed the shutdown's deadline; that is not measured here.
        self.runtime.block_on(async {
            for mut member in federation.members.into_iter().take(1) {
                let _ = Box::pin(member.take().stop()).await;
            }
        });
    }
}

/// Client with a persistent connection.
struct Scraper {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Scraper {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the port listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: vec![0; 1 << 20] }
    }

    /// Sends one request; returns the latency and the number of bytes received.
    fn scrape(&mut self) -> (Duration, usize) {
        let began = Instant::now();
        self.stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: member\r\n\r\n").expect("it is written");
        let (mut have, mut needed) = (0, usize::MAX);
        while have < needed {
            let read = self.stream.read(&mut self.buffer[have..]).expect("an answer");
            assert!(read > 0, "the member ended the connection");
            have += read;
            let text = &self.buffer[..have];
            if let Some(head) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head_text = String::from_utf8_lossy(&text[..head]).to_lowercase();
                assert!(head_text.starts_with("http/1.1 200"), "{head_text}");
                let length = head_text.lines().find_map(|line| line.strip_prefix("content-length: "));
                needed = head + 4 + length.and_then(|text| text.parse::<usize>().ok()).expect("a length");
            }
        }
        (began.elapsed(), needed)
    }
}

fn scraping(c: &mut Criterion) {
    let plan = Plan::of_arguments();
    let crowded = Crowded::start(plan.size(ACTORS));
    let mut scraper = Scraper::connect(crowded.member().config.ops.address);
    c.bench_function("/metrics over HTTP, ten thousand actors", |b| b.iter(|| scraper.scrape()));
    tail(&plan, &crowded, &mut scraper);
    crowded.stop();
    // The same without the additional actors: the cost of a member's own actors.
    let bare = Crowded::start(0);
    let mut scraper = Scraper::connect(bare.member().config.ops.address);
    tail(&plan, &bare, &mut scraper);
    bare.stop();
}

fn tail(plan: &Plan, crowded: &Crowded, scraper: &mut Scraper) {
    let mut bytes = 0;
    let mut times: Vec<_> = (0..plan.size(5_000))
        .map(|_| {
            let (took, length) = scraper.scrape();
            bytes = length;
            took
        })
        .collect();
    times.sort();
    let actors = crowded.actors();
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&times, share));
    let slowest = times[times.len() - 1];
    note(&format!("/metrics, {actors} actors, p50"), &format!("{p50:.2?}, {bytes} bytes"));
    line(&format!("/metrics, {actors} actors, p99"), &format!("{p99:.2?}"), "<= 5 ms", p99 <= TARGET);
    note(&format!("/metrics, {actors} actors, slowest of {}", times.len()), &format!("{slowest:.2?}"));
}

criterion_group!(benches, scraping);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
