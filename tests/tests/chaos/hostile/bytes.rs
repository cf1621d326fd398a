//! Tests unauthenticated connections: garbage, silence, and large numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::listeners;
use alys_tests::{eventually, seen};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, client_connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Calm, garbage, tells};

/// Maximum time that a connection without authentication may stay open.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connects, sends `bytes`, and waits for the other side to close. Returns the bytes received, or an error if it was
/// not closed in time.
async fn answer_to(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    // A rejected connection may be closed before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    match tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await {
        Ok(_) if begun.elapsed() <= PATIENCE => Ok(answer),
        Ok(_) => Err(format!("closed after {:?}; expected at most {PATIENCE:?}", begun.elapsed())),
        Err(_) => Err(format!("still open after {SOON:?} and {} bytes", answer.len())),
    }
}

/// The beginning of a TLS record of 512 bytes.
const PARTIAL_RECORD: [u8; 9] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_on_the_link_s_port_is_closed_and_disturbs_neither_links_nor_blocks() {
    let federation = Federation::start("garbage", |_| {}).await;
    let target = &federation.members[1];
    let address = target.config.link.listen;
    let calm = Calm::of(&federation, &[0, 1, 2, 3]).await;

    let http = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    let framed = |length: u64, body: &[u8]| [&length.to_be_bytes(), body].concat();
    let mut sent = vec![
        ("nothing", Vec::new()),
        ("one byte", vec![7]),
        ("a length of 2^62", framed(1 << 62, b"")),
        ("a length of 2^64 - 1", framed(u64::MAX, b"x")),
        ("a length of zero", framed(0, b"")),
        ("a length within the limit and a silence", framed(1 << 20, b"drip")),
        ("a frame that is no message", framed(64, &garbage(9, 64))),
        ("the beginning of a TLS record", PARTIAL_RECORD.to_vec()),
        ("another protocol", http),
    ];
    sent.extend((0..8).map(|seed| ("garbage", garbage(seed, 1 << (2 * seed)))));
    let mut attacks = JoinSet::new();
    for (what, bytes) in sent {
        attacks.spawn(async move {
            let answer = answer_to(address, &bytes).await;
            answer.map(drop).map_err(|error| format!("{what}: {error}"))
        });
    }
    for attack in attacks.join_all().await {
        assert_eq!(attack, Ok(()));
    }
    for _ in 0..50 {
        drop(TcpStream::connect(address).await.expect("the port listens"));
    }
    tells(target, "link_refused", &["the TLS handshake failed"]).await;
    calm.holds(&federation).await;
    federation.stop().await;
}

/// Two thousand connections, two hundred at a time, each open until it is closed by the member.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn half_open_connections_and_partial_records_are_closed_in_time_and_a_member_still_gets_in() {
    let mut federation = Federation::start("half-open", |_| {}).await;
    assert!(federation.members[3].take().stop().await, "it stops in time");
    let calm = Calm::of(&federation, &[0, 1, 2]).await;
    let address = federation.members[0].config.link.listen;
    let mut streams = JoinSet::new();
    for number in 0..2_000 {
        if streams.len() >= 200 {
            assert_eq!(streams.join_next().await.expect("some").expect("no panic"), Ok(()));
        }
        let bytes: &[u8] = if number % 2 == 0 { b"" } else { &PARTIAL_RECORD };
        streams.spawn(async move { answer_to(address, bytes).await.map(drop) });
    }
    for closed in streams.join_all().await {
        assert_eq!(closed, Ok(()));
    }
    // Those accepted last stay open until they time out.
    tells(&federation.members[0], "link_refused", &["did not authenticate in time"]).await;
    tells(&federation.members[0], "link_refused", &["too many connections"]).await;
    calm.holds(&federation).await;

    // A member that returns is linked as usual, while unauthenticated connections keep every slot taken.
    let knocking = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            held.push_back(TcpStream::connect(address).await);
            if held.len() > 128 {
                held.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    federation.start_member(3).await;
    federation.members[3].linked().await;
    federation.members[0].linked().await;
    knocking.abort();
    federation.members[0].gate_open(4).await;
    federation.stop().await;
}

/// Session events seen by the node server of an unauthenticated peer.
#[derive(Clone, Default)]
struct Visit {
    opened: Arc<AtomicUsize>,
    authenticated: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl NodeEventSubscription for Visit {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {
        self.authenticated.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node server of a non-member, with a connection to a member.
struct Stranger {
    server: ActorRef<NodeServerMessage>,
    ended: JoinHandle<()>,
    visit: Visit,
}

impl Stranger {
    async fn knock(name: &str, cookie: &str, target: &Member) -> Self {
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, cookie.to_owned(), name.to_owned(), name.to_owned(), None, mode)
            .with_listen_addr([127, 0, 0, 1].into());
        let (server, ended) = Actor::spawn(None, server, ()).await.expect("a node server starts");
        let visit = Visit::default();
        let subscription = Box::new(visit.clone());
        let subscribe = NodeServerMessage::SubscribeToEvents { id: "visit".to_owned(), subscription };
        server.cast(subscribe).expect("the server runs");
        client_connect(&server, target.config.link.listen).await.expect("the port listens");
        Self { server, ended, visit }
    }

    /// Waits until the member has closed the session.
    async fn shown_out(self, what: &str) {
        eventually(SOON, &format!("{what} is shown out"), async || {
            let count = |counter: &Arc<AtomicUsize>| counter.load(Ordering::SeqCst);
            let visit = [&self.visit.opened, &self.visit.authenticated, &self.visit.closed].map(count);
            seen(visit == [1, 0, 1], format!("{visit:?} sessions opened, authenticated and closed"))
        })
        .await;
        self.server.stop(None);
        self.ended.await.expect("the server ends");
    }
}

/// A plain `ractor_cluster` that knows the cookie, which is not secret, and a relay that returns a member's own bytes,
/// both receive no `ractor_cluster` bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bare_ractor_cluster_and_a_relay_of_challenges_reach_no_node_server() {
    let federation = Federation::start("stranger", |_| {}).await;
    let target = &federation.members[1];
    let calm = Calm::of(&federation, &[0, 1, 2, 3]).await;
    let cookie = hex::encode(federation.genesis.hash());
    let dialler = federation.members[3].name.to_string();
    for (what, name, cookie) in [
        ("no member", "zz-stranger", cookie.as_str()),
        ("one under the name of a linked member", &dialler, &cookie),
        ("a stranger without the cookie", "zz-thief", "guess"),
    ] {
        Stranger::knock(name, cookie, target).await.shown_out(what).await;
    }
    // The first message of a dialling `ractor_cluster`: its name, in a frame.
    let greeting =
        [&38u64.to_be_bytes()[..], &[0x0a, 36, 0x0a, 34, 0x0a, 15], b"node-4@node-4ab", &[0; 17]].concat();
    let said = answer_to(target.config.link.listen, &greeting).await.expect("it is closed");
    let is_alert = said.is_empty() || (said[0] == 0x15 && said.len() < 16);
    assert!(is_alert, "an alert of TLS and nothing else: {said:02x?}");

    // Two connections, each of which receives the bytes from the other.
    let connect = || TcpStream::connect(target.config.link.listen);
    let (mut one, mut other) = (connect().await.expect("it listens"), connect().await.expect("it listens"));
    let relayed = tokio::time::timeout(SOON, tokio::io::copy_bidirectional(&mut one, &mut other)).await;
    let relayed = relayed.expect("both are closed");
    assert!(matches!(relayed, Ok((0, 0)) | Err(_)), "nothing was said that could be relayed: {relayed:?}");
    calm.holds(&federation).await;
    federation.stop().await;
}

/// `ractor_cluster` opens its own listener on some loopback port; no session can be opened through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_listener_that_ractor_cluster_brings_speaks_with_nobody() {
    let federation = Federation::start("listener", |_| {}).await;
    let calm = Calm::of(&federation, &[0, 1, 2, 3]).await;
    let of = |member: &Member| [member.config.link.listen, member.config.ops.address];
    let known: Vec<_> = federation.members.iter().flat_map(of).collect();
    let others: Vec<_> =
        listeners(std::process::id()).into_iter().filter(|address| !known.contains(address)).collect();
    assert!(!others.is_empty(), "ractor_cluster listens");
    let cookie = hex::encode(federation.genesis.hash());
    let name = federation.members[3].name.to_string();
    for address in others {
        let mode = Some(NodeConnectionMode::Isolated);
        let server = NodeServer::new(0, cookie.clone(), name.clone(), name.clone(), None, mode)
            .with_listen_addr([127, 0, 0, 1].into());
        let (server, ended) = Actor::spawn(None, server, ()).await.expect("a node server starts");
        let visit = Visit::default();
        let (id, subscription) = ("visit".to_owned(), Box::new(visit.clone()));
        server.cast(NodeServerMessage::SubscribeToEvents { id, subscription }).expect("it runs");
        client_connect(&server, address).await.expect("the port listens");
        eventually(SOON, "the session is closed", async || {
            let closed = visit.closed.load(Ordering::SeqCst);
            seen(closed == 1, format!("{closed} sessions closed"))
        })
        .await;
        assert_eq!(visit.authenticated.load(Ordering::SeqCst), 0, "{address}");
        server.stop(None);
        ended.await.expect("it ends");
    }
    calm.holds(&federation).await;
    federation.stop().await;
}
