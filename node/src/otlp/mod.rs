//! Traces, taken to whoever collects them: OTLP over gRPC.
//!
//! [`settings`] says whether and where, from the environment variables of OpenTelemetry; [`encode`] writes spans as
//! OTLP has them; the [`exporter`] keeps a bounded queue of them and sends it from a task of its own, so that a
//! collector that is slow or gone holds nobody up. What is lost is counted.

pub mod encode;
pub mod exporter;
pub mod settings;

pub use exporter::Exporter;
pub use settings::{OtlpError, OtlpSettings};
