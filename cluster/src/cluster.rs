//! Links a [`System`] to those of other processes, without a blockchain: mutual TLS, remote calls, and word of peers that
//! come and go.
//!
//! Every process lists all others. Of two, the one with the greater name dials, at the address that is given for the other;
//! a lost link is dialled again for ever. As in Erlang, a peer whose link is lost counts as lost, with all its actors. A
//! process proves its name by a pre-shared key, or by a key of its own whose signatures the others can verify
//! ([`CertificateSigner`]). Its incarnation is the wall clock at its start, in milliseconds: a process whose clock was set
//! back across a restart is refused until the clock has passed its former start.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::discovery::{
    Discovery, DiscoveryActor, DiscoveryMessage, Exports, Protocol, RemoteHandle, RequestHandler,
};
use crate::federation::Roster;
use crate::id::{ActorName, Incarnation, NodeId};
use crate::mailbox::Address;
use crate::port::PeerChange;
use crate::registry::LookupError;
use crate::supervision::{
    AdminError, ChildSpec, ExponentialBackoffConfig, RestartStrategy, Root, StartError,
};
use crate::system::System;
use crate::transport::config::LinkConfig;
use crate::transport::gateway::{GATEWAY, mailbox};
use crate::transport::identity::FederationId;
use crate::transport::{
    Bounds, CertificateSigner, Gateway, Handshaker, Hello, IdentityError, InboundRouter, Lane, LinkActor,
    LinkWatcher, NetworkActor, PeerChannel, PeerChannels, PeerConfig, RejectionLog, Routes, Trust,
    TypedSender, codec,
};

/// Least bytes of a pre-shared key.
const KEY_BYTES_MIN: usize = 16;
/// Longest name, so that `link/<name>` is one too.
const NAME_BYTES_MAX: usize = 59;
/// Mailbox slots of the actors that keep the links.
const MAILBOX: usize = 1_024;

/// How a process proves its name to the others.
#[derive(Clone)]
pub enum Identity {
    /// All processes know the same secret, at least 16 bytes: whoever has it can be any of them.
    PreSharedKey(Vec<u8>),
    /// Each process has a key of its own. The bytes name the cluster; they are the same in all its processes.
    Certificate([u8; 32], Arc<dyn CertificateSigner>),
}

/// Certifies names with a secret that all share.
struct KeySigner {
    key: Vec<u8>,
    own: NodeId,
}

impl KeySigner {
    /// The code over a purpose and its parts, each with its length.
    fn code(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            code.update(&(part.len() as u64).to_be_bytes());
            code.update(part);
        }
        code
    }
}

impl CertificateSigner for KeySigner {
    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        self.code(&[b"certificate", self.own.as_str().as_bytes(), statement]).finalize().into_bytes().to_vec()
    }

    fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
        let code = self.code(&[b"certificate", member.as_str().as_bytes(), statement]);
        code.verify_slice(signature).is_ok()
    }
}

/// Why a process was not linked.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A name, an address, a peer or the key is missing or wrong.
    #[error("`{field}` is {value}; expected {expected}")]
    Field {
        /// The method of the builder.
        field: &'static str,
        /// Value that was given.
        value: String,
        /// Description of the accepted values.
        expected: &'static str,
    },
    /// The address could not be listened on.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The identity could not be certified.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The actors that keep the links did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// One of them did not start; the others were stopped.
    #[error(transparent)]
    Child(#[from] AdminError),
}

/// Describes how a process is linked.
#[derive(Clone, Default)]
#[must_use = "links are described here, and started by `start`"]
pub struct ClusterBuilder {
    name: String,
    listen: Option<SocketAddr>,
    peers: Vec<(String, SocketAddr)>,
    identity: Option<Identity>,
    exports: Exports,
}

impl ClusterBuilder {
    /// Name of this process, unique in the cluster.
    pub fn name(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Address where peers reach this process; with port 0 one is chosen: see [`Cluster::address`].
    pub fn listen(self, address: SocketAddr) -> Self {
        Self { listen: Some(address), ..self }
    }

    /// Another process of the cluster, and where it listens.
    pub fn peer(mut self, name: &str, address: SocketAddr) -> Self {
        self.peers.push((name.to_owned(), address));
        self
    }

    /// How this process proves its name.
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Lets peers call the actor `name` of this process: `serve` takes the caller and the request, and answers or says
    /// why not. The actor is found by peers while it is registered.
    pub fn export<P: Protocol, F>(
        mut self,
        name: &ActorName,
        serve: impl Fn(NodeId, P::Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<P::Reply, String>> + Send + 'static,
    {
        self.exports = self.exports.with::<P, F>(name.clone(), serve);
        self
    }

    /// Listens, and keeps links to all peers.
    ///
    /// # Errors
    ///
    /// If something is missing or wrong, the address is in use, or the actors do not start.
    pub async fn start(self, system: &System) -> Result<Cluster, ClusterError> {
        let field =
            |field, value: &str, expected| ClusterError::Field { field, value: value.to_owned(), expected };
        let name = |of, text: &str| {
            let named = NodeId::new(text).ok().filter(|_| text.len() <= NAME_BYTES_MAX);
            let expected = "1 to 59 characters of a-z, 0-9, '-' and '/', beginning with a letter";
            named.ok_or_else(|| field(of, text, expected))
        };
        let own = name("name", &self.name)?;
        let listen = self.listen.ok_or_else(|| field("listen", "missing", "an address"))?;
        let mut peers = BTreeMap::new();
        for (text, address) in &self.peers {
            let peer = name("peer", text)?;
            if peer == own || peers.insert(peer, *address).is_some() {
                return Err(field("peer", text, "each other process, once"));
            }
        }
        if peers.is_empty() {
            return Err(field("peer", "missing", "at least one"));
        }
        let mut members: Vec<_> = peers.keys().cloned().chain([own.clone()]).collect();
        members.sort();
        let roster =
            Roster::new(members, &own).ok_or_else(|| field("name", own.as_str(), "one of the members"))?;
        let (cluster, signer): ([u8; 32], Arc<dyn CertificateSigner>) = match self.identity {
            None => return Err(field("identity", "missing", "a pre-shared key or a certificate")),
            Some(Identity::PreSharedKey(key)) if key.len() < KEY_BYTES_MIN => {
                let value = format!("a pre-shared key of {} bytes", key.len());
                return Err(field("identity", &value, "at least 16 bytes"));
            }
            Some(Identity::PreSharedKey(key)) => {
                let signer = KeySigner { key, own: own.clone() };
                let cluster = signer.code(&[b"cluster"]).finalize().into_bytes();
                (cluster.into(), Arc::new(signer))
            }
            Some(Identity::Certificate(cluster, signer)) => (cluster, signer),
        };
        let unheard = |source| ClusterError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        let links = Links { system: system.clone(), roster, peers, address, cluster, signer };
        links.start(listener, self.exports).await
    }
}

/// What the links are made from.
struct Links {
    system: System,
    roster: Roster,
    peers: BTreeMap<NodeId, SocketAddr>,
    address: SocketAddr,
    cluster: [u8; 32],
    signer: Arc<dyn CertificateSigner>,
}

impl Links {
    async fn start(self, listener: TcpListener, exports: Exports) -> Result<Cluster, ClusterError> {
        let context = self.system.context().clone();
        let (clock, events) = (context.clock.clone(), context.events.clone());
        let peers =
            self.peers.iter().map(|(name, address)| PeerConfig { name: name.clone(), address: *address });
        let config = LinkConfig::new(self.address, peers.collect());
        let incarnation = Incarnation(clock.wall().0);
        let rejections = RejectionLog::new(clock.clone(), events.clone());
        let channel =
            |peer: &NodeId| (peer.clone(), Arc::new(PeerChannel::new(peer.clone(), rejections.clone())));
        let channels: PeerChannels = Arc::new(self.roster.peers().map(channel).collect());
        let discovery = Discovery::new(channels.clone()).traced(&events);
        let link = |peer: &NodeId| {
            let name =
                ActorName::new(&format!("link/{peer}")).expect("names of peers leave room for the prefix");
            (peer.clone(), Address::new(name, MAILBOX))
        };
        let links: Arc<BTreeMap<_, _>> = Arc::new(self.roster.peers().map(link).collect());
        let network = Address::new(ActorName::literal("network"), MAILBOX);
        let (slots, share) = mailbox(MAILBOX, self.peers.len());
        let discovering = Address::new(ActorName::literal("discovery"), slots);
        let tree = context.tree.clone();
        let requests = RequestHandler::new(
            exports.clone(),
            context.registry.clone(),
            Arc::new(move |actor| tree.last_words(actor)),
            events.clone(),
        );
        let routes = Routes::default().to(&discovering, share, codec::decode, DiscoveryMessage::Wire);
        let network_actor = NetworkActor {
            roster: self.roster.clone(),
            listener: Arc::new(listener),
            handshaker: self.handshaker(&config, incarnation)?,
            cookie: FederationId(self.cluster).to_string(),
            bounds: Bounds {
                frames_max: config.queue,
                bytes_max: config.queue_bytes,
                idle: config.stale_after,
            },
            inbound: Arc::new(InboundRouter { routes, answers: Arc::new(requests) }),
            channels: channels.clone(),
            links: links.clone(),
            clock: clock.clone(),
            rejections: rejections.clone(),
        };
        let watcher = watcher(&channels, &discovery);
        let backoff = RestartStrategy::ExponentialBackoff(ExponentialBackoffConfig::default());
        let root = self.system.supervisor("cluster").start().await?;
        let gateway = Gateway { incarnation };
        // Peers look for the gateway under the name of its process.
        let mut by_name = context.clone();
        by_name.prefix = self.roster.own().as_str().into();
        let mut children = vec![
            ChildSpec::ractor(&by_name, &ActorName::literal(GATEWAY), move || (gateway, ())),
            ChildSpec::worker(&context, &network, move || (network_actor.clone(), ())),
        ];
        for (peer, address) in links.iter() {
            let actor = LinkActor {
                channel: channels[peer].clone(),
                peer_address: self.peers[peer],
                dials: self.roster.own() > peer,
                config: config.clone(),
                network: network.clone(),
                clock: clock.clone(),
                duplicates: None,
                events: events.clone(),
                watcher: watcher.clone(),
            };
            children.push(ChildSpec::worker(&context, address, move || (actor.clone(), ())));
        }
        let actor = DiscoveryActor {
            address: discovering.clone(),
            incarnation,
            registry: context.registry.clone(),
            exports,
            discovery: discovery.clone(),
            outbox: Arc::new(TypedSender::new(discovering.name().clone(), Lane::Bulk, channels)),
            clock,
            rejections,
        };
        children.push(ChildSpec::worker(&context, &discovering, move || (actor.clone(), ())));
        for child in children {
            if let Err(error) = root.start_child(child.strategy(backoff)).await {
                root.stop();
                root.ended().await;
                return Err(error.into());
            }
        }
        Ok(Cluster { root, discovery, address: self.address })
    }

    fn handshaker(&self, config: &LinkConfig, incarnation: Incarnation) -> Result<Handshaker, IdentityError> {
        let (signer, clock) = (self.signer.clone(), self.system.context().clock.clone());
        Ok(Handshaker {
            trust: Trust::tls(&self.roster, self.cluster, signer, config.certificate_lifetime, clock)?,
            hello: Hello::new(self.roster.own().clone(), incarnation, self.cluster, config.version),
            roster: self.roster.clone(),
            timeout: config.handshake_timeout,
            duplicates: None,
        })
    }
}

/// What is known of a peer's actors begins and ends with its link.
fn watcher(channels: &PeerChannels, discovery: &Discovery) -> LinkWatcher {
    let (channels, discovery) = (channels.clone(), discovery.clone());
    Arc::new(move |peer, is_up| {
        let node = peer.clone();
        let connection = channels.get(peer).and_then(|channel| channel.connection()).filter(|_| is_up);
        discovery.peer(&match connection {
            Some(connection) => PeerChange::Up { node, incarnation: connection.incarnation() },
            None => PeerChange::Down { node, reason: "the link is down".to_owned() },
        });
    })
}

/// A linked process. Links go up and down with [`ClusterEvent::LinkUp`](crate::event::ClusterEvent::LinkUp) and
/// [`LinkDown`](crate::event::ClusterEvent::LinkDown) on the system's events.
pub struct Cluster {
    root: Root,
    discovery: Discovery,
    address: SocketAddr,
}

impl Cluster {
    /// Describes how a process is linked.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Address where peers reach this process.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle to the actor `name` of `peer`: for calls, casts and monitors. It is valid for this incarnation of the peer.
    ///
    /// # Errors
    ///
    /// If the peer does not show such an actor now, or it speaks another protocol.
    pub fn find<P: Protocol>(&self, peer: &NodeId, name: &ActorName) -> Result<RemoteHandle<P>, LookupError> {
        self.discovery.remote(peer, name)
    }

    /// Like [`find`](Self::find), but waits up to `timeout` until the peer is linked and shows the actor.
    ///
    /// # Errors
    ///
    /// As for [`find`](Self::find), at the end of `timeout`.
    pub async fn wait_for<P: Protocol>(
        &self,
        peer: &NodeId,
        name: &ActorName,
        timeout: Duration,
    ) -> Result<RemoteHandle<P>, LookupError> {
        let mut changes = self.discovery.directory.changes();
        let waiting = async {
            // The sender lives as long as the directory.
            while self.find::<P>(peer, name).is_err() && changes.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(timeout, waiting).await;
        self.find(peer, name)
    }

    /// Closes the links and waits until their actors have ended.
    pub async fn stop(self) {
        self.root.stop();
        self.root.ended().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ClusterEvent;
    use crate::prelude::{Actor, ActorProcessingErr, Call, Request, SelfRef};
    use std::net::Ipv4Addr;

    const SOON: Duration = Duration::from_secs(20);

    struct Doubling;

    impl Protocol for Doubling {
        const NAME: &'static str = "doubling/1";
        type Request = u32;
        type Reply = u32;
    }

    struct Double(u32);

    impl Request for Double {
        type Reply = u32;
    }

    struct Doubler;

    impl Actor for Doubler {
        type Msg = Call<Double>;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: SelfRef<Call<Double>>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: SelfRef<Call<Double>>,
            call: Call<Double>,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            let number = call.request.0;
            assert_ne!(number, 13, "unlucky");
            call.reply(2 * number);
            Ok(())
        }
    }

    fn any_port() -> SocketAddr {
        (Ipv4Addr::LOCALHOST, 0).into()
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn key(text: &str) -> Identity {
        Identity::PreSharedKey(text.as_bytes().to_vec())
    }

    /// A process whose name is the greater one, so that it dials `peer`; it has a doubler.
    async fn doubler(
        system: &System,
        name: &str,
        peer: (&str, SocketAddr),
        identity: Identity,
    ) -> (Root, Cluster) {
        let root = system.supervisor("root").start().await.expect("it starts");
        let doubler = root.child("doubler", || Doubler).spawn().await.expect("it starts");
        let actor = doubler.name().clone();
        let serve = move |_: NodeId, number: u32| {
            let doubler = doubler.clone();
            async move { doubler.call(Double(number)).await.map_err(|error| error.to_string()) }
        };
        let builder =
            Cluster::builder().name(name).listen(any_port()).peer(peer.0, peer.1).identity(identity);
        (root, builder.export::<Doubling, _>(&actor, serve).start(system).await.expect("it starts"))
    }

    async fn found(cluster: &Cluster) -> RemoteHandle<Doubling> {
        cluster.wait_for(&node("two"), &ActorName::literal("doubler"), SOON).await.expect("it is found")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn linked_processes_call_each_other_and_are_told_of_ends() {
        let one = System::new("cluster-one");
        let builder =
            Cluster::builder().name("one").listen(any_port()).identity(key("sixteen bytes or more"));
        let cluster = builder.peer("two", any_port()).start(&one).await.expect("it starts");
        for start in 1..=2 {
            let two = System::new(&format!("cluster-two-{start}"));
            let (root, other) =
                doubler(&two, "two", ("one", cluster.address()), key("sixteen bytes or more")).await;
            let handle = found(&cluster).await;
            assert_eq!(handle.call(SOON, 21).await, Ok(42));
            let monitor = handle.monitor().expect("it is watched");
            handle.call(SOON, 13).await.expect_err("it panics");
            let down = tokio::time::timeout(SOON, monitor.down()).await.expect("told").to_string();
            assert!(down.starts_with("doubler of two ended: ") && down.contains("unlucky"), "{down}");
            // It is back, in a new incarnation of the actor; then its process ends.
            let monitor = tokio::time::timeout(SOON, async {
                loop {
                    if let Ok(monitor) = found(&cluster).await.monitor() {
                        return monitor;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            let monitor = monitor.await.expect("it is watched");
            other.stop().await;
            root.stop_all(SOON).await.expect("no circle");
            let down = tokio::time::timeout(SOON, monitor.down()).await.expect("told").to_string();
            assert!(down.starts_with("doubler of two "), "{down}");
        }
        cluster.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_with_another_key_is_not_linked_and_that_is_told() {
        let one = System::new("cluster-guarded");
        let mut events = one.context().events.listen();
        let builder =
            Cluster::builder().name("guarded").listen(any_port()).identity(key("sixteen bytes or more"));
        let cluster = builder.peer("stranger", any_port()).start(&one).await.expect("it starts");
        let two = System::new("cluster-stranger");
        let (root, other) =
            doubler(&two, "stranger", ("guarded", cluster.address()), key("another sixteen bytes")).await;
        let refused = async {
            loop {
                if let ClusterEvent::LinkRefused { reason, .. } = &events.recv().await.expect("told").event {
                    return reason.clone();
                }
            }
        };
        let reason = tokio::time::timeout(SOON, refused).await.expect("it is refused");
        assert!(
            cluster.find::<Doubling>(&node("stranger"), &ActorName::literal("doubler")).is_err(),
            "{reason}"
        );
        other.stop().await;
        root.stop_all(SOON).await.expect("no circle");
        cluster.stop().await;
    }

    #[tokio::test]
    async fn what_is_missing_or_wrong_is_named() {
        let system = System::new("cluster-wrong");
        let builder = || Cluster::builder().name("one").listen(any_port()).peer("two", any_port());
        let long = "n".repeat(60);
        for (builder, expected) in [
            (Cluster::builder(), "`name` is ; expected 1 to 59 characters"),
            (builder().name(&long), "expected 1 to 59 characters"),
            (Cluster::builder().name("one"), "`listen` is missing; expected an address"),
            (builder().peer("two", any_port()), "`peer` is two; expected each other process, once"),
            (builder().peer("one", any_port()), "`peer` is one; expected each other process, once"),
            (Cluster::builder().name("one").listen(any_port()), "`peer` is missing; expected at least one"),
            (builder(), "`identity` is missing; expected a pre-shared key or a certificate"),
            (
                builder().identity(key("short")),
                "`identity` is a pre-shared key of 5 bytes; expected at least 16 bytes",
            ),
        ] {
            let error = builder.start(&system).await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{error}; expected {expected}");
        }
        let taken = std::net::TcpListener::bind(any_port()).expect("a port");
        let address = taken.local_addr().expect("bound");
        let builder = builder().identity(key("sixteen bytes or more")).listen(address);
        let error = builder.start(&system).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with(&format!("could not listen on {address}: ")), "{error}");
    }
}
