//! Tests that the documented metrics and those of a running member match, and that alerts and dashboards use no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use alys_tests::federation::{Federation, Member, SOON};
use alys_tests::{eventually, seen};

/// Description of a metric: its type, and its labels except the ones that every metric has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    labels: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Words in backquotes outside parentheses, which contain the values of a label.
fn labels_of(cell: &str) -> BTreeSet<String> {
    let mut outside = String::new();
    let mut depth = 0;
    for character in cell.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 => outside.push(character),
            _ => {}
        }
    }
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn documented() -> BTreeMap<String, Family> {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut families = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning, _worry] = cells[..] else { panic!("six cells: {row}") };
        assert!(!unit.is_empty() && !meaning.is_empty(), "unit and meaning: {row}");
        let family = Family { kind: kind.to_owned(), labels: labels_of(labels) };
        let name = name.trim_matches('`').to_owned();
        assert!(families.insert(name.clone(), family).is_none(), "{name} is documented once");
    }
    families
}

/// Metrics that a member exposes. Labels are known only for metrics that have a series.
fn exposed(text: &str) -> BTreeMap<String, (String, Option<BTreeSet<String>>)> {
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            families.insert(name.to_owned(), (kind.to_owned(), None));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').expect("a series and a value");
        let (name, labels) = series.trim_end_matches('}').split_once('{').expect("the label `node`");
        let labels = labels.split("\",").map(|label| label.split('=').next().expect("a label").to_owned());
        let labels: BTreeSet<_> = labels.filter(|label| !["node", "le"].contains(&label.as_str())).collect();
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let base = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
        let base = base.filter(|base| families.contains_key(*base)).min_by_key(|base| base.len());
        let base = base.unwrap_or_else(|| panic!("{name} has a type")).to_owned();
        let found = &mut families.get_mut(&base).expect("it is there").1;
        assert!(found.as_ref().is_none_or(|found| *found == labels), "{base} has always the same labels");
        *found = Some(labels);
    }
    families
}

fn compare(documented: &BTreeMap<String, Family>, text: &str) -> Vec<String> {
    let exposed = exposed(text);
    let mut wrong = Vec::new();
    for (name, family) in documented {
        match exposed.get(name) {
            None => wrong.push(format!("{name} is documented and not exposed")),
            Some((kind, _)) if *kind != family.kind => {
                wrong.push(format!("{name} is a {kind}, documented as {}", family.kind));
            }
            Some((_, Some(labels))) if *labels != family.labels => {
                wrong.push(format!("{name} has labels {labels:?}, documented {:?}", family.labels));
            }
            Some(_) => {}
        }
    }
    let undocumented = exposed.keys().filter(|name| !documented.contains_key(*name));
    wrong.extend(undocumented.map(|name| format!("{name} is exposed and not documented")));
    wrong
}

async fn text_of(member: &Member) -> Result<String, String> {
    let answer = member.client.send("GET", "/metrics", "", "").await?;
    if answer.status == 200 { Ok(answer.body) } else { Err(format!("{answer:?}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_metric_of_a_running_member_is_documented_and_every_documented_one_is_there() {
    let federation = Federation::start("metrics", |_| {}).await;
    let member = &federation.members[0];
    member.reaches(2).await;
    // Cause a failure, so that metrics of failures have a series.
    let fault = r#"{"actor":"sync","fault":"panic"}"#;
    assert_eq!(member.client.post("/faults", fault).await.expect("an answer").status, 202);
    let text = eventually(SOON, "the restart is counted", async || {
        let text = text_of(member).await?;
        let counted = text.lines().any(|line| line.starts_with("supervision_restart_attempts_total{"));
        if counted { Ok(text) } else { Err("no restart counted".to_owned()) }
    })
    .await;
    let documented = documented();
    let wrong = compare(&documented, &text);
    assert!(wrong.is_empty(), "docs/metrics.md and /metrics differ:\n{}", wrong.join("\n"));

    // Check that the comparison can fail.
    let first = documented.keys().next().expect("a metric").clone();
    let mut changed = documented.clone();
    let mut family = changed.remove(&first).expect("it is there");
    assert!(compare(&changed, &text).contains(&format!("{first} is exposed and not documented")));
    family.labels.insert("colour".to_owned());
    changed.insert("chain_colour".to_owned(), family.clone());
    changed.insert(first, family);
    let wrong = compare(&changed, &text);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong.contains(&"chain_colour is documented and not exposed".to_owned()), "{wrong:?}");

    // Metrics of peers are exposed for each peer.
    let peers = federation.members[1..].iter().map(|peer| &peer.name);
    for peer in peers {
        for name in ["federation_peer_phi", "federation_peer_height", "link_sent_envelopes_total"] {
            let series = format!("{name}{{peer=\"{peer}\"");
            assert!(text.contains(&series), "no {series} in {text}");
        }
    }
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn metrics_are_given_while_nobody_watches_the_members() {
    let federation = Federation::start("unwatched", |_| {}).await;
    let member = &federation.members[0];
    let context = member.node().context();
    let name = context.addresses.federation.name().clone();
    let worker = context.supervision.tree.worker(&name).expect("it is in the tree");
    let tier =
        alys_cluster::supervision::EnhancedSupervision::at(worker.supervisor, context.supervision.clone());
    tier.suspend_child(&name).await.expect("nobody answers for it any more");
    eventually(SOON, "the numbers of members are gone, the others are there", async || {
        let text = text_of(member).await?;
        let closed = text.contains("federation_gate_open{node=\"unwatched-node-1\"} 0");
        seen(closed && !text.contains("federation_peers{") && text.contains("link_up{"), text.clone())
    })
    .await;
    tier.resume_child(&name).await.expect("it answers again");
    federation.stop().await;
}

/// Files with this ending in a folder and its subfolders.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Lines of every alert, by name.
fn alerts() -> BTreeMap<String, Vec<String>> {
    let mut alerts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in files("deploy/prometheus/rules", ".yml") {
        let mut current = None;
        for line in fs::read_to_string(file).expect("rules").lines() {
            if let Some(name) = line.trim().strip_prefix("- alert: ") {
                assert!(!alerts.contains_key(name), "{name} is there once");
                current = Some(name.to_owned());
            }
            if let Some(name) = &current {
                alerts.entry(name.clone()).or_default().push(line.trim().to_owned());
            }
        }
    }
    alerts
}

/// Words in an expression that start like metrics of a member.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    let word = |character: char| !(character.is_alphanumeric() || character == '_');
    let words = expression.split(word).filter(|word| word.contains('_'));
    let prefixes = ["alys", "chain", "consensus", "discovery", "federation", "health", "link", "process"];
    let prefixes = prefixes.into_iter().chain(["registry", "shutdown", "supervision", "telemetry"]);
    let prefixes: Vec<_> = prefixes.map(|prefix| format!("{prefix}_")).collect();
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// Metrics in an expression that are not documented.
fn unknown_in(expression: &str, documented: &BTreeMap<String, Family>) -> Vec<String> {
    let is_known = |name: &String| {
        let is_histogram = |base: &str| documented.get(base).is_some_and(|family| family.kind == "histogram");
        let bases = ["_bucket", "_sum", "_count"].iter().filter_map(|suffix| name.strip_suffix(suffix));
        documented.contains_key(name) || bases.into_iter().any(is_histogram)
    };
    metrics_in(expression).into_iter().filter(|name| !is_known(name)).collect()
}

#[test]
fn every_alert_has_a_severity_a_test_and_a_runbook_and_asks_for_documented_metrics_only() {
    let (documented, alerts) = (documented(), alerts());
    let tests: String = files("deploy/prometheus/tests", ".yml")
        .iter()
        .map(|file| fs::read_to_string(file).expect("tests"))
        .collect();
    let index = read("docs/runbooks/README.md");
    let mut wrong = Vec::new();
    for (name, lines) in &alerts {
        let runbook = format!("docs/runbooks/{name}.md");
        if !lines.contains(&format!("runbook: {runbook}")) {
            wrong.push(format!("{name} does not name {runbook}"));
        }
        let severity =
            lines.iter().find_map(|line| line.split("severity: ").nth(1)?.get(..2)).unwrap_or("none");
        let text = fs::read_to_string(root().join(&runbook)).unwrap_or_default();
        if !text.starts_with(&format!("# {name} ({severity})\n")) {
            wrong.push(format!("{runbook} is not about {name} ({severity})"));
        }
        if !index.contains(&format!("| [{name}]({name}.md) | {severity} |")) {
            wrong.push(format!("docs/runbooks/README.md does not list {name} ({severity})"));
        }
        for section in ["\n## Look\n", "\n## Do\n"] {
            if !text.contains(section) {
                wrong.push(format!("{runbook} has no section {}", section.trim()));
            }
        }
        if !tests.contains(name.as_str()) {
            wrong.push(format!("{name} has no test"));
        }
        // Labels and annotations must not name unknown metrics either.
        for unknown in unknown_in(&lines.join("\n"), &documented) {
            wrong.push(format!("{name} asks for {unknown}, which nobody documents"));
        }
    }
    for file in files("docs/runbooks", ".md") {
        let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
        if stem != "README" && !alerts.contains_key(&stem) {
            wrong.push(format!("docs/runbooks/{stem}.md is about no alert"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(alerts.len() > 10, "the rules were read");
    let planted = "sum(rate(chain_blocks_total[5m])) / chain_colour + supervision_decision_seconds_count";
    assert_eq!(unknown_in(planted, &documented), ["chain_colour"]);
}

/// Paths that runbooks and guides request from members of the testnet, without queries and without those they post to.
fn paths_in(text: &str) -> BTreeSet<String> {
    let after_port = |rest: &str| {
        let path = rest.trim_start_matches(|character: char| character.is_ascii_digit() || character == 'n');
        let path = path.strip_prefix('/')?;
        let end = path.find(|character: char| !(character.is_alphanumeric() || "/_".contains(character)));
        Some(format!("/{}", &path[..end.unwrap_or(path.len())]))
    };
    let reads = text.lines().filter(|line| !line.contains(" -d "));
    reads.flat_map(|line| line.split("127.0.0.1:300").skip(1)).filter_map(after_port).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_runbooks_ask_a_member_for_is_there() {
    let federation = Federation::start("runbooks", |_| {}).await;
    federation.members[0].reaches(1).await;
    let mut wanted = BTreeSet::new();
    for file in files("docs", ".md") {
        wanted.extend(paths_in(&fs::read_to_string(file).expect("a text")));
    }
    assert!(wanted.contains("/federation/gate") && wanted.contains("/supervision/patterns"), "{wanted:?}");
    for path in wanted {
        let status = federation.members[0].client.status(&path).await.expect("an answer");
        assert!(![404, 405].contains(&status), "{path}: {status}");
    }
    federation.stop().await;
}

#[test]
fn every_panel_asks_for_documented_metrics_only_of_a_provisioned_source() {
    let documented = documented();
    let sources = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    let mut wrong = Vec::new();
    let mut queries = 0;
    for file in files("deploy/grafana/dashboards", ".json") {
        let board: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&file).expect("a dashboard")).expect("JSON");
        for panel in board["panels"].as_array().expect("panels") {
            let targets = panel["targets"].as_array().into_iter().flatten();
            for target in targets {
                let place = format!("{}: {}", board["title"], panel["title"]);
                let source = target["datasource"]["uid"].as_str().expect("a source");
                if !sources.contains(&format!("uid: {source}\n")) {
                    wrong.push(format!("{place} asks {source}, which is not provisioned"));
                }
                let expression = target["expr"].as_str().expect("an expression");
                let unknown = unknown_in(expression, &documented);
                wrong.extend(unknown.iter().map(|name| format!("{place} asks for {name}")));
                queries += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(queries > 30, "the dashboards were read: {queries}");
}
