//! The ops API: what an operator reads, over HTTP on loopback, or where the configuration exposes it.
//!
//! It asks actors with a deadline and says so when one does not answer; it decides nothing. Reading order: [`view`] is
//! the JSON, [`router`] the list of operations, which stand each beside what it shows, and what holds for every answer;
//! `extract` is what a request carries, and who may change something, `host` the names it may be sent to; [`server`] bounds connections and their time.
//! [`token`] is what a caller needs to change anything of a member that has one.

mod about;
mod accept;
mod chain;
mod document;
mod event_fields;
mod event_filter;
mod events;
mod extract;
mod faults;
mod federation;
mod health;
mod host;
mod links;
mod logs;
mod metrics;
mod problem;
mod refusal;
mod registry;
pub mod router;
pub mod server;
mod shutdown;
mod statements;
pub mod summary;
mod supervision;
pub mod token;
mod trace;
pub mod view;
mod wire;

pub use events::{KEEP_ALIVE, STREAMS_MAX};
pub use router::Ops;
pub use server::Server;
