//! Builds the OpenAPI 3.1 document of this API from the same list of operations as the router.
//!
//! Each handler documents its successful responses. Error responses are the same for all operations of a kind and are
//! added here: body errors for operations with a request body, authorization errors for operations that need the token.

use axum::http::StatusCode;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::problem::CONTENT_TYPE;
use super::view::{Lagged, Problem};

/// Base of the document: title, tags and shared schemas.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Alys member",
        description = "What one member of an Alys federation tells and takes. Every error is a problem \
                       (RFC 9457). Every path that answers GET answers HEAD as well. Times named `…_at_ms` are \
                       milliseconds since the Unix epoch on the answering member's clock; durations are named `…_ms`."
    ),
    components(schemas(Problem, Lagged)),
    tags(
        (name = "member", description = "The member itself: is it there, is it ready, how does it leave"),
        (name = "federation", description = "The members together: who is healthy, and may they work"),
        (name = "health", description = "Health checks of this member's actors"),
        (name = "supervision", description = "Who supervises whom, what failed, and what was decided"),
        (name = "registry", description = "Which actors there are"),
        (name = "chain", description = "Blocks, and what is signed"),
        (name = "telemetry", description = "Metrics, events and logs"),
    )
)]
struct Beginning;

/// Returns the document without paths.
pub(super) fn beginning() -> OpenApi {
    let mut document = Beginning::openapi();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token in the file that `ops.token_file` of the member's configuration names"));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token.build()));
    document
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    document.paths.paths.values_mut().flat_map(|PathItem { get, put, post, delete, patch, .. }| {
        [get, put, post, delete, patch].into_iter().flatten()
    })
}

fn may_answer(operation: &mut Operation, status: StatusCode, description: &str) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).build();
    let responses = &mut operation.responses.responses;
    // A response that the operation already documents, such as 503 of `/readyz`, keeps its description.
    let response = responses.entry(status.as_str().to_owned()).or_insert(RefOr::T(response));
    if let RefOr::T(response) = response {
        response.content.entry(CONTENT_TYPE.to_owned()).or_insert(RefOr::T(content));
    }
}

/// Adds the 504 response to every operation registered so far.
pub(super) fn may_take_too_long(document: &mut OpenApi) {
    for operation in operations(document) {
        may_answer(operation, StatusCode::GATEWAY_TIMEOUT, "It took too long");
    }
}

/// Adds the error responses that are common to all operations of a kind.
pub(super) fn complete(document: &mut OpenApi) {
    for operation in operations(document) {
        let content = |response: &RefOr<_>| match response {
            RefOr::T(utoipa::openapi::Response { content, .. }) => content.len(),
            RefOr::Ref(_) => 0,
        };
        let has_forms = operation.responses.responses.values().any(|response| content(response) > 1);
        may_answer(operation, StatusCode::BAD_REQUEST, "A parameter, a header or the body can not be read");
        may_answer(
            operation,
            StatusCode::MISDIRECTED_REQUEST,
            "The member is not exposed, and was asked by a name that is not this machine's",
        );
        may_answer(
            operation,
            StatusCode::SERVICE_UNAVAILABLE,
            "An actor does not answer, or too many ask at once",
        );
        if has_forms {
            may_answer(operation, StatusCode::NOT_ACCEPTABLE, "None of its forms is wanted");
        }
        if operation.security.is_some() {
            may_answer(operation, StatusCode::UNAUTHORIZED, "The token is missing, or is another");
            may_answer(operation, StatusCode::FORBIDDEN, "The member's configuration does not allow it");
        }
        if operation.request_body.is_some() {
            may_answer(operation, StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time");
            may_answer(operation, StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
            may_answer(operation, StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not `application/json`");
            may_answer(operation, StatusCode::UNPROCESSABLE_ENTITY, "A field of the body is wrong");
        }
    }
}
