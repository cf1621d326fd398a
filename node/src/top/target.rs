//! Defines where a member is polled.

use std::fmt;
use std::str::FromStr;

/// Address of a member's public HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
    /// Name of the member, if it is known before the member responds.
    pub name: Option<String>,
}

impl Target {
    /// Returns this target with the name of the member that is expected there.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Label of the member until its name is known.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.authority)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.authority)
    }
}

impl Target {
    /// The socket address, if the target is not a host name.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.authority.parse().ok()
    }

    /// Whether the target is on this machine.
    pub fn is_loopback(&self) -> bool {
        let is_local = self.authority.rsplit_once(':').is_some_and(|(host, _)| host == "localhost");
        is_local || self.address().is_some_and(|address| address.ip().is_loopback())
    }
}

impl From<std::net::SocketAddr> for Target {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { authority: address.to_string(), name: None }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let parts =
            authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        match parts {
            Some((host, port)) if !host.is_empty() && port > 0 && host.chars().all(is_legal) => {
                Ok(Self { authority: authority.to_owned(), name: None })
            }
            _ => Err("expected the address of a member's ops API, such as http://127.0.0.1:3001".to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_scheme() {
        for text in ["http://127.0.0.1:3001", "127.0.0.1:3001", "http://127.0.0.1:3001/"] {
            let target: Target = text.parse().expect("an address");
            assert_eq!(target.url("/livez"), "http://127.0.0.1:3001/livez");
        }
        let target: Target = "http://[::1]:3001".parse().expect("an address");
        assert_eq!(target.label(), "[::1]:3001");
        assert_eq!(target.named("node-1").label(), "node-1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_was_expected() {
        for text in
            ["", "node-1", "https://127.0.0.1:3001", "http://127.0.0.1", "127.0.0.1:0", "a b:1", "x:1/y"]
        {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains("such as http://127.0.0.1:3001"), "{error}");
        }
    }
}
