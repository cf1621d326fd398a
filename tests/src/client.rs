//! Asks a member over its public HTTP, without holding up the runtime that runs the member.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::Request;

/// The longest one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// A member's public HTTP.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    agent: Agent,
}

/// What a member answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The `content-type` header, empty if there is none.
    pub content_type: String,
    /// The `allow` header, empty if there is none.
    pub allow: String,
    /// The body.
    pub body: String,
}

impl Client {
    /// A client of the member that answers at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            // A connection of its own for each request: one that the member closes after a refusal is no answer to the
            // next.
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

    /// The same, with these headers.
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

    /// The status of a `GET`.
    pub async fn status(&self, path: &str) -> Result<u16, String> {
        let url = format!("{}{path}", self.base);
        self.blocking(move |agent| Ok(agent.get(url).call()?.status().as_u16())).await
    }

    /// What a `GET` answers, whatever its status.
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
