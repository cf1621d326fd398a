//! Traces: which span something belongs to, how that travels, and where spans are told.
//!
//! A span is a record that is handed over when it is over ([`span`]); who began it holds it until then. So none lives
//! as long as an actor, none is forgotten open, and telling them is not instrumenting the telling. The road not taken
//! is `tracing`'s spans: see `docs/adr/0007-traces.md`.

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
