//! Runs the recovery agent as an actor: it receives the results of checks and requests restarts.

use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use ractor::ActorProcessingErr;

use super::message::{HealthMessage, RecoveryMessage};
use super::recovery::{Effect, Input, Recovery, RecoveryConfig};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::mailbox::Address;
use crate::port::RestartRequester;

/// Interval at which patience and deadlines are checked.
const TICK: Duration = Duration::from_millis(250);

/// Configuration and dependencies of the recovery agent.
#[derive(Clone)]
pub struct RecoveryAgent {
    /// Policy for restart requests.
    pub config: RecoveryConfig,
    /// The monitor whose results it receives, and which it supervises for silence.
    pub monitor: Address<HealthMessage>,
    /// Sends restart requests to supervisors.
    pub restart_requester: Arc<dyn RestartRequester>,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Receives recovery events.
    pub events: EventBus,
}

type Me = SelfRef<RecoveryMessage>;

impl RecoveryAgent {
    fn input(&self, me: &Me, recovery: &mut Recovery, input: Input) {
        for effect in recovery.handle(self.clock.now(), input) {
            match effect {
                Effect::Ask(actor, failures) => {
                    let (me, asking) = (me.clone(), self.restart_requester.restart(&actor, failures));
                    tokio::spawn(async move {
                        // The restart request has a deadline of its own.
                        me.cast(RecoveryMessage::Answered(actor, asking.await));
                    });
                }
                Effect::Escalate(actor, failures) => {
                    // The supervisor acts on it and reports the result.
                    drop(tokio::spawn(self.restart_requester.escalate(&actor, failures)));
                }
                Effect::Tell(actor, stage, note) => {
                    // If the monitor is restarting, its checks detect the state again.
                    let _ = self.monitor.cast(HealthMessage::Recovery(actor.clone(), stage, note.clone()));
                    self.events.tell(ClusterEvent::RecoveryChanged { actor, stage: stage.as_str(), note });
                }
            }
        }
    }
}

impl Actor for RecoveryAgent {
    type Msg = RecoveryMessage;
    type State = Recovery;
    type Arguments = ();

    async fn pre_start(&self, me: Me, (): ()) -> Result<Recovery, ActorProcessingErr> {
        me.send_after(TICK, RecoveryMessage::Tick);
        Ok(Recovery::new(self.clock.now(), self.config, self.monitor.name().clone()))
    }

    async fn handle(
        &self,
        me: Me,
        message: Self::Msg,
        recovery: &mut Recovery,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RecoveryMessage::Tick => {
                self.input(&me, recovery, Input::Tick);
                me.send_after(TICK, RecoveryMessage::Tick);
            }
            RecoveryMessage::Found(found) => {
                for health in found {
                    let input = Input::Found {
                        actor: health.name,
                        status: health.status,
                        failures: health.consecutive_failures,
                        is_silent: health.is_silent,
                    };
                    self.input(&me, recovery, input);
                }
            }
            RecoveryMessage::Answered(actor, remedy) => {
                self.input(&me, recovery, Input::Answered(actor, remedy));
            }
            RecoveryMessage::Shutdown => self.input(&me, recovery, Input::Shutdown),
        }
        Ok(())
    }
}
