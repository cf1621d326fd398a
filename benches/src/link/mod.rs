//! Two processes that call each other on loopback: over the link, with and without encryption, and over alternatives.
//!
//! The bench starts itself again for each transport ([`serve`]). The server forwards every request to an actor, except
//! with the raw socket, which is the upper bound and has none.

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

/// Environment variable with the transport that this process is to serve.
const SERVE: &str = "ALYS_BENCH_SERVE";
/// Timeout of every operation.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Request and reply: 193 bytes with a body of 128, like a vote with its signature and trace context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    context: String,
    from: String,
    /// Number of the request.
    pub number: u64,
    body: Vec<u8>,
}

impl Payload {
    /// Creates a payload with a body of `bytes` bytes.
    pub fn new(number: u64, bytes: usize) -> Self {
        let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
        Self { context, from: "node-a".to_owned(), number, body: vec![7; bytes] }
    }
}

/// Transport to another process.
pub trait Way: Clone + Send + Sync + 'static {
    /// Name of the transport.
    fn name(&self) -> &'static str;
    /// Sends a request and waits for the reply.
    fn call(&self, payload: Payload) -> impl Future<Output = Payload> + Send;
    /// Sends a message without reply; returns false if there is no room for it now.
    fn cast(&self, payload: Payload) -> bool;
    /// Number of messages that the other side has received since its start; the query is sent after them, over the same
    /// transport.
    fn told(&self) -> impl Future<Output = u64> + Send;
}

/// Process that serves one transport, until this is dropped.
pub struct Server {
    child: Child,
    /// Address that the process listens on.
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program as a server.
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

/// Serves forever, if this process was started as a server.
///
/// # Panics
///
/// If it cannot serve.
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

/// Durations of `count` calls, one after the other.
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

/// Duration of `count` calls, with `under_way` of them in flight at a time.
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

/// Time until the other side has received `count` messages. A message that finds no room is retried.
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

/// Name of one of the two members.
fn node(name: &str) -> alys_cluster::id::NodeId {
    alys_cluster::id::NodeId::new(name).expect("a name")
}

/// Clock of both ends.
fn clock() -> Arc<dyn alys_cluster::clock::Clock> {
    Arc::new(alys_cluster::clock::SystemClock::default())
}
