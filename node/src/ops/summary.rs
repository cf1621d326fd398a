//! JSON of `alys-node status`: a member's answers to several requests, combined in one object.

use serde::{Deserialize, Serialize};

use super::view::{EventView, FederationView, ReadyView};

/// Summary of one member and its federation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SummaryView {
    /// `WORKS`, `NO SPARE`, `STALLED` or `HALTED`: state of the federation as this member sees it.
    pub headline: String,
    /// Software version of the member.
    pub version: String,
    /// Number of automatic restarts in its supervision tree.
    pub restarts: u64,
    /// `GET /readyz`
    pub ready: ReadyView,
    /// `GET /federation/status`
    pub federation: FederationView,
    /// `GET /events`
    pub events: Vec<EventView>,
}

impl SummaryView {
    /// Returns the summary as JSON on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a view has a JSON form")
    }
}
