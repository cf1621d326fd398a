//! What a request carries, read and checked: parameters, bodies, what the caller wants, and whether it knows the token.

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

/// The largest request body: a transaction in hexadecimal, and some JSON around it.
pub(super) const BODY_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX + 1024;
/// The longest a body may take to arrive.
const READING: Duration = Duration::from_secs(5);
/// How often a request steps back, for its connection to be read, before it is obeyed.
const CLOSED_SEEN_AFTER: u32 = 2;

/// The names and values of a query. Only those of `known` are accepted, each once.
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

/// A request without a query. One with a query asks for something that it would not get.
pub(super) struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        pairs(&parts.uri, &[]).map(|()| Self)
    }
}

/// The parameters of a query: those that the document of this API names, and no others.
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

/// Lets the connection be read once more: one that its sender has given up meanwhile ends there, and the request with it. A
/// member that was paused does not obey what nobody waits for any more.
async fn given_up() {
    for _ in 0..CLOSED_SEEN_AFTER {
        tokio::task::yield_now().await;
    }
}

/// A JSON body, bounded in size and in the time it takes to come.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let too_large = || {
            let detail = format!("the body is too large; expected at most {BODY_BYTES_MAX} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        // One that says so itself is not waited for.
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

/// A caller that knows the token.
pub(super) struct Authorised;

impl FromRequestParts<Ops> for Authorised {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Problem> {
        authorise(&parts.headers, ops).map(|()| Self)
    }
}

/// A caller that may change something: one that knows the token, where there is one; without one, of a member that is
/// not exposed, any of this machine's users.
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
    // Of two headers it would depend on who looks which of them counts.
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let only = given.next().filter(|_| given.next().is_none()).and_then(|value| value.to_str().ok());
    if only.is_some_and(|given| token.is_in(given)) {
        return Ok(());
    }
    let detail = "header `authorization` does not carry this member's token; expected `Bearer <token>`";
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
}

/// The one of `offers` that the caller prefers.
pub(super) fn form<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Result<&'a str, Problem> {
    let given = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accept = given.collect::<Vec<_>>().join(",");
    preferred(&accept, offers).ok_or_else(|| {
        let detail = format!("header `accept` is {accept:?}; expected {}", offers.join(" or "));
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
    })
}
