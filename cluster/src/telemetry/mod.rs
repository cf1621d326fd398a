//! Telemetry: told of every event, asked for nothing by anyone who decides.
//!
//! [`metrics`] counts, and shows what [`gauges`] was read; [`logging`] writes, and remembers in [`history`]. Both hear
//! the same [`EventBus`].

mod families;
pub mod gauges;
pub mod history;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod spans;

pub use history::History;
pub use logging::LoggingActor;
pub use message::{LoggingMessage, MetricsMessage};
pub use metrics::MetricsActor;

use std::sync::Arc;
use std::time::Duration;

use ractor::RpcReplyPort;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast};
use tokio::task::AbortHandle;

use crate::event::{EventBus, Recorded};
use crate::mailbox::{Address, CallError, MailError};

/// Hears events for an actor, whichever incarnation of it runs: what is told while it is being restarted waits
/// here, so that the restart of a listener is told, too.
#[derive(Clone)]
pub struct Ear(Arc<Mutex<Heard>>);

struct Heard {
    receiver: broadcast::Receiver<Arc<Recorded>>,
    /// What no incarnation has dealt with yet.
    under_way: Option<Result<Arc<Recorded>, u64>>,
}

impl Ear {
    /// Hears everything told from now on.
    pub fn new(events: &EventBus) -> Self {
        Self(Arc::new(Mutex::new(Heard { receiver: events.listen(), under_way: None })))
    }
}

/// Forwards events to an actor until dropped.
pub struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The longest one event may take; a listener that is slower misses it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Forwards what `ear` hears to `address`, one after the other. What the listener was too slow for comes as a count;
/// what it died over comes to its successor.
fn forward<M: Send + 'static>(
    ear: &Ear,
    address: Address<M>,
    wrap: fn(Result<Arc<Recorded>, u64>, RpcReplyPort<()>) -> M,
) -> Listening {
    let ear = ear.clone();
    let task = tokio::spawn(async move {
        // The incarnation before lets go of it when it ends.
        let mut heard = ear.0.lock().await;
        loop {
            let event = match heard.under_way.take() {
                Some(event) => event,
                None => match heard.receiver.recv().await {
                    Ok(recorded) => Ok(recorded),
                    Err(RecvError::Lagged(missed)) => Err(missed),
                    Err(RecvError::Closed) => return,
                },
            };
            heard.under_way = Some(event.clone());
            match address.call(DEADLINE, |reply| wrap(event, reply)).await {
                Ok(()) | Err(CallError::Deadline { .. } | CallError::Mail(MailError::Full { .. })) => {
                    heard.under_way = None;
                }
                Err(CallError::Dropped(_) | CallError::Mail(MailError::Absent(_))) => return,
            }
        }
    });
    Listening(task.abort_handle())
}
