//! Converts spans to OTLP.

use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::trace::span::Attributes;
use alys_cluster::trace::{Span, SpanKind, TraceContext, Value};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind as Kind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status};

/// Flags of parents and links. Bit 8 would say that bit 9 is known; bit 9 would say that the parent or link is in a
/// remote process. Neither is known.
const FLAGS: u32 = 0;

/// A span, and the origin of its clock.
#[derive(Clone, Debug)]
pub struct Timed {
    /// Span to convert.
    pub span: Span,
    /// Time at the origin of the span's clock, since the Unix epoch.
    pub origin: Duration,
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(text.into_owned()),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Flag(flag) => any_value::Value::BoolValue(flag),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn attributes(of: Attributes) -> Vec<KeyValue> {
    of.into_iter().map(|(key, value)| attribute(key, value)).collect()
}

fn link(to: TraceContext) -> Link {
    Link {
        trace_id: to.trace_id.to_vec(),
        span_id: to.span_id.to_vec(),
        flags: FLAGS | u32::from(to.flags),
        ..Link::default()
    }
}

/// Converts a span.
pub fn span(Timed { span, origin }: Timed) -> OtlpSpan {
    let nanos = |at: Moment| (origin + at.since(Moment::ORIGIN)).as_nanos() as u64;
    let kind = match span.kind {
        SpanKind::Internal => Kind::Internal,
        SpanKind::Server => Kind::Server,
        SpanKind::Client => Kind::Client,
        SpanKind::Producer => Kind::Producer,
        SpanKind::Consumer => Kind::Consumer,
    };
    let event = |note: alys_cluster::trace::span::SpanEvent| Event {
        time_unix_nano: nanos(note.at),
        name: note.name.to_owned(),
        attributes: attributes(note.attributes),
        dropped_attributes_count: 0,
    };
    OtlpSpan {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: FLAGS | u32::from(span.context.flags),
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.started),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        status: span.error.map(|message| Status { message, code: StatusCode::Error.into() }),
        ..OtlpSpan::default()
    }
}

/// The resource that the spans belong to.
pub fn resource(service: &str, node: &str) -> Resource {
    let named = [
        ("service.name", service.to_owned()),
        ("service.instance.id", node.to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let attributes = named.into_iter().map(|(key, value)| attribute(key, value.into())).collect();
    Resource { attributes, ..Resource::default() }
}

/// An export request with these spans.
pub fn request(resource: &Resource, spans: Vec<Timed>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "alys-cluster".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(resource.clone());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}
