//! What crosses packages. One module for each question.

mod audit;
mod byzantine;
mod configuration;
mod discovery;
mod events;
mod exposure;
mod failures;
mod federation;
mod fuzz;
mod health;
mod hostile;
mod http;
mod layers;
mod logs;
mod members;
mod metrics;
mod openapi;
mod otp;
mod processes;
mod properties;
mod registry;
mod remote;
mod shutdown;
mod supervision;
mod top;
mod traces;
