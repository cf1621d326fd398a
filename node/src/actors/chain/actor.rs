//! The chain actor, the only writer of the block store. It writes on the storage thread, so that it answers health
//! checks, and reports why it is unhealthy, while the disk is slow or hangs.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use alys_cluster::actor::{Actor, SelfRef};
use alys_cluster::clock::{Clock, Moment};
use alys_cluster::health::HealthCheckResult;
use alys_cluster::id::BlockHeight;
use alys_cluster::port::Progress;
use ractor::{ActorProcessingErr, RpcReplyPort};

use super::message::{ChainMessage, Reader};
use crate::failure::MemberFailure;
use crate::ports::{BlockStore, Head, StoreError, StoredBlock};
use crate::storage::Storage;

/// The head, which anyone can read at any time, and the time at which it became the head.
#[derive(Clone, Debug)]
pub struct HeadReader(Arc<RwLock<(Head, Moment)>>);

impl HeadReader {
    /// Creates a reader for a chain that ends at `head`.
    pub fn new(head: Head) -> Self {
        Self(Arc::new(RwLock::new((head, Moment::ORIGIN))))
    }

    /// The last committed block.
    pub fn head(&self) -> Head {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// How long the head has been the head, on the monotonic clock; at most since the chain was opened.
    pub fn age(&self, now: Moment) -> Duration {
        now.since(self.0.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn set(&self, head: Head, now: Moment) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (head, now);
    }
}

impl Progress for HeadReader {
    fn height(&self) -> BlockHeight {
        BlockHeight(self.head().height)
    }
}

/// Opens the store; called at every start of the actor.
pub type OpenStore = Arc<dyn Fn() -> Result<Box<dyn BlockStore>, StoreError> + Send + Sync>;

/// The chain actor: its settings and ports.
#[derive(Clone)]
pub struct ChainActor {
    /// Opens the store.
    pub open: OpenStore,
    /// Where the head is published.
    pub head: HeadReader,
    /// Storage thread, which reads and writes the store.
    pub storage: Storage,
    /// Interval between blocks, by which the disk's speed is judged.
    pub block_time: Duration,
    /// Source of time.
    pub clock: Arc<dyn Clock>,
}

/// The actor's state. Only the storage thread touches the store.
pub struct ChainState {
    store: Option<Arc<Mutex<Box<dyn BlockStore>>>>,
    storage: Storage,
}

/// Work of the storage thread on the store.
type Request = Box<dyn FnOnce(&mut dyn BlockStore) + Send>;

impl ChainState {
    fn with_store(&self, request: Request) -> impl FnOnce() + Send + 'static {
        let store = self.store.clone();
        move || {
            if let Some(store) = store {
                request(&mut **store.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Queues a write. The queue has room for the few writers there are.
    fn write(&self, request: Request) {
        let _ = self.storage.submit(self.with_store(request));
    }

    /// Queues a read. A request that is refused because too many wait is dropped with its reply port, which informs its
    /// caller. A read that nobody waits for any more is skipped.
    fn read<T: Send + 'static>(
        &self,
        reader: Reader,
        reply: RpcReplyPort<Result<T, String>>,
        read: impl FnOnce(&dyn BlockStore) -> Result<T, StoreError> + Send + 'static,
    ) {
        let request = self.with_store(Box::new(move |store| {
            if !reply.is_closed() {
                let _ = reply.send(read(store).map_err(|error| error.to_string()));
            }
        }));
        let _ = match reader {
            Reader::Own => self.storage.submit_own_read(request),
            Reader::Others => self.storage.submit_read(request),
        };
    }
}

impl Drop for ChainState {
    /// Closes the store on the storage thread, since closing writes, before the next start opens it.
    fn drop(&mut self) {
        let store = self.store.take();
        let _ = self.storage.submit(move || drop(store));
    }
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
    type Msg = ChainMessage;
    type State = ChainState;
    type Arguments = ();

    async fn pre_start(&self, _: SelfRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        let open = self.open.clone();
        let opened = self.storage.open(move || open()).await?;
        let store = opened.inspect_err(|_| self.storage.disk().suspect()).map_err(MemberFailure::of)?;
        self.head.set(store.head(), self.clock.now());
        Ok(ChainState { store: Some(Arc::new(Mutex::new(store))), storage: self.storage.clone() })
    }

    async fn handle(
        &self,
        me: SelfRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A caller that gave up does not receive the reply; a committed block stays committed.
        match message {
            ChainMessage::Commit(block, reply) => {
                let (head, clock) = (self.head.clone(), self.clock.clone());
                state.write(Box::new(move |store| match store.append(&block) {
                    Ok(()) => {
                        head.set(store.head(), clock.now());
                        let _ = reply.send(Ok(store.head()));
                    }
                    Err(error @ StoreError::Order { .. }) => {
                        let _ = reply.send(Err(error.to_string()));
                    }
                    // The reply port is dropped after the actor is notified: the caller then asks the next incarnation.
                    Err(error) => drop(me.cast(ChainMessage::Failed(error))),
                }));
            }
            // The restart reopens a database that failed to write.
            ChainMessage::Failed(error) => {
                self.storage.disk().suspect();
                return Err(MemberFailure::of(error).into());
            }
            ChainMessage::Block(height, reply) => {
                state.read(Reader::Others, reply, move |store| store.block(height));
            }
            ChainMessage::Range { reader, from, max, max_bytes, reply } => {
                state.read(reader, reply, move |store| range(store, from, max, max_bytes));
            }
        }
        Ok(())
    }

    async fn health(&self, _: &mut Self::State) -> HealthCheckResult {
        self.storage.disk().reading().health(self.block_time)
    }
}
