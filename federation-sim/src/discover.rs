//! Finds the members of a federation and their ops addresses from its directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_node::top::Target;
use serde::Deserialize;
use thiserror::Error;

/// File in a member's directory that contains its ops address.
const CONFIG: &str = "node.toml";

/// Why a directory is not that of a federation.
#[derive(Debug, Error)]
pub enum Nowhere {
    /// A file or directory cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error from the operating system.
        source: std::io::Error,
    },
    /// The directory contains no member.
    #[error("{0} has no directory with a {CONFIG}; expected one that `federation-sim run --dir` or `alys-node testnet init` made", .path.display())]
    Nobody {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A member's configuration lacks its name or ops address, or is invalid.
    #[error("{path}: {source}", path = .path.display())]
    Config {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        source: Box<toml::de::Error>,
    },
}

/// The part of a member's configuration that is read.
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

/// Members of the federation in `directory`, sorted by name.
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
