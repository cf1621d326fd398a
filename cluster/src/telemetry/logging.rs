//! Writes every event to the log, and remembers the last ones for whoever asks.

use std::collections::VecDeque;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::LoggingMessage;
use super::{Listening, forward};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus, Recorded};
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
    /// This member, named in every line.
    pub node: NodeId,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// What it hears.
    pub events: EventBus,
}

/// The shell's memory.
pub struct Shell {
    history: VecDeque<Arc<Recorded>>,
    _listening: Listening,
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
}

impl Actor for LoggingActor {
    type Msg = Mail<LoggingMessage>;
    type State = Shell;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Shell, ActorProcessingErr> {
        self.address.bind(me);
        let listening = forward(&self.events, self.address.clone(), LoggingMessage::Event);
        Ok(Shell { history: VecDeque::new(), _listening: listening })
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            LoggingMessage::Event(Ok(recorded)) => {
                self.write(&recorded.event);
                if shell.history.len() == HISTORY_MAX {
                    shell.history.pop_front();
                }
                shell.history.push_back(recorded);
            }
            LoggingMessage::Event(Err(missed)) => {
                tracing::warn!(node = self.node.as_str(), missed, "events were missed");
            }
            LoggingMessage::History(reply) => {
                let _ = reply.send(shell.history.iter().cloned().collect());
            }
            LoggingMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
