//! Raw responses for input that is not a valid HTTP request. No path is known, and the connection closes afterwards.

use axum::http::StatusCode;

use super::problem;
use super::view::Problem;

/// Detail of the problem for clients that do not speak HTTP, or speak another version of it.
pub(super) const NO_REQUEST: &str = "this is no request; expected HTTP/1.1";

/// Returns a complete HTTP response whose problem has this `detail`.
pub(super) fn response(status: StatusCode, detail: &str) -> Vec<u8> {
    let body = problem::text(&Problem::new(status, detail));
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n{body}",
        status.as_str(),
        status.canonical_reason().unwrap_or("Error"),
        problem::CONTENT_TYPE,
        body.len(),
    )
    .into_bytes()
}

/// Returns the response to write instead of `bytes` if those are an error response without a body, `None` otherwise.
/// hyper writes such a response, in one piece, for input that it cannot parse as a request; every error of this API has
/// a body.
pub(super) fn spelled_out(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = bytes.strip_prefix(b"HTTP/1.1 4")?;
    let text = std::str::from_utf8(head).ok().filter(|text| text.ends_with("\r\n\r\n"))?;
    if !text.lines().any(|line| line.eq_ignore_ascii_case("content-length: 0")) {
        return None;
    }
    let (status, detail) = match text.get(..2)? {
        "00" => (StatusCode::BAD_REQUEST, NO_REQUEST),
        "14" => (StatusCode::URI_TOO_LONG, "the request's path and query are too long"),
        "31" => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's headers are too large or too many")
        }
        _ => return None,
    };
    Some(response(status, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_word_is_spelled_out() {
        let silent = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let text = String::from_utf8(spelled_out(silent).expect("spelled out")).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{text}");
        let problem: Problem = serde_json::from_str(body).expect("a problem");
        assert_eq!((problem.status, problem.kind.as_str()), (431, "about:blank"));
        for spoken in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            b"{\"HTTP/1.1 400\"}",
        ] {
            assert_eq!(spelled_out(spoken), None, "{}", String::from_utf8_lossy(spoken));
        }
    }
}
