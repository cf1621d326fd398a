//! Authenticates members to each other with mutual TLS, using the certificates of [`identity`].
//!
//! ```text
//!   TCP ─► TLS 1.3: the peer's certificate is well-formed, of this federation, in its validity period, of the dialled
//!          member, and the peer has its key ─► the member has signed for that key (cached) ─► SecureStream
//! ```
//!
//! The expensive step comes last: to make this member verify a genesis signature, which takes a millisecond, a peer
//! must have generated a key and a certificate and completed a handshake, and at most [`PROVING_MAX`] verifications for
//! inbound connections run at once. A verified signature is cached with its certificate, one per member, so that no
//! peer can evict another's entry. The validity period is checked in every handshake.
//!
//! There is no session resumption and no early data: both would bypass the certificate checks. **Nothing here has a
//! deadline**: callers of [`Trust::accept`] and [`Trust::connect`] must apply a timeout and limit how many handshakes
//! run at once. Until its handshake is complete, an unauthenticated peer occupies at most the 64 kB that `rustls`
//! allows for its messages.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    ServerConfig, SignatureScheme,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::identity::{
    self, BACKDATED, CertificateSigner, Claim, FederationId, IdentityError, Issued, Seconds,
};
use crate::clock::{Clock, WallTime};
use crate::federation::Roster;
use crate::id::NodeId;

/// ALPN protocol; a peer that does not offer it is refused.
pub const PROTOCOL: &[u8] = b"alys-link/1";
/// Maximum number of genesis signatures verified at once for inbound connections.
pub const PROVING_MAX: usize = 2;
/// Server name used in handshakes. It is never sent and identifies nobody: certificates do.
const SERVER_NAME: &str = "member.invalid";

/// Why a connection was refused or failed. It is closed.
#[derive(Debug, Error)]
pub enum ConnectionRefusal {
    /// The peer's certificate is invalid or belongs to another member.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(rustls::Error),
    /// The connection failed.
    #[error("the connection broke during the TLS handshake: {0}")]
    Io(io::Error),
    /// The peer negotiated another protocol within TLS.
    #[error("the peer does not speak alys-link/1")]
    Protocol,
    /// Verifying a signature panicked: a bug.
    #[error("checking the certificate's signature failed: {0}")]
    CertificateSigner(String),
}

impl From<io::Error> for ConnectionRefusal {
    fn from(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Io(error);
        };
        if let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = tls
            && let Some(found) = inner.downcast_ref::<IdentityError>()
        {
            return Self::Identity(found.clone());
        }
        Self::Tls(tls.clone())
    }
}

fn refused(error: IdentityError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// Trust configuration of this member's links and the certificate it presents. Cheap to clone; clones share their
/// state.
#[derive(Clone)]
pub struct Trust(Option<Arc<Secured>>);

impl Trust {
    /// Creates mutual TLS among the members of `roster`, and a first certificate valid for `lifetime`. `federation` is
    /// the hash of genesis.
    ///
    /// Fails if the lifetime is out of range, or if `signer` does not sign with this member's genesis key.
    pub fn tls(
        roster: &Roster,
        federation: [u8; 32],
        signer: Arc<dyn CertificateSigner>,
        lifetime: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, IdentityError> {
        let judge = Arc::new(Judge {
            own: roster.own().clone(),
            members: roster.members().to_vec(),
            federation: FederationId(federation),
            signer,
            clock,
            algorithms: provider().signature_verification_algorithms,
            known: Mutex::default(),
        });
        let present = ArcSwap::from_pointee(Present::make(&judge, lifetime, judge.clock.wall())?);
        let proving = Arc::new(Semaphore::new(PROVING_MAX));
        Ok(Self(Some(Arc::new(Secured { judge, lifetime, present, rotating: Mutex::default(), proving }))))
    }

    /// Creates links without encryption and authentication: for measuring the cost of encryption.
    pub fn plain() -> Self {
        Self(None)
    }

    /// Performs the handshake on an inbound connection and returns the peer; `None` without TLS.
    ///
    /// Waits for the peer without a deadline: the caller sets one, and may cancel this future at any point.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(SecureStream, Option<NodeId>), ConnectionRefusal> {
        let Some(secured) = &self.0 else {
            return Ok((SecureStream::Plain(stream), None));
        };
        let server = secured.present.load().server.clone();
        let stream = TlsStream::from(TlsAcceptor::from(server).accept(stream).await?);
        let peer = secured.judge.settle(&stream, None, Some(&secured.proving)).await?;
        Ok((SecureStream::Tls(Box::new(stream)), Some(peer)))
    }

    /// Performs the handshake with the dialled `peer`; refuses anyone else, including other members.
    ///
    /// Waits for the peer without a deadline: the caller sets one, and may cancel this future at any point.
    pub async fn connect(
        &self,
        stream: TcpStream,
        peer: &NodeId,
    ) -> Result<(SecureStream, Option<NodeId>), ConnectionRefusal> {
        let Some(secured) = &self.0 else {
            return Ok((SecureStream::Plain(stream), None));
        };
        let mut client = (*secured.present.load().client).clone();
        let verifier = Verifier { judge: secured.judge.clone(), dialled: Some(peer.clone()) };
        client.dangerous().set_certificate_verifier(Arc::new(verifier));
        let name = ServerName::try_from(SERVER_NAME).expect("the constant has the form of a name");
        let stream = TlsStream::from(TlsConnector::from(Arc::new(client)).connect(name, stream).await?);
        // Only members are dialled, one connection each at a time: no limit is needed, and inbound handshakes of others
        // can not delay this one.
        let peer = secured.judge.settle(&stream, Some(peer), None).await?;
        Ok((SecureStream::Tls(Box::new(stream)), Some(peer)))
    }

    /// Issues a new key and certificate if half of the present one's lifetime is over, or if the clock was set back so
    /// far that its start is nearly in the future; returns whether it did. Established streams are not affected; new
    /// ones use the new certificate. After an error the present one stays.
    ///
    /// Takes some milliseconds if it issues one.
    pub fn rotate_if_due(&self, now: WallTime) -> Result<bool, IdentityError> {
        let Some(secured) = &self.0 else {
            return Ok(false);
        };
        let _turn = secured.rotating.lock().unwrap_or_else(PoisonError::into_inner);
        if !secured.present.load().is_due(secured.lifetime, Seconds::from(now)) {
            return Ok(false);
        }
        secured.present.store(Arc::new(Present::make(&secured.judge, secured.lifetime, now)?));
        Ok(true)
    }

    /// The certificate in use, in PEM; `None` without TLS.
    pub fn certificate_pem(&self) -> Option<String> {
        self.0.as_ref().map(|secured| secured.present.load().pem.clone())
    }

    /// End of that certificate's validity period; `None` without TLS.
    pub fn expiry(&self) -> Option<Seconds> {
        self.0.as_ref().map(|secured| secured.present.load().not_after)
    }
}

struct Secured {
    judge: Arc<Judge>,
    lifetime: Duration,
    present: ArcSwap<Present>,
    rotating: Mutex<()>,
    proving: Arc<Semaphore>,
}

/// One certificate of this member, with the TLS configurations that use it.
struct Present {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    pem: String,
    not_before: Seconds,
    not_after: Seconds,
}

impl Present {
    fn make(judge: &Arc<Judge>, lifetime: Duration, now: WallTime) -> Result<Self, IdentityError> {
        let issued = identity::issue(&judge.own, &judge.federation, &*judge.signer, lifetime, now)?;
        let Issued { certificate, key, not_before, not_after } = issued;
        // Detects here what the peers would refuse.
        identity::check(certificate.der(), &judge.federation, &judge.members, &*judge.signer, now)?;
        let making = |error: rustls::Error| IdentityError::Making(error.to_string());
        let provider = Arc::new(provider());
        let chain = || vec![certificate.der().clone()];
        let secret = || PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let verifier = Arc::new(Verifier { judge: judge.clone(), dialled: None });

        let server = ServerConfig::builder_with_provider(provider.clone());
        let server = server.with_protocol_versions(&[&rustls::version::TLS13]).map_err(making)?;
        let server = server.with_client_cert_verifier(verifier.clone());
        let mut server = server.with_single_cert(chain(), secret()).map_err(making)?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;

        let client = ClientConfig::builder_with_provider(provider);
        let client = client.with_protocol_versions(&[&rustls::version::TLS13]).map_err(making)?;
        let client = client.dangerous().with_custom_certificate_verifier(verifier);
        let mut client = client.with_client_auth_cert(chain(), secret()).map_err(making)?;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        client.enable_sni = false;

        let (server, client, pem) = (Arc::new(server), Arc::new(client), certificate.pem());
        Ok(Self { server, client, pem, not_before, not_after })
    }

    fn is_due(&self, lifetime: Duration, now: Seconds) -> bool {
        let earliest = self.not_before.0 + BACKDATED.as_secs() as i64 / 2;
        let latest = self.not_after.0 - lifetime.as_secs().div_ceil(2) as i64;
        !(earliest..latest).contains(&now.0)
    }
}

/// Presents no certificate, so that every handshake fails.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Refuses every handshake: for a listener that can not be closed.
pub(super) fn refuse_all() -> TlsAcceptor {
    let server = ServerConfig::builder_with_provider(Arc::new(provider()));
    let server =
        server.with_protocol_versions(&[&rustls::version::TLS13]).expect("its suites are of TLS 1.3");
    TlsAcceptor::from(Arc::new(server.with_no_client_auth().with_cert_resolver(Arc::new(Nobody))))
}

/// Cryptography of the links, independent of the rest of the process: TLS 1.3 suites, fastest first.
fn provider() -> CryptoProvider {
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

/// Verifies the certificates of peers.
struct Judge {
    own: NodeId,
    members: Vec<NodeId>,
    federation: FederationId,
    signer: Arc<dyn CertificateSigner>,
    clock: Arc<dyn Clock>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Last certificate of each member whose signature was verified.
    known: Mutex<BTreeMap<NodeId, Vec<u8>>>,
}

impl Judge {
    /// Checks everything except the member's signature.
    fn compare(&self, der: &[u8], dialled: Option<&NodeId>) -> Result<Claim, IdentityError> {
        let claim = Claim::read(der)?;
        claim.compare(&self.federation, &self.members, self.clock.wall())?;
        if claim.member == self.own {
            return Err(IdentityError::Own(claim.member));
        }
        match dialled {
            Some(dialled) if *dialled != claim.member => {
                Err(IdentityError::OtherMember { found: claim.member, dialled: dialled.clone() })
            }
            _ => Ok(claim),
        }
    }

    fn is_known(&self, member: &NodeId, der: &[u8]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(member).is_some_and(|known| known == der)
    }

    /// Identifies the peer of a stream whose handshake is complete.
    async fn settle(
        self: &Arc<Self>,
        stream: &TlsStream<TcpStream>,
        dialled: Option<&NodeId>,
        bound: Option<&Arc<Semaphore>>,
    ) -> Result<NodeId, ConnectionRefusal> {
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(PROTOCOL) {
            return Err(ConnectionRefusal::Protocol);
        }
        let der = match connection.peer_certificates() {
            Some([der]) => der.to_vec(),
            chain => return Err(IdentityError::Chain(chain.map_or(0, <[_]>::len)).into()),
        };
        let claim = self.compare(&der, dialled)?;
        if self.is_known(&claim.member, &der) {
            return Ok(claim.member);
        }
        let permit = match bound {
            Some(bound) => Some(bound.clone().acquire_owned().await.expect("the semaphore is never closed")),
            None => None,
        };
        let judge = self.clone();
        // The task owns the permit: a caller that gives up does not release it before the verification is done.
        let proof = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            claim.prove(&*judge.signer)?;
            let mut known = judge.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(claim.member.clone(), der);
            Ok(claim.member)
        });
        proof.await.map_err(|error| ConnectionRefusal::CertificateSigner(error.to_string()))?
    }
}

/// Verifies certificates within the handshake, and that the peer has the certificate's key.
struct Verifier {
    judge: Arc<Judge>,
    dialled: Option<NodeId>,
}

impl Verifier {
    fn judge(&self, end: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(refused(IdentityError::Chain(1 + others.len())));
        }
        self.judge.compare(end, self.dialled.as_ref()).map_err(refused)?;
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("own", &self.judge.own).field("dialled", &self.dialled).finish()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end, others)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(end, others)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.judge.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Byte stream to a peer.
pub enum SecureStream {
    /// Neither encrypted nor authenticated.
    Plain(TcpStream),
    /// Encrypted and authenticated.
    Tls(Box<TlsStream<TcpStream>>),
}

impl SecureStream {
    /// The TCP connection below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for SecureStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for SecureStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::KeyPair;
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::version::{TLS12, TLS13};
    use rustls::{HandshakeKind, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::identity::tests::{HERE, NameVoucher, forged, issued, members, node};
    use super::*;
    use crate::clock::ManualClock;

    /// Keeps a failing test from hanging; asserts nothing about speed.
    const DEADLINE: Duration = Duration::from_secs(20);
    const DAY: Duration = Duration::from_hours(24);
    const WEEK: Duration = Duration::from_hours(7 * 24);

    type Outcome = Result<(SecureStream, Option<NodeId>), ConnectionRefusal>;

    /// Counts the verifications, in total and at once.
    struct Counted {
        inner: NameVoucher,
        asked: Arc<AtomicUsize>,
        at_once: AtomicUsize,
        most: Arc<AtomicUsize>,
        pause: Duration,
    }

    impl CertificateSigner for Counted {
        fn sign(&self, statement: &[u8]) -> Vec<u8> {
            self.inner.sign(statement)
        }

        fn verify(&self, member: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            std::thread::sleep(self.pause);
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            self.inner.verify(member, statement, signature)
        }
    }

    fn clock() -> Arc<ManualClock> {
        let clock = Arc::new(ManualClock::default());
        clock.advance(20_000 * DAY);
        clock
    }

    fn trust_in(federation: FederationId, n: usize, clock: &Arc<ManualClock>) -> Trust {
        let roster = Roster::new(members(), &node(n)).expect("a member");
        let signer = Arc::new(NameVoucher(node(n)));
        Trust::tls(&roster, federation.0, signer, WEEK, clock.clone()).expect("a certificate")
    }

    fn trust(n: usize, clock: &Arc<ManualClock>) -> Trust {
        trust_in(HERE, n, clock)
    }

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.expect("connected"), other.expect("accepted").0)
    }

    /// One end dials `peer`, the other accepts.
    async fn meet(dialler: &Trust, peer: &NodeId, acceptor: &Trust) -> (Outcome, Outcome) {
        let (one, other) = tcp().await;
        let both = async { tokio::join!(dialler.connect(one, peer), acceptor.accept(other)) };
        timeout(DEADLINE, both).await.expect("both come to an end")
    }

    async fn echo(one: &mut SecureStream, other: &mut SecureStream) {
        one.write_all(b"well").await.expect("written");
        one.flush().await.expect("flushed");
        let mut bytes = [0; 4];
        timeout(DEADLINE, other.read_exact(&mut bytes)).await.expect("in time").expect("read");
        assert_eq!(&bytes, b"well");
    }

    fn certified(chain: Vec<Vec<u8>>, key: &KeyPair) -> Arc<SingleCertAndKey> {
        let key = any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into()).expect("a key");
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Arc::new(CertifiedKey::new(chain, key).into())
    }

    /// Accepts any certificate.
    #[derive(Debug)]
    struct Gullible;

    impl ServerCertVerifier for Gullible {
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

    fn client(
        version: &'static SupportedProtocolVersion,
        alpn: &[&[u8]],
        shown: Option<Arc<SingleCertAndKey>>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("a version");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Gullible));
        let mut config = match shown {
            Some(shown) => builder.with_client_cert_resolver(shown),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A client that keeps the connection open until the server has decided.
    fn dial(config: Arc<ClientConfig>, stream: TcpStream) -> JoinHandle<Option<HandshakeKind>> {
        tokio::spawn(async move {
            let name = ServerName::try_from(SERVER_NAME).expect("a name");
            let mut stream = TlsConnector::from(config).connect(name, stream).await.ok()?;
            // Waits for the server's decision about the client's certificate, or its first byte.
            let _ = stream.read_u8().await;
            stream.get_ref().1.handshake_kind()
        })
    }

    async fn attack(acceptor: &Trust, config: Arc<ClientConfig>) -> Outcome {
        let (one, other) = tcp().await;
        let client = dial(config, one);
        let outcome = timeout(DEADLINE, acceptor.accept(other)).await.expect("comes to an end");
        client.abort();
        outcome
    }

    fn refusal(outcome: Outcome) -> String {
        outcome.map(|(_, peer)| peer).expect_err("refused").to_string()
    }

    #[tokio::test]
    async fn members_prove_themselves_to_each_other() {
        let clock = clock();
        let (one, two) = (trust(1, &clock), trust(2, &clock));
        let (dialled, accepted) = meet(&two, &node(1), &one).await;
        let (mut dialled, peer) = dialled.expect("accepted");
        assert_eq!(peer, Some(node(1)));
        let (mut accepted, peer) = accepted.expect("accepted");
        assert_eq!(peer, Some(node(2)));
        echo(&mut dialled, &mut accepted).await;
        echo(&mut accepted, &mut dialled).await;
        assert!(matches!(&dialled, SecureStream::Tls(_)));
        dialled.shutdown().await.expect("closed");
        assert_eq!(timeout(DEADLINE, accepted.read(&mut [0; 4])).await.expect("in time").expect("an end"), 0);
    }

    #[tokio::test]
    async fn without_tls_nobody_is_proven() {
        let (dialled, accepted) = meet(&Trust::plain(), &node(1), &Trust::plain()).await;
        let (mut dialled, peer) = dialled.expect("accepted");
        assert_eq!(peer, None);
        let (mut accepted, peer) = accepted.expect("accepted");
        assert_eq!(peer, None);
        echo(&mut dialled, &mut accepted).await;
        assert_eq!(Trust::plain().rotate_if_due(WallTime(0)), Ok(false));
        assert_eq!(Trust::plain().certificate_pem(), None);
    }

    #[tokio::test]
    async fn another_federation_is_refused_by_both() {
        let clock = clock();
        let elsewhere = FederationId([9; 32]);
        let (dialled, accepted) = meet(&trust_in(elsewhere, 2, &clock), &node(1), &trust(1, &clock)).await;
        assert!(refusal(dialled).contains("is of the federation 0707070707070707…; expected 0909"));
        assert!(accepted.is_err(), "told by the dialler");
        // A peer that dials without verifying the server is refused as well.
        let other =
            identity::issue(&node(2), &elsewhere, &NameVoucher(node(2)), WEEK, clock.wall()).expect("made");
        let shown = certified(vec![other.certificate.der().to_vec()], &other.key);
        let outcome = attack(&trust(1, &clock), client(&TLS13, &[PROTOCOL], Some(shown))).await;
        assert!(refusal(outcome).contains("is of the federation 0909090909090909…"));
    }

    #[tokio::test]
    async fn whoever_answers_instead_of_whom_was_dialled_is_refused() {
        let clock = clock();
        let (dialled, accepted) = meet(&trust(3, &clock), &node(2), &trust(1, &clock)).await;
        assert_eq!(refusal(dialled), "the certificate names node-1; expected node-2, which was dialled");
        assert!(accepted.is_err());
    }

    #[tokio::test]
    async fn only_a_member_with_its_key_and_its_own_signature_is_accepted() {
        let clock = clock();
        let now = clock.wall();
        let one = trust(1, &clock);
        let honest = issued(2, now);
        let der = honest.certificate.der().to_vec();
        let sham = forged(now);
        let sham_der = sham.certificate.der().to_vec();
        let own = issued(1, now);
        let own_der = own.certificate.der().to_vec();
        let cases = [
            (
                "a copied certificate",
                Some(certified(vec![der.clone()], &sham.key)),
                "the TLS handshake failed",
            ),
            ("another's name", Some(certified(vec![sham_der], &sham.key)), "not that of node-2"),
            ("this member's own", Some(certified(vec![own_der], &own.key)), "node-1, which is this member"),
            ("a chain", Some(certified(vec![der.clone(); 2], &honest.key)), "presents 2 certificates"),
            ("no X.509", Some(certified(vec![vec![1, 2, 3]], &sham.key)), "is no X.509"),
            (
                "oversize",
                Some(certified(vec![vec![0; 9_000]], &sham.key)),
                "has 9000 bytes; expected at most 2048",
            ),
            ("none", None, "the TLS handshake failed"),
        ];
        for (what, shown, expected) in cases {
            let told = refusal(attack(&one, client(&TLS13, &[PROTOCOL], shown)).await);
            assert!(told.contains(expected), "{what}: {told}");
        }
        let shown = certified(vec![der], &honest.key);
        let (_, peer) = attack(&one, client(&TLS13, &[PROTOCOL], Some(shown))).await.expect("an honest one");
        assert_eq!(peer, Some(node(2)));
    }

    #[tokio::test]
    async fn a_server_with_a_copied_or_forged_certificate_is_refused() {
        let clock = clock();
        let (honest, sham) = (issued(1, clock.wall()), issue_for(1, 3, &clock));
        let cases = [
            (
                "copied",
                certified(vec![honest.certificate.der().to_vec()], &sham.key),
                "the TLS handshake failed",
            ),
            ("forged", certified(vec![sham.certificate.der().to_vec()], &sham.key), "not that of node-1"),
        ];
        for (what, shown, expected) in cases {
            let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
            let builder = builder.with_protocol_versions(&[&TLS13]).expect("a version");
            let mut config = builder.with_no_client_auth().with_cert_resolver(shown);
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
            let (one, other) = tcp().await;
            let server = tokio::spawn(async move { TlsAcceptor::from(Arc::new(config)).accept(other).await });
            let outcome = timeout(DEADLINE, trust(2, &clock).connect(one, &node(1))).await.expect("ends");
            let told = refusal(outcome);
            assert!(told.contains(expected), "{what}: {told}");
            server.abort();
        }
    }

    fn issue_for(member: usize, signer: usize, clock: &Arc<ManualClock>) -> Issued {
        identity::issue(&node(member), &HERE, &NameVoucher(node(signer)), WEEK, clock.wall()).expect("made")
    }

    #[tokio::test]
    async fn a_certificate_out_of_its_time_is_refused_even_if_it_was_taken_before() {
        let clock = clock();
        let (one, two) = (trust(1, &clock), trust(2, &clock));
        let (dialled, accepted) = meet(&two, &node(1), &one).await;
        assert!(dialled.is_ok() && accepted.is_ok());
        clock.advance(WEEK);
        assert_eq!(one.rotate_if_due(clock.wall()), Ok(true));
        let (_, accepted) = meet(&two, &node(1), &one).await;
        assert!(refusal(accepted).starts_with("the certificate held until 2024-10-11T00:00:00Z"));
        assert_eq!(two.rotate_if_due(clock.wall()), Ok(true));
        let (dialled, accepted) = meet(&two, &node(1), &one).await;
        assert!(dialled.is_ok() && accepted.is_ok());

        let behind = Arc::new(ManualClock::default());
        behind.advance(19_999 * DAY);
        let ahead = clock;
        let (dialled, _) = meet(&trust(2, &behind), &node(1), &trust(1, &ahead)).await;
        assert!(
            refusal(dialled).starts_with("the certificate holds from 2024-10-09T00:00:00Z; it is 2024-10-03")
        );
    }

    #[tokio::test]
    async fn clocks_a_day_apart_halt_nobody() {
        let clocks = [20_000, 20_001].map(|days| {
            let clock = Arc::new(ManualClock::default());
            clock.advance(days * DAY);
            clock
        });
        let [one, two] = [trust(1, &clocks[0]), trust(2, &clocks[1])];
        for _ in 0..20 {
            let (dialled, accepted) = meet(&two, &node(1), &one).await;
            assert!(dialled.is_ok() && accepted.is_ok());
            for (clock, trust) in clocks.iter().zip([&one, &two]) {
                clock.advance(DAY);
                trust.rotate_if_due(clock.wall()).expect("a certificate");
            }
        }
    }

    #[tokio::test]
    async fn rotation_leaves_old_sessions_and_serves_new_ones() {
        let clock = clock();
        let (one, two) = (trust(1, &clock), trust(2, &clock));
        let (dialled, accepted) = meet(&two, &node(1), &one).await;
        let (mut old_dialled, mut old_accepted) =
            (dialled.expect("accepted").0, accepted.expect("accepted").0);
        let first = one.certificate_pem().expect("a certificate");
        assert_eq!(one.rotate_if_due(clock.wall()), Ok(false), "just made");
        clock.advance(WEEK / 2);
        assert_eq!(one.rotate_if_due(clock.wall()), Ok(true), "half of its life is over");
        assert_eq!(one.rotate_if_due(clock.wall()), Ok(false));
        let second = one.certificate_pem().expect("a certificate");
        assert_ne!(first, second);
        echo(&mut old_dialled, &mut old_accepted).await;

        let (dialled, _) = meet(&two, &node(1), &one).await;
        let SecureStream::Tls(stream) = dialled.expect("accepted").0 else { panic!("TLS") };
        let shown = stream.get_ref().1.peer_certificates().expect("one")[0].to_vec();
        assert_eq!(Ok(shown), identity::from_pem(second.as_bytes()));
        clock.advance(WEEK * 10);
        echo(&mut old_accepted, &mut old_dialled).await;
    }

    #[test]
    fn a_clock_that_is_set_back_makes_a_certificate_of_the_present() {
        let clock = clock();
        let one = trust(1, &clock);
        let wall = clock.wall().0;
        let day = DAY.as_millis() as u64;
        assert_eq!(one.rotate_if_due(WallTime(wall - day)), Ok(false));
        assert_eq!(one.rotate_if_due(WallTime(wall - 2 * day)), Ok(true));
        assert_eq!(one.expiry(), Some(Seconds(20_005 * 86_400)));
    }

    #[test]
    fn whoever_can_not_sign_as_genesis_says_has_no_certificate() {
        let roster = Roster::new(members(), &node(1)).expect("a member");
        let made = Trust::tls(&roster, HERE.0, Arc::new(NameVoucher(node(2))), WEEK, clock());
        assert_eq!(made.map(|_| ()), Err(IdentityError::Forged(node(1))));
    }

    #[tokio::test]
    async fn other_versions_and_other_protocols_are_refused() {
        let clock = clock();
        let honest = issued(2, clock.wall());
        let one = trust(1, &clock);
        let shown = || Some(certified(vec![honest.certificate.der().to_vec()], &honest.key));
        let old = attack(&one, client(&TLS12, &[PROTOCOL], shown())).await;
        let Err(ConnectionRefusal::Tls(rustls::Error::PeerIncompatible(found))) = old else {
            panic!("TLS 1.2")
        };
        assert_eq!(found, PeerIncompatible::Tls12NotOfferedOrEnabled);
        let told = refusal(attack(&one, client(&TLS13, &[b"h2"], shown())).await);
        assert!(told.contains("protocol"), "{told}");
        let told = refusal(attack(&one, client(&TLS13, &[], shown())).await);
        assert_eq!(told, "the peer does not speak alys-link/1");
    }

    #[tokio::test]
    async fn plain_bytes_are_no_handshake_either_way() {
        let clock = clock();
        for bytes in [&b"\0\0\0\0\0\0\0\x10plain bytes here"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
            let (mut one, other) = tcp().await;
            one.write_all(bytes).await.expect("written");
            let outcome = timeout(DEADLINE, trust(1, &clock).accept(other)).await.expect("ends");
            assert!(refusal(outcome).starts_with("the TLS handshake failed"));

            let (one, mut other) = tcp().await;
            other.write_all(bytes).await.expect("written");
            let outcome = timeout(DEADLINE, trust(2, &clock).connect(one, &node(1))).await.expect("ends");
            assert!(refusal(outcome).starts_with("the TLS handshake failed"));
        }
        let (one, other) = tcp().await;
        drop(one);
        let outcome = timeout(DEADLINE, trust(1, &clock).accept(other)).await.expect("ends");
        assert!(refusal(outcome).starts_with("the connection broke during the TLS handshake"));
    }

    #[tokio::test]
    async fn what_a_stranger_sends_is_bounded() {
        // The beginning of a ClientHello of 16 MB.
        let (mut one, other) = tcp().await;
        let sender = tokio::spawn(async move {
            let header = [22, 3, 1, 0x40, 0];
            let hello = [1, 0xff, 0xff, 0xff];
            let mut sent = 0;
            while sent < 1 << 24 {
                let record = [&header[..], &hello, &vec![0; 0x4000 - 4]].concat();
                if one.write_all(&record).await.is_err() {
                    break;
                }
                sent += record.len();
            }
            sent
        });
        let outcome = timeout(DEADLINE, trust(1, &clock()).accept(other)).await.expect("ends");
        assert!(refusal(outcome).starts_with("the TLS handshake failed"));
        assert!(timeout(DEADLINE, sender).await.expect("ends").expect("counted") < 1 << 24);
    }

    #[tokio::test]
    async fn no_session_is_resumed() {
        let clock = clock();
        let honest = issued(2, clock.wall());
        let one = trust(1, &clock);
        let shown = certified(vec![honest.certificate.der().to_vec()], &honest.key);
        let config = client(&TLS13, &[PROTOCOL], Some(shown));
        for _ in 0..3 {
            let (dialler, acceptor) = tcp().await;
            let client = dial(config.clone(), dialler);
            let (mut stream, _) =
                timeout(DEADLINE, one.accept(acceptor)).await.expect("ends").expect("accepted");
            stream.write_all(b"!").await.expect("written");
            stream.flush().await.expect("flushed");
            let kind = timeout(DEADLINE, client).await.expect("ends").expect("joined");
            // A second round trip, needed because the client guessed another key exchange group, is not a resumption
            // either.
            assert!(matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)));
        }
    }

    fn counted(
        n: usize,
        pause: Duration,
        clock: &Arc<ManualClock>,
    ) -> (Trust, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (asked, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let signer = Counted {
            inner: NameVoucher(node(n)),
            asked: asked.clone(),
            at_once: AtomicUsize::new(0),
            most: most.clone(),
            pause,
        };
        let roster = Roster::new(members(), &node(n)).expect("a member");
        let trust =
            Trust::tls(&roster, HERE.0, Arc::new(signer), WEEK, clock.clone()).expect("a certificate");
        asked.store(0, Ordering::SeqCst);
        (trust, asked, most)
    }

    #[tokio::test]
    async fn a_signature_is_checked_once_for_each_certificate() {
        let clock = clock();
        let (one, asked, _) = counted(1, Duration::ZERO, &clock);
        let two = trust(2, &clock);
        for _ in 0..3 {
            meet(&two, &node(1), &one).await.1.expect("accepted");
            meet(&one, &node(2), &two).await.0.expect("accepted");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        clock.advance(WEEK / 2);
        assert_eq!(two.rotate_if_due(clock.wall()), Ok(true));
        meet(&two, &node(1), &one).await.1.expect("accepted");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // A forged certificate is verified each time, and does not evict the genuine one.
        let sham = forged(clock.wall());
        for _ in 0..2 {
            let shown = certified(vec![sham.certificate.der().to_vec()], &sham.key);
            let outcome = attack(&one, client(&TLS13, &[PROTOCOL], Some(shown))).await;
            assert!(refusal(outcome).contains("not that of node-2"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        meet(&two, &node(1), &one).await.1.expect("accepted");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    /// A peer with a key and a certificate, but without node-2's signature.
    fn impostor(one: &Trust, clock: &Arc<ManualClock>) -> JoinHandle<Outcome> {
        let (one, sham) = (one.clone(), forged(clock.wall()));
        tokio::spawn(async move {
            let shown = certified(vec![sham.certificate.der().to_vec()], &sham.key);
            attack(&one, client(&TLS13, &[PROTOCOL], Some(shown))).await
        })
    }

    #[tokio::test]
    async fn few_signatures_are_checked_at_once() {
        let clock = clock();
        let (one, asked, most) = counted(1, Duration::from_millis(30), &clock);
        let attacks: Vec<_> = (0..12).map(|_| impostor(&one, &clock)).collect();
        for attack in attacks {
            let outcome = timeout(DEADLINE, attack).await.expect("ends").expect("joined");
            assert!(refusal(outcome).contains("not that of node-2"));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 12);
        assert!(most.load(Ordering::SeqCst) <= PROVING_MAX, "{most:?}");
    }

    #[tokio::test]
    async fn whoever_is_given_up_counts_until_its_signature_is_checked() {
        let clock = clock();
        let (one, asked, most) = counted(1, Duration::from_millis(500), &clock);
        let gone: Vec<_> = (0..PROVING_MAX).map(|_| impostor(&one, &clock)).collect();
        let all_asked = async {
            while asked.load(Ordering::SeqCst) < PROVING_MAX {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, all_asked).await.expect("both are being checked");
        gone.iter().for_each(JoinHandle::abort);
        let next = timeout(DEADLINE, impostor(&one, &clock)).await.expect("ends").expect("joined");
        assert!(refusal(next).contains("not that of node-2"));
        assert_eq!(asked.load(Ordering::SeqCst), PROVING_MAX + 1);
        assert_eq!(most.load(Ordering::SeqCst), PROVING_MAX);
    }
}
