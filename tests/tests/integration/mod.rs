//! Phase 7: members as an operator and their peers see them.

mod anew;
mod audit;
mod discovery;
mod http;
mod members;
mod metrics;
mod openapi;
mod remote;
mod top;
mod traces;
