//! Where the members of a federation answer, as its directory has it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_node::top::Target;
use serde::Deserialize;
use thiserror::Error;

/// The file of a member's directory that says where it answers.
const CONFIG: &str = "node.toml";

/// Why a directory is none of a federation.
#[derive(Debug, Error)]
pub enum Nowhere {
    /// It can not be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no member in it.
    #[error("{0} has no directory with a {CONFIG}; expected one that `federation-sim run --dir` or `alys-node testnet init` made", .path.display())]
    Nobody {
        /// The directory.
        path: PathBuf,
    },
    /// A member's configuration says nothing of it.
    #[error("{path}: {source}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
}

/// What is read of a member's configuration.
#[derive(Deserialize)]
struct Config {
    identity: Identity,
    ops: Ops,
}

#[derive(Deserialize)]
struct Identity {
    name: String,
}

#[derive(Deserialize)]
struct Ops {
    address: SocketAddr,
}

/// The members of the federation in `directory`, by name.
pub fn members(directory: &Path) -> Result<Vec<Target>, Nowhere> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Nowhere::Read { path, source }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(read(directory))? {
        let file = entry.map_err(read(directory))?.path().join(CONFIG);
        if !file.is_file() {
            continue;
        }
        let text = fs::read_to_string(&file).map_err(read(&file))?;
        let config: Config = toml::from_str(&text)
            .map_err(|source| Nowhere::Config { path: file.clone(), source: Box::new(source) })?;
        found.push((config.identity.name, config.ops.address));
    }
    if found.is_empty() {
        return Err(Nowhere::Nobody { path: directory.to_owned() });
    }
    found.sort();
    Ok(found.into_iter().map(|(name, address)| Target::from(address).named(&name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_configurations() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(matches!(members(directory.path()), Err(Nowhere::Nobody { .. })));
        for (name, port) in [("node-2", 3002), ("node-1", 3001)] {
            let home = directory.path().join(name);
            fs::create_dir(&home).expect("a directory");
            let text = format!("[identity]\nname = {name:?}\n[ops]\naddress = \"127.0.0.1:{port}\"\n");
            fs::write(home.join(CONFIG), text).expect("a file");
        }
        fs::write(directory.path().join("genesis.toml"), "").expect("a file");
        let found = members(directory.path()).expect("members");
        let labels: Vec<_> = found.iter().map(|target| (target.label(), target.url(""))).collect();
        let expected = [("node-1", "http://127.0.0.1:3001"), ("node-2", "http://127.0.0.1:3002")];
        assert_eq!(labels, expected.map(|(name, url)| (name, url.to_owned())));
        fs::write(directory.path().join("node-2").join(CONFIG), "[ops]\naddress = 7\n").expect("a file");
        let error = members(directory.path()).expect_err("no configuration").to_string();
        assert!(error.contains("node-2/node.toml"), "{error}");
    }
}
