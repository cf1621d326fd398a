//! A proxy between two members that changes the bytes they send.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A change of the next chunk of bytes, applied once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trick {
    /// Forwards the chunk unchanged.
    None,
    /// Flips one bit.
    Flip,
    /// Sends the chunk twice.
    Repeat,
    /// Sends the chunk after the next one.
    Swap,
    /// Drops the chunk.
    Omit,
    /// Sends the first chunk of this connection instead.
    Replay,
}

impl Trick {
    /// All changes except [`Trick::None`].
    pub const ALL: [Self; 5] = [Self::Flip, Self::Repeat, Self::Swap, Self::Omit, Self::Replay];
}

struct Shared {
    upstream: Mutex<Option<SocketAddr>>,
    next: AtomicU8,
    played: AtomicU64,
}

/// A running proxy.
pub struct TamperingProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Drop for TamperingProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl TamperingProxy {
    /// Starts a proxy without an upstream.
    ///
    /// # Panics
    ///
    /// If no port is available.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (upstream, next, played) = (Mutex::default(), AtomicU8::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { upstream, next, played });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Self { shared, address, listening }
    }

    /// Address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections to `upstream` from now on.
    pub fn lead(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(upstream);
    }

    /// Applies `trick` to the next chunk of either direction.
    pub fn play(&self, trick: Trick) {
        self.shared.next.store(trick as u8, Ordering::SeqCst);
    }

    /// Number of tricks applied so far.
    pub fn played(&self) -> u64 {
        self.shared.played.load(Ordering::SeqCst)
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((down, _)) = listener.accept().await {
        let upstream = *shared.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(upstream) = upstream else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(up) = TcpStream::connect(upstream).await else { return };
            let ((down_read, down_write), (up_read, up_write)) = (down.into_split(), up.into_split());
            // The end of either direction ends the connection.
            tokio::select! {
                () = pass(down_read, up_write, &shared) => {}
                () = pass(up_read, down_write, &shared) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    let mut first = Vec::new();
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let mut bytes = buffer[..read].to_vec();
        if first.is_empty() {
            first.clone_from(&bytes);
        }
        let trick = shared.next.swap(0, Ordering::SeqCst);
        shared.played.fetch_add(u64::from(trick != 0), Ordering::SeqCst);
        let trick = Trick::ALL.into_iter().find(|known| *known as u8 == trick);
        match trick {
            None | Some(Trick::None) => {}
            Some(Trick::Flip) => bytes[read / 2] ^= 1,
            Some(Trick::Repeat) => bytes.extend_from_within(..),
            Some(Trick::Omit) => continue,
            Some(Trick::Replay) => bytes = first.clone(),
            Some(Trick::Swap) => {
                let Ok(more @ 1..) = from.read(&mut buffer).await else { return };
                bytes.splice(..0, buffer[..more].iter().copied());
            }
        }
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
