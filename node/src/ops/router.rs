//! Defines the operations of the ops API and the middleware that applies to every response.
//!
//! The routes and the OpenAPI document are both generated from the list in `operations`.

use std::sync::Arc;
use std::time::Duration;

use alys_cluster::clock::Moment;
use alys_cluster::shutdown::ShutdownCoordinator;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use tokio::sync::{Semaphore, watch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::about::About;
use super::extract::BODY_BYTES_MAX;
use super::token::Token;
use super::view::Problem;
use super::{
    about, chain, document, events, faults, federation, health, host, logs, metrics, problem, registry,
    shutdown, statements, supervision, trace,
};
use crate::logs::LogControl;
use crate::tree::NodeContext;

/// Longest wait for one actor's reply.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);
/// Longest time to produce a response that awaits several actors, or a request body.
const ANSWERING: Duration = Duration::from_secs(10);

/// Return type of handlers that answer with JSON.
pub(super) type JsonAnswer<T> = Result<Json<T>, Problem>;

/// State shared by all handlers.
#[derive(Clone)]
pub struct Ops {
    context: Arc<NodeContext>,
    shutdown: ShutdownCoordinator,
    token: Option<Arc<Token>>,
    logs: Option<LogControl>,
    started: Moment,
    streams: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
    about: Arc<About>,
}

/// All operations.
fn operations() -> OpenApiRouter<Ops> {
    let mut bounded = OpenApiRouter::with_openapi(document::beginning())
        .routes(routes!(about::index))
        .routes(routes!(about::openapi))
        .routes(routes!(about::livez))
        .routes(routes!(federation::readyz))
        .routes(routes!(federation::federation_status))
        .routes(routes!(federation::federation_gate))
        .routes(routes!(federation::federation_links))
        .routes(routes!(federation::federation_decisions))
        .routes(routes!(health::health_status))
        .routes(routes!(health::health_trends))
        .routes(routes!(supervision::supervision_tree))
        .routes(routes!(supervision::supervision_stats))
        .routes(routes!(supervision::supervision_patterns))
        .routes(routes!(supervision::supervision_memory))
        .routes(routes!(faults::inject_fault))
        .routes(routes!(faults::misbehave))
        .routes(routes!(faults::inject_disk_fault))
        .routes(routes!(faults::set_clock))
        .routes(routes!(registry::registry_actors))
        .routes(routes!(registry::registry_stats))
        .routes(routes!(chain::chain_head))
        .routes(routes!(chain::chain_block))
        .routes(routes!(statements::consensus_signatures))
        .routes(routes!(statements::consensus_received))
        .routes(routes!(statements::consensus_evidence))
        .routes(routes!(chain::genesis))
        .routes(routes!(chain::submit))
        .routes(routes!(shutdown::shutdown_progress))
        .routes(routes!(events::events))
        .routes(routes!(logs::log_level, logs::set_log_level))
        .routes(routes!(metrics::metrics))
        .layer(from_fn(in_time));
    document::may_take_too_long(bounded.get_openapi_mut());
    // A shutdown that the caller waits for has its own deadline.
    let mut all = bounded.routes(routes!(shutdown::shut_down));
    document::complete(all.get_openapi_mut());
    all
}

impl Ops {
    /// Creates the ops API of a node that has just started. Callers need `token` to shut the node down; without a
    /// token, nobody can.
    pub fn new(
        context: &NodeContext,
        shutdown: ShutdownCoordinator,
        token: Option<Token>,
        logs: Option<LogControl>,
    ) -> Self {
        Self {
            started: context.clock.now(),
            context: Arc::new(context.clone()),
            shutdown,
            token: token.map(Arc::new),
            logs,
            streams: Arc::new(Semaphore::new(events::STREAMS_MAX)),
            stopped: watch::channel(false).1,
            about: Arc::default(),
        }
    }

    /// Returns the router of all paths. Event streams end when `stopped` becomes true.
    pub fn router(mut self, stopped: watch::Receiver<bool>) -> Router {
        let (router, document) = operations().split_for_parts();
        self.stopped = stopped;
        self.about = About::new(&document);
        let finish = from_fn_with_state(self.clone(), finish);
        let traced = from_fn_with_state(self.context.events.clone(), trace::request);
        let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(traced).with_state(self);
        // `finish` wraps the whole router: axum adds the `allow` header only after all layers of a route have run.
        Router::new().fallback_service(router).layer(finish)
    }

    pub(super) fn context(&self) -> &NodeContext {
        &self.context
    }

    pub(super) fn shutdown(&self) -> &ShutdownCoordinator {
        &self.shutdown
    }

    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_deref()
    }

    pub(super) fn logs(&self) -> Option<&LogControl> {
        self.logs.as_ref()
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn started(&self) -> Moment {
        self.started
    }

    pub(super) fn streams(&self) -> Arc<Semaphore> {
        self.streams.clone()
    }

    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.clone()
    }

    pub(super) fn node(&self) -> String {
        self.context.roster.own().to_string()
    }

    pub(super) fn member_name(&self, index: usize) -> String {
        let member = self.context.genesis.members().get(index);
        member.map_or_else(|| format!("member {index}"), |member| member.name.to_string())
    }
}

/// Bounds the time until the response starts with `ANSWERING`. The body of a stream is not bounded.
async fn in_time(request: Request, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(ANSWERING, next.run(request)).await.map_err(|_| {
        let detail = format!("there was no answer within {} s", ANSWERING.as_secs());
        Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
    })
}

/// Applies to every response: checks the host, turns errors into problems, forbids caching and content sniffing, and
/// logs the request.
async fn finish(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    const AS_IT_IS: HeaderName = HeaderName::from_static("x-content-type-options");

    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = ops.context.clock.now();
    let answer = if ops.context.config.ops.expose {
        next.run(request).await
    } else {
        let (context, body) = request.into_parts();
        match host::check(&context) {
            Ok(()) => next.run(Request::from_parts(context, body)).await,
            Err(problem) => problem.into_response(),
        }
    };
    let mut response = problem::complete(answer, &method, &path);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(AS_IT_IS, HeaderValue::from_static("nosniff"));
    let (status, took) = (response.status().as_u16(), ops.context.clock.now().since(began));
    tracing::debug!(%method, path, status, took_us = took.as_micros() as u64, "answered");
    response
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::body::Body;
    use axum::http::Method;
    use axum::routing::get;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up_and_is_a_problem() {
        let router = Router::new().route("/never", get(pending::<()>)).layer(from_fn(in_time));
        let request = Request::builder().uri("/never").body(Body::empty()).expect("a request");
        let response = TowerToHyperService::new(router).call(request).await.expect("an answer");
        let response = problem::complete(response, &Method::GET, "/never");
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        let body = axum::body::to_bytes(response.into_body(), 1_000).await.expect("a body");
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem.detail, "there was no answer within 10 s");
        assert_eq!(problem.instance, "/never");
    }
}
