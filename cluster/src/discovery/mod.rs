//! Discovers actors of other members and sends them requests.
//!
//! Each member publishes the actors it exports ([`Exports`], an allow-list), with its incarnation. Discovery decides
//! which adverts to accept: those of a known member, not of an earlier incarnation, and within bounds. It never decides
//! whether a member is lost: the federation does, and a lost member's adverts are removed at that moment.
//!
//! A [`RemoteHandle`] refers to one incarnation of its member. Once that member is lost or has restarted, the handle is
//! refused, locally before anything is sent and also by the receiver; callers that want the new incarnation discover
//! it. A missing answer says nothing about whether the request was handled. A watch refers to one incarnation of an
//! actor and survives the links it uses: the actor's end is reported once, with the reason given by its supervisor.
//!
//! ```text
//!   registry ─► subscription ─► DiscoveryActor ─► advert ─► peers' DiscoveryActor ─► Directory ─► Discovery
//!   RemoteHandle::call ─► ask ─► the peer's InboundRouter ─► RequestHandler: Exports ─► its actor ─► answer ─► caller
//!   RemoteHandle::monitor ─► watch ─► the peer's InboundRouter ─► RequestHandler: its registry
//!                                               ─► down ─► Monitor ─► Linked: LinkTarget
//! ```
//!
//! Reading order: [`wire`], [`advert`], [`exports`], [`request_handler`] (answers requests), [`directory`] (adverts of
//! others), [`state`] (when to advertise), [`remote`] (handles), [`face`], [`actor`] (the actor).

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
