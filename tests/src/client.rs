//! Async client for a member's public HTTP endpoints. Requests run on blocking threads, so that they do not block the
//! runtime that runs the member.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::Request;

/// Timeout of one request.
const REQUEST: Duration = Duration::from_secs(5);

/// HTTP client of one member.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    agent: Agent,
}

/// A response of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// HTTP status code.
    pub status: u16,
    /// The `content-type` header, empty if there is none.
    pub content_type: String,
    /// The `allow` header, empty if there is none.
    pub allow: String,
    /// Response body.
    pub body: String,
}

impl Client {
    /// Creates a client of the member at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            // Every request uses a new connection, because the member may close a connection after rejecting a request.
            .max_idle_connections(0)
            .proxy(None)
            .build();
        Self { base: format!("http://{address}"), agent: config.into() }
    }

    /// Sends any request.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<HttpAnswer, String> {
        self.send_with(method, path, &[("content-type", content_type)], body).await
    }

    /// Sends any request with the given headers.
    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<HttpAnswer, String> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body.into()).map_err(|error| error.to_string())?;
        self.blocking(move |agent| {
            let mut response = agent.run(request)?;
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let (content_type, allow) = (header("content-type"), header("allow"));
            let (content_type, allow) = (content_type.unwrap_or("").into(), allow.unwrap_or("").into());
            let status = response.status().as_u16();
            Ok(HttpAnswer { status, content_type, allow, body: response.body_mut().read_to_string()? })
        })
        .await
    }

    /// Status code of a `GET` request.
    pub async fn status(&self, path: &str) -> Result<u16, String> {
        let url = format!("{}{path}", self.base);
        self.blocking(move |agent| Ok(agent.get(url).call()?.status().as_u16())).await
    }

    /// JSON body of a `GET` request, whatever its status.
    pub async fn get<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Result<T, String> {
        let url = format!("{}{path}", self.base);
        self.blocking(move |agent| agent.get(url).call()?.body_mut().read_json()).await
    }

    /// Posts a JSON body.
    pub async fn post(&self, path: &str, json: &str) -> Result<HttpAnswer, String> {
        self.send("POST", path, "application/json", json).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Agent) -> Result<T, ureq::Error> + Send + 'static,
    ) -> Result<T, String> {
        let agent = self.agent.clone();
        let asked = tokio::task::spawn_blocking(move || ask(agent)).await;
        asked.expect("a request does not panic").map_err(|error| error.to_string())
    }
}
