//! Defines the supervision tree of a member.
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
//! Tiers start from the most to the least important and stop in reverse order. Each tier has a restart budget of its
//! own. A tier that restarts too often gives up, and the root restarts it as a whole. If that does not help, or a
//! restart would only repeat the failure, the root halts consensus through the gate and, after a while, ends the node:
//! [`EscalationTable::TIER`] and [`EscalationTable::ROOT`].
//!
//! The chain restarts at the next slot boundary, when its store is needed next. Consensus and the actors that serve the
//! links restart with backoff; the others restart immediately.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_cluster::actor::Actor;
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
use alys_cluster::mailbox::Address;
#[cfg(feature = "fault-injection")]
use alys_cluster::mailbox::FaultTarget;
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

/// Minimum capacity of an actor's mailbox: several seconds of the highest traffic observed.
const MAILBOX: usize = 1_024;
/// Default deadline of a handler: longer than the longest wait of a handler for other actors, which is consensus
/// calling the engine, and the engine calling the chain, for 5 s each.
const HANDLER_DEADLINE: Duration = Duration::from_secs(15);
/// Deadline of the chain actor's handlers, which wait for no other actor: the storage thread does the work.
const CHAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Deadline for the start of actors that open files. They have a shorter deadline of their own that runs only while the
/// disk has room.
const START_DEADLINE: Duration = Duration::from_hours(24);
/// Longest wait for the federation actor's member states.
const MEMBERS_DEADLINE: Duration = Duration::from_millis(500);

/// Addresses of all actors of the node. Created once; they stay valid across restarts.
#[derive(Clone)]
pub struct Addresses {
    /// Stores blocks.
    pub chain: Address<ChainMessage>,
    /// Executes blocks.
    pub engine: Address<EngineMessage>,
    /// Monitors the members and decides the gate.
    pub federation: Address<FederationMessage>,
    /// Decides blocks.
    pub consensus: Address<ConsensusMessage>,
    /// Accepts and owns connections.
    pub network: Address<NetworkMessage>,
    /// Manages the link to each peer, by name.
    pub links: Arc<BTreeMap<NodeId, Address<LinkMessage>>>,
    /// Fetches missing blocks from peers.
    pub sync: Address<SyncMessage>,
    /// Publishes this member's actors and calls those of other members.
    pub discovery: Address<DiscoveryMessage>,
    /// Checks the health of actors.
    pub health: Address<HealthMessage>,
    /// Requests restarts of unresponsive actors.
    pub recovery: Address<RecoveryMessage>,
    /// Collects metrics.
    pub metrics: Address<MetricsMessage>,
    /// Logs events and keeps their history.
    pub logging: Address<LoggingMessage>,
}

impl Addresses {
    /// Creates the addresses, before any actor runs.
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

    /// Every actor into which faults can be injected.
    #[cfg(feature = "fault-injection")]
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

/// Reading of another member for the health monitor; `None` for this member itself.
fn member_reading(member: MemberStatus) -> Option<MemberReading> {
    let is_up = member.state == MemberState::Up;
    let silence = member.last_seen.filter(|_| is_up);
    (member.state != MemberState::Own).then_some(MemberReading {
        name: member.name,
        healthy: member.healthy,
        silence,
    })
}

/// Dependencies of the actors.
#[derive(Clone)]
pub struct NodeContext {
    /// Configuration of the member.
    pub config: NodeConfig,
    /// Genesis that all members agree on.
    pub genesis: Arc<Genesis>,
    /// All members, and which one this is.
    pub roster: Roster,
    /// Secret key of this member.
    pub key: SecretKey,
    /// Incarnation of this member.
    pub incarnation: Incarnation,
    /// Clock of this member.
    pub clock: Arc<dyn Clock>,
    /// Bus for events and spans.
    pub events: EventBus,
    /// Counters of exported and lost spans.
    pub spans: Arc<SpanCounters>,
    /// Log lines that could not be written.
    pub log_lines_lost: Arc<LostLines>,
    /// State shared by all supervisors; also the read-only view of the tree.
    pub supervision: Context,
    /// Current verdict of the gate.
    pub gate: GateReader,
    /// Head of the chain.
    pub head: HeadReader,
    /// Client for actors of other members.
    pub discovery: Discovery,
    /// Actors of this member that other members can call.
    pub exports: Exports,
    /// Opens the block store.
    pub open_store: OpenStore,
    /// Identity of the signer's journal that belongs to the store, and the mark of records that it must hold.
    pub journal: (BlockHash, JournalMark),
    /// Thread that writes to the data directory.
    pub storage: Storage,
    /// Detects other processes that use this member's or a peer's key.
    pub duplicates: Duplicates,
    /// Certificate of this member, and verification of other members' certificates.
    pub trust: Trust,
    /// Channels to the other members.
    pub channels: PeerChannels,
    /// Reports what was rejected on the channels.
    pub rejections: RejectionLog,
    /// Listener that accepts links.
    pub link_listener: Arc<TcpListener>,
    /// Metrics of this member.
    pub metrics: Metrics,
    /// Recent events, readable by subscribers.
    pub history: History,
    /// Health score of the member in thousandths, written by the health monitor.
    pub health_score: Arc<AtomicU64>,
    /// Whether fault injection makes this member Byzantine, and how.
    pub drill: ByzantineDrill,
    /// Wall clock that fault injection can set; `None` if `faults.enabled` is false.
    pub drill_clock: Option<Arc<OffsetClock>>,
    /// Number of pending requests to leave the federation.
    pub asking: Arc<Mutex<usize>>,
    /// Addresses of all actors.
    pub addresses: Addresses,
}

impl NodeContext {
    fn worker<A>(&self, address: &Address<A::Msg>, actor: A) -> ChildSpec
    where
        A: Actor<Arguments = ()> + Clone,
    {
        self.worker_within(HANDLER_DEADLINE, address, actor)
    }

    fn worker_within<A>(&self, deadline: Duration, address: &Address<A::Msg>, actor: A) -> ChildSpec
    where
        A: Actor<Arguments = ()> + Clone,
    {
        let limits = HandlerLimits::default().deadline(deadline);
        let child = ChildSpec::limited(&self.supervision, address, limits, move || (actor.clone(), ()));
        child.tags(discovery::tags(address.name()))
    }

    /// Restart strategy with exponential backoff.
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

    /// Builds the specification of the whole tree.
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
        let tier = |tier| ChildSpec::supervisor(tier, &self.supervision).strategy(self.backoff());
        let [critical, high, normal, background] = tiers.map(tier);
        // Without its reports the gate closes. It is therefore a child of the root: no tier's failures stop it, and it
        // always restarts.
        let health = self.health().priority(High);
        root.children = vec![critical, high, normal, health, background];
        root
    }

    fn chain(&self) -> ChildSpec {
        let actor = ChainActor {
            open: self.open_store.clone(),
            storage: self.storage.clone(),
            block_time: self.genesis.block_time(),
            head: self.head.clone(),
            clock: self.clock.clone(),
        };
        let chain = self.worker_within(CHAIN_DEADLINE, &self.addresses.chain, actor);
        chain.at_boundary().start_deadline(START_DEADLINE)
    }

    fn engine(&self) -> ChildSpec {
        let address = &self.addresses.engine;
        let actor = EngineActor {
            outbox: self.outbox::<EngineWire>(address.name(), Lane::Bulk),
            head: self.head.clone(),
            chain: self.addresses.chain.clone(),
            roster: self.roster.clone(),
        };
        self.worker(address, actor).depends_on(&[self.addresses.chain.name()])
    }

    fn federation(&self) -> ChildSpec {
        let address = &self.addresses.federation;
        let (consensus, sync) = (self.addresses.consensus.clone(), self.addresses.sync.clone());
        // A watcher that misses a change because it is restarting starts without any knowledge of peers anyway.
        let discovery = self.discovery.clone();
        let watchers: [PeerWatcher; 3] = [
            // Called first: the actors that a lost member published are removed before other actors learn of the loss.
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
        self.worker(address, actor)
    }

    fn consensus(&self) -> ChildSpec {
        let address = &self.addresses.consensus;
        let actor = ConsensusActor {
            outbox: self.outbox::<ConsensusWire>(address.name(), Lane::Consensus),
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
        let consensus = self.worker(address, actor);
        consensus.strategy(self.backoff()).start_deadline(START_DEADLINE).depends_on(&needs)
    }

    fn gateway(&self) -> ChildSpec {
        let actor = Gateway { incarnation: self.incarnation };
        let name = ActorName::literal(GATEWAY);
        let child = ChildSpec::ractor(&self.supervision, &name, move || (actor, ()));
        child.tags(discovery::tags(&name)).strategy(self.backoff())
    }

    fn last_words(&self) -> LastWords {
        let board = self.supervision.tree.clone();
        Arc::new(move |actor| board.last_words(actor))
    }

    /// Routes for envelopes from other members. Their statements on health, votes, blocks and transactions are signed
    /// or hashed.
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
        self.worker(&self.addresses.network, actor).strategy(self.backoff())
    }

    fn links(&self) -> ChildSpec {
        let federation = self.addresses.federation.clone();
        // A federation actor that is restarting detects the silence by itself.
        let watcher: LinkWatcher = Arc::new(move |peer, is_up| {
            let _ = federation.cast(FederationMessage::Link(peer.clone(), is_up));
        });
        let link = |peer: &alys_cluster::transport::PeerConfig| {
            let actor = LinkActor {
                channel: self.channels[&peer.name].clone(),
                peer_address: peer.address,
                dials: *self.roster.own() > peer.name,
                duplicates: Some(self.duplicates.clone()),
                config: self.config.link.clone(),
                network: self.addresses.network.clone(),
                clock: self.clock.clone(),
                events: self.events.clone(),
                watcher: watcher.clone(),
            };
            let link = self.worker(&self.addresses.links[&peer.name], actor);
            let link = link.strategy(self.backoff()).metadata("peer", peer.name.as_str());
            link.depends_on(&[self.addresses.network.name()])
        };
        let links = self.config.link.peers.iter().map(link).collect();
        let links = self.supervisor("links", ActorPriority::Normal, links);
        ChildSpec::supervisor(links, &self.supervision)
    }

    fn sync(&self) -> ChildSpec {
        let address = &self.addresses.sync;
        let actor = SyncActor {
            outbox: self.outbox::<SyncWire>(address.name(), Lane::Bulk),
            roster: self.roster.clone(),
            head: self.head.clone(),
            federation: self.addresses.federation.clone(),
            chain: self.addresses.chain.clone(),
            consensus: self.addresses.consensus.clone(),
            clock: self.clock.clone(),
        };
        let needs = [self.addresses.chain.name(), self.addresses.consensus.name()];
        let sync = self.worker(address, actor);
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
        let discovery = self.worker(&address, actor);
        discovery.strategy(self.backoff())
    }

    fn health(&self) -> ChildSpec {
        use ActorPriority::{Background, Critical, Normal};
        let to = &self.addresses;
        let mut actors = vec![
            Pingable::new(&to.chain, Critical),
            Pingable::new(&to.engine, Critical),
            Pingable::new(&to.federation, Critical),
            Pingable::new(&to.consensus, Critical),
            Pingable::new(&to.network, Normal),
            Pingable::new(&to.sync, Normal),
            Pingable::new(&to.discovery, Normal),
            Pingable::new(&to.recovery, Background),
            Pingable::new(&to.metrics, Background),
            Pingable::new(&to.logging, Background),
        ];
        actors.extend(to.links.values().map(|link| Pingable::new(link, Normal)));
        let (federation, registry) = (to.federation.clone(), self.supervision.registry.clone());
        let (asked, agent) = (to.federation.clone(), to.recovery.clone());
        let hooks = MonitorHooks {
            // A restarting recovery agent receives what it missed with the next check.
            follower: Some(Arc::new(move |found| drop(agent.cast(RecoveryMessage::Found(found))))),
            members: Some(Arc::new(move || {
                let federation = asked.clone();
                Box::pin(async move {
                    let status = federation.ask(MEMBERS_DEADLINE, FederationMessage::Status).await;
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
            // An actor that is not registered yet will be, and is checked again.
            recorder: Arc::new(move |actor, status| drop(registry.record_health(actor, status))),
            // A missed report is followed by another; a permanent lack of reports is detected by the age of the last
            // one.
            listener: Arc::new(move |report| drop(federation.cast(FederationMessage::OwnHealth(report)))),
            hooks,
        };
        self.worker(&to.health, actor)
    }

    fn recovery(&self) -> ChildSpec {
        let actor = RecoveryAgent {
            config: self.config.health.recovery,
            monitor: self.addresses.health.clone(),
            restart_requester: Arc::new(TreeRestartRequester { context: self.supervision.clone() }),
            clock: self.clock.clone(),
            events: self.events.clone(),
        };
        self.worker(&self.addresses.recovery, actor)
    }

    fn metrics(&self) -> ChildSpec {
        let actor = MetricsActor {
            address: self.addresses.metrics.clone(),
            metrics: self.metrics.clone(),
            gauges: crate::gauges::of(self),
            clock: self.clock.clone(),
            event_receiver: EventReceiver::new(&self.events),
        };
        self.worker(&self.addresses.metrics, actor)
    }

    fn logging(&self) -> ChildSpec {
        let actor = LoggingActor {
            address: self.addresses.logging.clone(),
            history: self.history.clone(),
            node: self.roster.own().clone(),
            event_receiver: EventReceiver::new(&self.events),
        };
        self.worker(&self.addresses.logging, actor)
    }
}
