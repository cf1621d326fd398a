//! Configures peer addresses and link behaviour.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hello::{VERSION, VERSION_MIN};
use crate::config::{FieldError, require, require_between};
use crate::id::NodeId;
use crate::transport::identity::LIFETIME_MAX;

/// Address of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// Name of the peer in genesis.
    pub name: NodeId,
    /// Address where the peer's link listens. Only the member with the greater name dials it.
    #[serde(with = "crate::config::socket_address")]
    pub address: SocketAddr,
}

/// Link configuration of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Address where this member listens for peers, which authenticate with their genesis keys. No default.
    #[serde(with = "crate::config::socket_address")]
    pub listen: SocketAddr,
    /// Every other member in genesis. No default.
    pub peers: Vec<PeerConfig>,
    /// Maximum number of envelopes queued for one peer before some are dropped. 16 to 65,536. Default 4,096.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// Maximum bytes of envelopes queued for one peer before some are dropped: the memory that a peer which reads
    /// nothing can cost. 4 MiB (two of the largest envelopes) to 1 GiB. Default 16 MiB.
    #[serde(default = "default_queue_bytes")]
    pub queue_bytes: usize,
    /// Timeout for connecting and authenticating together, and again for establishing a session after that. 50 ms to 5
    /// s. Default 1 s.
    #[serde(default = "default_handshake", with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Idle time after which a connection is closed; the peer is pinged four times within it. 500 ms to 10 min. Default
    /// 4 s: longer than any suspicion of the failure detector, shorter than TCP's own timeouts.
    #[serde(default = "default_stale", with = "humantime_serde")]
    pub stale_after: Duration,
    /// Delay before the first redial; it doubles up to `redial_max`. 10 ms to 10 s. Default 50 ms.
    #[serde(default = "default_redial_min", with = "humantime_serde")]
    pub redial_min: Duration,
    /// Longest delay between two dials. `redial_min` to 60 s. Default 400 ms: a returning peer is linked well within a
    /// slot.
    #[serde(default = "default_redial_max", with = "humantime_serde")]
    pub redial_max: Duration,
    /// Newest link version to offer. For a careful upgrade, keep the older one until every member has been replaced.
    /// Default: the newest known.
    #[serde(default = "default_version")]
    pub version: u32,
    /// Lifetime of this member's certificates, from their creation. A new one is made when half of it has passed;
    /// established links are not affected. 1 min to 90 d. Default 7 d: a member whose clock is off by a day can still
    /// connect to all others. Below 2 d, members tolerate a clock error of at most half the lifetime.
    #[serde(default = "default_certificate", with = "humantime_serde")]
    pub certificate_lifetime: Duration,
}

fn default_queue_bytes() -> usize {
    16 * 1024 * 1024
}

fn default_version() -> u32 {
    VERSION
}

fn default_queue() -> usize {
    4_096
}

fn default_handshake() -> Duration {
    Duration::from_secs(1)
}

fn default_stale() -> Duration {
    Duration::from_secs(4)
}

fn default_redial_min() -> Duration {
    Duration::from_millis(50)
}

fn default_redial_max() -> Duration {
    Duration::from_millis(400)
}

fn default_certificate() -> Duration {
    Duration::from_hours(7 * 24)
}

impl LinkConfig {
    /// Creates the default configuration for a member that listens on `listen` and has these peers.
    pub fn new(listen: SocketAddr, peers: Vec<PeerConfig>) -> Self {
        Self {
            listen,
            peers,
            queue: default_queue(),
            queue_bytes: default_queue_bytes(),
            handshake_timeout: default_handshake(),
            stale_after: default_stale(),
            redial_min: default_redial_min(),
            redial_max: default_redial_max(),
            version: default_version(),
            certificate_lifetime: default_certificate(),
        }
    }

    /// Checks ranges and relations.
    pub fn validate(&self) -> Result<(), FieldError> {
        for peer in &self.peers {
            let is_address = !peer.address.ip().is_unspecified() && peer.address.port() != 0;
            require(is_address, "peers.address", peer.address, "an address that can be dialled")?;
        }
        require((16..=65_536).contains(&self.queue), "queue", self.queue, "16 to 65536")?;
        let range = 4 * 1024 * 1024..=1024 * 1024 * 1024;
        require(range.contains(&self.queue_bytes), "queue_bytes", self.queue_bytes, "4194304 to 1073741824")?;
        let spoken = VERSION_MIN..=VERSION;
        require(spoken.contains(&self.version), "version", self.version, "1 or 2")?;
        let range = (Duration::from_millis(50), Duration::from_secs(5));
        require_between("handshake_timeout", self.handshake_timeout, range, "between 50ms and 5s")?;
        let range = (Duration::from_millis(500), Duration::from_mins(10));
        require_between("stale_after", self.stale_after, range, "between 500ms and 10m")?;
        let range = (Duration::from_millis(10), Duration::from_secs(10));
        require_between("redial_min", self.redial_min, range, "between 10ms and 10s")?;
        let range = (self.redial_min, Duration::from_mins(1));
        require_between("redial_max", self.redial_max, range, "between redial_min and 60s")?;
        let range = (Duration::from_mins(1), LIFETIME_MAX);
        require_between("certificate_lifetime", self.certificate_lifetime, range, "between 1min and 90days")
    }
}
