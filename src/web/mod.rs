//! What the clients of the TaskManager and of YouTube share: the way out, through a proxy where the environment names one,
//! and TLS.

mod coalesce;
mod connect;
mod proxy;
mod refusal;
mod resolver;
mod tls;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ureq::Agent;
use ureq::config::{ConfigBuilder, IpFamily};
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};

use crate::os_error;
use coalesce::{CoalescingConnector, Forward};
use connect::{ProxyConnector, SocksConnector};
pub(crate) use proxy::Proxy;
pub(crate) use refusal::{WANTS_CREDENTIALS, refusal};
use resolver::CachingResolver;
use tls::TrustingConnector;

/// An agent for the server at one address.
pub(crate) struct Way {
    pub(crate) agent: Agent,
    /// What its requests go through.
    pub(crate) proxy: Option<Proxy>,
}

impl Way {
    /// An agent for `target`, through `proxy`, which trusts the certificates in `ca_file` instead of the system's. The error
    /// is a line for a person: the proxy or the certificates cannot be used.
    pub(crate) fn to(
        target: &Uri,
        proxy: Option<Proxy>,
        config: ConfigBuilder<AgentScope>,
        ca_file: Option<&Path>,
    ) -> Result<Self, String> {
        let is_encrypted = target.scheme_str() == Some("https");
        // A proxy that is given the requests themselves is connected to as if it were the server.
        let forwarding = proxy.as_ref().filter(|proxy| !is_encrypted && !proxy.is_socks());
        let tunnel = proxy.as_ref().filter(|_| forwarding.is_none()).map(Proxy::tunnel).transpose()?;
        let trusting = ca_file.map(TrustingConnector::new).transpose()?;
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(SocksConnector::default())
                .chain(TcpConnector::default())
                .chain(trusting.unwrap_or_default())
                .chain(RustlsConnector::default())
                .chain(CoalescingConnector(forwarding.map(|proxy| Arc::new(Forward::new(target, proxy)))));
        let connector = ProxyConnector { inner: connector, proxy: proxy.as_ref().map(|proxy| proxy.uri().clone()) };
        let resolver = CachingResolver::new(forwarding.map(|proxy| proxy.uri().clone()));
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let is_ipv4_only = proxy.as_ref().is_some_and(Proxy::is_ipv4_only);
        let family = if is_ipv4_only { IpFamily::Ipv4Only } else { IpFamily::Any };
        let config = config.proxy(tunnel).ip_family(family).tls_config(tls).build();
        Ok(Self { agent: Agent::with_parts(config, connector, resolver), proxy })
    }
}

/// What has failed, without the system's number for it.
pub(crate) fn words(error: &ureq::Error) -> String {
    if let ureq::Error::Io(error) = error { os_error::words(error) } else { error.to_string() }
}

/// Whether this is an address of this machine.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let address = host.parse().map(|address: IpAddr| address.to_canonical());
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
