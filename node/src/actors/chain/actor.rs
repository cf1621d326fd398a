//! The chain as an actor: the only one that writes the store.

use std::sync::{Arc, PoisonError, RwLock};

use alys_cluster::clock::Clock;
use alys_cluster::health::HealthCheckResult;
use alys_cluster::health::message::answer;
use alys_cluster::id::BlockHeight;
use alys_cluster::mailbox::{Address, Mail};
use alys_cluster::port::Progress;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::message::ChainMessage;
use crate::failure::MemberFailure;
use crate::ports::{BlockStore, Head, StoreError, StoredBlock};

/// The head, readable by everyone at any time.
#[derive(Clone, Debug)]
pub struct HeadReader(Arc<RwLock<Head>>);

impl HeadReader {
    /// A reader of a chain that ends at `head`.
    pub fn new(head: Head) -> Self {
        Self(Arc::new(RwLock::new(head)))
    }

    /// The last committed block.
    pub fn head(&self) -> Head {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, head: Head) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

impl Progress for HeadReader {
    fn height(&self) -> BlockHeight {
        BlockHeight(self.head().height)
    }
}

/// Opens the store; called at every start of the actor.
pub type OpenStore = Arc<dyn Fn() -> Result<Box<dyn BlockStore>, StoreError> + Send + Sync>;

/// What the chain works with.
#[derive(Clone)]
pub struct ChainActor {
    /// Where it is reached.
    pub address: Address<ChainMessage>,
    /// Opens the store.
    pub open: OpenStore,
    /// Where the head is shown.
    pub head: HeadReader,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
}

fn range(
    store: &dyn BlockStore,
    from: u64,
    max: usize,
    max_bytes: usize,
) -> Result<Vec<StoredBlock>, StoreError> {
    let mut blocks = Vec::new();
    let mut bytes = 0;
    for height in (from.max(1)..=store.head().height).take(max) {
        let Some(block) = store.block(height)? else { break };
        bytes += block.block.transaction_bytes();
        if !blocks.is_empty() && bytes > max_bytes {
            break;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

impl Actor for ChainActor {
    type Msg = Mail<ChainMessage>;
    type State = Box<dyn BlockStore>;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let store = (self.open)().map_err(MemberFailure::of)?;
        self.head.set(store.head());
        self.address.bind(me);
        Ok(store)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        mail: Self::Msg,
        store: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up does not hear the answer; what was committed stays so.
        match mail.open() {
            ChainMessage::Commit(block, reply) => match store.append(&block) {
                Ok(()) => {
                    self.head.set(store.head());
                    let _ = reply.send(Ok(store.head()));
                }
                Err(error @ StoreError::Order { .. }) => {
                    let _ = reply.send(Err(error.to_string()));
                }
                // A database that fails to write is opened anew by the restart; whoever asked asks that one.
                Err(error) => return Err(MemberFailure::of(error).into()),
            },
            ChainMessage::Block(height, reply) => {
                let _ = reply.send(store.block(height).map_err(|error| error.to_string()));
            }
            ChainMessage::Range { from, max, max_bytes, reply } => {
                let blocks = range(&**store, from, max, max_bytes);
                let _ = reply.send(blocks.map_err(|error| error.to_string()));
            }
            ChainMessage::Ping(ping, reply) => {
                answer(self.address.name(), &*self.clock, &ping, HealthCheckResult::healthy(), reply);
            }
        }
        Ok(())
    }
}
