//! A span as a record: built when the work begins, and recorded as a whole when it ends.
//!
//! Nothing is recorded before the end, so no span can leak: a span that never ends is never recorded.

use std::borrow::Cow;

use super::context::TraceContext;
use crate::clock::Moment;

/// Maximum length of a text in a span, in bytes.
const TEXT_BYTES_MAX: usize = 512;
/// Maximum number of attributes, of links and of events in a span.
const PARTS_MAX: usize = 32;

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, truncated to 512 bytes.
    Text(Cow<'static, str>),
    /// An integer.
    Number(i64),
    /// A boolean.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(mut text: String) -> Self {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number as i64)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as i64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Names and values of attributes.
pub type Attributes = Vec<(&'static str, Value)>;

/// Role of the span in a message exchange, as OpenTelemetry defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Neither sends nor handles a message.
    Internal,
    /// Handles a request.
    Server,
    /// Sends a request and waits for the answer.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

/// An event within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// Time of the event.
    pub at: Moment,
    /// Name of the event.
    pub name: &'static str,
    /// Attributes of the event.
    pub attributes: Attributes,
}

/// A finished span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Trace id and span id.
    pub context: TraceContext,
    /// Id of the parent span; `None` for the root span of a trace.
    pub parent: Option<[u8; 8]>,
    /// Name of the operation, from a bounded set.
    pub name: Cow<'static, str>,
    /// Role in a message exchange.
    pub kind: SpanKind,
    /// Start of the span.
    pub started: Moment,
    /// End of the span, not before `started`.
    pub ended: Moment,
    /// Attributes of the span.
    pub attributes: Attributes,
    /// Spans that caused it but are not its parent.
    pub links: Vec<TraceContext>,
    /// Events within the span.
    pub events: Vec<SpanEvent>,
    /// Reason of the failure; `None` if it succeeded.
    pub error: Option<String>,
}

/// A span in progress.
#[derive(Clone, Debug)]
pub struct SpanBuilder(Span);

impl SpanBuilder {
    /// Starts the root span of a trace.
    pub fn root(context: TraceContext, name: impl Into<Cow<'static, str>>, started: Moment) -> Self {
        Self(Span {
            context,
            parent: None,
            name: name.into(),
            kind: SpanKind::Internal,
            started,
            ended: started,
            attributes: Vec::new(),
            links: Vec::new(),
            events: Vec::new(),
            error: None,
        })
    }

    /// Starts a child span of `parent`.
    pub fn child(
        parent: TraceContext,
        span_id: [u8; 8],
        name: impl Into<Cow<'static, str>>,
        started: Moment,
    ) -> Self {
        let mut draft = Self::root(parent.with_span(span_id), name, started);
        draft.0.parent = Some(parent.span_id);
        draft
    }

    /// Trace id and span id.
    pub fn context(&self) -> TraceContext {
        self.0.context
    }

    /// Start of the span.
    pub fn started(&self) -> Moment {
        self.0.started
    }

    /// Sets the role in a message exchange.
    #[must_use]
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets an attribute, replacing an existing value.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let attributes = &mut self.0.attributes;
        match attributes.iter().position(|(other, _)| *other == name) {
            Some(present) => attributes[present].1 = value.into(),
            None if attributes.len() < PARTS_MAX => attributes.push((name, value.into())),
            None => {}
        }
    }

    /// Makes it a child of `parent`, which must belong to the same trace.
    pub fn adopt(&mut self, parent: TraceContext) {
        debug_assert_eq!(parent.trace_id, self.0.context.trace_id);
        self.0.parent = Some(parent.span_id);
    }

    /// Adds a link to `cause`, if that is a recorded span.
    pub fn link(&mut self, cause: TraceContext) {
        if cause.is_sampled() && self.0.links.len() < PARTS_MAX && !self.0.links.contains(&cause) {
            self.0.links.push(cause);
        }
    }

    /// Adds an event.
    pub fn event(&mut self, at: Moment, name: &'static str, attributes: Attributes) {
        if self.0.events.len() < PARTS_MAX {
            self.0.events.push(SpanEvent { at, name, attributes });
        }
    }

    /// Ends the span.
    #[must_use]
    pub fn end(mut self, at: Moment) -> Span {
        self.0.ended = at.max(self.0.started);
        self.0
    }

    /// Ends the span as failed.
    #[must_use]
    pub fn fail(mut self, at: Moment, mut reason: String) -> Span {
        reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
        self.0.error = Some(reason);
        self.end(at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_bounded_in_every_part() {
        let context = TraceContext::sampled([1; 16], [2; 8]);
        let mut draft = SpanBuilder::root(context, "round", Moment::at(Duration::from_secs(2)));
        for number in 0..1_000u64 {
            draft.event(Moment::ORIGIN, "again", Vec::new());
            draft.link(TraceContext::sampled([3; 16], (number + 1).to_be_bytes()));
        }
        draft.set("reason", "é".repeat(10_000));
        draft.set("reason", "ü".repeat(10_000));
        draft.link(TraceContext::default());
        let span = draft.fail(Moment::ORIGIN, "€".repeat(10_000));
        assert_eq!((span.events.len(), span.links.len(), span.attributes.len()), (32, 32, 1));
        let Value::Text(text) = &span.attributes[0].1 else { panic!("a text") };
        assert_eq!(text.len(), 512);
        assert_eq!(span.error.expect("it failed").len(), 510);
        assert_eq!(span.ended, span.started, "not before its beginning");
    }
}
