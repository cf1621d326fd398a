//! Errors of the registry.

use thiserror::Error;

use super::lifecycle::{ActorLifecycleState, IllegalMove};
use crate::config::FieldError;
use crate::id::{ActorName, NodeId};

/// Why a change of the registry was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The name is already registered.
    #[error(
        "actor {name} is registered already and {state}; expected a name of its own, or one of the same \
         supervisor that is terminated"
    )]
    Duplicate {
        /// Name that is already registered.
        name: ActorName,
        /// State of the actor with this name.
        state: ActorLifecycleState,
    },
    /// No actor has this name.
    #[error("no actor {name} is registered")]
    Unknown {
        /// Name that was requested.
        name: ActorName,
    },
    /// The state transition is illegal.
    #[error("actor {name}: {source}")]
    Move {
        /// Actor whose state was to change.
        name: ActorName,
        /// Current and requested state.
        #[source]
        source: IllegalMove,
    },
    /// Only a terminated actor can be removed.
    #[error("actor {name} is {state} and can not be removed; expected it to be terminated")]
    Alive {
        /// Actor that was to be removed.
        name: ActorName,
        /// Current state of the actor.
        state: ActorLifecycleState,
    },
    /// The registry is full.
    #[error("{actors} actors are registered; expected fewer than {actors_max}")]
    Full {
        /// Number of registered actors.
        actors: usize,
        /// Maximum number of actors.
        actors_max: usize,
    },
    /// A value of the registration is invalid.
    #[error("registration of actor {name}: {source}")]
    Field {
        /// Actor that was to be registered.
        name: ActorName,
        /// Field and value that are invalid.
        #[source]
        source: FieldError,
    },
}

/// Why a lookup returned no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// No actor has this name.
    #[error("no actor {name} is registered")]
    Unknown {
        /// Name that was requested.
        name: ActorName,
    },
    /// The actor takes messages of another type.
    #[error("actor {name} takes messages of type {expected}; asked for {asked}")]
    WrongType {
        /// Actor that was found.
        name: ActorName,
        /// Message type of the actor.
        expected: &'static str,
        /// Message type that was requested.
        asked: &'static str,
    },
    /// The remote actor uses another protocol.
    #[error("actor {name} of {node} is asked in {expected}; asked for {asked}")]
    WrongProtocol {
        /// Actor that was found.
        name: ActorName,
        /// Member that runs the actor.
        node: NodeId,
        /// Protocol of the actor.
        expected: String,
        /// Protocol that was requested.
        asked: &'static str,
    },
    /// The actor has no address in the registry.
    #[error("actor {name} is registered without an address")]
    Unreachable {
        /// Actor that was found.
        name: ActorName,
    },
}
