//! The supervision tree of a member, on one page.
//!
//! ```text
//!   root ─┬─ critical ───┬─ chain, engine, federation
//!         ├─ high ───────┬─ consensus
//!         ├─ normal ─────┬─ gateway, network, sync, discovery
//!         │              └─ links ─── link/<peer>, one each
//!         ├─ health
//!         └─ background ─┬─ recovery, metrics, logging
//! ```
//!
//! Tiers start from the most important to the least and stop in reverse. A tier that restarts too often gives
//! up and is restarted whole by the root; each spends a budget of its own. When that does not help either, or a restart would only repeat the
//! failure, the root halts consensus through the gate, and after a while ends the node:
//! [`EscalationTable::TIER`] and [`EscalationTable::ROOT`].
//!
//! The chain starts again with the next slot, when its store is wanted next; consensus, and what serves the links,
//! back off; the others return at once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_cluster::clock::{Clock, OffsetClock};
use alys_cluster::discovery::{
    Discovery, DiscoveryActor, DiscoveryMessage, DiscoveryWire, Exports, RequestHandler,
};
use alys_cluster::event::EventBus;
use alys_cluster::federation::coordinator::{MemberState, MemberStatus};
use alys_cluster::federation::{FederationActor, FederationMessage, FederationWire, GateReader, Roster};
use alys_cluster::health::message::MemberReading;
use alys_cluster::health::{
    HealthMessage, HealthMonitor, MonitorHooks, Pingable, RecoveryAgent, RecoveryMessage,
};
use alys_cluster::id::{ActorName, ActorPriority, Incarnation, NodeId};
use alys_cluster::mailbox::{Address, FaultTarget, Mail};
use alys_cluster::port::{LastWords, Outbox, PeerChange, PeerWatcher};
use alys_cluster::supervision::{
    ChildSpec, Context, EscalationTable, HandlerLimits, RestartStrategy, SupervisorSpec, TreeRestartRequester,
};
use alys_cluster::telemetry::metrics::Metrics;
use alys_cluster::telemetry::spans::SpanCounters;
use alys_cluster::telemetry::{
    EventReceiver, History, LoggingActor, LoggingMessage, MetricsActor, MetricsMessage,
};
use alys_cluster::transport::gateway::{GATEWAY, mailbox};
use alys_cluster::transport::tls::Trust;
use alys_cluster::transport::{
    Bounds, Duplicates, Gateway, Handshaker, Hello, InboundRouter, Lane, LinkActor, LinkMessage, LinkWatcher,
    NetworkActor, NetworkMessage, PeerChannels, RejectionLog, Routes, TypedSender, codec,
};
use ractor::Actor;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::actors::chain::actor::OpenStore;
use crate::actors::chain::{ChainActor, ChainMessage, HeadReader};
use crate::actors::consensus::byzantine::{ByzantineDrill, Claim};
use crate::actors::consensus::{ConsensusActor, ConsensusMessage};
use crate::actors::engine::{EngineActor, EngineMessage, EngineWire};
use crate::actors::sync::{SyncActor, SyncMessage, SyncWire};
use crate::attest::HealthSigner;
use crate::config::NodeConfig;
use crate::consensus::BlockHash;
use crate::consensus::guard::JournalMark;
use crate::consensus::message::ConsensusWire;
use crate::discovery;
use crate::genesis::Genesis;
use crate::keys::SecretKey;
use crate::logs::writer::LostLines;
use crate::storage::Storage;

/// Slots of an actor's mailbox, at least: several seconds of the busiest traffic seen.
const MAILBOX: usize = 1_024;
/// The longest a handler may take, unless it is told otherwise: longer than the longest of them waits for others,
/// which are consensus that asks the engine and the engine that asks the chain, for 5 s each.
const HANDLER_DEADLINE: Duration = Duration::from_secs(15);
/// The longest a handler of the chain may take, which waits for nobody: the storage thread does its work.
const CHAIN_DEADLINE: Duration = Duration::from_secs(5);
/// The longest an actor may take to start that opens files: it has a deadline of its own, which runs while the disk has room.
const START_DEADLINE: Duration = Duration::from_hours(24);
/// The longest the federation is asked for the state of its members.
const MEMBERS_DEADLINE: Duration = Duration::from_millis(500);

/// Where every actor of the node is reached. Made once, valid across restarts.
#[derive(Clone)]
pub struct Addresses {
    /// Stores blocks.
    pub chain: Address<ChainMessage>,
    /// Executes blocks.
    pub engine: Address<EngineMessage>,
    /// Watches members.
    pub federation: Address<FederationMessage>,
    /// Decides blocks.
    pub consensus: Address<ConsensusMessage>,
    /// Owns connections.
    pub network: Address<NetworkMessage>,
    /// One for each peer.
    pub links: Arc<BTreeMap<NodeId, Address<LinkMessage>>>,
    /// Catches up.
    pub sync: Address<SyncMessage>,
    /// Publishes actors and asks other members'.
    pub discovery: Address<DiscoveryMessage>,
    /// Checks actors.
    pub health: Address<HealthMessage>,
    /// Asks for restarts of actors that do not answer.
    pub recovery: Address<RecoveryMessage>,
    /// Counts.
    pub metrics: Address<MetricsMessage>,
    /// Writes and remembers.
    pub logging: Address<LoggingMessage>,
}

impl Addresses {
    /// Addresses with nobody behind them yet.
    pub fn new(roster: &Roster) -> Self {
        fn address<M: Send + 'static>(name: &'static str) -> Address<M> {
            Address::new(ActorName::literal(name), MAILBOX)
        }
        fn shared<M: Send + 'static>(name: &'static str, roster: &Roster) -> Address<M> {
            Address::new(ActorName::literal(name), mailbox(MAILBOX, roster.peers().count()).0)
        }
        let link = |peer| Address::new(LinkActor::name(peer), MAILBOX);
        Self {
            chain: address("chain"),
            engine: shared("engine", roster),
            federation: shared("federation", roster),
            consensus: shared("consensus", roster),
            network: address("network"),
            links: Arc::new(
                roster.peers().map(|peer| (peer.clone(), link(peer))).collect::<BTreeMap<_, _>>(),
            ),
            sync: shared("sync", roster),
            discovery: shared("discovery", roster),
            health: address("health"),
            recovery: address("recovery"),
            metrics: address("metrics"),
            logging: address("logging"),
        }
    }

    /// Every actor that can be hurt in a drill.
    pub fn fault_targets(&self) -> Vec<&dyn FaultTarget> {
        let mut all: Vec<&dyn FaultTarget> = vec![
            &self.chain,
            &self.engine,
            &self.federation,
            &self.consensus,
            &self.network,
            &self.sync,
            &self.discovery,
            &self.health,
            &self.recovery,
            &self.metrics,
            &self.logging,
        ];
        all.extend(self.links.values().map(|link| link as &dyn FaultTarget));
        all
    }
}

/// What the monitor learns of another member; nothing of this one.
fn member_reading(member: MemberStatus) -> Option<MemberReading> {
    let is_up = member.state == MemberState::Up;
    let silence = member.last_seen.filter(|_| is_up);
    (member.state != MemberState::Own).then_some(MemberReading {
        name: member.name,
        healthy: member.healthy,
        silence,
    })
}

/// What the actors are made of.
#[derive(Clone)]
pub struct NodeContext {
    /// Everything the member was told.
    pub config: NodeConfig,
    /// What all members agree on.
    pub genesis: Arc<Genesis>,
    /// All members, and which one this is.
    pub roster: Roster,
    /// This member's key.
    pub key: SecretKey,
    /// Which start this is.
    pub incarnation: Incarnation,
    /// Reads time.
    pub clock: Arc<dyn Clock>,
    /// Carries events, and spans.
    pub events: EventBus,
    /// What became of spans.
    pub spans: Arc<SpanCounters>,
    /// Lines of the log that could not be written.
    pub log_lines_lost: Arc<LostLines>,
    /// What all supervisors share; shows the tree.
    pub supervision: Context,
    /// Shows the verdict.
    pub gate: GateReader,
    /// Shows where the chain ends.
    pub head: HeadReader,
    /// Finds actors of other members.
    pub discovery: Discovery,
    /// What of this member other members may ask.
    pub exports: Exports,
    /// Opens the block store.
    pub open_store: OpenStore,
    /// Whose journal of signatures goes with it, and what it must hold.
    pub journal: (BlockHash, JournalMark),
    /// The thread that writes to the data directory.
    pub storage: Storage,
    /// Finds other processes with this member's key, or with a peer's.
    pub duplicates: Duplicates,
    /// Proves who this member is, and checks who others are.
    pub trust: Trust,
    /// The ways to the other members.
    pub channels: PeerChannels,
    /// Tells of what was refused on them.
    pub rejections: RejectionLog,
    /// Accepts links.
    pub link_listener: Arc<TcpListener>,
    /// Counts into these.
    pub metrics: Metrics,
    /// Remembers events, and shows them to whoever follows them.
    pub history: History,
    /// The score of the member's health in thousandths, which the monitor writes.
    pub health_score: Arc<AtomicU64>,
    /// Whether this member is to misbehave, in a drill.
    pub drill: ByzantineDrill,
    /// This member's clock, where drills may set it.
    pub drill_clock: Option<Arc<OffsetClock>>,
    /// How many ask at present whether this member may leave.
    pub asking: Arc<Mutex<usize>>,
    /// Where everyone is reached.
    pub addresses: Addresses,
}

impl NodeContext {
    fn worker<A, M, F>(&self, name: &ActorName, make: F) -> ChildSpec
    where
        A: Actor<Msg = Mail<M>, Arguments = ()>,
        M: Send + 'static,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let watch = HandlerLimits::default().deadline(|_| Some(HANDLER_DEADLINE)).fault_injectable();
        self.watched(name, watch.traced(name, &self.events), make)
    }

    fn watched<A, F>(&self, name: &ActorName, watch: HandlerLimits<A::Msg>, make: F) -> ChildSpec
    where
        A: Actor<Arguments = ()>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let child = ChildSpec::watched(self.roster.own().as_str(), name, watch, move || (make(), ()));
        child.tags(discovery::tags(name))
    }

    /// Restarts that wait longer each time.
    fn backoff(&self) -> RestartStrategy {
        RestartStrategy::ExponentialBackoff(self.config.supervision.backoff)
    }

    fn supervisor(
        &self,
        name: &'static str,
        priority: ActorPriority,
        children: Vec<ChildSpec>,
    ) -> SupervisorSpec {
        let limits = &self.config.supervision;
        SupervisorSpec {
            intensity: limits.intensity(),
            slot_budget: limits.slots,
            escalation: EscalationTable::TIER,
            halt_for: limits.halt_for,
            priority,
            children: children.into_iter().map(|child| child.priority(priority)).collect(),
            ..SupervisorSpec::new(ActorName::literal(name), Vec::new())
        }
    }

    fn outbox<W: Serialize + 'static>(&self, destination: &ActorName, class: Lane) -> Arc<dyn Outbox<W>> {
        Arc::new(TypedSender::new(destination.clone(), class, self.channels.clone()))
    }

    /// The whole tree.
    pub fn tree(&self) -> SupervisorSpec {
        use ActorPriority::{Background, Critical, High, Normal};
        let normal = vec![self.gateway(), self.network(), self.links(), self.sync(), self.discovery()];
        let background = vec![self.recovery(), self.metrics(), self.logging()];
        let tiers = [
            self.supervisor("critical", Critical, vec![self.chain(), self.engine(), self.federation()]),
            self.supervisor("high", High, vec![self.consensus()]),
            self.supervisor("normal", Normal, normal),
            self.supervisor("background", Background, background),
        ];
        let mut root = self.supervisor("root", Critical, Vec::new());
        root.escalation = EscalationTable::ROOT;
        // Each tier keeps its own priority.
        let tier = |tier| ChildSpec::supervisor(tier, self.supervision.clone()).strategy(self.backoff());
        let [critical, high, normal, background] = tiers.map(tier);
        // Without its reports the gate closes: no tier's failures take it down, and it is never left down.
        let health = self.health().priority(High);
        root.children = vec![critical, high, normal, health, background];
        root
    }

    fn chain(&self) -> ChildSpec {
        let actor = ChainActor {
            address: self.addresses.chain.clone(),
            open: self.open_store.clone(),
            storage: self.storage.clone(),
            block_time: self.genesis.block_time(),
            head: self.head.clone(),
            clock: self.clock.clone(),
        };
        let watch = HandlerLimits::default().deadline(|_| Some(CHAIN_DEADLINE)).fault_injectable();
        let address = actor.address.clone();
        let watch = watch.traced(address.name(), &self.events);
        let chain = self.watched(address.name(), watch, move || actor.clone());
        chain.at_boundary().start_deadline(START_DEADLINE).reached_at(&address)
    }

    fn engine(&self) -> ChildSpec {
        let address = self.addresses.engine.clone();
        let actor = EngineActor {
            outbox: self.outbox::<EngineWire>(address.name(), Lane::Bulk),
            address,
            head: self.head.clone(),
            chain: self.addresses.chain.clone(),
            roster: self.roster.clone(),
            clock: self.clock.clone(),
        };
        let address = actor.address.clone();
        let engine = self.worker(address.name(), move || actor.clone());
        engine.depends_on(&[self.addresses.chain.name()]).reached_at(&address)
    }

    fn federation(&self) -> ChildSpec {
        let address = self.addresses.federation.clone();
        let (consensus, sync) = (self.addresses.consensus.clone(), self.addresses.sync.clone());
        // Whoever misses a change because it is being restarted begins without memory of peers anyway.
        let discovery = self.discovery.clone();
        let watchers: [PeerWatcher; 3] = [
            // At once: what a lost member published is gone before anybody else hears of the loss.
            Arc::new(move |change: &PeerChange| discovery.peer(change)),
            Arc::new(move |change: &PeerChange| {
                let _ = consensus.cast(ConsensusMessage::Peer(change.clone()));
            }),
            Arc::new(move |change: &PeerChange| {
                let _ = sync.cast(SyncMessage::Peer(change.clone()));
            }),
        ];
        let actor = FederationActor {
            outbox: self.outbox::<FederationWire>(address.name(), Lane::Heartbeat),
            address,
            roster: self.roster.clone(),
            incarnation: self.incarnation,
            config: self.config.heartbeat,
            clock: self.clock.clone(),
            events: self.events.clone(),
            gate: self.gate.clone(),
            signer: Arc::new(HealthSigner::new(&self.genesis, self.key.clone())),
            health: self.addresses.health.clone(),
            progress: Arc::new(Claim { head: self.head.clone(), drill: self.drill.clone() }),
            watchers: watchers.into(),
        };
        let address = actor.address.clone();
        self.worker(address.name(), move || actor.clone()).reached_at(&address)
    }

    fn consensus(&self) -> ChildSpec {
        let address = self.addresses.consensus.clone();
        let actor = ConsensusActor {
            outbox: self.outbox::<ConsensusWire>(address.name(), Lane::Consensus),
            address,
            genesis: self.genesis.clone(),
            roster: self.roster.clone(),
            key: self.key.clone(),
            incarnation: self.incarnation,
            config: self.config.consensus,
            log_path: self.config.data_dir.join("consensus.log"),
            journal_path: self.config.data_dir.join("signatures.journal"),
            journal: self.journal.clone(),
            evidence_path: self.config.data_dir.join("evidence"),
            gate: self.gate.clone(),
            head: self.head.clone(),
            chain: self.addresses.chain.clone(),
            storage: self.storage.clone(),
            engine: self.addresses.engine.clone(),
            slots: self.supervision.slots.clone(),
            clock: self.clock.clone(),
            drill: self.drill.clone(),
            events: self.events.clone(),
        };
        let needs = [self.addresses.chain.name(), self.addresses.engine.name()];
        let address = actor.address.clone();
        let consensus = self.worker(address.name(), move || actor.clone()).reached_at(&address);
        consensus.strategy(self.backoff()).start_deadline(START_DEADLINE).depends_on(&needs)
    }

    fn gateway(&self) -> ChildSpec {
        let actor = Gateway { incarnation: self.incarnation };
        let watch = HandlerLimits::default().deadline(|_| Some(HANDLER_DEADLINE));
        self.watched(&ActorName::literal(GATEWAY), watch, move || actor).strategy(self.backoff())
    }

    fn last_words(&self) -> LastWords {
        let board = self.supervision.tree.clone();
        Arc::new(move |actor| board.last_words(actor))
    }

    /// What other members may reach. What they say of health, votes, blocks and transactions is signed or hashed.
    fn door(&self) -> InboundRouter {
        let to = &self.addresses;
        let (_, share) = mailbox(MAILBOX, self.roster.peers().count());
        let routes = Routes::default()
            .to(&to.federation, share, codec::decode_canonical, FederationMessage::Wire)
            .to(&to.consensus, share, codec::decode_canonical, ConsensusMessage::Wire)
            .to(&to.engine, share, codec::decode_canonical, EngineMessage::Wire)
            .to(&to.sync, share, codec::decode_canonical, SyncMessage::Wire)
            .to(&to.discovery, share, codec::decode, DiscoveryMessage::Wire);
        let registry = self.supervision.registry.clone();
        let requests =
            RequestHandler::new(self.exports.clone(), registry, self.last_words(), self.events.clone());
        InboundRouter { routes, answers: Arc::new(requests) }
    }

    fn network(&self) -> ChildSpec {
        let (config, genesis) = (&self.config.link, self.genesis.hash());
        let hello = Hello::new(self.roster.own().clone(), self.incarnation, genesis, config.version);
        let actor = NetworkActor {
            address: self.addresses.network.clone(),
            roster: self.roster.clone(),
            listener: self.link_listener.clone(),
            handshaker: Handshaker {
                trust: self.trust.clone(),
                hello,
                roster: self.roster.clone(),
                timeout: config.handshake_timeout,
                duplicates: Some(self.duplicates.clone()),
            },
            cookie: hex::encode(genesis),
            bounds: Bounds {
                frames_max: config.queue,
                bytes_max: config.queue_bytes,
                idle: config.stale_after,
            },
            inbound: Arc::new(self.door()),
            channels: self.channels.clone(),
            links: self.addresses.links.clone(),
            clock: self.clock.clone(),
            rejections: self.rejections.clone(),
        };
        let address = actor.address.clone();
        let network = self.worker(address.name(), move || actor.clone());
        network.strategy(self.backoff()).reached_at(&address)
    }

    fn links(&self) -> ChildSpec {
        let federation = self.addresses.federation.clone();
        // A federation actor that is being restarted finds silence by itself.
        let watcher: LinkWatcher = Arc::new(move |peer, is_up| {
            let _ = federation.cast(FederationMessage::Link(peer.clone(), is_up));
        });
        let link = |peer: &alys_cluster::transport::PeerConfig| {
            let actor = LinkActor {
                address: self.addresses.links[&peer.name].clone(),
                channel: self.channels[&peer.name].clone(),
                peer_address: peer.address,
                dials: *self.roster.own() > peer.name,
                duplicates: self.duplicates.clone(),
                config: self.config.link.clone(),
                network: self.addresses.network.clone(),
                clock: self.clock.clone(),
                events: self.events.clone(),
                watcher: watcher.clone(),
            };
            let address = actor.address.clone();
            let link = self.worker(address.name(), move || actor.clone()).reached_at(&address);
            let link = link.strategy(self.backoff()).metadata("peer", peer.name.as_str());
            link.depends_on(&[self.addresses.network.name()])
        };
        let links = self.config.link.peers.iter().map(link).collect();
        let links = self.supervisor("links", ActorPriority::Normal, links);
        ChildSpec::supervisor(links, self.supervision.clone())
    }

    fn sync(&self) -> ChildSpec {
        let address = self.addresses.sync.clone();
        let actor = SyncActor {
            outbox: self.outbox::<SyncWire>(address.name(), Lane::Bulk),
            address,
            roster: self.roster.clone(),
            head: self.head.clone(),
            federation: self.addresses.federation.clone(),
            chain: self.addresses.chain.clone(),
            consensus: self.addresses.consensus.clone(),
            clock: self.clock.clone(),
        };
        let needs = [self.addresses.chain.name(), self.addresses.consensus.name()];
        let address = actor.address.clone();
        let sync = self.worker(address.name(), move || actor.clone()).reached_at(&address);
        sync.strategy(self.backoff()).depends_on(&needs)
    }

    fn discovery(&self) -> ChildSpec {
        let address = self.addresses.discovery.clone();
        let actor = DiscoveryActor {
            outbox: self.outbox::<DiscoveryWire>(address.name(), Lane::Bulk),
            address: address.clone(),
            incarnation: self.incarnation,
            registry: self.supervision.registry.clone(),
            exports: self.exports.clone(),
            discovery: self.discovery.clone(),
            clock: self.clock.clone(),
            rejections: self.rejections.clone(),
        };
        let discovery = self.worker(address.name(), move || actor.clone()).reached_at(&address);
        discovery.strategy(self.backoff())
    }

    fn health(&self) -> ChildSpec {
        use ActorPriority::{Background, Critical, Normal};
        let to = &self.addresses;
        let mut actors = vec![
            Pingable::new(&to.chain, Critical, ChainMessage::Ping),
            Pingable::new(&to.engine, Critical, EngineMessage::Ping),
            Pingable::new(&to.federation, Critical, FederationMessage::Ping),
            Pingable::new(&to.consensus, Critical, ConsensusMessage::Ping),
            Pingable::new(&to.network, Normal, NetworkMessage::Ping),
            Pingable::new(&to.sync, Normal, SyncMessage::Ping),
            Pingable::new(&to.discovery, Normal, DiscoveryMessage::Ping),
            Pingable::new(&to.recovery, Background, RecoveryMessage::Ping),
            Pingable::new(&to.metrics, Background, MetricsMessage::Ping),
            Pingable::new(&to.logging, Background, LoggingMessage::Ping),
        ];
        let link = |link| Pingable::new(link, Normal, LinkMessage::Ping);
        actors.extend(to.links.values().map(link));
        let (federation, registry) = (to.federation.clone(), self.supervision.registry.clone());
        let (asked, agent) = (to.federation.clone(), to.recovery.clone());
        let hooks = MonitorHooks {
            // What the agent misses while it is restarted, it hears with the next check.
            follower: Some(Arc::new(move |found| drop(agent.cast(RecoveryMessage::Found(found))))),
            members: Some(Arc::new(move || {
                let federation = asked.clone();
                Box::pin(async move {
                    let status = federation.call(MEMBERS_DEADLINE, FederationMessage::Status).await;
                    let members = status.map(|status| status.members).unwrap_or_default();
                    members.into_iter().filter_map(member_reading).collect()
                })
            })),
            last_words: Some(self.last_words()),
            score: self.health_score.clone(),
            ..MonitorHooks::default()
        };
        let actor = HealthMonitor {
            address: to.health.clone(),
            config: self.config.health,
            incarnation: self.incarnation,
            clock: self.clock.clone(),
            events: self.events.clone(),
            actors: actors.into(),
            // One that is not registered is about to be, and checked again.
            recorder: Arc::new(move |actor, status| drop(registry.record_health(actor, status))),
            // A report that is missed is followed by another; one that stays away is noticed by its age.
            listener: Arc::new(move |report| drop(federation.cast(FederationMessage::OwnHealth(report)))),
            hooks,
        };
        let address = actor.address.clone();
        self.worker(address.name(), move || actor.clone()).reached_at(&address)
    }

    fn recovery(&self) -> ChildSpec {
        let actor = RecoveryAgent {
            address: self.addresses.recovery.clone(),
            config: self.config.health.recovery,
            monitor: self.addresses.health.clone(),
            restart_requester: Arc::new(TreeRestartRequester { context: self.supervision.clone() }),
            clock: self.clock.clone(),
            events: self.events.clone(),
        };
        let address = actor.address.clone();
        self.worker(address.name(), move || actor.clone()).reached_at(&address)
    }

    fn metrics(&self) -> ChildSpec {
        let actor = MetricsActor {
            address: self.addresses.metrics.clone(),
            metrics: self.metrics.clone(),
            gauges: crate::gauges::of(self),
            clock: self.clock.clone(),
            event_receiver: EventReceiver::new(&self.events),
        };
        let address = actor.address.clone();
        self.worker(address.name(), move || actor.clone()).reached_at(&address)
    }

    fn logging(&self) -> ChildSpec {
        let actor = LoggingActor {
            address: self.addresses.logging.clone(),
            history: self.history.clone(),
            node: self.roster.own().clone(),
            clock: self.clock.clone(),
            event_receiver: EventReceiver::new(&self.events),
        };
        let address = actor.address.clone();
        self.worker(address.name(), move || actor.clone()).reached_at(&address)
    }
}
