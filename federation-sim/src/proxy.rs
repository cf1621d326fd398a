//! A TCP proxy between two members, used to cut and delay their links.
//!
//! Of each pair, the member with the greater name dials, so there is one proxy in front of the lesser one. It carries
//! two directed links:
//!
//! ```text
//! node-2 ──dials──► proxy ──dials──► node-1
//!          node-2>node-1  ─────────►
//!          ◄─────────  node-1>node-2
//! ```
//!
//! A cut link holds all bytes it is given, and the end of the stream, like a network that drops packets which the
//! sender keeps retransmitting: connections stay open, and once healed, the held bytes are delivered in order. A
//! connection made while either direction is cut is accepted and held as well. Delay is latency, not bandwidth: each
//! chunk is delayed by its own time.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::clock;
use crate::link::Link;

/// Maximum bytes held per direction of a connection; beyond it the sender has to wait.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Maximum bytes moved at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Maximum chunks held per direction. No chunk is empty, so many small chunks reach this limit first.
const HELD_CHUNKS_MAX: usize = 16_384;
/// Interval between two checks whether a held connection was closed.
const HELD_LOOK: Duration = Duration::from_millis(50);
/// Pause after a connection could not be accepted, so that a lack of file descriptors causes no busy loop.
const ACCEPT_REST: Duration = Duration::from_millis(50);

const _: () = assert!(CHUNK_BYTES <= HELD_BYTES_MAX, "a chunk must fit into what may be held");

/// State of a directed link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Condition {
    cut: bool,
    delay: Duration,
}

/// Controls one directed link.
#[derive(Clone, Debug)]
pub(crate) struct Switch(Arc<watch::Sender<Condition>>);

impl Default for Switch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Condition::default())))
    }
}

impl Switch {
    /// Holds all bytes from now on: once this returns, no byte passes.
    ///
    /// Bytes pass only under a shared lock on the condition; this takes the lock exclusively.
    fn cut(&self) {
        self.0.send_modify(|condition| condition.cut = true);
    }

    /// Removes the cut and the delay.
    fn heal(&self) {
        self.0.send_modify(|condition| *condition = Condition::default());
    }

    /// Adds latency to bytes sent from now on.
    fn delay(&self, delay: Duration) {
        self.0.send_modify(|condition| condition.delay = delay);
    }

    fn current_delay(&self) -> Duration {
        self.0.borrow().delay
    }

    async fn healed(&self) {
        let healed = self.0.subscribe().wait_for(|condition| !condition.cut).await.map(drop);
        healed.expect("the switch holds the sender of its own condition");
    }

    /// Runs `operation` unless the link is cut. The link cannot be cut while it runs.
    fn unless_cut<T>(&self, operation: impl FnOnce() -> T) -> Option<T> {
        let condition = self.0.borrow();
        (!condition.cut).then(operation)
    }
}

/// One proxy per pair of members.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    addresses: BTreeMap<(String, String), SocketAddr>,
    switches: BTreeMap<Link, Switch>,
    listeners: Vec<Listener>,
}

impl Proxies {
    /// Starts a proxy in front of `target` for `dialler`.
    pub(crate) async fn add(&mut self, dialler: &str, target: &str, upstream: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (forth, back) = (Switch::default(), Switch::default());
        self.addresses.insert((dialler.to_owned(), target.to_owned()), listener.local_addr()?);
        self.switches.insert(Link::new(dialler, target), forth.clone());
        self.switches.insert(Link::new(target, dialler), back.clone());
        self.listeners.push(Listener(tokio::spawn(listen(listener, upstream, forth, back))));
        Ok(())
    }

    /// Address at which `dialler` reaches `target`, if there is a proxy between them.
    pub(crate) fn address(&self, dialler: &str, target: &str) -> Option<SocketAddr> {
        self.addresses.get(&(dialler.to_owned(), target.to_owned())).copied()
    }

    /// Cuts a link. Returns false if there is no such link.
    pub(crate) fn cut(&self, link: &Link) -> bool {
        self.switches.get(link).map(Switch::cut).is_some()
    }

    /// Heals a link. Returns false if there is no such link.
    pub(crate) fn heal(&self, link: &Link) -> bool {
        self.switches.get(link).map(Switch::heal).is_some()
    }

    /// Delays a link. Returns false if there is no such link.
    pub(crate) fn delay(&self, link: &Link, by: Duration) -> bool {
        self.switches.get(link).map(|switch| switch.delay(by)).is_some()
    }
}

/// The accepting task; aborted, with all its connections, when dropped.
#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(listener: TcpListener, upstream: SocketAddr, forth: Switch, back: Switch) {
    // Dropping this with the task closes every connection.
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (forth, back) = (forth.clone(), back.clone());
                connections.spawn(async move {
                    // Errors are ignored: both sides see the connection close.
                    let _ = carry(client, upstream, forth, back).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_REST).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection until either side closes it and the other side has been notified.
async fn carry(client: TcpStream, upstream: SocketAddr, forth: Switch, back: Switch) -> io::Result<()> {
    client.set_nodelay(true)?;
    let both_healed = async {
        loop {
            forth.healed().await;
            back.healed().await;
            if forth.unless_cut(|| ()).is_some() {
                return;
            }
        }
    };
    tokio::select! {
        () = both_healed => {}
        () = closed(&client) => return Ok(()),
    }
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let forth_flow = pin!(flow(client_reads, server_writes, forth.clone()));
    let mut back_flow = pin!(flow(server_reads, client_writes, back.clone()));
    tokio::select! {
        // The end of one direction ends both, because a side that closes has stopped reading. But if the receiver is
        // gone, the sender must not learn of it through a cut link.
        ended = forth_flow => tokio::select! {
            _ = &mut back_flow => ended,
            () = back.healed() => ended,
        },
        ended = &mut back_flow => {
            forth.healed().await;
            ended
        }
    }
}

/// Returns once the other end has closed `stream`, even if unread bytes are left in it.
async fn closed(stream: &TcpStream) {
    loop {
        match stream.ready(Interest::READABLE).await {
            Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(HELD_LOOK).await,
            _ => return,
        }
    }
}

/// Bytes in transit.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// Share of [`HELD_BYTES_MAX`], released once the bytes have been written.
    _room: OwnedSemaphorePermit,
}

/// Carries one direction until the end of its stream has been delivered.
async fn flow(from: OwnedReadHalf, to: OwnedWriteHalf, switch: Switch) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(HELD_CHUNKS_MAX);
    tokio::try_join!(take(from, sender, &switch), give(receiver, to, &switch)).map(drop)
}

/// Reads chunks and computes their delivery times. Dropping the sender marks the end of the stream.
async fn take(mut from: OwnedReadHalf, sender: mpsc::Sender<Chunk>, switch: &Switch) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(HELD_BYTES_MAX));
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A reset is treated as the end of the stream, and must not overtake held bytes either.
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return Ok(());
        }
        let due = Instant::from_std(clock::instant()) + switch.current_delay();
        let permits = u32::try_from(count).expect("a chunk is smaller than 4 GiB");
        let room = Arc::clone(&room).acquire_many_owned(permits).await;
        let room = room.expect("the semaphore is never closed");
        let chunk = Chunk { due, bytes: buffer[..count].to_vec(), _room: room };
        if sender.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes chunks in order once they are due, while the link is not cut.
async fn give(
    mut receiver: mpsc::Receiver<Chunk>,
    mut to: OwnedWriteHalf,
    switch: &Switch,
) -> io::Result<()> {
    while let Some(chunk) = receiver.recv().await {
        // After a delay is shortened, later chunks can catch up with earlier ones but not overtake them.
        tokio::time::sleep_until(chunk.due).await;
        let mut rest = chunk.bytes.as_slice();
        while !rest.is_empty() {
            switch.healed().await;
            to.writable().await?;
            match switch.unless_cut(|| to.try_write(rest)) {
                None => {}
                Some(Ok(written)) => rest = &rest[written..],
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Some(Err(error)) => return Err(error),
            }
        }
    }
    // The end of the stream is held by a cut link as well.
    tokio::time::sleep(switch.current_delay()).await;
    switch.healed().await;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(5);

    /// A proxy from b to a, with both ends of one connection through it.
    struct Pair {
        proxies: Proxies,
        listener: TcpListener,
        b: TcpStream,
        a: TcpStream,
    }

    async fn pair() -> Pair {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let mut proxies = Proxies::default();
        let upstream = listener.local_addr().expect("an address");
        proxies.add("b", "a", upstream).await.expect("a proxy");
        let (b, a) = connection(&proxies, &listener).await;
        Pair { proxies, listener, b, a }
    }

    async fn connection(proxies: &Proxies, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let b = TcpStream::connect(proxies.address("b", "a").expect("a proxy")).await.expect("connects");
        (b, accepted(listener).await.expect("is carried through"))
    }

    async fn accepted(listener: &TcpListener) -> Option<TcpStream> {
        timeout(SOON, listener.accept()).await.ok().map(|accepted| accepted.expect("accepts").0)
    }

    /// Bytes that arrive soon: empty at the end of the stream, `None` if nothing arrives.
    async fn arrives(stream: &mut TcpStream) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1024];
        let count = timeout(SOON, stream.read(&mut buffer)).await.ok()?.expect("reads");
        buffer.truncate(count);
        Some(buffer)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways() {
        let Pair { proxies: _proxies, mut a, mut b, .. } = pair().await;
        b.write_all(b"ping").await.expect("writes");
        assert_eq!(arrives(&mut a).await.as_deref(), Some(&b"ping"[..]));
        a.write_all(b"pong").await.expect("writes");
        assert_eq!(arrives(&mut b).await.as_deref(), Some(&b"pong"[..]));
    }

    #[tokio::test]
    async fn a_cut_direction_holds_bytes_and_the_other_does_not() {
        let Pair { proxies, mut a, mut b, .. } = pair().await;
        let link = Link::new("b", "a");
        assert!(proxies.cut(&link));
        b.write_all(b"held").await.expect("writes");
        assert_eq!(arrives(&mut a).await, None);
        a.write_all(b"free").await.expect("writes");
        assert_eq!(arrives(&mut b).await.as_deref(), Some(&b"free"[..]));
        assert!(proxies.heal(&link));
        assert_eq!(arrives(&mut a).await.as_deref(), Some(&b"held"[..]));
    }

    #[tokio::test]
    async fn the_end_of_a_stream_does_not_pass_a_cut_link() {
        let Pair { proxies, mut a, mut b, .. } = pair().await;
        proxies.cut(&Link::new("b", "a"));
        b.write_all(b"last words").await.expect("writes");
        drop(b);
        assert_eq!(arrives(&mut a).await, None);
        proxies.heal(&Link::new("b", "a"));
        assert_eq!(arrives(&mut a).await.as_deref(), Some(&b"last words"[..]));
        assert_eq!(arrives(&mut a).await.as_deref(), Some(&b""[..]));
    }

    #[tokio::test]
    async fn a_receiver_that_is_gone_is_not_noticed_through_a_cut_link() {
        let Pair { proxies, a, mut b, .. } = pair().await;
        proxies.cut(&Link::new("a", "b"));
        // Unread bytes turn the close into a reset.
        b.write_all(b"unread").await.expect("writes");
        timeout(LONG, a.readable()).await.expect("in time").expect("they are there");
        drop(a);
        for _ in 0..3 {
            b.write_all(b"more").await.expect("writes");
            assert_eq!(arrives(&mut b).await, None);
        }
        proxies.heal(&Link::new("a", "b"));
        assert_eq!(arrives(&mut b).await.as_deref(), Some(&b""[..]));
    }

    #[tokio::test]
    async fn when_one_side_closes_so_does_the_other() {
        let Pair { proxies: _proxies, mut b, a, .. } = pair().await;
        drop(a);
        assert_eq!(arrives(&mut b).await.as_deref(), Some(&b""[..]));
    }

    #[tokio::test]
    async fn a_new_connection_waits_until_the_link_is_healed() {
        let Pair { proxies, listener, .. } = pair().await;
        proxies.cut(&Link::new("a", "b"));
        let address = proxies.address("b", "a").expect("a proxy");
        let mut b = TcpStream::connect(address).await.expect("is accepted");
        b.write_all(b"hello").await.expect("writes");
        assert!(accepted(&listener).await.is_none());
        proxies.heal(&Link::new("a", "b"));
        let mut a = accepted(&listener).await.expect("is carried through");
        assert_eq!(arrives(&mut a).await.as_deref(), Some(&b"hello"[..]));
    }

    #[tokio::test]
    async fn a_held_connection_that_was_given_up_never_arrives() {
        let Pair { proxies, listener, .. } = pair().await;
        proxies.cut(&Link::new("b", "a"));
        let address = proxies.address("b", "a").expect("a proxy");
        let mut b = TcpStream::connect(address).await.expect("is accepted");
        b.write_all(b"hello").await.expect("writes");
        b.shutdown().await.expect("gives up");
        // The proxy closes its side once it has noticed, even with unread bytes left.
        let closed = timeout(LONG, b.read(&mut [0])).await.expect("in time");
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        proxies.heal(&Link::new("b", "a"));
        assert!(accepted(&listener).await.is_none());
    }

    #[tokio::test]
    async fn a_delay_is_latency_and_not_bandwidth() {
        let Pair { proxies, mut a, mut b, .. } = pair().await;
        let delay = Duration::from_millis(300);
        proxies.delay(&Link::new("b", "a"), delay);
        let begun = clock::instant();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for part in sent.chunks(10_000) {
            b.write_all(part).await.expect("writes");
        }
        let mut received = vec![0; sent.len()];
        timeout(LONG, a.read_exact(&mut received)).await.expect("in time").expect("reads");
        assert_eq!(received, sent);
        assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_on_their_way_wait_side_by_side() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (mut far, _) = listener.accept().await.expect("accepts");
        let (sender, receiver) = mpsc::channel(100);
        let room = Arc::new(Semaphore::new(100));
        let (begun, delay) = (Instant::now(), Duration::from_mins(1));
        for n in 0..100 {
            let room = Arc::clone(&room).acquire_owned().await.expect("there is room");
            let chunk = Chunk { due: begun + delay, bytes: vec![n], _room: room };
            assert!(sender.send(chunk).await.is_ok(), "nobody has gone");
        }
        drop(sender);
        give(receiver, near.into_split().1, &Switch::default()).await.expect("gives");
        // Only sleeping advances the clock.
        let took = begun.elapsed();
        assert!(took >= delay && took < delay * 2, "{took:?}");
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.expect("reads");
        assert_eq!(received, (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_cut_link_takes_no_more_than_it_may_hold() {
        let Pair { proxies, a: _a, mut b, .. } = pair().await;
        proxies.cut(&Link::new("b", "a"));
        let part = vec![0; CHUNK_BYTES];
        let mut sent = 0;
        while timeout(SOON, b.write_all(&part)).await.is_ok() {
            sent += part.len();
            assert!(sent < 64 * HELD_BYTES_MAX, "the sender was never made to wait");
        }
    }

    #[tokio::test]
    async fn a_link_that_is_not_there_can_not_be_cut() {
        let Pair { proxies, .. } = pair().await;
        assert!(!proxies.cut(&Link::new("a", "c")));
    }
}
