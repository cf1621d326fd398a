//! Loads a member's configuration in layers: defaults < file < environment (`ALYS_…__…`) < flags.
//!
//! Unknown keys are errors, every value is validated once, here, and [`NodeConfig::sources`] reports where each value
//! came from. Paths in the file are relative to the file, other paths to the working directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_cluster::federation::HeartbeatConfig;
use alys_cluster::federation::roster::required;
use alys_cluster::health::HealthConfig;
use alys_cluster::id::NodeId;
use alys_cluster::supervision::SupervisionConfig;
use alys_cluster::transport::LinkConfig;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::consensus::ConsensusConfig;
use crate::environment::Environment;
use crate::genesis::{Genesis, GenesisError};

/// Default port of the ops API, and that of the first member of a testnet on loopback.
pub const OPS_PORT: u16 = 3001;

/// Identity of this member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The member's name in genesis. No default.
    pub name: NodeId,
    /// The member's secret key file, mode 0600, or 0440 if root owns it, as for mounted secrets. No default.
    pub key_file: PathBuf,
}

/// The ops HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpsConfig {
    /// Address to listen on: loopback, or any address with `expose`. Default `127.0.0.1:3001`.
    #[serde(with = "alys_cluster::config::socket_address")]
    pub address: SocketAddr,
    /// File, with the same modes as the key file, that holds the token which requests that change something must carry:
    /// 16 to 256 visible characters. Without a token, `POST /shutdown` and `PUT /logs/level` are refused, and with
    /// `expose` all requests that change something; otherwise they are open to all users of this machine. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether the server may listen beyond loopback. Anyone who can reach it can then read everything, without
    /// encryption: use it only on a network whose machines are all trusted. Default false.
    pub expose: bool,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], OPS_PORT)), token_file: None, expose: false }
    }
}

/// Fault injection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsConfig {
    /// Whether faults can be injected into this member by `POST /faults`: for tests. Needs a binary with the cargo feature
    /// `fault-injection`. Default false.
    pub enabled: bool,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `human` on a terminal, `json` otherwise.
    #[default]
    Auto,
    /// One readable line per event.
    Human,
    /// One JSON object per line.
    Json,
}

/// Configuration of the log on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Level `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,alys_node=debug`. Default `info`.
    pub level: String,
    /// Format of log lines. Default `auto`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Complete configuration of a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Identity of this member.
    pub identity: IdentityConfig,
    /// The genesis file, the same for every member. No default.
    pub genesis_file: PathBuf,
    /// Directory of the chain, the logs and the signer's journal. Created if missing. No default.
    pub data_dir: PathBuf,
    /// The ops HTTP server.
    #[serde(default)]
    pub ops: OpsConfig,
    /// Links to the other members.
    pub link: LinkConfig,
    /// Heartbeats between members, and the gate that depends on them.
    #[serde(default)]
    pub heartbeat: HeartbeatConfig,
    /// Health checks of this member's own actors.
    #[serde(default)]
    pub health: HealthConfig,
    /// Timeouts of consensus.
    #[serde(default)]
    pub consensus: ConsensusConfig,
    /// Budgets, backoff and failure patterns of the supervision tree.
    #[serde(default)]
    pub supervision: SupervisionConfig,
    /// Longest duration of a graceful shutdown, 1 s to 10 min. Default 8 s, below the 10 s after which most
    /// orchestrators kill.
    #[serde(default = "default_stop_deadline", with = "humantime_serde")]
    pub stop_deadline: Duration,
    /// Fault injection.
    #[serde(default)]
    pub faults: FaultsConfig,
    /// The log.
    #[serde(default)]
    pub log: LogConfig,
}

fn default_stop_deadline() -> Duration {
    Duration::from_secs(8)
}

/// Why a configuration is rejected.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The configuration file does not exist or cannot be read.
    #[error("configuration file {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A key is unknown, missing, or has a value of the wrong type.
    #[error("configuration: {}", without_profile(.0))]
    Shape(Box<figment::Error>),
    /// A value is out of range, or two values contradict each other.
    #[error("configuration field `{field}` is {value}; expected {expected}")]
    Field {
        /// Path of the field, as in the file.
        field: String,
        /// Value found.
        value: String,
        /// Values that are accepted.
        expected: String,
    },
    /// The genesis file is rejected.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
}

/// Command-line flags that override the file and the environment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    /// Data directory from `--data-dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Fields of `log` from `--log-level` and `--log-format`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<&'static str, String>,
}

/// Removes the profile that figment prepends to keys; this configuration has no profiles.
fn without_profile(error: &figment::Error) -> String {
    error.to_string().replace("\"default.", "\"").replace("`default.", "`")
}

impl NodeConfig {
    /// Reads, merges and validates a configuration, and the genesis that it names.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<(Self, Genesis), ConfigError> {
        let figment = Self::figment(path, overrides)?;
        let mut config: Self = figment.extract().map_err(|e| ConfigError::Shape(Box::new(e)))?;
        let files = [
            ("identity.key_file", Some(&mut config.identity.key_file)),
            ("genesis_file", Some(&mut config.genesis_file)),
            ("data_dir", Some(&mut config.data_dir)),
            ("ops.token_file", config.ops.token_file.as_mut()),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                *file = located(&figment, path, key, file)?;
            }
        }
        let genesis = Genesis::from_file(&config.genesis_file)?;
        config.validate(&genesis)?;
        Ok((config, genesis))
    }

    /// Reads only the section `ops`, for commands that talk to a running member: errors in other sections do not
    /// concern them.
    pub fn ops(path: &Path) -> Result<OpsConfig, ConfigError> {
        let figment = Self::figment(path, &Overrides::default())?;
        let mut ops = OpsConfig::default();
        if figment.contains("ops") {
            ops = figment.extract_inner("ops").map_err(|e| ConfigError::Shape(Box::new(e)))?;
        }
        let located = |file: &PathBuf| located(&figment, path, "ops.token_file", file);
        ops.token_file = ops.token_file.as_ref().map(located).transpose()?;
        Ok(ops)
    }

    /// Merges the layers.
    fn figment(path: &Path, overrides: &Overrides) -> Result<Figment, ConfigError> {
        std::fs::metadata(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        if let Some(data_dir) = overrides.data_dir.as_ref().filter(|data_dir| data_dir.to_str().is_none()) {
            return Err(ConfigError::Field {
                field: "--data-dir".to_owned(),
                value: data_dir.display().to_string(),
                expected: "text in UTF-8".to_owned(),
            });
        }
        Ok(Figment::new()
            .merge(Toml::file_exact(path))
            .merge(Environment::read(std::env::vars_os())?)
            .merge(Serialized::defaults(overrides)))
    }

    /// Returns every value with its layer, as (`key`, `value`, `source`), for `config show`.
    pub fn sources(path: &Path, overrides: &Overrides) -> Result<Vec<(String, String, String)>, ConfigError> {
        let figment = Self::figment(path, overrides)?;
        let config: Self = figment.extract().map_err(|e| ConfigError::Shape(Box::new(e)))?;
        let complete = toml::Value::try_from(&config).expect("every configuration value has a TOML form");
        let mut rows = Vec::new();
        flatten("", &complete, &mut rows);
        Ok(rows
            .into_iter()
            .map(|(key, value)| {
                let source = match metadata_of(&figment, &key) {
                    None => "default".to_owned(),
                    Some(metadata) => match metadata.source.as_ref().and_then(figment::Source::file_path) {
                        Some(file) => format!("file {}", file.display()),
                        None if metadata.name.contains("environment") => "environment".to_owned(),
                        None => "flag".to_owned(),
                    },
                };
                (key, value, source)
            })
            .collect())
    }

    /// Names of all sections and top-level fields.
    #[cfg(test)]
    pub(crate) fn fields() -> std::collections::BTreeSet<&'static str> {
        use serde::de::value::{Error, MapDeserializer};
        let mut found = std::collections::BTreeSet::new();
        // Serde's error about an unknown field lists the known fields.
        let unknown = MapDeserializer::<_, Error>::new([("no such field", 0)].into_iter());
        let error = Self::deserialize(unknown).expect_err("it is unknown").to_string();
        for name in error.split('`').skip(3).step_by(2) {
            found.insert(&*name.to_owned().leak());
        }
        found
    }

    fn validate(&self, genesis: &Genesis) -> Result<(), ConfigError> {
        let error = |field: &str, value: &dyn std::fmt::Display, expected: String| ConfigError::Field {
            field: field.to_owned(),
            value: value.to_string(),
            expected,
        };
        let own = &self.identity.name;
        if genesis.index_of(own).is_none() {
            let names: Vec<_> = genesis.members().iter().map(|member| member.name.as_str()).collect();
            return Err(error("identity.name", own, format!("a member of genesis: {}", names.join(", "))));
        }
        if self.faults.enabled && cfg!(not(feature = "fault-injection")) {
            let expected = "false, or a binary built with the cargo feature `fault-injection`";
            return Err(error("faults.enabled", &true, expected.to_owned()));
        }
        if !self.ops.address.ip().is_loopback() && !self.ops.expose {
            let expected = "a loopback address, or `ops.expose` = true, which lets everybody there read it";
            return Err(error("ops.address", &self.ops.address, expected.to_owned()));
        }
        for (index, peer) in self.link.peers.iter().enumerate() {
            let field = format!("link.peers[{index}].name");
            if self.link.peers[..index].iter().any(|other| other.name == peer.name) {
                return Err(error(&field, &peer.name, "each peer named once".to_owned()));
            }
            if peer.address == self.link.listen {
                let field = format!("link.peers[{index}].address");
                return Err(error(
                    &field,
                    &peer.address,
                    "an address other than this member's own".to_owned(),
                ));
            }
            if peer.name == *own {
                return Err(error(&field, &peer.name, "another member, not this one".to_owned()));
            }
            if genesis.index_of(&peer.name).is_none() {
                return Err(error(&field, &peer.name, "a member of genesis".to_owned()));
            }
        }
        for member in genesis.members().iter().filter(|member| member.name != *own) {
            if !self.link.peers.iter().any(|peer| peer.name == member.name) {
                let expected = format!("an address for every other member; {} has none", member.name);
                return Err(error("link.peers", &format!("{} peers", self.link.peers.len()), expected));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(10)).contains(&self.stop_deadline) {
            let value = humantime::format_duration(self.stop_deadline);
            return Err(error("stop_deadline", &value, "between 1s and 10m".to_owned()));
        }
        let checks = [
            ("link", self.link.validate()),
            ("heartbeat", self.heartbeat.validate()),
            ("health", self.health.validate()),
            ("consensus", self.consensus.validate()),
        ];
        for (section, check) in checks {
            check.map_err(|e| error(&format!("{section}.{}", e.field), &e.value, e.expected.to_owned()))?;
        }
        self.supervision.validate().map_err(|(section, e)| {
            error(&format!("supervision.{section}{}", e.field), &e.value, e.expected.to_owned())
        })?;
        let members = genesis.members().len();
        self.heartbeat.demand.validate(required(members), members).map_err(|e| {
            let field = format!("heartbeat.demand.{}", e.field);
            error(&field, &e.value, format!("{} to {members}: {}", required(members), e.expected))
        })?;
        if self.heartbeat.lease >= genesis.block_time() {
            let value = humantime::format_duration(self.heartbeat.lease);
            return Err(error("heartbeat.lease", &value, "less than the genesis block time".to_owned()));
        }
        Ok(())
    }
}

/// Resolves a path: values from the configuration file are relative to that file, others to the working directory.
fn located(figment: &Figment, config: &Path, key: &str, file: &Path) -> Result<PathBuf, ConfigError> {
    if file.as_os_str().is_empty() {
        return Err(ConfigError::Field {
            field: key.to_owned(),
            value: "empty".to_owned(),
            expected: "a path".to_owned(),
        });
    }
    let metadata = figment.find_metadata(key);
    let is_of_file = metadata.and_then(|from| from.source.as_ref()?.file_path()).is_some();
    let base = if is_of_file { config.parent().unwrap_or(Path::new(".")) } else { Path::new(".") };
    Ok(base.join(file))
}

/// Metadata of a value's layer; for an element of an array, of the array's layer.
fn metadata_of<'a>(figment: &'a Figment, key: &str) -> Option<&'a figment::Metadata> {
    figment.find_metadata(key).or_else(|| {
        let is_index = |segment: &&str| segment.bytes().all(|byte| byte.is_ascii_digit());
        let index = key.split('.').find(is_index)?;
        figment.find_metadata(key.split_once(&format!(".{index}."))?.0)
    })
}

fn flatten(prefix: &str, value: &toml::Value, rows: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, rows);
            }
        }
        toml::Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&format!("{prefix}.{index}"), value, rows);
            }
        }
        leaf => rows.push((prefix.to_owned(), leaf.to_string())),
    }
}
