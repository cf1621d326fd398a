//! HTTP as bytes on a socket, for what a decent client would not send, or would not show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use alys_node::ops::view::Problem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// The longest an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Raw {
    /// Reads an answer.
    ///
    /// # Panics
    ///
    /// If it is none.
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

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// What is wrong with it as a problem of this status, if anything.
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

/// A request of HTTP/1.1 after which the connection ends.
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

/// Connects, and sends these bytes.
///
/// # Panics
///
/// If nobody listens.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the port listens");
    // One that does not want to hear more may say so before all of it is there.
    let _ = stream.write_all(bytes).await;
    stream
}

/// Connects so that little is taken of what comes until it is read.
///
/// # Panics
///
/// If nobody listens.
pub async fn send_narrowly(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("the port listens");
    stream.write_all(bytes).await.expect("it is written");
    stream
}

/// All that comes until the connection ends, or is reset.
///
/// # Panics
///
/// If it does not end.
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

/// Sends these bytes, and reads the answer.
///
/// # Panics
///
/// If there is none.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Raw {
    let mut stream = send(address, bytes).await;
    Raw::parse(&rest(&mut stream).await)
}

/// Sends a request, and reads the answer.
///
/// # Panics
///
/// If there is none.
pub async fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Raw {
    exchange(address, &request(method, path, headers, body)).await
}
