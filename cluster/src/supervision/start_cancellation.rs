//! Cancels the start of a supervisor. A message cannot: ractor gives an actor no mailbox before its start is over.

use tokio::sync::watch;

/// Whether the start in progress is cancelled.
#[derive(Debug, Default)]
pub struct StartCancellation(watch::Sender<bool>);

impl StartCancellation {
    /// Begins a new start that is not cancelled.
    pub fn begin(&self) {
        self.0.send_replace(false);
    }

    /// Cancels the start in progress.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Completes when the start is cancelled.
    pub async fn cancelled(&self) {
        // This cannot fail: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}
