//! A read-only view of the supervision tree.
//!
//! Each supervisor's state is available here from its start on. Readers copy what they need and never wait for a
//! supervisor, so the tree can be read while one of them hangs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// Which children are restarted when one fails.
    pub group: SupervisionStrategy,
    /// Restart budget.
    pub intensity: RestartIntensity,
    /// First children, up to the requested number.
    pub children: Vec<Child>,
    /// Number of all children.
    pub count: usize,
    /// Why the supervisor gave up; `None` if it did not.
    pub gave_up: Option<String>,
}

/// An actor that is not a supervisor, and its supervisor's address.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Policy of the actor.
    pub policy: Arc<ChildPolicy>,
    /// Current phase.
    pub phase: ChildPhase,
    /// Number of automatic restarts, including failed attempts.
    pub restarts: u64,
    /// Last exit; `None` if it never ended.
    pub last_exit: Option<Failure>,
    /// Address of its supervisor.
    pub supervisor: Address<SupervisorMessage>,
}

pub(super) type Shared = Arc<Mutex<SupervisorState>>;
type Row = (Shared, Address<SupervisorMessage>);

/// State and address of every supervisor, by name.
#[derive(Clone, Debug, Default)]
pub struct TreeReader {
    supervisors: Arc<RwLock<BTreeMap<ActorName, Row>>>,
    /// Children killed because they did not stop in time, since the last read.
    killed: Arc<Mutex<VecDeque<ActorName>>>,
}

/// Maximum number of killed children kept; the oldest is dropped.
const KILLED_MAX: usize = 1_024;

fn read<T>(shared: &Shared, look: impl FnOnce(&mut SupervisorState) -> T) -> T {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

impl TreeReader {
    /// Publishes the state and address of `supervisor`.
    pub(super) fn show(&self, supervisor: &ActorName, state: Shared, address: &Address<SupervisorMessage>) {
        let mut supervisors = self.supervisors.write().unwrap_or_else(PoisonError::into_inner);
        supervisors.insert(supervisor.clone(), (state, address.clone()));
    }

    /// Whether `state` is the published state of `supervisor`, and no successor has replaced it.
    pub(super) fn shows(&self, supervisor: &ActorName, state: &Shared) -> bool {
        self.shared(supervisor).is_some_and(|shown| Arc::ptr_eq(&shown, state))
    }

    /// Records that `child` did not stop in time and is killed.
    pub(super) fn note_killed(&self, child: &ActorName) {
        let mut killed = self.killed.lock().unwrap_or_else(PoisonError::into_inner);
        if killed.len() == KILLED_MAX {
            killed.pop_front();
        }
        killed.push_back(child.clone());
    }

    /// Takes the children that were killed because they did not stop in time since the last call; at most 1,024, oldest
    /// first.
    pub fn take_killed(&self) -> Vec<ActorName> {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// The last known names of its children, even after it ended; `None` if `supervisor` is no supervisor.
    pub(super) fn children(&self, supervisor: &ActorName) -> Option<Vec<ActorName>> {
        let shared = self.shared(supervisor)?;
        Some(read(&shared, |state| state.children().map(|(_, child)| child.policy.name.clone()).collect()))
    }

    /// Removes a supervisor that was forgotten.
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

    /// Actors below the supervisor `root` that are not supervisors themselves.
    pub fn workers_under(&self, root: &ActorName) -> Vec<Worker> {
        let (mut supervisors, mut new) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(name) = new.pop() {
            // A child that is not a supervisor has no children.
            new.extend(self.children(&name).into_iter().flatten());
            supervisors.insert(name);
        }
        let is_below = |worker: &Worker| supervisors.contains(worker.supervisor.name());
        self.workers().into_iter().filter(is_below).collect()
    }

    /// Every actor of the tree that is not a supervisor.
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

    /// The current state of the actor `name` as its supervisor knows it; `None` if it is a supervisor or unknown.
    pub fn worker(&self, name: &ActorName) -> Option<Worker> {
        self.all().into_iter().find_map(|(_, state, supervisor)| {
            read(&state, |state| {
                let child = state.key(name).ok().and_then(|key| state.child(key));
                child.filter(|child| !child.policy.is_supervisor).map(|child| worker(child, &supervisor))
            })
        })
    }

    /// Reason of the actor's last exit, if known. It is available before the registry reports the exit.
    pub fn last_words(&self, name: &ActorName) -> Option<String> {
        self.worker(name)?.last_exit.map(|exit| exit.to_string())
    }

    /// The row of `supervisor` with at most `children_max` of its children; `None` if it never started.
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

    /// Every supervisor with its restart budget at `now`.
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
