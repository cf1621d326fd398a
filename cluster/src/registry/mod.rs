//! The registry: every actor of a node, its type, its lifecycle state, and lookups for it.
//!
//! It decides which state transitions an actor can make ([`lifecycle`]) and which actors a query finds ([`query`],
//! [`plan`], [`page`]). It never starts, stops or monitors an actor: supervisors report the state of their children,
//! and the registry never polls or cleans up. It is a shared structure and not an actor, because reads take
//! nanoseconds.
//!
//! A handle survives restarts: an [`Address`](crate::mailbox::Address) found here reaches the current incarnation of
//! the actor. A handle to an actor of another member does not: it is rejected once that member has restarted.
//!
//! Reading order: [`lifecycle`], [`entry`] (one actor), [`query`] and [`pattern`] (which actors), [`parse`] (queries as
//! text), [`plan`] (access path of a query), [`page`] (order and pages), [`actor_registry`] (the structure),
//! [`subscription`] (changes).

pub mod actor_registry;
pub mod entry;
pub mod error;
mod index;
#[cfg(all(test, feature = "shuttle"))]
mod interleaving;
pub mod lifecycle;
pub mod page;
pub mod parse;
pub mod pattern;
pub mod plan;
pub mod query;
pub mod subscription;
mod sync;

pub use actor_registry::{ActorRegistry, RegistryStats, ThreadSafeActorRegistry};
pub use entry::{ActorRegistryEntry, EntryStatus, Profile, Registration};
pub use error::{LookupError, RegistryError};
pub use lifecycle::{ActorLifecycleState, IllegalMove};
pub use page::{Cursor, Order, Page, QueryPage};
pub use pattern::Pattern;
pub use plan::Plan;
pub use query::{ActorQuery, QueryError};
pub use subscription::{RegistryChange, Subscription};
