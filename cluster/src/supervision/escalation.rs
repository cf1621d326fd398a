//! Escalation steps for when a restart does not help, as data: per tier and failure class.
//!
//! An escalation path (ladder) is followed from its first step to the first one that applies.
//! [`EscalationStep::Restart`] applies while the child's strategy and every budget allow it;
//! [`EscalationStep::RestartSiblings`] applies while the budgets allow it, once per window;
//! [`EscalationStep::HaltConsensus`] is executed and the path continues; every other step ends it.

use super::failure::FailureClass;
use crate::id::ActorPriority;

/// One step of an escalation path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EscalationStep {
    /// Restart the child, and the siblings that the supervision strategy includes.
    Restart,
    /// Restart every child of the supervisor.
    RestartSiblings,
    /// Halt consensus operations through the gate, until an operator starts the child again. The path continues.
    HaltConsensus,
    /// Stop all children and end as a shutdown; the parent decides.
    RaiseToParent,
    /// Leave the child stopped; its siblings continue.
    StayDown,
    /// Shut the node down; after [`super::spec::SupervisorSpec::halt_for`] if the path halted consensus, so that an
    /// operator can read the reason. For the root this is the same as raising; below the root, the parent decides.
    StopNode,
}

impl EscalationStep {
    /// Whether the step restarts the child.
    pub fn is_restart(self) -> bool {
        matches!(self, Self::Restart | Self::RestartSiblings)
    }

    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::RestartSiblings => "restart_siblings",
            Self::HaltConsensus => "halt_consensus",
            Self::RaiseToParent => "raise_to_parent",
            Self::StayDown => "stay_down",
            Self::StopNode => "stop_node",
        }
    }
}

/// Escalation steps for one class in one tier.
pub type EscalationPath = &'static [EscalationStep];

/// Escalation paths by tier (critical, high, normal, background) and by class, in the order of [`FailureClass::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscalationTable(pub [[EscalationPath; 5]; 4]);

use EscalationStep::{HaltConsensus, RaiseToParent, Restart, RestartSiblings, StayDown, StopNode};

const RETRY: EscalationPath = &[Restart, RaiseToParent];
const RETRY_TOGETHER: EscalationPath = &[Restart, RestartSiblings, RaiseToParent];
const RETRY_OR_HALT: EscalationPath = &[Restart, HaltConsensus, StopNode];
const RETRY_OR_LEAVE: EscalationPath = &[Restart, StayDown];
const RAISE: EscalationPath = &[RaiseToParent];
const HALT_AND_RAISE: EscalationPath = &[HaltConsensus, RaiseToParent];
const HALT: EscalationPath = &[HaltConsensus, StopNode];
const LEAVE: EscalationPath = &[StayDown];

impl EscalationTable {
    /// Erlang/OTP's escalation: restart within the budget, then raise; failures that a restart would only repeat are
    /// raised at once.
    pub const OTP: Self = Self([[RETRY, RETRY, RAISE, RAISE, HALT_AND_RAISE]; 4]);

    /// Escalation in the tiers of a node.
    ///
    /// | | transient, exhausted | corrupt, configuration | consensus-fatal |
    /// | --- | --- | --- | --- |
    /// | critical, high | restart, siblings, raise | raise | halt, raise |
    /// | normal | restart, raise | raise | halt, raise |
    /// | background | restart, raise | stay down | halt, raise |
    pub const TIER: Self = Self([
        [RETRY_TOGETHER, RETRY_TOGETHER, RAISE, RAISE, HALT_AND_RAISE],
        [RETRY_TOGETHER, RETRY_TOGETHER, RAISE, RAISE, HALT_AND_RAISE],
        [RETRY, RETRY, RAISE, RAISE, HALT_AND_RAISE],
        [RETRY, RETRY, LEAVE, LEAVE, HALT_AND_RAISE],
    ]);

    /// Escalation at the root of a node, whose children are the tiers.
    ///
    /// | | transient, exhausted | corrupt, configuration | consensus-fatal |
    /// | --- | --- | --- | --- |
    /// | critical, high, normal | restart, halt, stop the node | halt, stop the node | halt, stop the node |
    /// | background | restart, stay down | stay down | halt, stop the node |
    pub const ROOT: Self = Self([
        [RETRY_OR_HALT, RETRY_OR_HALT, HALT, HALT, HALT],
        [RETRY_OR_HALT, RETRY_OR_HALT, HALT, HALT, HALT],
        [RETRY_OR_HALT, RETRY_OR_HALT, HALT, HALT, HALT],
        [RETRY_OR_LEAVE, RETRY_OR_LEAVE, LEAVE, LEAVE, HALT],
    ]);

    /// The escalation path for a child of this tier that failed in this class.
    pub fn ladder(&self, tier: ActorPriority, class: FailureClass) -> EscalationPath {
        self.0[tier as usize][class as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ladder_ends_and_none_restarts_what_would_only_repeat() {
        for table in [EscalationTable::OTP, EscalationTable::TIER, EscalationTable::ROOT] {
            for tier in [
                ActorPriority::Critical,
                ActorPriority::High,
                ActorPriority::Normal,
                ActorPriority::Background,
            ] {
                for class in FailureClass::ALL {
                    let ladder = table.ladder(tier, class);
                    let ends = matches!(ladder.last(), Some(RaiseToParent | StayDown | StopNode));
                    assert!(ends, "{tier} {class}: {ladder:?}");
                    let retries = ladder.contains(&Restart);
                    let may_retry = matches!(class, FailureClass::Transient | FailureClass::Exhausted);
                    assert_eq!(retries, may_retry, "{tier} {class}: {ladder:?}");
                    if class == FailureClass::ConsensusFatal {
                        assert_eq!(ladder[0], HaltConsensus, "{tier}: consensus is halted first");
                    }
                }
            }
        }
    }
}
