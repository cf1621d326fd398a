//! The links between members, over `ractor_cluster`.
//!
//! It decides when to dial, when a session is stale, and what is dropped when a peer is slow. It never
//! decides whether a peer is healthy: `ractor_cluster` notices a killed peer but never a silent one, so that
//! sessions and process groups say nothing about health. Heartbeats do, and they travel here like any
//! message.
//!
//! ```text
//!   sender ─► Courier ─► LinkActor: bounded queue ─► batches, few in flight ─► remote Gateway
//!                           ▲ dial, stop stale sessions                            │ acknowledges
//!                       NetworkActor (NodeServer, acceptor)       Routes ─► the local actor addressed
//! ```
//!
//! Reading order: [`envelope`], [`codec`], [`queue`], [`peer`] (redial, pure), [`link`] (the actor of one
//! peer), [`gateway`] (the one remotable actor), [`network`] (sessions and connections), [`config`]. Who may
//! speak at all: [`identity`] (a member's certificate, pure), then [`tls`].

pub mod codec;
pub mod config;
pub mod courier;
pub mod envelope;
pub mod gateway;
pub mod identity;
pub mod link;
pub mod message;
pub mod network;
pub mod peer;
pub mod queue;
pub mod tls;
pub mod trace;

pub use config::{LinkConfig, PeerConfig};
pub use courier::Courier;
pub use envelope::{Class, Envelope};
pub use gateway::{Gateway, Routes};
pub use identity::{IdentityError, Voucher};
pub use link::LinkActor;
pub use message::{LinkMessage, LinkStatus, NetworkMessage};
pub use network::NetworkActor;
pub use tls::{Refusal, SecureStream, Trust};
