//! Phase 3: health checks, recovery, readiness.

mod monitor;
mod readiness;
