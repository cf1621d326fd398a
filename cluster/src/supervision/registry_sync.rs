//! Keeps the registry in step with a supervisor's children.
//!
//! A supervisor knows phases, the registry knows the specification's states; one phase change may take several state
//! transitions. Nothing here asks the actor, and there is no periodic cleanup: the supervisor is the only source.

use std::sync::PoisonError;

use super::child::{After, Child, ChildPhase};
use super::context::Context;
use super::spec::{ChildSpec, SupervisorSpec};
use super::tree::Shared;
use crate::id::{ActorName, ActorType};
use crate::registry::ActorLifecycleState::{
    self, Active, Failed, Registering, ShuttingDown, Suspended, Terminated,
};
use crate::registry::{Profile, Registration, RegistryError};

/// The transitions from a child's registry state to the state that its supervisor reports; `failed` if it just ended
/// abnormally. A child that was forgotten has no phase.
pub(super) fn moves(
    from: ActorLifecycleState,
    child: Option<&Child>,
    failed: bool,
) -> &'static [ActorLifecycleState] {
    let Some(child) = child else { return end(from, failed) };
    match child.phase {
        ChildPhase::Starting => match from {
            // Left behind by the supervisor's previous incarnation.
            Active => &[Failed],
            ShuttingDown => &[Terminated],
            Registering | Suspended | Failed | Terminated => &[],
        },
        ChildPhase::Running => match from {
            Registering | Suspended | Failed => &[Active],
            Active | ShuttingDown | Terminated => &[],
        },
        // The registry shows its next state only after it has ended.
        ChildPhase::Stopping
            if matches!(child.after, Some(After::Suspend | After::Fail(_) | After::Escalate(_))) =>
        {
            match from {
                Registering | Suspended | Failed => &[Active],
                Active | ShuttingDown | Terminated => &[],
            }
        }
        ChildPhase::Stopping => match from {
            Active => &[ShuttingDown],
            Registering | Suspended | Failed => &[Active, ShuttingDown],
            ShuttingDown | Terminated => &[],
        },
        ChildPhase::Restarting | ChildPhase::Halted => lost(from),
        ChildPhase::Stopped => end(from, failed),
        ChildPhase::Suspended => match from {
            Active => &[Suspended],
            ShuttingDown => &[Terminated],
            Registering => &[Failed],
            Suspended | Failed | Terminated => &[],
        },
    }
}

/// The transitions for a child that ended and is to be restarted.
pub(super) fn lost(from: ActorLifecycleState) -> &'static [ActorLifecycleState] {
    match from {
        Registering | Active | Suspended => &[Failed],
        ShuttingDown => &[Terminated],
        Failed | Terminated => &[],
    }
}

/// The transitions for a child that ended for good.
fn end(from: ActorLifecycleState, failed: bool) -> &'static [ActorLifecycleState] {
    match from {
        Active if !failed => &[ShuttingDown, Terminated],
        Registering | Active | Suspended => &[Failed, Terminated],
        ShuttingDown | Failed => &[Terminated],
        Terminated => &[],
    }
}

impl Context {
    /// Registry state of the actor `name` under `supervisor`; `None` if it is not registered there.
    fn standing(&self, supervisor: Option<&ActorName>, name: &ActorName) -> Option<ActorLifecycleState> {
        let entry = self.registry.entry(name)?;
        (entry.registration().supervisor.as_ref() == supervisor).then_some(entry.standing.state)
    }

    fn advance(&self, name: &ActorName, moves: &[ActorLifecycleState]) {
        for to in moves {
            if let Err(error) = self.registry.advance(self.clock.now(), name, *to) {
                // The table of transitions above is wrong, or other code moved an entry that belongs to a supervisor.
                tracing::error!(%error, "the registry was not told where an actor stands");
                debug_assert!(false, "{error}");
            }
        }
    }

    /// Updates the registry state of a child of `supervisor`; `failed` if it just ended abnormally.
    pub(super) fn follow(
        &self,
        supervisor: &ActorName,
        name: &ActorName,
        child: Option<&Child>,
        failed: bool,
    ) {
        if let Some(from) = self.standing(Some(supervisor), name) {
            self.advance(name, moves(from, child, failed));
        }
    }

    /// Marks a child of `supervisor` as shutting down.
    pub(super) fn stops(&self, supervisor: &ActorName, name: &ActorName) {
        if self.standing(Some(supervisor), name) == Some(Active) {
            self.advance(name, &[ShuttingDown]);
        }
    }

    /// Registers a child of `supervisor` before it is started.
    pub(super) fn register(
        &self,
        supervisor: &ActorName,
        spec: &ChildSpec,
        child: Option<&Child>,
    ) -> Result<(), RegistryError> {
        self.follow(supervisor, spec.name(), child, false);
        match self.standing(Some(supervisor), spec.name()) {
            Some(Registering | Active | Suspended | ShuttingDown | Failed) => Ok(()),
            Some(Terminated) | None => {
                self.registry.register(self.clock.now(), spec.registration(supervisor)).map(drop)
            }
        }
    }

    /// Marks the children of a supervisor that ended, perhaps without updating the registry. They ended with it.
    pub(super) fn orphan(&self, supervisor: &ActorName) {
        for name in self.tree.children(supervisor).into_iter().flatten() {
            let Some(from) = self.standing(Some(supervisor), &name) else { continue };
            self.orphan(&name);
            self.advance(&name, lost(from));
        }
    }

    /// Marks a child of `supervisor`, and its own children, as terminated together with the supervisor.
    pub(super) fn ends(&self, supervisor: &ActorName, name: &ActorName, failed: bool) {
        let Some(from) = self.standing(Some(supervisor), name) else { return };
        for child in self.tree.children(name).into_iter().flatten() {
            self.ends(name, &child, failed);
        }
        self.advance(name, end(from, failed));
    }

    /// Removes a child of `supervisor`, and its own children.
    pub(super) fn deregister(&self, supervisor: &ActorName, name: &ActorName) {
        // If the name belongs to another supervisor, leave that child and its children alone.
        let Some(from) = self.standing(Some(supervisor), name) else { return };
        for child in self.tree.children(name).into_iter().flatten() {
            self.deregister(name, &child);
        }
        self.tree.deregister(name);
        self.advance(name, end(from, false));
        if let Err(error) = self.registry.remove(name) {
            tracing::error!(%error, "the registry was not told that an actor is forgotten");
            debug_assert!(false, "{error}");
        }
    }

    /// Registers a supervisor that is about to start its children, and publishes `state` as its state.
    pub(super) fn take_place(&self, spec: &SupervisorSpec, state: &Shared) -> Result<(), RegistryError> {
        let _place = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        self.enroll_supervisor(spec)?;
        self.tree.show(&spec.name, state.clone(), &spec.address);
        Ok(())
    }

    /// Registers a supervisor without a parent; nothing else would.
    fn enroll_supervisor(&self, spec: &SupervisorSpec) -> Result<(), RegistryError> {
        let now = self.clock.now();
        // Children that were added to the previous incarnation ended with it.
        for name in self.tree.children(&spec.name).into_iter().flatten() {
            if spec.children.iter().all(|child| *child.name() != name) {
                self.deregister(&spec.name, &name);
            }
        }
        match self.registry.entry(&spec.name) {
            Some(entry) if entry.registration().supervisor.is_some() => return Ok(()),
            Some(entry) => {
                self.advance(&spec.name, lost(entry.standing.state));
                if self.standing(None, &spec.name) == Some(Failed) {
                    return Ok(());
                }
            }
            None => {}
        }
        let profile = Profile::new(ActorType::of::<super::Supervisor>());
        let mut registration = Registration::new(spec.name.clone(), profile);
        registration.priority = spec.priority;
        registration.address = Some(spec.address.any());
        self.registry.register(now, registration).map(drop)
    }

    /// Marks a supervisor without a parent as active.
    pub(super) fn root_runs(&self, name: &ActorName) {
        if self.standing(None, name).is_some() {
            self.advance(name, &[Active]);
        }
    }

    /// Marks a supervisor without a parent as ended.
    pub(super) fn root_ends(&self, name: &ActorName, failed: bool) {
        if let Some(from) = self.standing(None, name) {
            self.advance(name, end(from, failed));
        }
    }

    /// Updates the registry when the actor state of the supervisor with `state` is dropped. If it has no parent and was
    /// killed, nothing else has updated the registry. A successor may already have taken over its name, because ractor
    /// frees an actor's name before it drops the actor's state.
    pub(super) fn root_is_gone<'a>(
        &self,
        name: &ActorName,
        state: &Shared,
        children: impl Iterator<Item = &'a ActorName>,
    ) {
        let _place = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.tree.shows(name, state) || matches!(self.standing(None, name), None | Some(Terminated)) {
            return;
        }
        children.for_each(|child| self.ends(name, child, true));
        self.root_ends(name, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::id::{ActorName, ActorPriority};
    use crate::supervision::failure::{ActorFailureType, Failure};
    use crate::supervision::spec::{ChildPolicy, RestartType};
    use crate::supervision::strategy::RestartStrategy;
    use std::sync::Arc;

    fn child(phase: ChildPhase, after: Option<After>) -> Child {
        let policy = ChildPolicy {
            name: ActorName::literal("child"),
            restart: RestartType::Permanent,
            strategy: RestartStrategy::Immediate,
            at_boundary: false,
            significant: false,
            is_supervisor: false,
            priority: ActorPriority::Normal,
            depends_on: Arc::default(),
        };
        Child { phase, after, ..Child::new(Moment::ORIGIN, Arc::new(policy)) }
    }

    #[test]
    fn every_phase_is_reached_from_every_state_by_legal_moves_that_lead_to_it() {
        use ChildPhase::{Halted, Restarting, Running, Starting, Stopped, Stopping};
        let failure = || Failure::new(ActorFailureType::Killed);
        let cases = [
            (Starting, None, &[Registering, Failed, Suspended, Terminated][..]),
            (Running, None, &[Active]),
            (Stopping, Some(After::Rest), &[ShuttingDown]),
            (Stopping, Some(After::Cycle), &[ShuttingDown]),
            (Stopping, Some(After::Start), &[ShuttingDown]),
            (Stopping, Some(After::Suspend), &[Active]),
            (Stopping, Some(After::Fail(failure())), &[Active]),
            (Stopping, Some(After::Escalate(failure())), &[Active]),
            (Restarting, None, &[Failed, Terminated]),
            (Halted, None, &[Failed, Terminated]),
            (Stopped, None, &[Terminated]),
            (ChildPhase::Suspended, None, &[Suspended, Failed, Terminated]),
        ];
        for (phase, after, goals) in cases {
            let child = child(phase, after);
            for from in ActorLifecycleState::ALL {
                for failed in [false, true] {
                    let mut at = from;
                    for to in moves(from, Some(&child), failed) {
                        assert_eq!(at.check(*to), Ok(()), "{from} to {phase:?}");
                        at = *to;
                    }
                    // A child that stops or runs was started, and a start leaves these two states.
                    let is_impossible =
                        matches!(phase, Running | Stopping) && matches!(from, ShuttingDown | Terminated);
                    assert!(goals.contains(&at) || is_impossible, "{from} to {phase:?} ends {at}");
                }
            }
        }
        for from in ActorLifecycleState::ALL {
            assert_eq!(moves(from, None, true).last().copied().unwrap_or(from), Terminated);
        }
    }

    #[test]
    fn an_abnormal_end_is_a_failure_and_a_normal_one_is_none() {
        let stopped = child(ChildPhase::Stopped, None);
        assert_eq!(moves(Active, Some(&stopped), true), [Failed, Terminated]);
        assert_eq!(moves(Active, Some(&stopped), false), [ShuttingDown, Terminated]);
    }
}
