//! Reads configuration from environment variables.
//!
//! `ALYS_<SECTION>__<FIELD>` sets a field of a section, `ALYS_<FIELD>` a top-level field. Other variables that start
//! with `ALYS_` are not configuration, such as those that Kubernetes sets for a service named `alys`, and cause no
//! error.

use std::ffi::OsString;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use crate::config::ConfigError;

/// Prefix of all variables.
pub const PREFIX: &str = "ALYS_";
/// Separator between section and field.
const SEPARATOR: &str = "__";
/// Sections of the configuration.
const SECTIONS: [&str; 9] =
    ["identity", "ops", "link", "heartbeat", "health", "consensus", "supervision", "faults", "log"];
/// Top-level fields.
const FIELDS: [&str; 3] = ["data_dir", "genesis_file", "stop_deadline"];
/// Variables that only commands read.
const OTHERS: [&str; 1] = ["ALYS_CONFIG_FILE"];
/// Fields whose values are paths, even if they look like numbers.
const PATHS: [&str; 4] = ["data_dir", "genesis_file", "identity.key_file", "ops.token_file"];

/// Configuration layer of the environment.
#[derive(Debug, Default)]
pub(crate) struct Environment(Dict);

impl Environment {
    /// Collects the variables that are configuration. A value that is not UTF-8 is an error.
    pub(crate) fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut layer = Dict::new();
        for (name, value) in variables {
            let Some((name, key)) = name.to_str().and_then(|name| Some((name, key(name)?))) else { continue };
            let text = value.into_string().map_err(|value| ConfigError::Field {
                field: name.to_owned(),
                value: value.display().to_string(),
                expected: "text in UTF-8".to_owned(),
            })?;
            let value = if PATHS.contains(&key.as_str()) {
                Value::from(text)
            } else {
                text.parse().unwrap_or_else(|never| match never {})
            };
            insert(&mut layer, &key, value);
        }
        Ok(Self(layer))
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        let name = |_: &Profile, keys: &[&str]| format!("{PREFIX}{}", keys.join(SEPARATOR).to_uppercase());
        Metadata::named("environment variables").interpolater(name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

/// Names of variables that look like configuration but are not: a typo, or set by another program.
pub fn strays(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let names = variables.map(|(name, _)| name.to_string_lossy().into_owned());
    let is_stray =
        |name: &String| name.starts_with(PREFIX) && key(name).is_none() && !OTHERS.contains(&name.as_str());
    let mut strays: Vec<_> = names.filter(is_stray).collect();
    strays.sort();
    strays
}

/// Field that a variable sets: `link.listen` for `ALYS_LINK__LISTEN`.
fn key(name: &str) -> Option<String> {
    let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let is_field = match key.split_once(SEPARATOR) {
        Some((section, _)) => SECTIONS.contains(&section),
        None => FIELDS.contains(&key.as_str()),
    };
    is_field.then(|| key.replace(SEPARATOR, "."))
}

fn insert(layer: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(layer.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let entry = layer.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, fields) = entry {
                insert(fields, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::config::NodeConfig;

    fn variables<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (OsString, OsString)> + 'a {
        pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)))
    }

    #[test]
    fn what_kubernetes_and_others_set_is_no_configuration_and_is_told() {
        let pairs = [
            ("ALYS_PORT", "tcp://10.0.0.1:80"),
            ("ALYS_SERVICE_HOST", "10.0.0.1"),
            ("ALYS_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("ALYS__PORT", "1"),
            ("ALYS_NODE_1__X", "1"),
            ("ALYS_", ""),
            ("ALYS_CONFIG_FILE", "node.toml"),
            ("ALYS_DATA_DIR", "12"),
            ("PATH", "/bin"),
        ];
        let layer = Environment::read(variables(&pairs)).expect("text");
        assert_eq!(layer.0.into_iter().collect::<Vec<_>>(), [("data_dir".to_owned(), Value::from("12"))]);
        let strays = strays(variables(&pairs));
        let expected =
            ["ALYS_", "ALYS_NODE_1__X", "ALYS_PORT", "ALYS_PORT_80_TCP", "ALYS_SERVICE_HOST", "ALYS__PORT"];
        assert_eq!(strays, expected);
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_by_name() {
        let value = OsString::from_vec(vec![b'/', 0xff]);
        let error =
            Environment::read([(OsString::from("ALYS_DATA_DIR"), value)].into_iter()).expect_err("no text");
        assert!(error.to_string().contains("`ALYS_DATA_DIR` is"), "{error}");
    }

    /// Every section of the configuration can be set by the environment.
    #[test]
    fn the_sections_are_those_of_the_configuration() {
        let known: std::collections::BTreeSet<_> = SECTIONS.into_iter().chain(FIELDS).collect();
        assert_eq!(NodeConfig::fields(), known);
    }
}
