//! A span for each request: part of the caller's trace if it names one by `traceparent`, of a trace of its own
//! otherwise. What the request has actors do is part of it.

use alys_cluster::event::EventBus;
use alys_cluster::trace::{
    ParentSpan, SpanBuilder, SpanGuard, SpanKind, TraceContext, new_trace, span_id, within,
};
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

/// What is asked every few seconds by whoever watches: traced only for callers that name a trace.
const WATCHED: [&str; 3] = ["/metrics", "/livez", "/readyz"];
/// The route of a request that has none.
const NOWHERE: &str = "none";

/// The method for a span's name, as OpenTelemetry has it: callers make up methods of any length, which would be names
/// without end, and requests that no collector takes.
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

/// The trace that the caller names. A header that is none counts as no header, as W3C has it.
fn named(request: &Request) -> Option<TraceContext> {
    request.headers().get("traceparent")?.to_str().ok()?.trim().parse().ok()
}

/// Tells of `request`, if it is to be told of.
fn begin(events: &EventBus, request: &Request) -> Option<SpanGuard> {
    let route = request.extensions().get::<MatchedPath>().map_or(NOWHERE, MatchedPath::as_str);
    let caller = named(request);
    // A caller that says that its trace is not recorded wants none here either.
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

/// Answers a request within its span. One whose caller does not wait for the answer is told as well.
pub(super) async fn request(State(events): State<EventBus>, request: Request, next: Next) -> Response {
    let Some(guard) = begin(&events, &request) else { return next.run(request).await };
    let response = within(Some(ParentSpan::local(guard.context())), next.run(request)).await;
    let status = response.status();
    let code = u32::from(status.as_u16());
    let error = status.is_server_error().then(|| status.to_string());
    guard.over_with(|draft| draft.with("http.response.status_code", code), error);
    response
}
