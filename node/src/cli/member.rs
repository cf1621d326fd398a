//! Options that select the member a command talks to, and the HTTP client for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alys_node::config::{NodeConfig, OPS_PORT, OpsConfig, Overrides};
use alys_node::top::Target;
use anyhow::Context as _;
use clap::Args;
use serde::de::DeserializeOwned;

/// Timeout of a request to a member.
pub(crate) const REQUEST: Duration = Duration::from_secs(2);

/// Address of a running member.
#[derive(Args)]
pub(crate) struct MemberArgs {
    /// The member's ops address, such as `http://127.0.0.1:3001`. Default: `ops.address` of `--config`; without one
    /// `http://127.0.0.1:3001`, the first member of `testnet init`.
    #[arg(long, visible_alias = "ops", value_name = "URL", env = "ALYS_OPS__ADDRESS")]
    url: Option<Target>,
    /// The member's configuration file, for its ops address and token file.
    #[arg(long, value_name = "FILE", env = "ALYS_CONFIG_FILE")]
    config: Option<PathBuf>,
}

impl MemberArgs {
    /// Ops address of the member.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        let target = match (&self.url, self.ops()?) {
            (Some(url), _) => url.clone(),
            (None, Some(ops)) => ops.address.into(),
            (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, OPS_PORT)).into(),
        };
        Ok(reachable(target))
    }

    /// Token file named by the member's configuration.
    pub(crate) fn token_file(&self) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.ops()?.and_then(|ops| ops.token_file))
    }

    /// Data directory of the member's configuration, if it exists on this machine.
    pub(crate) fn data_dir(&self) -> anyhow::Result<Option<PathBuf>> {
        let load = |file| NodeConfig::load(file, &Overrides::default());
        let loaded = self.config.as_deref().map(load).transpose()?;
        Ok(loaded.map(|(config, _)| config.data_dir).filter(|data_dir| data_dir.is_dir()))
    }

    fn ops(&self) -> anyhow::Result<Option<OpsConfig>> {
        Ok(self.config.as_deref().map(NodeConfig::ops).transpose()?)
    }
}

/// Replaces an unspecified address (listening on all interfaces) by loopback.
pub(crate) fn reachable(target: Target) -> Target {
    let Some(address) = target.address().filter(|address| address.ip().is_unspecified()) else {
        return target;
    };
    let ip = match address.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port()).into()
}

/// HTTP client that ignores proxies of the environment: a proxy would receive the token.
pub(crate) fn agent(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(patience)).http_status_as_error(false);
    config.proxy(None).build().into()
}

/// Sends a `GET` to a member and decodes the response.
pub(crate) fn get<T: DeserializeOwned>(target: &Target, path: &str) -> anyhow::Result<T> {
    let call = agent(REQUEST).get(target.url(path)).call();
    let mut answer = call.with_context(|| format!("{target} does not answer"))?;
    answer
        .body_mut()
        .read_json()
        .with_context(|| format!("{target}{path} answered otherwise than a member does"))
}
