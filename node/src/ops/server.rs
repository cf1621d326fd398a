//! The HTTP server: connections in bounded number, each with bounds on the time it takes.
//!
//! | what takes too long | bound | then |
//! | --- | --- | --- |
//! | the head of a request, or the next request | [`HEAD_MAX`] | 408 if some of it came, and the end of the connection |
//! | its body | `extract.rs` | 408 |
//! | the answer | `router.rs` | 504 |
//! | the client, to take the answer | `wire.rs` | the end of the connection |
//!
//! A connection beyond [`CONNECTIONS_MAX`] takes the place of one that waits for a request, of the oldest, so that
//! clients that keep theirs open can not keep out whoever asks whether the member lives. Where none waits, it is told so
//! and ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::refusal;
use super::router::Ops;
use super::wire::{STALL_MAX, Wire};

/// Open connections.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections beyond those that are being told so.
const TURNED_AWAY_MAX: usize = 64;
/// The longest the head of a request may take to arrive, and a connection may wait for its next request.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// The most bytes a head may have.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most headers it may have.
const HEADERS_MAX: usize = 64;
/// The longest a last word to a client may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// After connections can not be accepted, for want of file descriptors as a rule.
const BREATH: Duration = Duration::from_millis(100);
/// Of the oldest connections so many are told to make room at once, as far as they wait for their next request.
const MAKE_ROOM: usize = 32;
/// The longest that a new connection waits for their room.
const ROOM_WITHIN: Duration = Duration::from_millis(500);
/// What a connection that has its slot is left in any case, for its first request to be read.
const FIRST_REQUEST: Duration = Duration::from_millis(200);
/// The longest that requests under way are waited for.
const GRACE: Duration = Duration::from_millis(300);

/// The running HTTP server.
pub struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves `ops` on `listener`.
    pub fn start(listener: TcpListener, ops: Ops) -> Self {
        let (stop, stopped) = watch::channel(false);
        let router = ops.router(stopped.clone());
        let task = tokio::spawn(accept(listener, router, stopped));
        Self { stop, task }
    }

    /// Stops accepting, ends streams, and waits a moment for requests under way.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            // Its connections end with it.
            self.task.abort();
        }
    }
}

/// Returns when the server is to stop, or nobody is left who could say so.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// The same, or when the connection is to make room for others.
async fn told_to_end(stopped: &mut watch::Receiver<bool>, make_room: &Notify) {
    let room = async {
        tokio::time::sleep(FIRST_REQUEST).await;
        make_room.notified().await;
    };
    tokio::select! {
        () = told(stopped) => {}
        () = room => {}
    }
}

/// The connections that have a slot and were not told to make room, the oldest first.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<VecDeque<Weak<Notify>>>>);

impl Open {
    fn list(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that has its slot; it is in the list until what it is told with is dropped.
    fn enter(&self) -> Arc<Notify> {
        let room = Arc::new(Notify::new());
        let mut list = self.list();
        list.retain(|room| room.strong_count() > 0);
        list.push_back(Arc::downgrade(&room));
        room
    }

    /// Tells the oldest to make room.
    fn make_room(&self) {
        let mut list = self.list();
        let oldest = MAKE_ROOM.min(list.len());
        list.drain(..oldest).filter_map(|room| room.upgrade()).for_each(|room| room.notify_one());
    }
}

async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let open = Open::default();
    loop {
        let accepted = tokio::select! {
            () = told(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS_MAX + TURNED_AWAY_MAX => {
                if slots.available_permits() == 0 {
                    open.make_room();
                }
                let (slots, open) = (slots.clone(), open.clone());
                let (router, stopped) = (router.clone(), stopped.clone());
                connections.spawn(async move {
                    match tokio::time::timeout(ROOM_WITHIN, slots.acquire_owned()).await {
                        Ok(Ok(slot)) => serve(stream, router, stopped, &open.enter(), slot).await,
                        _ => turn_away(stream).await,
                    }
                });
            }
            Ok((stream, _)) => drop(stream),
            Err(error) => {
                tracing::warn!(%error, "a connection to the ops API was not accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    make_room: &Notify,
    _slot: OwnedSemaphorePermit,
) {
    // Answers are written at once: there is nothing to gather them with.
    let _ = stream.set_nodelay(true);
    // What the system has taken of an answer counts as taken here, though the client may be gone.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_MAX));
    let io = TokioIo::new(Wire::new(stream));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, TowerToHyperService::new(router));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = told_to_end(&mut stopped, make_room) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let Err(error) = ended else { return };
    let parts = connection.into_parts();
    let wire = parts.io.into_inner();
    // A client that has said nothing waits for no answer.
    if error.is_timeout() && !parts.read_buf.is_empty() {
        let detail = format!("the request's head did not arrive within {} s", HEAD_MAX.as_secs());
        farewell(wire, StatusCode::REQUEST_TIMEOUT, &detail).await;
    } else if error.is_parse() && !wire.has_written() {
        // The server below has no word at all for those that begin with HTTP/2.
        farewell(wire, StatusCode::BAD_REQUEST, refusal::NO_REQUEST).await;
    }
}

/// Says to a client that there are too many.
async fn turn_away(stream: TcpStream) {
    let detail = format!("there are {CONNECTIONS_MAX} connections already; expected fewer");
    farewell(stream, StatusCode::SERVICE_UNAVAILABLE, &detail).await;
}

/// Writes a last word, and waits until the client has it: to end at once would take it back where the client has sent
/// something that nobody reads.
async fn farewell(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    status: StatusCode,
    detail: &str,
) {
    let response = refusal::response(status, detail);
    let say = async {
        stream.write_all(&response).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // A client that is gone, or does not listen, has what it wants.
    let _ = tokio::time::timeout(FAREWELL, say).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;

    const SOON: Duration = Duration::from_secs(20);
    /// More than it takes to tell every connection to make room, and fewer than are turned away without a word.
    const NEWCOMERS: usize = 48;

    async fn asks(address: std::net::SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    #[tokio::test]
    async fn of_a_crowd_that_comes_while_all_slots_are_at_work_everyone_is_answered() {
        let (begun, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (begins, released) = (begun.clone(), release.clone());
        let work = move || async move {
            begins.add_permits(1);
            released.acquire().await.expect("open").forget();
        };
        let router = Router::new().route("/work", get(work)).route("/livez", get(async || ()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(accept(listener, router, stopped));
        let mut at_work = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            at_work.push(asks(address, "/work").await);
        }
        let all = u32::try_from(CONNECTIONS_MAX).expect("small");
        tokio::time::timeout(SOON, begun.acquire_many(all)).await.expect("in time").expect("open").forget();
        let mut crowd = JoinSet::new();
        for _ in 0..NEWCOMERS {
            let mut stream = asks(address, "/livez").await;
            crowd.spawn(async move {
                let mut answer = String::new();
                let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await;
                let status = answer.split(' ').nth(1).unwrap_or("none").to_owned();
                (read.expect("in time").is_ok(), status)
            });
        }
        // Some of the requests under way end, in the time that a newcomer waits.
        release.add_permits(NEWCOMERS);
        let answers = crowd.join_all().await;
        assert!(
            answers.iter().all(|(is_whole, status)| *is_whole && ["200", "503"].contains(&status.as_str())),
            "{answers:?}"
        );
        release.add_permits(CONNECTIONS_MAX);
        stop.send_replace(true);
        tokio::time::timeout(SOON, server).await.expect("in time").expect("ended");
    }
}
