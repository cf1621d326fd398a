//! Lifecycle states of an actor and the legal transitions between them (specification, Phase 3).
//!
//! ```text
//!   registering ──► active ──► shutting down ──► terminated ──► (removed, or registered again)
//!        │          ▲ │ │ ▲                          ▲
//!        │          │ │ │ └─── suspended             │
//!        │          │ │ └─────────▲ │                │
//!        └──────► failed ◄──────────┘                │
//!                   └────────────────────────────────┘
//! ```
//!
//! An actor that becomes active again is a new incarnation under the same name.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Lifecycle state of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorLifecycleState {
    /// Registered, and being started.
    Registering,
    /// Running.
    Active,
    /// Stopped until someone resumes it.
    Suspended,
    /// Asked to stop.
    ShuttingDown,
    /// Ended abnormally, or failed to start.
    Failed,
    /// Ended, and not restarted automatically.
    Terminated,
}

/// A transition that the specification does not allow. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an actor that is {from} can not become {to}; expected {}", Expected(*.from))]
pub struct IllegalMove {
    /// Current state.
    pub from: ActorLifecycleState,
    /// Requested state.
    pub to: ActorLifecycleState,
}

struct Expected(ActorLifecycleState);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.moves() {
            [] => f.write_str("its removal, or its registration anew"),
            [last] => last.fmt(f),
            [others @ .., last] => {
                others.iter().try_for_each(|state| write!(f, "{state}, "))?;
                write!(f, "or {last}")
            }
        }
    }
}

impl ActorLifecycleState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Registering,
        Self::Active,
        Self::Suspended,
        Self::ShuttingDown,
        Self::Failed,
        Self::Terminated,
    ];

    /// The transition table: the states reachable from this one.
    pub const fn moves(self) -> &'static [Self] {
        match self {
            Self::Registering | Self::Suspended => &[Self::Active, Self::Failed],
            Self::Active => &[Self::Suspended, Self::ShuttingDown, Self::Failed],
            Self::ShuttingDown => &[Self::Terminated],
            Self::Failed => &[Self::Active, Self::Terminated],
            Self::Terminated => &[],
        }
    }

    /// Checks that the transition to `to` is in the table.
    pub fn check(self, to: Self) -> Result<(), IllegalMove> {
        if self.moves().contains(&to) { Ok(()) } else { Err(IllegalMove { from: self, to }) }
    }

    /// Whether the transition to `to` begins a new incarnation.
    pub fn begins_incarnation(self, to: Self) -> bool {
        matches!(self, Self::Failed | Self::Suspended) && to == Self::Active
    }

    /// The name in `snake_case`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::ShuttingDown => "shutting_down",
            Self::Failed => "failed",
            Self::Terminated => "terminated",
        }
    }
}

impl fmt::Display for ActorLifecycleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::ActorLifecycleState::{Active, Failed, Registering, ShuttingDown, Suspended, Terminated};
    use super::*;

    #[test]
    fn exactly_the_moves_of_the_specification_are_legal() {
        let legal = [
            (Registering, Active),
            (Registering, Failed),
            (Active, Suspended),
            (Active, ShuttingDown),
            (Active, Failed),
            (Suspended, Active),
            (Suspended, Failed),
            (ShuttingDown, Terminated),
            (Failed, Active),
            (Failed, Terminated),
        ];
        for from in ActorLifecycleState::ALL {
            for to in ActorLifecycleState::ALL {
                let expected =
                    if legal.contains(&(from, to)) { Ok(()) } else { Err(IllegalMove { from, to }) };
                assert_eq!(from.check(to), expected, "{from} to {to}");
            }
        }
    }

    #[test]
    fn an_illegal_move_names_both_states_and_what_is_possible() {
        let error = |from: ActorLifecycleState, to| from.check(to).expect_err("illegal").to_string();
        assert_eq!(
            error(ShuttingDown, Active),
            "an actor that is shutting_down can not become active; expected terminated"
        );
        assert_eq!(
            error(Active, Registering),
            "an actor that is active can not become registering; expected suspended, shutting_down, or failed"
        );
        assert!(error(Terminated, Active).ends_with("expected its removal, or its registration anew"));
    }
}
