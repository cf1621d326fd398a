//! Plain `ractor_cluster`: calls and casts to an actor of another node through its proxy.

use std::net::SocketAddr;

use alys_cluster::transport::codec;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, BytesConvertable, RpcReplyPort};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage, client_connect};

use super::{DEADLINE, Payload, Way};
use crate::link::raw::free_port;

const GROUP: &str = "echo";

/// Payload in the encoding of `ractor_cluster`.
#[derive(Debug)]
pub(super) struct Carried(Payload);

impl BytesConvertable for Carried {
    fn into_bytes(self) -> Vec<u8> {
        codec::encode(&self.0).expect("it is small")
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(codec::decode(&bytes).expect("a payload"))
    }
}

/// Message to the echo actor.
#[derive(RactorClusterMessage)]
pub(super) enum BareMessage {
    /// Replies with the payload.
    #[rpc]
    Echo(Carried, RpcReplyPort<Carried>),
    /// Counts the payload.
    Tell(Carried),
    /// Replies with the number of payloads counted.
    #[rpc]
    Told(RpcReplyPort<u64>),
}

struct Echo;

impl Actor for Echo {
    type Msg = BareMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<BareMessage>, (): ()) -> Result<u64, ActorProcessingErr> {
        ractor::pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<BareMessage>,
        message: BareMessage,
        told: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BareMessage::Echo(payload, reply) => drop(reply.send(payload)),
            BareMessage::Tell(payload) => {
                std::hint::black_box(payload);
                *told += 1;
            }
            BareMessage::Told(reply) => drop(reply.send(*told)),
        }
        Ok(())
    }
}

async fn node(port: u16, name: &str) -> ActorRef<NodeServerMessage> {
    let mode = Some(NodeConnectionMode::Isolated);
    let server = NodeServer::new(port, "cookie".to_owned(), name.to_owned(), name.to_owned(), None, mode)
        .with_listen_addr([127, 0, 0, 1].into());
    Actor::spawn(None, server, ()).await.expect("a node server starts").0
}

pub(super) async fn serve() {
    let port = free_port();
    let _server = node(port, "server").await;
    let (_echo, ended) = Actor::spawn(None, Echo, ()).await.expect("it starts");
    println!("127.0.0.1:{port}");
    ended.await.expect("it never ends");
}

/// Transport over `ractor_cluster`.
#[derive(Clone)]
pub struct Bare {
    echo: ActorRef<BareMessage>,
    _server: ActorRef<NodeServerMessage>,
}

impl Bare {
    /// Connects and finds the other node's actor.
    ///
    /// # Panics
    ///
    /// If the actor is not found in time.
    pub async fn connect(address: SocketAddr) -> Self {
        let server = node(0, "client").await;
        client_connect(&server, address).await.expect("somebody listens");
        let found = async {
            loop {
                let members = ractor::pg::get_members(&GROUP.to_owned());
                if let Some(echo) = members.into_iter().find(|cell| !cell.get_id().is_local()) {
                    return echo;
                }
                tokio::task::yield_now().await;
            }
        };
        let echo = tokio::time::timeout(DEADLINE, found).await.expect("it is there in time");
        Self { echo: echo.into(), _server: server }
    }
}

impl Way for Bare {
    fn name(&self) -> &'static str {
        "bare ractor_cluster"
    }

    async fn call(&self, payload: Payload) -> Payload {
        let ask = |reply| BareMessage::Echo(Carried(payload), reply);
        match self.echo.call(ask, Some(DEADLINE)).await {
            Ok(CallResult::Success(Carried(payload))) => payload,
            _ => panic!("no answer"),
        }
    }

    fn cast(&self, payload: Payload) -> bool {
        self.echo.cast(BareMessage::Tell(Carried(payload))).is_ok()
    }

    async fn told(&self) -> u64 {
        match self.echo.call(BareMessage::Told, Some(DEADLINE)).await {
            Ok(CallResult::Success(told)) => told,
            _ => panic!("no answer"),
        }
    }
}
