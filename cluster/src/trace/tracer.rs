//! The tracer, which passes finished spans to a sink.

use std::fmt;
use std::sync::Arc;

use super::context::TraceContext;
use super::span::Span;

/// Receives finished spans. Must not block: spans that exceed its capacity are dropped and counted.
pub trait SpanSink: Send + Sync + 'static {
    /// Records spans of one trace.
    fn record(&self, spans: Vec<Span>);
}

/// Passes spans to a sink, if there is one. Callers check [`Tracer::is_on`] before they create spans, so that none are
/// created without a sink. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<dyn SpanSink>>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// A tracer that records to `sink`.
    pub fn to(sink: Arc<dyn SpanSink>) -> Self {
        Self(Some(sink))
    }

    /// Whether there is a sink.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records one span.
    pub fn record(&self, span: Span) {
        self.record_all(vec![span]);
    }

    /// Records spans of one trace.
    pub fn record_all(&self, spans: Vec<Span>) {
        if let Some(sink) = self.0.as_ref().filter(|_| !spans.is_empty()) {
            sink.record(spans);
        }
    }
}

/// A random span id that is not all zeros.
pub fn span_id() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// The context of the root span of a new trace.
pub fn new_trace() -> TraceContext {
    TraceContext::sampled(rand::random_range(1..=u128::MAX).to_be_bytes(), span_id())
}
