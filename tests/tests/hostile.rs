//! Does a member survive what strangers send it, and say what was wrong with it?

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_node::ops::view::{EventView, FederationView, Problem, TransactionReceipt, TreeView};
use alys_tests::client::Answer;
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, client_connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Connects, sends, and waits for the other side to close; says how if it does not.
async fn is_closed_after(address: SocketAddr, bytes: &[u8]) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    // A refused connection may be closed before everything is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    match tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("still open after {SOON:?} and {} bytes", answer.len())),
    }
}

/// Bytes without meaning, the same in every run.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn sessions(member: &Member) -> Vec<(String, u64)> {
    let view: FederationView = eventually(SOON, "a status", async || {
        member.client.get::<FederationView>("/federation/status").await
    })
    .await;
    view.links.into_iter().map(|link| (link.peer, link.sessions)).collect()
}

/// Waits until an event of this kind holds all these parts.
async fn tells(member: &Member, kind: &str, parts: &[&str]) {
    eventually(SOON, &format!("{} tells {kind} of {parts:?}", member.name), async || {
        let events: Vec<EventView> = member.client.get("/events").await?;
        let of_kind: Vec<_> = events.into_iter().filter(|event| event.kind == kind).collect();
        let found = of_kind.iter().any(|event| parts.iter().all(|part| event.message.contains(part)));
        seen(found, format!("{:?}", of_kind.last().map(|event| &event.message)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_on_the_link_s_port_is_closed_and_disturbs_neither_links_nor_blocks() {
    let federation = Federation::start("garbage", |_| {}).await;
    let target = &federation.members[1];
    let address = target.config.link.listen;
    let before = sessions(target).await;
    let height = target.height();

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
        ("another protocol", http),
    ];
    sent.extend((0..8).map(|seed| ("garbage", garbage(seed, 1 << (2 * seed)))));
    let attacks = sent.into_iter().map(|(what, bytes)| async move {
        is_closed_after(address, &bytes).await.map_err(|error| format!("{what}: {error}"))
    });
    let attacks: Vec<_> = attacks.map(tokio::spawn).collect();
    for attack in attacks {
        assert_eq!(attack.await.expect("no panic"), Ok(()));
    }
    for _ in 0..50 {
        drop(TcpStream::connect(address).await.expect("the port listens"));
    }
    target.gate_open(4).await;
    target.reaches(height + 2).await;
    assert_eq!(sessions(target).await, before, "no link was lost");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_half_open_connections_are_closed_within_the_handshake_s_time_and_a_peer_still_gets_in() {
    let mut federation = Federation::start("half-open", |_| {}).await;
    let target = &federation.members[0];
    let address = target.config.link.listen;
    let height = target.height();
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(TcpStream::connect(address).await.expect("the port listens"));
    }
    for stream in &mut streams {
        let mut byte = [0; 64];
        let closed = async {
            // Whatever the member says first, it ends the connection.
            while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
        };
        tokio::time::timeout(SOON, closed).await.expect("the member closes the connection");
    }
    tells(target, "link_refused", &["did not authenticate in time"]).await;
    tells(target, "link_refused", &["too many connections"]).await;

    // A member that returns is linked as ever.
    assert!(federation.members[3].take().stop().await, "it stops in time");
    federation.start_member(3).await;
    let target = &federation.members[0];
    federation.members[3].linked().await;
    target.linked().await;
    target.gate_open(4).await;
    target.reaches(height + 2).await;
    federation.stop().await;
}

/// What a stranger's node server saw of its own session.
#[derive(Clone, Default)]
struct Visit {
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl NodeEventSubscription for Visit {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}
}

/// A node server that is no member, with a connection to one.
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
    async fn is_shown_out(&self, what: &str) {
        eventually(SOON, &format!("{what} is shown out"), async || {
            let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
            let visit = (count(&self.visit.opened), count(&self.visit.closed));
            seen(visit == (1, 1), format!("{visit:?} sessions opened and closed"))
        })
        .await;
    }

    async fn leave(self) {
        self.server.stop(None);
        self.ended.await.expect("the server ends");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stranger_with_or_without_the_cookie_is_shown_out_and_disturbs_no_link() {
    let mut federation = Federation::prepare("stranger", |_| {}).await;
    // The first member is away, so that its name is free.
    for index in 1..4 {
        federation.start_member(index).await;
    }
    let target = &federation.members[1];
    target.gate_open(3).await;
    let before = sessions(target).await;
    let away = federation.members[0].name.to_string();
    let cookie = hex::encode(federation.genesis.hash());
    for (what, name, cookie, is_told) in [
        ("no member", "zz-stranger", cookie.as_str(), true),
        ("a member that does not dial this one", away.as_str(), &cookie, true),
        ("a stranger without the cookie", "zz-thief", "guess", false),
    ] {
        let stranger = Stranger::knock(name, cookie, target).await;
        if is_told {
            tells(target, "link_refused", &[name, "not the member expected"]).await;
        }
        stranger.is_shown_out(what).await;
        stranger.leave().await;
    }
    target.gate_open(3).await;
    target.reaches(target.height() + 1).await;
    assert_eq!(sessions(target).await, before, "no link was lost");
    federation.stop().await;
}

/// The cookie is no authentication: whoever knows it can push a member off its link for a while. What this
/// member must not lose is the federation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stranger_under_the_name_of_a_linked_member_does_not_end_the_link_for_good() {
    let federation = Federation::start("impostor", |_| {}).await;
    let target = &federation.members[1];
    let dialler = federation.members[3].name.to_string();
    let cookie = hex::encode(federation.genesis.hash());
    for _ in 0..5 {
        let stranger = Stranger::knock(&dialler, &cookie, target).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        stranger.leave().await;
    }
    target.linked().await;
    for member in &federation.members {
        member.gate_open(4).await;
        member.reaches(target.height() + 2).await;
    }
    federation.stop().await;
}

/// What is sent, and what the answer must hold.
struct Bad<'a> {
    what: &'a str,
    method: &'a str,
    path: &'a str,
    content_type: &'a str,
    body: String,
    status: u16,
    detail: &'a [&'a str],
}

fn bad<'a>(what: &'a str, body: impl Into<String>, status: u16, detail: &'a [&'a str]) -> Bad<'a> {
    let (method, path, content_type) = ("POST", "/transactions", "application/json");
    Bad { what, method, path, content_type, body: body.into(), status, detail }
}

fn bad_get<'a>(path: &'a str, status: u16, detail: &'a [&'a str]) -> Bad<'a> {
    Bad { what: path, method: "GET", path, content_type: "", body: String::new(), status, detail }
}

/// What is wrong with an answer, if anything.
fn complaint(bad: &Bad<'_>, answer: &Answer) -> Option<String> {
    let problem: Result<Problem, _> = serde_json::from_str(&answer.body);
    let fault = match problem {
        _ if answer.status != bad.status => format!("status {}; expected {}", answer.status, bad.status),
        _ if answer.content_type != "application/problem+json" => {
            format!("content type {:?}", answer.content_type)
        }
        Err(error) => format!("no problem: {error}"),
        Ok(problem) if problem.status != bad.status => format!("status {} in the body", problem.status),
        Ok(problem) => {
            let missing: Vec<_> = bad.detail.iter().filter(|part| !problem.detail.contains(**part)).collect();
            if missing.is_empty() {
                return None;
            }
            format!("{missing:?} missing")
        }
    };
    Some(format!("{}: {fault} in {answer:?}", bad.what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_request_is_answered_with_the_field_the_value_and_what_was_expected() {
    let mut federation = Federation::prepare("http", |_| {}).await;
    // A member alone answers as well as four do.
    federation.start_member(0).await;
    let client = &federation.members[0].client;
    let payload = |text: &str| format!("{{\"payload\":\"{text}\"}}");
    let first = client.post("/transactions", &payload("d00d")).await.expect("an answer");
    assert_eq!((first.status, first.content_type.as_str()), (202, "application/json"));
    let receipt: TransactionReceipt = serde_json::from_str(&first.body).expect("a receipt");
    assert_eq!(receipt.pooled, 1);

    let requests = [
        bad("malformed JSON", "{\"payload\":", 400, &["JSON", "line 1"]),
        bad("an empty body", "", 400, &["JSON"]),
        Bad {
            content_type: "text/plain",
            ..bad("another content type", payload("00"), 415, &["application/json"])
        },
        bad("a body of 100,000 bytes", payload(&"00".repeat(50_000)), 413, &["9216"]),
        bad("no field", "{}", 422, &["payload", "missing"]),
        bad("an unknown field", "{\"payload\":\"00\",\"fee\":1}", 422, &["`fee`", "expected `payload`"]),
        bad("a field of another type", "{\"payload\":7}", 422, &["payload", "7", "a string"]),
        bad("an odd number of digits", payload("abc"), 422, &["`payload`", "Odd", "two for each byte"]),
        bad("a character that is no digit", payload("zz"), 422, &["`payload`", "'z'", "hexadecimal"]),
        bad("an empty payload", payload(""), 422, &["`payload`", "0 bytes", "expected 1 to 4096"]),
        bad(
            "a payload of 4,097 bytes",
            payload(&"ab".repeat(4_097)),
            422,
            &["`payload`", "4097", "1 to 4096"],
        ),
        bad("a payload twice", payload("d00d"), 409, &["`payload`", "known already"]),
        Bad {
            path: "/faults",
            ..bad(
                "a fault nobody knows",
                "{\"actor\":\"chain\",\"fault\":\"bribe\"}",
                422,
                &["fault", "bribe", "`panic`, `hang`, `kill`"],
            )
        },
        Bad {
            path: "/faults",
            ..bad(
                "a fault of nobody",
                "{\"actor\":\"king\",\"fault\":\"kill\"}",
                404,
                &["`actor`", "king", "chain, engine"],
            )
        },
        Bad { path: "/faults", method: "GET", ..bad("GET of faults", "", 405, &["GET", "POST"]) },
        bad_get("/nothing/here", 404, &["/nothing/here"]),
        Bad { method: "GET", ..bad("GET of a POST path", "", 405, &["GET", "POST"]) },
        Bad {
            method: "DELETE",
            path: "/chain/head",
            ..bad("DELETE of a GET path", "", 405, &["DELETE", "GET"])
        },
        Bad { method: "BREW", path: "/livez", ..bad("an unknown method", "", 405, &["BREW", "GET"]) },
        bad_get("/chain/blocks/abc", 400, &["height", "abc", "expected"]),
        bad_get("/chain/blocks/-1", 400, &["height", "-1", "expected"]),
        bad_get("/chain/blocks/18446744073709551616", 400, &["height", "18446744073709551616", "expected"]),
        bad_get("/chain/blocks/%ff", 400, &["height"]),
        bad_get("/chain/blocks/0", 404, &["height 0", "expected"]),
        bad_get("/chain/blocks/7", 404, &["height 7", "expected"]),
        bad_get("/consensus/signatures?from_height=abc", 400, &["from_height", "abc"]),
        bad_get("/consensus/signatures?since=1", 400, &["`since`", "`from_height`"]),
        bad_get("/supervision/tree?depth=1", 400, &["`depth`"]),
        bad_get("/supervision/stats?actor=chain", 400, &["`actor`"]),
        bad_get("/supervision/patterns?kind=repeat&kind=cascade", 400, &["`kind`"]),
        bad_get("/supervision/memory?limit=10", 400, &["`limit`"]),
    ];
    let mut complaints = Vec::new();
    for request in &requests {
        let answer =
            client.send(request.method, request.path, request.content_type, request.body.clone()).await;
        match answer {
            Ok(answer) => {
                complaints.extend(complaint(request, &answer));
                if request.status == 405 && answer.allow.is_empty() {
                    complaints.push(format!("{}: no `allow` header (RFC 9110 §15.5.6)", request.what));
                }
            }
            Err(error) => complaints.push(format!("{}: no answer: {error}", request.what)),
        }
    }
    // Whatever was sent, the member goes on.
    assert_eq!(client.status("/livez").await, Ok(200));
    let next = client.post("/transactions", &payload("beef")).await.expect("an answer");
    let receipt: TransactionReceipt = serde_json::from_str(&next.body).expect("a receipt");
    assert_eq!(receipt.pooled, 2, "of all requests only the good ones were pooled");
    federation.stop().await;
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn garbage_and_silence_on_the_ops_port_do_not_keep_others_from_being_answered() {
    let mut federation = Federation::prepare("ops-port", |_| {}).await;
    federation.start_member(0).await;
    let member = &federation.members[0];
    let mut silent = Vec::new();
    for seed in 0..100 {
        let mut stream = TcpStream::connect(member.config.ops.address).await.expect("the port listens");
        let bytes =
            if seed % 2 == 0 { garbage(seed, 4_096) } else { b"GET /livez HTTP/1.1\r\nhost".to_vec() };
        let _ = stream.write_all(&bytes).await;
        silent.push(stream);
    }
    for path in ["/livez", "/chain/head", "/federation/status", "/metrics", "/supervision/tree"] {
        assert_eq!(member.client.status(path).await, Ok(200), "{path}");
    }
    drop(silent);
    tokio::time::timeout(Duration::from_secs(30), federation.stop()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults_are_refused_by_a_member_that_takes_part_in_no_drill() {
    let mut federation = Federation::prepare("no-drill", |config| config.faults.enabled = false).await;
    federation.start_member(0).await;
    let client = &federation.members[0].client;
    let order = "{\"actor\":\"chain\",\"fault\":\"kill\"}";
    let answer = client.post("/faults", order).await.expect("an answer");
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("`faults.enabled` is false; expected true"), "{}", answer.body);
    let tree: TreeView = client.get("/supervision/tree").await.expect("a tree");
    assert!(tree.children.iter().flat_map(|tier| &tier.children).all(|actor| actor.restarts == 0));
    federation.stop().await;
}
