//! Tests the command line as an operator uses it: its effects, and its error messages.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use alys_cluster::shutdown::state::INSISTS_AFTER;
use alys_node::consensus::BlockHash;
use alys_node::consensus::guard::{self, Journal, JournalError, JournalMark};
use alys_node::genesis::Genesis;
use alys_node::keys::SecretKey;
use alys_node::ops::view::{GateDecision, GateView, ShutdownView};
use tempfile::TempDir;

/// Keeps a failing test from hanging; not a statement about speed.
const DEADLINE: Duration = Duration::from_secs(30);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alys-node"));
    command.args(arguments);
    // Variables of this process must not reach the node.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ALYS_")) {
        command.env_remove(name);
    }
    command
}

fn node(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the node runs")
}

/// A free port below the range of ephemeral ports: an outgoing connection could take one of those before the node does.
fn free_port() -> TcpListener {
    let tries =
        std::iter::repeat_with(|| TcpListener::bind(("127.0.0.1", rand::random_range(20_000..32_000))));
    tries.take(1_000).find_map(Result::ok).expect("a free port")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Collects unexpected results of commands that should fail; reported together at the end of a test.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    /// Checks that a command exited with this code and that its standard error contains every part.
    fn look(&mut self, what: &str, output: &Output, code: i32, parts: &[&str]) {
        let said = text(&output.stderr);
        let missing: Vec<_> = parts.iter().filter(|part| !said.contains(**part)).collect();
        // Message of the standard library for an uncaught panic.
        let is_panic = said.contains("panicked at");
        if output.status.code() != Some(code) || !missing.is_empty() || is_panic {
            let status = output.status;
            self.0.push(format!("{what}: {status}; expected code {code}; {missing:?} missing in {said:?}"));
        }
    }

    /// # Panics
    ///
    /// If unexpected results were collected.
    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0.join("\n"));
    }
}

/// Checks a single command that should fail.
fn fails(what: &str, output: &Output, code: i32, parts: &[&str]) {
    let mut faults = Faults::default();
    faults.look(what, output, code, parts);
    faults.none();
}

fn member_of_genesis(n: usize, key: &SecretKey) -> String {
    let (public, proof) = (key.public_key(), key.prove_possession());
    format!(
        "\n[[members]]\nname = \"node-{n}\"\npublic_key = \"{public}\"\nproof_of_possession = \"{proof}\"\n"
    )
}

fn peer(n: usize, address: SocketAddr) -> String {
    format!("\n[[link.peers]]\nname = \"node-{n}\"\naddress = \"{address}\"\n")
}

/// Directory with a member's files and a valid configuration, which tests then break.
struct Home {
    directory: TempDir,
    ops: SocketAddr,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let taken: Vec<_> = (0..5).map(|_| free_port()).collect();
        let ports: Vec<_> = taken.iter().map(|l| l.local_addr().expect("an address")).collect();
        let home = Self { directory, ops: ports[4] };
        let keys: Vec<_> = (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        keys[0].write(&home.path("member.key")).expect("a key file");
        keys[1].write(&home.path("other.key")).expect("a key file");
        let mut genesis = "chain_id = \"cli\"\nblock_time = \"1s\"\n".to_owned();
        let mut peers = String::new();
        for (n, key) in (1..=4).zip(&keys) {
            genesis.push_str(&member_of_genesis(n, key));
            if n > 1 {
                peers.push_str(&peer(n, ports[n - 1]));
            }
        }
        home.write("genesis.toml", &genesis);
        let (link, ops) = (ports[0], ports[4]);
        home.write(
            "node.toml",
            &format!(
                "genesis_file = \"genesis.toml\"\ndata_dir = \"data\"\n\n\
                 [identity]\nname = \"node-1\"\nkey_file = \"member.key\"\n\n\
                 [heartbeat]\ninterval = \"200ms\"\n\n\
                 [ops]\naddress = \"{ops}\"\n\n[link]\nlisten = \"{link}\"\n{peers}"
            ),
        );
        home
    }

    fn genesis(&self) -> Genesis {
        Genesis::from_file(&self.path("genesis.toml")).expect("a genesis")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("a file")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("a file");
    }

    /// Replaces a part of a file; the part must exist.
    fn spoil(&self, file: &str, good: &str, bad: &str) {
        let text = self.read(file);
        assert!(text.contains(good), "{good:?} in {text}");
        self.write(file, &text.replacen(good, bad, 1));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.arg("--config").arg(self.path("node.toml"));
        command
    }

    fn check(&self) -> Output {
        self.command(&["config", "check"]).output().expect("the node runs")
    }

    fn run(&self) -> Running {
        self.run_with(&mut self.command(&["run"]))
    }

    fn run_with(&self, command: &mut Command) -> Running {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Running { child: child.expect("the node starts"), ops: self.ops }
    }

    /// Runs a node that is expected to fail at its start.
    fn refused(&self) -> Output {
        self.run().output()
    }
}

/// Process of a node, killed on drop.
struct Running {
    child: Child,
    ops: SocketAddr,
}

impl Running {
    fn healthcheck(&self) -> Output {
        node(&["healthcheck", "--ops", &self.ops.to_string()])
    }

    /// Waits until the ops API answers.
    fn answers(mut self) -> Self {
        let until = Instant::now() + DEADLINE;
        while text(&self.healthcheck().stderr).contains("does not answer") {
            assert!(Instant::now() < until, "the node does not come up");
            if let Some(status) = self.child.try_wait().expect("a status") {
                panic!("the node ended with {status}: {}", self.said());
            }
            sleep(Duration::from_millis(20));
        }
        self
    }

    fn terminate(&self) {
        let kill = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.child.id())).status();
        assert!(kill.expect("a shell").success());
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < until, "the node does not end");
            sleep(Duration::from_millis(10));
        }
    }

    fn said(&mut self) -> String {
        let mut said = Vec::new();
        let stderr = self.child.stderr.as_mut().expect("standard error is piped");
        stderr.read_to_end(&mut said).expect("standard error can be read");
        text(&said)
    }

    fn output(mut self) -> Output {
        let status = self.wait();
        Output { status, stdout: Vec::new(), stderr: self.said().into_bytes() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn as_text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_generated_key_is_for_its_owner_alone_and_never_replaces_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("new.key");
    let made = node(&["keys", "generate", "--out", &as_text(&path)]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o600);
    let secret = fs::read(&path).expect("a file");
    let printed = text(&made.stdout);
    assert!(printed.contains("public_key = \"") && printed.contains("proof_of_possession = \""), "{printed}");
    assert!(!printed.contains(text(&secret).trim()), "the secret is not printed");
    let shown = node(&["keys", "show", "--key", &as_text(&path)]);
    assert_eq!(text(&shown.stdout), printed);

    let again = node(&["keys", "generate", "--out", &as_text(&path)]);
    fails("an existing file", &again, 4, &["new.key", "exists"]);
    assert_eq!(fs::read(&path).expect("a file"), secret);
    let nowhere = directory.path().join("missing").join("new.key");
    fails(
        "no such folder",
        &node(&["keys", "generate", "--out", &as_text(&nowhere)]),
        4,
        &["missing/new.key"],
    );
}

/// Reports that a test cannot run here, bypassing the output capture of passing tests.
fn skip(why: &str) {
    assert!(std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"), "{why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Temporary file system, unmounted on drop.
struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system of `kib` KiB; `None` if mounting is not possible.
    fn small(directory: &Path, kib: usize) -> Option<Self> {
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(directory).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Self(directory.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_keys_and_testnets_are_not_written_at_all_and_are_once_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    // Files take one page each. The sizes have room for nothing, for a key, for some members, and for the whole
    // testnet.
    for (kib, has_key, has_testnet) in
        [(4, false, false), (12, true, false), (40, true, false), (1_024, true, true)]
    {
        let Some(mount) = Mount::small(directory.path(), kib) else {
            return skip("no file system can be mounted here, so that none can be filled");
        };
        let filler = directory.path().join("filler");
        if !has_key {
            fs::write(&filler, [1; 4_096]).expect("there is room for this");
        }
        let left = || {
            let names = fs::read_dir(directory.path()).expect("a directory").flatten();
            names.map(|entry| entry.file_name()).filter(|name| name != "filler").collect::<Vec<_>>()
        };
        let (key, out) = (directory.path().join("new.key"), directory.path().join("testnet"));
        let made = node(&["keys", "generate", "--out", &as_text(&key)]);
        assert_eq!(made.status.success(), has_key, "{kib} KiB: {}", text(&made.stderr));
        if has_key {
            assert_eq!(fs::metadata(&key).expect("a key").len(), 65);
            fs::remove_file(&key).expect("removed");
        } else {
            fails("a key", &made, 4, &["new.key", "No space left on device"]);
        }
        assert!(left().is_empty(), "{kib} KiB: {:?}", left());
        let init = ["testnet", "init", "--out", &as_text(&out)];
        let made = node(&init);
        assert_eq!(made.status.success(), has_testnet, "{kib} KiB: {}", text(&made.stderr));
        if !has_testnet {
            fails("a testnet", &made, 4, &["node-", "No space left on device"]);
            assert!(left().is_empty(), "{kib} KiB: {:?}", left());
        }
        drop(mount);
    }
}

#[test]
fn a_key_that_root_owns_and_the_member_s_group_may_read_serves_and_one_that_others_may_read_does_not() {
    const USER: u32 = 12_345;
    const GROUP: u32 = 23_456;

    let home = Home::new();
    let give = |path: &Path, user, group, mode| {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    let (own, key) = (home.path(""), home.path("member.key"));
    if give(&own, USER, GROUP, 0o755).is_err() {
        return skip("nothing can be given away here without being root");
    }
    let run = || {
        let mut command = home.command(&["run"]);
        command.uid(USER).gid(GROUP);
        home.run_with(&mut command)
    };
    give(&key, 0, GROUP, 0o444).expect("given");
    fails("everybody's", &run().output(), 4, &["member.key"]);
    // Ownership and mode of secrets that orchestrators mount.
    give(&key, 0, GROUP, 0o440).expect("given");
    let mut running = run().answers();
    running.terminate();
    assert_eq!(running.wait().code(), Some(0), "{}", running.said());
}

#[test]
fn a_certificate_is_shown_and_whose_any_is_told_by_genesis_alone() {
    let home = Home::new();
    let made = home.command(&["keys", "certificate"]).output().expect("the node runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let printed = text(&made.stdout);
    for part in ["member: node-1\n", "federation: ", "valid: from 20", "-----BEGIN CERTIFICATE-----"] {
        assert!(printed.contains(part), "{part:?} in {printed}");
    }
    assert!(!printed.contains("PRIVATE"), "{printed}");
    assert!(!home.path("data").exists(), "nothing is begun");
    home.write("node-1.pem", &printed);
    let inspect = |file: &str, genesis: &str| {
        let (file, genesis) = (as_text(&home.path(file)), as_text(&home.path(genesis)));
        node(&["keys", "inspect-certificate", &file, "--genesis", &genesis])
    };
    let seen = inspect("node-1.pem", "genesis.toml");
    assert!(seen.status.success(), "{}", text(&seen.stderr));
    assert!(text(&seen.stdout).ends_with("holds: node-1 of chain cli vouches for this key\n"));

    let mut faults = Faults::default();
    home.write("elsewhere.toml", &home.read("genesis.toml").replacen("\"cli\"", "\"elsewhere\"", 1));
    let what = ["node-1.pem: the certificate is of the federation ", "; expected "];
    faults.look("another federation", &inspect("node-1.pem", "elsewhere.toml"), 1, &what);
    home.write("text.pem", "no certificate");
    faults.look(
        "text",
        &inspect("text.pem", "genesis.toml"),
        1,
        &["text.pem: the text holds no certificate"],
    );
    fs::write(home.path("bytes.der"), [0x30, 0x82, 0xff, 0xff, 0x30]).expect("a file");
    faults.look(
        "bytes",
        &inspect("bytes.der", "genesis.toml"),
        1,
        &["bytes.der: the certificate is no X.509"],
    );
    faults.look("no file", &inspect("none.pem", "genesis.toml"), 4, &["certificate file ", "none.pem"]);
    home.spoil("node.toml", "member.key", "other.key");
    let other = home.command(&["keys", "certificate"]).output().expect("the node runs");
    faults.look("another's key", &other, 4, &["other.key holds the key", "for node-1"]);
    faults.none();
}

#[test]
fn a_key_file_that_does_not_serve_is_refused_with_its_name() {
    let mut faults = Faults::default();
    let home = Home::new();
    let path = home.path("member.key");
    let key = home.read("member.key");
    for mode in [0o644, 0o640, 0o660, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
        let parts = ["member.key", &format!("has mode {mode:04o}; expected 0600"), "chmod 600"];
        faults.look("wider permissions", &home.check(), 4, &parts);
        faults.look("wider permissions", &home.refused(), 4, &parts);
        let shown = node(&["keys", "show", "--key", &as_text(&path)]);
        faults.look("wider permissions", &shown, 4, &parts);
    }
    // A mounted secret belongs to root and is readable by the member's group.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).expect("permissions");
    let is_root = fs::metadata(&path).expect("it is there").uid() == 0;
    assert_eq!(home.check().status.success(), is_root, "{}", text(&home.check().stderr));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    assert!(home.check().status.success());

    for (what, text, parts) in [
        ("a short key", &key[..10], &["the secret key has 10", "expected 64"] as &[&str]),
        (
            "no hexadecimal",
            &"z".repeat(64),
            &["the secret key holds a character that is not a hexadecimal digit"],
        ),
        ("no scalar", &"f".repeat(64), &["the secret key is not valid"]),
        ("nothing", "", &["the secret key has 0", "expected 64"]),
    ] {
        home.write("member.key", text);
        let output = home.check();
        faults.look(what, &output, 4, parts);
        faults.look(what, &output, 4, &["member.key"]);
        assert!(
            text.is_empty() || !self::text(&output.stderr).contains(text),
            "{what}: the secret is not repeated"
        );
    }
    home.write("member.key", &key);
    home.spoil("node.toml", "member.key", "other.key");
    let others = SecretKey::from_seed(&[2; 32]).public_key().to_string();
    let own = SecretKey::from_seed(&[1; 32]).public_key().to_string();
    let parts = ["other.key", &others, &own, "for node-1"];
    faults.look("another member's key", &home.check(), 4, &parts);
    faults.look("another member's key", &home.refused(), 4, &parts);
    home.spoil("node.toml", "other.key", "no.key");
    faults.look("no key", &home.check(), 4, &["no.key", "No such file"]);
    assert!(!home.path("data").exists(), "nothing was begun");
    faults.none();
}

/// Description, text in a good configuration, its replacement, and parts of the error message.
type Spoilt = (&'static str, &'static str, &'static str, &'static [&'static str]);

fn refused_before_anything_begins(faults: &mut Faults, table: &[Spoilt]) {
    for (what, good, bad, parts) in table {
        let home = Home::new();
        home.spoil("node.toml", good, bad);
        faults.look(what, &home.check(), 4, parts);
        faults.look(what, &home.refused(), 4, parts);
        assert!(!home.path("data").exists(), "{what}: nothing was begun");
    }
}

#[test]
fn a_supervision_that_makes_no_sense_is_refused_with_field_value_and_what_was_expected() {
    let mut faults = Faults::default();
    let table: &[Spoilt] = &[
        (
            "a backoff that shrinks",
            "[ops]\n",
            "[supervision.backoff]\nmultiplier = 0.5\n[ops]\n",
            &["`supervision.backoff.multiplier` is 0.5", "1.0 to 10.0"],
        ),
        (
            "a backoff without a number",
            "[ops]\n",
            "[supervision.backoff]\njitter = nan\n[ops]\n",
            &["`supervision.backoff.jitter` is NaN", "0.0 to 1.0"],
        ),
        (
            "a longest delay below the first",
            "[ops]\n",
            "[supervision.backoff]\ninitial_delay = \"2s\"\nmax_delay = \"1s\"\n[ops]\n",
            &["`supervision.backoff.max_delay` is 1s", "between `initial_delay` and 1h"],
        ),
        (
            "a budget of slots among none",
            "[ops]\n",
            "[supervision.slots]\nwithin_slots = 0\n[ops]\n",
            &["`supervision.slots.within_slots` is 0", "1 to 100000"],
        ),
        (
            "a pattern of one",
            "[ops]\n",
            "[supervision.patterns]\nrepeat_after = 1\n[ops]\n",
            &["`supervision.patterns.repeat_after` is 1", "2 to 1000"],
        ),
    ];
    refused_before_anything_begins(&mut faults, table);
    faults.none();
}

#[test]
fn a_link_that_does_not_serve_is_refused_with_field_value_and_what_was_expected() {
    let mut faults = Faults::default();
    let table: &[Spoilt] = &[
        (
            "a certificate that is made all the time",
            "[link]\n",
            "[link]\ncertificate_lifetime = \"59s\"\n",
            &["`link.certificate_lifetime` is 59s", "between 1min and 90days"],
        ),
        (
            "a certificate for ever",
            "[link]\n",
            "[link]\ncertificate_lifetime = \"91days\"\n",
            &["`link.certificate_lifetime` is 7862400s", "between 1min and 90days"],
        ),
        (
            "a peer that can not be dialled",
            "name = \"node-2\"\naddress = \"127.0.0.1",
            "name = \"node-2\"\naddress = \"0.0.0.0",
            &["`link.peers.address` is 0.0.0.0", "an address that can be dialled"],
        ),
        (
            "a queue smaller than a message",
            "[link]\n",
            "[link]\nqueue_bytes = 1\n",
            &["`link.queue_bytes` is 1", "4194304 to 1073741824"],
        ),
        (
            "a version of the link to come",
            "[link]\n",
            "[link]\nversion = 3\n",
            &["`link.version` is 3", "1 or 2"],
        ),
    ];
    refused_before_anything_begins(&mut faults, table);
    faults.none();
}

#[test]
fn a_configuration_that_does_not_serve_is_refused_with_field_value_and_what_was_expected() {
    let mut faults = Faults::default();
    let table: &[Spoilt] = &[
        ("an unknown key", "[ops]\n", "[ops]\ncolour = 1\n", &["colour", "ops"]),
        ("an unknown section", "[ops]\n", "[paint]\n[ops]\n", &["paint"]),
        ("a bad duration", "\"200ms\"", "\"soon\"", &["heartbeat.interval", "soon"]),
        ("a duration without unit", "\"200ms\"", "200", &["heartbeat.interval", "200"]),
        (
            "a duration out of range",
            "\"200ms\"",
            "\"1ms\"",
            &["`heartbeat.interval` is 1ms", "between 20ms and 10s"],
        ),
        ("two durations that contradict", "\"200ms\"", "\"900ms\"", &["heartbeat.acceptable_pause", "500ms"]),
        ("a name that is none", "\"node-1\"", "\"Node 1\"", &["identity.name", "Node 1", "expected 1 to 64"]),
        (
            "a name not in genesis",
            "\"node-1\"",
            "\"node-9\"",
            &["`identity.name` is node-9", "node-1, node-2"],
        ),
        (
            "an ops API beyond loopback",
            "address = \"127.0.0.1",
            "address = \"192.0.2.1",
            &["`ops.address` is 192.0.2.1", "loopback", "`ops.expose` = true"],
        ),
        (
            "an address that is none",
            "listen = \"127.0.0.1",
            "listen = \"localhost",
            &["link.listen", "localhost"],
        ),
        (
            "a peer twice",
            "name = \"node-4\"\n",
            "name = \"node-3\"\n",
            &["link.peers[2].name", "node-3", "named once"],
        ),
        (
            "an unknown peer",
            "name = \"node-4\"\n",
            "name = \"node-9\"\n",
            &["`link.peers[2].name` is node-9", "a member of genesis"],
        ),
        (
            "itself as a peer",
            "name = \"node-4\"\n",
            "name = \"node-1\"\n",
            &["`link.peers[2].name` is node-1", "not this one"],
        ),
        ("a key missing", "data_dir = \"data\"\n", "", &["data_dir"]),
        ("no TOML", "[ops]\n", "[ops\n", &["node.toml"]),
        ("a genesis that is not there", "\"genesis.toml\"", "\"no.toml\"", &["no.toml", "No such file"]),
    ];
    refused_before_anything_begins(&mut faults, table);
    let home = Home::new();
    fs::remove_file(home.path("node.toml")).expect("a file");
    faults.look("no file", &home.check(), 4, &["node.toml", "No such file"]);
    fs::create_dir(home.path("node.toml")).expect("a directory");
    faults.look("a directory", &home.check(), 4, &["node.toml", "directory"]);
    faults.none();
}

#[test]
fn a_genesis_that_does_not_serve_is_refused_with_field_value_and_what_was_expected() {
    let mut faults = Faults::default();
    let proof = |n: u8| SecretKey::from_seed(&[n; 32]).prove_possession();
    let public = |n: u8| SecretKey::from_seed(&[n; 32]).public_key().to_string();
    let table: Vec<(&str, String, String, Vec<&str>)> = vec![
        (
            "another's proof",
            proof(3),
            proof(4),
            vec!["`members[2].proof_of_possession`", "node-3", "does not belong"],
        ),
        (
            "a short proof",
            proof(3),
            proof(3)[2..].into(),
            vec!["`members[2].proof_of_possession`", "190", "192"],
        ),
        (
            "a proof that is no point",
            proof(3),
            "11".repeat(96),
            vec!["`members[2].proof_of_possession`", "not valid"],
        ),
        (
            "a key that is no point",
            public(2),
            "11".repeat(48),
            vec!["`members[1].public_key`", "node-2", "not valid"],
        ),
        (
            "the identity as a key",
            public(2),
            format!("c0{}", "00".repeat(47)),
            vec!["`members[1].public_key`", "not valid"],
        ),
        (
            "a name twice",
            "\"node-3\"".into(),
            "\"node-2\"".into(),
            vec!["`members[2].name`", "node-2", "used once"],
        ),
        ("an unknown key", "chain_id".into(), "colour = 1\nchain_id".into(), vec!["genesis.toml", "colour"]),
        ("no chain", "\"cli\"".into(), "\"\"".into(), vec!["`chain_id`", "\"\"", "1 to 64"]),
        (
            "a block time out of range",
            "\"1s\"".into(),
            "\"1ms\"".into(),
            vec!["`block_time`", "1ms", "between 200ms and 60s"],
        ),
    ];
    for (what, good, bad, parts) in table {
        let home = Home::new();
        home.spoil("genesis.toml", &good, &bad);
        faults.look(what, &home.check(), 4, &parts);
        faults.look(what, &home.refused(), 4, &parts);
    }
    let home = Home::new();
    let genesis = home.read("genesis.toml");
    let three = genesis.rfind("\n[[members]]").expect("members");
    home.write("genesis.toml", &genesis[..three]);
    faults.look("three members", &home.check(), 4, &["`members`", "\"3\"", "4 to 64 members"]);
    faults.none();
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let mut faults = Faults::default();
    let home = Home::new();
    let shown = |command: &mut Command| text(&command.output().expect("the node runs").stdout);
    let line = |shown: &str, key: &str| {
        let found = shown.lines().find(|line| line.split_whitespace().next() == Some(key));
        found.unwrap_or_else(|| panic!("{key} in {shown}")).to_owned()
    };
    let plain = shown(&mut home.command(&["config", "show"]));
    for (key, value, source) in [
        ("heartbeat.interval", "\"200ms\"", "# file "),
        ("identity.name", "\"node-1\"", "# file "),
        ("heartbeat.threshold", "8.0", "# default"),
        ("log.level", "\"info\"", "# default"),
        ("link.peers.0.name", "\"node-2\"", "# file "),
    ] {
        let line = line(&plain, key);
        if !(line.contains(value) && line.contains(source)) {
            faults.0.push(format!("{line:?}; expected {value} {source}"));
        }
    }
    let mut command = home.command(&["config", "show", "--log-level", "debug"]);
    command
        .env("ALYS_HEARTBEAT__INTERVAL", "150ms")
        .env("ALYS_LOG__LEVEL", "warn")
        .env("ALYS_DATA_DIR", "elsewhere");
    let overridden = shown(&mut command);
    for (key, value, source) in [
        ("heartbeat.interval", "\"150ms\"", "# environment"),
        ("data_dir", "\"elsewhere\"", "# environment"),
        ("log.level", "\"debug\"", "# flag"),
    ] {
        let line = line(&overridden, key);
        assert!(line.contains(value) && line.contains(source), "{line}");
    }
    for (variable, value, parts) in [
        ("ALYS_HEARTBEAT__INTERVAL", "soon", &["ALYS_HEARTBEAT__INTERVAL", "soon", "environment"] as &[&str]),
        ("ALYS_HEARTBEAT__COLOUR", "1", &["COLOUR", "environment"]),
        ("ALYS_DATA_DIR", "", &["`data_dir` is empty"]),
        ("ALYS_LINK__QUEUE", "7", &["`link.queue` is 7"]),
    ] {
        let output = home.command(&["config", "check"]).env(variable, value).output().expect("the node runs");
        let lower = Output { stderr: text(&output.stderr).to_lowercase().into_bytes(), ..output };
        let parts: Vec<_> = parts.iter().map(|part| part.to_lowercase()).collect();
        faults.look(variable, &lower, 4, &parts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    faults.none();
}

#[test]
fn a_data_directory_whose_name_is_no_text_is_used_as_it_is_or_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let home = Home::new();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let name = elsewhere.path().join(OsStr::from_bytes(b"no-text-\xff"));
    let mut command = home.command(&["config", "check"]);
    let output = command.env("ALYS_DATA_DIR", &name).output().expect("the node runs");
    fails("no text", &output, 4, &["ALYS_DATA_DIR", "no-text-"]);
    assert!(!name.exists() && !home.path("data").exists(), "nothing is begun elsewhere");
}

#[test]
fn a_configuration_that_serves_is_said_to() {
    let home = Home::new();
    let output = home.check();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "node-1 may start on chain cli\n");
    assert!(!home.path("data").exists(), "a check begins nothing");
}

#[test]
fn what_a_service_called_alys_puts_into_the_environment_is_told_and_stops_nothing() {
    let home = Home::new();
    let mut command = command(&["config", "check"]);
    command.env("ALYS_CONFIG_FILE", home.path("node.toml")).env("ALYS_PORT", "tcp://10.0.0.1:80");
    let output = command.env("ALYS_SERVICE_HOST", "10.0.0.1").output().expect("the node runs");
    assert_eq!(text(&output.stdout), "node-1 may start on chain cli\n");
    let said = text(&output.stderr);
    assert!(said.contains("no configuration in the environment: ALYS_PORT, ALYS_SERVICE_HOST;"), "{said}");
}

#[test]
fn a_data_directory_that_is_not_named_in_the_file_is_relative_to_the_working_directory() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().expect("a directory");
    for (flag, variable) in [(Some("7"), None), (None, Some("8"))] {
        let mut command = home.command(&["run"]);
        command.current_dir(elsewhere.path()).env("ALYS_STOP_DEADLINE", "1s").stderr(Stdio::null());
        command.args(flag.into_iter().flat_map(|name| ["--data-dir", name]));
        command.envs(variable.map(|name| ("ALYS_DATA_DIR", name)));
        let mut child = command.spawn().expect("the node runs");
        let made = elsewhere.path().join(flag.or(variable).expect("one of them")).join("incarnation");
        let begun = Instant::now();
        while !made.exists() && begun.elapsed() < DEADLINE {
            sleep(Duration::from_millis(10));
        }
        child.kill().and_then(|()| child.wait()).expect("it is ended");
        assert!(made.exists(), "{}", made.display());
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let mut faults = Faults::default();
    for (arguments, part) in [
        (&["fly"] as &[&str], "fly"),
        (&[], "Usage"),
        (&["run"], "--config"),
        (&["run", "--colour"], "--colour"),
        (&["keys", "generate"], "--out"),
        (&["healthcheck", "--ops", "here"], "here"),
    ] {
        faults.look(&format!("{arguments:?}"), &node(arguments), 2, &[part]);
    }
    let version = node(&["version"]);
    assert_eq!(text(&version.stdout), format!("alys-node {}\n", env!("CARGO_PKG_VERSION")));
    faults.none();
}

#[test]
fn a_second_node_on_the_same_data_or_the_same_port_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let first = home.run().answers();
    let second = home.refused();
    fails("the same data", &second, 4, &["data directory", "data", "in use by another process"]);

    let mut command = home.command(&["run"]);
    command.arg("--data-dir").arg(home.path("other-data"));
    let listen = home.read("node.toml");
    let listen = listen
        .split("listen = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("an address")
        .to_owned();
    fails(
        "the same link port",
        &home.run_with(&mut command).output(),
        4,
        &["`link.listen`", &listen, "in use"],
    );
    command.env("ALYS_LINK__LISTEN", "127.0.0.1:0");
    let ops = home.ops.to_string();
    fails("the same ops port", &home.run_with(&mut command).output(), 4, &["`ops.address`", &ops, "in use"]);

    let mut first = first.answers();
    first.terminate();
    assert_eq!(first.wait().code(), Some(0), "{}", first.said());
}

#[test]
fn a_store_of_another_chain_is_refused_and_serves_its_own_again() {
    let home = Home::new();
    let mut running = home.run().answers();
    running.terminate();
    assert_eq!(running.wait().code(), Some(0));
    home.spoil("genesis.toml", "\"cli\"", "\"another\"");
    fails("another chain", &home.refused(), 4, &["the block store is of the chain with genesis", "expected"]);
    home.spoil("genesis.toml", "\"another\"", "\"cli\"");
    let mut running = home.run().answers();
    running.terminate();
    assert_eq!(running.wait().code(), Some(0));
}

#[test]
fn a_damaged_signer_s_journal_is_refused_and_left_as_it_is() {
    let home = Home::new();
    fs::create_dir(home.path("data")).expect("a directory");
    let damaged = vec![0x5a; 1_000];
    fs::write(home.path("data/signatures.journal"), &damaged).expect("a journal");
    let journal = Journal::read(&home.path("data/signatures.journal"), BlockHash::default());
    assert!(matches!(journal, Err(JournalError::Damaged { .. })), "the journal is damaged: {journal:?}");
    for _ in 0..2 {
        let output = home.refused();
        let advice = ["delete the whole data directory", "never restore an older journal"];
        let parts = ["signatures.journal", "is damaged at byte 0", advice[0], advice[1]];
        fails("a damaged journal", &output, 4, &parts);
        assert_eq!(fs::read(home.path("data/signatures.journal")).expect("a journal"), damaged);
    }
}

#[test]
fn what_a_member_writes_is_its_user_s_alone_whatever_the_umask() {
    let home = Home::new();
    let (program, config) = (env!("CARGO_BIN_EXE_alys-node"), as_text(&home.path("node.toml")));
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" run --config \"$1\"", program, &config]);
    let mut child = command.stderr(Stdio::null()).spawn().expect("the node runs");
    let expected =
        ["chain.redb", "consensus.log", "decisions.jsonl", "incarnation", "lock", "signatures.journal"];
    let begun = Instant::now();
    let is_there = |file: &&str| home.path("data").join(file).exists();
    while !expected.iter().all(is_there) && begun.elapsed() < DEADLINE {
        sleep(Duration::from_millis(10));
    }
    child.kill().and_then(|()| child.wait()).expect("it is ended");
    let mut found: Vec<_> = fs::read_dir(home.path("data"))
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
            (entry.file_name().into_string().expect("text"), mode)
        })
        .collect();
    found.sort();
    assert_eq!(found, expected.map(|file| (file.to_owned(), 0o600)));
    let mode = fs::metadata(home.path("data")).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

/// Runs a command as a user other than root, for whom permissions are enforced; that user gets everything in `home`.
fn as_a_user(home: &Home, command: &mut Command) -> Output {
    const NOBODY: u32 = 65_534;
    let directory = home.directory.path();
    if fs::metadata("/proc/self").expect("this process").uid() == 0 {
        let owner = NOBODY.to_string();
        let owned = Command::new("chown").args(["-R", &owner]).arg(directory).status();
        assert!(owned.is_ok_and(|status| status.success()), "{} is given away", directory.display());
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the node starts");
    // A node that starts is stopped as soon as it answers.
    let until = Instant::now() + DEADLINE;
    let asks = || node(&["healthcheck", "--ops", &home.ops.to_string()]);
    let answers = || !text(&asks().stderr).contains("does not answer");
    while child.try_wait().expect("a status").is_none() && !answers() {
        assert!(Instant::now() < until, "the node neither answers nor ends");
        sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait_with_output().expect("it is ended")
}

#[test]
fn files_of_a_data_directory_of_any_mode_are_used_or_refused_by_name() {
    let home = Home::new();
    drop(home.run().answers());
    let mut faults = Faults::default();
    for file in ["chain.redb", "consensus.log", "signatures.journal"] {
        let path = home.path("data").join(file);
        // The last three modes let other users read the files, which are not secret, or write them, which checksums and
        // peers detect.
        for (mode, is_used) in
            [(0o000, false), (0o400, false), (0o600, true), (0o640, true), (0o644, true), (0o666, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
            for arguments in [&["config", "check"] as &[&str], &["run"]] {
                let output = as_a_user(&home, &mut home.command(arguments));
                let what = format!("{file} of mode {mode:04o} to {arguments:?}");
                match output.status.code() {
                    Some(0) | None if is_used => {}
                    _ if is_used => faults.0.push(format!("{what}: {}", text(&output.stderr))),
                    _ => faults.look(&what, &output, 4, &[file, "Permission denied"]),
                }
            }
            let after = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            // A start rewrites the journal.
            if after != mode && after != 0o600 {
                faults.0.push(format!("{file} of mode {mode:04o} is left with {after:04o}"));
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    }
    faults.none();
}

#[test]
fn a_member_on_a_terminal_writes_in_colour_unless_it_is_told_not_to() {
    let home = Home::new();
    // The output before the error is enough.
    home.write("data", "no directory");
    let run = format!("exec '{}' run --config node.toml", env!("CARGO_BIN_EXE_alys-node"));
    for (no_color, is_coloured) in [(None, true), (Some(""), true), (Some("1"), false)] {
        // `script` runs a program on a terminal.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &run, "/dev/null"]).current_dir(home.directory.path()).stdin(Stdio::null());
        terminal.env_remove("NO_COLOR").env("ALYS_PORT", "tcp://10.0.0.1:80").env("TERM", "xterm");
        terminal.envs(no_color.map(|value| ("NO_COLOR", value)));
        let Ok(output) = terminal.output() else {
            assert!(
                std::env::var_os("ALYS_CI_STRICT").is_none_or(|value| value != "1"),
                "there is no `script`"
            );
            return println!("skipped: there is no `script`");
        };
        let said = text(&output.stdout);
        assert!(said.contains("ALYS_PORT") && said.contains("data directory"), "{said:?}");
        assert_eq!(said.contains('\u{1b}'), is_coloured, "NO_COLOR {no_color:?}: {said:?}");
    }
}

#[test]
fn an_emptied_journal_is_refused_and_a_loss_of_memory_is_an_operator_s_to_accept() {
    let home = Home::new();
    fs::create_dir(home.path("data")).expect("a directory");
    let journal = home.path("data/signatures.journal");
    fs::write(&journal, []).expect("emptied");
    let parts = ["signatures.journal", "is empty", "delete the whole data directory"];
    fails("an emptied journal", &home.refused(), 4, &parts);
    fails("an emptied journal", &home.check(), 4, &parts);
    let accept = || home.command(&["accept-memory-loss"]).output().expect("the node runs");
    fails("an emptied journal", &accept(), 4, &parts);
    fs::remove_file(&journal).expect("removed");
    // Without a block, blocks from peers could later contain signatures that were not accepted.
    fails("no block", &accept(), 4, &["node-1 has no block", "start it first, so that it fetches the chain"]);
    let identity = guard::identity(home.genesis().hash(), &SecretKey::from_seed(&[1; 32]).public_key());
    let mut own = Journal::open(&journal, identity, 0, JournalMark::default()).expect("opens");
    own.set_floor(0).expect("kept");
    drop(own);
    let again = accept();
    assert_eq!(text(&again.stdout), "node-1 remembers what it signed; there is nothing to accept\n");
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_backup_goes_into_no_directory_whose_journal_remembers_or_is_another_s() {
    let home = Home::new();
    let backup =
        || home.command(&["backup"]).arg("--out").arg(home.path("copy")).output().expect("the node runs");
    fails("nobody answers", &backup(), 4, &["does not answer"]);
    let journal = home.path("copy/signatures.journal");
    let identity = |n| guard::identity(home.genesis().hash(), &SecretKey::from_seed(&[n; 32]).public_key());
    let mut own =
        Journal::open(&journal, identity(1), 0, JournalMark::default()).expect("a new one is there");
    own.set_floor(3).expect("kept");
    drop(own);
    fails(
        "it remembers",
        &backup(),
        4,
        &["signatures.journal remembers signatures", "never a copy of a data"],
    );
    Journal::create(&journal, identity(2)).expect("made");
    fails("another's", &backup(), 4, &["signatures.journal is of another member"]);
}

#[test]
fn of_backups_into_one_new_directory_one_is_made_and_others_are_refused_by_name() {
    let home = Home::new();
    let mut running = home.run().answers();
    for round in 0..8 {
        let copy = home.path(&format!("copy-{round}"));
        let start = || {
            let mut command = home.command(&["backup"]);
            command.arg("--out").arg(&copy).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("the node runs")
        };
        let started: Vec<_> = (0..4).map(|_| start()).collect();
        let ended = started.into_iter().map(|backup| backup.wait_with_output().expect("it ends"));
        let (made, refused): (Vec<_>, Vec<_>) = ended.partition(|output| output.status.success());
        assert!(!made.is_empty(), "{refused:?}");
        for output in refused {
            fails("beside another", &output, 4, &["is in use by another process"]);
        }
        let names = fs::read_dir(&copy).expect("a directory").flatten().map(|entry| entry.file_name());
        let names: BTreeSet<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), ["chain.redb", "lock", "signatures.journal"]);
    }
    running.terminate();
    assert_eq!(running.wait().code(), Some(0), "{}", running.said());
}

#[test]
fn signals_that_whoever_starts_a_member_has_blocked_are_obeyed() {
    let home = Home::new();
    let mut blocked = Command::new("env");
    blocked.args(["--block-signal=TERM", "--block-signal=USR1"]).arg(env!("CARGO_BIN_EXE_alys-node"));
    blocked.args(["run", "--config"]).arg(home.path("node.toml"));
    let mut running = home.run_with(&mut blocked).answers();
    running.terminate();
    assert_eq!(running.wait().code(), Some(0), "{}", running.said());
}

#[test]
fn a_refusal_to_start_is_told_in_one_sentence_and_is_not_called_a_panic() {
    let home = Home::new();
    fs::create_dir(home.path("data")).expect("a directory");
    fs::write(home.path("data/signatures.journal"), vec![0x5a; 1_000]).expect("a journal");
    let said = text(&home.refused().stderr);
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn other_damaged_files_of_the_data_directory_are_refused_with_their_names() {
    let mut faults = Faults::default();
    for (file, bytes, parts) in [
        ("incarnation", b"many".to_vec(), &["incarnation", "many", "expected a number"] as &[&str]),
        ("chain.redb", vec![0x5a; 8_192], &["the block store"]),
        ("consensus.log", vec![0x5a; 1_000], &["consensus.log"]),
    ] {
        let home = Home::new();
        fs::create_dir(home.path("data")).expect("a directory");
        fs::write(home.path("data").join(file), &bytes).expect("a file");
        faults.look(file, &home.refused(), 4, parts);
        assert_eq!(fs::read(home.path("data").join(file)).expect("a file"), bytes, "{file} is unchanged");
    }
    let home = Home::new();
    fs::write(home.path("data"), "a file").expect("a file");
    faults.look("no directory", &home.refused(), 4, &["data directory"]);
    faults.none();
}

#[test]
fn a_healthcheck_says_that_nobody_answers_or_why_the_member_is_not_ready() {
    let home = Home::new();
    let nobody = node(&["healthcheck", "--ops", &home.ops.to_string()]);
    fails("nobody", &nobody, 3, &[&home.ops.to_string(), "does not answer"]);
    let running = home.run().answers();
    let alone = running.healthcheck();
    assert_eq!(alone.status.code(), Some(3));
    assert!(text(&alone.stdout).starts_with("not ready: the gate is closed"), "{}", text(&alone.stdout));
    let by_environment = command(&["healthcheck"]).env("ALYS_OPS__ADDRESS", home.ops.to_string()).output();
    assert_eq!(by_environment.expect("it runs").status.code(), Some(3));
}

#[test]
fn what_a_member_says_is_shown_and_not_obeyed() {
    let listener = free_port();
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let _ = stream.read(&mut [0; 1_024]);
        let body = r#"{"ready":false,"reasons":["\u001b[2Jgone\u0007"]}"#;
        let head = format!(
            "HTTP/1.1 503 No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).expect("sent");
    });
    let shown = text(&node(&["healthcheck", "--url", &format!("http://{address}")]).stdout);
    assert_eq!(shown, "not ready:  [2Jgone \n");
}

#[test]
fn a_member_is_asked_itself_whatever_proxy_the_environment_names() {
    let home = Home::new();
    let ops = home.ops.to_string();
    let _running = home.run().answers();
    let proxied = |arguments: &[&str]| {
        let mut command = command(arguments);
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env(name, "http://127.0.0.1:1");
        }
        command.output().expect("it runs")
    };
    let asked = proxied(&["healthcheck", "--ops", &ops]);
    assert!(text(&asked.stdout).starts_with("not ready"), "{}", text(&asked.stderr));
    let listed = proxied(&["actors", "--ops", &ops]);
    assert_eq!(listed.status.code(), Some(0), "{}", text(&listed.stderr));
    let seen = proxied(&["top", "--once", "--url", &ops]);
    assert!(!text(&seen.stdout).contains("does not answer:"), "{}", text(&seen.stdout));
}

#[test]
fn the_actors_of_a_running_member_are_listed_as_a_table_or_as_json_and_a_wrong_query_is_told() {
    let home = Home::new();
    let ops = home.ops.to_string();
    let actors = |arguments: &[&str]| node(&[&["actors", "--ops", &ops], arguments].concat());
    fails("nobody", &actors(&[]), 4, &[&ops, "does not answer"]);
    let _running = home.run().answers();

    let table = text(&actors(&["tag=storage or name=lo*", "--explain"]).stdout);
    let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0][..5], ["NAME", "TYPE", "PRIORITY", "STATE", "HEALTH"], "{table}");
    assert_eq!(lines[1][..4], ["chain", "ChainActor", "critical", "active"], "{table}");
    assert_eq!(lines[2][..4], ["logging", "LoggingActor", "background", "active"], "{table}");
    assert!(table.contains("plan: begin with everybody"), "{table}");
    let page = text(&actors(&["--limit", "1", "--order", "name"]).stdout);
    assert!(page.contains("1 of ") && page.contains("more with --after 0:background"), "{page}");
    let next = text(&actors(&["--limit", "1", "--after", "0:background"]).stdout);
    assert!(next.contains("\nchain "), "{next}");
    let whole = text(&actors(&["@federation-signature", "--federation"]).stdout);
    assert!(whole.starts_with("MEMBER") && whole.contains("consensus"), "{whole}");

    let json = text(&actors(&["@block-production", "--output", "json"]).stdout);
    for part in
        ["\"matched\":2", "\"name\":\"consensus\"", "\"name\":\"engine\"", "\"actor_type\":\"EngineActor\""]
    {
        assert!(json.contains(part), "{part} in {json}");
    }
    for (arguments, parts) in [
        (
            &["colour=red"] as &[&str],
            ["field `query`: at character 0: found \"colour\"", "expected name, type"],
        ),
        (&["--limit", "0"], ["field `limit`: the limit is 0", "expected 1 to 1000"]),
        (&["--order", "colour"], ["field `order`: the order is \"colour\"", "expected name, priority"]),
        (&["--output", "poem"], ["poem", "table, json"]),
    ] {
        fails(&arguments.join(" "), &actors(arguments), 2, &parts);
    }
}

#[test]
fn a_node_ends_with_zero_when_told_to_and_with_its_parent_when_asked_to() {
    let home = Home::new();
    let mut running = home.run().answers();
    // By default a closed standard input does not matter.
    drop(running.child.stdin.take());
    sleep(Duration::from_millis(100));
    assert!(!text(&running.healthcheck().stderr).contains("does not answer"));
    running.terminate();
    let status = running.wait();
    let said = running.said();
    assert_eq!(status.code(), Some(0), "{said}");
    for part in ["SIGTERM", "stopped", "\"in_time\":true"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }

    let mut running = home.run_with(home.command(&["run"]).arg("--exit-with-parent")).answers();
    drop(running.child.stdin.take());
    assert_eq!(running.wait().code(), Some(1));
}

#[test]
fn a_member_is_asked_to_leave_with_its_token_and_watched_until_it_is_gone() {
    let home = Home::new();
    home.write("token", "a-token-for-tests-only");
    let mode = |mode: &str| {
        let changed = Command::new("chmod").arg(mode).arg(home.path("token")).status();
        assert!(changed.expect("chmod runs").success());
    };
    home.spoil("node.toml", "[ops]\n", "[ops]\ntoken_file = \"token\"\n");
    mode("644");
    fails("a token for everybody", &home.check(), 4, &["ops.token_file", "has mode 0644; expected 0600"]);
    mode("600");
    let mut running = home.run().answers();
    let (ops, token) = (home.ops.to_string(), as_text(&home.path("token")));
    home.write("other", "another-token-for-tests");
    let other = as_text(&home.path("other"));
    let chmod = Command::new("chmod").arg("600").arg(&other).status();
    assert!(chmod.expect("chmod runs").success());
    let stranger = node(&["shutdown", "--ops", &ops, "--token-file", &other]);
    fails("a stranger", &stranger, 1, &["does not carry this member's token"]);
    let asked =
        node(&["shutdown", "--ops", &ops, "--token-file", &token, "--wait", "--reason", "an upgrade"]);
    let said = text(&asked.stdout);
    assert_eq!(asked.status.code(), Some(0), "{said} {}", text(&asked.stderr));
    for part in ["node-1 leaves: an upgrade", "finish the height: done", "node-1 is gone"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(running.wait().code(), Some(0));
    let nobody = node(&["shutdown", "--ops", &ops, "--token-file", &token]);
    fails("nobody", &nobody, 4, &["does not answer"]);
}

/// Waits until `file` is larger than `size` bytes, and returns its size.
fn grown(file: &Path, size: u64) -> u64 {
    let until = Instant::now() + DEADLINE;
    loop {
        let found = fs::metadata(file).map_or(0, |metadata| metadata.len());
        if found > size {
            return found;
        }
        assert!(Instant::now() < until, "{} does not grow beyond {size} bytes", file.display());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_decisions_of_a_killed_process_replay_and_a_doctored_one_is_found() {
    let home = Home::new();
    let log = home.path("data").join("decisions.jsonl");
    let replay = || node(&["decisions", "replay", "--data-dir", &as_text(&home.path("data"))]);
    fails("no log", &replay(), 4, &["data", "decisions.jsonl is missing"]);
    fails("no place", &node(&["decisions", "replay"]), 2, &["--config", "--data-dir"]);

    let mut size = 0;
    for kills in 1..=3 {
        let mut running = home.run();
        size = grown(&log, size);
        running.child.kill().expect("SIGKILL");
        running.wait();
        let output = replay();
        let said = text(&output.stdout);
        assert!(output.status.success(), "after {kills}: {said}");
        assert!(said.contains(&format!("of {kills} starts, taken again with the same bytes")), "{said}");
        size = size.max(fs::metadata(&log).expect("a file").len());
    }
    let output = home.command(&["decisions", "replay"]).output().expect("the node runs");
    assert!(output.status.success(), "by its configuration: {}", text(&output.stderr));

    let whole = fs::read_to_string(&log).expect("a file");
    fs::write(&log, &whole[..whole.len() - 20]).expect("torn");
    let output = replay();
    assert!(output.status.success() && text(&output.stdout).contains("the last line is unfinished"));

    let lines: Vec<_> = whole.lines().collect();
    let last = lines.len();
    // No other member ran: one member is healthy, and the gate is closed.
    let doctored = [("\"decision\":\"closed\"", "\"decision\":\"open\""), ("\"healthy\":", "\"healthy\":1")];
    for (from, to) in doctored {
        // The last occurrence belongs to the outcome.
        let at = lines[last - 1].rfind(from).expect("it stands there");
        let mut line = lines[last - 1].to_owned();
        line.replace_range(at..at + from.len(), to);
        fs::write(&log, [&lines[..last - 1], &[line.as_str()]].concat().join("\n") + "\n").expect("doctored");
        let output = replay();
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{from}: {said}");
        let finding = format!("decisions.jsonl, line {last} is otherwise than its inputs say");
        assert!(said.contains(&finding), "{from}: {said}");
    }
}

#[test]
fn a_member_that_is_told_to_stop_while_it_starts_does() {
    let home = Home::new();
    fs::create_dir(home.path("data")).expect("a directory");
    let pipe = home.path("data/incarnation");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let mut running = home.run();
    // The start blocks while reading the pipe. Opening the pipe for writing succeeds once the start reads it.
    let until = Instant::now() + DEADLINE;
    let _held = loop {
        let opened = fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&pipe);
        if let Ok(writer) = opened {
            break writer;
        }
        assert!(Instant::now() < until, "the start does not get that far");
        sleep(Duration::from_millis(10));
    };
    running.terminate();
    let status = running.wait();
    let said = running.said();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("told to stop before the start was over"), "{said}");
}

#[test]
fn a_token_is_sent_over_no_network_unless_that_is_said() {
    let home = Home::new();
    home.write("token", "a-token-for-tests-only");
    let token = as_text(&home.path("token"));
    let chmod = Command::new("chmod").arg("600").arg(&token).status();
    assert!(chmod.expect("chmod runs").success());
    // An address reserved for documentation, which does not answer.
    let far = ["shutdown", "--ops", "192.0.2.1:3000", "--token-file", &token];
    fails("a far address", &node(&far), 4, &["is http://192.0.2.1:3000;", "loopback", "`--insecure`"]);
    let insecure = node(&[&far[..], &["--insecure"]].concat());
    fails("said so", &insecure, 4, &["192.0.2.1:3000 does not answer"]);
}

/// Four members with a token, each in its own process.
struct Four {
    home: Home,
    ops: Vec<SocketAddr>,
}

impl Four {
    fn new() -> Self {
        let home = Home::new();
        home.write("token", "a-token-for-tests-only");
        let chmod = Command::new("chmod").arg("600").arg(home.path("token")).status();
        assert!(chmod.expect("chmod runs").success());
        let taken: Vec<_> = (0..8).map(|_| free_port()).collect();
        let ports: Vec<_> = taken.iter().map(|l| l.local_addr().expect("an address")).collect();
        for n in 1..=4_usize {
            let key = format!("member-{n}.key");
            SecretKey::from_seed(&[n as u8; 32]).write(&home.path(&key)).expect("a key file");
            let peers: String =
                (1..=4).filter(|other| *other != n).map(|other| peer(other, ports[other - 1])).collect();
            let (link, ops) = (ports[n - 1], ports[n + 3]);
            home.write(
                &format!("member-{n}.toml"),
                &format!(
                    "genesis_file = \"genesis.toml\"\ndata_dir = \"data-{n}\"\n\n\
                     [identity]\nname = \"node-{n}\"\nkey_file = \"{key}\"\n\n\
                     [ops]\naddress = \"{ops}\"\ntoken_file = \"token\"\n\n[link]\nlisten = \"{link}\"\n{peers}"
                ),
            );
        }
        Self { home, ops: ports[4..].to_vec() }
    }

    fn run(&self, n: usize) -> Running {
        let mut command = command(&["run", "--config"]);
        command.arg(self.home.path(&format!("member-{n}.toml")));
        let mut running = self.home.run_with(&mut command);
        running.ops = self.ops[n - 1];
        running.answers()
    }

    fn get<T: serde::de::DeserializeOwned>(&self, n: usize, path: &str) -> T {
        let mut answer = ureq::get(format!("http://{}{path}", self.ops[n - 1])).call().expect("an answer");
        answer.body_mut().read_json().expect("it makes sense")
    }

    /// Waits until the gate of a member is open with this number of healthy members.
    fn opens(&self, n: usize, healthy: usize) {
        let until = Instant::now() + DEADLINE;
        loop {
            let gate: GateView = self.get(n, "/federation/gate");
            if gate.decision == GateDecision::Open && gate.healthy == healthy {
                return;
            }
            assert!(Instant::now() < until, "{} of node-{n}: {}", gate.decision, gate.reason);
            sleep(Duration::from_millis(20));
        }
    }

    fn shutdown(&self, n: usize, arguments: &[&str]) -> Output {
        let (ops, token) = (self.ops[n - 1].to_string(), as_text(&self.home.path("token")));
        node(&[&["shutdown", "--ops", &ops, "--token-file", &token], arguments].concat())
    }
}

#[test]
fn the_third_healthy_process_refuses_sigterm_and_obeys_a_second_one_or_force() {
    let four = Four::new();
    let mut members: Vec<_> = (1..=4).map(|n| four.run(n)).collect();
    (1..=4).for_each(|n| four.opens(n, 4));
    members[3].terminate();
    assert_eq!(members[3].wait().code(), Some(0));
    four.opens(3, 3);

    let refused = |n: usize| {
        let until = Instant::now() + DEADLINE;
        loop {
            let view: ShutdownView = four.get(n, "/shutdown");
            assert_eq!(view.state, "running", "{}", view.reason);
            if view.refusal.contains("3 members are healthy, 3 are required, and without this one 2 would") {
                return;
            }
            assert!(Instant::now() < until, "no refusal, but {:?}", view.refusal);
            sleep(Duration::from_millis(10));
        }
    };
    members[2].terminate();
    refused(3);
    // A signal repeated within a second counts as the same one.
    members[2].terminate();
    sleep(INSISTS_AFTER);
    refused(3);
    members[2].terminate();
    assert_eq!(members[2].wait().code(), Some(0));
    let said = members[2].said();
    for part in ["not stopping: refused: 3 members are healthy", "SIGTERM", "\"in_time\":true"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }

    members[2] = four.run(3);
    four.opens(3, 3);
    fails(
        "a call without force",
        &four.shutdown(3, &[]),
        1,
        &["without this one 2 would be left", "`force`"],
    );
    refused(3);
    let forced = four.shutdown(3, &["--force", "--wait"]);
    let said = text(&forced.stdout);
    assert_eq!(forced.status.code(), Some(0), "{said} {}", text(&forced.stderr));
    for part in ["stop actors: done", "node-3 is gone"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert_eq!(members[2].wait().code(), Some(0));
}

#[test]
fn a_testnet_is_made_of_members_whose_configurations_hold_and_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = as_text(directory.path());
    let made = node(&["testnet", "init", "--out", &out]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for n in 1..=4 {
        let config = as_text(&directory.path().join(format!("node-{n}/node.toml")));
        let checked = node(&["config", "check", "--config", &config]);
        assert!(checked.status.success(), "{}", text(&checked.stderr));
        assert!(text(&checked.stdout).contains(&format!("node-{n} may start on chain alys-testnet")));
    }
    fails("again", &node(&["testnet", "init", "--out", &out]), 4, &["node-1 is not empty", "--if-missing"]);
    let kept = node(&["testnet", "init", "--out", &out, "--if-missing"]);
    assert!(kept.status.success() && text(&kept.stdout).contains("kept"), "{}", text(&kept.stderr));
    let other = as_text(&directory.path().join("other"));
    let wrong = node(&["testnet", "init", "--out", &other, "--members", "3"]);
    fails("too few", &wrong, 4, &["`--members` is 3", "4 to 64"]);
    let wrong = node(&["testnet", "init", "--out", &other, "--owner", "nobody"]);
    fails("no owner", &wrong, 2, &["--owner", "65532:65532"]);
}
