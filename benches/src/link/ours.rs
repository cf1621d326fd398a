//! Our link: two members complete a handshake, then call an actor through the inbound router, as `RemoteHandle::call`
//! does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::Clock;
use alys_cluster::event::EventBus;
use alys_cluster::federation::Roster;
use alys_cluster::id::{ActorName, Incarnation, NodeId};
use alys_cluster::mailbox::Address;
use alys_cluster::supervision::spawn;
use alys_cluster::transport::envelope::Body;
use alys_cluster::transport::gateway::PendingAnswer;
use alys_cluster::transport::handshake::AuthenticatedPeer;
use alys_cluster::transport::hello::VERSION;
use alys_cluster::transport::{
    Answers, Bounds, CertificateSigner, Connection, Handshaker, Hello, InboundRouter, Lane, PeerChannel,
    RejectionLog, Routes, Trust, codec,
};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ractor::{ActorProcessingErr, RpcReplyPort};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;

use super::{DEADLINE, Payload, Way, clock, node};

const FEDERATION: [u8; 32] = [7; 32];
const PROTOCOL: &str = "echo/1";
const TOLD: &str = "told/1";

/// Fake certificate signatures that anyone can make: the handshake is not measured.
struct Anybody;

impl CertificateSigner for Anybody {
    fn sign(&self, statement: &[u8]) -> Vec<u8> {
        vec![statement.len() as u8; 96]
    }

    fn verify(&self, _: &NodeId, statement: &[u8], signature: &[u8]) -> bool {
        signature == self.sign(statement)
    }
}

fn handshaker(own: &str, is_secure: bool, clock: &Arc<dyn Clock>) -> Handshaker {
    let roster = Roster::new(["node-1", "node-2"].map(node).to_vec(), &node(own)).expect("a member");
    let lifetime = Duration::from_hours(24);
    let trust = if is_secure {
        Trust::tls(&roster, FEDERATION, Arc::new(Anybody), lifetime, clock.clone()).expect("a certificate")
    } else {
        Trust::plain()
    };
    let hello = Hello::new(node(own), Incarnation(1), FEDERATION, VERSION);
    Handshaker { trust, hello, roster, timeout: DEADLINE, duplicates: None }
}

enum EchoMessage {
    Echo(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

/// Actor that replies with the request.
struct Echo;

impl Actor for Echo {
    type Msg = EchoMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let EchoMessage::Echo(bytes, reply) = message;
        let payload: Payload = codec::decode(&bytes)?;
        let _ = reply.send(codec::encode(&payload)?);
        Ok(())
    }
}

/// Forwards requests to the echo actor.
struct Desk {
    echo: Address<EchoMessage>,
    told: Arc<AtomicU64>,
}

impl Answers for Desk {
    fn answer(
        &self,
        _: &NodeId,
        _: &[u8],
        protocol: &[u8],
        question: &[u8],
    ) -> Result<PendingAnswer, String> {
        if protocol == TOLD.as_bytes() {
            let told = Payload::new(0, 0);
            let told = Payload { number: self.told.load(Ordering::Relaxed), ..told };
            return Ok(std::future::ready(codec::encode(&told).map_err(|e| e.to_string())).boxed());
        }
        let (echo, question) = (self.echo.clone(), question.to_vec());
        Ok(async move {
            let ask = |reply| EchoMessage::Echo(question, reply);
            echo.ask(DEADLINE, ask).await.map_err(|error| error.to_string())
        }
        .boxed())
    }

    fn watch(&self, _: &NodeId, _: &[u8], _: Incarnation) -> Result<BoxFuture<'static, String>, String> {
        Err("nobody is watched".to_owned())
    }
}

/// Starts a connection; also returns its stream to `ractor_cluster`, which stays silent.
fn connect(
    authenticated: AuthenticatedPeer,
    clock: Arc<dyn Clock>,
    router: InboundRouter,
) -> (Arc<Connection>, DuplexStream) {
    let refusals = RejectionLog::new(clock.clone(), EventBus::new(clock.clone()));
    let line = PeerChannel::new(authenticated.info.peer.clone(), refusals);
    let bounds = Bounds { frames_max: 4_096, bytes_max: 64 * 1024 * 1024, idle: DEADLINE };
    Connection::start(
        authenticated.info,
        authenticated.halves,
        bounds,
        line.counters().clone(),
        clock,
        Arc::new(router),
    )
}

pub(super) async fn serve(is_secure: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let clock = clock();
    let handshaker = handshaker("node-1", is_secure, &clock);
    let echo = Address::new(ActorName::literal("echo"), 65_536);
    spawn(None, &echo, Echo, ()).await.expect("it starts");
    let told = Arc::new(AtomicU64::new(0));
    let mut open = Vec::new();
    loop {
        let (stream, _) = listener.accept().await.expect("it listens");
        let authenticated = handshaker.admit(stream).await.unwrap_or_else(|reason| panic!("{reason}"));
        let counted = told.clone();
        let routes = Routes::default().with(ActorName::literal("echo"), move |_, payload: Payload| {
            std::hint::black_box(payload);
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let desk = Desk { echo: echo.clone(), told: told.clone() };
        open.push(connect(authenticated, clock.clone(), InboundRouter { routes, answers: Arc::new(desk) }));
    }
}

/// Transport over our link.
#[derive(Clone)]
pub struct Ours {
    connection: Arc<Connection>,
    _control: Arc<DuplexStream>,
    name: &'static str,
}

impl Ours {
    /// Dials and completes the handshake.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub async fn connect(address: SocketAddr, is_secure: bool) -> Self {
        let clock = clock();
        let authenticated = handshaker("node-2", is_secure, &clock).visit(&node("node-1"), address).await;
        let authenticated = authenticated.unwrap_or_else(|reason| panic!("{reason}"));
        let nobody = Desk { echo: Address::new(ActorName::literal("nobody"), 1), told: Arc::default() };
        let router = InboundRouter { routes: Routes::default(), answers: Arc::new(nobody) };
        let (connection, control) = connect(authenticated, clock, router);
        let name = if is_secure { "the link, TLS 1.3" } else { "the link, plain" };
        Self { connection, _control: Arc::new(control), name }
    }

    async fn ask(&self, protocol: &'static str, payload: &Payload) -> Payload {
        let question = codec::encode(payload).expect("it is small").into();
        let (to, protocol) = (Bytes::from_static(b"echo"), Bytes::from_static(protocol.as_bytes()));
        let answer = self.connection.ask(to, protocol, question, DEADLINE).await;
        codec::decode(&answer.unwrap_or_else(|error| panic!("{error}"))).expect("a payload")
    }
}

impl Way for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn call(&self, payload: Payload) -> Payload {
        self.ask(PROTOCOL, &payload).await
    }

    fn cast(&self, payload: Payload) -> bool {
        let payload = codec::encode(&payload).expect("it is small").into();
        let tell = Body::Tell { to: Bytes::from_static(b"echo"), payload };
        self.connection.send(Lane::Request, tell).is_ok()
    }

    async fn told(&self) -> u64 {
        self.ask(TOLD, &Payload::new(0, 0)).await.number
    }
}
