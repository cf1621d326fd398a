//! Runs a member as a process of its own, in a federation whose other members may run in this process.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use alys_node::config::NodeConfig;
use alys_node::genesis::{GenesisFile, GenesisMember};
use alys_node::keys::SecretKey;

use crate::federation::{Federation, Member};

/// Path of the `alys-node` executable, built with these tests.
///
/// # Panics
///
/// If it does not exist.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("this executable has a path");
    let binary = own.parent().and_then(|deps| deps.parent()).expect("a target directory").join("alys-node");
    assert!(binary.is_file(), "there is no {}; expected it to be built with the workspace", binary.display());
    binary
}

/// Resident memory of a process, in bytes.
///
/// # Panics
///
/// If there is no such process.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it uses memory");
    kib.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1_024
}

/// Addresses on which a process listens.
///
/// # Panics
///
/// If there is no such process, or `/proc` cannot be read.
pub fn listeners(pid: u32) -> BTreeSet<SocketAddr> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there");
    let own: BTreeSet<PathBuf> = files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect();
    let table = |name| fs::read_to_string(format!("/proc/{pid}/net/{name}")).expect("its sockets");
    let of = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        let is_own = own.contains(Path::new(&format!("socket:[{}]", fields.get(9)?)));
        let address = socket_address(address, u16::from_str_radix(port, 16).ok()?)?;
        (is_own && fields[3] == "0A").then_some(address)
    };
    let tables = [table("tcp"), table("tcp6")];
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(of).collect()
}

/// Parses an address as proc(5) writes it: words of 32 bits, each in native byte order.
fn socket_address(hex: &str, port: u16) -> Option<SocketAddr> {
    let words = hex.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let ip = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
    let ip = ip.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from)).ok()?;
    Some(SocketAddr::new(ip, port))
}

/// A member as a process of its own. Dropping it kills the process.
pub struct Process {
    child: Child,
    home: PathBuf,
}

impl Process {
    /// Starts a member of a federation.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(federation: &Federation, index: usize) -> Self {
        Self::start_with(federation, index, &[])
    }

    /// Starts a member with additional environment variables.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start_with(federation: &Federation, index: usize, environment: &[(&str, &str)]) -> Self {
        Self::start_by(federation, index, |command| {
            command.envs(environment.iter().copied());
        })
    }

    /// Starts a member with a command that `change` modifies first, for example to redirect its output.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start_by(federation: &Federation, index: usize, change: impl FnOnce(&mut Command)) -> Self {
        let member = &federation.members[index];
        let home = member.config.data_dir.parent().expect("a directory").to_owned();
        let of = |number: u8, member: &Member| {
            let key = SecretKey::from_seed(&[number; 32]);
            let (public_key, proof_of_possession) = (key.public_key().to_string(), key.prove_possession());
            GenesisMember { name: member.name.clone(), public_key, proof_of_possession }
        };
        let members = (1..).zip(&federation.members).map(|(number, member)| of(number, member));
        let genesis = GenesisFile {
            chain_id: federation.genesis.chain_id().to_owned(),
            block_time: federation.genesis.block_time(),
            members: members.collect(),
        };
        let (genesis_file, config_file) = (home.join("genesis.toml"), home.join("node.toml"));
        fs::write(&genesis_file, toml::to_string(&genesis).expect("TOML")).expect("a file");
        let config = NodeConfig { genesis_file, ..member.config.clone() };
        fs::write(&config_file, toml::to_string(&config).expect("TOML")).expect("a file");
        let log = fs::File::create(home.join("node.log")).expect("a file");
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&config_file).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        change(&mut command);
        Self { child: command.spawn().expect("it starts"), home }
    }

    /// Starts a copy of a member's current directory on other addresses.
    ///
    /// # Panics
    ///
    /// If it cannot be copied or started.
    pub fn start_copy(
        federation: &Federation,
        index: usize,
        from: &Path,
        link: SocketAddr,
        ops: SocketAddr,
    ) -> Self {
        let home = from.with_extension("copy");
        let copied = Command::new("cp").arg("-r").args([from, &home]).status();
        assert!(copied.is_ok_and(|status| status.success()), "{} is copied", from.display());
        let mut config = federation.members[index].config.clone();
        config.genesis_file = home.join("genesis.toml");
        config.data_dir = home.join(config.data_dir.file_name().expect("a directory"));
        config.link.listen = link;
        config.ops.address = ops;
        let config_file = home.join("node.toml");
        fs::write(&config_file, toml::to_string(&config).expect("TOML")).expect("a file");
        let log = fs::File::create(home.join("node.log")).expect("a file");
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&config_file).stdin(Stdio::null());
        let command = command.stdout(log.try_clone().expect("a file")).stderr(log);
        Self { child: command.spawn().expect("it starts"), home }
    }

    /// Directory of its configuration, its data, and `node.log`, its whole output.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its output so far.
    ///
    /// # Panics
    ///
    /// If the output is not UTF-8.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("node.log")).expect("what it wrote is text")
    }

    /// Exit status; `None` while it runs.
    ///
    /// # Panics
    ///
    /// If the operating system does not report it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is a child of this process")
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// If it cannot be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "{name} is sent");
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors are ignored: the process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
