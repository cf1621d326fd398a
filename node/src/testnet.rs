//! Writes the files of a testnet: keys, one genesis, and a configuration for each member.
//!
//! ```text
//! node-1/  genesis.toml  node.toml  member.key  token  data/
//! node-2/  …
//! ```
//!
//! Each member's directory is complete, so that a container can be given its own and no other member's key. Existing
//! files are never overwritten: a member whose key is lost is lost.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_cluster::federation::HeartbeatConfig;
use rand::Rng as _;
use thiserror::Error;
use toml::{Table, Value};

use crate::config::{ConfigError, NodeConfig, Overrides};
use crate::genesis::{Genesis, GenesisError, GenesisFile, GenesisMember, MEMBERS_MAX, MEMBERS_MIN};
use crate::keys::{KeyError, SecretKey};
use crate::storage::files::sync_directory;

/// File that marks a member's directory as complete: it is written last.
const CONFIG: &str = "node.toml";

/// Parameters of a testnet.
#[derive(Clone, Debug)]
pub struct Testnet {
    /// Number of members, 4 to 64.
    pub members: usize,
    /// Chain id.
    pub chain_id: String,
    /// Time between blocks.
    pub block_time: Duration,
    /// Address of the first member. On loopback all members share it and their ports count up; otherwise each member
    /// has the next address, all have the same ports, and their ops APIs are exposed.
    pub first_address: Ipv4Addr,
    /// Link port; on loopback, that of the first member.
    pub link_port: u16,
    /// Port of the ops API; on loopback, that of the first member.
    pub ops_port: u16,
    /// User and group id of all files; `None` keeps the current user.
    pub owner: Option<(u32, u32)>,
}

/// Why a testnet was not written.
#[derive(Debug, Error)]
pub enum TestnetError {
    /// A value is out of range, or two values contradict each other. Nothing was written.
    #[error("`{field}` is {value}; expected {expected}")]
    Field {
        /// Name of the command-line option.
        field: &'static str,
        /// Value found.
        value: String,
        /// Values that are accepted.
        expected: String,
    },
    /// A member's directory is not empty. Nothing was written.
    #[error(
        "directory {0} is not empty; expected a new or an empty one (with `--if-missing`, a whole testnet is kept)"
    )]
    Occupied(PathBuf),
    /// Some members exist and others do not. Nothing was written.
    #[error("{complete} of {members} members have a {CONFIG} in {out}; expected all, to be kept, or none")]
    Incomplete {
        /// Directory of the testnet.
        out: PathBuf,
        /// Number of complete members.
        complete: usize,
        /// Number of members expected.
        members: usize,
    },
    /// Writing a file or directory failed.
    #[error("{path}: {source}")]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A key could not be written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The genesis built from these values is rejected.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A configuration built from these values is rejected.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Subdirectory of a member's directory that holds its files until all of them are written.
const DRAFT: &str = ".draft";
/// Name that the draft gets once the drafts of all members are complete: a later run that finds one can finish what a
/// killed process started.
const WHOLE: &str = ".whole";
/// Lock file, used where the directory itself cannot be locked.
const LOCK: &str = ".lock";

/// Lock that excludes other writers of the same testnet.
struct Alone {
    _locked: fs::File,
    made: Option<PathBuf>,
}

impl Alone {
    /// Creates the directory if it is missing, and waits for the lock.
    fn of(out: &Path, lock: impl Fn(&fs::File) -> io::Result<()>) -> io::Result<Self> {
        loop {
            fs::create_dir_all(out)?;
            match Self::once(out, &lock) {
                Ok(Some(alone)) => return Ok(alone),
                // The previous holder removed the lock file or the directory; try again.
                Ok(None) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn once(out: &Path, lock: impl Fn(&fs::File) -> io::Result<()>) -> io::Result<Option<Self>> {
        let directory = fs::File::open(out)?;
        // Network file systems lock only files that are open for writing, which a directory never is. Elsewhere the
        // directory itself is locked: this leaves no file behind and works without write permission, as members'
        // directories may be mounts.
        let (locked, made) = if lock(&directory).is_ok() {
            (directory, None)
        } else {
            let path = out.join(LOCK);
            let file =
                fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            lock(&file)?;
            (file, Some(path))
        };
        let (own, there) = (locked.metadata()?, fs::metadata(made.as_deref().unwrap_or(out))?);
        let is_there = (own.dev(), own.ino()) == (there.dev(), there.ino());
        // Created only if the locked file still exists: dropping it removes the file at this path.
        Ok(is_there.then(|| Self { _locked: locked, made }))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Removed while still locked: the next waiter detects that the file is gone and creates another.
        if let Some(made) = &self.made {
            let _ = fs::remove_file(made);
        }
    }
}

/// Paths and addresses of a member to be written.
struct MemberFiles {
    name: String,
    home: PathBuf,
    link: SocketAddr,
    ops: SocketAddr,
}

impl Testnet {
    /// Writes the testnet below `out`, each member into a new or empty directory of its own. On an error, nothing of it
    /// is left.
    pub fn write(&self, out: &Path) -> Result<(), TestnetError> {
        self.validate()?;
        Self::alone_in(out, || self.write_alone(out))
    }

    /// Runs `work` under the lock. On an error, a directory that was created for it is removed.
    fn alone_in<T>(out: &Path, work: impl FnOnce() -> Result<T, TestnetError>) -> Result<T, TestnetError> {
        let is_new = !out.exists();
        let alone = Alone::of(out, fs::File::lock);
        let alone = alone.map_err(|source| TestnetError::File { path: out.into(), source })?;
        let done = work();
        drop(alone);
        if done.is_err() && is_new {
            let _ = fs::remove_dir(out);
        }
        done
    }

    fn write_alone(&self, out: &Path) -> Result<(), TestnetError> {
        let places = self.places(out);
        let keys: Vec<_> = places.iter().map(|_| SecretKey::generate()).collect();
        let members = places.iter().zip(&keys).map(|(place, key)| GenesisMember {
            name: place.name.parse().expect("node-N is a name"),
            public_key: key.public_key().to_string(),
            proof_of_possession: key.prove_possession(),
        });
        let genesis = GenesisFile {
            chain_id: self.chain_id.clone(),
            block_time: self.block_time,
            members: members.collect(),
        };
        Genesis::check(&genesis)?;
        let genesis = toml::to_string(&genesis).expect("a genesis has a TOML form");
        for place in &places {
            // A draft is the remainder of a process that was killed.
            let is_thing =
                |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() != DRAFT);
            if fs::read_dir(&place.home).is_ok_and(|mut entries| entries.any(is_thing)) {
                return Err(TestnetError::Occupied(place.home.clone()));
            }
        }
        let made: Vec<_> = places.iter().filter(|place| !place.home.exists()).collect();
        let written = self.write_whole(&places, &genesis, &keys);
        if written.is_err() {
            // Before, these directories, which may be mounts, contained nothing but drafts.
            for place in &places {
                empty(&place.home);
            }
            for place in made {
                let _ = fs::remove_dir(&place.home);
            }
        }
        written
    }

    /// Writes each member into a draft in its directory; once all drafts are complete and synced, moves the files into
    /// place.
    fn write_whole(
        &self,
        places: &[MemberFiles],
        genesis: &str,
        keys: &[SecretKey],
    ) -> Result<(), TestnetError> {
        for (place, key) in places.iter().zip(keys) {
            empty(&place.home);
            self.write_member(&place.home.join(DRAFT), place, places, genesis, key)?;
        }
        self.finish(places)
    }

    /// Moves the files of complete drafts into place.
    fn finish(&self, places: &[MemberFiles]) -> Result<(), TestnetError> {
        let failed = |place: &MemberFiles, source| TestnetError::File { path: place.home.clone(), source };
        for place in places.iter().filter(|place| place.home.join(DRAFT).exists()) {
            let renamed = fs::rename(place.home.join(DRAFT), place.home.join(WHOLE));
            renamed.and_then(|()| sync_directory(&place.home.join(WHOLE))).map_err(|e| failed(place, e))?;
        }
        for place in places.iter().filter(|place| place.home.join(WHOLE).exists() || !self.is_given(place)) {
            self.move_in(&place.home).map_err(|e| failed(place, e))?;
        }
        Ok(())
    }

    /// Whether a member's directory has the intended owner; it gets its owner last.
    fn is_given(&self, place: &MemberFiles) -> bool {
        let owner = |found: fs::Metadata| (found.uid(), found.gid());
        self.owner.is_none_or(|wanted| fs::metadata(&place.home).is_ok_and(|found| owner(found) == wanted))
    }

    /// Moves the files of a member's draft, if there is one, into its directory, the configuration last, which marks it
    /// as complete. Then sets the owner of everything, the directory last.
    fn move_in(&self, home: &Path) -> io::Result<()> {
        let draft = home.join(WHOLE);
        let is_draft = draft.exists();
        if is_draft {
            let mut names = names_in(&draft)?;
            names.sort_by_key(|name| name == CONFIG);
            for name in &names {
                fs::rename(draft.join(name), home.join(name))?;
            }
        }
        if let Some((user, group)) = self.owner {
            for name in names_in(home)?.into_iter().filter(|name| name != WHOLE) {
                chown(home.join(name), Some(user), Some(group))?;
            }
        }
        // As long as the draft exists, the next run knows that this is not finished.
        if is_draft {
            fs::remove_dir(&draft)?;
        }
        // Last: afterwards the process may not be allowed to change the directory. Its owner shows whether this step
        // was done.
        if let Some((user, group)) = self.owner {
            chown(home, Some(user), Some(group))?;
        }
        sync_directory(&home.join(CONFIG))?;
        sync_directory(home)
    }

    /// Writes the testnet if no member exists, or finishes an interrupted one; returns whether it wrote anything.
    pub fn write_if_missing(&self, out: &Path) -> Result<bool, TestnetError> {
        self.validate()?;
        let places = self.places(out);
        let complete = || places.iter().filter(|place| place.home.join(CONFIG).exists()).count();
        let is_begun = || places.iter().any(|place| place.home.join(WHOLE).exists());
        let is_given = || places.iter().all(|place| self.is_given(place));
        let is_whole = || complete() == places.len() && !is_begun() && is_given();
        // A testnet that is kept does not have to be writable.
        if is_whole() {
            return Ok(false);
        }
        Self::alone_in(out, || {
            // The previous holder of the lock may have written it.
            match complete() {
                _ if is_whole() => Ok(false),
                _ if is_begun() => self.finish(&places).map(|()| true),
                0 => self.write_alone(out).map(|()| true),
                all if all == places.len() => self.finish(&places).map(|()| true),
                complete => {
                    Err(TestnetError::Incomplete { out: out.into(), complete, members: places.len() })
                }
            }
        })
    }

    fn validate(&self) -> Result<(), TestnetError> {
        let refuse = |field, value: &dyn std::fmt::Display, expected: String| {
            Err(TestnetError::Field { field, value: value.to_string(), expected })
        };
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&self.members) {
            return refuse("--members", &self.members, format!("{MEMBERS_MIN} to {MEMBERS_MAX}"));
        }
        let (first, further) = (self.first_address, self.members - 1);
        let last = u32::from(first).checked_add(further as u32).map(Ipv4Addr::from);
        let is_host = |ip: Ipv4Addr| !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast());
        if !is_host(first) || !(first.is_loopback() || last.is_some_and(is_host)) {
            let expected = format!("the address of a host, with {further} more after it");
            return refuse("--first-address", &first, expected);
        }
        let ports = if first.is_loopback() { further } else { 0 };
        for (field, port) in [("--link-port", self.link_port), ("--ops-port", self.ops_port)] {
            let most = usize::from(u16::MAX) - ports;
            if port == 0 || usize::from(port) > most {
                return refuse(field, &port, format!("1 to {most}"));
            }
        }
        if usize::from(self.link_port.abs_diff(self.ops_port)) <= ports {
            let expected = format!("more than {ports} away from `--link-port`, which is {}", self.link_port);
            return refuse("--ops-port", &self.ops_port, expected);
        }
        Ok(())
    }

    fn places(&self, out: &Path) -> Vec<MemberFiles> {
        let place = |index: usize| {
            let name = format!("node-{}", index + 1);
            let (address, further) = if self.first_address.is_loopback() {
                (self.first_address, index as u16)
            } else {
                (Ipv4Addr::from(u32::from(self.first_address) + index as u32), 0)
            };
            let at = |port| SocketAddr::from((address, port + further));
            MemberFiles { home: out.join(&name), name, link: at(self.link_port), ops: at(self.ops_port) }
        };
        (0..self.members).map(place).collect()
    }

    fn write_member(
        &self,
        home: &Path,
        place: &MemberFiles,
        places: &[MemberFiles],
        genesis: &str,
        key: &SecretKey,
    ) -> Result<(), TestnetError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| TestnetError::File { path, source }
        };
        let data = home.join("data");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&data).map_err(file(&data))?;
        let (key_file, token_file) = (home.join("member.key"), home.join("token"));
        let (genesis_file, config_file) = (home.join("genesis.toml"), home.join(CONFIG));
        key.write(&key_file)?;
        write(&token_file, &hex::encode(rand::rng().random::<[u8; 32]>()), 0o600)
            .map_err(file(&token_file))?;
        write(&genesis_file, genesis, 0o644).map_err(file(&genesis_file))?;
        write(&config_file, &self.config(place, places), 0o644).map_err(file(&config_file))?;
        NodeConfig::load(&config_file, &Overrides::default())?;
        sync_directory(&config_file).map_err(file(home))
    }

    fn config(&self, place: &MemberFiles, places: &[MemberFiles]) -> String {
        let exposed = !self.first_address.is_loopback();
        // Off loopback a member listens on all interfaces, so that it can also be reached from within its machine.
        let listen = |address: SocketAddr| {
            let ip = if exposed { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { address.ip() };
            SocketAddr::new(ip, address.port()).to_string()
        };
        let peers = places.iter().filter(|peer| peer.name != place.name).map(|peer| {
            Value::Table(table([
                ("name", peer.name.as_str().into()),
                ("address", peer.link.to_string().into()),
            ]))
        });
        let mut ops = table([("address", listen(place.ops).into()), ("token_file", Value::from("token"))]);
        if exposed {
            ops.insert("expose".to_owned(), true.into());
        }
        let identity = [("name", place.name.as_str().into()), ("key_file", "member.key".into())];
        let link = [("listen", listen(place.link).into()), ("peers", Value::Array(peers.collect()))];
        let mut config = table([
            ("genesis_file", "genesis.toml".into()),
            ("data_dir", "data".into()),
            ("identity", Value::Table(table(identity))),
            ("ops", Value::Table(ops)),
            ("link", Value::Table(table(link))),
        ]);
        if self.block_time <= HeartbeatConfig::default().lease {
            // The lease must be shorter than the block time, and the heartbeat interval shorter than the lease.
            let time = |part: Duration| Value::from(humantime::format_duration(part).to_string());
            let millis = Duration::from_millis(self.block_time.as_millis() as u64 / 8);
            let heartbeat = [("interval", time(millis)), ("lease", time(millis * 3))];
            config.insert("heartbeat".to_owned(), Value::Table(table(heartbeat)));
        }
        toml::to_string(&config).expect("a table has a TOML form")
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn names_in(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// Removes everything from a directory.
fn empty(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
    }
}

/// Writes a new file; fails if it exists.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ops::token::Token;

    fn testnet() -> Testnet {
        Testnet {
            members: 4,
            chain_id: "alys-testnet".to_owned(),
            block_time: Duration::from_secs(2),
            first_address: Ipv4Addr::LOCALHOST,
            link_port: 4_001,
            ops_port: 3_001,
            owner: None,
        }
    }

    fn load(out: &Path, name: &str) -> (NodeConfig, Genesis) {
        NodeConfig::load(&out.join(name).join(CONFIG), &Overrides::default()).expect("a configuration")
    }

    #[test]
    fn on_loopback_ports_count_up_and_every_member_is_complete() {
        let out = tempfile::tempdir().expect("a directory");
        testnet().write(out.path()).expect("written");
        let hashes = (1..=4).map(|n| {
            let name = format!("node-{n}");
            let (config, genesis) = load(out.path(), &name);
            assert_eq!(config.ops.address, SocketAddr::from((Ipv4Addr::LOCALHOST, 3_000 + n)));
            assert_eq!(config.link.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000 + n)));
            assert!(!config.ops.expose);
            crate::check_key(&config, &genesis).expect("the key genesis names");
            Token::read(config.ops.token_file.as_deref().expect("a token")).expect("a token that serves");
            let mode = fs::metadata(&config.identity.key_file).expect("a key").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            genesis.hash()
        });
        let hashes: Vec<_> = hashes.collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "one genesis for all");
        let (first, second) = (load(out.path(), "node-1").0, load(out.path(), "node-2").0);
        let dialled = first.link.peers.iter().find(|peer| peer.name == second.identity.name);
        assert_eq!(dialled.expect("a peer").address, second.link.listen);
    }

    #[test]
    fn a_testnet_is_never_written_over_and_kept_only_when_it_is_whole() {
        let out = tempfile::tempdir().expect("a directory");
        assert!(testnet().write_if_missing(out.path()).expect("written"));
        let key = fs::read(out.path().join("node-3/member.key")).expect("a key");
        assert!(!testnet().write_if_missing(out.path()).expect("kept"));
        let error = testnet().write(out.path()).expect_err("it is there");
        assert!(matches!(&error, TestnetError::Occupied(path) if path.ends_with("node-1")), "{error}");
        assert_eq!(fs::read(out.path().join("node-3/member.key")).expect("a key"), key);
        fs::remove_file(out.path().join("node-2").join(CONFIG)).expect("removed");
        let error = testnet().write_if_missing(out.path()).expect_err("one is missing").to_string();
        assert!(error.contains("3 of 4 members"), "{error}");
        // The files of an incomplete member are not overwritten either.
        for name in ["node-1", "node-3", "node-4"] {
            fs::remove_file(out.path().join(name).join(CONFIG)).expect("removed");
        }
        let error = testnet().write_if_missing(out.path()).expect_err("keys are there");
        assert!(matches!(error, TestnetError::Occupied(_)), "{error}");
    }

    #[test]
    fn a_testnet_whose_writing_was_killed_anywhere_is_written_or_finished_by_the_next() {
        let files = ["data", "genesis.toml", "token", "member.key", CONFIG];
        // Number of renames done before the kill: those that complete the drafts, and those that move files into place.
        for moves in 0..=4 + 4 * files.len() {
            let out = tempfile::tempdir().expect("a directory");
            testnet().write(out.path()).expect("written");
            let homes: Vec<_> = (1..=4).map(|n| out.path().join(format!("node-{n}"))).collect();
            let keys: Vec<_> =
                homes.iter().map(|home| fs::read(home.join("member.key")).expect("a key")).collect();
            for (n, home) in homes.iter().enumerate() {
                let draft = home.join(if n < moves { WHOLE } else { DRAFT });
                let moved = moves.saturating_sub(4 + n * files.len()).min(files.len());
                if moved < files.len() {
                    fs::create_dir(&draft).expect("made");
                }
                for file in &files[moved..] {
                    fs::rename(home.join(file), draft.join(file)).expect("moved back");
                }
            }
            let wrote = testnet().write_if_missing(out.path()).expect("written or finished");
            assert_eq!(wrote, moves < 4 + 4 * files.len(), "{moves} moves");
            for (n, home) in homes.iter().enumerate() {
                load(out.path(), &format!("node-{}", n + 1));
                let is_kept = fs::read(home.join("member.key")).expect("a key") == keys[n];
                assert_eq!(is_kept, moves > 0, "{moves} moves");
                assert!(!home.join(DRAFT).exists() && !home.join(WHOLE).exists());
            }
        }
    }

    #[test]
    fn every_wrong_value_is_named_with_what_was_expected_and_nothing_is_written() {
        let with = |change: fn(&mut Testnet)| {
            let mut testnet = testnet();
            change(&mut testnet);
            testnet
        };
        let ports = "more than 3 away from `--link-port`, which is 4001";
        for (testnet, expected) in [
            (with(|net| net.members = 3), "`--members` is 3; expected 4 to 64"),
            (with(|net| net.members = 65), "`--members` is 65; expected 4 to 64"),
            (with(|net| net.link_port = 0), "`--link-port` is 0; expected 1 to 65532"),
            (with(|net| net.ops_port = 65_533), "`--ops-port` is 65533; expected 1 to 65532"),
            (with(|net| net.ops_port = 4_003), &format!("`--ops-port` is 4003; expected {ports}")),
            (
                with(|net| net.first_address = Ipv4Addr::UNSPECIFIED),
                "`--first-address` is 0.0.0.0; expected the address of a host, with 3 more after it",
            ),
            (
                with(|net| net.first_address = Ipv4Addr::new(255, 255, 255, 253)),
                "`--first-address` is 255.255.255.253; expected the address of a host, with 3 more after it",
            ),
            (with(|net| net.chain_id = "a b".to_owned()), "`chain_id`"),
            (with(|net| net.block_time = Duration::from_millis(1)), "`block_time` is \"1ms\""),
        ] {
            let out = tempfile::tempdir().expect("a directory");
            let error = testnet.write(out.path()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}; expected {expected}");
            assert!(fs::read_dir(out.path()).expect("a directory").next().is_none(), "nothing: {expected}");
            testnet.write(&out.path().join("new")).expect_err(expected);
            assert!(fs::read_dir(out.path()).expect("a directory").next().is_none(), "nothing: {expected}");
        }
    }

    #[test]
    fn of_many_who_write_a_testnet_at_once_one_does_and_it_is_whole() {
        for _ in 0..5 {
            let out = tempfile::tempdir().expect("a directory");
            let written: usize = std::thread::scope(|scope| {
                let writers: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| testnet().write(out.path()).is_ok())).collect();
                writers.into_iter().map(|writer| usize::from(writer.join().expect("no panic"))).sum()
            });
            assert_eq!(written, 1);
            for n in 1..=4 {
                let (config, genesis) = load(out.path(), &format!("node-{n}"));
                crate::check_key(&config, &genesis).expect("the key genesis names");
            }
        }
    }

    #[test]
    fn of_many_who_write_a_testnet_if_it_is_missing_one_does_and_the_others_keep_it() {
        for _ in 0..5 {
            let out = tempfile::tempdir().expect("a directory");
            let out = out.path().join("testnet");
            let wrote: Vec<_> = std::thread::scope(|scope| {
                let writers: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| testnet().write_if_missing(&out))).collect();
                writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
            });
            let writers = wrote.iter().filter(|wrote| matches!(wrote, Ok(true))).count();
            assert!(writers == 1 && wrote.iter().all(Result::is_ok), "{wrote:?}");
            assert_eq!(names_in(&out).expect("a directory").len(), 4, "nothing but the members");
        }
    }

    #[test]
    fn where_a_directory_can_not_be_locked_a_file_is_and_it_is_gone_afterwards() {
        let out = tempfile::tempdir().expect("a directory");
        let out = out.path().join("testnet");
        // Simulates a network file system.
        let lock = |file: &fs::File| {
            if file.metadata()?.is_dir() { Err(io::ErrorKind::Unsupported.into()) } else { file.lock() }
        };
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let alone = Alone::of(&out, lock).expect("locked");
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "alone");
                        std::thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(alone);
                    }
                });
            }
        });
        assert!(names_in(&out).expect("a directory").is_empty());
    }

    #[test]
    fn a_testnet_whose_giving_away_was_killed_is_given_away_by_the_next() {
        let out = tempfile::tempdir().expect("a directory");
        let (user, group) = (12_345, 23_456);
        if chown(out.path(), Some(user), None).is_err() {
            let _ = writeln!(io::stderr(), "skipped: nothing can be given away here without being root");
            return;
        }
        let given = Testnet { owner: Some((user, group)), ..testnet() };
        assert!(given.write_if_missing(out.path()).expect("written"));
        assert!(!given.write_if_missing(out.path()).expect("kept"));
        let homes: Vec<_> = given.places(out.path()).into_iter().map(|place| place.home).collect();
        // All files are in place; the process was killed before it set any owner, or only that of the second directory.
        for files in [true, false] {
            for home in &homes[1..] {
                let names = names_in(home).expect("a directory");
                for name in names.iter().filter(|_| files) {
                    chown(home.join(name), Some(0), Some(0)).expect("taken back");
                }
                chown(home, Some(0), Some(0)).expect("taken back");
            }
            assert!(given.write_if_missing(out.path()).expect("finished"));
            for home in &homes {
                let names = names_in(home).expect("a directory");
                for path in names.iter().map(|name| home.join(name)).chain([home.clone()]) {
                    let found = fs::metadata(&path).expect("it is there");
                    assert_eq!((found.uid(), found.gid()), (user, group), "{}", path.display());
                }
            }
        }
        // The owner of an incomplete testnet is not changed.
        fs::remove_dir_all(&homes[3]).expect("removed");
        chown(&homes[0], Some(0), Some(0)).expect("taken back");
        let error = given.write_if_missing(out.path()).expect_err("one is missing");
        assert!(matches!(error, TestnetError::Incomplete { .. }), "{error}");
        assert_eq!(fs::metadata(&homes[0]).expect("it is there").uid(), 0);
    }

    #[test]
    fn every_block_time_that_genesis_takes_makes_members_that_may_start() {
        for millis in [200, 500, 800, 801, 60_000] {
            let out = tempfile::tempdir().expect("a directory");
            let testnet = Testnet { block_time: Duration::from_millis(millis), ..testnet() };
            testnet.write(out.path()).unwrap_or_else(|error| panic!("{millis} ms: {error}"));
            load(out.path(), "node-4");
        }
    }

    #[test]
    fn a_testnet_that_can_not_be_written_leaves_nothing_behind() {
        let out = tempfile::tempdir().expect("a directory");
        // A file is in the place of the third member's directory.
        fs::write(out.path().join("node-3"), "in the way").expect("written");
        let error = testnet().write(out.path()).expect_err("occupied").to_string();
        assert!(error.contains("node-3"), "{error}");
        let left: Vec<_> =
            fs::read_dir(out.path()).expect("a directory").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["node-3"]);
    }

    #[test]
    fn off_loopback_addresses_count_up_and_the_ops_api_is_exposed_with_a_token() {
        let out = tempfile::tempdir().expect("a directory");
        let first_address = Ipv4Addr::new(172, 30, 7, 11);
        let testnet = Testnet { first_address, link_port: 4_000, ops_port: 3_000, ..testnet() };
        testnet.write(out.path()).expect("written");
        let (config, _) = load(out.path(), "node-2");
        assert_eq!(config.ops.address, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3_000)));
        assert!(config.ops.expose && config.ops.token_file.is_some());
        let peers: Vec<_> = config.link.peers.iter().map(|peer| peer.address.to_string()).collect();
        assert_eq!(peers, ["172.30.7.11:4000", "172.30.7.13:4000", "172.30.7.14:4000"]);
    }
}
