//! Extractors for requests: query parameters, bodies, content negotiation and the token.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::ParameterIn;

use super::accept::preferred;
use super::router::Ops;
use super::view::Problem;
use crate::consensus::block::TRANSACTION_BYTES_MAX;

/// Maximum size of a request body in bytes: a transaction in hexadecimal, plus some JSON around it.
pub(super) const BODY_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX + 1024;
/// Longest time for a body to arrive.
const READING: Duration = Duration::from_secs(5);
/// Number of times a request yields, so that its connection is polled, before it takes effect.
const CLOSED_SEEN_AFTER: u32 = 2;

/// Checks the query's parameters: only names in `known` are accepted, each at most once.
fn pairs(uri: &Uri, known: &[String]) -> Result<(), Problem> {
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| {
        wrong(format!("the query {:?} can not be read: {error}", uri.query().unwrap_or("")))
    })?;
    let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    let expected = if names.is_empty() { "no parameters".to_owned() } else { names.join(", ") };
    let mut seen = BTreeSet::new();
    for (name, value) in &pairs {
        if !known.contains(name) {
            return Err(wrong(format!("query parameter `{name}` is {value:?}; expected {expected}")));
        }
        if !seen.insert(name) {
            return Err(wrong(format!(
                "query parameter `{name}` is there twice, again as {value:?}; expected once"
            )));
        }
    }
    Ok(())
}

/// Extractor for requests without a query. Any parameter is rejected, because it would have no effect.
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        pairs(&parts.uri, &[]).map(|()| Self)
    }
}

/// Query parameters: exactly those that the OpenAPI document lists are accepted.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + IntoParams> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let known = T::into_params(|| Some(ParameterIn::Query)).into_iter().map(|known| known.name);
        pairs(&parts.uri, &known.collect::<Vec<_>>())?;
        let Query(asked) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
        Ok(Self(asked))
    }
}

/// Yields so that the connection is polled again: if the client has closed it, the connection ends and cancels this
/// request. Without this, a member that was paused would execute requests that their clients have given up.
async fn given_up() {
    for _ in 0..CLOSED_SEEN_AFTER {
        tokio::task::yield_now().await;
    }
}

/// JSON body, bounded in size and in the time it takes to arrive.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let too_large = || {
            let detail = format!("the body is too large; expected at most {BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        // A body whose `content-length` is too large is rejected without reading it.
        if length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| length > BODY_BYTES_MAX)
        {
            return Err(too_large());
        }
        let read = tokio::time::timeout(READING, Json::<T>::from_request(request, state)).await;
        let body = match read {
            Ok(Ok(Json(body))) => body,
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(too_large());
            }
            Ok(Err(rejection)) => return Err(Problem::new(rejection.status(), rejection.body_text())),
            Err(_) => {
                let detail = format!("the body did not arrive within {} s", READING.as_secs());
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            }
        };
        given_up().await;
        Ok(Self(body))
    }
}

/// Extractor that requires the token.
pub(super) struct Authorised;

impl FromRequestParts<Ops> for Authorised {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Problem> {
        authorise(&parts.headers, ops).map(|()| Self)
    }
}

/// Extractor for operations that change something: requires the token if one is configured or the API is exposed. On a
/// member that is not exposed and has no token, any user of this machine is admitted.
pub(super) struct Admitted;

impl FromRequestParts<Ops> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Problem> {
        let asks = ops.token().is_some() || ops.context().config.ops.expose;
        if asks { authorise(&parts.headers, ops).map(|()| Self) } else { Ok(Self) }
    }
}

fn authorise(headers: &HeaderMap, ops: &Ops) -> Result<(), Problem> {
    let Some(token) = ops.token() else {
        let detail =
            "field `ops.token_file` is not set; expected a file with the token that callers must know";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    };
    // Several `authorization` headers are rejected: which one counts would depend on the reader.
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let only = given.next().filter(|_| given.next().is_none()).and_then(|value| value.to_str().ok());
    if only.is_some_and(|given| token.is_in(given)) {
        return Ok(());
    }
    let detail = "header `authorization` does not carry this member's token; expected `Bearer <token>`";
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
}

/// Returns the one of `offers` that the caller prefers.
pub(super) fn form<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Result<&'a str, Problem> {
    let given = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept = given.collect::<Vec<_>>().join(",");
    preferred(&accept, offers).ok_or_else(|| {
        let detail = format!("header `accept` is {accept:?}; expected {}", offers.join(" or "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
    })
}
