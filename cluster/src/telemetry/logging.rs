//! Writes every event to the log and keeps the last ones for queries.

use std::sync::Arc;

use crate::actor::{Actor, SelfRef};
use ractor::ActorProcessingErr;

use super::history::History;
use super::message::LoggingMessage;
use super::{EventReceiver, EventSubscription, forward};
use crate::event::{ClusterEvent, Recorded};
use crate::id::NodeId;
use crate::mailbox::Address;
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
    type Msg = LoggingMessage;
    type State = Option<EventSubscription>;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(None)
    }

    async fn post_start(
        &self,
        _: SelfRef<Self::Msg>,
        subscription: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        *subscription = Some(forward(&self.event_receiver, self.address.clone(), LoggingMessage::Event));
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
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
        }
        Ok(())
    }
}
