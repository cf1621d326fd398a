//! Connections and sessions: owns `ractor_cluster`'s node server, accepts and makes connections for it, and
//! tells each link about the sessions of its peer.
//!
//! Connections are handed to the node server from outside (`ConnectionOpenedExternal`), so that the number
//! of strangers and the time they may take are bounded here; its own listener is bound to a port of the
//! system's choice on loopback and not used.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NodeEventSubscription, NodeServer, NodeServerMessage,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::gateway::GATEWAY;
use super::message::{GatewayMessage, LinkMessage, NetworkMessage, SessionEvent};
use super::peer::SessionId;
use crate::clock::{Clock, Moment};
use crate::event::{ClusterEvent, EventBus};
use crate::federation::Roster;
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::NodeId;
use crate::mailbox::{Address, Mail, remind};

/// Largest frame accepted from a peer: a batch and what wraps it.
const FRAME_BYTES_MAX: u64 = super::codec::MESSAGE_BYTES_MAX as u64 + 64 * 1024;
/// Accepted connections that have not authenticated yet.
const STRANGERS_MAX: usize = 64;
/// How often strangers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Pause after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the network actor works with.
#[derive(Clone)]
pub struct NetworkActor {
    /// Where it is reached.
    pub address: Address<NetworkMessage>,
    /// Whom it talks to.
    pub roster: Roster,
    /// Accepts connections; bound once for the life of the process, so that a restart does not lose the port.
    pub listener: Arc<TcpListener>,
    /// What both sides of a link must know. No authentication: it can be relayed.
    pub cookie: String,
    /// How long an accepted connection may stay a stranger.
    pub handshake_timeout: Duration,
    /// The links, by peer.
    pub links: Arc<BTreeMap<NodeId, Address<LinkMessage>>>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of refusals.
    pub events: EventBus,
}

/// How a connection came about, told apart by the label its stream carries.
#[derive(Clone, Debug)]
enum Origin {
    Dialled { peer: NodeId, attempt: u64 },
    Accepted { from: SocketAddr },
}

struct Session {
    origin: Origin,
    since: Moment,
    peer: Option<NodeId>,
    actor: ActorCell,
}

/// The shell's memory.
pub struct Shell {
    server: ActorRef<NodeServerMessage>,
    origins: HashMap<String, Origin>,
    sessions: HashMap<SessionId, Session>,
    last_label: u64,
    _acceptor: AbortOnDrop,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct LabelledStream {
    stream: TcpStream,
    label: String,
}

impl ClusterBidiStream for LabelledStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = self.stream.into_split();
        (Box::new(read), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

/// Tells the network actor what the node server observes.
struct Subscription(ActorRef<Mail<NetworkMessage>>);

impl Subscription {
    fn tell(&self, event: SessionEvent, session: NodeServerSessionInformation) {
        // Never refused: a lost event would leave a link waiting for it. After the actor's end nobody waits.
        let _ = self.0.cast(Mail::to_self(NetworkMessage::Session(event, session)));
    }
}

impl NodeEventSubscription for Subscription {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.tell(SessionEvent::Opened, session);
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.tell(SessionEvent::Closed, session);
    }

    fn node_session_authenticated(&self, session: NodeServerSessionInformation) {
        self.tell(SessionEvent::Authenticated, session);
    }

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.tell(SessionEvent::Ready, session);
    }
}

impl NetworkActor {
    fn accept(&self) -> AbortOnDrop {
        let (listener, address) = (self.listener.clone(), self.address.clone());
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    // A full mailbox closes the connection: its peer dials again.
                    Ok((stream, from)) => drop(address.cast(NetworkMessage::Accepted(stream, from))),
                    Err(error) => {
                        tracing::warn!(%error, "no connection could be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        AbortOnDrop(task.abort_handle())
    }

    fn open(shell: &mut Shell, stream: TcpStream, origin: Origin) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection closed before it was used");
            return;
        }
        shell.last_label += 1;
        let is_server = matches!(origin, Origin::Accepted { .. });
        let label = format!("connection {}", shell.last_label);
        shell.origins.insert(label.clone(), origin);
        let stream = Box::new(LabelledStream { stream, label });
        // The node server is linked to this actor: if it has ended, so will this actor.
        let _ = shell.server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }

    fn refuse(&self, peer: &impl std::fmt::Display, reason: &str) {
        self.events.tell(ClusterEvent::LinkRefused { peer: peer.to_string(), reason: reason.to_owned() });
    }

    fn to_link(&self, peer: &NodeId, message: LinkMessage) {
        if let Some(link) = self.links.get(peer)
            && let Err(error) = link.cast(message)
        {
            tracing::warn!(%peer, %error, "a link missed a message of the network actor");
        }
    }

    fn dial(
        me: &ActorRef<Mail<NetworkMessage>>,
        peer: NodeId,
        address: SocketAddr,
        attempt: u64,
        timeout: Duration,
    ) {
        let me = me.clone();
        tokio::spawn(async move {
            let outcome = match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(format!("{address}: {error}")),
                Err(_) => Err(format!("{address}: no connection within {timeout:?}")),
            };
            // The network actor may have been replaced meanwhile; the link's own deadline then passes.
            let _ = me.cast(Mail::to_self(NetworkMessage::Dialled { peer, attempt, outcome }));
        });
    }

    fn session(&self, shell: &mut Shell, event: &SessionEvent, info: NodeServerSessionInformation) {
        let id = info.actor.get_id().pid();
        match event {
            SessionEvent::Opened => self.opened(shell, id, &info),
            SessionEvent::Authenticated => self.authenticated(shell, id, &info),
            SessionEvent::Ready => self.ready(shell, id, info),
            SessionEvent::Closed => {
                if let Some(session) = shell.sessions.remove(&id) {
                    let dialled = match session.origin {
                        Origin::Dialled { peer, .. } => Some(peer),
                        Origin::Accepted { .. } => None,
                    };
                    if let Some(peer) = session.peer.or(dialled) {
                        self.to_link(&peer, LinkMessage::Closed(id));
                    }
                }
            }
        }
    }

    fn opened(&self, shell: &mut Shell, id: SessionId, info: &NodeServerSessionInformation) {
        // A connection that came by the node server's own listener has no label of ours.
        let Some(origin) = shell.origins.remove(&info.peer_addr) else {
            self.refuse(&info.peer_addr, "it did not come by the link's port");
            info.actor.stop(Some("unexpected connection".to_owned()));
            return;
        };
        if let Origin::Dialled { peer, attempt } = &origin {
            let session = info.actor.clone();
            self.to_link(peer, LinkMessage::Opened { attempt: *attempt, session });
        }
        let actor = info.actor.get_cell();
        shell.sessions.insert(id, Session { origin, since: self.clock.now(), peer: None, actor });
    }

    fn authenticated(&self, shell: &mut Shell, id: SessionId, info: &NodeServerSessionInformation) {
        let Some(session) = shell.sessions.get_mut(&id) else {
            return;
        };
        let claimed = info.peer_name.as_ref().map(|name| name.name.clone()).unwrap_or_default();
        let name = claimed.split('@').next().and_then(|name| NodeId::new(name).ok());
        let expected = match (&session.origin, &name) {
            (Origin::Dialled { peer, .. }, Some(name)) => name == peer,
            // The greater name dials, so only greater names are accepted.
            (Origin::Accepted { .. }, Some(name)) => self.roster.is_peer(name) && name > self.roster.own(),
            (_, None) => false,
        };
        if expected {
            session.peer = name;
        } else {
            self.refuse(&claimed, "it is not the member expected on this connection");
            info.actor.stop(Some("unexpected member".to_owned()));
        }
    }

    fn ready(&self, shell: &mut Shell, id: SessionId, info: NodeServerSessionInformation) {
        let Some(peer) = shell.sessions.get(&id).and_then(|session| session.peer.clone()) else {
            return;
        };
        let name = format!("{peer}/{GATEWAY}");
        let remote = |cell: &ActorCell| !cell.get_id().is_local() && cell.get_name() == Some(name.clone());
        let Some(gateway) = info.actor.get_cell().get_children().into_iter().find(remote) else {
            self.refuse(&peer, "it has no gateway");
            info.actor.stop(Some("no gateway".to_owned()));
            return;
        };
        let gateway: ActorRef<GatewayMessage> = gateway.into();
        self.to_link(&peer, LinkMessage::Ready { session: info.actor, gateway });
    }
}

impl Actor for NetworkActor {
    type Msg = Mail<NetworkMessage>;
    type State = Shell;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Shell, ActorProcessingErr> {
        let name = self.roster.own().to_string();
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // The host name is part of the peer's name; with the member's own it is distinct on one machine too.
        let server = NodeServer::new(
            0,
            self.cookie.clone(),
            name.clone(),
            name,
            None,
            Some(NodeConnectionMode::Isolated),
        )
        .with_listen_addr(loopback)
        .with_max_inbound_frame_size(FRAME_BYTES_MAX);
        let (server, _) = Actor::spawn_linked(None, server, (), me.get_cell()).await?;
        let subscription = Box::new(Subscription(me.clone()));
        server.cast(NodeServerMessage::SubscribeToEvents { id: "network".to_owned(), subscription })?;
        self.address.bind(me.clone());
        remind(&me, TICK, NetworkMessage::Tick);
        Ok(Shell {
            server,
            origins: HashMap::new(),
            sessions: HashMap::new(),
            last_label: 0,
            _acceptor: self.accept(),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            NetworkMessage::Tick => {
                remind(&me, TICK, NetworkMessage::Tick);
                let now = self.clock.now();
                for session in shell.sessions.values() {
                    let late = now.since(session.since) >= self.handshake_timeout;
                    if let Origin::Accepted { from } = session.origin
                        && session.peer.is_none()
                        && late
                    {
                        self.refuse(&from, "it did not authenticate in time");
                        session.actor.stop(Some("no handshake in time".to_owned()));
                    }
                }
            }
            NetworkMessage::Accepted(stream, from) => {
                let stranger = |s: &&Session| s.peer.is_none() && matches!(s.origin, Origin::Accepted { .. });
                let strangers = shell.sessions.values().filter(stranger);
                // The oldest stranger makes room, so that a member gets in whoever else knocks.
                if strangers.clone().count() >= STRANGERS_MAX
                    && let Some(oldest) = strangers.min_by_key(|session| session.since)
                {
                    self.refuse(&from, "too many connections have not authenticated; the oldest is closed");
                    oldest.actor.stop(Some("too many strangers".to_owned()));
                }
                if shell.origins.len() < STRANGERS_MAX {
                    Self::open(shell, stream, Origin::Accepted { from });
                }
            }
            NetworkMessage::Dial { peer, address, attempt, timeout } => {
                Self::dial(&me, peer, address, attempt, timeout);
            }
            NetworkMessage::LinkStarted(peer) => {
                for session in shell.sessions.values().filter(|s| s.peer.as_ref() == Some(&peer)) {
                    session.actor.stop(Some("its link was restarted".to_owned()));
                }
            }
            NetworkMessage::Dialled { peer, attempt, outcome: Ok(stream) } => {
                Self::open(shell, stream, Origin::Dialled { peer, attempt });
            }
            NetworkMessage::Dialled { peer, attempt, outcome: Err(reason) } => {
                self.to_link(&peer, LinkMessage::DialFailed { attempt, reason });
            }
            NetworkMessage::Session(event, info) => self.session(shell, &event, info),
            NetworkMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(_, _, reason) => {
                Err(format!("the node server ended: {}", reason.unwrap_or_default()).into())
            }
            SupervisionEvent::ActorFailed(_, error) => Err(format!("the node server failed: {error}").into()),
            _ => Ok(()),
        }
    }

    async fn post_stop(&self, me: ActorRef<Self::Msg>, shell: &mut Shell) -> Result<(), ActorProcessingErr> {
        me.get_cell().unlink(shell.server.get_cell());
        // ractor_cluster respawns what ends while its server lives; stopped first, it ends in order.
        let _ = shell.server.stop_and_wait(None, Some(Duration::from_millis(500))).await;
        Ok(())
    }
}
