//! Tests that a member's HTTP server withstands requests that are too long, too slow, too many, or malformed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use alys_node::ops::server::{CONNECTIONS_MAX, HEAD_MAX};
use alys_tests::federation::{Federation, SOON};
use alys_tests::raw::{Raw, ask, exchange, request, rest, send, send_narrowly};
use alys_tests::{eventually, seen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

async fn alone(tag: &str) -> Federation {
    let mut federation = Federation::prepare(tag, |_| {}).await;
    federation.start_member(0).await;
    federation
}

/// A description, the request, the expected status, and texts that the problem must contain.
type Bad = (&'static str, Vec<u8>, u16, &'static [&'static str]);

fn bad_requests() -> Vec<Bad> {
    let long = "x".repeat(20_000);
    vec![
        ("no path", request("GET", "/nothing", &[], ""), 404, &["there is nothing at /nothing"]),
        ("a path below one", request("GET", "/livez/x", &[], ""), 404, &["/livez/x"]),
        ("another method", request("DELETE", "/livez", &[], ""), 405, &["/livez", "DELETE", "GET,HEAD"]),
        ("another of two", request("PATCH", "/logs/level", &[], ""), 405, &["PATCH", "GET,HEAD", "PUT"]),
        ("asked for options", request("OPTIONS", "/shutdown", &[], ""), 405, &["OPTIONS", "POST"]),
        (
            "a page as an image",
            request("GET", "/", &[("accept", "image/*")], ""),
            406,
            &["accept", "image/*", "text/html"],
        ),
        ("no JSON", request("POST", "/transactions", &[JSON], "{"), 400, &["JSON"]),
        ("no content type", request("POST", "/transactions", &[], "{}"), 415, &["application/json"]),
        (
            "a large body",
            request("POST", "/transactions", &[JSON], &long),
            413,
            &["expected at most 9216 bytes"],
        ),
        (
            "a query that nobody knows",
            request("GET", "/chain/head?hight=3", &[], ""),
            400,
            &["`hight`", "\"3\"", "expected no parameters"],
        ),
        (
            "a query with another name",
            request("GET", "/consensus/signatures?from=3", &[], ""),
            400,
            &["`from`", "\"3\"", "expected `from_height`"],
        ),
        (
            "a query with a name twice",
            request("GET", "/consensus/signatures?from_height=3&from_height=4", &[], ""),
            400,
            &["`from_height`", "\"4\"", "once"],
        ),
        ("no token is set", request("POST", "/shutdown", &[JSON], "{}"), 403, &["`ops.token_file`"]),
        (
            "no token is set",
            request("PUT", "/logs/level", &[JSON], "{\"level\":\"info\"}"),
            403,
            &["`ops.token_file`"],
        ),
        (
            "a place that is none",
            request("GET", "/events", &[("accept", "text/event-stream"), ("last-event-id", "7")], ""),
            400,
            &["last-event-id", "\"7\"", "expected"],
        ),
    ]
}

/// Malformed requests; the path is unknown, and the connection is closed.
fn no_requests() -> Vec<Bad> {
    let header = |size: usize| format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(size)).into_bytes();
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100)).into_bytes();
    vec![
        (
            "bytes",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
            &["expected HTTP/1.1"],
        ),
        ("words", b"HELO member\r\n\r\n".to_vec(), 400, &["expected HTTP/1.1"]),
        ("another version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), 400, &["expected HTTP/1.1"]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400, &["expected HTTP/1.1"]),
        ("a large header", header(64 * 1024), 431, &["headers are too large"]),
        ("many headers", headers, 431, &["headers are too large or too many"]),
    ]
}

fn path_of(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request);
    let target = text.split(' ').nth(1).expect("a target");
    target.split('?').next().expect("a path").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_error_is_a_problem_that_says_what_was_wrong() {
    let federation = alone("http-errors").await;
    let address = federation.members[0].config.ops.address;
    let mut complaints = Vec::new();
    for (what, request, status, detail) in bad_requests() {
        let answer = exchange(address, &request).await;
        let wrong = answer.complaint(status, &path_of(&request), detail);
        complaints.extend(wrong.map(|wrong| format!("{what}: {wrong}")));
        if (status == 405) == answer.header("allow").is_empty() {
            complaints.push(format!("{what}: allow in {answer:?}"));
        }
    }
    for (what, bytes, status, detail) in no_requests() {
        let answer = exchange(address, &bytes).await;
        complaints.extend(answer.complaint(status, "", detail).map(|wrong| format!("{what}: {wrong}")));
    }
    // A body that is too large is rejected before it is received.
    let begun =
        b"POST /transactions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
        content-length: 1000000000\r\n\r\n{";
    let answer = exchange(address, begun).await;
    complaints.extend(answer.complaint(413, "/transactions", &["9216"]));
    let fine = ask(address, "GET", "/chain/head", &[], "").await;
    assert_eq!((fine.status, fine.header("cache-control")), (200, "no-store"));
    federation.stop().await;
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_browser_gets_a_page_and_a_program_the_same_as_json() {
    let federation = alone("http-index").await;
    let address = federation.members[0].config.ops.address;
    let page = ask(address, "GET", "/", &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.body.contains("<h1>http-index-node-1</h1>"), "{}", page.body);
    let json = ask(address, "GET", "/", &[("accept", "*/*")], "").await;
    assert_eq!((json.status, json.header("content-type")), (200, "application/json"));
    let index: alys_node::ops::view::IndexView = serde_json::from_str(&json.body).expect("an index");
    assert!(index.links.len() > 20 && index.links.iter().all(|link| !link.summary.is_empty()));
    for link in index.links.iter().filter(|link| link.method == "GET" && !link.path.contains('{')) {
        assert!(page.body.contains(&format!("<a href=\"{}\">", link.path)), "{} is a link", link.path);
        let head = ask(address, "HEAD", &link.path, &[], "").await;
        assert!(head.status != 404 && head.status != 405, "{} leads somewhere: {head:?}", link.path);
    }
    federation.stop().await;
}

/// Sends `said` and nothing more. Returns the response and the time until the connection was closed.
async fn ends(address: SocketAddr, said: &[u8]) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut stream = send(address, said).await;
    let bytes = rest(&mut stream).await;
    (bytes, began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_is_slow_is_not_waited_for() {
    let federation = alone("http-slow").await;
    let address = federation.members[0].config.ops.address;
    let body =
        b"POST /transactions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
        content-length: 30\r\n\r\n{\"payload\":";
    let used = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    // A client that sends a little repeatedly gets no more time than one that sends nothing.
    let trickle = async {
        let began = Instant::now();
        let mut stream = send(address, b"GET /livez HTTP/1.1\r\n").await;
        while began.elapsed() < 2 * HEAD_MAX && stream.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        began.elapsed()
    };
    let (silent, head, slow_body, idle, trickled) = tokio::join!(
        ends(address, b""),
        ends(address, b"GET /livez HTTP/1.1\r\nhost:"),
        ends(address, body),
        ends(address, used),
        trickle,
    );
    assert_eq!(String::from_utf8_lossy(&silent.0), "", "who says nothing is told nothing");
    let expected = ["did not arrive within 10 s"];
    assert_eq!(Raw::parse(&head.0).complaint(408, "", &expected), None);
    let expected = ["did not arrive within 5 s"];
    assert_eq!(Raw::parse(&slow_body.0).complaint(408, "/transactions", &expected), None);
    let answer = String::from_utf8_lossy(&idle.0);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    for (what, took) in [("silent", silent.1), ("head", head.1), ("idle", idle.1), ("trickle", trickled)] {
        assert!(took >= HEAD_MAX && took < 2 * HEAD_MAX, "{what}: {took:?}");
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_beyond_the_bound_are_told_so_and_those_that_end_make_room() {
    let federation = alone("http-many").await;
    let address = federation.members[0].config.ops.address;
    let mut open: Vec<TcpStream> = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        // They have begun a request; idle connections would be closed to make room.
        open.push(send(address, b"GET /livez HT").await);
    }
    let turned_away = eventually(SOON, "they are all there", async || {
        let answer = ask(address, "GET", "/livez", &[], "").await;
        if answer.status == 503 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(turned_away.complaint(503, "", &["256 connections already"]), None);
    drop(open);
    eventually(SOON, "there is room again", async || {
        let answer = ask(address, "GET", "/livez", &[], "").await;
        seen(answer.status == 200, format!("{answer:?}"))
    })
    .await;
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_wait_for_their_next_request_make_room_for_others() {
    let federation = alone("http-kept").await;
    let address = federation.members[0].config.ops.address;
    let mut kept = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = send(address, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    for _ in 0..3 {
        let answer = ask(address, "GET", "/livez", &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The newest connection was not disturbed.
    let mut newest = kept.pop().expect("one of them");
    newest
        .write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .expect("sent");
    let mut rest = Vec::new();
    newest.read_to_end(&mut rest).await.expect("the end");
    assert!(String::from_utf8_lossy(&rest).contains("HTTP/1.1 200"));
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_does_not_read_is_let_go() {
    let federation = alone("http-deaf").await;
    let address = federation.members[0].config.ops.address;
    let began = Instant::now();
    let mut stream = send_narrowly(address, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    // Its requests are answered until it does not read the responses any more; then the connection is closed.
    let asks = async {
        while stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_mins(1), asks).await.expect("the connection ends");
    println!("let go after {:?}", began.elapsed());
    assert_eq!(federation.members[0].client.status("/livez").await, Ok(200));
    federation.stop().await;
}
