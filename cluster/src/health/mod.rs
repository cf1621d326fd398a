//! Checks the health of one node's actors by pinging each through its own mailbox.
//!
//! This module derives an actor's [`HealthStatus`] from answered and unanswered checks, computes trends, and decides
//! when to ask a supervisor for a restart. It never restarts anything itself: an actor that stops is handled by its
//! supervisor, and one that hangs makes the member unhealthy, which the federation's gate takes into account.
//!
//! ```text
//!   schedule ─► ping ─► actor's mailbox ─► pong ─► status ─► summary ─► federation
//!                                                    ├─► trend
//!                                                    └─► recovery ─► RestartRequester ─► supervisor
//! ```
//!
//! Reading order: [`ping`] (the protocol), [`status`] (the transition table), [`state`] (schedule and results of all
//! actors), [`trend`], [`recovery`] (the policies), [`message`], [`actor`] and [`agent`] (the actors), [`config`];
//! [`accrual`] is the failure detector that the federation uses for members.

pub mod accrual;
pub mod actor;
pub mod agent;
pub mod config;
pub mod message;
pub mod ping;
pub mod recovery;
pub mod state;
pub mod status;
pub mod trend;

pub use accrual::PhiAccrual;
pub use actor::{HealthMonitor, MonitorHooks, Pingable};
pub use agent::RecoveryAgent;
pub use config::HealthConfig;
pub use message::{HealthMessage, RecoveryMessage};
pub use ping::{HealthCheckResult, HealthStatus, PingMessage, PongMessage};
pub use recovery::RecoveryConfig;
