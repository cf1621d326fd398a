//! What every configuration section has in common: how it says that a value is wrong.

use std::time::Duration;

/// A value outside its range, or one that contradicts another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}; expected {expected}")]
pub struct FieldError {
    /// The field within its section.
    pub field: &'static str,
    /// The value found.
    pub value: String,
    /// What would be accepted.
    pub expected: &'static str,
}

/// `Ok` if `holds`, else an error naming the field, its value and what was expected.
pub fn require(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Debug,
    expected: &'static str,
) -> Result<(), FieldError> {
    if holds { Ok(()) } else { Err(FieldError { field, value: format!("{value:?}"), expected }) }
}

/// [`require`]s that `value` lies between two durations.
pub fn require_between(
    field: &'static str,
    value: Duration,
    (least, most): (Duration, Duration),
    expected: &'static str,
) -> Result<(), FieldError> {
    require((least..=most).contains(&value), field, value, expected)
}

/// Socket addresses in configuration: a wrong one is repeated in its error.
pub mod socket_address {
    use std::net::SocketAddr;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `address` as text.
    pub fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    /// Reads an address and a port.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "an IP address and a port, such as 127.0.0.1:4001";
        text.parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no socket address; expected {expected}")))
    }
}
