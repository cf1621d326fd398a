//! What members say to each other about their actors.

use serde::{Deserialize, Serialize};

use super::advert::Advert;

/// Between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryWire {
    /// What do you publish?
    Ask,
    /// This.
    Advert(Advert),
}
