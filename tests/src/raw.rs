//! HTTP as bytes on a socket, for requests that a regular client does not send and responses that it does not show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use alys_node::ops::view::Problem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Maximum time to wait for a response.
const PATIENCE: Duration = Duration::from_secs(30);

/// A parsed response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Status code.
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Response body.
    pub body: String,
}

impl Raw {
    /// Parses a response.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a response.
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {text:?}"));
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { status, headers, body: body.to_owned() }
    }

    /// Value of a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks that the response is a problem document with the given status, instance and details. Returns the first
    /// mismatch, if any.
    pub fn complaint(&self, status: u16, instance: &str, detail: &[&str]) -> Option<String> {
        let problem: Result<Problem, _> = serde_json::from_str(&self.body);
        let fault = match problem {
            _ if self.status != status => format!("status {}; expected {status}", self.status),
            _ if self.header("content-type") != "application/problem+json" => {
                "another content type".to_owned()
            }
            _ if self.header("cache-control") != "no-store" => "it may be kept".to_owned(),
            Err(error) => format!("no problem: {error}"),
            Ok(problem) if problem.status != status => format!("status {} in the body", problem.status),
            Ok(problem) if problem.instance != instance => format!("instance {:?}", problem.instance),
            Ok(problem) if problem.kind != "about:blank" || problem.title.is_empty() => {
                "no type or title".to_owned()
            }
            Ok(problem) => {
                let missing: Vec<_> = detail.iter().filter(|part| !problem.detail.contains(**part)).collect();
                if missing.is_empty() {
                    return None;
                }
                format!("{missing:?} missing")
            }
        };
        Some(format!("{fault} in {self:?}"))
    }
}

/// An HTTP/1.1 request with `connection: close`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() || !["GET", "HEAD"].contains(&method) {
        let _ = write!(text, "content-length: {}\r\n", body.len());
    }
    format!("{text}\r\n{body}").into_bytes()
}

/// Connects and sends `bytes`.
///
/// # Panics
///
/// If the port does not listen.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the port listens");
    // Errors are ignored: a server that rejects the request may close before all bytes are written.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Connects with a small receive buffer and sends `bytes`, so that the server cannot write much until the response is
/// read.
///
/// # Panics
///
/// If the port does not listen.
pub async fn send_narrowly(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("the port listens");
    stream.write_all(bytes).await.expect("it is written");
    stream
}

/// All bytes until the connection is closed or reset.
///
/// # Panics
///
/// If it is not closed in time.
pub async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..read]);
        }
    });
    read.await.expect("the connection ends");
    bytes
}

/// Sends `bytes` and reads the response.
///
/// # Panics
///
/// If there is no response.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Raw {
    let mut stream = send(address, bytes).await;
    Raw::parse(&rest(&mut stream).await)
}

/// Sends a request and reads the response.
///
/// # Panics
///
/// If there is no response.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Raw {
    exchange(address, &request(method, path, headers, body)).await
}
