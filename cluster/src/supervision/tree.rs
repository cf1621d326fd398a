//! What the supervision tree looks like from outside.
//!
//! Each supervisor's state hangs here from its start on; readers take a copy of what they need and never wait
//! for a supervisor, so that the tree can be read while one of them hangs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::child::{Child, ChildPhase};
use super::failure::Failure;
use super::intensity::{Budget, RestartIntensity};
use super::message::SupervisorMessage;
use super::spec::{ChildPolicy, SupervisionStrategy};
use super::state::SupervisorState;
use crate::clock::Moment;
use crate::id::ActorName;
use crate::mailbox::Address;

/// A supervisor and its children, in start order.
#[derive(Clone, Debug)]
pub struct SupervisorRow {
    /// Who is restarted with whom.
    pub group: SupervisionStrategy,
    /// Its budget.
    pub intensity: RestartIntensity,
    /// The first of its children.
    pub children: Vec<Child>,
    /// How many there are.
    pub count: usize,
    /// Why it gave up, if it did.
    pub gave_up: Option<String>,
}

/// An actor that supervises nobody, and where its supervisor is reached.
#[derive(Clone, Debug)]
pub struct Worker {
    /// What was told of it.
    pub policy: Arc<ChildPolicy>,
    /// Where it stands.
    pub phase: ChildPhase,
    /// Automatic restarts, failed attempts included.
    pub restarts: u64,
    /// Why it last ended, if it ever did.
    pub last_exit: Option<Failure>,
    /// Its supervisor.
    pub supervisor: Address<SupervisorMessage>,
}

pub(super) type Shared = Arc<Mutex<SupervisorState>>;
type Row = (Shared, Address<SupervisorMessage>);

/// Every supervisor's state and address, by its name.
#[derive(Clone, Debug, Default)]
pub struct TreeReader {
    supervisors: Arc<RwLock<BTreeMap<ActorName, Row>>>,
    /// Children killed because they did not stop in time, since somebody asked.
    killed: Arc<Mutex<VecDeque<ActorName>>>,
}

/// Killed children remembered; the oldest is forgotten.
const KILLED_MAX: usize = 1_024;

fn read<T>(shared: &Shared, look: impl FnOnce(&mut SupervisorState) -> T) -> T {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl TreeReader {
    /// Shows the state of `supervisor`, which is reached at `address`, from now on.
    pub(super) fn show(&self, supervisor: &ActorName, state: Shared, address: &Address<SupervisorMessage>) {
        let mut supervisors = self.supervisors.write().unwrap_or_else(PoisonError::into_inner);
        supervisors.insert(supervisor.clone(), (state, address.clone()));
    }

    /// Whether this is the state that is shown of `supervisor`: nobody has taken its place.
    pub(super) fn shows(&self, supervisor: &ActorName, state: &Shared) -> bool {
        self.shared(supervisor).is_some_and(|shown| Arc::ptr_eq(&shown, state))
    }

    /// `child` did not stop in time and is killed.
    pub(super) fn note_killed(&self, child: &ActorName) {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        if killed.len() == KILLED_MAX {
            killed.pop_front();
        }
        killed.push_back(child.clone());
    }

    /// Children killed because they did not stop in time, since this was last asked; at most 1,024, the oldest
    /// first.
    pub fn take_killed(&self) -> Vec<ActorName> {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// The names of its children as far as is known, also when it has ended; `None` for one that is no supervisor.
    pub(super) fn children(&self, supervisor: &ActorName) -> Option<Vec<ActorName>> {
        let shared = self.shared(supervisor)?;
        Some(read(&shared, |state| state.children().map(|(_, child)| child.policy.name.clone()).collect()))
    }

    /// No longer shows a supervisor that was forgotten.
    pub(super) fn deregister(&self, supervisor: &ActorName) {
        self.supervisors.write().unwrap_or_else(PoisonError::into_inner).remove(supervisor);
    }

    fn shared(&self, supervisor: &ActorName) -> Option<Shared> {
        self.supervisors
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(supervisor)
            .map(|(state, _)| state.clone())
    }

    fn all(&self) -> Vec<(ActorName, Shared, Address<SupervisorMessage>)> {
        let supervisors = self.supervisors.read().unwrap_or_else(PoisonError::into_inner);
        let row =
            |(name, (state, address)): (&ActorName, &Row)| (name.clone(), state.clone(), address.clone());
        supervisors.iter().map(row).collect()
    }

    /// Every actor of the tree that supervises nobody.
    pub fn workers(&self) -> Vec<Worker> {
        let mut workers = Vec::new();
        for (_, state, supervisor) in self.all() {
            read(&state, |state| {
                let children = state.children().filter(|(_, child)| !child.policy.is_supervisor);
                workers.extend(children.map(|(_, child)| worker(child, &supervisor)));
            });
        }
        workers
    }

    /// The actor with this name, if it supervises nobody: what its supervisor knows of it at this moment.
    pub fn worker(&self, name: &ActorName) -> Option<Worker> {
        self.all().into_iter().find_map(|(_, state, supervisor)| {
            read(&state, |state| {
                let child = state.key(name).ok().and_then(|key| state.child(key));
                child.filter(|child| !child.policy.is_supervisor).map(|child| worker(child, &supervisor))
            })
        })
    }

    /// Why the actor with this name last ended, if that is known. Known before the registry says that it ended.
    pub fn last_words(&self, name: &ActorName) -> Option<String> {
        self.worker(name)?.last_exit.map(|exit| exit.to_string())
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
        let budget =
            |(name, shared, _): (ActorName, Shared, _)| (name, read(&shared, |state| state.budget(now)));
        self.all().into_iter().map(budget).collect()
    }
}

fn worker(child: &Child, supervisor: &Address<SupervisorMessage>) -> Worker {
    Worker {
        policy: child.policy.clone(),
        phase: child.phase,
        restarts: child.restarts,
        last_exit: child.last_exit.clone(),
        supervisor: supervisor.clone(),
    }
}
