//! What the supervision tree looks like from outside.
//!
//! Each supervisor's state hangs here from its start on; readers take a copy of what they need and never wait
//! for a supervisor, so that the tree can be read while one of them hangs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::child::Child;
use super::intensity::{Budget, RestartIntensity};
use super::spec::RestartGroup;
use super::state::SupervisorState;
use crate::clock::Moment;
use crate::id::ActorName;

/// A supervisor and its children, in start order.
#[derive(Clone, Debug)]
pub struct SupervisorRow {
    /// Who is restarted with whom.
    pub group: RestartGroup,
    /// Its budget.
    pub intensity: RestartIntensity,
    /// The first of its children.
    pub children: Vec<Child>,
    /// How many there are.
    pub count: usize,
    /// Why it gave up, if it did.
    pub gave_up: Option<String>,
}

type Shared = Arc<Mutex<SupervisorState>>;

/// Every supervisor's state, by its name.
#[derive(Clone, Debug, Default)]
pub struct TreeBoard {
    supervisors: Arc<RwLock<BTreeMap<ActorName, Shared>>>,
}

fn read<T>(shared: &Shared, look: impl FnOnce(&mut SupervisorState) -> T) -> T {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl TreeBoard {
    /// Shows the state of `supervisor` from now on.
    pub(super) fn show(&self, supervisor: &ActorName, state: Shared) {
        self.supervisors.write().unwrap_or_else(PoisonError::into_inner).insert(supervisor.clone(), state);
    }

    /// The names of its children as far as is known, also when it has ended; `None` for one that is no supervisor.
    pub(super) fn children(&self, supervisor: &ActorName) -> Option<Vec<ActorName>> {
        let shared = self.shared(supervisor)?;
        Some(read(&shared, |state| state.children().map(|(_, child)| child.policy.name.clone()).collect()))
    }

    /// No longer shows a supervisor that was forgotten.
    pub(super) fn forget(&self, supervisor: &ActorName) {
        self.supervisors.write().unwrap_or_else(PoisonError::into_inner).remove(supervisor);
    }

    fn shared(&self, supervisor: &ActorName) -> Option<Shared> {
        self.supervisors.read().unwrap_or_else(PoisonError::into_inner).get(supervisor).cloned()
    }

    /// The row of `supervisor` with at most `children_max` of its children, if it ever started.
    pub fn row(&self, supervisor: &ActorName, children_max: usize) -> Option<SupervisorRow> {
        let shared = self.shared(supervisor)?;
        Some(read(&shared, |state| SupervisorRow {
            group: state.group(),
            intensity: state.intensity(),
            children: state.children().take(children_max).map(|(_, child)| child.clone()).collect(),
            count: state.children().len(),
            gave_up: state.gave_up().map(ToString::to_string),
        }))
    }

    /// Every supervisor and what is left of its restart budget.
    pub fn budgets(&self, now: Moment) -> Vec<(ActorName, Budget)> {
        let supervisors = self.supervisors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let budget = |(name, shared): (ActorName, Shared)| (name, read(&shared, |state| state.budget(now)));
        supervisors.into_iter().map(budget).collect()
    }
}
