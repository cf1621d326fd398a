//! Tests that malformed requests are answered, and that garbage does not block the ops port.

use std::time::Duration;

use alys_node::ops::view::{Problem, TransactionReceipt, TreeView};
use alys_tests::client::HttpAnswer;
use alys_tests::federation::Federation;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::garbage;

/// A request, and what the response must contain.
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

/// What is wrong with a response, if anything.
fn complaint(bad: &Bad<'_>, answer: &HttpAnswer) -> Option<String> {
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
    // A single member is enough here.
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
    // The member still runs.
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
