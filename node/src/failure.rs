//! Maps the member's errors to supervision failures, whose class selects the right action: damaged files are not
//! retried, and a protocol violation halts consensus.

use alys_cluster::supervision::{ActorFailureType, Failure};
use thiserror::Error;

use crate::consensus::core::CoreError;
use crate::consensus::guard::{JournalError, SigningRefusal};
use crate::consensus::log::LogError;
use crate::ports::StoreError;

/// An error's text, with the failure that it maps to as its source.
#[derive(Debug, Error)]
#[error("{text}")]
pub struct MemberFailure {
    text: String,
    #[source]
    kind: ActorFailureType,
}

impl MemberFailure {
    /// Maps `error` to a failure and keeps its text.
    pub fn of<E: ToString + Into<ActorFailureType>>(error: E) -> Self {
        Self { text: error.to_string(), kind: error.into() }
    }
}

fn corrupt(component: &str, error: &dyn std::fmt::Display) -> ActorFailureType {
    ActorFailureType::CorruptState { component: component.to_owned(), error: error.to_string() }
}

/// Full storage maps to an exhausted resource; other errors of the operating system are transient.
fn of_system(error: &(dyn std::error::Error + Send + Sync + 'static)) -> ActorFailureType {
    Failure::of_error(error).kind().clone()
}

impl From<StoreError> for ActorFailureType {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Io(_) => of_system(&error),
            StoreError::Corrupt(_) | StoreError::Value { .. } => corrupt("the block store", &error),
            StoreError::Chain { .. } | StoreError::Foreign => {
                Self::ConfigurationError { field: "data_dir".to_owned(), value: error.to_string() }
            }
            StoreError::Database(_) | StoreError::Order { .. } => Self::Error { error: error.to_string() },
        }
    }
}

impl From<JournalError> for ActorFailureType {
    fn from(error: JournalError) -> Self {
        match &error {
            JournalError::File { .. } => of_system(&error),
            // The actor's previous incarnation may not have ended yet.
            JournalError::InUse { .. } => Self::Error { error: error.to_string() },
            JournalError::Missing { .. }
            | JournalError::Damaged { .. }
            | JournalError::Empty { .. }
            | JournalError::Foreign { .. }
            | JournalError::Short { .. }
            | JournalError::Forgetful { .. } => corrupt("the signer's journal", &error),
        }
    }
}

impl From<LogError> for ActorFailureType {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::File { .. } => of_system(&error),
            LogError::Entry { .. } | LogError::Foreign { .. } => corrupt("the consensus log", &error),
            // The chain actor may not have opened its store yet.
            LogError::Ahead { .. } => Self::Error { error: error.to_string() },
        }
    }
}

impl From<CoreError> for ActorFailureType {
    fn from(error: CoreError) -> Self {
        match error {
            CoreError::Log(error) => error.into(),
            CoreError::Signer(refusal) => match *refusal {
                SigningRefusal::Journal(error) => error.into(),
                // The height driver does not fail with these refusals: it replays the height when the gate opens again.
                refusal @ (SigningRefusal::Gate(_) | SigningRefusal::Demand(_)) => {
                    Self::Error { error: refusal.to_string() }
                }
                refusal @ (SigningRefusal::Conflict { .. }
                | SigningRefusal::Regression(_)
                | SigningRefusal::Memory { .. }) => {
                    Self::ConsensusFailure { error_code: refusal.to_string() }
                }
            },
            error @ (CoreError::Protocol(_) | CoreError::Decision { .. }) => {
                Self::ConsensusFailure { error_code: error.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use alys_cluster::supervision::FailureClass;

    #[test]
    fn errors_of_the_member_have_the_class_that_answers_them() {
        let path = || "/data/x".into();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let other = || io::Error::from(io::ErrorKind::Interrupted);
        for (failure, class) in [
            (ActorFailureType::from(StoreError::Io(full())), FailureClass::Exhausted),
            (StoreError::Io(other()).into(), FailureClass::Transient),
            (StoreError::Corrupt("page 3".into()).into(), FailureClass::Corrupt),
            (JournalError::Damaged { path: path(), at: 7 }.into(), FailureClass::Corrupt),
            (JournalError::Missing { path: path(), height: 7 }.into(), FailureClass::Corrupt),
            (JournalError::InUse { path: path() }.into(), FailureClass::Transient),
            (LogError::File { path: path(), source: full() }.into(), FailureClass::Exhausted),
            (LogError::Foreign { path: path() }.into(), FailureClass::Corrupt),
            (LogError::Ahead { path: path(), log: 9, head: 3 }.into(), FailureClass::Transient),
            (CoreError::Protocol("no way on".into()).into(), FailureClass::ConsensusFatal),
        ] {
            assert_eq!(failure.class(), class, "{failure}");
        }
        let full = MemberFailure::of(LogError::File { path: path(), source: full() });
        let told = Failure::of_error(&full);
        assert_eq!(told.class(), FailureClass::Exhausted);
        assert!(told.message().contains("/data/x"), "the words name the file: {told}");
    }
}
