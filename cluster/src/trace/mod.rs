//! Tracing: spans, propagation of the trace context, and the sink for finished spans.
//!
//! A span is a record that is passed to the sink when it ends ([`span`]); until then its creator holds it. So no span
//! lives as long as an actor, none is left open, and exporting spans is not traced itself. The alternative was
//! `tracing`'s spans: see `docs/adr/0007-traces.md`.

pub mod context;
pub mod current;
pub mod span;
pub mod span_guard;
pub mod tracer;

pub use context::TraceContext;
pub use current::{ParentSpan, current, current_context, within, within_sync};
pub use span::{Span, SpanBuilder, SpanKind, Value};
pub use span_guard::SpanGuard;
pub use tracer::{SpanSink, Tracer, new_trace, span_id};
