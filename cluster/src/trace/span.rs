//! A span as a record: made when something begins, handed over whole when it is over.
//!
//! Nothing is told of a span before its end, so that none can stay open: what is never ended is never told.

use std::borrow::Cow;

use super::context::TraceContext;
use crate::clock::Moment;

/// The most bytes of a text in a span.
const TEXT_BYTES_MAX: usize = 512;
/// The most attributes, links and notes of a span, of each.
const PARTS_MAX: usize = 32;

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, cut to 512 bytes.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
    /// Yes or no.
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

/// Names and values.
pub type Attributes = Vec<(&'static str, Value)>;

/// Which end of a message the span is, as OpenTelemetry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Neither.
    Internal,
    /// It answers a question.
    Server,
    /// It asks one.
    Client,
    /// It sends a message.
    Producer,
    /// It handles a message.
    Consumer,
}

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// When.
    pub at: Moment,
    /// What.
    pub name: &'static str,
    /// More of it.
    pub attributes: Attributes,
}

/// Something that took a while and is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span it is part of; none for the first of a trace.
    pub parent: Option<[u8; 8]>,
    /// What it is, of a bounded set.
    pub name: Cow<'static, str>,
    /// Which end of a message.
    pub kind: SpanKind,
    /// When it began.
    pub started: Moment,
    /// When it ended: not before it began.
    pub ended: Moment,
    /// More of it.
    pub attributes: Attributes,
    /// Spans that it follows from without being part of them.
    pub links: Vec<TraceContext>,
    /// What happened within it.
    pub events: Vec<SpanEvent>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A span that is not over.
#[derive(Clone, Debug)]
pub struct SpanBuilder(Span);

impl SpanBuilder {
    /// A span that begins now, as the first of its trace.
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

    /// A span that begins now, as part of `parent`.
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

    /// Its trace and its own id.
    pub fn context(&self) -> TraceContext {
        self.0.context
    }

    /// When it began.
    pub fn started(&self) -> Moment {
        self.0.started
    }

    /// Which end of a message it is.
    #[must_use]
    pub fn kind(mut self, kind: SpanKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// One attribute more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// One attribute more, or another value of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let attributes = &mut self.0.attributes;
        match attributes.iter().position(|(other, _)| *other == name) {
            Some(present) => attributes[present].1 = value.into(),
            None if attributes.len() < PARTS_MAX => attributes.push((name, value.into())),
            None => {}
        }
    }

    /// It is part of `parent`, of the same trace.
    pub fn adopt(&mut self, parent: TraceContext) {
        debug_assert_eq!(parent.trace_id, self.0.context.trace_id);
        self.0.parent = Some(parent.span_id);
    }

    /// It follows from that one, if that is one.
    pub fn link(&mut self, cause: TraceContext) {
        if cause.is_sampled() && self.0.links.len() < PARTS_MAX && !self.0.links.contains(&cause) {
            self.0.links.push(cause);
        }
    }

    /// Something happened.
    pub fn event(&mut self, at: Moment, name: &'static str, attributes: Attributes) {
        if self.0.events.len() < PARTS_MAX {
            self.0.events.push(SpanEvent { at, name, attributes });
        }
    }

    /// It is over.
    #[must_use]
    pub fn end(mut self, at: Moment) -> Span {
        self.0.ended = at.max(self.0.started);
        self.0
    }

    /// It is over, and failed.
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
