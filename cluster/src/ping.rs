//! Defines the ping-pong protocol (specification, Phase 5), used within a node and between members.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::WallTime;
use crate::id::{BlockHeight, Incarnation};

/// Health of an actor or a member according to its checks. [`crate::health::state`] defines the transitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Never checked.
    #[default]
    Unknown,
    /// The last check was answered with no problem.
    Healthy,
    /// A check failed, or the actor reports that it is degraded.
    Degraded,
    /// Too many checks failed, or the actor is not running.
    Unhealthy,
    /// The actor was unhealthy, and its supervisor was asked to restart it.
    Recovering,
    /// The actor was told to stop and is stopping.
    #[serde(rename = "shutting_down")]
    ShuttingDown,
}

impl HealthStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Recovering, Self::ShuttingDown];

    /// Name in lower case.
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

    /// Whether the status counts as working: healthy or degraded.
    pub fn is_serving(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks the receiver for its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingMessage {
    /// Unique for its source and incarnation; repeated in the pong.
    pub id: u64,
    /// Send time on the source's wall clock.
    pub timestamp: WallTime,
    /// Actor or member that sends the ping.
    pub source: String,
    /// Incarnation of the sending node.
    pub incarnation: Incarnation,
    /// Whether the ping asks about the whole member rather than one actor.
    pub federation_check: bool,
    /// Additional information.
    pub metadata: BTreeMap<String, String>,
}

/// Answers a [`PingMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PongMessage {
    /// Id of the ping that this answers.
    pub ping_id: u64,
    /// Send time on the answering side's wall clock.
    pub timestamp: WallTime,
    /// Actor or member that answers.
    pub source: String,
    /// Incarnation of the answering node.
    pub incarnation: Incarnation,
    /// Health as reported by the answering side.
    pub status: HealthCheckResult,
    /// Additional information.
    pub metadata: BTreeMap<String, String>,
}

/// Result of a health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheckResult {
    /// Status.
    pub status: HealthStatus,
    /// Why the status is not healthy; empty if it is.
    pub reason: String,
    /// Height of the chain, if the answering side is a member.
    pub height: BlockHeight,
}

impl HealthCheckResult {
    /// Creates a healthy result.
    pub fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, ..Self::default() }
    }

    /// Creates a degraded result with its reason.
    pub fn degraded(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::Degraded, reason: reason.into(), ..Self::default() }
    }

    /// Creates a result for an actor or member that is stopping.
    pub fn shutting_down(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::ShuttingDown, reason: reason.into(), ..Self::default() }
    }

    /// Creates an unhealthy result with its reason.
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self { status: HealthStatus::Unhealthy, reason: reason.into(), ..Self::default() }
    }
}
