//! Telemetry: receives every event; no decision depends on it.
//!
//! [`metrics`] counts events and reads [`gauges`]; [`logging`] writes events to the log and keeps them in [`history`].
//! Both subscribe to the same [`EventBus`].

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

/// Receives events for an actor across its restarts: events sent while the actor restarts wait here, so the actor also
/// receives the events of its own restart.
#[derive(Clone)]
pub struct EventReceiver(Arc<Mutex<Heard>>);

struct Heard {
    receiver: broadcast::Receiver<Arc<Recorded>>,
    /// Event that no incarnation has finished handling.
    under_way: Option<Result<Arc<Recorded>, u64>>,
    /// Number of incarnations that ended while handling it.
    deaths: u32,
}

/// Number of incarnations that may end over one event before the event is dropped and counted as missed.
const DEATHS_MAX: u32 = 2;

impl EventReceiver {
    /// Subscribes to all events from now on.
    pub fn new(events: &EventBus) -> Self {
        Self(Arc::new(Mutex::new(Heard { receiver: events.listen(), under_way: None, deaths: 0 })))
    }
}

/// Forwards events to an actor until it is dropped.
pub struct EventSubscription(AbortHandle);

impl Drop for EventSubscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Maximum time to handle one event; a slower actor misses it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Forwards events from `event_receiver` to `address`, one after the other. Events that the actor was too slow for
/// arrive as a count. An event that an incarnation ended over is delivered once more to the next incarnation, then
/// dropped and counted as missed.
fn forward<M: Send + 'static>(
    event_receiver: &EventReceiver,
    address: Address<M>,
    wrap: fn(Result<Arc<Recorded>, u64>, RpcReplyPort<()>) -> M,
) -> EventSubscription {
    let event_receiver = event_receiver.clone();
    let task = tokio::spawn(async move {
        // The previous incarnation releases the lock when it ends.
        let mut heard = event_receiver.0.lock().await;
        loop {
            let event = match heard.under_way.take() {
                // The previous incarnation ended over this event.
                Some(Ok(recorded)) if heard.deaths + 1 >= DEATHS_MAX => {
                    let (listener, kind) = (address.name().as_str(), recorded.event.kind());
                    tracing::error!(listener, kind, "an event was dropped: its listener ended over it twice");
                    heard.deaths = 0;
                    Err(1)
                }
                Some(event) => {
                    heard.deaths += 1;
                    event
                }
                None => match heard.receiver.recv().await {
                    Ok(recorded) => Ok(recorded),
                    Err(RecvError::Lagged(missed)) => Err(missed),
                    Err(RecvError::Closed) => return,
                },
            };
            heard.under_way = Some(event.clone());
            match address.ask(DEADLINE, |reply| wrap(event, reply)).await {
                Ok(()) | Err(CallError::Deadline { .. } | CallError::Mail(MailError::Full { .. })) => {
                    (heard.under_way, heard.deaths) = (None, 0);
                }
                Err(CallError::Dropped(_) | CallError::Mail(MailError::Absent(_))) => return,
            }
        }
    });
    EventSubscription(task.abort_handle())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use crate::actor::{Actor, SelfRef};
    use ractor::ActorProcessingErr;

    use super::*;
    use crate::clock::SystemClock;
    use crate::event::ClusterEvent;
    use crate::id::{ActorName, BlockHeight};
    use crate::supervision::{
        ChildSpec, Context, EnhancedSupervision, RestartIntensity, RootEnd, SlotBudget, SupervisorSpec,
    };

    enum Order {
        Event(Result<Arc<Recorded>, u64>, RpcReplyPort<()>),
    }

    /// A subscriber that panics on height 13, in every incarnation.
    #[derive(Clone)]
    struct Fragile {
        address: Address<Order>,
        event_receiver: EventReceiver,
        heard: Arc<StdMutex<Vec<String>>>,
    }

    impl Actor for Fragile {
        type Msg = Order;
        type State = Option<EventSubscription>;
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
            self.heard.lock().expect("not poisoned").push("starts".to_owned());
            Ok(None)
        }

        async fn post_start(
            &self,
            _: SelfRef<Self::Msg>,
            subscription: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            *subscription = Some(forward(&self.event_receiver, self.address.clone(), Order::Event));
            Ok(())
        }

        async fn handle(
            &self,
            _: SelfRef<Self::Msg>,
            message: Self::Msg,
            _: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            let Order::Event(event, done) = message;
            let heard = match event {
                Ok(recorded) => match &recorded.event {
                    ClusterEvent::RoundStarted { height, .. } if height.0 == 13 => panic!("unlucky"),
                    ClusterEvent::RoundStarted { height, .. } => height.to_string(),
                    _ => {
                        let _ = done.send(());
                        return Ok(());
                    }
                },
                Err(missed) => format!("missed {missed}"),
            };
            self.heard.lock().expect("not poisoned").push(heard);
            let _ = done.send(());
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_its_listener_ends_over_comes_once_more_and_is_then_missed() {
        let clock = Arc::new(SystemClock::default());
        let events = EventBus::new(clock.clone());
        let context = Context::new("poison", clock, events.clone());
        let heard = Arc::default();
        let fragile = Fragile {
            address: Address::new(ActorName::literal("fragile"), 16),
            event_receiver: EventReceiver::new(&events),
            heard,
        };
        let seen = fragile.heard.clone();
        let child = ChildSpec::worker(&context, &fragile.address.clone(), move || (fragile.clone(), ()));
        let intensity = RestartIntensity { max_restarts: 20, within: Duration::from_hours(1) };
        let slot_budget = SlotBudget { max_missed: 10_000, within_slots: 1 };
        let spec = SupervisorSpec::new(ActorName::literal("root"), vec![child]);
        let spec = SupervisorSpec { intensity, slot_budget, ..spec };
        let root = EnhancedSupervision::start(spec, context).await.expect("it starts");
        for height in [1, 13, 2] {
            events.tell(ClusterEvent::RoundStarted { height: BlockHeight(height), round: 0 });
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        let heard = seen.lock().expect("not poisoned").clone();
        assert_eq!(heard, ["starts", "1", "starts", "starts", "missed 1", "2"]);
        root.stop();
        assert_eq!(root.ended().await, RootEnd::Stopped);
    }
}
