//! A proxy that forwards a limited number of bytes per second in each direction, and buffers little.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Maximum bytes moved at once.
const CHUNK_BYTES: usize = 2_048;
/// Receive buffer for bytes that have arrived but not been moved: about the system's minimum. The sender's own buffers
/// are not limited.
const HELD_BYTES: u32 = 8_192;

/// A running proxy. Dropping it ends it and its connections.
pub struct ThrottlingProxy {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Drop for ThrottlingProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(HELD_BYTES)?;
    Ok(socket)
}

impl ThrottlingProxy {
    /// Starts a proxy to `upstream`.
    ///
    /// # Panics
    ///
    /// If no port is available.
    pub fn start(upstream: SocketAddr, bytes_per_second: u32) -> Self {
        let socket = socket().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        let listener = socket.listen(16).expect("it listens");
        let address = listener.local_addr().expect("an address");
        Self { address, listening: tokio::spawn(listen(listener, upstream, bytes_per_second)) }
    }

    /// Address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn listen(listener: TcpListener, upstream: SocketAddr, bytes_per_second: u32) {
    // Dropping this with the task closes every connection.
    let mut connections = JoinSet::new();
    while let Ok((down, _)) = listener.accept().await {
        connections.spawn(async move {
            let Ok(socket) = socket() else { return };
            let Ok(up) = socket.connect(upstream).await else { return };
            let ((down_read, down_write), (up_read, up_write)) = (down.into_split(), up.into_split());
            // The end of either direction ends the connection.
            tokio::select! {
                () = pass(down_read, up_write, bytes_per_second) => {}
                () = pass(up_read, down_write, bytes_per_second) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes_per_second: u32) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut free_at = Instant::now();
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let takes = Duration::from_secs(1) * read as u32 / bytes_per_second;
        free_at = free_at.max(Instant::now()) + takes;
        sleep_until(free_at).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
