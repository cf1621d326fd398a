//! Phase 4: graceful and forced shutdown, signals, members that leave.

mod coordinator;
mod leaving;
mod signals;
