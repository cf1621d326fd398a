//! A Byzantine peer: it has the genesis key of a member and sends arbitrary bytes.
//!
//! It connects like any member, through the public [`Handshaker`]. After the handshake, a [`RawSession`] writes
//! arbitrary bytes, and a [`RawPeer`] runs a real `ractor_cluster` session and adds frames to it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alys_cluster::clock::{Clock, SystemClock};
use alys_cluster::event::EventBus;
use alys_cluster::federation::Roster;
use alys_cluster::id::{Incarnation, NodeId};
use alys_cluster::transport::connection::{Halves, Inbound};
use alys_cluster::transport::frame::{self, Kind};
use alys_cluster::transport::gateway::{GATEWAY, Gateway};
use alys_cluster::transport::handshake::AuthenticatedPeer;
use alys_cluster::transport::hello::VERSION;
use alys_cluster::transport::identity::Issued;
use alys_cluster::transport::statistics::Counters;
use alys_cluster::transport::tls::PROTOCOL;
use alys_cluster::transport::{
    Bounds, Connection, Envelope, Handshaker, Hello, RejectionLog, SecureStream, Trust,
};
use alys_node::certificate_signer::LinkCertificateSigner;
use alys_node::genesis::Genesis;
use alys_node::keys::SecretKey;
use bytes::BytesMut;
use futures::StreamExt as _;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorRef};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{
    BoxRead, BoxWrite, ClusterBidiStream, NodeEventSubscription, NodeServer, NodeServerMessage,
};
use rcgen::KeyPair;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::federation::{Federation, Member, SOON};

/// Credentials of a member, used by a test.
#[derive(Clone)]
pub struct ByzantinePeer {
    /// Name of the member whose key this has.
    pub name: NodeId,
    /// TLS credentials that prove the name.
    pub trust: Trust,
    federation: [u8; 32],
    roster: Roster,
    incarnation: Incarnation,
}

impl ByzantinePeer {
    /// Takes the key and the incarnation of a member that does not run.
    ///
    /// # Panics
    ///
    /// If its files cannot be read.
    pub fn of(federation: &Federation, index: usize) -> Self {
        let member = &federation.members[index];
        let key = SecretKey::read(&member.config.identity.key_file).expect("a key file");
        let known = fs::read_to_string(member.config.data_dir.join("incarnation")).ok();
        let incarnation = known.and_then(|text| text.trim().parse().ok()).unwrap_or(1);
        Self { incarnation: Incarnation(incarnation), ..Self::new(&federation.genesis, &member.name, key) }
    }

    /// Takes the key of `name`.
    ///
    /// # Panics
    ///
    /// If genesis has another key for `name`, or no such member.
    pub fn new(genesis: &Genesis, name: &NodeId, key: SecretKey) -> Self {
        let names = genesis.members().iter().map(|member| member.name.clone()).collect();
        let roster = Roster::new(names, name).expect("a member");
        let (certificate_signer, clock) =
            (Arc::new(LinkCertificateSigner::new(genesis, key)), Arc::new(SystemClock::default()));
        let lifetime = Duration::from_hours(24);
        let trust =
            Trust::tls(&roster, genesis.hash(), certificate_signer, lifetime, clock).expect("a certificate");
        let (name, federation) = (name.clone(), genesis.hash());
        Self { name, trust, federation, roster, incarnation: Incarnation(1) }
    }

    /// The hello that an honest member of this name sends.
    pub fn hello(&self) -> Hello {
        Hello::new(self.name.clone(), self.incarnation, self.federation, VERSION)
    }

    fn handshaker(&self, hello: Hello) -> Handshaker {
        Handshaker {
            trust: self.trust.clone(),
            hello,
            roster: self.roster.clone(),
            timeout: SOON,
            duplicates: None,
        }
    }

    /// Connects to `target` under its own name.
    ///
    /// # Panics
    ///
    /// If it is rejected.
    pub async fn meets(&self, target: &Member) -> AuthenticatedPeer {
        self.greets(target, self.hello()).await.expect("a member is met")
    }

    /// Connects to `target` with the given hello; an error if it is rejected.
    pub async fn greets(&self, target: &Member, hello: Hello) -> Result<AuthenticatedPeer, String> {
        let visit = self.handshaker(hello).visit(&target.name, target.config.link.listen).await;
        visit.map_err(|error| error.to_string())
    }

    /// Accepts one connection on `listener` and answers with the given hello.
    pub async fn is_met(&self, listener: &TcpListener, hello: Hello) -> Result<AuthenticatedPeer, String> {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        self.handshaker(hello).admit(stream).await
    }

    /// Completes the TLS handshake with `target` and sends nothing yet.
    ///
    /// # Panics
    ///
    /// If it is rejected.
    pub async fn proves(&self, target: &Member) -> SecureStream {
        let stream = TcpStream::connect(target.config.link.listen).await.expect("the port listens");
        let (stream, _) = self.trust.connect(stream, &target.name).await.expect("a member is believed");
        stream
    }
}

/// Certificate that the other side of a stream presented.
///
/// # Panics
///
/// If it presented none.
pub fn certificate_of(stream: &SecureStream) -> Vec<u8> {
    let SecureStream::Tls(stream) = stream else { panic!("the stream is not encrypted") };
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().expect("a certificate")[0].to_vec()
}

/// An authenticated connection for sending arbitrary bytes.
pub struct RawSession(Halves<SecureStream>);

impl RawSession {
    /// Uses the connection of `authenticated`, without its limit on the size of received frames.
    pub fn of(authenticated: AuthenticatedPeer) -> Self {
        let mut halves = authenticated.halves;
        halves.read.decoder_mut().set_max_frame_length(Kind::Envelope.body_max() + 1);
        Self(halves)
    }

    /// Writes bytes unchanged; false if the connection is closed.
    pub async fn says(&mut self, bytes: &[u8]) -> bool {
        let write = &mut self.0.write;
        write.write_all(bytes).await.is_ok() && write.flush().await.is_ok()
    }

    /// Writes a frame of any kind, including unknown ones.
    pub async fn frame(&mut self, kind: u8, body: &[u8]) -> bool {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&(body.len() as u32 + 1).to_be_bytes());
        bytes.extend_from_slice(&[kind]);
        bytes.extend_from_slice(body);
        self.says(&bytes).await
    }

    /// Reads until the other side closes; false if it does not close within [`SOON`].
    pub async fn is_closed(mut self) -> bool {
        let closed = async { while let Some(Ok(_)) = self.0.read.next().await {} };
        tokio::time::timeout(SOON, closed).await.is_ok()
    }
}

/// An envelope of any kind, including unknown ones, for any recipient.
pub fn envelope(kind: u8, to: &[u8], payload: &[u8]) -> Vec<u8> {
    [vec![1 << 3, kind], field(2, to), field(3, payload)].concat()
}

/// A length-delimited field in Protocol Buffers encoding.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A `ractor_cluster` frame that declares these actors remotable.
pub fn roster_of(actors: std::ops::Range<u64>) -> Vec<u8> {
    let actors: Vec<u8> = actors.flat_map(|pid| field(1, &[vec![1 << 3], varint(pid)].concat())).collect();
    cluster_frame(&field(3, &field(1, &actors)))
}

fn cluster_frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u64).to_be_bytes()[..], message].concat()
}

/// Discards every envelope.
struct Deaf;

impl Inbound for Deaf {
    fn take(&self, _: &Arc<Connection>, _: Envelope) -> Result<(), String> {
        Ok(())
    }
}

/// A byte stream for `ractor_cluster`, whose other end the test controls.
struct Strings(DuplexStream);

impl ClusterBidiStream for Strings {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.0);
        (Box::new(read), Box::new(write))
    }
}

#[derive(Clone, Default)]
struct Seen {
    authenticated: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
}

impl NodeEventSubscription for Seen {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {}
    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {}
    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {
        self.authenticated.store(true, Ordering::SeqCst);
    }
    fn node_session_ready(&self, _: NodeServerSessionInformation) {
        self.ready.store(true, Ordering::SeqCst);
    }
}

/// A real `ractor_cluster` session under an arbitrary name.
pub struct RawPeer {
    /// The test's end of the connection.
    pub connection: Arc<Connection>,
    more: mpsc::UnboundedSender<Vec<u8>>,
    seen: Seen,
    server: ActorRef<NodeServerMessage>,
    ended: JoinHandle<()>,
    gateway: Option<ActorRef<alys_cluster::transport::message::GatewayMessage>>,
}

impl RawPeer {
    /// Opens a session on a connection that `own` has with a member, under the name `claimed`. It registers a gateway
    /// only if that is its own name.
    ///
    /// # Panics
    ///
    /// If its node server does not start.
    pub async fn of(own: &ByzantinePeer, authenticated: AuthenticatedPeer, claimed: &NodeId) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let counters =
            Arc::new(Counters::new(RejectionLog::new(clock.clone(), EventBus::new(clock.clone()))));
        let bounds = Bounds { frames_max: 64, bytes_max: 4 << 20, idle: SOON * 4 };
        let (connection, far) = Connection::start(
            authenticated.info,
            authenticated.halves,
            bounds,
            counters,
            clock,
            Arc::new(Deaf),
        );
        let gateway = if *claimed == own.name {
            let gateway = Gateway { incarnation: own.incarnation };
            let spawned = Actor::spawn(Some(format!("{claimed}/{GATEWAY}")), gateway, ()).await;
            Some(spawned.expect("the name is free").0)
        } else {
            None
        };
        let (name, mode) = (claimed.to_string(), Some(NodeConnectionMode::Isolated));
        let cookie = hex::encode(own.federation);
        let server = NodeServer::new(0, cookie, name.clone(), name, None, mode);
        let server = server.with_listen_addr([127, 0, 0, 1].into());
        let (server, ended) = Actor::spawn(None, server, ()).await.expect("a node server starts");
        let seen = Seen::default();
        let subscription = Box::new(seen.clone());
        let subscribe = NodeServerMessage::SubscribeToEvents { id: "seen".to_owned(), subscription };
        server.cast(subscribe).expect("the server runs");
        let (near, strings) = tokio::io::duplex(64 * 1024);
        let ((from_server, mut to_server), (mut from_peer, to_peer)) =
            (tokio::io::split(near), tokio::io::split(far));
        let (more, additions) = mpsc::unbounded_channel();
        tokio::spawn(add(from_server, to_peer, additions));
        tokio::spawn(async move { tokio::io::copy(&mut from_peer, &mut to_server).await });
        let stream = Box::new(Strings(strings));
        let open = NodeServerMessage::ConnectionOpenedExternal { stream, is_server: false };
        server.cast(open).expect("the server runs");
        Self { connection, more, seen, server, ended, gateway }
    }

    /// Whether the member authenticated the session.
    pub fn is_authenticated(&self) -> bool {
        self.seen.authenticated.load(Ordering::SeqCst)
    }

    /// Whether the session is ready.
    pub fn is_ready(&self) -> bool {
        self.seen.ready.load(Ordering::SeqCst)
    }

    /// Sends one more frame in the session.
    pub fn adds(&self, frame: Vec<u8>) {
        // Errors are ignored: a session that has ended receives nothing.
        let _ = self.more.send(frame);
    }

    /// Ends the session and the connection.
    ///
    /// # Panics
    ///
    /// If its node server fails.
    pub async fn leaves(self) {
        self.connection.end("it leaves");
        self.server.stop(None);
        self.ended.await.expect("the server ends");
        if let Some(gateway) = self.gateway {
            let _ = gateway.stop_and_wait(None, None).await;
        }
    }
}

/// Forwards whole frames, and inserts the additional ones between them.
async fn add(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut more: mpsc::UnboundedReceiver<Vec<u8>>,
) -> std::io::Result<()> {
    let (frames, mut whole) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok(length) = from.read_u64().await {
            let mut frame = vec![0; 8 + length as usize];
            frame[..8].copy_from_slice(&length.to_be_bytes());
            if from.read_exact(&mut frame[8..]).await.is_err() || frames.send(frame).await.is_err() {
                break;
            }
        }
    });
    loop {
        let frame = tokio::select! {
            Some(frame) = whole.recv() => frame,
            Some(frame) = more.recv() => frame,
            else => return Ok(()),
        };
        to.write_all(&frame).await?;
    }
}

/// Header of a frame whose body is never sent.
pub fn header(length: u32, kind: Kind) -> Vec<u8> {
    [&length.to_be_bytes()[..], &[kind as u8]].concat()
}

/// A complete frame.
pub fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame::put(kind, body, &mut bytes);
    bytes.to_vec()
}

/// Accepts any server certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Presents its certificate, if it has one, regardless of the server's request.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A client that may present a certificate of someone else, and accepts any server.
pub struct Impostor {
    shows: Option<(Vec<u8>, KeyPair)>,
    protocol: Vec<u8>,
}

impl Impostor {
    /// Presents `certificate` (DER) and uses `key`, which need not match it.
    pub fn showing(certificate: Vec<u8>, key: KeyPair) -> Self {
        Self { shows: Some((certificate, key)), protocol: PROTOCOL.to_vec() }
    }

    /// Presents a certificate issued to it.
    pub fn issued(issued: Issued) -> Self {
        Self::showing(issued.certificate.der().to_vec(), issued.key)
    }

    /// Presents no certificate.
    pub fn bare() -> Self {
        Self { shows: None, protocol: PROTOCOL.to_vec() }
    }

    /// Uses another ALPN protocol.
    #[must_use]
    pub fn speaking(self, protocol: &[u8]) -> Self {
        Self { protocol: protocol.to_vec(), ..self }
    }

    /// Connects to `address` and reads until the other side closes. Returns the decrypted bytes received, if any.
    ///
    /// # Panics
    ///
    /// If the port does not listen, or the other side does not close.
    pub async fn knocks(&self, address: SocketAddr) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_protocol_versions(&[&rustls::version::TLS13]).expect("it is known");
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
        let shows = self.shows.as_ref().map(|(certificate, key)| {
            let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
            let key = aws_lc_rs::sign::any_supported_type(&key).expect("a key");
            // The key need not be the certificate's.
            Arc::new(CertifiedKey::new(vec![certificate.clone().into()], key))
        });
        let mut config = config.with_client_cert_resolver(Arc::new(Shows(shows)));
        config.alpn_protocols = vec![self.protocol.clone()];
        let stream = TcpStream::connect(address).await.expect("the port listens");
        let name = ServerName::try_from("member.invalid").expect("a name");
        let visit = async {
            let mut said = Vec::new();
            if let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await {
                let _ = stream.read_to_end(&mut said).await;
            }
            said
        };
        tokio::time::timeout(SOON, visit).await.expect("it is closed")
    }
}
