//! A link between two members without sockets. Frames, hellos and envelopes are encoded and decoded as on a real link;
//! `ractor_cluster` sessions are not opened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::Clock;
use alys_cluster::event::EventBus;
use alys_cluster::id::{Incarnation, NodeId};
use alys_cluster::transport::connection::{Halves, Inbound};
use alys_cluster::transport::hello::{Hello, VERSION};
use alys_cluster::transport::{Bounds, Connection, PeerChannel, PeerChannels, RejectionLog};
use tokio::io::DuplexStream;

/// Capacity of the pipe between the ends, in bytes.
const PIPE_BYTES: usize = 64 * 1024;

/// Bounds that no test exceeds by accident.
pub const BOUNDS: Bounds =
    Bounds { frames_max: 4_096, bytes_max: 16 * 1024 * 1024, idle: Duration::from_hours(1) };

/// One end of a link: the parts of a member that links need.
#[derive(Clone)]
pub struct End {
    /// Hello that it sends.
    pub hello: Hello,
    /// Channels to its peers.
    pub channels: PeerChannels,
    /// Bounds of its connections.
    pub bounds: Bounds,
    /// Clock of the member.
    pub clock: Arc<dyn Clock>,
}

/// An established link; dropping it cuts it.
pub struct Wire {
    /// Connection of each end.
    pub connections: [Arc<Connection>; 2],
    /// Streams that `ractor_cluster` sessions would use.
    _sessions: [DuplexStream; 2],
    channels: [Arc<PeerChannel>; 2],
}

impl End {
    /// Creates a member with a channel to each of `peers`.
    pub fn new(
        node: &NodeId,
        incarnation: u64,
        peers: &[&NodeId],
        clock: Arc<dyn Clock>,
        events: &EventBus,
    ) -> Self {
        let refusals = RejectionLog::new(clock.clone(), events.clone());
        let line =
            |peer: &&NodeId| ((*peer).clone(), Arc::new(PeerChannel::new((*peer).clone(), refusals.clone())));
        let channels: BTreeMap<_, _> = peers.iter().map(line).collect();
        let hello = Hello::new(node.clone(), Incarnation(incarnation), [7; 32], VERSION);
        Self { hello, channels: Arc::new(channels), bounds: BOUNDS, clock }
    }

    /// The channel to `peer`.
    ///
    /// # Panics
    ///
    /// If `peer` is not a peer of this member.
    pub fn line(&self, peer: &NodeId) -> Arc<PeerChannel> {
        self.channels.get(peer).expect("a peer").clone()
    }

    /// Connects this end of `stream` to the member with the hello `theirs`, and makes it the connection of that peer's
    /// channel.
    ///
    /// # Panics
    ///
    /// If the two hellos do not fit together.
    pub fn connect(
        &self,
        theirs: &Hello,
        stream: DuplexStream,
        inbound: Arc<dyn Inbound>,
    ) -> (Arc<Connection>, DuplexStream) {
        let theirs = Hello::decode(theirs.encode().into()).expect("a greeting");
        let info = self.hello.meet(&theirs, Some(&theirs.node)).expect("members of one federation");
        let line = self.line(&info.peer);
        line.admits(info.incarnation, info.instance).expect("no earlier incarnation");
        let (counters, clock) = (line.counters().clone(), self.clock.clone());
        let started = Connection::start(info, Halves::new(stream), self.bounds, counters, clock, inbound);
        line.take(Some(started.0.clone()));
        started
    }
}

impl Wire {
    /// Links two members; each end passes received envelopes to its [`Inbound`].
    pub fn between(one: (&End, Arc<dyn Inbound>), other: (&End, Arc<dyn Inbound>)) -> Self {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let (here, here_session) = one.0.connect(&other.0.hello, near, one.1);
        let (there, there_session) = other.0.connect(&one.0.hello, far, other.1);
        let channels = [one.0.line(&other.0.hello.node), other.0.line(&one.0.hello.node)];
        Self { connections: [here, there], _sessions: [here_session, there_session], channels }
    }
}

impl Drop for Wire {
    /// Cuts the link: both ends have no connection until another is made.
    fn drop(&mut self) {
        for (line, connection) in self.channels.iter().zip(&self.connections) {
            connection.end("the wire was cut");
            let current = line.connection();
            if current.is_some_and(|current| Arc::ptr_eq(&current, connection)) {
                line.take(None);
            }
        }
    }
}
