//! Cancels the start of a supervisor: ractor gives an actor no mailbox before its start is over.

use tokio::sync::watch;

/// Whether the start in progress is still wanted.
#[derive(Debug, Default)]
pub struct StartCancellation(watch::Sender<bool>);

impl StartCancellation {
    /// Marks the start that begins as wanted.
    pub fn begin(&self) {
        self.0.send_replace(false);
    }

    /// Cancels the start in progress.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Completes when the start is cancelled.
    pub async fn cancelled(&self) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}
