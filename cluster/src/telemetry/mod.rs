//! Telemetry: told of every event, asked for nothing by anyone who decides.
//!
//! [`metrics`] counts, [`logging`] writes and remembers. Both hear the same [`EventBus`].

pub mod logging;
pub mod message;
pub mod metrics;

pub use logging::LoggingActor;
pub use message::{LoggingMessage, MetricsMessage};
pub use metrics::MetricsActor;

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

use crate::event::{EventBus, Recorded};
use crate::mailbox::Address;

/// Forwards events to an actor until dropped.
pub struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Forwards what `events` tells to `address`. What the listener was too slow for comes as a count.
fn forward<M: Send + 'static>(
    events: &EventBus,
    address: Address<M>,
    wrap: fn(Result<Arc<Recorded>, u64>) -> M,
) -> Listening {
    let mut receiver = events.listen();
    let task = tokio::spawn(async move {
        loop {
            let heard = match receiver.recv().await {
                Ok(recorded) => Ok(recorded),
                Err(RecvError::Lagged(missed)) => Err(missed),
                Err(RecvError::Closed) => return,
            };
            // A full mailbox loses the event here as a slow receiver loses it there.
            let _ = address.cast(wrap(heard));
        }
    });
    Listening(task.abort_handle())
}
