//! Errors as `application/problem+json` (RFC 9457).
//!
//! A [`Problem`] is attached to its response as an extension until [`complete`], which knows the request's path, writes
//! the body. Error responses of the underlying libraries that have only a status become problems there as well.

use alys_cluster::mailbox::CallError;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::view::Problem;

/// Content type of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        let (kind, instance) = ("about:blank".to_owned(), String::new());
        Self { kind, title, status: status.as_u16(), detail: detail.into(), instance }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if status == StatusCode::UNAUTHORIZED {
            // The challenge that RFC 9110, section 11.6.1 requires of a 401.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An actor that does not reply is a temporary condition of this member: 503.
impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

/// Serializes a problem.
pub(super) fn text(problem: &Problem) -> String {
    serde_json::to_string(problem).expect("a problem has a JSON form")
}

/// Completes the response to `method` of `path`: an error response gets a problem as its body.
pub(super) fn complete(response: Response, method: &Method, path: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let status = parts.status;
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json = |value: &HeaderValue| value.as_bytes().ends_with(b"json");
    let problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None if !is_error || parts.headers.get(header::CONTENT_TYPE).is_some_and(is_json) => {
            return Response::from_parts(parts, body);
        }
        None => {
            let allowed = parts.headers.get(header::ALLOW).and_then(|allowed| allowed.to_str().ok());
            let detail = match status {
                StatusCode::NOT_FOUND => format!("there is nothing at {path}"),
                StatusCode::METHOD_NOT_ALLOWED => {
                    format!(
                        "{path} does not answer {method}; expected {}",
                        allowed.unwrap_or("another method")
                    )
                }
                _ => format!("{method} of {path} was refused"),
            };
            Problem::new(status, detail)
        }
    };
    let problem = Problem { instance: path.to_owned(), ..problem };
    let body = text(&problem);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Response::from_parts(parts, Body::from(body))
}
