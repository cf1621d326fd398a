//! Phase 2: failures, restarts, escalation, and the cases of Erlang/OTP.

mod failures;
mod otp;
mod properties;
mod tree;
