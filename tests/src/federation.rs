//! Runs four members in one process, over real loopback connections.
//!
//! Names in ractor's registry are global to the process, and all members share the machine's time. So members are named
//! after their test, and only one federation runs at a time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::SystemClock;
use alys_cluster::federation::HeartbeatConfig;
use alys_cluster::health::HealthConfig;
use alys_cluster::id::NodeId;
use alys_cluster::supervision::SupervisionConfig;
use alys_cluster::transport::{LinkConfig, PeerConfig};
use alys_node::config::{FaultsConfig, IdentityConfig, LogConfig, NodeConfig, OpsConfig};
use alys_node::consensus::ConsensusConfig;
use alys_node::genesis::{Genesis, GenesisFile, GenesisMember};
use alys_node::keys::SecretKey;
use alys_node::ops::view::{FederationView, GateDecision, GateView, HeadView};
use alys_node::{Node, NodeEnvironment, Tracing};
use federation_sim::ports::free_port;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::client::Client;
use crate::{eventually, seen};

/// Deadline for anything that is expected to happen, even on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

static TURN: Mutex<()> = Mutex::const_new(());

/// One member: its configuration, and the node while it runs.
pub struct Member {
    /// Name of the member in genesis.
    pub name: NodeId,
    /// Configuration of the node.
    pub config: NodeConfig,
    /// Client of its public HTTP endpoints.
    pub client: Client,
    node: Option<Node>,
}

impl Member {
    /// The running node.
    ///
    /// # Panics
    ///
    /// If it was taken.
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("the member runs")
    }

    /// Takes the node, to stop it or to wait for its end.
    ///
    /// # Panics
    ///
    /// If it was taken before.
    pub fn take(&mut self) -> Node {
        self.node.take().expect("the member runs")
    }

    /// Height of its last block.
    pub fn height(&self) -> u64 {
        self.node().context().head.head().height
    }

    /// Waits until its gate is open with at least `healthy` members.
    pub async fn gate_open(&self, healthy: usize) {
        eventually(SOON, &format!("the gate of {} opens with {healthy}", self.name), async || {
            let gate: GateView = self.client.get("/federation/gate").await?;
            let open = gate.decision == GateDecision::Open && gate.healthy >= healthy;
            seen(open, format!("{}: {}", gate.decision, gate.reason))
        })
        .await;
    }

    /// Waits until its gate is closed, and returns the gate's state.
    pub async fn gate_closed(&self) -> GateView {
        eventually(SOON, &format!("the gate of {} closes", self.name), async || {
            let gate: GateView = self.client.get("/federation/gate").await?;
            if gate.decision == GateDecision::Closed { Ok(gate) } else { Err(gate.reason) }
        })
        .await
    }

    /// Waits until it has a block at `height`.
    pub async fn reaches(&self, height: u64) {
        eventually(SOON, &format!("{} reaches height {height}", self.name), async || {
            let head: HeadView = self.client.get("/chain/head").await?;
            seen(head.height >= height, format!("height {}", head.height))
        })
        .await;
    }

    /// Waits until all its links are up.
    pub async fn linked(&self) {
        eventually(SOON, &format!("every link of {} is up", self.name), async || {
            let view: FederationView = self.client.get("/federation/status").await?;
            let up = view.links.iter().all(|link| link.state == "up");
            let states = view.links.iter().map(|link| format!("{} {}", link.peer, link.state));
            seen(up, states.collect::<Vec<_>>().join(", "))
        })
        .await;
    }
}

/// A federation of four members.
pub struct Federation {
    /// Members in genesis order.
    pub members: Vec<Member>,
    /// Genesis of the federation.
    pub genesis: Genesis,
    _directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Federation {
    /// Waits until no other federation runs; no other can start while the guard is held.
    pub async fn turn() -> MutexGuard<'static, ()> {
        TURN.lock().await
    }

    /// Creates four configured members without starting them. `tag` is the prefix of their names; `tune` changes each
    /// configuration.
    ///
    /// # Panics
    ///
    /// If files or ports are not available, or the configuration is invalid.
    pub async fn prepare(tag: &str, tune: impl Fn(&mut NodeConfig)) -> Self {
        Self::prepare_paced(tag, Duration::from_secs(1), tune).await
    }

    /// Like [`prepare`](Self::prepare), with the given time between blocks.
    ///
    /// # Panics
    ///
    /// If files or ports are not available, or the configuration is invalid.
    pub async fn prepare_paced(tag: &str, block_time: Duration, tune: impl Fn(&mut NodeConfig)) -> Self {
        let turn = Self::turn().await;
        let directory = tempfile::tempdir().expect("a directory");
        let names: Vec<NodeId> = (1..=4).map(|n| name(&format!("{tag}-node-{n}"))).collect();
        let keys: Vec<SecretKey> = (1..=4).map(|n| SecretKey::from_seed(&[n; 32])).collect();
        let genesis = paced_genesis(tag, block_time, &names, &keys);
        let ports = free_addresses(8);
        let mut members = Vec::new();
        for (index, own) in names.iter().enumerate() {
            let home = directory.path().join(own.as_str());
            std::fs::create_dir(&home).expect("a directory");
            let key_file = home.join("member.key");
            keys[index].write(&key_file).expect("a key file");
            let peers = names.iter().zip(&ports).filter(|(peer, _)| *peer != own);
            let peers = peers.map(|(name, address)| PeerConfig { name: name.clone(), address: *address });
            let mut config = config(own, key_file, home.join("data"), ports[index], peers.collect());
            config.ops = OpsConfig { address: ports[4 + index], ..OpsConfig::default() };
            tune(&mut config);
            let client = Client::new(config.ops.address);
            members.push(Member { name: own.clone(), config, client, node: None });
        }
        Self { members, genesis, _directory: directory, _turn: turn }
    }

    /// Starts four members and waits until they are linked and their gates are open.
    ///
    /// # Panics
    ///
    /// If a member does not start.
    pub async fn start(tag: &str, tune: impl Fn(&mut NodeConfig)) -> Self {
        Self::prepare(tag, tune).await.started().await
    }

    /// Starts the members and waits until they are linked and their gates are open.
    ///
    /// # Panics
    ///
    /// If a member does not start.
    #[must_use]
    pub async fn started(self) -> Self {
        let mut federation = self;
        for index in 0..federation.members.len() {
            federation.start_member(index).await;
        }
        for member in &federation.members {
            member.linked().await;
            member.gate_open(4).await;
        }
        federation
    }

    /// Starts one member.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_member(&mut self, index: usize) {
        self.start_traced(index, Tracing::default()).await;
    }

    /// Starts one member with the given tracing.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn start_traced(&mut self, index: usize, tracing: Tracing) {
        let member = &mut self.members[index];
        let clock = Arc::new(SystemClock::default());
        let environment = NodeEnvironment { tracing, ..NodeEnvironment::default() };
        let node = Node::start_with(member.config.clone(), self.genesis.clone(), clock, environment).await;
        member.node = Some(node.expect("the member starts"));
    }

    /// Stops all running members gracefully.
    ///
    /// # Panics
    ///
    /// If a member has to be killed.
    pub async fn stop(self) {
        for mut member in self.members {
            if let Some(node) = member.node.take() {
                assert!(Box::pin(node.stop()).await, "{} stops in time", member.name);
            }
        }
    }
}

/// A member's name.
///
/// # Panics
///
/// If `name` is not a valid name.
pub fn name(name: &str) -> NodeId {
    NodeId::new(name).expect("a name")
}

/// Distinct free loopback addresses outside the ephemeral port range. The listeners are kept until all are chosen, so
/// that no port is chosen twice.
///
/// # Panics
///
/// If the machine has no free port.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let taken: Vec<_> = (0..count).map(|_| free_port().expect("a free port")).collect();
    taken.into_iter().map(|(_held, address)| address).collect()
}

/// Genesis of members with these names and keys.
///
/// # Panics
///
/// If there are too few members, or a name or a key is duplicated.
pub fn genesis(tag: &str, names: &[NodeId], keys: &[SecretKey]) -> Genesis {
    paced_genesis(tag, Duration::from_secs(1), names, keys)
}

fn paced_genesis(tag: &str, block_time: Duration, names: &[NodeId], keys: &[SecretKey]) -> Genesis {
    let members = names.iter().zip(keys).map(|(name, key)| GenesisMember {
        name: name.clone(),
        public_key: key.public_key().to_string(),
        proof_of_possession: key.prove_possession(),
    });
    let file = GenesisFile { chain_id: format!("tests-{tag}"), block_time, members: members.collect() };
    Genesis::check(&file).expect("a genesis")
}

fn config(
    own: &NodeId,
    key_file: PathBuf,
    data_dir: PathBuf,
    listen: SocketAddr,
    peers: Vec<PeerConfig>,
) -> NodeConfig {
    NodeConfig {
        identity: IdentityConfig { name: own.clone(), key_file },
        genesis_file: PathBuf::from("genesis.toml"),
        data_dir,
        ops: OpsConfig::default(),
        link: LinkConfig::new(listen, peers),
        heartbeat: HeartbeatConfig {
            interval: Duration::from_millis(100),
            acceptable_pause: Duration::from_millis(200),
            lease: Duration::from_millis(400),
            ..HeartbeatConfig::default()
        },
        health: HealthConfig { critical_interval: Duration::from_millis(200), ..HealthConfig::default() },
        consensus: ConsensusConfig::default(),
        supervision: SupervisionConfig::default(),
        stop_deadline: Duration::from_secs(8),
        faults: FaultsConfig { enabled: true },
        log: LogConfig::default(),
    }
}
