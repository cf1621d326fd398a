//! What crosses packages. One module for each question.

mod audit;
mod discovery;
mod exposure;
mod failures;
mod federation;
mod fuzz;
mod health;
mod hostile;
mod layers;
mod members;
mod metrics;
mod otp;
mod processes;
mod properties;
mod registry;
mod remote;
mod shutdown;
mod supervision;
mod top;
