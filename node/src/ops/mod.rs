//! Serves the ops API for operators over HTTP: on loopback, or on the network if the configuration exposes it.
//!
//! It calls actors with a deadline, reports an actor that does not reply, and makes no decisions itself. Reading order:
//! [`view`] defines the JSON; [`router`] lists the operations, whose handlers are in the module of their topic, and
//! applies what is common to all responses; `extract` parses and authorizes requests; `host` checks the host name;
//! [`server`] bounds connections and their time; [`token`] is the secret that callers need to change anything on a
//! member that has one.

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
