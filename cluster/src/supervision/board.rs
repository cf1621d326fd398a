//! What the supervision tree looks like from outside.
//!
//! Each supervisor posts its own row when something changes; readers never wait for a supervisor, so that
//! the tree can be read while one of them hangs.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::intensity::RestartIntensity;
use super::state::Child;
use crate::id::ActorName;

/// A supervisor and its children, in start order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorRow {
    /// Its budget.
    pub intensity: RestartIntensity,
    /// Its children.
    pub children: Vec<(ActorName, Child)>,
    /// Why it gave up, if it did.
    pub gave_up: Option<String>,
}

/// Every supervisor's row, by its name.
#[derive(Clone, Debug, Default)]
pub struct TreeBoard {
    rows: Arc<RwLock<BTreeMap<ActorName, SupervisorRow>>>,
}

impl TreeBoard {
    /// Replaces the row of `supervisor`.
    pub(super) fn post(&self, supervisor: &ActorName, row: SupervisorRow) {
        self.rows.write().unwrap_or_else(PoisonError::into_inner).insert(supervisor.clone(), row);
    }

    /// The row of `supervisor`, if it ever started.
    pub fn row(&self, supervisor: &ActorName) -> Option<SupervisorRow> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).get(supervisor).cloned()
    }
}
