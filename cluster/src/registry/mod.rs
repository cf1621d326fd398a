//! The registry: every actor of a node, what it is, where it stands in its life, and how it is found.
//!
//! It decides which moves an actor's life can make ([`lifecycle`]) and who is found by what ([`query`], [`plan`],
//! [`page`]). It never starts, stops or watches an actor: supervisors tell it what becomes of theirs, and nothing
//! in it is swept or polled. It is a shared structure and no actor, for it is read in nanoseconds.
//!
//! A handle follows: an [`Address`](crate::mailbox::Address) found here reaches whichever incarnation of the actor
//! runs. A handle to an actor of another member does not: it is refused once that member has started anew.
//!
//! Reading order: [`lifecycle`], [`entry`] (one actor), [`query`] and [`pattern`] (which actors), [`parse`] (the same
//! as text), [`plan`] (where a query begins), [`page`] (order and pages), [`actor_registry`] (the structure),
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
