//! The recovery agent as an actor: it hears what checks found, and asks for restarts.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::{HealthMessage, RecoveryMessage, answer};
use super::ping::HealthCheckResult;
use super::recovery::{Effect, Input, Recovery, RecoveryConfig};
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::mailbox::{Address, Mail, send_self_after};
use crate::port::RestartRequester;

/// How often patience and deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What the agent works with.
#[derive(Clone)]
pub struct RecoveryAgent {
    /// Where it is reached.
    pub address: Address<RecoveryMessage>,
    /// How restarts are asked for.
    pub config: RecoveryConfig,
    /// The monitor it follows, and watches.
    pub monitor: Address<HealthMessage>,
    /// Whom it asks.
    pub restart_requester: Arc<dyn RestartRequester>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of recoveries.
    pub events: EventBus,
}

type Me = ActorRef<Mail<RecoveryMessage>>;

impl RecoveryAgent {
    fn input(&self, me: &Me, recovery: &mut Recovery, input: Input) {
        for effect in recovery.handle(self.clock.now(), input) {
            match effect {
                Effect::Ask(actor, failures) => {
                    let (me, asking) = (me.clone(), self.restart_requester.restart(&actor, failures));
                    tokio::spawn(async move {
                        // The supervisor's face has a deadline of its own.
                        let _ = me.cast(Mail::to_self(RecoveryMessage::Answered(actor, asking.await)));
                    });
                }
                Effect::Escalate(actor, failures) => {
                    // What follows is the supervisor's, and told by it.
                    drop(tokio::spawn(self.restart_requester.escalate(&actor, failures)));
                }
                Effect::Tell(actor, stage, note) => {
                    // A monitor that is restarted meanwhile finds out by its checks.
                    let _ = self.monitor.cast(HealthMessage::Recovery(actor.clone(), stage, note.clone()));
                    self.events.tell(ClusterEvent::RecoveryChanged { actor, stage: stage.as_str(), note });
                }
            }
        }
    }
}

impl Actor for RecoveryAgent {
    type Msg = Mail<RecoveryMessage>;
    type State = Recovery;
    type Arguments = ();

    async fn pre_start(&self, me: Me, (): ()) -> Result<Recovery, ActorProcessingErr> {
        self.address.bind(me.clone());
        send_self_after(&me, TICK, RecoveryMessage::Tick);
        Ok(Recovery::new(self.clock.now(), self.config, self.monitor.name().clone()))
    }

    async fn handle(
        &self,
        me: Me,
        mail: Self::Msg,
        recovery: &mut Recovery,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            RecoveryMessage::Tick => {
                self.input(&me, recovery, Input::Tick);
                send_self_after(&me, TICK, RecoveryMessage::Tick);
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
            RecoveryMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
