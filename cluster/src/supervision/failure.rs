//! Failure types as the specification names them, and the class of action each calls for.
//!
//! An actor reports a failure by returning an [`ActorFailureType`] as its error; a supervisor derives the others from
//! facts: a panic, a kill, a start that took too long. [`Failure::of_error`] classifies an error by its type, never by
//! its text.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::config::FieldError;
use crate::mailbox::{CallError, MailError};

/// What went wrong (specification, "Failure Classification System"). The last four variants are not in the
/// specification.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ActorFailureType {
    /// The actor panicked.
    #[error("it panicked")]
    Panic {
        /// Backtrace, if it was captured: see [`mod@super::panic`].
        backtrace: Option<String>,
    },
    /// A handler or the start exceeded its deadline.
    #[error("it took longer than {duration:?}")]
    Timeout {
        /// Deadline that was exceeded.
        duration: Duration,
    },
    /// The mailbox rejected more messages than the actor's limits allow.
    #[error("its mailbox overflowed: {pending} of {capacity} messages wait")]
    MailboxOverflow {
        /// Number of slots of the mailbox.
        capacity: usize,
        /// Number of messages waiting.
        pending: usize,
    },
    /// A resource ran out.
    #[error("{resource_type} is exhausted ({:.0} % used)", usage * 100.0)]
    ResourceExhaustion {
        /// Resource that ran out: `storage`, `memory`, `descriptors`.
        resource_type: String,
        /// Fraction in use, from 0 to 1.
        usage: f64,
    },
    /// The consensus protocol cannot continue safely.
    #[error("consensus failed: {error_code}")]
    ConsensusFailure {
        /// Code of the failure.
        error_code: String,
    },
    /// The network or one peer failed.
    #[error("the network failed{}: {error}", peer_id.as_ref().map(|peer| format!(" towards {peer}")).unwrap_or_default())]
    NetworkFailure {
        /// Peer that failed; `None` if it was the network.
        peer_id: Option<String>,
        /// Error text.
        error: String,
    },
    /// Handling a governance event failed.
    #[error("governance event {event_type} failed: {error}")]
    GovernanceFailure {
        /// Type of the event.
        event_type: String,
        /// Error text.
        error: String,
    },
    /// A federation operation failed.
    #[error("federation operation {operation} failed: {error}")]
    FederationFailure {
        /// Name of the operation.
        operation: String,
        /// Error text.
        error: String,
    },
    /// The actor failed its health checks.
    #[error("it failed {consecutive_failures} health checks in a row")]
    HealthCheckFailure {
        /// Number of failed checks in a row.
        consecutive_failures: u32,
    },
    /// A configured value is unusable.
    #[error("configuration field `{field}` is {value}")]
    ConfigurationError {
        /// Name of the field.
        field: String,
        /// Value that was found.
        value: String,
    },
    /// A dependency of the actor is unavailable.
    #[error("{service} does not serve: {error}")]
    DependencyFailure {
        /// Name of the dependency.
        service: String,
        /// Error text.
        error: String,
    },
    /// The actor's stored state is inconsistent; a restart would find the same state.
    #[error("the state of {component} is corrupt: {error}")]
    CorruptState {
        /// Component whose state is corrupt.
        component: String,
        /// Description of the inconsistency.
        error: String,
    },
    /// The actor was killed.
    #[error("killed")]
    Killed,
    /// The actor ended by itself, without an error.
    #[error("{reason}")]
    Ended {
        /// Reason that the actor gave.
        reason: String,
    },
    /// An error of an unclassified type.
    #[error("{error}")]
    Error {
        /// Error text.
        error: String,
    },
}

/// The kind of reaction that a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// The next attempt may succeed: restart with backoff.
    Transient,
    /// A resource ran out: restart with backoff and drop waiting messages (a restarted actor has an empty mailbox).
    Exhausted,
    /// The stored state is wrong: restarts would loop.
    Corrupt,
    /// The configuration is wrong: restarts would loop.
    Configuration,
    /// Continuing could break agreement between the members: halt consensus first.
    ConsensusFatal,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 5] =
        [Self::Transient, Self::Exhausted, Self::Corrupt, Self::Configuration, Self::ConsensusFatal];

    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Exhausted => "exhausted",
            Self::Corrupt => "corrupt",
            Self::Configuration => "configuration",
            Self::ConsensusFatal => "consensus_fatal",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ActorFailureType {
    /// Name of the variant in `snake_case`; as a metric label it has few values.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Panic { .. } => "panic",
            Self::Timeout { .. } => "timeout",
            Self::MailboxOverflow { .. } => "mailbox_overflow",
            Self::ResourceExhaustion { .. } => "resource_exhaustion",
            Self::ConsensusFailure { .. } => "consensus_failure",
            Self::NetworkFailure { .. } => "network_failure",
            Self::GovernanceFailure { .. } => "governance_failure",
            Self::FederationFailure { .. } => "federation_failure",
            Self::HealthCheckFailure { .. } => "health_check_failure",
            Self::ConfigurationError { .. } => "configuration_error",
            Self::DependencyFailure { .. } => "dependency_failure",
            Self::CorruptState { .. } => "corrupt_state",
            Self::Killed => "killed",
            Self::Ended { .. } => "ended",
            Self::Error { .. } => "error",
        }
    }

    /// The class of the failure.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Panic { .. }
            | Self::Timeout { .. }
            | Self::NetworkFailure { .. }
            | Self::GovernanceFailure { .. }
            | Self::FederationFailure { .. }
            | Self::HealthCheckFailure { .. }
            | Self::DependencyFailure { .. }
            | Self::Killed
            | Self::Ended { .. }
            | Self::Error { .. } => FailureClass::Transient,
            Self::MailboxOverflow { .. } | Self::ResourceExhaustion { .. } => FailureClass::Exhausted,
            Self::CorruptState { .. } => FailureClass::Corrupt,
            Self::ConfigurationError { .. } => FailureClass::Configuration,
            Self::ConsensusFailure { .. } => FailureClass::ConsensusFatal,
        }
    }
}

/// A failure with its class, message and location. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(Arc<Facts>);

#[derive(Debug, PartialEq)]
struct Facts {
    kind: ActorFailureType,
    class: FailureClass,
    message: String,
    location: Option<String>,
    at_start: bool,
}

impl Failure {
    /// A failure described by its type alone.
    pub fn new(kind: ActorFailureType) -> Self {
        let (class, message) = (kind.class(), kind.to_string());
        Self(Arc::new(Facts { kind, class, message, location: None, at_start: false }))
    }

    /// A panic with its message, source location and backtrace.
    pub fn panic(message: String, location: String, backtrace: Option<String>) -> Self {
        let kind = ActorFailureType::Panic { backtrace };
        let (class, location) = (kind.class(), Some(location));
        Self(Arc::new(Facts { kind, class, message, location, at_start: false }))
    }

    /// Classifies `error`, following its sources: an [`ActorFailureType`], a mailbox or call error (a dependency is
    /// unavailable), a rejected configuration value, or an I/O error for exhausted storage or memory.
    pub fn of_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(found) = cause {
            if let Some(kind) = recognised(found) {
                let (class, message) = (kind.class(), error.to_string());
                return Self(Arc::new(Facts { kind, class, message, location: None, at_start: false }));
            }
            cause = found.source();
        }
        Self::new(ActorFailureType::Error { error: error.to_string() })
    }

    /// The same failure, marked as a failed start.
    #[must_use]
    pub fn at_start(&self) -> Self {
        self.told(format!("failed to start: {}", self.0.message), true)
    }

    /// The same failure with another message, for example by a supervisor that gives up because of it.
    #[must_use]
    pub fn in_words(&self, message: String) -> Self {
        self.told(message, self.0.at_start)
    }

    fn told(&self, message: String, at_start: bool) -> Self {
        let (kind, class, location) = (self.0.kind.clone(), self.0.class, self.0.location.clone());
        Self(Arc::new(Facts { kind, class, message, location, at_start }))
    }

    /// The failure type.
    pub fn kind(&self) -> &ActorFailureType {
        &self.0.kind
    }

    /// The failure class.
    pub fn class(&self) -> FailureClass {
        self.0.class
    }

    /// The failure message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The source location of a panic.
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    /// Whether the actor failed to start.
    pub fn is_at_start(&self) -> bool {
        self.0.at_start
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.location() {
            Some(location) => write!(f, "{} (at {location})", self.message()),
            None => f.write_str(self.message()),
        }
    }
}

fn recognised(error: &(dyn std::error::Error + 'static)) -> Option<ActorFailureType> {
    if let Some(kind) = error.downcast_ref::<ActorFailureType>() {
        return Some(kind.clone());
    }
    let does_not_serve = |service: &dyn fmt::Display| ActorFailureType::DependencyFailure {
        service: service.to_string(),
        error: error.to_string(),
    };
    if let Some(refusal) = error.downcast_ref::<MailError>() {
        return Some(does_not_serve(refusal.name()));
    }
    if let Some(silence) = error.downcast_ref::<CallError>() {
        return Some(does_not_serve(silence.name()));
    }
    if let Some(FieldError { field, value, .. }) = error.downcast_ref::<FieldError>() {
        let (field, value) = ((*field).to_owned(), value.clone());
        return Some(ActorFailureType::ConfigurationError { field, value });
    }
    let ran_out = match error.downcast_ref::<std::io::Error>()?.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "storage",
        std::io::ErrorKind::OutOfMemory => "memory",
        _ => return None,
    };
    Some(ActorFailureType::ResourceExhaustion { resource_type: ran_out.to_owned(), usage: 1.0 })
}

/// Exit of a child.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Reason of the exit.
    pub failure: Failure,
    /// Whether it ended by an error, a panic, a kill or a failed start, as opposed to ending by itself or as a
    /// supervisor that gave up. A transient child is restarted after an abnormal exit only.
    pub is_abnormal: bool,
}

impl Exit {
    /// The child ended by itself, or on request.
    pub fn normal(reason: impl Into<String>) -> Self {
        let failure = Failure::new(ActorFailureType::Ended { reason: reason.into() });
        Self { failure, is_abnormal: false }
    }

    /// The child failed.
    pub fn abnormal(failure: Failure) -> Self {
        Self { failure, is_abnormal: true }
    }

    /// A supervisor gave up because of `failure`: a shutdown, not a crash.
    pub fn raised(failure: Failure) -> Self {
        Self { failure, is_abnormal: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ActorName;

    #[test]
    fn every_type_has_the_class_that_picks_its_action() {
        use ActorFailureType as T;
        use FailureClass::{Configuration, ConsensusFatal, Corrupt, Exhausted, Transient};
        let text = || "x".to_owned();
        for (kind, class) in [
            (T::Panic { backtrace: None }, Transient),
            (T::Timeout { duration: Duration::from_secs(1) }, Transient),
            (T::MailboxOverflow { capacity: 8, pending: 8 }, Exhausted),
            (T::ResourceExhaustion { resource_type: text(), usage: 0.97 }, Exhausted),
            (T::ConsensusFailure { error_code: text() }, ConsensusFatal),
            (T::NetworkFailure { peer_id: None, error: text() }, Transient),
            (T::GovernanceFailure { event_type: text(), error: text() }, Transient),
            (T::FederationFailure { operation: text(), error: text() }, Transient),
            (T::HealthCheckFailure { consecutive_failures: 3 }, Transient),
            (T::ConfigurationError { field: text(), value: text() }, Configuration),
            (T::DependencyFailure { service: text(), error: text() }, Transient),
            (T::CorruptState { component: text(), error: text() }, Corrupt),
            (T::Killed, Transient),
            (T::Ended { reason: text() }, Transient),
            (T::Error { error: text() }, Transient),
        ] {
            assert_eq!(kind.class(), class, "{kind:?}");
            assert_eq!(Failure::of_error(&kind).kind(), &kind, "a typed error comes through unchanged");
        }
    }

    #[derive(Debug, Error)]
    #[error("while writing block 7")]
    struct Wrapped(#[source] std::io::Error);

    #[test]
    fn errors_are_recognised_by_type_also_where_another_wraps_them() {
        let full = Wrapped(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let failure = Failure::of_error(&full);
        assert_eq!((failure.class(), failure.message()), (FailureClass::Exhausted, "while writing block 7"));
        let absent = MailError::Absent(ActorName::literal("chain"));
        let ActorFailureType::DependencyFailure { service, .. } =
            Failure::of_error(&CallError::from(absent)).kind().clone()
        else {
            panic!("a dependency is absent");
        };
        assert_eq!(service, "chain");
        let field = FieldError { field: "within", value: "0ns".into(), expected: "more" };
        assert_eq!(Failure::of_error(&field).class(), FailureClass::Configuration);
        let other = Failure::of_error(&std::fmt::Error);
        assert_eq!(other.kind().kind(), "error");
    }
}
