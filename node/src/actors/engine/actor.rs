//! The engine as an actor.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::Clock;
use alys_cluster::federation::Roster;
use alys_cluster::health::HealthCheckResult;
use alys_cluster::health::message::answer;
use alys_cluster::mailbox::{Address, Mail};
use alys_cluster::port::Outbox;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::{EngineMessage, EngineWire};
use crate::actors::chain::{ChainMessage, HeadReader};
use crate::ordering::OrderingEngine;
use crate::ports::{ExecutionEngine, PayloadStatus};

/// Blocks whose transactions a new engine remembers: ten minutes of them.
const REMEMBERED_BLOCKS: u64 = 300;
/// The longest the chain may take to give them.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the engine works with.
#[derive(Clone)]
pub struct EngineActor {
    /// Where it is reached.
    pub address: Address<EngineMessage>,
    /// Where the chain ends.
    pub head: HeadReader,
    /// Has the last blocks, whose transactions are not taken again.
    pub chain: Address<ChainMessage>,
    /// Whom new transactions are passed on to.
    pub roster: Roster,
    /// Takes them there.
    pub outbox: Arc<dyn Outbox<EngineWire>>,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
}

impl EngineActor {
    /// An engine that does not know the parent may have missed a commit: it begins anew at the head, once.
    fn on_head<T>(
        &self,
        engine: &mut dyn ExecutionEngine,
        ask: impl Fn(&mut dyn ExecutionEngine) -> T,
        is_lost: impl Fn(&T) -> bool,
    ) -> T {
        let found = ask(engine);
        if !is_lost(&found) {
            return found;
        }
        engine.reset(self.head.head());
        ask(engine)
    }
}

impl Actor for EngineActor {
    type Msg = Mail<EngineMessage>;
    type State = Box<dyn ExecutionEngine>;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let mut engine = OrderingEngine::new(self.head.head());
        let from = self.head.head().height.saturating_sub(REMEMBERED_BLOCKS) + 1;
        let range = |reply| ChainMessage::Range {
            from,
            max: REMEMBERED_BLOCKS as usize,
            max_bytes: usize::MAX,
            reply,
        };
        // The chain may be waiting for the next slot to start again.
        for stored in self.chain.call_patiently(DEADLINE, range).await?? {
            engine.forkchoice_updated(&stored.block);
        }
        self.address.bind(me);
        Ok(Box::new(engine))
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        engine: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match mail.open() {
            EngineMessage::Build(parent, answer) => {
                answer(self.on_head(&mut **engine, |e| e.get_payload(&parent), Option::is_none));
            }
            EngineMessage::Check(block, answer) => {
                let is_lost = |status: &PayloadStatus| *status == PayloadStatus::Syncing;
                answer(self.on_head(&mut **engine, |e| e.new_payload(&block), is_lost));
            }
            EngineMessage::Committed(block) => engine.forkchoice_updated(&block),
            EngineMessage::Submit(transaction, reply) => {
                let outcome = engine.add_transaction(transaction.clone());
                if outcome.is_ok() {
                    for peer in self.roster.peers() {
                        self.outbox.send(peer, EngineWire::Transaction(transaction.clone()));
                    }
                }
                let _ = reply.send(outcome);
            }
            EngineMessage::Wire(from, EngineWire::Transaction(transaction)) => {
                if let Err(error) = engine.add_transaction(transaction) {
                    tracing::debug!(%from, %error, "a member's transaction was not pooled");
                }
            }
            EngineMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
