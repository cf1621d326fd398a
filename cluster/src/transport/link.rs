//! Runs the link to one peer as an actor: it carries out what [`PeerLink`] decides about connections and sessions, and
//! sets the connection of the [`PeerChannel`].
//!
//! Envelopes bypass this actor: they go from the channel to the connection. A restart of the link loses a connection,
//! but every holder of the channel keeps a valid one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use ractor::rpc::CallResult;
use ractor::{ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::config::LinkConfig;
use super::duplicates::Duplicates;
use super::message::{GatewayMessage, LinkMessage, LinkStatus, NetworkMessage, Session};
use super::peer::{Effect, Input, PeerLink, SessionId};
use super::peer_channel::PeerChannel;
use super::statistics::Count;
use crate::clock::Clock;
use crate::event::{ClusterEvent, EventBus};
use crate::id::{ActorName, Incarnation, NodeId};
use crate::mailbox::Address;

/// Interval at which dials and handshakes are checked.
const TICK: Duration = Duration::from_millis(20);

/// Called when a link to a peer comes up or goes down. Must not wait.
pub type LinkWatcher = Arc<dyn Fn(&NodeId, bool) + Send + Sync>;

/// Configuration and dependencies of a link actor.
#[derive(Clone)]
pub struct LinkActor {
    /// Channel to the peer.
    pub channel: Arc<PeerChannel>,
    /// Address where the peer listens.
    pub peer_address: SocketAddr,
    /// Whether this member dials.
    pub dials: bool,
    /// Timeouts and limits.
    pub config: LinkConfig,
    /// Network actor, which makes connections.
    pub network: Address<NetworkMessage>,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Detection of other processes that hold this member's key, if it is looked for.
    pub duplicates: Option<Duplicates>,
    /// Receives link up and link down events.
    pub events: EventBus,
    /// Called at once when the link comes up or goes down. Must not wait.
    pub watcher: LinkWatcher,
}

/// State of a link actor.
pub struct LinkActorState {
    peer: PeerLink,
    sessions: HashMap<SessionId, Session>,
    gateways: HashMap<ActorId, SessionId>,
    channel: Arc<PeerChannel>,
}

impl Drop for LinkActorState {
    fn drop(&mut self) {
        // The next incarnation of this actor knows nothing of these sessions.
        self.channel.take(None);
        self.sessions.values().for_each(|session| session.stop("its link ended"));
    }
}

impl LinkActor {
    /// Name of the link actor for `peer`.
    pub fn name(peer: &NodeId) -> ActorName {
        ActorName::new(&format!("link/{peer}")).expect("a member's name with a prefix is a name")
    }

    fn apply(&self, shell: &mut LinkActorState, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { attempt } => {
                    if let Some(reason) = self.duplicates.as_ref().and_then(Duplicates::halted) {
                        let reason = reason.to_owned();
                        shell.peer.handle(self.clock.now(), Input::DialFailed { attempt, reason });
                        continue;
                    }
                    self.channel.counters().add(Count::Dials, 1);
                    let (peer, address) = (self.channel.peer().clone(), self.peer_address);
                    if let Err(error) = self.network.cast(NetworkMessage::Dial { peer, address, attempt }) {
                        let reason = error.to_string();
                        shell.peer.handle(self.clock.now(), Input::DialFailed { attempt, reason });
                    }
                }
                Effect::StopSession(id, reason) => {
                    if let Some(session) = shell.sessions.remove(&id) {
                        session.stop(reason);
                    }
                }
                Effect::Up(id) => {
                    self.channel.counters().add(Count::Sessions, 1);
                    self.channel.take(shell.sessions.get(&id).map(|session| session.connection.clone()));
                    (self.watcher)(self.channel.peer(), true);
                    self.events.tell(ClusterEvent::LinkUp { peer: self.channel.peer().clone() });
                }
                Effect::Down(reason) => {
                    self.channel.take(None);
                    (self.watcher)(self.channel.peer(), false);
                    self.events.tell(ClusterEvent::LinkDown { peer: self.channel.peer().clone(), reason });
                }
            }
        }
    }

    fn input(&self, shell: &mut LinkActorState, input: Input) {
        let effects = shell.peer.handle(self.clock.now(), input);
        self.apply(shell, effects);
    }

    /// Tracks the session and sends [`LinkMessage::Closed`] to this actor when its connection ends.
    fn follow(me: &SelfRef<LinkMessage>, shell: &mut LinkActorState, session: Session) -> SessionId {
        let (id, connection, me) = (session.id(), session.connection.clone(), me.clone());
        if shell.sessions.insert(id, session).is_none() {
            tokio::spawn(async move {
                connection.has_ended().await;
                // The link actor may have stopped as well.
                me.cast(LinkMessage::Closed(id));
            });
        }
        id
    }

    /// Asks the peer's gateway for the peer's incarnation; an answer proves that both the session and the connection
    /// under it work.
    fn confirm(&self, me: &SelfRef<LinkMessage>, session: SessionId, gateway: &ActorRef<GatewayMessage>) {
        let (me, gateway, deadline) = (me.clone(), gateway.clone(), self.config.handshake_timeout);
        tokio::spawn(async move {
            let outcome = match gateway.call(GatewayMessage::Incarnation, Some(deadline)).await {
                Ok(CallResult::Success(incarnation)) => Ok(Incarnation(incarnation)),
                Ok(CallResult::Timeout) => Err(format!("its gateway did not answer within {deadline:?}")),
                Ok(CallResult::SenderError) | Err(_) => Err("its gateway is gone".to_owned()),
            };
            // The link actor may have stopped meanwhile.
            me.cast(LinkMessage::Confirmed { session, outcome });
        });
    }
}

impl Actor for LinkActor {
    type Msg = LinkMessage;
    type State = LinkActorState;
    type Arguments = ();

    async fn pre_start(&self, me: SelfRef<Self::Msg>, (): ()) -> Result<LinkActorState, ActorProcessingErr> {
        me.send_after(Duration::ZERO, LinkMessage::Tick);
        Ok(LinkActorState {
            peer: PeerLink::new(self.dials, &self.config, self.clock.now(), rand::random()),
            sessions: HashMap::new(),
            gateways: HashMap::new(),
            channel: self.channel.clone(),
        })
    }

    async fn post_start(
        &self,
        _: SelfRef<Self::Msg>,
        _: &mut LinkActorState,
    ) -> Result<(), ActorProcessingErr> {
        // The network actor stops the sessions of this actor's previous incarnation. Without a network actor there are
        // none.
        let _ = self.network.cast(NetworkMessage::LinkStarted(self.channel.peer().clone()));
        Ok(())
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        shell: &mut LinkActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinkMessage::Tick => {
                me.send_after(TICK, LinkMessage::Tick);
                if let Some(reason) = self.duplicates.as_ref().and_then(Duplicates::halted) {
                    shell.sessions.values().for_each(|session| session.stop(reason));
                }
                self.input(shell, Input::Tick);
            }
            LinkMessage::DialFailed { attempt, reason } => {
                self.input(shell, Input::DialFailed { attempt, reason });
            }
            LinkMessage::Opened { attempt, session } => {
                let id = Self::follow(&me, shell, session);
                self.input(shell, Input::Opened { attempt, session: id });
            }
            LinkMessage::Shown { session, gateway } => {
                let id = Self::follow(&me, shell, session);
                shell.gateways.insert(gateway.get_id(), id);
                me.cell().monitor(gateway.get_cell());
                self.confirm(&me, id, &gateway);
            }
            LinkMessage::Confirmed { session: id, outcome } => {
                // If the session ended meanwhile, `Closed` has reported it.
                let Some(session) = shell.sessions.get(&id) else { return Ok(()) };
                let expected = session.connection.incarnation();
                let refused = match outcome {
                    Ok(incarnation) if incarnation == expected => None,
                    Ok(other) => Some(format!("its gateway is of incarnation {other}; expected {expected}")),
                    Err(reason) => Some(reason),
                };
                let input = refused.map_or(Input::Ready(id), |reason| {
                    tracing::debug!(peer = %self.channel.peer(), reason, "a session is no link");
                    Input::GatewayGone(id)
                });
                self.input(shell, input);
            }
            LinkMessage::Closed(id) => {
                let session = shell.sessions.remove(&id);
                shell.gateways.retain(|_, session| *session != id);
                let reason = session.as_ref().and_then(|session| session.connection.ended());
                let reason = reason.unwrap_or("its session ended").to_owned();
                self.input(shell, Input::Closed(id, reason));
            }
            LinkMessage::Status(reply) => {
                let _ = reply.send(LinkStatus {
                    peer: self.channel.peer().clone(),
                    phase: shell.peer.phase(),
                    dials: self.dials,
                    last_loss: shell.peer.last_loss().to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: SelfRef<Self::Msg>,
        event: SupervisionEvent,
        shell: &mut LinkActorState,
    ) -> Result<(), ActorProcessingErr> {
        let (SupervisionEvent::ActorTerminated(cell, ..) | SupervisionEvent::ActorFailed(cell, _)) = event
        else {
            return Ok(());
        };
        let Some(id) = shell.gateways.remove(&cell.get_id()) else { return Ok(()) };
        // A session that ends takes the gateway with it, and reports the reason itself.
        let is_open = shell.sessions.get(&id).is_some_and(|session| session.connection.ended().is_none());
        if is_open {
            self.input(shell, Input::GatewayGone(id));
        }
        Ok(())
    }
}
