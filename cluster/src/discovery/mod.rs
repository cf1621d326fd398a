//! Actors of other members: which there are, and how they are asked.
//!
//! Each member publishes what it lets be reached ([`Exports`], an allow-list), with its incarnation. It decides what
//! of another's advertisement is believed: a known member's, of no earlier incarnation, within bounds. It never
//! decides whether a member is lost: the federation does, and what a lost member published is gone at that moment.
//!
//! A [`RemoteHandle`] is of one incarnation of its member. When that member is lost, or has started anew, the handle
//! is refused, here before anything is sent and there by who receives it; whoever wants the new one discovers it. An
//! answer that does not come says nothing about whether the question was dealt with. A watch is of one life of an
//! actor, and outlasts the links it is told on: its end is told once, with the supervisor's reason for it.
//!
//! ```text
//!   registry ─► subscription ─► DiscoveryActor ─► advert ─► peers' DiscoveryActor ─► Directory ─► Discovery
//!   RemoteHandle::call ─► ask ─► the peer's Door ─► Reception: Exports ─► its actor ─► answer ─► caller
//!   RemoteHandle::monitor ─► watch ─► the peer's Door ─► Reception: its registry ─► down ─► Monitor ─► Linked: Fate
//! ```
//!
//! Reading order: [`wire`], [`advert`], [`exports`], [`request_handler`] (who answers), [`directory`] (what others
//! published), [`state`] (who is told when), [`remote`] (handles), [`face`], [`actor`] (the shell).

pub mod actor;
pub mod advert;
pub mod directory;
pub mod exports;
pub mod face;
pub mod message;
pub mod remote;
pub mod request_handler;
pub mod state;
pub mod wire;

pub use actor::DiscoveryActor;
pub use directory::{Directory, RemoteEntry};
pub use exports::{Exports, Protocol};
pub use face::Discovery;
pub use message::DiscoveryMessage;
pub use remote::{Down, Linked, Monitor, RemoteError, RemoteHandle};
pub use request_handler::RequestHandler;
pub use wire::DiscoveryWire;
