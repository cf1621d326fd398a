//! Upper bound: a TCP socket with length-prefixed bincode frames. One task writes queued frames in batches, another
//! reads; no actor, no bound, no deadline.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use alys_cluster::transport::codec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{Payload, Way};

const CALL: u8 = 0;
const CAST: u8 = 1;
const TOLD: u8 = 2;

type Frame = (u8, u64, Payload);

fn put(frame: &Frame, into: &mut Vec<u8>) {
    let payload = codec::encode(&frame.2).expect("it is small");
    into.extend_from_slice(&(payload.len() as u32 + 9).to_be_bytes());
    into.push(frame.0);
    into.extend_from_slice(&frame.1.to_be_bytes());
    into.extend_from_slice(&payload);
}

async fn take(read: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Frame> {
    let mut bytes = vec![0; read.read_u32().await? as usize];
    read.read_exact(&mut bytes).await?;
    let id = u64::from_be_bytes(bytes[1..9].try_into().expect("eight bytes"));
    Ok((bytes[0], id, codec::decode(&bytes[9..]).expect("a payload")))
}

async fn write(mut socket: OwnedWriteHalf, mut frames: UnboundedReceiver<Frame>) {
    let mut bytes = Vec::new();
    while let Some(frame) = frames.recv().await {
        bytes.clear();
        put(&frame, &mut bytes);
        while bytes.len() < 64 * 1024
            && let Ok(frame) = frames.try_recv()
        {
            put(&frame, &mut bytes);
        }
        if socket.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn halves(stream: TcpStream) -> (BufReader<OwnedReadHalf>, UnboundedSender<Frame>) {
    stream.set_nodelay(true).expect("it is open");
    let (read, socket) = stream.into_split();
    let (frames, waiting) = unbounded_channel();
    tokio::spawn(write(socket, waiting));
    (BufReader::with_capacity(64 * 1024, read), frames)
}

pub(super) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let told = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await.expect("it listens");
        let (mut read, frames) = halves(stream);
        let told = told.clone();
        tokio::spawn(async move {
            while let Ok((kind, id, mut payload)) = take(&mut read).await {
                match kind {
                    CAST => drop(told.fetch_add(1, Ordering::Relaxed)),
                    TOLD => {
                        payload.number = told.load(Ordering::Relaxed);
                        let _ = frames.send((TOLD, id, payload));
                    }
                    _ => drop(frames.send((CALL, id, payload))),
                }
            }
        });
    }
}

/// A free port.
pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

/// Transport over a raw socket.
#[derive(Clone)]
pub struct Raw {
    frames: UnboundedSender<Frame>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Payload>>>>,
    ids: Arc<AtomicU64>,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If nothing listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let (mut read, frames) = halves(TcpStream::connect(address).await.expect("somebody listens"));
        let waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Payload>>>> = Arc::default();
        let answers = waiting.clone();
        tokio::spawn(async move {
            while let Ok((_, id, payload)) = take(&mut read).await {
                if let Some(answer) = answers.lock().expect("not poisoned").remove(&id) {
                    let _ = answer.send(payload);
                }
            }
        });
        Self { frames, waiting, ids: Arc::default() }
    }

    async fn ask(&self, kind: u8, payload: Payload) -> Payload {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("not poisoned").insert(id, answer);
        self.frames.send((kind, id, payload)).expect("it is open");
        answered.await.expect("it answers")
    }
}

impl Way for Raw {
    fn name(&self) -> &'static str {
        "raw TCP + bincode"
    }

    async fn call(&self, payload: Payload) -> Payload {
        self.ask(CALL, payload).await
    }

    fn cast(&self, payload: Payload) -> bool {
        self.frames.send((CAST, 0, payload)).is_ok()
    }

    async fn told(&self) -> u64 {
        self.ask(TOLD, Payload::new(0, 0)).await.number
    }
}
