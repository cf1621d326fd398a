//! Attacks a member's link port with many unauthenticated connections.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::SystemClock;
use alys_cluster::federation::Roster;
use alys_cluster::id::NodeId;
use alys_cluster::transport::Trust;
use alys_node::certificate_signer::LinkCertificateSigner;
use alys_node::genesis::{Genesis, GenesisFile, GenesisMember};
use alys_node::keys::SecretKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::proc;

/// Number of concurrent connections.
const CONCURRENT: usize = 256;
/// Maximum time a connection without authentication may stay open.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Time after which the attack stops waiting for a connection to close.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum growth of the member's resident memory, in bytes.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Number of source addresses, so that there are enough ephemeral ports.
const SOURCES: usize = 64;
/// Number of connections between two memory measurements.
const LOOK: usize = 64;

/// Behaviour of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Closes at once.
    Gone,
    /// Sends nothing and waits.
    Silent,
    /// Sends random bytes.
    Garbage,
    /// Sends the beginning of a TLS record and waits.
    Partial,
    /// Sends frames without TLS.
    Plain,
    /// Aborts a TLS handshake midway, because it does not accept the member's certificate.
    Handshake,
}

const KINDS: [Kind; 6] =
    [Kind::Gone, Kind::Silent, Kind::Garbage, Kind::Partial, Kind::Plain, Kind::Handshake];

/// Connections made, and their cost to the member.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    made: BTreeMap<Kind, usize>,
    longest: Duration,
    before: u64,
    most: u64,
    after: u64,
    /// Duration of the attack.
    pub(crate) took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made: usize = self.made.values().sum();
        let kinds = self.made.iter().map(|(kind, count)| format!("{count} {kind:?}").to_lowercase());
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{made} connections ({}) in {:.1} s, the longest open for {:.2} s; memory {:.1} MiB before, {:.1} at most, \
             {:.1} after",
            kinds.collect::<Vec<_>>().join(", "),
            self.took.as_secs_f64(),
            self.longest.as_secs_f64(),
            mib(self.before),
            mib(self.most),
            mib(self.after)
        )
    }
}

/// Opens `connections` to a member's link port, cycling through all kinds. `pid` is the member's process.
pub(crate) async fn strike(target: SocketAddr, connections: usize, pid: u32) -> Result<Tally, String> {
    let memory = || proc::resident_bytes(pid).ok_or("the member's process is gone".to_owned());
    let (stranger, begun) = (stranger(), Instant::now());
    let before = memory()?;
    let mut tally = Tally {
        made: BTreeMap::new(),
        longest: Duration::ZERO,
        before,
        most: before,
        after: before,
        took: Duration::ZERO,
    };
    let mut under_way = JoinSet::new();
    let mut left = connections;
    while left > 0 || !under_way.is_empty() {
        if left > 0 && under_way.len() < CONCURRENT {
            let (kind, source) = (KINDS[left % KINDS.len()], left % SOURCES);
            *tally.made.entry(kind).or_default() += 1;
            under_way.spawn(visit(target, kind, source as u8, stranger.clone()));
            left -= 1;
            if left.is_multiple_of(LOOK) {
                tally.most = tally.most.max(memory()?);
            }
            continue;
        }
        if let Some(open) = under_way.join_next().await {
            let open = open.map_err(|panic| panic.to_string())??;
            tally.longest = tally.longest.max(open);
        }
    }
    tally.after = memory()?;
    tally.most = tally.most.max(tally.after);
    tally.took = begun.elapsed();
    if tally.longest > OPEN_MAX {
        return Err(format!(
            "a connection stayed open for {:?}; expected at most {OPEN_MAX:?}",
            tally.longest
        ));
    }
    if tally.most - tally.before > GROWTH_BYTES_MAX {
        return Err(format!("{tally}; expected a growth of at most {} MiB", GROWTH_BYTES_MAX >> 20));
    }
    Ok(tally)
}

/// Makes one connection and returns how long it stayed open.
async fn visit(
    target: SocketAddr,
    kind: Kind,
    source: u8,
    stranger: (Trust, NodeId),
) -> Result<Duration, String> {
    let failed = |error: std::io::Error| format!("a stranger got no connection: {error}");
    let socket = TcpSocket::new_v4().map_err(failed)?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, source + 1), 0))).map_err(failed)?;
    let mut stream =
        timeout(PATIENCE, socket.connect(target)).await.map_err(|late| late.to_string())?.map_err(failed)?;
    let begun = Instant::now();
    // Write errors are ignored: the member may have closed the connection already.
    match kind {
        Kind::Gone => return Ok(Duration::ZERO),
        Kind::Silent => {}
        Kind::Garbage => drop(stream.write_all(&rand::random::<[u8; 32]>().repeat(128)).await),
        Kind::Partial => drop(stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await),
        Kind::Plain => drop(stream.write_all(&[0, 0, 0, 9, 2, 0, 0, 0, 0, 0, 0, 0, 0]).await),
        Kind::Handshake => {
            let (trust, name) = stranger;
            let refused = timeout(PATIENCE, trust.connect(stream, &name)).await;
            return match refused {
                Ok(Err(_)) => Ok(begun.elapsed()),
                Ok(Ok(_)) => Err("a member was taken for one of another federation".to_owned()),
                Err(_) => Err(format!("a handshake was open after {PATIENCE:?}")),
            };
        }
    }
    closed(stream).await?;
    Ok(begun.elapsed())
}

async fn closed(mut stream: TcpStream) -> Result<(), String> {
    let mut bytes = [0; 256];
    let closed = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, closed).await.map_err(|_| format!("a connection was open after {PATIENCE:?}"))
}

/// Credentials of a member of another federation, and the name of the peer it expects.
fn stranger() -> (Trust, NodeId) {
    let names = ["stranger-1", "stranger-2", "stranger-3", "stranger-4"]
        .map(|name| NodeId::new(name).expect("a name"));
    let keys = [1u8, 2, 3, 4].map(|number| SecretKey::from_seed(&[number; 32]));
    let members = names.iter().zip(&keys).map(|(name, key)| GenesisMember {
        name: name.clone(),
        public_key: key.public_key().to_string(),
        proof_of_possession: key.prove_possession(),
    });
    let (chain_id, block_time) = ("strangers".to_owned(), Duration::from_secs(1));
    let genesis = GenesisFile { chain_id, block_time, members: members.collect() };
    let genesis = Genesis::check(&genesis).expect("a genesis");
    let roster = Roster::new(names.to_vec(), &names[0]).expect("a member");
    let (certificate_signer, clock) =
        (Arc::new(LinkCertificateSigner::new(&genesis, keys[0].clone())), Arc::new(SystemClock::default()));
    let trust = Trust::tls(&roster, genesis.hash(), certificate_signer, Duration::from_hours(1), clock);
    (trust.expect("a certificate"), names[1].clone())
}
