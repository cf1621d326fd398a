//! Where spans are told.

use std::fmt;
use std::sync::Arc;

use super::context::TraceContext;
use super::span::Span;

/// Takes spans that are over. Must not wait: what there is no room for is dropped and counted.
pub trait SpanSink: Send + Sync + 'static {
    /// Takes spans that belong together.
    fn record(&self, spans: Vec<Span>);
}

/// Where spans are told, if anywhere. Whoever makes spans asks [`Tracer::is_on`] first, so that nothing is made where
/// nobody listens. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<dyn SpanSink>>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// A tracer that tells `sink`.
    pub fn to(sink: Arc<dyn SpanSink>) -> Self {
        Self(Some(sink))
    }

    /// Whether anybody listens.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells one span.
    pub fn record(&self, span: Span) {
        self.record_all(vec![span]);
    }

    /// Tells spans that belong together.
    pub fn record_all(&self, spans: Vec<Span>) {
        if let Some(sink) = self.0.as_ref().filter(|_| !spans.is_empty()) {
            sink.record(spans);
        }
    }
}

/// A new span's id: random, and not all zeros.
pub fn span_id() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// The first span of a new trace.
pub fn new_trace() -> TraceContext {
    TraceContext::sampled(rand::random_range(1..=u128::MAX).to_be_bytes(), span_id())
}
