//! Tests that the sources follow the dependency directions of `ARCHITECTURE.md` and its list of forbidden things.
//!
//! Rules are data. Exceptions are listed in [`EXCEPTIONS`] with a reason; an exception that is no longer needed fails
//! the test like a violation. Every rule is first checked against a planted violation.

use std::collections::BTreeSet;

use alys_tests::source::{Reference, Source, workspace};

/// Pure files without an actor: they decide, and get the time as an argument.
const PURE: &[&str] = &[
    "cluster/src/config.rs",
    "cluster/src/discovery/advert.rs",
    "cluster/src/discovery/directory.rs",
    "cluster/src/discovery/state.rs",
    "cluster/src/discovery/wire.rs",
    "cluster/src/federation/attestation.rs",
    "cluster/src/federation/config.rs",
    "cluster/src/federation/coordinator/clocks.rs",
    "cluster/src/federation/coordinator/facts.rs",
    "cluster/src/federation/coordinator/heartbeat.rs",
    "cluster/src/federation/coordinator/indirect.rs",
    "cluster/src/federation/coordinator/mod.rs",
    "cluster/src/federation/coordinator/peer.rs",
    "cluster/src/federation/decision.rs",
    "cluster/src/federation/departure.rs",
    "cluster/src/federation/gate.rs",
    "cluster/src/federation/roster.rs",
    "cluster/src/federation/verdict.rs",
    "cluster/src/federation/wire.rs",
    "cluster/src/health/accrual.rs",
    "cluster/src/health/config.rs",
    "cluster/src/ping.rs",
    "cluster/src/health/recovery.rs",
    "cluster/src/health/state.rs",
    "cluster/src/health/status.rs",
    "cluster/src/health/trend.rs",
    "cluster/src/id.rs",
    "cluster/src/port.rs",
    "cluster/src/registry/entry.rs",
    "cluster/src/registry/error.rs",
    "cluster/src/registry/index.rs",
    "cluster/src/registry/lifecycle.rs",
    "cluster/src/registry/page.rs",
    "cluster/src/registry/parse.rs",
    "cluster/src/registry/pattern.rs",
    "cluster/src/registry/plan.rs",
    "cluster/src/registry/query.rs",
    "cluster/src/shutdown/phase.rs",
    "cluster/src/shutdown/plan.rs",
    "cluster/src/shutdown/state.rs",
    "cluster/src/supervision/tree.rs",
    "cluster/src/supervision/child.rs",
    "cluster/src/supervision/command.rs",
    "cluster/src/supervision/config.rs",
    "cluster/src/supervision/decision.rs",
    "cluster/src/supervision/escalation.rs",
    "cluster/src/supervision/failure.rs",
    "cluster/src/supervision/intensity.rs",
    "cluster/src/supervision/memory.rs",
    "cluster/src/supervision/pattern.rs",
    "cluster/src/supervision/slot.rs",
    "cluster/src/supervision/spec.rs",
    "cluster/src/supervision/state.rs",
    "cluster/src/supervision/strategy.rs",
    "cluster/src/trace/context.rs",
    "cluster/src/trace/span.rs",
    "cluster/src/transport/codec.rs",
    "cluster/src/transport/config.rs",
    "cluster/src/transport/envelope.rs",
    "cluster/src/transport/error.rs",
    "cluster/src/transport/frame.rs",
    "cluster/src/transport/hello.rs",
    "cluster/src/transport/identity.rs",
    "cluster/src/transport/peer.rs",
    "cluster/src/transport/queue.rs",
    "cluster/src/transport/rejection_log.rs",
    "cluster/src/transport/sender_quota.rs",
    "cluster/src/transport/statistics.rs",
    "federation-sim/src/timeline.rs",
    "federation-sim/src/page/chart.rs",
    "federation-sim/src/page/escape.rs",
    "federation-sim/src/page/label.rs",
    "federation-sim/src/page/lane.rs",
    "federation-sim/src/page/mod.rs",
    "federation-sim/src/page/scale.rs",
    "federation-sim/src/page/table.rs",
    "node/src/actors/consensus/height_driver.rs",
    "node/src/actors/consensus/held.rs",
    "node/src/actors/consensus/round_traces.rs",
    "node/src/actors/sync/state.rs",
    "node/src/attest.rs",
    "node/src/config.rs",
    "node/src/consensus/block.rs",
    "node/src/consensus/certificate.rs",
    "node/src/consensus/config.rs",
    "node/src/consensus/context.rs",
    "node/src/consensus/core.rs",
    "node/src/consensus/guard.rs",
    "node/src/consensus/log.rs",
    "node/src/consensus/message.rs",
    "node/src/consensus/mod.rs",
    "node/src/consensus/pacing.rs",
    "node/src/consensus/received.rs",
    "node/src/decisions/line.rs",
    "node/src/decisions/replay.rs",
    "node/src/failure.rs",
    "node/src/genesis.rs",
    "node/src/logs/directives.rs",
    "node/src/logs/levels.rs",
    "node/src/logs/line.rs",
    "node/src/ops/accept.rs",
    "node/src/ordering.rs",
    "node/src/otlp/encode.rs",
    "node/src/otlp/settings.rs",
    "node/src/ports.rs",
    "node/src/top/plain.rs",
    "node/src/top/state.rs",
    "node/src/top/target.rs",
    "node/src/top/view.rs",
    "node/src/certificate_signer.rs",
];

/// Modules that each subsystem of the cluster may use besides itself. A subsystem that is missing here is new and has
/// not been assigned a layer.
const BELOW: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("config", &[]),
    ("clock", &[]),
    ("port", &["id"]),
    ("trace", &["clock"]),
    ("ping", &["id", "clock"]),
    ("event", &["id", "clock", "trace", "ping"]),
    ("mailbox", &["id", "trace", "ping"]),
    ("actor", &["mailbox", "ping"]),
    ("registry", &["id", "config", "clock", "mailbox", "ping"]),
    (
        "supervision",
        &["actor", "id", "config", "clock", "event", "ping", "port", "mailbox", "registry", "trace"],
    ),
    ("health", &["actor", "id", "config", "clock", "event", "ping", "port", "mailbox"]),
    ("shutdown", &["id", "clock", "event", "mailbox", "supervision"]),
    ("federation", &["actor", "id", "config", "clock", "event", "ping", "port", "mailbox", "health"]),
    ("transport", &["actor", "id", "config", "clock", "event", "port", "mailbox", "federation", "trace"]),
    (
        "discovery",
        &["actor", "id", "clock", "event", "ping", "port", "mailbox", "registry", "transport", "trace"],
    ),
    ("system", &["actor", "clock", "config", "event", "id", "mailbox", "shutdown", "supervision"]),
    (
        "cluster",
        &[
            "discovery",
            "federation",
            "id",
            "mailbox",
            "port",
            "registry",
            "supervision",
            "system",
            "transport",
        ],
    ),
    ("telemetry", &["actor", "id", "clock", "event", "ping", "mailbox", "registry", "trace"]),
];

/// Exceptions: the rule, the file, what it uses, and the reason.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    (
        "pure",
        "cluster/src/supervision/spec.rs",
        "ractor",
        "a child spec holds the function that spawns the child",
    ),
    (
        "pure",
        "cluster/src/supervision/spec.rs",
        "async",
        "a child spec holds the function that spawns the child",
    ),
    (
        "pure",
        "cluster/src/supervision/spec.rs",
        "await",
        "a child spec holds the function that spawns the child",
    ),
    (
        "pure",
        "cluster/src/discovery/directory.rs",
        "tokio",
        "who waits for a member's loss is woken through the directory; it waits for nothing itself",
    ),
    ("pure", "node/src/config.rs", "std::env", "the one door at which the environment becomes configuration"),
    (
        "below",
        "cluster/src/event.rs",
        "alys_cluster::supervision::decision::DecisionRecord",
        "an event carries a supervisor's decision with its inputs",
    ),
];

/// Blockchain terms that the cluster must not contain.
const DOMAIN_WORDS: &[&str] =
    &["auxpow", "peg-in", "pegin", "peg_in", "peg-out", "pegout", "ethereum", "bitcoin"];

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    rule: &'static str,
    path: String,
    line: usize,
    what: String,
}

/// One rule, with an example of what it must find.
struct Rule {
    name: &'static str,
    /// Reason for the rule, reported with every violation.
    because: &'static str,
    /// Whether the rule applies to a file.
    scope: fn(&str) -> bool,
    /// Finds violations in a file, by line.
    finds: fn(&Source) -> Vec<(usize, String)>,
    /// A file, its text, and the violation that must be found in it.
    planted: &'static [(&'static str, &'static str, &'static str)],
}

fn referring(source: &Source, forbidden: impl Fn(&Reference) -> Option<String>) -> Vec<(usize, String)> {
    source.references.iter().filter_map(|found| Some((found.line, forbidden(found)?))).collect()
}

fn reads_time(found: &Reference) -> Option<String> {
    let readers = ["Instant::now", "time::Instant", "SystemTime", "UNIX_EPOCH"];
    readers.iter().find(|reader| found.has(reader)).map(|reader| (*reader).to_owned())
}

fn impure(source: &Source) -> Vec<(usize, String)> {
    let mut found = referring(source, |found| {
        let crates = ["ractor", "ractor_cluster", "tokio", "axum"];
        let named = crates.iter().find(|name| found.begins(name)).copied();
        let chance = ["rand::random", "rand::rng", "rand::fill", "thread_rng", "OsRng", "rand::random_range"];
        let chance = chance.iter().find(|way| found.has(way)).copied();
        let environment = ["std::env", "env::var", "Env"].iter().find(|way| found.has(way)).copied();
        let sleeping = found.has("thread::sleep").then_some("thread::sleep");
        named.or(chance).or(environment).or(sleeping).map(str::to_owned).or_else(|| reads_time(found))
    });
    for word in ["async", "await"] {
        found.extend(source.lines_of(word).map(|line| (line, word.to_owned())));
    }
    found
}

fn of_cluster(path: &str) -> bool {
    path.starts_with("cluster/src/")
}

fn of_node(path: &str) -> bool {
    path.starts_with("node/src/")
}

/// Subsystem of the cluster that a file belongs to.
fn subsystem(path: &str) -> &str {
    let inner = path.trim_start_matches("cluster/src/").trim_end_matches(".rs");
    inner.split('/').next().unwrap_or(inner)
}

/// Actor of the node that a file belongs to.
fn actor_of(path: &str) -> &str {
    path.trim_start_matches("node/src/actors/").split('/').next().unwrap_or(path)
}

const RULES: &[Rule] = &[
    Rule {
        name: "pure",
        because: "a policy is told what time it is, has its chances passed in, and waits for nothing",
        scope: |path| PURE.contains(&path),
        finds: impure,
        planted: &[
            ("node/src/ordering.rs", "use ractor::{Actor, ActorRef};", "ractor"),
            ("node/src/ordering.rs", "fn f() { tokio::spawn(g()); }", "tokio"),
            ("node/src/ports.rs", "use axum as web; fn f(r: web::Router) {}", "axum"),
            (
                "node/src/genesis.rs",
                "use std::time::{self, Duration}; fn f() { time::Instant::now(); }",
                "Instant::now",
            ),
            (
                "node/src/genesis.rs",
                "use std::time::Instant as Watch; fn f() { Watch::now(); }",
                "Instant::now",
            ),
            ("node/src/genesis.rs", "fn f() { std::time::SystemTime::now(); }", "SystemTime"),
            ("node/src/genesis.rs", "fn f() -> u8 { rand::random() }", "rand::random"),
            ("node/src/genesis.rs", "use rand::rng; fn f() { rng(); }", "rand::rng"),
            ("node/src/genesis.rs", "fn f() { rand::thread_rng(); }", "thread_rng"),
            ("node/src/genesis.rs", "fn f(bytes: &mut [u8]) { rand::fill(bytes); }", "rand::fill"),
            ("node/src/genesis.rs", "use std::env; fn f() { env::var(\"HOME\"); }", "std::env"),
            ("cluster/src/id.rs", "async fn f() {}", "async"),
            ("cluster/src/id.rs", "fn f() { later. await; }", "await"),
            ("cluster/src/id.rs", "fn f() { std::thread::sleep(d); }", "thread::sleep"),
        ],
    },
    Rule {
        name: "time",
        because: "only clock.rs reads time, so that everything runs in virtual time too",
        scope: |path| (of_cluster(path) || of_node(path)) && path != "cluster/src/clock.rs",
        finds: |source| referring(source, reads_time),
        planted: &[
            ("node/src/tree.rs", "fn f() { let at = tokio::time::Instant::now(); }", "Instant::now"),
            ("cluster/src/event.rs", "use std::{time::{SystemTime, UNIX_EPOCH}};", "SystemTime"),
        ],
    },
    Rule {
        name: "json",
        because: "JSON is made by the ops API, lines of the log and of the log of decisions, and the simulator's report",
        scope: |path| {
            let makers = ["decisions/line.rs", "logs/line.rs"].map(|file| format!("node/src/{file}"));
            let simulator = path.starts_with("federation-sim/src/") && path != "federation-sim/src/report.rs";
            let is_maker = path.starts_with("node/src/ops/") || makers.iter().any(|maker| maker == path);
            (of_cluster(path) || of_node(path) || simulator) && !is_maker
        },
        finds: |source| {
            let json = |found: &Reference| found.begins("serde_json") || found.has("axum::Json");
            referring(source, |found| json(found).then(|| found.text()))
        },
        planted: &[
            ("node/src/store.rs", "fn f() { serde_json::to_vec(&block); }", "serde_json::to_vec"),
            ("node/src/tree.rs", "use axum::{Json, Router};", "axum::Json"),
            ("federation-sim/src/seed.rs", "use serde_json::Value;", "serde_json::Value"),
        ],
    },
    Rule {
        name: "wire",
        because: "only transport/codec.rs knows wire bytes",
        scope: |path| path.contains("/src/") && path != "cluster/src/transport/codec.rs",
        finds: |source| referring(source, |found| found.begins("bincode").then(|| found.text())),
        planted: &[("node/src/store.rs", "use bincode::config;", "bincode::config")],
    },
    Rule {
        name: "federation",
        because: "the federation speaks through an Outbox and knows no transport",
        scope: |path| path.starts_with("cluster/src/federation/"),
        finds: |source| {
            referring(source, |found| found.begins("alys_cluster::transport").then(|| found.text()))
        },
        planted: &[
            (
                "cluster/src/federation/actor.rs",
                "use crate::{id::NodeId, transport::Courier};",
                "alys_cluster::transport::Courier",
            ),
            (
                "cluster/src/federation/gate.rs",
                "use super::super::transport::codec;",
                "alys_cluster::transport::codec",
            ),
        ],
    },
    Rule {
        name: "domain",
        because: "the cluster knows no blockchain word but height, slot and operation class",
        scope: of_cluster,
        finds: |source| {
            let names = |text: &str| {
                let text = text.to_lowercase();
                DOMAIN_WORDS.iter().any(|word| text.contains(word)) || text == "alys_node"
            };
            let found = source.tokens.iter().filter(|token| names(&token.text));
            found.map(|token| (token.line, token.text.clone())).collect()
        },
        planted: &[
            ("cluster/src/event.rs", "enum Event { AuxPowFound }", "AuxPowFound"),
            ("cluster/src/event.rs", "const TOPIC: &str = \"bitcoin/blocks\";", "\"bitcoin/blocks\""),
            ("cluster/src/id.rs", "use alys_node::Node;", "alys_node"),
        ],
    },
    Rule {
        name: "simulator",
        because: "a member does not know that it is simulated",
        scope: |path| of_node(path) || of_cluster(path),
        finds: |source| referring(source, |found| found.begins("federation_sim").then(|| found.text())),
        planted: &[("node/src/lib.rs", "use federation_sim::seed;", "federation_sim::seed")],
    },
    Rule {
        name: "below",
        because: "each subsystem uses only what lies below it, and telemetry is only told",
        scope: |path| of_cluster(path) && path != "cluster/src/lib.rs",
        finds: |source| {
            let own = subsystem(&source.path).to_owned();
            let below = BELOW.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, below)| below);
            referring(source, |found| {
                let other = found.begins("alys_cluster").then(|| found.path.get(1)).flatten()?;
                let allowed = *other == own || below.contains(&other.as_str());
                (!allowed).then(|| found.text())
            })
        },
        planted: &[
            (
                "cluster/src/telemetry/metrics.rs",
                "use crate::federation::GateReader;",
                "alys_cluster::federation::GateReader",
            ),
            ("cluster/src/health/state.rs", "use super::super::supervision;", "alys_cluster::supervision"),
            ("cluster/src/migration.rs", "use crate::id::NodeId;", "alys_cluster::id::NodeId"),
        ],
    },
    Rule {
        name: "siblings",
        because: "an actor knows its siblings' messages and handles, not how they think",
        scope: |path| {
            path.starts_with("node/src/actors/") || (of_cluster(path) && path.matches('/').count() == 3)
        },
        finds: |source| {
            let is_node = of_node(&source.path);
            let (root, own) = if is_node {
                ("alys_node::actors", actor_of(&source.path))
            } else {
                ("alys_cluster", subsystem(&source.path))
            };
            let depth = root.split("::").count();
            referring(source, |found| {
                let sibling = found.begins(root).then(|| found.path.get(depth)).flatten()?;
                let inner = found.path.get(depth + 1)?;
                let is_hidden = if is_node {
                    // Of a sibling actor, only its messages and its reader may be used, by any path.
                    let shown = ["message", "self"].contains(&inner.as_str())
                        || ["Message", "Wire", "Reader"].iter().any(|end| inner.ends_with(end));
                    !shown
                } else {
                    ["actor", "state", "coordinator"].contains(&inner.as_str())
                };
                (sibling != own && is_hidden).then(|| found.text())
            })
        },
        planted: &[
            (
                "node/src/actors/sync/actor.rs",
                "use crate::actors::consensus::height_driver::Input;",
                "alys_node::actors::consensus::height_driver::Input",
            ),
            (
                "node/src/actors/sync/actor.rs",
                "use super::super::chain::{ChainActor, ChainMessage};",
                "alys_node::actors::chain::ChainActor",
            ),
            (
                "node/src/actors/engine/actor.rs",
                "use crate::actors::chain; fn f() { chain::actor::open(); }",
                "alys_node::actors::chain::actor::open",
            ),
            (
                "cluster/src/federation/actor.rs",
                "use crate::health::state::HealthBoard;",
                "alys_cluster::health::state::HealthBoard",
            ),
        ],
    },
    Rule {
        name: "messages",
        because: "message types live in message.rs, never in an actor's file",
        scope: |path| path.starts_with("node/src/actors/") || of_cluster(path),
        finds: |source| {
            let text = |i: usize| source.tokens.get(i).map_or("", |token| token.text.as_str());
            let is_actor = (0..source.tokens.len()).any(|i| text(i) == "Actor" && text(i + 1) == "for");
            let messages = source.tokens.windows(2).filter(|pair| {
                matches!(pair[0].text.as_str(), "enum" | "struct") && pair[1].text.ends_with("Message")
            });
            messages.filter(|_| is_actor).map(|pair| (pair[1].line, pair[1].text.clone())).collect()
        },
        planted: &[(
            "node/src/actors/sync/actor.rs",
            "pub enum SyncMessage { Tick }\nimpl Actor for SyncActor {}",
            "SyncMessage",
        )],
    },
    Rule {
        name: "unfinished",
        because: "what is not done is not there, and nothing is unsafe",
        scope: |_| true,
        finds: |source| {
            let macros = ["todo!", "unimplemented!", "dbg!"];
            let mut found = referring(source, |found| {
                macros
                    .iter()
                    .find(|name| found.path.last().is_some_and(|last| last == *name))
                    .map(|m| (*m).to_owned())
            });
            found.extend(source.lines_of("unsafe").map(|line| (line, "unsafe".to_owned())));
            found
        },
        planted: &[
            ("node/src/lib.rs", "fn f() { todo!(\"later\") }", "todo!"),
            ("cluster/src/id.rs", "fn f() { core::unimplemented!() }", "unimplemented!"),
            ("tests/src/lib.rs", "fn f() { dbg![1]; }", "dbg!"),
            ("benches/src/lib.rs", "fn f() { unsafe { g() } }", "unsafe"),
        ],
    },
];

fn check(rule: &Rule, source: &Source) -> Vec<Finding> {
    if !(rule.scope)(&source.path) {
        return Vec::new();
    }
    let finding = |(line, what)| Finding { rule: rule.name, path: source.path.clone(), line, what };
    (rule.finds)(source).into_iter().map(finding).collect()
}

fn is_excepted(finding: &Finding) -> bool {
    EXCEPTIONS.iter().any(|(rule, path, what, _)| {
        (finding.rule, finding.path.as_str(), finding.what.as_str()) == (*rule, *path, *what)
    })
}

#[test]
fn the_sources_keep_every_rule() {
    let sources = workspace();
    assert!(sources.len() > 80, "the workspace has more than {} sources", sources.len());
    let mut complaints = BTreeSet::new();
    for rule in RULES {
        for found in sources.iter().flat_map(|source| check(rule, source)).filter(|f| !is_excepted(f)) {
            complaints.insert(format!("{}:{} uses {}: {}", found.path, found.line, found.what, rule.because));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_rule_finds_what_is_planted() {
    for rule in RULES {
        assert!(!rule.planted.is_empty(), "rule {} was never tried", rule.name);
        for (path, text, what) in rule.planted {
            assert!((rule.scope)(path), "rule {} is not about {path}", rule.name);
            let found: Vec<_> = check(rule, &Source::new(path, text)).into_iter().map(|f| f.what).collect();
            assert!(
                found.contains(&(*what).to_owned()),
                "rule {}: {what} in {text:?}; found {found:?}",
                rule.name
            );
        }
    }
}

#[test]
fn no_exception_outlives_its_cause() {
    let sources = workspace();
    let findings: Vec<_> =
        RULES.iter().flat_map(|rule| sources.iter().flat_map(|s| check(rule, s))).collect();
    for exception @ (rule, path, what, _) in EXCEPTIONS {
        let needed =
            findings.iter().any(|f| (f.rule, f.path.as_str(), f.what.as_str()) == (*rule, *path, *what));
        assert!(needed, "no longer needed: {exception:?}");
    }
}

#[test]
fn every_file_named_pure_exists_and_every_subsystem_has_its_place() {
    let sources = workspace();
    for path in PURE {
        assert!(sources.iter().any(|source| source.path == *path), "{path} is named pure and does not exist");
    }
    for source in sources.iter().filter(|s| of_cluster(&s.path) && s.path != "cluster/src/lib.rs") {
        let name = subsystem(&source.path);
        assert!(
            BELOW.iter().any(|(known, _)| *known == name),
            "{name} has no place in the table of directions"
        );
    }
}

#[test]
fn comments_strings_and_test_modules_are_not_code() {
    let text = r##"
        //! tokio::spawn in a comment
        /* use ractor; /* nested */ use axum; */
        const A: &str = "tokio::spawn(\"ractor\")";
        const B: &str = r#"use "ractor";"#;
        const C: char = '"';
        fn lifetime<'a>(text: &'a str) -> &'a str { text }
        #[cfg(test)]
        mod tests { use tokio::test; fn f() { if true { ractor::spawn() } } }
        #[cfg(test)]
        #[allow(dead_code)]
        mod simulation;
        fn after() { rand::random() }
    "##;
    let source = Source::new("node/src/ordering.rs", text);
    assert_eq!(source.test_modules, ["simulation"]);
    let found: Vec<_> = impure(&source).into_iter().map(|(line, what)| format!("{line} {what}")).collect();
    assert_eq!(found, ["13 rand::random"]);
}

#[test]
fn paths_are_found_through_groups_aliases_and_relative_modules() {
    let text = "
        use super::{link::{self, LinkMessage}, super::id::*};
        use crate::clock as watch;
        fn f() { watch::SystemClock::default(); link::open(); Self::g(); println!(\"x\"); }
    ";
    let source = Source::new("cluster/src/transport/network.rs", text);
    let found: Vec<_> =
        source.references.iter().map(Reference::text).filter(|path| path.contains("::")).collect();
    for path in [
        "alys_cluster::transport::link",
        "alys_cluster::transport::link::LinkMessage",
        "alys_cluster::id::*",
        "alys_cluster::clock",
        "alys_cluster::clock::SystemClock::default",
        "alys_cluster::transport::link::open",
    ] {
        assert!(found.contains(&path.to_owned()), "{path} in {found:?}");
    }
}
