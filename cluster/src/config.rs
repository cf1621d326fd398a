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
