//! What members say to each other about their actors.

use serde::{Deserialize, Serialize};

use super::advert::Advert;
use crate::id::{ActorName, Incarnation};

/// Between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryWire {
    /// What do you publish?
    Ask,
    /// This.
    Advert(Advert),
    /// A question for one of your actors.
    Request {
        /// Repeated in the answer.
        id: u64,
        /// The incarnation of the member that is meant.
        incarnation: Incarnation,
        /// Who is asked.
        actor: ActorName,
        /// How the question is written.
        protocol: String,
        /// The question.
        question: Vec<u8>,
    },
    /// The answer, or why there is none.
    Response {
        /// Of the question.
        id: u64,
        /// See above.
        outcome: Result<Vec<u8>, String>,
    },
}
