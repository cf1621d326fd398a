//! Calls a supervisor back that is still starting: ractor has no mailbox for an actor before its start is over.

use tokio::sync::watch;

/// Whether the start that is under way is wanted.
#[derive(Debug, Default)]
pub struct Recall(watch::Sender<bool>);

impl Recall {
    /// A start begins that is wanted.
    pub fn begin(&self) {
        self.0.send_replace(false);
    }

    /// The start that is under way is not wanted any more.
    pub fn recall(&self) {
        self.0.send_replace(true);
    }

    /// Ends when the start is not wanted any more.
    pub async fn recalled(&self) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|recalled| *recalled).await;
    }
}
