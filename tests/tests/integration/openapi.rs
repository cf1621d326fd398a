//! Tests that `/openapi.json` matches a running member: every operation, every status, every body.

use std::collections::BTreeSet;
use std::path::Path;

use alys_node::ops::view::ShutdownView;
use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::process::Process;
use alys_tests::raw::{Raw, ask};
use alys_tests::schema::Schemas;
use alys_tests::{eventually, seen};
use serde_json::Value;

const TOKEN: &str = "a-token-for-tests-only";
const PROBLEM: &str = "application/problem+json";
const METHODS: [&str; 3] = ["get", "post", "put"];

/// A request that produces one of the responses of an operation.
struct Call {
    method: &'static str,
    /// Path as in the document.
    template: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    expected: u16,
}

const fn get(template: &'static str, path: &'static str, expected: u16) -> Call {
    Call { method: "get", template, path, headers: &[], body: "", expected }
}

const fn send(method: &'static str, path: &'static str, body: &'static str, expected: u16) -> Call {
    Call { method, template: path, path, headers: &[], body, expected }
}

const fn accepting(
    path: &'static str,
    accept: &'static [(&'static str, &'static str)],
    expected: u16,
) -> Call {
    Call { headers: accept, ..get(path, path, expected) }
}

/// At least one call per operation; calls that change something carry the token. The last one stops the member.
const CALLS: &[Call] = &[
    get("/", "/", 200),
    accepting("/", &[("accept", "text/html")], 200),
    accepting("/", &[("accept", "image/png")], 406),
    get("/openapi.json", "/openapi.json", 200),
    get("/livez", "/livez", 200),
    get("/readyz", "/readyz", 200),
    get("/federation/status", "/federation/status", 200),
    get("/federation/gate", "/federation/gate", 200),
    get("/federation/links", "/federation/links", 200),
    get("/federation/decisions", "/federation/decisions", 200),
    get("/health/status", "/health/status", 200),
    get("/health/trends", "/health/trends", 200),
    send("post", "/faults", r#"{"actor":"sync","fault":"panic"}"#, 202),
    send("post", "/faults", r#"{"actor":"nobody","fault":"panic"}"#, 404),
    send("post", "/faults", r#"{"actor":"sync","fault":"tickle"}"#, 422),
    send("post", "/faults/consensus", r#"{"misbehaviour":"withholder"}"#, 202),
    send("post", "/faults/consensus", r#"{"misbehaviour":null}"#, 202),
    send("post", "/faults/consensus", r#"{"misbehaviour":"charmer"}"#, 422),
    send("post", "/faults/disk", r#"{"sync_delay_ms":0}"#, 202),
    send("post", "/faults/clock", r#"{"ahead_ms":0}"#, 202),
    get("/supervision/tree", "/supervision/tree", 200),
    get("/supervision/stats", "/supervision/stats", 200),
    get("/supervision/patterns", "/supervision/patterns", 200),
    get("/supervision/memory", "/supervision/memory", 200),
    get("/registry/actors", "/registry/actors", 200),
    get("/registry/actors", "/registry/actors?query=tag%3Dnetwork&order=name&limit=2&explain=true", 200),
    get("/registry/actors", "/registry/actors?scope=federation", 200),
    get("/registry/actors", "/registry/actors?limit=many", 400),
    get("/registry/stats", "/registry/stats", 200),
    get("/chain/head", "/chain/head", 200),
    get("/chain/blocks/{height}", "/chain/blocks/1", 200),
    get("/chain/blocks/{height}", "/chain/blocks/1000000", 404),
    get("/chain/blocks/{height}", "/chain/blocks/one", 400),
    get("/consensus/signatures", "/consensus/signatures?from_height=1", 200),
    get("/consensus/received", "/consensus/received?from_height=1", 200),
    get("/consensus/evidence", "/consensus/evidence", 200),
    get("/genesis", "/genesis", 200),
    send("post", "/transactions", r#"{"payload":"c0ffee"}"#, 202),
    send("post", "/transactions", r#"{"payload":"c0ffee"}"#, 409),
    send("post", "/transactions", r#"{"payload":"zz"}"#, 422),
    get("/events", "/events", 200),
    get("/events", "/events?kind=restart_decided,child_ended&actor=sync&since=10m", 200),
    get("/events", "/events?kind=nonsense", 400),
    accepting("/events", &[("accept", "text/event-stream"), ("last-event-id", "x")], 400),
    get("/metrics", "/metrics", 200),
    get("/logs/level", "/logs/level", 200),
    send("put", "/logs/level", r#"{"level":"info","for":"10m"}"#, 200),
    send("put", "/logs/level", r#"{"level":"loud"}"#, 422),
    get("/shutdown", "/shutdown", 200),
    send("post", "/shutdown", r#"{"reason":"\u0007"}"#, 422),
    send("post", "/shutdown", r#"{"force":true,"wait":true}"#, 200),
];

/// Every operation of the document, as (method, path, operation).
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations by method") {
            assert!(METHODS.contains(&method.as_str()), "{path}: {method} is a method that is known here");
            operations.push((method.as_str(), path.as_str(), operation));
        }
    }
    operations
}

/// Violations of OpenAPI 3.1 in the document.
fn faults_of(document: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: String| wrong.extend((!holds).then_some(what));
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    must(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")),
        "the version".to_owned(),
    );
    must(
        text(&document["info"]["title"]) && text(&document["info"]["version"]),
        "title and version".to_owned(),
    );
    let schemes = &document["components"]["securitySchemes"];
    let tags: Vec<_> = document["tags"].as_array().into_iter().flatten().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(document) {
        let at = format!("{method} {path}");
        must(path.starts_with('/'), format!("{at}: a path"));
        must(text(&operation["summary"]), format!("{at}: a summary"));
        must(ids.insert(operation["operationId"].as_str().unwrap_or("")), format!("{at}: an id of its own"));
        for tag in operation["tags"].as_array().into_iter().flatten() {
            must(tags.contains(&tag), format!("{at}: tag {tag} is declared"));
        }
        let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        for name in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            let is_declared = parameters.iter().any(|parameter| {
                parameter["in"] == "path" && parameter["name"] == name && parameter["required"] == true
            });
            must(is_declared, format!("{at}: parameter {name} is declared and required"));
        }
        for parameter in parameters {
            must(
                ["path", "query", "header"].iter().any(|place| parameter["in"] == *place),
                format!("{at}: {parameter}"),
            );
            must(
                text(&parameter["description"]) && parameter["schema"].is_object(),
                format!("{at}: {parameter}"),
            );
        }
        let bodies = [&operation["requestBody"]].into_iter().filter(|body| !body.is_null());
        let responses = operation["responses"].as_object().into_iter().flatten();
        must(
            operation["responses"].as_object().is_some_and(|all| !all.is_empty()),
            format!("{at}: responses"),
        );
        for (status, response) in responses.clone() {
            must(
                status.parse().is_ok_and(|status: u16| (100..600).contains(&status)),
                format!("{at}: status {status}"),
            );
            must(text(&response["description"]), format!("{at}: {status} is described"));
        }
        for body in bodies.chain(responses.map(|(_, response)| response)) {
            let content = body["content"].as_object();
            must(content.is_some_and(|content| !content.is_empty()), format!("{at}: content of {body}"));
            for (kind, content) in content.into_iter().flatten() {
                must(
                    kind.contains('/') && content.get("schema").is_some(),
                    format!("{at}: schema of {kind}"),
                );
            }
        }
        for requirement in operation["security"].as_array().into_iter().flatten() {
            for name in requirement.as_object().into_iter().flatten().map(|(name, _)| name) {
                must(schemes[name]["type"] == "http", format!("{at}: security scheme {name} is declared"));
            }
        }
    }
    references(document, &mut |reference| {
        let found = reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
        must(found.is_some(), format!("{reference} leads somewhere"));
    });
    wrong
}

/// Calls `tell` with every reference in a document.
fn references(value: &Value, tell: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                tell(reference);
            }
            object.values().for_each(|value| references(value, tell));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, tell)),
        _ => {}
    }
}

/// Differences between a response of an operation and the document.
fn untrue(document: &Value, operation: &Value, answer: &Raw) -> Vec<String> {
    let Some(response) = operation["responses"].get(answer.status.to_string()) else {
        return vec![format!("status {} is not listed", answer.status)];
    };
    let kind = answer.header("content-type");
    let Some(content) = response["content"].get(kind) else {
        return vec![format!("content type {kind:?} of {} is not listed", answer.status)];
    };
    if !kind.ends_with("json") {
        let is_text = content["schema"]["type"] == "string" && !answer.body.is_empty();
        return if is_text { Vec::new() } else { vec![format!("{kind} is no text")] };
    }
    match serde_json::from_str(&answer.body) {
        Err(error) => vec![format!("the body is no JSON: {error}")],
        Ok(body) => Schemas(document).complaints(&content["schema"], &body, "the body"),
    }
}

/// Headers that must be equal in the responses to `GET` and `HEAD`.
fn kept(answer: &Raw) -> [&str; 3] {
    ["content-type", "cache-control", "x-content-type-options"].map(|name| answer.header(name))
}

/// Requests that every operation of its kind must reject, as (headers, query, body, status).
type Refused = (Vec<(&'static str, String)>, &'static str, &'static str, u16);

fn refused(operation: &Value, path: &str) -> Vec<Refused> {
    let bearer = ("authorization", format!("Bearer {TOKEN}"));
    let json = ("content-type", "application/json".to_owned());
    let mut refused: Vec<Refused> = Vec::new();
    let has_body = !operation["requestBody"].is_null();
    // Operations polled by other programs ignore unknown query parameters.
    if !["/livez", "/readyz", "/metrics"].contains(&path) {
        refused.push((vec![bearer.clone(), json.clone()], "?nonsense=1", "{}", 400));
    }
    if has_body {
        refused.push((vec![bearer.clone(), json.clone()], "", "{", 400));
        refused.push((vec![bearer.clone(), ("content-type", "text/plain".to_owned())], "", "{}", 415));
        refused.push((vec![bearer.clone(), json.clone()], "", r#"{"nonsense":1}"#, 422));
    }
    if operation["security"].as_array().is_some_and(|all| !all.contains(&serde_json::json!({}))) {
        refused.push((vec![json.clone()], "", "{}", 401));
        refused.push((
            vec![json, ("authorization", "Bearer another-token-for-tests".to_owned())],
            "",
            "{}",
            401,
        ));
    }
    refused
}

async fn check_refusals(member: &Member, document: &Value, complaints: &mut Vec<String>) {
    let address = member.config.ops.address;
    for (method, path, operation) in operations(document) {
        let concrete = path.replace("{height}", "1");
        for (headers, query, body, expected) in refused(operation, path) {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let body = if method == "get" { "" } else { body };
            let target = format!("{concrete}{query}");
            let answer = ask(address, &method.to_uppercase(), &target, &headers, body).await;
            let at = format!("{method} {target} with {headers:?} and {body:?}");
            complaints
                .extend(answer.complaint(expected, &concrete, &[]).map(|wrong| format!("{at}: {wrong}")));
            complaints
                .extend(untrue(document, operation, &answer).iter().map(|wrong| format!("{at}: {wrong}")));
            let asks = answer.header("www-authenticate");
            if (expected == 401) != (asks == "Bearer") {
                complaints.push(format!("{at}: www-authenticate is {asks:?}"));
            }
        }
        if method == "get" {
            let read = ask(address, "GET", &concrete, &[], "").await;
            let head = ask(address, "HEAD", &concrete, &[], "").await;
            if head.status != read.status || kept(&head) != kept(&read) || !head.body.is_empty() {
                complaints.push(format!("HEAD of {concrete} is {head:?}, and GET {read:?}"));
            }
        }
    }
}

/// Checks bounds: the document must have them, values it allows must not be rejected as malformed, and values beyond
/// must be.
async fn check_bounds(member: &Member, document: &Value, complaints: &mut Vec<String>) {
    let address = member.config.ops.address;
    let refuses = async |method: &str, target: &str, body: &str| {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let answer = ask(address, method, target, if body.is_empty() { &[] } else { &headers }, body).await;
        matches!(answer.status, 400 | 422)
    };
    for (method, path, operation) in operations(document) {
        // Parameters: the empty text, and numbers at and beyond their bounds.
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, schema) = (parameter["name"].as_str().unwrap_or(""), &parameter["schema"]);
            let in_query = parameter["in"] == "query";
            let target = |value: &str| {
                if in_query { format!("{path}?{name}={value}") } else { path.replace("{height}", value) }
            };
            let is_of = |kind: &str| schema["type"] == kind || schema["type"][0] == kind;
            let at = format!("{method} {path}: {name}");
            if in_query && is_of("string") {
                let least = schema["minLength"].as_u64().unwrap_or(0);
                if refuses("GET", &target(""), "").await != (least > 0) {
                    complaints.push(format!("{at}: an empty text, and minLength {least}"));
                }
            }
            if is_of("integer") && (in_query || parameter["in"] == "path") {
                let (Some(least), Some(most)) = (schema["minimum"].as_u64(), schema["maximum"].as_u64())
                else {
                    complaints.push(format!("{at}: an integer without bounds: {schema}"));
                    continue;
                };
                let beyond = (u128::from(most) + 1).to_string();
                for (value, refused) in
                    [(least.to_string(), false), (most.to_string(), false), (beyond, true)]
                {
                    if refuses("GET", &target(&value), "").await != refused {
                        complaints.push(format!("{at}: {value}, and {schema}"));
                    }
                }
            }
        }
        // Bodies: the empty text where a text is expected.
        let reference = &operation["requestBody"]["content"]["application/json"]["schema"];
        let schema = Schemas(document).resolve(reference);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let is_text = property["type"] == "string" || property["type"][0] == "string";
            let least = property["minLength"].as_u64().unwrap_or(0);
            // An empty reason counts as none and would stop the member.
            if !is_text || path == "/shutdown" {
                continue;
            }
            let mut body = match path {
                "/transactions" => serde_json::json!({"payload": "c0"}),
                "/faults" => serde_json::json!({"actor": "sync", "fault": "panic"}),
                _ => serde_json::json!({"level": "info"}),
            };
            body[name] = "".into();
            if refuses(&method.to_uppercase(), path, &body.to_string()).await != (least > 0) {
                complaints.push(format!("{method} {path}: {body}, and minLength {least} of {name}"));
            }
        }
    }
}

/// Four members with blocks, a token, and fault injection enabled; the first is a process.
async fn four() -> (Federation, Process) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, TOKEN).expect("a token file");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let mut federation = Federation::prepare("openapi", |config| {
        config.ops.token_file = Some(file.clone());
    })
    .await;
    let process = Process::start(&federation, 0);
    for index in 1..4 {
        federation.start_member(index).await;
    }
    federation.members[0].gate_open(4).await;
    federation.members[0].reaches(2).await;
    (federation, process)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_operation_of_a_running_member_answers_as_its_document_says() {
    let (federation, process) = four().await;
    let member = &federation.members[0];
    let address = member.config.ops.address;
    eventually(SOON, "it is ready", async || {
        seen(member.client.status("/readyz").await == Ok(200), "not ready")
    })
    .await;
    let document: Value = member.client.get("/openapi.json").await.expect("a document");
    let mut complaints = faults_of(&document);
    let called: BTreeSet<_> = CALLS.iter().map(|call| (call.method, call.template)).collect();
    let listed: BTreeSet<_> =
        operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(called, listed, "every operation is called here, and every call is listed there");

    check_refusals(member, &document, &mut complaints).await;
    check_bounds(member, &document, &mut complaints).await;
    let bearer = format!("Bearer {TOKEN}");
    for call in CALLS {
        let (method, path) = (call.method.to_uppercase(), call.path);
        let mut headers = call.headers.to_vec();
        if !call.body.is_empty() {
            headers.extend([("content-type", "application/json"), ("authorization", bearer.as_str())]);
        }
        let answer = ask(address, &method, path, &headers, call.body).await;
        if answer.status != call.expected {
            complaints.push(format!("{method} {path}: expected {}; found {answer:?}", call.expected));
        }
        let operation = &document["paths"][call.template][call.method];
        let wrong = untrue(&document, operation, &answer);
        complaints.extend(wrong.iter().map(|wrong| format!("{method} {path}: {wrong}")));
        if path == "/shutdown" && answer.status == 200 && method == "POST" {
            let view: ShutdownView = serde_json::from_str(&answer.body).expect("a shutdown");
            assert_eq!(view.state, "complete");
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    drop(process);
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_document_does_not_say_or_says_wrongly_is_found() {
    let mut federation = Federation::prepare("untrue", |_| {}).await;
    federation.start_member(0).await;
    let member = &federation.members[0];
    let document: Value = member.client.get("/openapi.json").await.expect("a document");
    let answer = ask(member.config.ops.address, "GET", "/chain/head", &[], "").await;
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut changed = document.clone();
        change(&mut changed);
        let mut wrong = faults_of(&changed);
        wrong.extend(untrue(&changed, &changed["paths"]["/chain/head"]["get"], &answer));
        wrong
    };
    assert_eq!(wrong(&|_| {}), [""; 0]);
    let head = "/components/schemas/HeadView/properties";
    let changes: [&dyn Fn(&mut Value); 6] = [
        &|document| document["openapi"] = "2.0".into(),
        &|document| *document.pointer_mut(&format!("{head}/height/type")).expect("a type") = "string".into(),
        &|document| {
            let properties = document.pointer_mut(head).and_then(Value::as_object_mut);
            properties.expect("properties").remove("hash").expect("the hash");
        },
        &|document| {
            document["paths"]["/chain/head"]["get"]["responses"]["200"]["content"] = serde_json::json!({});
        },
        &|document| {
            let responses = document["paths"]["/chain/head"]["get"]["responses"].as_object_mut();
            responses.expect("responses").remove("200").expect("200");
        },
        &|document| {
            let schemas = document["components"]["schemas"].as_object_mut();
            schemas.expect("schemas").remove("Problem").expect("a schema");
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        // A dangling reference may also be reported by a panic.
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wrong(change)));
        assert!(found.is_err() || found.is_ok_and(|found| !found.is_empty()), "change {number} is found");
    }
    federation.stop().await;
}

#[test]
fn there_is_no_path_beside_those_that_the_document_is_made_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/src/ops");
    let (mut files, mut lists, mut wholes) = (0, 0, 0);
    for entry in std::fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a source");
        files += 1;
        lists += text.matches(".routes(routes!(").count();
        let text = text.split("#[cfg(test)]").next().unwrap_or("");
        // The router that is built from the whole list.
        wholes += text.matches(".fallback_service(router)").count();
        let text = text.replace(".fallback_service(router)", "");
        for way in [".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback"] {
            assert!(!text.contains(way), "{} has a path that no document names: {way}", path.display());
        }
    }
    assert!(files > 10 && lists > 20 && wholes == 1, "{files} files with {lists} entries were looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn problems_are_a_content_type_of_every_operation() {
    let mut federation = Federation::prepare("problems", |_| {}).await;
    federation.start_member(0).await;
    let document: Value = federation.members[0].client.get("/openapi.json").await.expect("a document");
    for (method, path, operation) in operations(&document) {
        let responses = operation["responses"].as_object().expect("responses");
        for (status, response) in responses.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
            assert!(response["content"].get(PROBLEM).is_some(), "{method} {path}: {status} is {response}");
        }
    }
    federation.stop().await;
}
