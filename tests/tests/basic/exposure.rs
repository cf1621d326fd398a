//! Tests who may change a member whose ops API is reachable from other machines.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use alys_node::config::NodeConfig;
use alys_tests::federation::Federation;
use alys_tests::raw::{ask, exchange};
use serde_json::Value;

const TOKEN: &str = "a-token-for-tests-only";
/// Every request that changes something, except the one that stops the member.
const CHANGES: [(&str, &str); 2] =
    [("/transactions", r#"{"payload":"c0ffee"}"#), ("/faults", r#"{"actor":"sync","fault":"panic"}"#)];

/// Status code of a request with this token.
async fn post(address: SocketAddr, path: &'static str, body: &'static str, token: Option<&str>) -> u16 {
    let header = token.map(|token| format!("Bearer {token}"));
    let asked = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut post = ureq::Agent::from(config)
            .post(format!("http://{address}{path}"))
            .header("content-type", "application/json");
        if let Some(header) = header {
            post = post.header("authorization", header);
        }
        post.send(body).expect("an answer").status().as_u16()
    });
    asked.await.expect("a request does not panic")
}

/// A single running member with a modified configuration.
async fn alone(tag: &str, tune: impl Fn(&mut NodeConfig)) -> Federation {
    let mut federation = Federation::prepare(tag, tune).await;
    federation.start_member(0).await;
    federation
}

/// Writes the token to a file.
fn token_file(directory: &tempfile::TempDir) -> PathBuf {
    let file = directory.path().join("token");
    std::fs::write(&file, TOKEN).expect("a token file");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("its mode");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_with_a_token_is_read_by_everybody_and_changed_by_those_who_know_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = token_file(&directory);
    let on_loopback = alone("tokened", |config| config.ops.token_file = Some(file.clone())).await;
    let address = on_loopback.members[0].config.ops.address;
    for (path, body) in CHANGES {
        assert_eq!(post(address, path, body, None).await, 401, "{path} on loopback");
        assert_eq!(post(address, path, body, Some(TOKEN)).await, 202, "{path} with the token");
    }
    on_loopback.stop().await;
    let federation = alone("exposed", |config| {
        config.ops.expose = true;
        config.ops.token_file = Some(file.clone());
    })
    .await;
    let address = federation.members[0].config.ops.address;
    for (path, body) in CHANGES {
        assert_eq!(post(address, path, body, None).await, 401, "{path} without a token");
        assert_eq!(post(address, path, body, Some("another-token-for-tests")).await, 401, "{path}");
        assert_eq!(post(address, path, body, Some(TOKEN)).await, 202, "{path} with the token");
    }
    let client = &federation.members[0].client;
    for path in ["/metrics", "/federation/gate", "/events"] {
        assert_eq!(client.status(path).await, Ok(200), "{path}");
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_exposed_member_without_a_token_is_changed_by_nobody_and_one_on_loopback_by_this_machines_users() {
    let federation = alone("untokened", |config| config.ops.expose = true).await;
    for (path, body) in CHANGES {
        let address = federation.members[0].config.ops.address;
        assert_eq!(post(address, path, body, Some(TOKEN)).await, 403, "{path}");
    }
    federation.stop().await;
    let federation = alone("loopback", |_| {}).await;
    for (path, body) in CHANGES {
        let address = federation.members[0].config.ops.address;
        assert_eq!(post(address, path, body, None).await, 202, "{path}");
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_all_that_the_document_of_an_exposed_member_lists_strangers_may_read_everything_and_change_nothing()
 {
    let directory = tempfile::tempdir().expect("a directory");
    let file = token_file(&directory);
    let federation = alone("strangers", |config| {
        config.ops.expose = true;
        config.ops.token_file = Some(file.clone());
    })
    .await;
    let member = &federation.members[0];
    let document: Value = member.client.get("/openapi.json").await.expect("a document");
    let (mut read, mut changing) = (0, 0);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let path = path.replace("{height}", "1");
            let headers = [("content-type", "application/json")];
            let answer = ask(member.config.ops.address, &method.to_uppercase(), &path, &headers, "").await;
            if method == "get" {
                read += 1;
                assert!(![401, 403].contains(&answer.status), "{method} {path}: {answer:?}");
            } else {
                changing += 1;
                assert_eq!(answer.complaint(401, &path, &["`Bearer <token>`"]), None, "{method} {path}");
                assert!(operation["security"].to_string().contains("token"), "{method} {path} says so");
            }
        }
    }
    assert!(read > 20 && changing >= 4, "{read} and {changing}");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_whose_name_was_made_to_lead_to_loopback_reads_and_changes_nothing() {
    let federation = alone("rebound", |_| {}).await;
    let address = federation.members[0].config.ops.address;
    let of_page = |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: page.example:{}\r\norigin: http://page.example\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            address.port(),
            body.len()
        )
    };
    let reads = [("GET", "/federation/gate", ""), ("GET", "/events", ""), ("GET", "/nothing", "")];
    let changes = CHANGES.map(|(path, body)| ("POST", path, body));
    for (method, path, body) in reads.into_iter().chain(changes) {
        let answer = exchange(address, of_page(method, path, body).as_bytes()).await;
        let complaint = answer.complaint(421, path, &["`host`", "page.example", "`localhost`"]);
        assert_eq!(complaint, None, "{method} {path}");
    }
    for host in [format!("localhost:{}", address.port()), address.to_string()] {
        let text = of_page("GET", "/federation/gate", "")
            .replace(&format!("page.example:{}", address.port()), &host);
        assert_eq!(exchange(address, text.as_bytes()).await.status, 200, "{host}");
    }
    federation.stop().await;
    // An exposed member accepts any host name, because it does not know its own names.
    let federation = alone("named", |config| config.ops.expose = true).await;
    let address = federation.members[0].config.ops.address;
    assert_eq!(exchange(address, of_page("GET", "/livez", "").as_bytes()).await.status, 200);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_tokens_none_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = token_file(&directory);
    let federation = alone("two-tokens", |config| config.ops.token_file = Some(file.clone())).await;
    let address = federation.members[0].config.ops.address;
    let (path, body) = CHANGES[0];
    let json = ("content-type", "application/json");
    let right = format!("Bearer {TOKEN}");
    let [right, wrong] =
        [right.as_str(), "Bearer another-token-for-tests"].map(|value| ("authorization", value));
    for headers in [[json, right, wrong], [json, wrong, right], [json, right, right]] {
        assert_eq!(ask(address, "POST", path, &headers, body).await.status, 401, "{headers:?}");
    }
    assert_eq!(ask(address, "POST", path, &[json, right], body).await.status, 202);
    federation.stop().await;
}
