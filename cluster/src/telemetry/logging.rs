//! Writes every event to the log, and remembers the last ones for whoever asks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::LoggingMessage;
use super::{Ear, Listening, forward};
use crate::clock::Clock;
use crate::event::{ClusterEvent, Recorded};
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::NodeId;
use crate::mailbox::{Address, Mail};

/// Events remembered.
const HISTORY_MAX: usize = 1024;

/// What the logger works with.
#[derive(Clone)]
pub struct LoggingActor {
    /// Where it is reached.
    pub address: Address<LoggingMessage>,
    /// What it remembers.
    pub history: History,
    /// This member, named in every line.
    pub node: NodeId,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// What it hears.
    pub ear: Ear,
}

/// The events remembered. They outlive a restart of the actor.
pub type History = Arc<Mutex<VecDeque<Arc<Recorded>>>>;

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
        self.write(&recorded.event);
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY_MAX {
            history.pop_front();
        }
        history.push_back(recorded);
    }
}

impl Actor for LoggingActor {
    type Msg = Mail<LoggingMessage>;
    type State = Listening;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Listening, ActorProcessingErr> {
        self.address.bind(me);
        Ok(forward(&self.ear, self.address.clone(), LoggingMessage::Event))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        _: &mut Listening,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            LoggingMessage::Event(heard, done) => {
                match heard {
                    Ok(recorded) => self.remember(recorded),
                    Err(missed) => {
                        tracing::warn!(node = self.node.as_str(), missed, "events were missed");
                    }
                }
                let _ = done.send(());
            }
            LoggingMessage::History(reply) => {
                let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = reply.send(history.iter().cloned().collect());
            }
            LoggingMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
