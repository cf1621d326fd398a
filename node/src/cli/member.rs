//! Which member a command asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alys_node::config::{NodeConfig, OPS_PORT, OpsConfig, Overrides};
use alys_node::top::Target;
use anyhow::Context as _;
use clap::Args;
use serde::de::DeserializeOwned;

/// The longest a member is waited for to answer.
pub(crate) const REQUEST: Duration = Duration::from_secs(2);

/// A running member.
#[derive(Args)]
pub(crate) struct MemberArgs {
    /// The member's ops address, such as `http://127.0.0.1:3001`. Default the `ops.address` of `--config`; without one
    /// `http://127.0.0.1:3001`, the first member of `testnet init`.
    #[arg(long, visible_alias = "ops", value_name = "URL", env = "ALYS_OPS__ADDRESS")]
    url: Option<Target>,
    /// The member's configuration file, for its ops address and token file.
    #[arg(long, value_name = "FILE", env = "ALYS_CONFIG_FILE")]
    config: Option<PathBuf>,
}

impl MemberArgs {
    /// Where the member answers.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        let target = match (&self.url, self.ops()?) {
            (Some(url), _) => url.clone(),
            (None, Some(ops)) => ops.address.into(),
            (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, OPS_PORT)).into(),
        };
        Ok(reachable(target))
    }

    /// The token file that its configuration names.
    pub(crate) fn token_file(&self) -> anyhow::Result<Option<PathBuf>> {
        Ok(self.ops()?.and_then(|ops| ops.token_file))
    }

    /// The data directory of its configuration, as far as that is a directory of this machine.
    pub(crate) fn data_dir(&self) -> anyhow::Result<Option<PathBuf>> {
        let load = |file| NodeConfig::load(file, &Overrides::default());
        let loaded = self.config.as_deref().map(load).transpose()?;
        Ok(loaded.map(|(config, _)| config.data_dir).filter(|data_dir| data_dir.is_dir()))
    }

    fn ops(&self) -> anyhow::Result<Option<OpsConfig>> {
        Ok(self.config.as_deref().map(NodeConfig::ops).transpose()?)
    }
}

/// A member that listens on every address is asked on loopback.
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

/// Asks the member itself: a proxy that the environment names would be given the token.
pub(crate) fn agent(patience: Duration) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(patience)).http_status_as_error(false);
    config.proxy(None).build().into()
}

/// What a member answers to a `GET`.
pub(crate) fn get<T: DeserializeOwned>(target: &Target, path: &str) -> anyhow::Result<T> {
    let call = agent(REQUEST).get(target.url(path)).call();
    let mut answer = call.with_context(|| format!("{target} does not answer"))?;
    answer
        .body_mut()
        .read_json()
        .with_context(|| format!("{target}{path} answered otherwise than a member does"))
}
