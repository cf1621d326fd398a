//! Runs one connection to one incarnation of a peer: its tasks, a bounded send queue, and the pending requests.
//!
//! A connection carries two streams in separate frames: that of `ractor_cluster`, which owns the session, and
//! envelopes, which take the short path from the sender's thread to the socket and from the socket to the addressed
//! actor. `ractor_cluster`'s own path takes six tasks and unbounded queues (`docs/adr/0006-two-planes.md`).
//!
//! ```text
//!   PeerChannel::send ─► SendQueue ─► writer ─► socket ─► reader ─► Inbound (InboundRouter) ─► the addressed actor
//!   NodeSession ◄── duplex ──► writer / reader ◄── control frames ──► the peer's NodeSession
//! ```
//!
//! Watches and their notifications are queued separately, where nothing displaces them, because nobody would resend
//! them.
//!
//! Queued frames are written together; nothing is delayed to form a larger batch. Silence for the idle time ends the
//! connection.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use foldhash::fast::FixedState;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::counted::Counted;
use super::envelope::{Body, Envelope, Lane};
use super::error::{AskError, Unsent};
use super::frame::{self, Frame, Kind};
use super::hello::PeerInfo;
use super::presence::{Identity, Instance};
use super::queue::{Pushed, SendQueue};
use super::statistics::{Count, Counters};
use crate::clock::{Clock, Moment};
use crate::id::{Incarnation, NodeId};

/// Maximum bytes written at once, unless a single frame is larger.
const WRITE_BYTES_MAX: usize = 128 * 1024;
/// Maximum bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Size of the buffer between `ractor_cluster`'s stream and the socket, in bytes.
const CONTROL_BYTES: usize = 64 * 1024;
/// Burst of control bytes a peer may send to `ractor_cluster`, whose queues are unbounded: handshake messages and the
/// list of one remotable actor take less than a kilobyte, and every five bytes may advertise one more actor.
const CONTROL_BURST: u64 = 16 * 1024;
/// Sustained rate of control bytes beyond the burst, per second: pings and changes of remotable actors.
const CONTROL_PER_SECOND: u64 = 1024;
/// Maximum number of queued pongs; further pings are answered later or not at all.
const PONGS_MAX: usize = 8;
/// Timeout of an orderly shutdown of the connection.
const FAREWELL: Duration = Duration::from_millis(200);
/// Number of silent quarters of the idle time after which the connection is closed.
const SILENCES_MAX: u32 = 4;
/// Maximum number of pending requests and watches.
pub const UNDER_WAY_MAX: usize = 4_096;
/// Maximum number of queued notices: watches, their notifications, and other frames that must not be dropped. If a peer
/// reads none of them, the connection is closed, because its watches can no longer be relied on.
pub const NOTICES_MAX: usize = 4_096;
/// Maximum length of the reason in a notice, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// Receives what a peer sends.
pub trait Inbound: Send + Sync + 'static {
    /// Delivers one envelope to its recipient without waiting, or returns why not.
    fn take(&self, from: &Arc<Connection>, envelope: Envelope) -> Result<(), String>;
    /// Called when the peer ends the connection with this reason.
    fn refused(&self, _: &NodeId, _reason: &str) {}
    /// Handles a frame about which process holds a member's key.
    fn identity(&self, _: &Arc<Connection>, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Maximum number of queued frames.
    pub frames_max: usize,
    /// Maximum number of queued bytes.
    pub bytes_max: usize,
    /// Silence after which the connection is closed.
    pub idle: Duration,
}

enum Waiting {
    Answer(oneshot::Sender<Result<Bytes, String>>),
    Down(oneshot::Sender<Ending>),
}

/// How a watch ended while its connection was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The actor stopped, for this reason.
    Down(String),
    /// The peer refused the watch, for this reason.
    Refused(String),
}

/// A connection. It ends once, for one reason; then nothing is sent any more and every pending request fails.
pub struct Connection {
    info: PeerInfo,
    bounds: Bounds,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    queue: Mutex<SendQueue>,
    notices: Mutex<VecDeque<Bytes>>,
    wake: Notify,
    pongs: Mutex<Vec<Bytes>>,
    ping: Mutex<Option<(u64, Moment)>>,
    ping_due: AtomicBool,
    under_way: Mutex<HashMap<u64, Waiting, FixedState>>,
    /// Answers to the peer's requests, for the task that polls them.
    serves: UnboundedSender<BoxFuture<'static, ()>>,
    /// Number of answers that task is polling.
    serving: AtomicUsize,
    /// The peer's watches on this member's actors.
    served: Mutex<HashMap<u64, AbortHandle>>,
    last_id: AtomicU64,
    end: CancellationToken,
    reason: OnceLock<String>,
}

/// Both halves of an authenticated stream, including bytes read beyond the hello.
pub struct Halves<S> {
    /// Read half, split into frames.
    pub read: FramedRead<ReadHalf<S>, LengthDelimitedCodec>,
    /// Write half.
    pub write: WriteHalf<S>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + AsyncWrite> Halves<S> {
    /// Splits a stream on which nothing was sent yet.
    pub fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { read: FramedRead::new(read, frame::lengths(Kind::Hello)), write }
    }
}

/// Describes a write error. An orderly close by the peer may show up as a write error before it is read.
fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::BrokenPipe => "the connection was closed".to_owned(),
        _ => format!("the connection failed: {error}"),
    }
}

/// Truncates `reason` to the length that is sent.
fn cut(reason: &str) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    reason[..end].to_owned()
}

/// Removes a pending request when its caller stops waiting.
struct Question<'a>(&'a Connection, u64);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        locked(&self.0.under_way).remove(&self.1);
    }
}

/// A watch on an actor of the peer; dropping it ends the watch.
pub struct Watching {
    connection: Arc<Connection>,
    id: u64,
    down: oneshot::Receiver<Ending>,
}

impl Watching {
    /// Waits for the actor to stop and returns the reason; `None` if the connection ended first.
    pub async fn down(&mut self) -> Option<Ending> {
        (&mut self.down).await.ok()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if locked(&self.connection.under_way).remove(&self.id).is_some() {
            // If the connection is ending, so is the watch.
            let _ = self.connection.notify(Body::Unwatch { id: self.id });
        }
    }
}

/// Rate limiter for control bytes; see [`CONTROL_BURST`].
struct ControlBudget {
    left: u64,
    since: Moment,
}

impl ControlBudget {
    fn spend(&mut self, now: Moment, bytes: u64) -> bool {
        let earned = now.since(self.since).as_millis() as u64 * CONTROL_PER_SECOND / 1_000;
        if earned > 0 {
            self.since = now;
            self.left = (self.left + earned).min(CONTROL_BURST);
        }
        let is_within = bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        is_within
    }
}

/// Ends the connection if the task that holds this panics.
struct EndOnDrop(Arc<Connection>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end("its task ended");
    }
}

impl Connection {
    /// Starts the tasks on `halves`; returns the connection and `ractor_cluster`'s end of the control stream.
    pub fn start<S>(
        info: PeerInfo,
        halves: Halves<S>,
        bounds: Bounds,
        counters: Arc<Counters>,
        clock: Arc<dyn Clock>,
        inbound: Arc<dyn Inbound>,
    ) -> (Arc<Self>, DuplexStream)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (serves, to_answer) = unbounded_channel();
        let connection = Arc::new(Self {
            serves,
            serving: AtomicUsize::new(0),
            queue: Mutex::new(SendQueue::new(bounds.frames_max, bounds.bytes_max)),
            notices: Mutex::default(),
            info,
            bounds,
            counters,
            clock,
            wake: Notify::new(),
            pongs: Mutex::default(),
            ping: Mutex::default(),
            ping_due: AtomicBool::new(false),
            under_way: Mutex::default(),
            served: Mutex::default(),
            last_id: AtomicU64::new(0),
            end: CancellationToken::new(),
            reason: OnceLock::new(),
        });
        let (near, far) = tokio::io::duplex(CONTROL_BYTES);
        let (control_out, control_in) = tokio::io::split(near);
        let Halves { read, write } = halves;
        // Bytes read beyond the hello move to a buffer of another size.
        let rest = read.read_buffer().clone();
        let mut read = FramedRead::with_capacity(
            Counted::new(read.into_inner()),
            frame::lengths(Kind::Envelope),
            READ_BYTES,
        );
        read.read_buffer_mut().extend_from_slice(&rest);
        let (writes, reads, answers) = (connection.clone(), connection.clone(), connection.clone());
        tokio::spawn(async move {
            let end = EndOnDrop(answers.clone());
            answers.answer(to_answer).await;
            drop(end);
        });
        tokio::spawn(async move {
            let end = EndOnDrop(writes.clone());
            writes.write(write, control_out).await;
            drop(end);
        });
        tokio::spawn(async move {
            let end = EndOnDrop(reads.clone());
            reads.read(read, control_in, &*inbound).await;
            drop(end);
        });
        (connection, far)
    }

    /// Peer at the other end.
    pub fn peer(&self) -> &NodeId {
        &self.info.peer
    }

    /// Incarnation of the peer.
    pub fn incarnation(&self) -> Incarnation {
        self.info.incarnation
    }

    /// Process of the peer, if it identified itself.
    pub fn instance(&self) -> Option<Instance> {
        self.info.instance
    }

    /// Sends a frame about who holds a member's key, if the peer supports it.
    pub(super) fn identify(&self, identity: &Identity) {
        if self.info.instance.is_none() || self.ended().is_some() {
            return;
        }
        let mut frame = BytesMut::new();
        frame::put(Kind::Identity, &identity.encode(), &mut frame);
        let mut notices = locked(&self.notices);
        // A full queue is not an error here: `notify` closes the connection of a peer that reads nothing.
        if notices.len() < NOTICES_MAX {
            notices.push_back(frame.freeze());
            self.wake.notify_one();
        }
    }

    /// Version agreed with the peer.
    pub fn version(&self) -> u32 {
        self.info.version
    }

    /// Reason the connection ended; `None` while it is open.
    pub fn ended(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Waits until the connection has ended.
    pub async fn has_ended(&self) {
        self.end.cancelled().await;
    }

    /// Ends the connection; the first reason is kept.
    pub fn end(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_err() {
            return;
        }
        self.end.cancel();
        locked(&self.under_way).clear();
        locked(&self.served).drain().for_each(|(_, watch)| watch.abort());
        let notices = std::mem::take(&mut *locked(&self.notices));
        let mut queue = locked(&self.queue);
        self.counters.add(Count::Lost, (notices.len() + queue.len()) as u64);
        *queue = SendQueue::new(0, 0);
    }

    /// Fails all pending requests: the peer is lost, although the connection may not have noticed.
    pub fn give_up_questions(&self) {
        locked(&self.under_way).retain(|_, waiting| matches!(waiting, Waiting::Down(_)));
    }

    /// Number of pending requests and watches.
    pub fn questions(&self) -> usize {
        locked(&self.under_way).len()
    }

    /// Number of the peer's watches on this member's actors.
    pub fn watched(&self) -> usize {
        locked(&self.served).len()
    }

    /// Queued frames and bytes, without notices, which have their own limit.
    pub fn waiting(&self) -> (usize, usize) {
        let queue = locked(&self.queue);
        (queue.len(), queue.bytes())
    }

    /// Queues one envelope; never waits.
    pub fn send(&self, lane: Lane, body: Body) -> Result<(), Unsent> {
        self.send_envelope(lane, Envelope::new(body))
    }

    fn frame(&self, envelope: Envelope) -> Result<Bytes, Unsent> {
        let (first, spoken) = (envelope.body.version(), self.info.version);
        if first > spoken {
            return Err(Unsent::Version { peer: self.info.peer.clone(), first, spoken });
        }
        envelope.frame().map_err(Unsent::TooLarge)
    }

    /// Queues a notice, which nothing displaces because nobody would resend it; see [`NOTICES_MAX`].
    fn notify(&self, body: Body) -> Result<(), Unsent> {
        let frame = self.frame(Envelope::new(body))?;
        let mut notices = locked(&self.notices);
        let is_full = notices.len() >= NOTICES_MAX;
        if !is_full && self.ended().is_none() {
            notices.push_back(frame);
            self.wake.notify_one();
            return Ok(());
        }
        drop(notices);
        if is_full {
            self.end(&format!("it takes none of {NOTICES_MAX} notices"));
        }
        Err(Unsent::NoLink(self.info.peer.clone()))
    }

    /// Reports to the peer how its watch ended. If the connection has ended, the peer already knows.
    pub(super) fn tell_ending(&self, id: u64, ending: &Ending) {
        let _ = self.notify(match ending {
            Ending::Down(reason) => Body::Down { id, reason: cut(reason) },
            Ending::Refused(reason) => Body::Answer { id, outcome: Err(cut(reason)) },
        });
    }

    /// Queues one envelope with its trace context; never waits.
    pub fn send_envelope(&self, lane: Lane, envelope: Envelope) -> Result<(), Unsent> {
        let frame = self.frame(envelope)?;
        let mut queue = locked(&self.queue);
        if self.ended().is_some() {
            return Err(Unsent::NoLink(self.info.peer.clone()));
        }
        let pushed = queue.push(lane, frame, &mut |lane| self.counters.drop_one(lane));
        drop(queue);
        match pushed {
            Pushed::Waits => {
                self.wake.notify_one();
                Ok(())
            }
            Pushed::Dropped => Ok(()),
            Pushed::Refused => Err(Unsent::Full {
                peer: self.info.peer.clone(),
                frames_max: self.bounds.frames_max,
                bytes_max: self.bounds.bytes_max,
            }),
        }
    }

    fn under_way(&self, waiting: Waiting) -> Result<u64, Unsent> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut under_way = locked(&self.under_way);
        // After the connection's end nothing would clear the entry.
        if self.ended().is_some() {
            return Err(Unsent::NoLink(self.info.peer.clone()));
        }
        if under_way.len() >= UNDER_WAY_MAX {
            return Err(Unsent::TooMany { under_way_max: UNDER_WAY_MAX });
        }
        under_way.insert(id, waiting);
        Ok(id)
    }

    /// Sends a request to `to` and waits for the answer until the deadline.
    pub async fn ask(
        &self,
        to: Bytes,
        protocol: Bytes,
        question: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, AskError> {
        let (answer, answered) = oneshot::channel();
        let id = self.under_way(Waiting::Answer(answer))?;
        let _question = Question(self, id);
        let ask = Body::Ask { id, to, protocol, question, patience: deadline };
        self.send(Lane::Request, ask)?;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(reason))) => Err(AskError::Refused(reason)),
            Ok(Err(_)) => Err(AskError::Unknown("the link was lost".to_owned())),
            Err(_) => Err(AskError::Unknown(format!("no answer within {deadline:?}"))),
        }
    }

    /// Watches this incarnation of `to` until it stops or the watch is dropped.
    pub fn watch(self: &Arc<Self>, to: Bytes, incarnation: Incarnation) -> Result<Watching, Unsent> {
        let (tell, down) = oneshot::channel();
        let id = self.under_way(Waiting::Down(tell))?;
        let watching = Watching { connection: self.clone(), id, down };
        self.notify(Body::Watch { id, to, incarnation: incarnation.0 })?;
        Ok(watching)
    }

    /// Polls `answer` until it completes or the connection ends. One task polls all answers of a connection, so that
    /// answers ready together are sent together. A panic in one ends the connection.
    pub(super) fn serve(&self, answer: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        if self.serving.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
            self.serving.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("{UNDER_WAY_MAX} questions are under way; expected fewer"));
        }
        let mut answer = answer.boxed();
        // Poll once here: the task wakes only for answers that are not ready at once.
        if (&mut answer).now_or_never().is_some() {
            self.serving.fetch_sub(1, Ordering::Relaxed);
        } else {
            // After the connection's end nobody waits for the answer.
            let _ = self.serves.send(answer);
        }
        Ok(())
    }

    async fn answer(&self, mut to_answer: UnboundedReceiver<BoxFuture<'static, ()>>) {
        let mut under_way = FuturesUnordered::new();
        let mut ended = pin!(self.end.cancelled());
        loop {
            tokio::select! {
                biased;
                Some(answer) = to_answer.recv() => under_way.push(answer),
                Some(()) = under_way.next() => drop(self.serving.fetch_sub(1, Ordering::Relaxed)),
                () = &mut ended => return,
            }
        }
    }

    /// Runs `watch` for the peer's watch `id` until it completes or the connection ends.
    pub(super) fn serve_watch(
        self: &Arc<Self>,
        id: u64,
        watch: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), String> {
        let mut served = locked(&self.served);
        if served.len() >= UNDER_WAY_MAX {
            return Err(format!("{UNDER_WAY_MAX} watches stand; expected fewer"));
        }
        // After the connection's end nothing would clear the entry.
        if self.ended().is_none() {
            let connection = self.clone();
            let task = tokio::spawn(async move {
                watch.await;
                // A newer watch may use the same id by now.
                let mut served = locked(&connection.served);
                if served.get(&id).is_some_and(|watch| watch.id() == tokio::task::id()) {
                    served.remove(&id);
                }
            });
            if let Some(former) = served.insert(id, task.abort_handle()) {
                former.abort();
            }
        }
        Ok(())
    }

    /// Removes a watch of the peer.
    pub(super) fn unwatch(&self, id: u64) {
        if let Some(watch) = locked(&self.served).remove(&id) {
            watch.abort();
        }
    }

    async fn read<S: AsyncRead>(
        self: &Arc<Self>,
        mut frames: FramedRead<Counted<ReadHalf<S>>, LengthDelimitedCodec>,
        mut control: WriteHalf<DuplexStream>,
        inbound: &dyn Inbound,
    ) {
        let mut ticks = tokio::time::interval(self.bounds.idle / SILENCES_MAX);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut budget = ControlBudget { left: CONTROL_BURST, since: self.clock.now() };
        let mut silences = 0;
        let mut heard_before = 0;
        let mut ended = pin!(self.end.cancelled());
        // `Err`: the peer violated the protocol. `Ok`: the connection was closed or lost.
        let reason: Result<String, String> = loop {
            if self.ended().is_some() {
                return;
            }
            let frame = tokio::select! {
                biased;
                // Before frames, so that a flooding peer is pinged as well.
                _ = ticks.tick() => {
                    // Part of a frame counts as activity: on a slow link a large one takes longer than the idle time.
                    let heard = frames.get_ref().bytes();
                    silences = if heard == heard_before { silences + 1 } else { 1 };
                    heard_before = heard;
                    if silences > SILENCES_MAX {
                        break Ok(format!("nothing was heard for {:?}", self.bounds.idle));
                    }
                    self.ping_due.store(true, Ordering::Relaxed);
                    self.wake.notify_one();
                    continue;
                }
                frame = frames.next() => frame,
                () = &mut ended => return,
            };
            silences = 0;
            let frame = match frame {
                None => break Ok("the connection was closed".to_owned()),
                Some(Err(error)) if error.kind() == ErrorKind::InvalidData => break Err(error.to_string()),
                Some(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    break Ok("the connection was cut off".to_owned());
                }
                Some(Err(error)) => break Ok(format!("the connection failed: {error}")),
                Some(Ok(bytes)) => match Frame::parse(bytes) {
                    Ok(frame) => frame,
                    Err(error) => break Err(format!("it sent {error}")),
                },
            };
            self.counters.add(Count::BytesReceived, (frame.body.len() + frame::HEADER_BYTES) as u64);
            match frame.kind {
                Kind::Envelope => self.take(inbound, frame.body),
                Kind::Control if !budget.spend(self.clock.now(), frame.body.len() as u64) => {
                    break Err(format!("it sends control faster than {CONTROL_PER_SECOND} bytes a second"));
                }
                Kind::Control => {
                    let passed = tokio::select! {
                        biased;
                        () = &mut ended => return,
                        passed = control.write_all(&frame.body) => passed,
                    };
                    if passed.is_err() {
                        break Ok("its session ended".to_owned());
                    }
                }
                Kind::Ping => {
                    let mut pongs = locked(&self.pongs);
                    if pongs.len() < PONGS_MAX {
                        pongs.push(frame.body);
                        self.wake.notify_one();
                    }
                }
                Kind::Pong => self.pong(frame.body),
                Kind::ConnectionRefusal => {
                    let reason = String::from_utf8_lossy(&frame.body);
                    inbound.refused(self.peer(), &reason);
                    break Ok(format!("the peer refused: {reason}"));
                }
                Kind::Identity => {
                    if let Err(reason) = inbound.identity(self, frame.body) {
                        self.counters.rejections.of_member(&self.info.peer, &reason);
                    }
                }
                Kind::Hello => break Err("it greeted twice".to_owned()),
            }
        };
        if let Err(reason) = &reason
            && self.ended().is_none()
        {
            self.counters.rejections.of_member(&self.info.peer, reason);
        }
        self.end(&reason.unwrap_or_else(|refused| refused));
    }

    fn take(self: &Arc<Self>, inbound: &dyn Inbound, body: Bytes) {
        let taken = Envelope::decode(body, self.info.version).and_then(|envelope| match envelope.body {
            Body::Answer { id, outcome } => {
                self.answered(id, outcome);
                Ok(())
            }
            Body::Down { id, reason } => {
                let mut under_way = locked(&self.under_way);
                if let Some(Waiting::Down(_)) = under_way.get(&id)
                    && let Some(Waiting::Down(tell)) = under_way.remove(&id)
                {
                    let _ = tell.send(Ending::Down(reason));
                }
                Ok(())
            }
            _ => inbound.take(self, envelope),
        });
        self.counters.add(Count::EnvelopesReceived, 1);
        if let Err(reason) = taken {
            self.counters.add(Count::EnvelopesRefused, 1);
            self.counters.rejections.of_member(&self.info.peer, &reason);
        }
    }

    /// Handles an answer. One that nobody waits for is late, not wrong; one of the wrong kind is ignored.
    fn answered(&self, id: u64, outcome: Result<Bytes, String>) {
        let mut under_way = locked(&self.under_way);
        match (under_way.remove(&id), outcome) {
            (Some(Waiting::Answer(answer)), outcome) => drop(answer.send(outcome)),
            (Some(Waiting::Down(tell)), Err(reason)) => drop(tell.send(Ending::Refused(reason))),
            (Some(watch @ Waiting::Down(_)), Ok(_)) => drop(under_way.insert(id, watch)),
            (None, _) => {}
        }
    }

    fn pong(&self, mut body: Bytes) {
        let mut ping = locked(&self.ping);
        if body.len() == 8
            && let Some((id, sent)) = *ping
            && id == body.get_u64()
        {
            *ping = None;
            self.counters.round_trip(self.clock.now().since(sent));
        }
    }

    /// Appends everything to be written next to `out`.
    fn fill(&self, out: &mut BytesMut) {
        if self.ping_due.swap(false, Ordering::Relaxed) {
            let mut ping = locked(&self.ping);
            let id = ping.map_or(1, |(id, _)| id + 1);
            *ping = Some((id, self.clock.now()));
            frame::put(Kind::Ping, &id.to_be_bytes(), out);
        }
        for pong in locked(&self.pongs).drain(..) {
            frame::put(Kind::Pong, &pong, out);
        }
        let mut taken = 0;
        let mut notices = locked(&self.notices);
        while out.len() < WRITE_BYTES_MAX
            && let Some(notice) = notices.pop_front()
        {
            out.extend_from_slice(&notice);
            taken += 1;
        }
        drop(notices);
        taken += locked(&self.queue).take(WRITE_BYTES_MAX, out);
        self.counters.add(Count::EnvelopesSent, taken as u64);
    }

    /// Writes all of `bytes`. The idle time applies to each partial write: a slow link takes as long as it needs.
    async fn write_all(
        &self,
        socket: &mut (impl AsyncWrite + Unpin),
        mut bytes: &[u8],
    ) -> Result<std::io::Result<()>, tokio::time::error::Elapsed> {
        while !bytes.is_empty() {
            match tokio::time::timeout(self.bounds.idle, socket.write(bytes)).await? {
                Ok(0) => return Ok(Err(ErrorKind::WriteZero.into())),
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    async fn write<S: AsyncWrite>(&self, mut socket: WriteHalf<S>, mut control: ReadHalf<DuplexStream>) {
        let mut out = BytesMut::with_capacity(WRITE_BYTES_MAX);
        let mut chunk = BytesMut::with_capacity(CONTROL_BYTES);
        let mut ended = pin!(self.end.cancelled());
        let reason = loop {
            let read = tokio::select! {
                biased;
                () = self.wake.notified() => None,
                () = &mut ended => break None,
                read = control.read_buf(&mut chunk) => Some(read),
            };
            if let Some(Ok(0) | Err(_)) = read {
                break Some("its session ended".to_owned());
            }
            loop {
                // Read control bytes here too, so that a flooding sender can not starve `ractor_cluster`.
                if chunk.is_empty() {
                    let _ = control.read_buf(&mut chunk).now_or_never();
                }
                for piece in chunk.chunks(Kind::Control.body_max()) {
                    frame::put(Kind::Control, piece, &mut out);
                }
                chunk.clear();
                self.fill(&mut out);
                if out.is_empty() {
                    break;
                }
                self.counters.add(Count::BytesSent, out.len() as u64);
                // A peer that sends but does not read is never silent, and `ractor_cluster` keeps answering it.
                let written = tokio::select! {
                    biased;
                    written = self.write_all(&mut socket, &out) => written,
                    () = &mut ended => return,
                };
                match written {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return self.end(&why(&error)),
                    Err(_) => return self.end(&format!("nothing was taken for {:?}", self.bounds.idle)),
                }
                if out.capacity() > 2 * WRITE_BYTES_MAX {
                    out = BytesMut::with_capacity(WRITE_BYTES_MAX);
                }
                out.clear();
            }
            // TLS buffers what it has not written yet; if the peer reads nothing, flushing would wait for ever.
            let flushed = tokio::select! {
                biased;
                flushed = tokio::time::timeout(self.bounds.idle, socket.flush()) => flushed,
                () = &mut ended => return,
            };
            match flushed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => break Some(why(&error)),
                Err(_) => break Some(format!("nothing was taken for {:?}", self.bounds.idle)),
            }
        };
        if let Some(reason) = reason {
            self.end(&reason);
        }
        // Tells the peer that this is an orderly close and not a broken connection; the timeout covers one that does
        // not read.
        let _ = tokio::time::timeout(FAREWELL, socket.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::event::EventBus;
    use crate::transport::rejection_log::RejectionLog;

    struct Deaf;

    impl Inbound for Deaf {
        fn take(&self, _: &Arc<Connection>, _: Envelope) -> Result<(), String> {
            Ok(())
        }
    }

    const IDLE: Duration = Duration::from_millis(400);

    /// A connection, the peer's end of its stream, and `ractor_cluster`'s end.
    fn connection(rejections: &RejectionLog) -> (Arc<Connection>, DuplexStream, DuplexStream) {
        let (near, far) = tokio::io::duplex(256);
        let (connection, control) = connection_on(near, rejections);
        (connection, far, control)
    }

    /// A connection on this stream, and `ractor_cluster`'s end.
    fn connection_on<S>(stream: S, rejections: &RejectionLog) -> (Arc<Connection>, DuplexStream)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let halves = Halves { read: FramedRead::new(read, frame::lengths(Kind::Hello)), write };
        let peer = NodeId::new("node-2").expect("a name");
        let info = PeerInfo { peer, incarnation: Incarnation(1), version: 2, instance: None };
        let bounds = Bounds { frames_max: 16, bytes_max: 4 << 20, idle: IDLE };
        let counters = Arc::new(Counters::new(rejections.clone()));
        Connection::start(info, halves, bounds, counters, Arc::new(SystemClock::default()), Arc::new(Deaf))
    }

    fn rejections() -> RejectionLog {
        let clock = Arc::new(SystemClock::default());
        RejectionLog::new(clock.clone(), EventBus::new(clock))
    }

    fn framed(kind: Kind, body: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        frame::put(kind, body, &mut bytes);
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_speaks_and_does_not_listen_is_given_up() {
        let (connection, mut peer, mut control) = connection(&rejections());
        let answers = tokio::spawn(async move { while control.write_all(&[7; 64]).await.is_ok() {} });
        let ping = framed(Kind::Ping, &[0; 8]);
        while connection.ended().is_none() {
            // Fails once the connection has ended.
            let _ = peer.write_all(&ping).await;
            tokio::time::sleep(IDLE / 16).await;
        }
        assert_eq!(connection.ended(), Some("nothing was taken for 400ms"));
        answers.abort();
    }

    /// A stream that accepts all writes and never flushes, as TLS may over a full socket.
    struct Hoard(DuplexStream);

    impl AsyncRead for Hoard {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Hoard {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            bytes: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::task::Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Pending
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_speaks_and_reads_nothing_is_given_up_also_when_encryption_keeps_what_is_written() {
        let (near, mut peer) = tokio::io::duplex(256);
        let (connection, _control) = connection_on(Hoard(near), &rejections());
        let ping = framed(Kind::Ping, &[0; 8]);
        for _ in 0..64 {
            // Fails once the connection has ended.
            let _ = peer.write_all(&ping).await;
            tokio::time::sleep(IDLE / 16).await;
        }
        assert_eq!(connection.ended(), Some("nothing was taken for 400ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_full_size_passes_a_link_that_takes_longer_for_it_than_the_idle_time() {
        let ((one, mut near, _keeps), (other, mut far, _holds)) =
            (connection(&rejections()), connection(&rejections()));
        let message: Bytes = vec![7; 1 << 20].into();
        let (to, protocol) = (Bytes::from_static(b"chain"), Bytes::from_static(b"chain/1"));
        let ask = Body::Ask { id: 1, to, protocol, question: message, patience: Duration::from_mins(1) };
        one.send(Lane::Request, ask).expect("there is room");
        // 256 bytes per tick: the frame takes many times the idle time.
        let mut passed = 0;
        let (mut piece, mut back) = ([0; 256], [0; 256]);
        while passed < 1 << 20 {
            assert_eq!((one.ended(), other.ended()), (None, None), "after {passed} bytes");
            tokio::select! {
                read = near.read(&mut piece) => {
                    let read = read.expect("it sends");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    far.write_all(&piece[..read]).await.expect("it takes");
                    passed += read;
                }
                // Pings and their pongs.
                read = far.read(&mut back) => {
                    near.write_all(&back[..read.expect("it sends")]).await.expect("it takes");
                }
                () = tokio::time::sleep(IDLE) => panic!("nothing was sent for {IDLE:?}"),
            }
        }
        assert_eq!((one.ended(), other.ended()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_peer_may_not_send_is_refused_once_and_ends_the_connection_with_the_reason() {
        let flood = framed(Kind::Control, &[0; 4_096]).repeat(8);
        for (bytes, reason) in [
            (framed(Kind::Hello, b"again").to_vec(), "it greeted twice"),
            (vec![0, 0, 0, 1, 9], "it sent a frame of kind 9; expected 0 to 6"),
            (vec![0xff; 5], "frame size too big"),
            (flood, "it sends control faster than 1024 bytes a second"),
        ] {
            let rejections = rejections();
            let (connection, mut peer, mut control) = connection(&rejections);
            tokio::spawn(
                async move { while control.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {} },
            );
            // Bytes after the frame that ends the connection find it closed.
            let _ = tokio::time::timeout(IDLE, peer.write_all(&bytes)).await;
            connection.has_ended().await;
            assert_eq!((connection.ended(), rejections.total()), (Some(reason), 1));
        }
    }
}
