//! Implements the links between members on top of `ractor_cluster`.
//!
//! The transport decides when to dial, when a session is stale, and which envelopes to drop when a peer is slow. It
//! never decides whether a peer is healthy: sessions, sockets and process groups say nothing about health. Heartbeats
//! do, and they travel here like any other message.
//!
//! ```text
//!  sender ─► TypedSender ─► PeerChannel ─► Connection: bounded queue ─► socket ─► Connection ─► InboundRouter ─► actor
//!                          ▲ up, down       ▲ hands over                             │
//!                   LinkActor ◄──── NetworkActor (acceptor, Handshaker, NodeServer) ── control frames: ractor_cluster
//! ```
//!
//! Reading order: [`frame`], [`hello`], [`envelope`], [`queue`] (encoding and send priority), [`identity`], [`tls`],
//! [`handshake`] (authentication), [`presence`], [`duplicates`] (two processes with one key), [`connection`] (its
//! tasks), [`mod@peer_channel`], [`typed_sender`] (sending), [`gateway`], [`sender_quota`] (inbound routing and
//! limits), [`peer`] (redial policy, pure), [`link`] (the actor of one peer), [`network`] (sessions), [`statistics`],
//! [`rejection_log`], [`config`].

mod claims;
pub mod codec;
pub mod config;
pub mod connection;
mod counted;
pub mod duplicates;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod gateway;
pub mod handshake;
pub mod hello;
pub mod identity;
pub mod link;
pub mod message;
pub mod network;
pub mod peer;
pub mod peer_channel;
pub mod presence;
pub mod queue;
pub mod rejection_log;
pub mod sender_quota;
pub mod statistics;
pub mod tls;
pub mod typed_sender;

pub use claims::LaterStart;
pub use config::{LinkConfig, PeerConfig};
pub use connection::{Bounds, Connection};
pub use duplicates::{Duplicates, Holder};
pub use envelope::{Envelope, Lane};
pub use gateway::{Admits, Answers, Gateway, InboundRouter, Routes};
pub use handshake::Handshaker;
pub use hello::Hello;
pub use identity::{CertificateSigner, IdentityError};
pub use link::{LinkActor, LinkWatcher};
pub use message::{LinkMessage, LinkStatus, NetworkMessage};
pub use network::NetworkActor;
pub use peer_channel::{PeerChannel, PeerChannels};
pub use rejection_log::RejectionLog;
pub use tls::{ConnectionRefusal, SecureStream, Trust};
pub use typed_sender::TypedSender;
