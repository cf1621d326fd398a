//! Tests that authorized callers can change the log level of a running member, and that logs never contain a secret.

use std::fs;
use std::path::{Path, PathBuf};

use alys_node::keys::SecretKey;
use alys_node::ops::view::{EventView, LogLevelView};
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::Process;
use alys_tests::raw::{Raw, ask};
use alys_tests::{eventually, seen};
use serde_json::Value;

const TOKEN: &str = "a-token-that-nobody-may-read-0815";
/// The highest level for all crates.
const EVERYTHING: &str = "trace,ractor=trace,ractor_cluster=trace,arc_malachitebft_core_consensus=trace,\
    arc_malachitebft_core_driver=trace,informalsystems=trace";

async fn prepared(tag: &str, level: &str) -> (Federation, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    fs::write(&file, TOKEN).expect("a token file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let federation = Federation::prepare(tag, |config| {
        config.ops.token_file = Some(file.clone());
        level.clone_into(&mut config.log.level);
    })
    .await;
    (federation, directory)
}

async fn started(member: &Member) {
    eventually(SOON, &format!("{} answers", member.name), async || {
        seen(member.client.status("/livez").await == Ok(200), "no answer")
    })
    .await;
}

async fn put(member: &Member, body: &str) -> Raw {
    let bearer = format!("Bearer {TOKEN}");
    let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    ask(member.config.ops.address, "PUT", "/logs/level", &headers, body).await
}

/// Lines of a log as JSON.
fn lines(log: &str) -> Vec<Value> {
    // The last line may be incomplete.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn answers_told(process: &Process) -> usize {
    lines(&process.log()).iter().filter(|line| line["message"] == "answered").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_logged_is_changed_while_the_member_runs_for_good_or_for_a_time() {
    let (federation, _token) = prepared("level", "info").await;
    let process = Process::start(&federation, 0);
    let member = &federation.members[0];
    started(member).await;
    assert_eq!(answers_told(&process), 0, "not at `info`");
    let level: LogLevelView = member.client.get("/logs/level").await.expect("a level");
    assert_eq!((level.level.as_str(), level.reverts_to), ("info", None));

    for (body, status, detail) in [
        (r#"{"level":"verbose"}"#, 422, "field `level`: \"verbose\" is no directive"),
        (r#"{"level":"info,alys_node=loud"}"#, 422, "\"alys_node=loud\""),
        (r#"{"level":""}"#, 422, "expected 1 to 32"),
        (r#"{"level":"info","for":"soon"}"#, 422, "field `for` is \"soon\"; expected a time from 1s to 24h"),
        (r#"{"level":"info","for":"2days"}"#, 422, "field `for` is \"2days\""),
        (r#"{"levels":"info"}"#, 422, "`levels`"),
    ] {
        assert_eq!(put(member, body).await.complaint(status, "/logs/level", &[detail]), None, "{body}");
    }
    let json = [("content-type", "application/json")];
    let stranger = ask(member.config.ops.address, "PUT", "/logs/level", &json, r#"{"level":"off"}"#).await;
    assert_eq!(stranger.complaint(401, "/logs/level", &["authorization"]), None);

    let answer = put(member, r#"{"level":"info,alys_node=debug","for":"3s"}"#).await;
    let level: LogLevelView = serde_json::from_str(&answer.body).expect("a level");
    assert_eq!((level.level.as_str(), level.reverts_to.as_deref()), ("info,alys_node=debug", Some("info")));
    assert!(level.reverts_in_ms.is_some_and(|left| left <= 3_000), "{level:?}");
    eventually(SOON, "answers are told", async || {
        assert_eq!(member.client.status("/livez").await, Ok(200));
        seen(answers_told(&process) > 0, process.log())
    })
    .await;
    eventually(SOON, "it goes back by itself", async || {
        let level: LogLevelView = member.client.get("/logs/level").await?;
        seen(level.level == "info" && level.reverts_to.is_none(), format!("{level:?}"))
    })
    .await;
    let told = answers_told(&process);
    for _ in 0..10 {
        assert_eq!(member.client.status("/livez").await, Ok(200));
    }
    assert_eq!(answers_told(&process), told, "no more");
    let changes = eventually(SOON, "both changes are events", async || {
        let events: Vec<EventView> = member.client.get("/events").await?;
        let changes: Vec<_> = events.into_iter().filter(|event| event.kind == "log_level_changed").collect();
        if changes.len() == 2 { Ok(changes) } else { Err(format!("{changes:?}")) }
    })
    .await;
    assert_eq!(
        changes[0].message,
        "a caller changed the log level from \"info\" to \"info,alys_node=debug\" for 3 s"
    );
    assert!(changes[1].message.starts_with("the end of its time changed the log level"), "{changes:?}");
    drop(process);
    federation.stop().await;
}

/// Secrets that no log line may contain, each with a description.
fn secrets(chain_cookie: &str) -> Vec<(String, String)> {
    let mut secrets = vec![
        ("the token".to_owned(), TOKEN.to_owned()),
        ("a header with a token".to_owned(), "Bearer ".to_owned()),
        ("the header's name and value".to_owned(), "\"authorization\": \"".to_owned()),
        ("the secret of ractor_cluster's sessions".to_owned(), format!("cookie: \"{chain_cookie}")),
        ("a private key in PEM".to_owned(), "PRIVATE KEY".to_owned()),
    ];
    // The beginning of an Ed25519 key in PKCS #8, without and with a public key.
    for begins in [
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
        [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
    ] {
        secrets.extend(forms("a TLS key", &begins));
    }
    for number in 1..=4 {
        // The seed, and the scalar derived from it that the key file contains.
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key");
        SecretKey::from_seed(&[number; 32]).write(&file).expect("written");
        let text = fs::read_to_string(&file).expect("a key");
        let bytes = hex::decode(text.trim()).expect("hexadecimal digits");
        assert_eq!(bytes.len(), 32);
        secrets.extend(forms(&format!("key {number}"), &bytes));
        secrets.extend(forms(&format!("seed {number}"), &[number; 32]));
    }
    secrets
}

/// Text forms in which bytes may be written.
fn forms(what: &str, bytes: &[u8]) -> Vec<(String, String)> {
    let decimal: Vec<_> = bytes.iter().map(ToString::to_string).collect();
    let debug: Vec<_> = bytes.iter().map(|byte| format!("{byte:x?}")).collect();
    let reversed: Vec<_> = bytes.iter().rev().copied().collect();
    let named = |text: String| (what.to_owned(), text);
    vec![
        named(hex::encode(bytes)),
        named(hex::encode(reversed)),
        named(hex::encode_upper(bytes)),
        named(decimal.join(", ")),
        named(decimal.join(",")),
        named(debug.join(", ")),
    ]
}

/// Text files of members, and all their terminal output.
fn written(homes: &[PathBuf]) -> Vec<(PathBuf, String)> {
    fn below(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { below(&path, files) } else { files.push(path) }
        }
    }
    let mut files = Vec::new();
    for home in homes {
        below(home, &mut files);
    }
    // The key file itself may contain the key.
    files.retain(|file| file.file_name().is_some_and(|name| name != "member.key"));
    files
        .into_iter()
        .map(|file| (file.clone(), String::from_utf8_lossy(&fs::read(&file).expect("read")).into()))
        .collect()
}

/// Files that contain a text.
fn found(written: &[(PathBuf, String)], text: &str) -> Vec<PathBuf> {
    written.iter().filter(|(_, content)| content.contains(text)).map(|(file, _)| file.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_secret_is_in_any_log_at_any_level() {
    let (federation, _token) = prepared("secrets", EVERYTHING).await;
    let processes: Vec<_> = (0..4).map(|index| Process::start(&federation, index)).collect();
    for member in &federation.members {
        member.linked().await;
        member.gate_open(4).await;
        member.reaches(2).await;
    }
    let bearer = format!("Bearer {TOKEN}");
    let known = [("content-type", "application/json"), ("authorization", bearer.as_str())];
    let unknown = [("content-type", "application/json"), ("authorization", "Bearer another-token-for-tests")];
    let planted = "planted-where-everybody-may-read-it";
    for (number, member) in federation.members.iter().enumerate() {
        let address = member.config.ops.address;
        let transaction = format!(r#"{{"payload":"c0ffee0{number}"}}"#);
        let level = format!(r#"{{"level":"{EVERYTHING}"}}"#);
        for (method, path, headers, body, expected) in [
            ("GET", "/federation/status", &known, String::new(), 200),
            ("PUT", "/logs/level", &known, level.clone(), 200),
            ("PUT", "/logs/level", &unknown, level, 401),
            ("PUT", "/logs/level", &known, format!(r#"{{"level":"{planted}"}}"#), 422),
            ("POST", "/transactions", &known, transaction, 202),
            ("POST", "/faults", &known, r#"{"actor":"sync","fault":"panic"}"#.to_owned(), 202),
            ("POST", "/faults", &known, r#"{"actor":"network","fault":"kill"}"#.to_owned(), 202),
            ("POST", "/shutdown", &unknown, "{}".to_owned(), 401),
            ("GET", &format!("/{planted}"), &known, String::new(), 404),
        ] {
            let answer = ask(address, method, path, headers, &body).await;
            assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        }
        // Malformed requests are not logged either.
        let garbage = format!("NONSENSE {bearer}\r\nauthorization: {bearer}\r\n\r\n");
        let _ = alys_tests::raw::exchange(address, garbage.as_bytes()).await;
    }
    for member in &federation.members {
        member.linked().await;
        member.reaches(4).await;
    }
    for member in &federation.members {
        let body = format!(r#"{{"force":true,"wait":true,"reason":"{planted}"}}"#);
        let answer = ask(member.config.ops.address, "POST", "/shutdown", &known, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let homes: Vec<_> = processes.iter().map(|process| process.home().to_owned()).collect();
    let mut seen_lines = 0;
    for process in &processes {
        let lines = lines(&process.log());
        seen_lines += lines.len();
        let named = lines.iter().filter(|line| line["node"].is_string() && line["level"].is_string()).count();
        assert_eq!(named, lines.len(), "every line names its member");
        let heights =
            lines.iter().filter(|line| line["height"].as_u64().is_some_and(|height| height >= 2)).count();
        assert!(heights > 0, "lines name the height");
        for target in ["alys_node::ops", "ractor", "arc_malachitebft"] {
            let names = |line: &Value| line["target"].as_str().is_some_and(|name| name.starts_with(target));
            assert!(lines.iter().any(names), "{target} speaks at `trace`");
        }
    }
    println!("{seen_lines} lines");
    let written = written(&homes);
    // A marker that is known to be logged is found in every log.
    let planted = found(&written, planted);
    for home in &homes {
        assert!(planted.contains(&home.join("node.log")), "{planted:?}");
    }
    let cookie = hex::encode(federation.genesis.hash());
    let mut complaints = Vec::new();
    for (what, secret) in secrets(&cookie) {
        let places = found(&written, &secret);
        complaints.extend((!places.is_empty()).then(|| format!("{what} ({secret:?}) is in {places:?}")));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    drop(processes);
    drop(federation);
}
