//! Why the registry refuses.

use thiserror::Error;

use super::lifecycle::{ActorLifecycleState, IllegalMove};
use crate::config::FieldError;
use crate::id::{ActorName, NodeId};

/// Why the registry was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// The name is taken.
    #[error(
        "actor {name} is registered already and {state}; expected a name of its own, or one of the same \
         supervisor that is terminated"
    )]
    Duplicate {
        /// The name.
        name: ActorName,
        /// Where its holder stands.
        state: ActorLifecycleState,
    },
    /// Nobody has this name.
    #[error("no actor {name} is registered")]
    Unknown {
        /// The name.
        name: ActorName,
    },
    /// The actor can not go there.
    #[error("actor {name}: {source}")]
    Move {
        /// The actor.
        name: ActorName,
        /// From where to where.
        #[source]
        source: IllegalMove,
    },
    /// An actor is removed when it is terminated, not before.
    #[error("actor {name} is {state} and can not be removed; expected it to be terminated")]
    Alive {
        /// The actor.
        name: ActorName,
        /// Where it stands.
        state: ActorLifecycleState,
    },
    /// There is no room.
    #[error("{actors} actors are registered; expected fewer than {actors_max}")]
    Full {
        /// How many there are.
        actors: usize,
        /// How many there may be.
        actors_max: usize,
    },
    /// A value of the registration is wrong.
    #[error("registration of actor {name}: {source}")]
    Field {
        /// The actor.
        name: ActorName,
        /// Which value.
        #[source]
        source: FieldError,
    },
}

/// Why an actor is not reached.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// Nobody has this name.
    #[error("no actor {name} is registered")]
    Unknown {
        /// The name.
        name: ActorName,
    },
    /// It takes other messages.
    #[error("actor {name} takes messages of type {expected}; asked for {asked}")]
    WrongType {
        /// The actor.
        name: ActorName,
        /// What it takes.
        expected: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// It is asked otherwise.
    #[error("actor {name} of {node} is asked in {expected}; asked for {asked}")]
    WrongProtocol {
        /// The actor.
        name: ActorName,
        /// Its member.
        node: NodeId,
        /// How it is asked.
        expected: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// It takes messages from nobody.
    #[error("actor {name} is registered without an address")]
    Unreachable {
        /// The actor.
        name: ActorName,
    },
}
