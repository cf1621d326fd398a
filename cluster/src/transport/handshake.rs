//! Connects and authenticates two members: TCP connection, TLS handshake, hello; all within one deadline.
//!
//! Until then an unauthenticated peer costs one task and a few kilobytes, and at most the size of a hello is read from
//! it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use futures::StreamExt as _;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::codec::FramedRead;

use super::connection::Halves;
use super::duplicates::Duplicates;
use super::frame::{self, Frame, Kind};
use super::hello::{Hello, PeerInfo};
use super::presence::{Identity, Presence};
use super::tls::{ConnectionRefusal, SecureStream, Trust};
use crate::federation::Roster;
use crate::id::NodeId;

/// An authenticated connection to a peer.
pub struct AuthenticatedPeer {
    /// Identity of the peer and the agreed version.
    pub info: PeerInfo,
    /// Stream to the peer.
    pub halves: Halves<SecureStream>,
}

/// Why a dialled peer was not authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The peer was not reached, or not in time.
    #[error("{0}")]
    Unreached(String),
    /// The remote end is not that member, or one of the two refused the other.
    #[error("{0}")]
    Refused(String),
}

/// Performs handshakes.
#[derive(Clone)]
pub struct Handshaker {
    /// Authenticates this member and its peers.
    pub trust: Trust,
    /// Hello that this member sends.
    pub hello: Hello,
    /// Members that may connect.
    pub roster: Roster,
    /// Timeout of the whole handshake.
    pub timeout: Duration,
    /// Detection of other processes that hold this member's key, if enabled.
    pub duplicates: Option<Duplicates>,
}

impl AuthenticatedPeer {
    /// Sends the presence of another process of the same member to the peer, which answers with its own.
    pub(super) async fn present(&mut self, other: Presence, patience: Duration) -> Option<Presence> {
        let Halves { read, write } = &mut self.halves;
        send(write, Kind::Identity, &Identity::Presence(other).encode()).await.ok()?;
        // The peer may send other frames first; the connection is closed afterwards in any case.
        read.decoder_mut().set_max_frame_length(Kind::Envelope.body_max() + 1);
        let answer = async {
            loop {
                let frame = Frame::parse(read.next().await?.ok()?).ok()?;
                if frame.kind == Kind::Identity
                    && let Ok(Identity::Presence(presence)) = Identity::decode(frame.body)
                {
                    return Some(presence);
                }
            }
        };
        tokio::time::timeout(patience, answer).await.ok().flatten()
    }

    /// Closes the connection with this reason.
    pub(super) async fn refuse(mut self, reason: &str, patience: Duration) {
        let write = &mut self.halves.write;
        let refuse = async {
            // Whether the reason arrives does not matter here.
            let _ = send(write, Kind::ConnectionRefusal, reason.as_bytes()).await;
            let _ = write.shutdown().await;
        };
        let _ = tokio::time::timeout(patience, refuse).await;
    }
}

impl Handshaker {
    /// Authenticates the remote end of an inbound connection.
    pub async fn admit(&self, stream: TcpStream) -> Result<AuthenticatedPeer, String> {
        let admit = async {
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let (stream, proven) = self.trust.accept(stream).await.map_err(|error| error.to_string())?;
            // The greater name dials, so only greater names are accepted here.
            let is_expected = |peer: &NodeId| self.roster.is_peer(peer) && peer > self.roster.own();
            self.greet(stream, proven.as_ref(), is_expected).await
        };
        let late = |_| Err(format!("it did not authenticate in time ({:?})", self.timeout));
        tokio::time::timeout(self.timeout, admit).await.unwrap_or_else(late)
    }

    /// Connects to `peer` at `address`.
    pub async fn visit(
        &self,
        peer: &NodeId,
        address: SocketAddr,
    ) -> Result<AuthenticatedPeer, HandshakeError> {
        let unreached = |error: std::io::Error| HandshakeError::Unreached(format!("{address}: {error}"));
        let visit = async {
            let stream = TcpStream::connect(address).await.map_err(unreached)?;
            stream.set_nodelay(true).map_err(unreached)?;
            let (stream, proven) =
                self.trust.connect(stream, peer).await.map_err(|refusal| match refusal {
                    ConnectionRefusal::Io(_) => HandshakeError::Unreached(refusal.to_string()),
                    _ => HandshakeError::Refused(refusal.to_string()),
                })?;
            self.greet(stream, proven.as_ref(), |info| info == peer).await.map_err(HandshakeError::Refused)
        };
        let late =
            |_| Err(HandshakeError::Unreached(format!("{address}: no connection within {:?}", self.timeout)));
        tokio::time::timeout(self.timeout, visit).await.unwrap_or_else(late)
    }

    async fn greet(
        &self,
        stream: SecureStream,
        proven: Option<&NodeId>,
        is_expected: impl Fn(&NodeId) -> bool,
    ) -> Result<AuthenticatedPeer, String> {
        let (read, mut write) = tokio::io::split(stream);
        let mut read = FramedRead::with_capacity(read, frame::lengths(Kind::Hello), 1_024);
        let hello = match &self.duplicates {
            Some(duplicates) => duplicates.greeting(&self.hello),
            None => self.hello.clone(),
        };
        send(&mut write, Kind::Hello, &hello.encode()).await?;
        let info = match read.next().await {
            None => Err("it closed the connection without a greeting".to_owned()),
            Some(Err(error)) => Err(format!("its greeting can not be read: {error}")),
            Some(Ok(bytes)) => match Frame::parse(bytes).map_err(|error| format!("it sent {error}"))? {
                Frame { kind: Kind::Hello, body } => {
                    Hello::decode(body).and_then(|theirs| self.hello.meet(&theirs, proven))
                }
                Frame { kind: Kind::ConnectionRefusal, body } => {
                    return Err(format!("it refused: {}", String::from_utf8_lossy(&body)));
                }
                Frame { kind, .. } => Err(format!("it sent {kind:?} before its greeting")),
            },
        };
        let info = info.and_then(|info| {
            let unexpected = || format!("{} is not the member expected on this connection", info.peer);
            if is_expected(&info.peer) { Ok(info) } else { Err(unexpected()) }
        });
        match info {
            Ok(info) => Ok(AuthenticatedPeer { info, halves: Halves { read, write } }),
            Err(reason) => {
                // Whether the reason arrives does not matter here.
                let _ = send(&mut write, Kind::ConnectionRefusal, reason.as_bytes()).await;
                let _ = write.shutdown().await;
                Err(reason)
            }
        }
    }
}

async fn send(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    kind: Kind,
    body: &[u8],
) -> Result<(), String> {
    let mut bytes = BytesMut::new();
    frame::put(kind, &body[..body.len().min(kind.body_max())], &mut bytes);
    write.write_all(&bytes).await.map_err(|error| error.to_string())?;
    write.flush().await.map_err(|error| error.to_string())
}
