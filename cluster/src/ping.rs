//! The ping-pong protocol (specification, Phase 5), used within a node and between members.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::id::{BlockHeight, Incarnation};

/// What the checks say of an actor or a member. Transitions are in [`crate::health::state`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Never checked.
    #[default]
    Unknown,
    /// The last check was answered well.
    Healthy,
    /// A check failed, or the actor says that it works with restrictions.
    Degraded,
    /// Checks failed too often, or the actor is not running.
    Unhealthy,
    /// It was unhealthy, and its supervisor was asked to restart it.
    Recovering,
    /// It is going to stop, as it was told to.
    #[serde(rename = "shutting_down")]
    ShuttingDown,
}

impl HealthStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Recovering, Self::ShuttingDown];

    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Recovering => "recovering",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// Whether it can be counted on: healthy, or degraded.
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A question whether the receiver works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingMessage {
    /// Unique for its source and incarnation; the pong repeats it.
    pub id: u64,
    /// When it was sent, on the source's wall clock.
    pub timestamp: WallTime,
    /// Who asks: an actor, or a member.
    pub source: String,
    /// The asking node's incarnation.
    pub incarnation: Incarnation,
    /// Whether it asks for the whole member rather than one actor.
    pub federation_check: bool,
    /// Anything else worth saying.
    pub metadata: BTreeMap<String, String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PongMessage {
    /// Which ping it answers.
    pub ping_id: u64,
    /// When it was sent, on the answerer's wall clock.
    pub timestamp: WallTime,
    /// Who answers.
    pub source: String,
    /// The answering node's incarnation.
    pub incarnation: Incarnation,
    /// What the answerer says of itself.
    pub status: HealthCheckResult,
    /// Anything else worth saying.
    pub metadata: BTreeMap<String, String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheckResult {
    /// The verdict.
    pub status: HealthStatus,
    /// Why it is not healthy; empty when it is.
    pub reason: String,
    /// The chain's height, where the answerer speaks for a member.
    pub height: BlockHeight,
}

impl HealthCheckResult {
    /// All is well.
    pub fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, ..Self::default() }
    }

    /// It works with restrictions.
    pub fn degraded(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::Degraded, reason: reason.into(), ..Self::default() }
    }

    /// It is going to stop.
    pub fn shutting_down(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::ShuttingDown, reason: reason.into(), ..Self::default() }
    }

    /// It does not work.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::Unhealthy, reason: reason.into(), ..Self::default() }
    }
}
