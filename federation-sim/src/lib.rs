//! Fault-injection simulator: runs scenarios against a federation of `alys-node` processes and checks the results.
//!
//! A [`Scenario`](scenario::Scenario) describes a federation and the steps to run against it, as data. The [`runner`]
//! applies the steps to a [`Federation`](federation::Federation), whose implementation starts `alys-node` processes on
//! loopback ([`loopback`]). The runner observes the members through their public HTTP endpoints only and merges every
//! observation into a [`Record`](record::Record). The [`assertion`]s, the [`invariant`]s, the [`timing`]s with their
//! [`slo`]s, and the [`report`] are computed from the record alone.
//!
//! ```text
//! scenario ──► runner ──actions──► loopback: process, proxy, setup, client, fault, guard
//!                │ ◄─observations──┘
//!                ▼
//!              record ──► assertion, invariant, timing, slo ──► report
//! ```
//!
//! The upper row does I/O and waits; the lower row is pure. Start reading at [`step`], then [`runner`], then
//! [`invariant`].

pub mod assertion;
mod attack;
pub mod binary;
mod chaos;
mod client;
mod clock;
pub mod discover;
mod fault;
pub mod federation;
pub mod guard;
pub mod invariant;
pub mod link;
pub mod live;
pub mod loopback;
pub mod page;
pub mod page_file;
pub mod ports;
mod proc;
mod process;
mod proxy;
pub mod record;
pub mod report;
pub mod runner;
pub mod scenario;
mod seed;
mod setup;
pub mod slo;
pub mod step;
pub mod timeline;
pub mod timing;
pub mod topology;
mod twin;

pub use clock::now_ms;
pub use ports::NoPort;
pub use setup::SetupError;
