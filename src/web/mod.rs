//! What the HTTP clients of the TaskManager and of YouTube share: proxies from the environment, name resolution, and TLS.

mod coalesce;
mod proxy;
mod proxy_connector;
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
pub(crate) use proxy::Proxy;
use proxy_connector::{ProxyConnector, SocksConnector};
pub(crate) use refusal::{WANTS_CREDENTIALS, refusal};
use resolver::CachingResolver;
use tls::TrustingConnector;

/// Size of the two buffers of a connection. Each open connection keeps them; the head of a request or an answer must fit.
const BUFFER: usize = 32 << 10;

/// An agent for one server.
pub(crate) struct ServerAgent {
    pub(crate) agent: Agent,
    /// The proxy that its requests go through.
    pub(crate) proxy: Option<Proxy>,
}

impl ServerAgent {
    /// Creates an agent for `target`. It uses `proxy`, and trusts the certificates in `ca_file` instead of the system's. The
    /// error is one line that says why the proxy or the certificates cannot be used.
    pub(crate) fn new(
        target: &Uri,
        proxy: Option<Proxy>,
        config: ConfigBuilder<AgentScope>,
        ca_file: Option<&Path>,
    ) -> Result<Self, String> {
        let is_encrypted = target.scheme_str() == Some("https");
        // A forwarding proxy gets the requests themselves, so the connection is made to it instead of the server.
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
        let config = config.input_buffer_size(BUFFER).output_buffer_size(BUFFER);
        // If the head of an answer fills the buffer, it is too long: it could not be read on.
        let config = config.max_response_header_size(BUFFER - 1);
        let config = config.proxy(tunnel).ip_family(family).tls_config(tls).build();
        Ok(Self { agent: Agent::with_parts(config, connector, resolver), proxy })
    }
}

/// Returns the message of an error, without the system's error number.
pub(crate) fn message(error: &ureq::Error) -> String {
    if let ureq::Error::Io(error) = error { os_error::message(error) } else { error.to_string() }
}

/// Whether the host of `uri` is this machine.
pub(crate) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let address = host.parse().map(|address: IpAddr| address.to_canonical());
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
