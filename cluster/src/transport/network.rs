//! Connections and sessions: owns `ractor_cluster`'s node servers, accepts and makes connections for them, and
//! tells each link about the sessions of its peer.
//!
//! Connections are handed to a node server from outside (`ConnectionOpenedExternal`), once the members have met on
//! them, so that strangers reach none of it; its own listener is bound to a port of the system's choice on loopback,
//! and shows nobody a certificate. Each peer has a node server of its own: among sessions whose peers claim one name
//! `ractor_cluster` ends all but one, and a peer may claim the name of another.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
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
use crate::health::HealthCheckResult;
use crate::health::message::answer;
use crate::id::NodeId;
use crate::mailbox::{Address, Mail, send_self_after};

/// Largest frame that `ractor_cluster` accepts: it greets, pings, and says what is remotable.
const CONTROL_FRAME_BYTES_MAX: u64 = 16 * 1024;
/// Actors that a peer may show. A node has one that is remotable, its gateway; nodes of one process show each other's.
const SHOWN_MAX: usize = 64;
/// Accepted connections on which nobody has been met yet.
const STRANGERS_MAX: usize = 64;
/// How often sessions that do not become ready are looked for.
const TICK: Duration = Duration::from_millis(250);
/// Pause after a failed accept: without descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether this member's certificate is to be made anew: well within half of the shortest
/// life that one may have.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(10);
/// How long a session that is replaced may take to end.
const REPLACE_DEADLINE: Duration = Duration::from_millis(500);

/// What the network actor works with.
#[derive(Clone)]
pub struct NetworkActor {
    /// Where it is reached.
    pub address: Address<NetworkMessage>,
    /// Whom it talks to.
    pub roster: Roster,
    /// Accepts connections; bound once for the life of the process, so that a restart does not lose the port.
    pub listener: Arc<TcpListener>,
    /// Meets members.
    pub handshaker: Handshaker,
    /// What `ractor_cluster` asks of both sides of a session. No secret: the doorman knows who is who.
    pub cookie: String,
    /// The bounds of a connection.
    pub bounds: Bounds,
    /// Takes what members send.
    pub inbound: Arc<dyn Inbound>,
    /// The ways to the peers.
    pub channels: PeerChannels,
    /// The links, by peer.
    pub links: Arc<BTreeMap<NodeId, Address<LinkMessage>>>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Hears of refusals.
    pub rejections: RejectionLog,
}

/// A connection that the node server has been given and has not made a session of yet.
struct Given {
    connection: Arc<Connection>,
    attempt: Option<u64>,
}

struct Tracked {
    session: Session,
    since: Moment,
    is_ready: bool,
}

/// The actor's state.
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

/// `ractor_cluster`'s side of a connection. The label tells which it is.
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

/// Handshakes under way with strangers, oldest first, with whence each came; they end with this.
#[derive(Default)]
struct PendingHandshakes(VecDeque<(IpAddr, AbortOnDrop)>);

impl PendingHandshakes {
    /// Makes room for one more; false if one had to go: the oldest of the address that has most of them, so that a
    /// member gets in whoever else knocks, and however fast.
    fn make_room(&mut self) -> bool {
        if self.0.len() >= STRANGERS_MAX {
            self.0.retain(|(_, stranger)| !stranger.0.is_finished());
        }
        let is_full = self.0.len() >= STRANGERS_MAX;
        if is_full {
            let of = |from: IpAddr| self.0.iter().filter(|(other, _)| *other == from).count();
            // Of equals the last is taken: reversed, that is the oldest.
            let goes = (0..self.0.len()).rev().max_by_key(|index| of(self.0[*index].0));
            goes.and_then(|index| self.0.remove(index));
        }
        !is_full
    }
}

/// Where a node server opens the listener that it always opens and that nobody uses: on IPv6 where the system has it, so
/// that the port which it takes stays free on every IPv4 address.
fn unused_loopback() -> IpAddr {
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if has_ipv6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

impl NetworkActor {
    fn node_server(&self) -> NodeServer {
        let name = self.roster.own().to_string();
        let deaf = IncomingEncryptionMode::Tls(tls::refuse_all());
        let mode = Some(NodeConnectionMode::Isolated);
        // The host name is part of the peer's name; with the member's own it is distinct on one machine too.
        NodeServer::new(0, self.cookie.clone(), name.clone(), name, Some(deaf), mode)
            .with_listen_addr(unused_loopback())
            .with_max_inbound_frame_size(CONTROL_FRAME_BYTES_MAX)
    }

    fn accept(&self, me: &ActorRef<Mail<NetworkMessage>>) -> AbortOnDrop {
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
                            // A network actor that has ended meanwhile takes the guest along.
                            let _ = me.cast(Mail::to_self(NetworkMessage::Connected {
                                authenticated,
                                attempt: None,
                                alone: false,
                            }));
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

    /// Gives the node server a connection, once no other with this peer is left: it might keep the older one.
    fn connected(
        &self,
        me: &ActorRef<Mail<NetworkMessage>>,
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
                    // One that does not end in time is left to the node server's election.
                    let _ = session.actor.stop_and_wait(None, Some(REPLACE_DEADLINE)).await;
                }
                let _ = me.cast(Mail::to_self(NetworkMessage::Connected {
                    authenticated: Box::new(authenticated),
                    attempt,
                    alone: true,
                }));
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
        // The node servers are linked to this actor: if one has ended, so will this actor.
        let is_server = attempt.is_none();
        let _ = shell.servers[&peer].cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server });
    }

    /// The connection to another process of the member that is met, if there is one.
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

    /// Asks the process that is linked whether it lives. One that does not answer is left over from before a restart;
    /// of two that do, the elder keeps the link.
    fn settle(
        me: &ActorRef<Mail<NetworkMessage>>,
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
                let _ = me.cast(Mail::to_self(NetworkMessage::Connected {
                    authenticated: Box::new(authenticated),
                    attempt,
                    alone: true,
                }));
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
        // A connection that came by the node server's own listener has no label of ours.
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
    type Msg = Mail<NetworkMessage>;
    type State = NetworkActorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<NetworkActorState, ActorProcessingErr> {
        let mut servers = BTreeMap::new();
        for peer in self.roster.peers() {
            let server = self.node_server();
            let (server, _) = Actor::spawn_linked(None, server, (), me.get_cell()).await?;
            let subscription = Box::new(Subscription(me.clone()));
            let id = "network".to_owned();
            server.cast(NodeServerMessage::SubscribeToEvents { id, subscription })?;
            servers.insert(peer.clone(), server);
        }
        self.address.bind(me.clone());
        send_self_after(&me, TICK, NetworkMessage::Tick);
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
        me: ActorRef<Self::Msg>,
        mail: Self::Msg,
        shell: &mut NetworkActorState,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            NetworkMessage::Tick => {
                send_self_after(&me, TICK, NetworkMessage::Tick);
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
                            // The network actor may have been replaced; the link's own deadline then passes.
                            let _ = me.cast(Mail::to_self(connected));
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
        me: ActorRef<Self::Msg>,
        shell: &mut NetworkActorState,
    ) -> Result<(), ActorProcessingErr> {
        // ractor_cluster respawns what ends while its server lives; stopped first, it ends in order.
        let stop = shell.servers.values().map(|server| {
            me.get_cell().unlink(server.get_cell());
            server.stop_and_wait(None, Some(Duration::from_millis(500)))
        });
        futures::future::join_all(stop).await;
        Ok(())
    }
}
