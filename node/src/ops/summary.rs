//! The JSON that `alys-node status` prints: what a member answered to several requests, in one object.

use serde::{Deserialize, Serialize};

use super::view::{EventView, FederationView, ReadyView};

/// One member and its federation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryView {
    /// `WORKS`, `NO SPARE`, `STALLED` or `HALTED`, as this member sees it.
    pub headline: String,
    /// Its version.
    pub version: String,
    /// Automatic restarts in its supervision tree.
    pub restarts: u64,
    /// `GET /readyz`
    pub ready: ReadyView,
    /// `GET /federation/status`
    pub federation: FederationView,
    /// `GET /events`
    pub events: Vec<EventView>,
}

impl SummaryView {
    /// As JSON on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a view has a JSON form")
    }
}
