//! Opens a span for each request: a child of the caller's trace if the request has a `traceparent` header, the root of
//! a new trace otherwise. Work that actors do for the request is part of the trace.

use alys_cluster::event::EventBus;
use alys_cluster::trace::{
    ParentSpan, SpanBuilder, SpanGuard, SpanKind, TraceContext, new_trace, span_id, within,
};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

/// Routes that monitoring polls every few seconds: traced only if the caller passes a `traceparent`.
const WATCHED: [&str; 3] = ["/metrics", "/livez", "/readyz"];
/// Route name of a request that matches no route.
const NOWHERE: &str = "none";

/// Method for the span's name, as OpenTelemetry's semantic conventions require: an unknown method becomes `_OTHER`.
/// Callers can send methods of any length, which would create unbounded span names and batches that collectors reject.
fn method_of(request: &Request) -> &'static str {
    match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// Trace context of the caller. An invalid header is ignored, as W3C Trace Context requires.
fn named(request: &Request) -> Option<TraceContext> {
    request.headers().get("traceparent")?.to_str().ok()?.trim().parse().ok()
}

/// Starts the span of `request`, if it is to be traced.
fn begin(events: &EventBus, request: &Request) -> Option<SpanGuard> {
    let route = request.extensions().get::<MatchedPath>().map_or(NOWHERE, MatchedPath::as_str);
    let caller = named(request);
    // If the caller's context is not sampled, no span is recorded here either.
    let is_wanted = caller.map_or(!WATCHED.contains(&route), TraceContext::is_sampled);
    if !events.tracer().is_on() || !is_wanted {
        return None;
    }
    let method = method_of(request);
    let (now, name) = (events.clock().now(), format!("{method} {route}"));
    let draft = match caller {
        Some(caller) => SpanBuilder::child(caller, span_id(), name, now),
        None => SpanBuilder::root(new_trace(), name, now),
    };
    let draft = draft.kind(SpanKind::Server).with("http.request.method", method);
    Some(events.begin(draft.with("http.route", route.to_owned())))
}

/// Handles a request within its span. The span is also recorded if the caller disconnects before the response.
pub(super) async fn request(State(events): State<EventBus>, request: Request, next: Next) -> Response {
    let Some(guard) = begin(&events, &request) else { return next.run(request).await };
    let response = within(Some(ParentSpan::local(guard.context())), next.run(request)).await;
    let status = response.status();
    let code = u32::from(status.as_u16());
    let error = status.is_server_error().then(|| status.to_string());
    guard.over_with(|draft| draft.with("http.response.status_code", code), error);
    response
}
