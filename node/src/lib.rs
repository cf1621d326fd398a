//! Implements one member of the federation: its actors, its supervision tree, and its ops API.
//!
//! [`Node`] starts a member from a checked configuration, reports why it ended, and stops it gracefully. [`tree`]
//! defines the supervision tree; [`consensus`] and [`actors`] contain the logic of the actors; [`ops`] is the API for
//! operators.

pub mod actors;
pub mod attest;
pub mod audit;
pub mod config;
pub mod consensus;
pub mod decisions;
pub mod discovery;
pub mod environment;
pub mod failure;

pub mod certificate_signer;
mod gauges;
pub mod genesis;
pub mod incarnation;
pub mod keys;
pub mod logs;
pub mod ops;
pub mod ordering;
pub mod otlp;
pub mod ports;
pub mod preflight;
pub mod secret_file;
pub mod shutdown;
pub mod storage;
pub mod store;
pub mod testnet;
pub mod top;
pub mod tree;

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::{Clock, OffsetClock};
use alys_cluster::discovery::Discovery;
use alys_cluster::event::EventBus;
use alys_cluster::federation::{GateHold, GateReader, Roster};
use alys_cluster::id::{ActorName, Incarnation, NodeId};
use alys_cluster::shutdown::{
    Requester, ShutdownAnswer, ShutdownCoordinator, ShutdownOutcome, ShutdownState,
};
use alys_cluster::supervision::{Context, EnhancedSupervision, SupervisionMemory, Supervisor, spawn};
use alys_cluster::telemetry::History;
use alys_cluster::telemetry::metrics::Metrics;
use alys_cluster::telemetry::spans::SpanCounters;
use alys_cluster::trace::Tracer;
use alys_cluster::transport::tls::Trust;
use alys_cluster::transport::{Duplicates, Holder, IdentityError, PeerChannel, PeerChannels, RejectionLog};
use ractor::concurrency::JoinHandle;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::certificate_signer::LinkCertificateSigner;
use actors::chain::HeadReader;
use actors::consensus::byzantine::ByzantineDrill;
use config::NodeConfig;
use consensus::guard::{self, JournalMark};
use decisions::DecisionFile;
use genesis::Genesis;
use keys::{KeyError, SecretKey};
use logs::LogControl;
use ops::token::{Token, TokenError};
use ports::{BlockStore, Head};
use storage::disk::{Look, RESERVE_BYTES, Room};
use storage::files;
use storage::{Disk, Storage};
use store::RedbStore;
use tree::{Addresses, NodeContext};

/// Longest wait of a stopped member for its files to be closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// Longest wait of a starting member for processes that only read the data directory.
const LOOKING: Duration = Duration::from_secs(10);
/// Interval between attempts to lock the data directory.
const LOOKING_STEP: Duration = Duration::from_millis(50);

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The clock is before 1970, a time that blocks, certificates and logs cannot represent.
    #[error(
        "the clock of this machine shows a time before 1970; set it, for blocks and certificates name later ones only"
    )]
    Clock,
    /// The key is not usable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is not the one that genesis names.
    #[error("key file {path} holds the key {found}; genesis says {expected} for {name}")]
    WrongKey {
        /// Path of the key file.
        path: PathBuf,
        /// Public half of the key in the file.
        found: String,
        /// Public key in genesis.
        expected: String,
        /// Name of the member.
        name: String,
    },
    /// The data directory is not usable.
    #[error("data directory {path}: {source}")]
    DataDir {
        /// Path of the directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Another process uses the data directory.
    #[error("data directory {path} is in use by another process")]
    InUse {
        /// Path of the directory.
        path: PathBuf,
    },
    /// Processes that only read the data directory did not release it in time.
    #[error(
        "data directory {path} was looked at by another process, such as `config check`, for {LOOKING:?}"
    )]
    LookedAt {
        /// Path of the directory.
        path: PathBuf,
    },
    /// Binding an address failed.
    #[error("configuration field `{field}` is {address}: {source}")]
    Listen {
        /// Configuration field of the address.
        field: &'static str,
        /// Address that could not be bound.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The certificate for the links could not be created.
    #[error("the certificate for the links: {0}")]
    Certificate(#[from] IdentityError),
    /// The token for the ops API is not usable.
    #[error("configuration field `ops.token_file`: {0}")]
    Token(#[from] TokenError),
    /// The supervision tree did not start.
    #[error("the supervision tree did not start: {0}")]
    Tree(alys_cluster::supervision::StartError),
}

/// Tracer of a member and the counters of its spans. The default records nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracing {
    /// Receives the spans.
    pub tracer: Tracer,
    /// Counts the spans.
    pub spans: Arc<SpanCounters>,
}

/// Services of the embedding process that receive a member's telemetry.
#[derive(Clone, Default)]
pub struct NodeEnvironment {
    /// Receiver of spans.
    pub tracing: Tracing,
    /// Log of the process, if the member is alone in its process: log lines then carry the height, and callers of the
    /// ops API with the token can change the log level.
    pub logs: Option<LogControl>,
}

/// A running member.
pub struct Node {
    supervision: EnhancedSupervision,
    ended: JoinHandle<()>,
    shutdown: ShutdownCoordinator,
    ops: ops::Server,
    context: NodeContext,
    _decisions: DecisionFile,
    _lock: File,
}

impl Node {
    /// Starts all actors and the ops API, in a process whose log does not belong to the member.
    pub async fn start(
        config: NodeConfig,
        genesis: Genesis,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        Self::start_with(config, genesis, clock, NodeEnvironment::default()).await
    }

    /// Starts all actors and the ops API, with services of the embedding process.
    pub async fn start_with(
        config: NodeConfig,
        genesis: Genesis,
        clock: Arc<dyn Clock>,
        NodeEnvironment { tracing, logs }: NodeEnvironment,
    ) -> Result<Self, StartError> {
        let drill_clock = (cfg!(feature = "fault-injection") && config.faults.enabled)
            .then(|| Arc::new(OffsetClock::new(clock.clone())));
        let clock = drill_clock.clone().map_or(clock, |clock| clock as Arc<dyn Clock>);
        check_clock(&*clock)?;
        let key = read_key(&config, &genesis)?;
        let token = config.ops.token_file.as_deref().map(Token::read).transpose()?;
        let lock = lock_for_start(&config).await?;
        let data_dir = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        has_room(&config.data_dir).map_err(data_dir)?;
        let incarnation = incarnation::next(&config.data_dir, clock.wall()).map_err(data_dir)?;
        let directory = files::Directory::of(&config.data_dir).map_err(data_dir)?;
        let space = Arc::new(move |look| directory.room(look));
        let storage = Storage::start(Disk::new(clock.clone(), space)).map_err(data_dir)?;
        let decisions = DecisionFile::open(&config.data_dir, incarnation).map_err(data_dir)?;
        let link_listener = listen("link.listen", config.link.listen).await?;
        let ops_listener = listen("ops.address", config.ops.address).await?;

        let names = genesis.members().iter().map(|member| member.name.clone()).collect();
        let roster = Roster::new(names, &config.identity.name).expect("the configuration was checked");
        let mut context =
            context(config, genesis, roster, key, incarnation, storage, (clock, tracing), link_listener)?;
        context.drill_clock = drill_clock;
        context.gate.keep_in(decisions.sink());
        if let Some(logs) = &logs {
            logs.follow(context.head.clone());
            context.log_lines_lost = logs.lost();
        }
        let spec = context.tree();
        let name = format!("{}/{}", context.roster.own(), spec.name);
        let supervision = EnhancedSupervision::of(&spec, context.supervision.clone());
        let (address, root) = (spec.address.clone(), Supervisor::new(context.supervision.clone()));
        let (root, ended) =
            spawn(Some(name), &address, root, spec).await.map_err(|error| StartError::Tree(error.into()))?;
        let shutdown = shutdown::coordinator(&context, &root);
        let ops = ops::Server::start(ops_listener, ops::Ops::new(&context, shutdown.clone(), token, logs));
        Ok(Self { supervision, ended, shutdown, ops, context, _decisions: decisions, _lock: lock })
    }

    /// Context of the node, for code that runs it in the same process.
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// Root of the supervision tree; its children are the tiers.
    pub fn supervision(&self) -> &EnhancedSupervision {
        &self.supervision
    }

    /// Waits until the tree ends by itself, and returns the reason.
    pub async fn ended(&mut self) -> String {
        // If the root itself panicked, the tree has no reason recorded.
        let outcome = (&mut self.ended).await;
        let row = self.context.supervision.tree.row(&ActorName::literal("root"), 0);
        match (row.and_then(|row| row.gave_up), outcome) {
            (Some(reason), _) => format!("the root supervisor gave up: {reason}"),
            (None, Ok(())) => "the root supervisor was stopped".to_owned(),
            (None, Err(error)) => format!("the root supervisor failed: {error}"),
        }
    }

    /// Shutdown coordinator of this member, through which all shutdown requests go.
    pub fn shutdown(&self) -> &ShutdownCoordinator {
        &self.shutdown
    }

    /// Requests a shutdown because of a signal. A request that would leave the federation with too few healthy members
    /// is refused at first. It is granted later if, within [`WISH_MAX`](alys_cluster::federation::WISH_MAX), the
    /// federation can work without this member, or so many members were told to leave that the federation halts anyway.
    pub async fn signalled(&self, signal: &str) -> ShutdownAnswer {
        shutdown::signalled(&self.context, &self.shutdown, signal).await
    }

    /// Shuts the member down gracefully, regardless of the quorum, within the configured deadline; returns false if it
    /// had to be forced.
    pub async fn stop(self) -> bool {
        // A shutdown that runs already is not forced by this call.
        if self.shutdown.progress().state == ShutdownState::Running {
            shutdown::request(&self.context, &self.shutdown, Requester::Call, "its owner stops it", true)
                .await;
        }
        self.left().await
    }

    /// Waits until a running shutdown has finished and releases remaining resources; returns false if it had to be
    /// forced.
    pub async fn left(self) -> bool {
        let outcome = self.shutdown.finished().await;
        self.ops.stop().await;
        // Waits for files that the actors left to be closed, but not for a disk that hangs.
        let _ = self.context.storage.run_within(CLOSE_DEADLINE, || ()).await;
        outcome == ShutdownOutcome::Graceful
    }
}

/// Rejects a clock before 1970: `SystemClock` clamps it to 1970, and libraries panic on such a time.
pub fn check_clock(clock: &dyn Clock) -> Result<(), StartError> {
    if clock.since_epoch().is_zero() { Err(StartError::Clock) } else { Ok(()) }
}

/// Reads the key file and compares its key with genesis.
pub fn check_key(config: &NodeConfig, genesis: &Genesis) -> Result<(), StartError> {
    read_key(config, genesis).map(drop)
}

/// Reads the token file, if one is configured.
pub fn check_token(config: &NodeConfig) -> Result<(), StartError> {
    config.ops.token_file.as_deref().map(Token::read).transpose()?;
    Ok(())
}

fn read_key(config: &NodeConfig, genesis: &Genesis) -> Result<SecretKey, StartError> {
    let identity = &config.identity;
    let key = SecretKey::read(&identity.key_file)?;
    let index = genesis.index_of(&identity.name).expect("the configuration was checked");
    let expected = genesis.members()[index].public_key;
    if key.public_key() != expected {
        return Err(StartError::WrongKey {
            path: identity.key_file.clone(),
            found: key.public_key().to_string(),
            expected: expected.to_string(),
            name: identity.name.to_string(),
        });
    }
    Ok(key)
}

/// Whether a process uses this data directory. Briefly holds a shared lock if none does.
pub fn is_in_use(data_dir: &Path) -> bool {
    let lock = File::open(data_dir.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Purpose of a lock on a data directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Reading, shared with other readers.
    Look,
    /// Running a member, exclusive.
    Run,
}

fn lock_data_dir(config: &NodeConfig, purpose: Purpose) -> Result<File, StartError> {
    let path = &config.data_dir;
    let error = |source| StartError::DataDir { path: path.clone(), source };
    files::make_directory(path).map_err(error)?;
    let lock = files::options().write(true).open(path.join("lock")).map_err(error)?;
    let locked = match purpose {
        Purpose::Look => lock.try_lock_shared(),
        Purpose::Run => lock.try_lock(),
    };
    match locked {
        Ok(()) => Ok(lock),
        // The lock is held by readers only, as a shared lock is still available.
        Err(TryLockError::WouldBlock) if purpose == Purpose::Run && lock.try_lock_shared().is_ok() => {
            Err(StartError::LookedAt { path: path.clone() })
        }
        Err(TryLockError::WouldBlock) => Err(StartError::InUse { path: path.clone() }),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}

/// Locks the data directory for a starting member. Waits for processes that only read it.
async fn lock_for_start(config: &NodeConfig) -> Result<File, StartError> {
    let lock = async {
        loop {
            match lock_data_dir(config, Purpose::Run) {
                Err(StartError::LookedAt { .. }) => tokio::time::sleep(LOOKING_STEP).await,
                outcome => return outcome,
            }
        }
    };
    let late = || StartError::LookedAt { path: config.data_dir.clone() };
    tokio::time::timeout(LOOKING, lock).await.map_err(|_| late())?
}

/// Rejects a file system with less free space than a member reserves.
fn has_room(directory: &Path) -> io::Result<()> {
    match files::room(directory, Look::Reserve) {
        Some(Room { refused: Some(refused), .. }) => Err(io::Error::from_raw_os_error(refused)),
        Some(room) if room.free < RESERVE_BYTES => {
            let reason = format!("{} bytes are free; expected at least {RESERVE_BYTES}", room.free);
            Err(io::Error::new(io::ErrorKind::StorageFull, reason))
        }
        _ => Ok(()),
    }
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { field, address, source })
}

#[expect(clippy::too_many_arguments, reason = "what a member is made of")]
fn context(
    config: NodeConfig,
    genesis: Genesis,
    roster: Roster,
    key: SecretKey,
    incarnation: Incarnation,
    storage: Storage,
    (clock, tracing): (Arc<dyn Clock>, Tracing),
    link_listener: TcpListener,
) -> Result<NodeContext, IdentityError> {
    let store_path = config.data_dir.join("chain.redb");
    let genesis_hash = genesis.hash();
    let disk = storage.disk().clone();
    let (identity, journal_mark) = (guard::identity(genesis_hash, &key.public_key()), JournalMark::default());
    let mark = journal_mark.clone();
    let open_store = Arc::new(move || {
        let store = RedbStore::open(&store_path, genesis_hash)?.on(disk.clone());
        let store = store.beside(identity, mark.clone())?;
        Ok(Box::new(store) as Box<dyn BlockStore>)
    });
    let events = EventBus::new(clock.clone()).traced(tracing.tracer);
    let gate = GateReader::closed(config.heartbeat.gates(&roster));
    let limits = &config.supervision;
    let mut supervision =
        Context::new(roster.own().as_str(), clock.clone(), events.clone()).bound(limits.bound);
    supervision.memory = SupervisionMemory::new(limits.patterns);
    supervision.block_time = genesis.block_time();
    supervision.consensus_window = limits.consensus_window;
    supervision.halt =
        Arc::new(GateHold { gate: gate.clone(), clock: clock.clone(), events: events.clone() });
    let addresses = Addresses::new(&roster);
    let certificate_signer = Arc::new(LinkCertificateSigner::new(&genesis, key.clone()));
    let lifetime = config.link.certificate_lifetime;
    let holder = Holder {
        member: roster.own().clone(),
        incarnation,
        federation: genesis_hash,
        tolerated: roster.members().len() - roster.required(),
        signer: certificate_signer.clone(),
        halt: supervision.halt.clone(),
    };
    let duplicates = Duplicates::new(holder, clock.clone(), events.clone());
    let trust = Trust::tls(&roster, genesis_hash, certificate_signer, lifetime, clock.clone())?;
    let rejections = RejectionLog::new(clock.clone(), events.clone());
    let line = |peer: &NodeId| (peer.clone(), Arc::new(PeerChannel::new(peer.clone(), rejections.clone())));
    let channels: PeerChannels = Arc::new(roster.peers().map(line).collect());
    Ok(NodeContext {
        discovery: Discovery::new(channels.clone()).traced(&events),
        events,
        spans: tracing.spans,
        log_lines_lost: Arc::default(),
        supervision,
        trust,
        duplicates,
        channels,
        rejections,
        gate,
        exports: discovery::exports(&addresses.chain, &addresses.federation),
        head: HeadReader::new(Head::genesis(genesis_hash)),
        open_store,
        journal: (identity, journal_mark),
        storage,
        link_listener: Arc::new(link_listener),
        metrics: Metrics::new(roster.own(), &roster.peers().cloned().collect::<Vec<_>>()),
        history: History::default(),
        health_score: Arc::default(),
        drill: ByzantineDrill::default(),
        drill_clock: None,
        asking: Arc::default(),
        addresses,
        config,
        genesis: Arc::new(genesis),
        roster,
        key,
        incarnation,
        clock,
    })
}
