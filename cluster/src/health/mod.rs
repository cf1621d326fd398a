//! Health of the actors of one node: each is asked through its own mailbox.
//!
//! It decides what an actor's [`HealthStatus`] is from the checks that were answered and those that were not.
//! It never restarts anything: an actor that ends is the supervisor's concern, and one that hangs makes the
//! member unhealthy, which the federation's gate counts.
//!
//! Reading order: [`ping`] (the protocol), [`message`], [`state`] (the table), [`actor`] (the shell), [`config`]; [`accrual`] is the
//! failure detector the federation uses for members.

pub mod accrual;
pub mod actor;
pub mod config;
pub mod message;
pub mod ping;
pub mod state;

pub use accrual::PhiAccrual;
pub use actor::{HealthMonitor, Pingable};
pub use config::HealthConfig;
pub use message::HealthMessage;
pub use ping::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
