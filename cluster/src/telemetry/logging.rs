//! Writes every event to the log and keeps the last ones for queries.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::history::History;
use super::message::LoggingMessage;
use super::{EventReceiver, EventSubscription, forward};
use crate::clock::Clock;
use crate::event::{ClusterEvent, Recorded};
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::NodeId;
use crate::mailbox::{Address, Mail};
use crate::trace::{ParentSpan, within_sync};

/// Configuration of the logger.
#[derive(Clone)]
pub struct LoggingActor {
    /// Address of the logger.
    pub address: Address<LoggingMessage>,
    /// Store of the last events.
    pub history: History,
    /// Name of this member, written to every line.
    pub node: NodeId,
    /// Clock for health checks.
    pub clock: Arc<dyn Clock>,
    /// Source of events.
    pub event_receiver: EventReceiver,
}

impl LoggingActor {
    fn write(&self, event: &ClusterEvent) {
        let (node, kind) = (self.node.as_str(), event.kind());
        if event.is_warning() {
            tracing::warn!(node, kind, "{event}");
        } else if matches!(event, ClusterEvent::RoundStarted { .. }) {
            tracing::debug!(node, kind, "{event}");
        } else {
            tracing::info!(node, kind, "{event}");
        }
    }

    fn remember(&self, recorded: Arc<Recorded>) {
        // The log line belongs to the event's trace, not to the message that this actor handles.
        let cause = recorded.trace.is_sampled().then(|| ParentSpan::local(recorded.trace));
        within_sync(cause, || self.write(&recorded.event));
        self.history.push(recorded);
    }
}

impl Actor for LoggingActor {
    type Msg = Mail<LoggingMessage>;
    type State = EventSubscription;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<EventSubscription, ActorProcessingErr> {
        self.address.bind(me);
        Ok(forward(&self.event_receiver, self.address.clone(), LoggingMessage::Event))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        _: &mut EventSubscription,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            LoggingMessage::Event(heard, done) => {
                match heard {
                    Ok(recorded) => self.remember(recorded),
                    Err(missed) => {
                        self.history.skip(missed);
                        tracing::warn!(node = self.node.as_str(), missed, "events were missed");
                    }
                }
                let _ = done.send(());
            }
            LoggingMessage::History(reply) => {
                let _ = reply.send(self.history.all());
            }
            LoggingMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
