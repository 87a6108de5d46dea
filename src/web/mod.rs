//! What the clients of the TaskManager and of YouTube share: the way out, through a proxy where the environment names one,
//! and TLS.

mod gather;
mod proxy;
mod refusal;
mod resolver;
mod tls;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};

use gather::{Forward, Gathering};
pub(crate) use proxy::Proxy;
pub(crate) use refusal::{WANTS_CREDENTIALS, refusal};
use resolver::Remembering;
use tls::TrustingConnector;

/// An agent for the server at one address.
pub(crate) struct Way {
    pub(crate) agent: Agent,
    /// What its requests go through.
    pub(crate) proxy: Option<Proxy>,
}

impl Way {
    /// An agent for `target`, which trusts the certificates in `ca_file` instead of the system's. The error is a line for a
    /// person: the variables that name a proxy, or the certificates, cannot be used.
    pub(crate) fn to(target: &Uri, config: ConfigBuilder<AgentScope>, ca_file: Option<&Path>) -> Result<Self, String> {
        let proxy = Proxy::for_target(target)?;
        let is_encrypted = target.scheme_str() == Some("https");
        let (tunnel, forward) = match &proxy {
            Some(proxy) if is_encrypted => (Some(proxy.tunnel()?), None),
            Some(proxy) => (None, Some(proxy.forward()?)),
            None => (None, None),
        };
        let trusting = ca_file.map(TrustingConnector::new).transpose()?;
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(trusting.unwrap_or_default())
                .chain(RustlsConnector::default())
                .chain(Gathering(forward.map(|proxy| Arc::new(Forward::new(target, &proxy)))));
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let instead = proxy.as_ref().filter(|_| !is_encrypted).map(|proxy| proxy.uri().clone());
        let config = config.proxy(tunnel).tls_config(tls).build();
        Ok(Self { agent: Agent::with_parts(config, connector, Remembering::new(instead)), proxy })
    }
}

/// Whether this is an address of this machine.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let address = host.parse().map(|address: IpAddr| address.to_canonical());
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
