//! Defines the messages of the discovery actor.

use super::wire::DiscoveryWire;
use crate::id::NodeId;

/// Messages of the discovery actor.
pub enum DiscoveryMessage {
    /// Periodic tick.
    Tick,
    /// A published actor may have changed.
    Changed,
    /// A message of another member.
    Wire(NodeId, DiscoveryWire),
}
