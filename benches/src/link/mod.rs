//! Two processes on loopback that ask each other: over the link, with and without encryption, and over its peers.
//!
//! The bench starts itself once more for each peer ([`serve`]); whoever answers passes every question to an actor, but
//! for the raw peer, which is the limit and has none.

mod bare;
mod ours;
mod raw;

pub use bare::Bare;
pub use ours::Ours;
pub use raw::Raw;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Says that this process is to serve, and how.
const SERVE: &str = "ALYS_BENCH_SERVE";
/// The longest anything here is waited for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What is asked and answered: 193 bytes with a body of 128, as a vote with its signature and context has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    context: String,
    from: String,
    /// Which one.
    pub number: u64,
    body: Vec<u8>,
}

impl Payload {
    /// With a body of so many bytes.
    pub fn new(number: u64, bytes: usize) -> Self {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
        Self { context, from: "node-a".to_owned(), number, body: vec![7; bytes] }
    }
}

/// One way to ask another process.
pub trait Way: Clone + Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Asks and waits for the answer.
    fn call(&self, payload: Payload) -> impl Future<Output = Payload> + Send;
    /// Tells; false if there is no room for it at present.
    fn cast(&self, payload: Payload) -> bool;
    /// How many the other side was told since it started; asked after them, on the same way.
    fn told(&self) -> impl Future<Output = u64> + Send;
}

/// A process that serves one way, until this is dropped.
pub struct Server {
    child: Child,
    /// Where.
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program once more.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start(way: &str) -> Self {
        let program = std::env::current_exe().expect("this program is a file");
        let mut command = Command::new(program);
        let mut child = command.env(SERVE, way).stdout(Stdio::piped()).spawn().expect("it starts once more");
        let mut line = String::new();
        let output = child.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        Self { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves for ever, if this process is to serve.
///
/// # Panics
///
/// If it can not.
pub fn serve() {
    let Ok(way) = std::env::var(SERVE) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match way.as_str() {
        "raw" => runtime.block_on(raw::serve()),
        "bare" => runtime.block_on(bare::serve()),
        "plain" => runtime.block_on(ours::serve(false)),
        "tls" => runtime.block_on(ours::serve(true)),
        other => panic!("{SERVE} is {other:?}; expected raw, bare, plain or tls"),
    }
}

/// How long each of `count` calls took, one after the other.
pub async fn in_turn<W: Way>(way: &W, bytes: usize, count: usize) -> Vec<Duration> {
    let mut took = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let begun = Instant::now();
        let answer = way.call(Payload::new(number, bytes)).await;
        took.push(begun.elapsed());
        assert_eq!(answer.number, number);
    }
    took
}

/// How long `count` calls took, so many of them under way at a time.
pub async fn at_once<W: Way>(way: &W, bytes: usize, count: usize, under_way: usize) -> Duration {
    let begun = Instant::now();
    let each = count / under_way;
    let callers = (0..under_way).map(|_| {
        let way = way.clone();
        tokio::spawn(async move {
            for number in 0..each as u64 {
                assert_eq!(way.call(Payload::new(number, bytes)).await.number, number);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no call fails");
    }
    begun.elapsed()
}

/// How long it took until the other side had been told `count` times. Whoever finds no room waits for its turn.
pub async fn told<W: Way>(way: &W, bytes: usize, count: usize) -> Duration {
    let before = way.told().await;
    let begun = Instant::now();
    for number in 0..count as u64 {
        let payload = Payload::new(number, bytes);
        while !way.cast(payload.clone()) {
            tokio::task::yield_now().await;
        }
        if number % 256 == 255 {
            tokio::task::yield_now().await;
        }
    }
    while way.told().await < before + count as u64 {}
    begun.elapsed()
}

/// A name of a member of two.
fn node(name: &str) -> alys_cluster::id::NodeId {
    alys_cluster::id::NodeId::new(name).expect("a name")
}

/// What both ends share of a clock.
fn clock() -> Arc<dyn alys_cluster::clock::Clock> {
    Arc::new(alys_cluster::clock::SystemClock::default())
}
