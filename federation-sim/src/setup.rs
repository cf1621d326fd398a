//! Prepares a federation before it starts: directory, keys, genesis, ports and configurations.
//!
//! ```text
//! genesis.toml
//! node-1/  node.toml  node-1.key  node.log  data/
//! node-2/  …
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_node::genesis::{Genesis, GenesisError, GenesisFile, GenesisMember};
use alys_node::keys::{KeyError, SecretKey};
use rand::Rng as _;
use thiserror::Error;
use toml::{Table, Value};

use crate::ports::{NoPort, free_port};
use crate::proxy::Proxies;
use crate::scenario::Scenario;
use crate::seed;

/// Why a federation could not be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The directory of the run is not empty.
    #[error("directory {0} is not empty; expected a new or an empty one")]
    Occupied(PathBuf),
    /// A file or directory could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error from the operating system.
        source: io::Error,
    },
    /// A key could not be written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The generated genesis is invalid.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// No free port was found.
    #[error(transparent)]
    Ports(#[from] NoPort),
    /// A proxy could not be started.
    #[error("the proxy from {from} to {to}: {source}")]
    Proxy {
        /// Member that dials.
        from: String,
        /// Member that is dialled.
        to: String,
        /// Error from the operating system.
        source: io::Error,
    },
    /// The node's executable could not be found or built.
    #[error("{0}")]
    Binary(String),
    /// A process could not be started.
    #[error("could not start {what}: {source}")]
    Start {
        /// The guardian, or the name of a member.
        what: String,
        /// Error from the operating system.
        source: io::Error,
    },
    /// A member ended, or did not answer, before the first step.
    #[error("{name} did not come up: {how}")]
    NotUp {
        /// Name of the member.
        name: String,
        /// What the member did instead.
        how: String,
    },
}

/// Paths and addresses of one member.
#[derive(Clone, Debug)]
pub(crate) struct MemberPaths {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) ops: SocketAddr,
    pub(crate) link: SocketAddr,
}

impl MemberPaths {
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("node.log")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }
}

/// Claims an empty directory for a run; creates it if it does not exist.
pub(crate) fn claim(directory: &Path) -> Result<(), SetupError> {
    let file = |source| SetupError::File { path: directory.into(), source };
    fs::create_dir_all(directory).map_err(file)?;
    match fs::read_dir(directory).map_err(file)?.next() {
        None => Ok(()),
        Some(_) => Err(SetupError::Occupied(directory.into())),
    }
}

/// Writes keys and genesis, derived from the seed.
pub(crate) fn write_identities(directory: &Path, scenario: &Scenario, seed: u64) -> Result<(), SetupError> {
    let mut chance = seed::stream(seed, "keys");
    let mut members = Vec::new();
    for name in &scenario.members {
        let secret = SecretKey::from_seed(&chance.random());
        let home = directory.join(name);
        fs::create_dir_all(&home).map_err(|source| SetupError::File { path: home.clone(), source })?;
        secret.write(&home.join(format!("{name}.key")))?;
        members.push(GenesisMember {
            name: name.parse().expect("a scenario's names are names of members"),
            public_key: secret.public_key().to_string(),
            proof_of_possession: secret.prove_possession(),
        });
    }
    let chain_id = format!("simulation-{seed}");
    let genesis = GenesisFile { chain_id, block_time: scenario.block_time, members };
    Genesis::check(&genesis)?;
    let text = toml::to_string(&genesis).expect("a genesis has a TOML form");
    write(&directory.join("genesis.toml"), &text)
}

/// Chooses ports for every member.
pub(crate) fn choose_places(directory: &Path, scenario: &Scenario) -> Result<Vec<MemberPaths>, SetupError> {
    // Listeners are kept until all ports are chosen, so that no port is chosen twice.
    let mut taken = Vec::new();
    let mut places = Vec::new();
    for name in &scenario.members {
        let mut port = || -> Result<SocketAddr, SetupError> {
            let (listener, address) = free_port()?;
            taken.push(listener);
            Ok(address)
        };
        let (ops, link) = (port()?, port()?);
        places.push(MemberPaths { name: name.clone(), directory: directory.join(name), ops, link });
    }
    Ok(places)
}

/// Starts a proxy for each pair; the member with the greater name dials.
pub(crate) async fn start_proxies(places: &[MemberPaths]) -> Result<Proxies, SetupError> {
    let mut proxies = Proxies::default();
    for dialler in places {
        for target in places.iter().filter(|target| target.name < dialler.name) {
            proxies.add(&dialler.name, &target.name, target.link).await.map_err(|source| {
                SetupError::Proxy { from: dialler.name.clone(), to: target.name.clone(), source }
            })?;
        }
    }
    Ok(proxies)
}

/// Writes every member's configuration, and removes data and logs of an earlier attempt.
pub(crate) fn write_configs(
    places: &[MemberPaths],
    scenario: &Scenario,
    proxies: &Proxies,
    log_level: &str,
) -> Result<(), SetupError> {
    for place in places {
        for leftover in [place.data(), place.log()] {
            let removed = if leftover.is_dir() { fs::remove_dir_all(&leftover) } else { remove(&leftover) };
            removed.map_err(|source| SetupError::File { path: leftover, source })?;
        }
        let peers = places.iter().filter(|peer| peer.name != place.name).map(|peer| {
            let address = proxies.address(&place.name, &peer.name).unwrap_or(peer.link);
            (peer.name.as_str(), address)
        });
        let config = config(place, &peers.collect(), scenario, log_level);
        let text = toml::to_string(&config).expect("a table has a TOML form");
        write(&place.config(), &text)?;
    }
    Ok(())
}

/// Removes `link.version` from a member's configuration.
pub(crate) fn forget_link_version(path: &Path) -> io::Result<()> {
    let mut config: Table = fs::read_to_string(path)?.parse().map_err(io::Error::other)?;
    if let Some(Value::Table(link)) = config.get_mut("link") {
        link.remove("version");
    }
    fs::write(path, toml::to_string(&config).map_err(io::Error::other)?)
}

fn config(
    place: &MemberPaths,
    peers: &BTreeMap<&str, SocketAddr>,
    scenario: &Scenario,
    log_level: &str,
) -> Table {
    let name = &place.name;
    let peers =
        peers.iter().map(|(name, address)| table([("name", *name), ("address", &address.to_string())]));
    let mut link = Table::from_iter([("listen".to_owned(), place.link.to_string().into())]);
    link.insert("peers".to_owned(), Value::Array(peers.map(Value::Table).collect()));
    let mut config = table([("genesis_file", "../genesis.toml"), ("data_dir", "data")]);
    let mut section = |name: &str, table: Table| config.insert(name.to_owned(), Value::Table(table));
    section("identity", table([("name", name.as_str()), ("key_file", &format!("{name}.key"))]));
    section("ops", table([("address", place.ops.to_string().as_str())]));
    // The scenario's settings for links, except for addresses.
    link.extend(scenario.sections.link.clone().unwrap_or_default());
    section("link", link);
    // Scenarios also inject faults into actors inside members.
    section("faults", Table::from_iter([("enabled".to_owned(), true.into())]));
    section("log", table([("level", log_level), ("format", "human")]));
    for (name, given) in scenario.sections.iter().filter(|(name, _)| *name != "link") {
        section(name, given.clone());
    }
    config
}

fn table<const N: usize>(entries: [(&str, &str); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).map_err(|source| SetupError::File { path: path.into(), source })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let text = "name='x'\nsteps=[{do='wait',duration='1s'}]\n[node.heartbeat]\ninterval='100ms'";
        Scenario::parse("test", text).expect("a scenario")
    }

    #[tokio::test]
    async fn a_federation_is_written_with_the_proxy_where_the_member_dials() {
        let directory = tempfile::tempdir().expect("a directory");
        let scenario = scenario();
        claim(directory.path()).expect("an empty directory");
        write_identities(directory.path(), &scenario, 1).expect("identities");
        let places = choose_places(directory.path(), &scenario).expect("ports");
        let proxies = start_proxies(&places).await.expect("proxies");
        write_configs(&places, &scenario, &proxies, "info").expect("configurations");
        Genesis::from_file(&directory.path().join("genesis.toml")).expect("the genesis holds");
        SecretKey::read(&directory.path().join("node-2/node-2.key")).expect("the key can be read");

        let text = fs::read_to_string(places[1].config()).expect("the configuration of node-2");
        let config: Table = text.parse().expect("TOML");
        assert_eq!(config["heartbeat"]["interval"].as_str(), Some("100ms"));
        assert_eq!(config["identity"]["key_file"].as_str(), Some("node-2.key"));
        let proxy = proxies.address("node-2", "node-1").expect("node-2 dials node-1").to_string();
        let expected = [
            ("node-1", proxy),
            ("node-3", places[2].link.to_string()),
            ("node-4", places[3].link.to_string()),
        ];
        for (peer, (name, address)) in
            config["link"]["peers"].as_array().expect("peers").iter().zip(&expected)
        {
            assert_eq!(peer["name"].as_str(), Some(*name));
            assert_eq!(peer["address"].as_str(), Some(address.as_str()));
        }
        assert!(matches!(claim(directory.path()), Err(SetupError::Occupied(_))));
    }

    #[test]
    fn the_same_seed_gives_the_same_genesis() {
        let genesis = |seed| {
            let directory = tempfile::tempdir().expect("a directory");
            write_identities(directory.path(), &scenario(), seed).expect("identities");
            fs::read_to_string(directory.path().join("genesis.toml")).expect("a genesis")
        };
        assert_eq!(genesis(1), genesis(1));
        assert_ne!(genesis(1), genesis(2));
    }
}
