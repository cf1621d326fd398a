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
use std::sync::{Arc, Weak};
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
    tokio::select! {
        () = told(stopped) => {}
        () = make_room.notified() => {}
    }
}

async fn accept(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    // The oldest first.
    let mut open: VecDeque<Weak<Notify>> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = told(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS_MAX + TURNED_AWAY_MAX => {
                if slots.available_permits() == 0 {
                    let oldest = open.drain(..MAKE_ROOM.min(open.len()));
                    oldest.filter_map(|room| room.upgrade()).for_each(|room| room.notify_one());
                }
                let room = Arc::new(Notify::new());
                open.retain(|room| room.strong_count() > 0);
                open.push_back(Arc::downgrade(&room));
                let (slots, router, stopped) = (slots.clone(), router.clone(), stopped.clone());
                connections.spawn(async move {
                    match tokio::time::timeout(ROOM_WITHIN, slots.acquire_owned()).await {
                        Ok(Ok(slot)) => serve(stream, router, stopped, &room, slot).await,
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
