//! Checks the `host` header against DNS rebinding: a web page opened in a browser on this machine can make its own name
//! resolve to loopback, and then read and send anything. Such a request carries the page's host name. A member that
//! listens on loopback only therefore accepts IP addresses and `localhost`; an exposed member cannot know its names and
//! does not check.

use std::net::IpAddr;

use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;

use super::view::Problem;

/// Whether this host name cannot resolve to another machine: an IP address, `localhost`, or a subdomain of `localhost`.
fn is_of_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || last.eq_ignore_ascii_case("localhost")
}

/// Rejects a request whose host is another name. Clients that send no host, such as those of HTTP/1.0, are not browsers
/// and pass.
pub(super) fn check(request: &Parts) -> Result<(), Problem> {
    let named = request.headers.get_all(HOST).iter().map(|host| host.to_str().unwrap_or(""));
    let mut hosts = named.chain(request.uri.authority().map(Authority::as_str));
    let Some(other) = hosts.find(|host| !is_of_this_machine(host)) else { return Ok(()) };
    let detail = format!(
        "header `host` is {other:?}; expected an address or `localhost` of a member whose `ops.expose` is false"
    );
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn addresses_and_localhost_are_of_this_machine_and_names_are_not() {
        for host in ["127.0.0.1", "127.0.0.1:3001", "[::1]:3001", "[::1]", "localhost:3001", "a.LocalHost"] {
            assert!(is_of_this_machine(host), "{host}");
        }
        for host in [
            "example.com",
            "example.com:3001",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "notlocalhost",
            "",
            "a b",
        ] {
            assert!(!is_of_this_machine(host), "{host}");
        }
    }

    #[test]
    fn every_name_that_a_request_gives_counts() {
        let status = |uri: &str, hosts: &[&str]| {
            let request = hosts.iter().fold(Request::get(uri), |request, host| request.header(HOST, *host));
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            check(&parts).err().map(|problem| problem.status)
        };
        assert_eq!(status("/", &[]), None);
        assert_eq!(status("/", &["localhost"]), None);
        assert_eq!(status("http://127.0.0.1:3001/", &["127.0.0.1:3001"]), None);
        assert_eq!(status("/", &["example.com"]), Some(421));
        assert_eq!(status("/", &["localhost", "example.com"]), Some(421));
        assert_eq!(status("http://example.com/", &["localhost"]), Some(421));
    }
}
