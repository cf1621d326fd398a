//! Manages connections and sessions: owns the node servers of `ractor_cluster`, accepts and dials connections for them,
//! and reports sessions to the link of the peer.
//!
//! Connections are passed to a node server from outside (`ConnectionOpenedExternal`) after authentication, so that
//! unauthenticated peers never reach it. The node server's own listener is bound to a system-chosen port on loopback
//! and presents no certificate. Each peer has its own node server: of the sessions whose peers claim the same name,
//! `ractor_cluster` ends all but one, and a peer may claim another's name.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, SelfRef};
use ractor::{ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, IncomingEncryptionMode, NodeEventSubscription, NodeServer,
    NodeServerMessage,
};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::connection::{Bounds, Connection, Inbound};
use super::duplicates::{Duplicates, Identified};
use super::gateway::GATEWAY;
use super::handshake::{AuthenticatedPeer, HandshakeError, Handshaker};
use super::message::{LinkMessage, NetworkMessage, Session, SessionEvent};
use super::peer::SessionId;
use super::peer_channel::PeerChannels;
use super::presence::Identity;
use super::rejection_log::RejectionLog;
use super::tls;
use crate::clock::{Clock, Moment};
use crate::federation::Roster;
use crate::id::NodeId;
use crate::mailbox::Address;

/// Maximum frame size that `ractor_cluster` accepts, in bytes: it exchanges handshakes, pings and remotable actors.
const CONTROL_FRAME_BYTES_MAX: u64 = 16 * 1024;
/// Maximum number of actors a peer may advertise. A node has one remotable actor, its gateway, but nodes in one process
/// advertise each other's.
const SHOWN_MAX: usize = 64;
/// Maximum number of accepted connections that are not authenticated yet.
const STRANGERS_MAX: usize = 64;
/// Interval at which sessions that are not ready in time are stopped.
const TICK: Duration = Duration::from_millis(250);
/// Pause after a failed accept: without file descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Interval at which this member's certificate is checked for renewal: well within half of the shortest lifetime.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(10);
/// Timeout for ending a session that is replaced.
const REPLACE_DEADLINE: Duration = Duration::from_millis(500);

/// Configuration and dependencies of the network actor.
#[derive(Clone)]
pub struct NetworkActor {
    /// Members of the federation.
    pub roster: Roster,
    /// Listening socket; bound once per process, so that a restart of this actor does not lose the port.
    pub listener: Arc<TcpListener>,
    /// Authenticates peers.
    pub handshaker: Handshaker,
    /// Cookie that `ractor_cluster` compares on both sides of a session. Not a secret: the handshaker authenticates
    /// peers.
    pub cookie: String,
    /// Limits of a connection.
    pub bounds: Bounds,
    /// Receives what peers send.
    pub inbound: Arc<dyn Inbound>,
    /// Channels to the peers.
    pub channels: PeerChannels,
    /// Link actors, by peer.
    pub links: Arc<BTreeMap<NodeId, Address<LinkMessage>>>,
    /// Time source.
    pub clock: Arc<dyn Clock>,
    /// Log of rejected input.
    pub rejections: RejectionLog,
}

/// A connection passed to the node server that is not a session yet.
struct Given {
    connection: Arc<Connection>,
    attempt: Option<u64>,
}

struct Tracked {
    session: Session,
    since: Moment,
    is_ready: bool,
}

/// State of the network actor.
pub struct NetworkActorState {
    servers: BTreeMap<NodeId, ActorRef<NodeServerMessage>>,
    given: HashMap<String, Given>,
    sessions: HashMap<SessionId, Tracked>,
    last_label: u64,
    certificate_checked: Moment,
    _acceptor: AbortOnDrop,
}

impl Drop for NetworkActorState {
    fn drop(&mut self) {
        let given = self.given.values().map(|given| &given.connection);
        let all = given.chain(self.sessions.values().map(|tracked| &tracked.session.connection));
        all.for_each(|connection| connection.end("the network actor ended"));
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The end of a connection's control stream that `ractor_cluster` uses, identified by a label.
struct ControlStream {
    stream: DuplexStream,
    label: String,
}

impl ClusterBidiStream for ControlStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        (Box::new(read), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

/// Forwards the node server's session events to the network actor.
struct Subscription(SelfRef<NetworkMessage>);

impl Subscription {
    fn tell(&self, event: SessionEvent, session: NodeServerSessionInformation) {
        // Exempt from mailbox limits: a link would wait for a lost event. Fails only after the actor has stopped.
        self.0.cast(NetworkMessage::Session(event, session));
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

/// Unfinished inbound handshakes with their source addresses, oldest first; dropping this aborts them.
#[derive(Default)]
struct PendingHandshakes(VecDeque<(IpAddr, AbortOnDrop)>);

impl PendingHandshakes {
    /// Makes room for one more; returns false if it had to abort one: the oldest of the address with the most pending
    /// handshakes, so that a member can connect however many others try to.
    fn make_room(&mut self) -> bool {
        if self.0.len() >= STRANGERS_MAX {
            self.0.retain(|(_, stranger)| !stranger.0.is_finished());
        }
        let is_full = self.0.len() >= STRANGERS_MAX;
        if is_full {
            let of = |from: IpAddr| self.0.iter().filter(|(other, _)| *other == from).count();
            // `max_by_key` returns the last of equal elements; reversed, that is the oldest.
            let goes = (0..self.0.len()).rev().max_by_key(|index| of(self.0[*index].0));
            goes.and_then(|index| self.0.remove(index));
        }
        !is_full
    }
}

/// Address of the unused listener that a node server always opens: IPv6 if available, so that its port stays free on
/// every IPv4 address.
fn unused_loopback() -> IpAddr {
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if has_ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

impl NetworkActor {
    fn node_server(&self) -> NodeServer {
        let name = self.roster.own().to_string();
        let deaf = IncomingEncryptionMode::Tls(tls::refuse_all());
        let mode = Some(NodeConnectionMode::Isolated);
        // The host name is part of the peer's name; using the member's name keeps it unique on one machine too.
        NodeServer::new(0, self.cookie.clone(), name.clone(), name, Some(deaf), mode)
            .with_listen_addr(unused_loopback())
            .with_max_inbound_frame_size(CONTROL_FRAME_BYTES_MAX)
    }

    fn accept(&self, me: &SelfRef<NetworkMessage>) -> AbortOnDrop {
        let (listener, handshaker, rejections) =
            (self.listener.clone(), self.handshaker.clone(), self.rejections.clone());
        let me = me.clone();
        let task = tokio::spawn(async move {
            let mut strangers = PendingHandshakes::default();
            loop {
                let (stream, from) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        rejections.of_stranger(&"whoever connects", &error);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                if !strangers.make_room() {
                    let reason = "too many connections have not authenticated; one is closed";
                    rejections.of_stranger(&from, &reason);
                }
                let (handshaker, rejections, me) = (handshaker.clone(), rejections.clone(), me.clone());
                let meeting = tokio::spawn(async move {
                    match handshaker.admit(stream).await {
                        Ok(authenticated) => {
                            let authenticated = Box::new(authenticated);
                            // If the network actor has stopped, the connection is dropped.
                            me.cast(NetworkMessage::Connected { authenticated, attempt: None, alone: false });
                        }
                        Err(reason) => rejections.of_stranger(&from, &reason),
                    }
                });
                strangers.0.push_back((from.ip(), AbortOnDrop(meeting.abort_handle())));
            }
        });
        AbortOnDrop(task.abort_handle())
    }

    fn to_link(&self, peer: &NodeId, message: LinkMessage) {
        if let Some(link) = self.links.get(peer)
            && let Err(error) = link.cast(message)
        {
            tracing::warn!(%peer, %error, "a link missed a message of the network actor");
        }
    }

    /// Passes a connection to the node server once no other connection to this peer is left, because the server might
    /// keep the older one.
    fn connected(
        &self,
        me: &SelfRef<NetworkMessage>,
        shell: &mut NetworkActorState,
        authenticated: AuthenticatedPeer,
        attempt: Option<u64>,
        alone: bool,
    ) {
        let peer = authenticated.info.peer.clone();
        if let Some(duplicates) = &self.handshaker.duplicates {
            if let Some(reason) = duplicates.halted() {
                let reason = reason.to_owned();
                return drop(tokio::spawn(
                    async move { authenticated.refuse(&reason, REPLACE_DEADLINE).await },
                ));
            }
            if let Some(former) = Self::other_process(shell, &authenticated).filter(|_| !alone) {
                return Self::settle(me, duplicates.clone(), former, authenticated, attempt);
            }
        }
        let channel = &self.channels[&peer];
        if let Err(outdated) = channel.admits(authenticated.info.incarnation, authenticated.info.instance) {
            let reason = outdated.to_string();
            self.rejections.of_member(&peer, &reason);
            return drop(tokio::spawn(async move { authenticated.refuse(&reason, REPLACE_DEADLINE).await }));
        }
        let given = shell.given.extract_if(|_, given| *given.connection.peer() == peer);
        given.for_each(|(_, given)| given.connection.end("replaced by a new connection"));
        let of_peer = |tracked: &&Tracked| *tracked.session.connection.peer() == peer;
        let former: Vec<_> = shell.sessions.values().filter(of_peer).map(|t| t.session.clone()).collect();
        if !former.is_empty() {
            let me = me.clone();
            tokio::spawn(async move {
                for session in former {
                    session.connection.end("replaced by a new connection");
                    // If it does not end in time, the node server's election decides.
                    let _ = session.actor.stop_and_wait(None, Some(REPLACE_DEADLINE)).await;
                }
                me.cast(NetworkMessage::Connected {
                    authenticated: Box::new(authenticated),
                    attempt,
                    alone: true,
                });
            });
            return;
        }
        let AuthenticatedPeer { info, halves } = authenticated;
        let (counters, clock) = (channel.counters().clone(), self.clock.clone());
        let (duplicates, inner) = (self.handshaker.duplicates.clone(), self.inbound.clone());
        let inbound = Arc::new(Identified { duplicates, inner });
        let (connection, stream) = Connection::start(info, halves, self.bounds, counters, clock, inbound);
        shell.last_label += 1;
        let label = format!("connection {}", shell.last_label);
        shell.given.insert(label.clone(), Given { connection, attempt });
        let stream = Box::new(ControlStream { stream, label });
        // The node servers are linked to this actor: if one has stopped, so will this actor.
        let is_server = attempt.is_none();
        let _ = shell.servers[&peer].cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }

    /// Returns a connection to another process of the same member, if there is one.
    fn other_process(
        shell: &NetworkActorState,
        authenticated: &AuthenticatedPeer,
    ) -> Option<Arc<Connection>> {
        let instance = authenticated.info.instance?;
        let given = shell.given.values().map(|given| &given.connection);
        let all = given.chain(shell.sessions.values().map(|tracked| &tracked.session.connection));
        let is_other = |connection: &&Arc<Connection>| {
            *connection.peer() == authenticated.info.peer
                && connection.ended().is_none()
                && connection.instance().is_some_and(|other| other != instance)
        };
        all.filter(is_other).last().cloned()
    }

    /// Asks the linked process whether it is still running. If it does not answer, it is a leftover from before a
    /// restart; if both answer, the elder keeps the link.
    fn settle(
        me: &SelfRef<NetworkMessage>,
        duplicates: Duplicates,
        former: Arc<Connection>,
        mut authenticated: AuthenticatedPeer,
        attempt: Option<u64>,
    ) {
        let me = me.clone();
        tokio::spawn(async move {
            let Some(instance) = authenticated.info.instance else { return };
            let Some(first) = duplicates.ask(&former, instance, REPLACE_DEADLINE).await else {
                former.end("replaced by a new process");
                me.cast(NetworkMessage::Connected {
                    authenticated: Box::new(authenticated),
                    attempt,
                    alone: true,
                });
                return;
            };
            let second = authenticated.present(first.clone(), REPLACE_DEADLINE).await;
            let second = second.filter(|second| {
                (&second.member, second.instance, second.beside) == (&first.member, instance, first.instance)
                    && duplicates.is_signed(second)
            });
            let of = |incarnation| format!("process {instance} of incarnation {incarnation}");
            match second {
                Some(second) => {
                    former.identify(&Identity::Presence(second.clone()));
                    if first.is_younger_than(&second) {
                        duplicates.tell(&first.member, &second, &first.to_string());
                        former.end("an older process holds the same key");
                    } else {
                        duplicates.tell(&first.member, &first, &second.to_string());
                    }
                }
                None => duplicates.tell(&first.member, &first, &of(authenticated.info.incarnation)),
            }
            let reason = format!("another process holds the key of {}: {first}", first.member);
            authenticated.refuse(&reason, REPLACE_DEADLINE).await;
        });
    }

    fn look_at_certificate(&self) {
        match self.handshaker.trust.rotate_if_due(self.clock.wall()) {
            Ok(true) => tracing::info!("this member has a new certificate"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "no new certificate; the present one serves on"),
        }
    }

    fn session(
        &self,
        shell: &mut NetworkActorState,
        event: &SessionEvent,
        info: NodeServerSessionInformation,
    ) {
        let id = info.actor.get_id().pid();
        match event {
            SessionEvent::Opened => self.opened(shell, id, info),
            SessionEvent::Authenticated => self.authenticated(shell, id, &info),
            SessionEvent::Ready => self.ready(shell, id, &info),
            SessionEvent::Closed => {
                if let Some(Tracked { session, .. }) = shell.sessions.remove(&id) {
                    session.connection.end("its session ended");
                }
            }
        }
    }

    fn opened(&self, shell: &mut NetworkActorState, id: SessionId, info: NodeServerSessionInformation) {
        // A connection accepted by the node server's own listener has none of our labels.
        let Some(Given { connection, attempt }) = shell.given.remove(&info.peer_addr) else {
            self.rejections.of_stranger(&info.peer_addr, &"it did not come by the link's port");
            info.actor.stop(Some("unexpected connection".to_owned()));
            return;
        };
        let session = Session { actor: info.actor, connection };
        if let Some(attempt) = attempt {
            let opened = LinkMessage::Opened { attempt, session: session.clone() };
            self.to_link(session.connection.peer(), opened);
        }
        shell.sessions.insert(id, Tracked { session, since: self.clock.now(), is_ready: false });
    }

    fn authenticated(
        &self,
        shell: &mut NetworkActorState,
        id: SessionId,
        info: &NodeServerSessionInformation,
    ) {
        let Some(Tracked { session, .. }) = shell.sessions.get(&id) else { return };
        let claimed = info.peer_name.as_ref().map(|name| name.name.as_str()).unwrap_or_default();
        let peer = session.connection.peer();
        if claimed.split('@').next() != Some(peer.as_str()) {
            self.rejections.of_member(peer, &format!("it tells ractor_cluster that it is {claimed:?}"));
            session.stop("another name");
        }
    }

    fn ready(&self, shell: &mut NetworkActorState, id: SessionId, info: &NodeServerSessionInformation) {
        let Some(tracked) = shell.sessions.get_mut(&id) else { return };
        tracked.is_ready = true;
        let session = tracked.session.clone();
        let peer = session.connection.peer();
        let name = format!("{peer}/{GATEWAY}");
        let remote = |cell: &ActorCell| !cell.get_id().is_local() && cell.get_name() == Some(name.clone());
        if let Some(gateway) = info.actor.get_cell().get_children().into_iter().find(remote) {
            let shown = LinkMessage::Shown { session: session.clone(), gateway: gateway.into() };
            self.to_link(peer, shown);
        } else {
            self.rejections.of_member(peer, &"it has no gateway");
            session.stop("no gateway");
        }
    }
}

impl Actor for NetworkActor {
    type Msg = NetworkMessage;
    type State = NetworkActorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: SelfRef<Self::Msg>,
        (): (),
    ) -> Result<NetworkActorState, ActorProcessingErr> {
        let mut servers = BTreeMap::new();
        for peer in self.roster.peers() {
            let server = self.node_server();
            let (server, _) = ractor::Actor::spawn_linked(None, server, (), me.cell()).await?;
            let subscription = Box::new(Subscription(me.clone()));
            let id = "network".to_owned();
            server.cast(NodeServerMessage::SubscribeToEvents { id, subscription })?;
            servers.insert(peer.clone(), server);
        }
        me.send_after(TICK, NetworkMessage::Tick);
        Ok(NetworkActorState {
            servers,
            given: HashMap::new(),
            sessions: HashMap::new(),
            last_label: 0,
            certificate_checked: self.clock.now(),
            _acceptor: self.accept(&me),
        })
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        shell: &mut NetworkActorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NetworkMessage::Tick => {
                me.send_after(TICK, NetworkMessage::Tick);
                let now = self.clock.now();
                if now.since(shell.certificate_checked) >= CERTIFICATE_CHECK {
                    shell.certificate_checked = now;
                    self.look_at_certificate();
                }
                for Tracked { session, since, is_ready } in shell.sessions.values() {
                    if !is_ready && now.since(*since) >= self.handshaker.timeout {
                        session.stop("its session was not ready in time");
                    }
                    let shown = session.actor.get_cell().get_children().len();
                    if shown > SHOWN_MAX && session.connection.ended().is_none() {
                        let reason = format!("it shows {shown} actors; expected at most {SHOWN_MAX}");
                        self.rejections.of_member(session.connection.peer(), &reason);
                        session.stop(&reason);
                    }
                }
            }
            NetworkMessage::Connected { authenticated, attempt, alone } => {
                self.connected(&me, shell, *authenticated, attempt, alone);
            }
            NetworkMessage::Dial { peer, address, attempt } => {
                let (handshaker, me, link) = (self.handshaker.clone(), me.clone(), self.links[&peer].clone());
                let rejections = self.rejections.clone();
                tokio::spawn(async move {
                    match handshaker.visit(&peer, address).await {
                        Ok(authenticated) => {
                            let connected = NetworkMessage::Connected {
                                authenticated: Box::new(authenticated),
                                attempt: Some(attempt),
                                alone: false,
                            };
                            // The network actor may have been restarted; the link's own deadline then expires.
                            me.cast(connected);
                        }
                        Err(unmet) => {
                            if let HandshakeError::Refused(reason) = &unmet {
                                rejections.of_member(&peer, reason);
                            }
                            let reason = unmet.to_string();
                            drop(link.cast(LinkMessage::DialFailed { attempt, reason }));
                        }
                    }
                });
            }
            NetworkMessage::LinkStarted(peer) => {
                let all = shell.sessions.values().map(|tracked| &tracked.session);
                all.filter(|session| *session.connection.peer() == peer)
                    .for_each(|session| session.stop("its link was restarted"));
            }
            NetworkMessage::Session(event, info) => self.session(shell, &event, info),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: SelfRef<Self::Msg>,
        event: SupervisionEvent,
        _: &mut NetworkActorState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(_, _, reason) => {
                Err(format!("the node server ended: {}", reason.unwrap_or_default()).into())
            }
            SupervisionEvent::ActorFailed(_, error) => Err(format!("the node server failed: {error}").into()),
            _ => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        me: SelfRef<Self::Msg>,
        shell: &mut NetworkActorState,
    ) -> Result<(), ActorProcessingErr> {
        // ractor_cluster restarts actors that stop while their server runs; stopping the server first is orderly.
        let stop = shell.servers.values().map(|server| {
            me.cell().unlink(server.get_cell());
            server.stop_and_wait(None, Some(Duration::from_millis(500)))
        });
        futures::future::join_all(stop).await;
        Ok(())
    }
}
