//! Describes the API itself: `/`, `/openapi.json` and `/livez`.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse as _, Response};
use utoipa::openapi::OpenApi;

use super::extract::{NoQuery, form};
use super::router::Ops;
use super::view::{IndexLink, IndexView, Problem};

/// Index and OpenAPI document, built once.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    document: String,
    links: Vec<IndexLink>,
}

impl About {
    /// Builds the index from `document`.
    pub(super) fn new(document: &OpenApi) -> Arc<Self> {
        let mut links = Vec::new();
        for (path, item) in &document.paths.paths {
            let operations = [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put)];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                let summary = operation.summary.clone().unwrap_or_default();
                links.push(IndexLink { method: method.to_owned(), path: path.clone(), summary });
            }
        }
        let document = document.to_pretty_json().expect("a document has a JSON form");
        Arc::new(Self { document, links })
    }
}

/// Index of all operations
#[utoipa::path(
    get,
    path = "/",
    tag = "member",
    responses((
        status = OK,
        description = "Every operation, as JSON, or as a page for a browser",
        content((IndexView = "application/json"), (String = "text/html; charset=utf-8"))
    ))
)]
pub(super) async fn index(
    State(ops): State<Ops>,
    headers: HeaderMap,
    _: NoQuery,
) -> Result<Response, Problem> {
    let view = IndexView { node: ops.node(), links: ops.about().links.clone() };
    match form(&headers, &["application/json", "text/html"])? {
        "text/html" => Ok(Html(page(&view)).into_response()),
        _ => Ok(Json(view).into_response()),
    }
}

/// The OpenAPI 3.1 document of this API
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "member",
    responses((status = OK, description = "The document", body = serde_json::Value, content_type = "application/json"))
)]
pub(super) async fn openapi(State(ops): State<Ops>, _: NoQuery) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], ops.about().document.clone()).into_response()
}

/// Whether the event loop runs
#[utoipa::path(
    get,
    path = "/livez",
    tag = "member",
    responses((status = OK, description = "It does", body = String, content_type = "text/plain; charset=utf-8"))
)]
pub(super) async fn livez() -> &'static str {
    "the event loop turns\n"
}

/// Escapes text for HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Renders the index as HTML. Paths of GET operations without parameters are links.
fn page(view: &IndexView) -> String {
    let node = escaped(&view.node);
    let mut rows = String::new();
    for IndexLink { method, path, summary } in &view.links {
        let (path, summary) = (escaped(path), escaped(summary));
        let is_link = method == "GET" && !path.contains('{');
        let path = if is_link { format!("<a href=\"{path}\">{path}</a>") } else { path };
        let _ = writeln!(rows, "<tr><td>{}</td><td>{path}</td><td>{summary}</td></tr>", escaped(method));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{node}</title>\n<style>\n\
         body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }}\n\
         td {{ padding: .1em 1em .1em 0; vertical-align: top }}\n\
         td:nth-child(2) {{ font-family: monospace; white-space: nowrap }}\n\
         @media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #ddd }} a {{ color: #8bf }} }}\n\
         </style>\n</head>\n<body>\n<h1>{node}</h1>\n\
         <p>A member of an Alys federation. <a href=\"/openapi.json\">/openapi.json</a> describes all of this for \
         programs.</p>\n<table>\n{rows}</table>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_no_text_of_others_as_markup() {
        let link = |method: &str, path: &str| IndexLink {
            method: method.to_owned(),
            path: path.to_owned(),
            summary: "a <b> & 'c'".to_owned(),
        };
        let links = vec![link("GET", "/x"), link("POST", "/x"), link("GET", "/x/{y}")];
        let page = page(&IndexView { node: "<script>\"n\"".to_owned(), links });
        assert!(page.contains("<h1>&lt;script&gt;&quot;n&quot;</h1>"), "{page}");
        assert!(
            page.contains("<td>GET</td><td><a href=\"/x\">/x</a></td><td>a &lt;b&gt; &amp; &#39;c&#39;</td>")
        );
        assert!(page.contains("<td>POST</td><td>/x</td>") && page.contains("<td>/x/{y}</td>"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }
}
