//! Supervision: a child that ends is restarted within a budget, or its supervisor gives up.
//!
//! It decides: whether an ended child is started again (its [`RestartType`]), and whether there was one
//! restart too many ([`RestartIntensity`], Erlang/OTP's sliding window). It never looks into what a child
//! does, and never sleeps: an attempt to start is a message to itself.
//!
//! Reading order: [`spec`] (what a child is, as data), [`intensity`] (the budget), [`state`] (the decisions),
//! [`actor`] (the shell on ractor), [`board`] (what the tree looks like from outside).

pub mod actor;
pub mod board;
pub mod intensity;
pub mod message;
pub mod spec;
pub mod state;

pub use actor::Supervisor;
pub use board::TreeBoard;
pub use intensity::RestartIntensity;
pub use message::SupervisorMessage;
pub use spec::{ChildSpec, RestartType, SupervisorSpec};
