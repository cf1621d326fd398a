//! Runs the HTTP server: the number of connections is bounded, and so is every wait for a client or a handler.
//!
//! | too slow | limit | effect |
//! | --- | --- | --- |
//! | head of a request, or arrival of the next request | [`HEAD_MAX`] | 408 if a part arrived; the connection closes |
//! | body of a request | `extract.rs` | 408 |
//! | response of the handler | `router.rs` | 504 |
//! | client that reads the response | `wire.rs` | the connection closes |
//!
//! When [`CONNECTIONS_MAX`] connections are open, a new one replaces the oldest connections that are idle between
//! requests, so that clients that keep connections open cannot block liveness probes. If none becomes idle in time, the
//! new connection receives 503 and is closed.

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

/// Maximum number of open connections.
pub const CONNECTIONS_MAX: usize = 256;
/// Maximum number of further connections that are receiving a 503.
const TURNED_AWAY_MAX: usize = 64;
/// Longest time for the head of a request to arrive, and for a connection to stay idle between requests.
pub const HEAD_MAX: Duration = Duration::from_secs(10);
/// Maximum size of a request's head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Maximum number of headers of a request.
const HEADERS_MAX: usize = 64;
/// Longest time to deliver a final error response to a client.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after `accept` fails, usually because the process has no file descriptors left.
const BREATH: Duration = Duration::from_millis(100);
/// Number of connections, oldest first, that are asked at once to close as soon as they are idle.
const MAKE_ROOM: usize = 32;
/// Longest wait of a new connection for a free slot.
const ROOM_WITHIN: Duration = Duration::from_millis(500);
/// Minimum time that a connection with a slot has for its first request, even when others need its slot.
const FIRST_REQUEST: Duration = Duration::from_millis(200);
/// Longest wait for requests in progress when the server stops.
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

    /// Stops accepting, ends streams, and waits at most 300 ms for requests in progress.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            // Dropping the task's `JoinSet` aborts all connections.
            self.task.abort();
        }
    }
}

/// Completes when the server is to stop, or when the sender is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Completes when the server is to stop, or when the connection must make room for others.
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

/// Connections that hold a slot and have not been asked to make room, oldest first.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<VecDeque<Weak<Notify>>>>);

impl Open {
    fn list(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection that holds a slot. It stays in the list until the returned handle is dropped.
    fn enter(&self) -> Arc<Notify> {
        let room = Arc::new(Notify::new());
        let mut list = self.list();
        list.retain(|room| room.strong_count() > 0);
        list.push_back(Arc::downgrade(&room));
        room
    }

    /// Asks the oldest connections to make room.
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
    // Responses are sent without delay: there is no further data to coalesce with them.
    let _ = stream.set_nodelay(true);
    // Bytes in the kernel's send buffer count as accepted in `wire.rs`, although the client may be gone: this timeout
    // covers them.
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
    // A client that sent nothing expects no response.
    if error.is_timeout() && !parts.read_buf.is_empty() {
        let detail = format!("the request's head did not arrive within {} s", HEAD_MAX.as_secs());
        farewell(wire, StatusCode::REQUEST_TIMEOUT, &detail).await;
    } else if error.is_parse() && !wire.has_written() {
        // hyper closes connections that start with the HTTP/2 preface without a response.
        farewell(wire, StatusCode::BAD_REQUEST, refusal::NO_REQUEST).await;
    }
}

/// Rejects a connection because too many are open.
async fn turn_away(stream: TcpStream) {
    let detail = format!("there are {CONNECTIONS_MAX} connections already; expected fewer");
    farewell(stream, StatusCode::SERVICE_UNAVAILABLE, &detail).await;
}

/// Writes a final response and reads until the client closes: closing with unread input would reset the connection and
/// discard the response.
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
    // Best effort: a client that is gone or does not read loses the response.
    let _ = tokio::time::timeout(FAREWELL, say).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;

    const SOON: Duration = Duration::from_secs(20);
    /// More than it takes to ask every connection to make room, fewer than the number at which connections are dropped
    /// without a response.
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
        // Some requests finish while the new connections wait for a slot.
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
