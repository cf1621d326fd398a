//! Tests a testnet of `alys-node testnet init` as a new user meets it: the commands in the documentation, and the
//! commands that talk to a running member.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Keeps a failing test from hanging; not a statement about speed.
const DEADLINE: Duration = Duration::from_mins(1);
const BINARY: &str = env!("CARGO_BIN_EXE_alys-node");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Removes this process's `ALYS_` variables from a command, so that they do not reach the members.
fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALYS_")) {
        command.env_remove(name);
    }
    command
}

fn node(arguments: &[&str]) -> Output {
    clean(Command::new(BINARY).args(arguments)).output().expect("the node runs")
}

/// First of four consecutive free ports.
fn four_ports() -> u16 {
    let tries = std::iter::repeat_with(|| rand::random_range(20_000..32_000_u16));
    let is_free = |base: &u16| (0..4).all(|n| TcpListener::bind(("127.0.0.1", base + n)).is_ok());
    tries.take(1_000).find(is_free).expect("free ports")
}

/// Replaces the documented ports in commands by those of the test's testnet.
fn at_ports(commands: &str, ops: u16) -> String {
    (1..=4_u16).fold(commands.to_owned(), |commands, n| {
        commands.replace(&format!("127.0.0.1:{}", 3_000 + n), &format!("127.0.0.1:{}", ops + n - 1))
    })
}

/// `PATH` with the directory of this `alys-node` first.
fn path_with_node() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", Path::new(BINARY).parent().expect("a directory").display())
}

/// Testnet in a temporary directory.
struct Testnet {
    directory: TempDir,
    ops: u16,
    members: Vec<Option<Child>>,
}

impl Testnet {
    fn init() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (ops, link) = (four_ports(), four_ports());
        let out = directory.path().join("testnet").display().to_string();
        let (ops_port, link_port) = (ops.to_string(), link.to_string());
        let made = node(&[
            "testnet",
            "init",
            "--out",
            &out,
            "--ops-port",
            &ops_port,
            "--link-port",
            &link_port,
            "--block-time",
            "1s",
        ]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        Self { directory, ops, members: (0..4).map(|_| None).collect() }
    }

    fn home(&self, n: usize) -> PathBuf {
        self.directory.path().join(format!("testnet/node-{n}"))
    }

    fn config(&self, n: usize) -> String {
        self.home(n).join("node.toml").display().to_string()
    }

    /// Starts a member with fault injection enabled.
    fn run(&mut self, n: usize) {
        let mut command = Command::new(BINARY);
        clean(&mut command).args(["run", "--exit-with-parent", "--config", &self.config(n)]);
        command.env("ALYS_FAULTS__ENABLED", "true").stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.stderr(Stdio::null()).spawn().expect("the node starts");
        self.members[n - 1] = Some(child);
    }

    fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.members[n - 1].take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Repeats a command until it exits with this code and prints this part; returns its output.
    fn until(arguments: &[&str], code: i32, part: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let output = node(arguments);
            let said = text(&output.stdout);
            if output.status.code() == Some(code) && said.contains(part) {
                return said;
            }
            let stderr = text(&output.stderr);
            assert!(Instant::now() < until, "{arguments:?}: {}; {said} {stderr}", output.status);
            sleep(Duration::from_millis(100));
        }
    }

    /// Runs a line of a document in a shell, unchanged except for ports.
    fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        clean(&mut command).args(["-c", &at_ports(line, self.ops)]).current_dir(self.directory.path());
        command.env("PATH", path_with_node()).output().expect("a shell")
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        (1..=4).for_each(|n| self.kill(n));
    }
}

/// Code lines of a document that start with a word, without trailing comments. A line that ends with a backslash
/// continues on the next one.
fn lines_of(document: &str, word: &str) -> Vec<String> {
    let document = document.replace("\\\n", " ");
    let code = document.lines().filter_map(|line| line.strip_prefix("    "));
    let begun = code.filter(|line| line.split(' ').next() == Some(word));
    begun.map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned()).collect()
}

#[test]
fn a_member_is_asked_by_its_configuration_and_every_curl_of_the_readme_works_on_a_testnet() {
    let mut net = Testnet::init();
    let config = net.config(1);
    for n in 1..=4 {
        net.run(n);
    }
    Testnet::until(&["healthcheck", "--config", &config], 0, "ready");
    let listed = node(&["actors", "name=chain", "--config", &config]);
    assert!(text(&listed.stdout).contains("ChainActor"), "{}", text(&listed.stderr));

    // The status on one screen, and as JSON.
    let status = Testnet::until(&["status", "--config", &config], 0, "node-1 of alys-testnet: WORKS");
    for part in
        ["ready     yes", "gate      open: ", "node-4          up", "RESTARTS", "height ", "MiB free, data"]
    {
        assert!(status.to_lowercase().contains(&part.to_lowercase()), "{part:?} in {status}");
    }
    let json = node(&["status", "--output", "json", "--config", &config]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["ready"]["ready"], &json["federation"]["node"]), (&true.into(), &"node-1".into()));
    let top = node(&["top", "--once", "--config", &config]);
    assert!(text(&top.stdout).contains("the federation works: 1 of 1 gates open"), "{}", text(&top.stdout));

    // All `curl` commands of the README and the other documents.
    let curls = |path: &PathBuf| lines_of(&fs::read_to_string(path).expect("a document"), "curl");
    let curls: Vec<_> = documents().iter().flat_map(curls).collect();
    assert!(curls.len() > 50, "{curls:?}");
    if net.shell("curl --version").status.success() {
        for line in &curls {
            let streams = line.contains("text/event-stream");
            let (options, code) =
                if streams { ("--max-time 1", 28) } else { ("--fail-with-body --max-time 20", 0) };
            let done = net.shell(&line.replacen("curl", &format!("curl -sS {options}"), 1));
            let (said, wrong) = (text(&done.stdout), text(&done.stderr));
            assert_eq!(done.status.code(), Some(code), "{line}: {said} {wrong}");
        }
    } else {
        let why = "there is no curl here to run the README's lines with";
        assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "{why}");
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }

    // Preview of a shutdown, and of one that is refused because no member is to spare.
    let foreseen = node(&["shutdown", "--dry-run", "--config", &config]);
    let said = text(&foreseen.stdout);
    assert_eq!(foreseen.status.code(), Some(0), "{said} {}", text(&foreseen.stderr));
    for part in ["node-1 would leave: 3 healthy members would be left, 3 are required", "farewell: "] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    net.kill(4);
    Testnet::until(&["status", "--config", &config], 0, "node-1 of alys-testnet: NO SPARE");
    let top = Testnet::until(&["top", "--once", "--config", &config], 0, "NO SPARE: ");
    assert!(top.contains("3 healthy, 3 required"), "{top}");
    let refused =
        Testnet::until(&["shutdown", "--dry-run", "--config", &config], 1, "node-1 would stay: refused: 3");
    assert!(refused.contains("without this one 2 would be left"), "{refused}");
    let forced = node(&["shutdown", "--dry-run", "--force", "--config", &config]);
    assert!(
        text(&forced.stdout).contains("the federation would halt: 2 of 3 required"),
        "{}",
        text(&forced.stdout)
    );
    // The previews changed nothing and needed no token. The shutdown below finds its token file by the configuration.
    Testnet::until(&["healthcheck", "--config", &config], 0, "ready");
    let checked = node(&["config", "check", "--config", &config]);
    let said = text(&checked.stdout);
    assert!(
        checked.status.success() && said.contains("when the process that uses its data directory"),
        "{said}"
    );
    let left = node(&["shutdown", "--force", "--wait", "--config", &config]);
    assert!(text(&left.stdout).contains("node-1 is gone"), "{}", text(&left.stderr));
    let halted = net.config(2);
    Testnet::until(&["status", "--config", &halted], 3, "node-2 of alys-testnet: HALTED");

    // `config check` fails with the same error messages as `run`.
    let data = net.home(1).join("data");
    let journal = fs::read(data.join("signatures.journal")).expect("a journal");
    let refused = |what: &str, arguments: &[&str], part: &str| {
        for command in [&["config", "check"] as &[&str], &["run"]] {
            let output = node(&[command, &["--config", &config], arguments].concat());
            let said = text(&output.stderr);
            assert!(output.status.code() == Some(4) && said.contains(part), "{what}, {command:?}: {said}");
        }
    };
    fs::remove_file(data.join("signatures.journal")).expect("removed");
    refused("no journal", &[], "signatures.journal is missing, but the chain is at height");
    let mut damaged = journal.clone();
    damaged[20] ^= 0xff;
    fs::write(data.join("signatures.journal"), damaged).expect("written");
    refused("a damaged journal", &[], "signatures.journal is damaged at byte");
    fs::write(data.join("signatures.journal"), journal).expect("put back");
    // Nobody can create a file there, not even root.
    refused("a read-only directory", &["--data-dir", "/proc/self"], "data directory /proc/self: ");
    refused("a read-only parent", &["--data-dir", "/proc/alys/data"], "data directory /proc/alys/data: ");
    fs::write(data.join("incarnation"), "many").expect("written");
    refused("no number", &[], "holds \"many\"; expected a number");
    fs::remove_file(data.join("incarnation")).expect("removed");
    let ops = format!("127.0.0.1:{}", net.ops + 1);
    let taken = clean(Command::new(BINARY).args(["config", "check", "--config", &config]))
        .env("ALYS_OPS__ADDRESS", &ops)
        .output()
        .expect("the node runs");
    assert!(text(&taken.stderr).contains(&format!("`ops.address` is {ops}: ")), "{}", text(&taken.stderr));
    let checked = node(&["config", "check", "--config", &config]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
}

/// Runs all commands of the operations document from top to bottom, as one script.
#[test]
fn the_operations_document_holds_from_top_to_bottom() {
    let document = include_str!("../../docs/operations.md");
    let (ops, link) = (four_ports(), four_ports());
    let lines = document.lines().filter_map(|line| line.strip_prefix("    "));
    let script: Vec<_> =
        lines.map(|line| format!("echo '>' \"{}\"\n{line}", line.replace(['"', '$', '`'], "."))).collect();
    assert!(script.len() > 35, "{} commands", script.len());
    let init = format!("testnet init --block-time 1s --ops-port {ops} --link-port {link}");
    let script = format!("set -e\n{}\nwait\n", script.join("\n")).replace("testnet init", &init);
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("timeout");
    clean(&mut command).args(["--kill-after", "5", "240", "sh", "-c", &at_ports(&script, ops)]);
    // Output goes to a file: members left behind by a failed command would keep a pipe open.
    let output = directory.path().join("output");
    let file = fs::File::create(&output).expect("a file");
    command.stdin(Stdio::null()).stderr(file.try_clone().expect("the same file")).stdout(file);
    command.current_dir(directory.path()).env("PATH", path_with_node()).process_group(0);
    let mut shell = command.spawn().expect("a shell");
    let status = shell.wait().expect("it ends");
    let leave_nobody = format!("kill -KILL -{} 2>/dev/null || true", shell.id());
    assert!(Command::new("sh").args(["-c", &leave_nobody]).status().expect("a shell").success());
    let said = fs::read_to_string(&output).expect("what was said");
    let end: String = said.chars().skip(said.chars().count().saturating_sub(3_000)).collect();
    assert!(status.success(), "{status}: …{end}");
    for part in ["node-1 is gone", "node-4 would leave", "holds: node-1", "federation_clock_wrong"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}

/// Documents whose commands users run by hand.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = vec![root.join("README.md")];
    for folder in ["docs", "docs/runbooks", "deploy/systemd"] {
        for entry in fs::read_dir(root.join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            found.extend(path.is_file().then_some(path));
        }
    }
    found
}

/// Every command that a document mentions exists.
#[test]
fn every_command_that_a_document_names_is_one() {
    let mut looked_at = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("a document");
        let lines = text.lines().filter_map(|line| {
            let unit =
                line.strip_prefix("Exec").and_then(|line| line.split_once('=')).map(|(_, command)| command);
            let line = line.strip_prefix("    ").or(unit)?;
            let (_, command) = line.split_once("alys-node ").filter(|(before, _)| {
                before.is_empty()
                    || before.ends_with('/') && (before.starts_with('/') || before.starts_with("docker"))
            })?;
            let command = command.split(" #").next().unwrap_or(command);
            let ends = [" | ", " > ", " && ", " >"];
            Some(
                ends.iter()
                    .fold(command, |command, end| command.split(end).next().unwrap_or(command))
                    .to_owned(),
            )
        });
        for command in lines {
            let call = format!("'{BINARY}' {} --help", command.trim().trim_end_matches(['\\', '&']));
            let output = clean(Command::new("sh").args(["-c", &call])).output().expect("a shell");
            let said = text_of_both(&output);
            assert!(output.status.success(), "{}: {command}: {said}", path.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 20, "{looked_at} commands were looked at");
}

#[test]
fn the_systemd_unit_has_no_key_and_no_value_that_systemd_does_not_know() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/alys-node.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    // The commands that the unit calls are installed elsewhere; their arguments are checked with all other documents.
    assert!(unit.matches("/usr/local/bin/alys-node ").count() >= 3, "{unit}");
    let directory = tempfile::tempdir().expect("a directory");
    let verified = |unit: &str| {
        let path = directory.path().join("alys-node.service");
        fs::write(&path, unit.replace("/usr/local/bin/alys-node", BINARY)).expect("a file");
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).arg(&path).output().map(|output| text_of_both(&output))
    };
    match verified(&unit) {
        Ok(said) => assert_eq!(said, ""),
        Err(error) => {
            let why = format!("no systemd-analyze to look at the unit with: {error}");
            assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "{why}");
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            return;
        }
    }
    for (good, bad, said) in [
        ("NoNewPrivileges=", "NoNewPrivilege=", "Unknown key"),
        ("TimeoutStopSec=30", "TimeoutStopSec=soon", "Failed to parse"),
    ] {
        assert!(unit.contains(good));
        let found = verified(&unit.replace(good, bad)).expect("as before");
        assert!(found.contains(said), "{bad}: {found}");
    }
}

fn text_of_both(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn one_address_is_the_default_everywhere() {
    let ports = ["healthcheck", "status", "actors", "shutdown", "top"].map(|command| {
        let help = text(&node(&[command, "--help"]).stdout);
        (command, help.contains("--url") && help.contains("--config") && help.contains("--ops"), help)
    });
    for (command, has_both, help) in ports {
        assert!(has_both, "{command}: {help}");
        assert!(!help.contains("127.0.0.1:3000"), "{command}: {help}");
    }
}

#[test]
fn shells_are_told_the_commands_and_manual_pages_describe_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = |arguments: &[&str]| {
        let output = node(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(script.contains("alys-node") && script.contains("healthcheck"), "{shell}: {script}");
    }
    let out = directory.path().join("man").display().to_string();
    said(&["manual", "--out", &out]);
    for page in ["alys-node.1", "alys-node-run.1", "alys-node-config-check.1", "alys-node-shutdown.1"] {
        let text = fs::read_to_string(Path::new(&out).join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}: {text}");
    }
}
