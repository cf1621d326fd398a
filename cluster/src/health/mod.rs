//! Health of the actors of one node: each is asked through its own mailbox.
//!
//! It decides what an actor's [`HealthStatus`] is from the checks that were answered and those that were not, how
//! its checks develop, and when its supervisor is asked to restart it. It never restarts anything itself: an actor
//! that ends is the supervisor's concern, and one that hangs makes the member unhealthy, which the federation's gate
//! counts.
//!
//! ```text
//!   schedule ─► ping ─► actor's mailbox ─► pong ─► status ─► summary ─► federation
//!                                                    ├─► trend
//!                                                    └─► recovery ─► Healer ─► supervisor
//! ```
//!
//! Reading order: [`ping`](crate::ping) (the protocol), [`status`] (the table), [`state`] (every actor: who is due, what came of
//! it), [`trend`], [`recovery`] (the policies), [`message`], [`actor`] and [`agent`] (the shells), [`config`];
//! [`accrual`] is the failure detector the federation uses for members.

pub mod accrual;
pub mod actor;
pub mod agent;
pub mod config;
pub mod message;
pub mod recovery;
pub mod state;
pub mod status;
pub mod trend;

pub use crate::ping::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
pub use accrual::PhiAccrual;
pub use actor::{HealthMonitor, MonitorHooks, Pingable};
pub use agent::RecoveryAgent;
pub use config::HealthConfig;
pub use message::{HealthMessage, RecoveryMessage};
pub use recovery::RecoveryConfig;
