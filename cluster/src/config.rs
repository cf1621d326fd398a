//! Validation shared by all configuration sections: how an invalid value is reported.

use std::time::Duration;

/// A value outside its range, or one that contradicts another value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}; expected {expected}")]
pub struct FieldError {
    /// Name of the field within its section.
    pub field: &'static str,
    /// Value that was found.
    pub value: String,
    /// Description of the accepted values.
    pub expected: &'static str,
}

/// `Ok` if `holds`; otherwise an error with the field, its value and the expected values.
pub fn require(
    holds: bool,
    field: &'static str,
    value: impl std::fmt::Debug,
    expected: &'static str,
) -> Result<(), FieldError> {
    if holds { Ok(()) } else { Err(FieldError { field, value: format!("{value:?}"), expected }) }
}

/// [`require`]s that `value` lies within an inclusive range of durations.
pub fn require_between(
    field: &'static str,
    value: Duration,
    (least, most): (Duration, Duration),
    expected: &'static str,
) -> Result<(), FieldError> {
    require((least..=most).contains(&value), field, value, expected)
}

/// (De)serializes socket addresses in configuration; the error for an invalid address repeats it.
pub mod socket_address {
    use std::net::SocketAddr;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Serializes `address` as text.
    pub fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    /// Parses an IP address and a port.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = "an IP address and a port, such as 127.0.0.1:4001";
        text.parse()
            .map_err(|_| D::Error::custom(format!("{text:?} is no socket address; expected {expected}")))
    }
}
