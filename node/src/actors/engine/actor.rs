//! The engine actor.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::federation::Roster;
use alys_cluster::mailbox::Address;
use alys_cluster::port::Outbox;
use ractor::ActorProcessingErr;

use super::message::{EngineMessage, EngineWire};
use crate::actors::chain::{ChainMessage, HeadReader, Reader};
use crate::ordering::OrderingEngine;
use crate::ports::ExecutionEngine;

/// Blocks whose transactions a new engine remembers: ten minutes of blocks.
const REMEMBERED_BLOCKS: u64 = 300;
/// Missed blocks executed per message; the rest follow with the next message.
const MISSED_MAX: usize = 64;
/// Deadline for the chain to return blocks.
const DEADLINE: Duration = Duration::from_secs(5);

/// The engine actor: its ports.
#[derive(Clone)]
pub struct EngineActor {
    /// Reads the head of the chain.
    pub head: HeadReader,
    /// Address of the chain actor, which has the last blocks: their transactions are not accepted again.
    pub chain: Address<ChainMessage>,
    /// Members that new transactions are forwarded to.
    pub roster: Roster,
    /// Sends messages to other members.
    pub outbox: Arc<dyn Outbox<EngineWire>>,
}

impl EngineActor {
    /// Executes the blocks that the engine has missed. Only the chain's height shows that it missed any; an unknown
    /// parent does not.
    async fn roll_forward(&self, engine: &mut dyn ExecutionEngine) {
        let (from, head) = (engine.head().height + 1, self.head.head().height);
        if from > head {
            return;
        }
        let range = |reply| ChainMessage::Range {
            reader: Reader::Own,
            from,
            max: MISSED_MAX,
            max_bytes: usize::MAX,
            reply,
        };
        let missed = self.chain.ask(DEADLINE, range).await;
        match missed.map_err(|error| error.to_string()).flatten() {
            Ok(blocks) => blocks.iter().for_each(|stored| engine.forkchoice_updated(&stored.block)),
            Err(error) => {
                tracing::warn!(from, head, error, "the engine is behind, and the chain gives no blocks");
            }
        }
    }
}

impl Actor for EngineActor {
    type Msg = EngineMessage;
    type State = Box<dyn ExecutionEngine>;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let mut engine = OrderingEngine::new(self.head.head());
        let from = self.head.head().height.saturating_sub(REMEMBERED_BLOCKS) + 1;
        let range = |reply| ChainMessage::Range {
            reader: Reader::Own,
            from,
            max: REMEMBERED_BLOCKS as usize,
            max_bytes: usize::MAX,
            reply,
        };
        // The chain may be waiting for the next slot before it restarts.
        for stored in self.chain.ask_retrying(DEADLINE, range).await?? {
            engine.forkchoice_updated(&stored.block);
        }
        Ok(Box::new(engine))
    }

    async fn handle(
        &self,
        _: SelfRef<Self::Msg>,
        message: Self::Msg,
        engine: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EngineMessage::Build(parent, answer) => {
                self.roll_forward(&mut **engine).await;
                answer(engine.get_payload(&parent));
            }
            EngineMessage::Check(block, answer) => {
                self.roll_forward(&mut **engine).await;
                answer(engine.new_payload(&block));
            }
            EngineMessage::Committed(block) if block.parent == engine.head().hash => {
                engine.forkchoice_updated(&block);
            }
            // The engine already knows the block, or missed one below it.
            EngineMessage::Committed(_) => self.roll_forward(&mut **engine).await,
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
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use alys_cluster::clock::{Clock, SystemClock};
    use alys_cluster::id::{ActorName, NodeId};
    use ractor::RpcReplyPort;

    use alys_cluster::supervision::spawn;

    use super::*;
    use crate::consensus::{Block, BlockHash, Certificate, StateRoot};
    use crate::keys::Signature;
    use crate::ports::{Head, Observed, Payload, PayloadStatus, StoredBlock};
    use crate::storage::{Disk, Storage};
    use crate::store::RedbStore;

    const GENESIS: [u8; 32] = [7; 32];
    const SOON: Duration = Duration::from_secs(20);

    /// Drops all messages: there is no peer.
    struct NoPeers;

    impl Outbox<EngineWire> for NoPeers {
        fn send(&self, _: &NodeId, _: EngineWire) {}
    }

    /// A running chain and a running engine. Only the chain moves the head.
    struct Fixture {
        engine: EngineActor,
        address: Address<EngineMessage>,
        /// A second engine that has executed the same blocks, to build the next one.
        mirror: OrderingEngine,
        storage: Storage,
    }

    impl Fixture {
        async fn start(directory: &Path) -> Self {
            let (path, head) = (directory.join("chain.redb"), HeadReader::new(Head::genesis(GENESIS)));
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
            let storage = Storage::start(Disk::new(clock.clone(), Arc::new(|_| None))).expect("a thread");
            let chain = crate::actors::chain::ChainActor {
                open: Arc::new(move || Ok(Box::new(RedbStore::open(&path, GENESIS)?))),
                head: head.clone(),
                storage: storage.clone(),
                block_time: Duration::from_secs(2),
                clock: clock.clone(),
            };
            let (name, other) =
                (NodeId::new("node-1").expect("a name"), NodeId::new("node-2").expect("a name"));
            let chain_address = Address::new(ActorName::literal("chain"), 64);
            let address = Address::new(ActorName::literal("engine"), 64);
            let engine = EngineActor {
                head,
                chain: chain_address.clone(),
                roster: Roster::new(vec![name.clone(), other], &name).expect("a roster"),
                outbox: Arc::new(NoPeers),
            };
            spawn(None, &chain_address, chain, ()).await.expect("the chain starts");
            spawn(None, &address, engine.clone(), ()).await.expect("the engine starts");
            Self { engine, address, mirror: OrderingEngine::new(Head::genesis(GENESIS)), storage }
        }

        async fn submit(&self, transaction: &[u8]) {
            let ask = |reply| EngineMessage::Submit(transaction.to_vec(), reply);
            self.address.ask(SOON, ask).await.expect("an answer").expect("pooled");
        }

        async fn ask<T: Send + 'static>(
            &self,
            ask: impl FnOnce(super::super::message::Responder<T>) -> EngineMessage,
        ) -> T {
            let (sender, receiver) = ractor::concurrency::oneshot();
            let answer = Box::new(move |given| drop(sender.send(given)));
            self.address.cast(ask(answer)).expect("taken");
            tokio::time::timeout(SOON, receiver).await.expect("in time").expect("answered")
        }

        async fn build(&self) -> Option<Payload> {
            let head = self.engine.head.head().hash;
            self.ask(|answer| EngineMessage::Build(head, answer)).await
        }

        /// Commits a block of these transactions to the chain, without notifying the engine.
        async fn commit(&mut self, transactions: &[&[u8]]) -> Block {
            for transaction in transactions {
                self.mirror.add_transaction(transaction.to_vec()).expect("pooled");
            }
            let head = self.engine.head.head();
            let Payload { transactions, state_root } =
                self.mirror.get_payload(&head.hash).expect("on the head");
            let block = Block {
                height: head.height + 1,
                parent: head.hash,
                timestamp_ms: head.height + 1,
                proposer: 0,
                state_root,
                transactions,
            };
            self.mirror.forkchoice_updated(&block);
            let stored = StoredBlock {
                certificate: Certificate {
                    height: block.height,
                    round: 0,
                    block: block.hash(),
                    signers: 7,
                    signature: Signature([1; 96]),
                },
                block: block.clone(),
                observed: Observed { proposal_at_ms: None, decided_at_ms: 1, adopted: true },
            };
            let commit = |reply: RpcReplyPort<_>| ChainMessage::Commit(Box::new(stored), reply);
            self.engine.chain.ask(SOON, commit).await.expect("an answer").expect("committed");
            block
        }
    }

    #[tokio::test]
    async fn a_proposal_with_a_bogus_parent_costs_nobody_its_place_in_the_pool() {
        let directory = tempfile::tempdir().expect("a directory");
        let fixture = Fixture::start(directory.path()).await;
        fixture.submit(b"one").await;
        fixture.submit(b"two").await;
        for height in [1, 2, 99] {
            let orphan = Block {
                height,
                parent: BlockHash([9; 32]),
                timestamp_ms: 5,
                proposer: 1,
                state_root: StateRoot::default(),
                transactions: vec![],
            };
            let found = fixture.ask(|answer| EngineMessage::Check(orphan, answer)).await;
            assert_eq!(found, PayloadStatus::Syncing);
        }
        let missing = fixture.ask(|answer| EngineMessage::Build(BlockHash([9; 32]), answer)).await;
        assert_eq!(missing, None);
        let payload = fixture.build().await.expect("the engine is at the head");
        assert_eq!(payload.transactions, [b"one", b"two"]);
    }

    #[tokio::test]
    async fn an_engine_that_missed_blocks_executes_them_and_drops_nothing_else_that_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut fixture = Fixture::start(directory.path()).await;
        for transaction in [b"one", b"two", b"six"] {
            fixture.submit(transaction).await;
        }
        fixture.commit(&[b"one"]).await;
        fixture.commit(&[]).await;
        assert_eq!(fixture.build().await.expect("rolled forward").transactions, [b"two", b"six"]);
        // The engine is notified of the block above the missed one, and of one that it already knows.
        let missed = fixture.commit(&[b"two"]).await;
        let told = fixture.commit(&[]).await;
        for block in [told, missed] {
            fixture.address.cast(EngineMessage::Committed(Box::new(block))).expect("taken");
        }
        assert_eq!(fixture.build().await.expect("at the head").transactions, [b"six"]);
    }

    #[tokio::test]
    async fn an_engine_starts_although_others_wait_to_read_as_many_blocks_as_may() {
        let directory = tempfile::tempdir().expect("a directory");
        let fixture = Fixture::start(directory.path()).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        fixture.storage.submit(move || assert!(held.recv().is_ok())).expect("taken");
        while fixture.storage.submit_read(|| ()).is_ok() {}
        let chain = fixture.engine.chain.clone();
        let before = chain.handled();
        let (second, engine) = (Address::new(ActorName::literal("second"), 64), fixture.engine.clone());
        let starting = tokio::spawn(async move { spawn(None, &second, engine, ()).await.map(drop) });
        while chain.handled() == before || chain.depth() > 0 {
            tokio::task::yield_now().await;
        }
        release.send(()).expect("the thread waits");
        starting.await.expect("joined").expect("it starts");
    }
}
