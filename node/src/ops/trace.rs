//! A span for each request: part of the caller's trace if it names one by `traceparent`, of a trace of its own
//! otherwise. What the request has actors do is part of it.

use alys_cluster::event::EventBus;
use alys_cluster::trace::{Cause, Draft, SpanKind, TraceContext, new_trace, span_id, within};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;

/// What is asked every few seconds by whoever watches: traced only for callers that name a trace.
const WATCHED: [&str; 3] = ["/metrics", "/livez", "/readyz"];
/// The route of a request that has none.
const NOWHERE: &str = "none";

/// The trace that the caller names. A header that is none counts as no header, as W3C has it.
fn named(request: &Request) -> Option<TraceContext> {
    request.headers().get("traceparent")?.to_str().ok()?.trim().parse().ok()
}

/// Tells of `request`, if it is to be told of.
fn begin(events: &EventBus, request: &Request) -> Option<Draft> {
    let route = request.extensions().get::<MatchedPath>().map_or(NOWHERE, MatchedPath::as_str);
    let caller = named(request);
    // A caller that says that its trace is not recorded wants none here either.
    let is_wanted = caller.map_or(!WATCHED.contains(&route), TraceContext::is_sampled);
    if !events.tracer().is_on() || !is_wanted {
        return None;
    }
    let (now, name) = (events.clock().now(), format!("{} {route}", request.method()));
    let draft = match caller {
        Some(caller) => Draft::child(caller, span_id(), name, now),
        None => Draft::root(new_trace(), name, now),
    };
    let method = request.method().to_string();
    Some(
        draft.kind(SpanKind::Server).with("http.request.method", method).with("http.route", route.to_owned()),
    )
}

/// Answers a request within its span.
pub(super) async fn request(State(events): State<EventBus>, request: Request, next: Next) -> Response {
    let Some(mut draft) = begin(&events, &request) else { return next.run(request).await };
    let response = within(Some(Cause::local(draft.context())), next.run(request)).await;
    let status = response.status();
    draft.set("http.response.status_code", u32::from(status.as_u16()));
    let now = events.clock().now();
    events.tracer().record(if status.is_server_error() {
        draft.fail(now, status.to_string())
    } else {
        draft.end(now)
    });
    response
}
