//! What a supervisor tells itself.

/// What a supervisor tells itself.
pub enum SupervisorMessage {
    /// Start the child at this place, after it ended or failed to start.
    Start(usize),
}

impl ractor::Message for SupervisorMessage {}
