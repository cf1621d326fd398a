//! A member's configuration: defaults < file < environment (`ALYS_…__…`) < flags.
//!
//! Unknown keys are errors, every value is checked once, here, and [`NodeConfig::sources`] can say where
//! each value came from. Paths in the file are relative to the file, others to the working directory.

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

/// The port of the ops API by default, and of the first member of a testnet on loopback.
pub const OPS_PORT: u16 = 3001;

/// Who this member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The member's name in genesis. No default.
    pub name: NodeId,
    /// Its secret key file, mode 0600, or 0440 where root owns it, as mounted secrets are. No default.
    pub key_file: PathBuf,
}

/// The ops HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpsConfig {
    /// Where it listens. Loopback, or any address with `expose`. Default `127.0.0.1:3001`.
    #[serde(with = "alys_cluster::config::socket_address")]
    pub address: SocketAddr,
    /// A file, of the same modes as the key, with the token that every request asks for that changes something: 16 to 256 visible
    /// characters. Without one `POST /shutdown` and `PUT /logs/level` refuse, and with `expose` all of them; the others
    /// are open to this machine's users. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Whether it may listen elsewhere than on loopback: everybody who reaches it reads all it tells, without
    /// encryption. For a network of which every machine is trusted. Default false.
    pub expose: bool,
}

impl Default for OpsConfig {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], OPS_PORT)), token_file: None, expose: false }
    }
}

/// Faults on order, for drills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsConfig {
    /// Whether `POST /faults` kills actors of this member, or makes them panic. Default false.
    pub enabled: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,alys_node=debug`. Default
    /// `info`.
    pub level: String,
    /// Default `auto`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Everything a member is told before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Who this member is.
    pub identity: IdentityConfig,
    /// The genesis file, the same for every member. No default.
    pub genesis_file: PathBuf,
    /// Where chain, logs and the signer's journal are kept. Created if missing. No default.
    pub data_dir: PathBuf,
    /// The ops HTTP server.
    #[serde(default)]
    pub ops: OpsConfig,
    /// The links to the other members.
    pub link: LinkConfig,
    /// Heartbeats between members, and the gate they feed.
    #[serde(default)]
    pub heartbeat: HeartbeatConfig,
    /// Health checks of this member's own actors.
    #[serde(default)]
    pub health: HealthConfig,
    /// The consensus time-outs.
    #[serde(default)]
    pub consensus: ConsensusConfig,
    /// Budgets, backoff and patterns of the supervision tree.
    #[serde(default)]
    pub supervision: SupervisionConfig,
    /// The longest a graceful stop may take, 1 s to 10 min. Default 8 s, below the 10 s most orchestrators
    /// wait before they kill.
    #[serde(default = "default_stop_deadline", with = "humantime_serde")]
    pub stop_deadline: Duration,
    /// Faults on order, for drills.
    #[serde(default)]
    pub faults: FaultsConfig,
    /// What is logged.
    #[serde(default)]
    pub log: LogConfig,
}

fn default_stop_deadline() -> Duration {
    Duration::from_secs(8)
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The configuration file does not exist or can not be read.
    #[error("configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key is unknown, missing, or has a value of the wrong shape.
    #[error("configuration: {}", without_profile(.0))]
    Shape(Box<figment::Error>),
    /// A value is outside its range, or two values contradict each other.
    #[error("configuration field `{field}` is {value}; expected {expected}")]
    Field {
        /// The field's path, as in the file.
        field: String,
        /// The value found.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// The genesis it names is refused.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
}

/// Flags of the command line that override the file and the environment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Overrides {
    /// `--data-dir`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `--log-level`, `--log-format`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<&'static str, String>,
}

/// figment names keys within its profile, which this configuration does not use.
fn without_profile(error: &figment::Error) -> String {
    error.to_string().replace("\"default.", "\"").replace("`default.", "`")
}

impl NodeConfig {
    /// Reads, layers and checks a configuration. The genesis it names is read and checked too.
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

    /// The ops server alone, for those who ask a running member: what else is wrong with its configuration is of no
    /// interest to them.
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

    /// The layers, before they are read as a configuration.
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

    /// Every value with the layer it came from, as (`key`, `value`, `source`), for `config show`.
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

    /// The names of all sections, and of the fields of none.
    #[cfg(test)]
    pub(crate) fn fields() -> std::collections::BTreeSet<&'static str> {
        use serde::de::value::{Error, MapDeserializer};
        let mut found = std::collections::BTreeSet::new();
        // Serde names the fields it knows when it is given one it does not.
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

/// Where a file is: what the configuration file says is relative to that file, what else does to the working directory.
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

/// Where a value came from; for an element of an array, where the array did.
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
