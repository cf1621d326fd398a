//! Four members brought up, hurt and judged.
//!
//! A [`Scenario`](scenario::Scenario) is a federation and its story, as data. The [`runner`] tells the story
//! to a [`Federation`](federation::Federation), which is four `alys-node` processes on loopback
//! ([`loopback`]), and merges what it sees, through the members' public HTTP only, into a
//! [`Record`](record::Record). From the record alone follow the [`assertion`]'s verdicts, the [`invariant`]s, the
//! [`timing`]s with the [`slo`]s they must keep to, and the [`report`].
//!
//! ```text
//! scenario ──► runner ──actions──► loopback: process, proxy, setup, client, fault, guard
//!                │ ◄─observations──┘
//!                ▼
//!              record ──► assertion, invariant, timing, slo ──► report
//! ```
//!
//! The upper row acts and waits; the lower row is pure. Start reading at [`step`], then [`runner`], then
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
