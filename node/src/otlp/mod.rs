//! Exports traces to a collector: OTLP over gRPC.
//!
//! [`settings`] reads from OpenTelemetry's environment variables whether and where to export; [`encode`] converts spans
//! to OTLP; the [`exporter`] keeps a bounded queue of spans and sends them from a task of its own, so that a slow or
//! unreachable collector delays nothing. Lost spans are counted.

pub mod encode;
pub mod exporter;
pub mod settings;

pub use exporter::Exporter;
pub use settings::{OtlpError, OtlpSettings};
