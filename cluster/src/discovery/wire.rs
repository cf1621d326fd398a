//! Defines the discovery messages between members.

use serde::{Deserialize, Serialize};

use super::advert::Advert;

/// Discovery message between members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiscoveryWire {
    /// Asks for the receiver's advert.
    Ask,
    /// The sender's advert.
    Advert(Advert),
}
