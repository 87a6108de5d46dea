//! Connects to proxies. Errors between here and a proxy are told apart from errors between the proxy and the server.

use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{self, ConnectionDetails, Connector, Transport};

use super::refusal::{ProxyRefusal, refusal};

/// Connects to the proxy instead of the server, unless the connection is to be made through a tunnel: that asks for a
/// connection to the proxy itself first.
#[derive(Debug)]
pub(super) struct ProxyConnector<C> {
    pub(super) inner: C,
    pub(super) proxy: Option<Uri>,
}

impl<C: Connector<()>> Connector<()> for ProxyConnector<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let Some(proxy) = self.proxy.as_ref().filter(|_| details.config.proxy().is_none()) else {
            return self.inner.connect(details, chained);
        };
        let details = ConnectionDetails {
            uri: proxy,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.inner.connect(&details, chained).map_err(|error| match refusal(&error) {
            Some(reason) => ProxyRefusal(format!("the proxy cannot be used: {reason}")).into(),
            None => error,
        })
    }
}

/// The library's connector for SOCKS proxies, with errors that say what to do.
#[derive(Debug, Default)]
pub(super) struct SocksConnector(transport::SocksConnector);

impl<In: Transport> Connector<In> for SocksConnector {
    type Out = <transport::SocksConnector as Connector<In>>::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained).map_err(explain)
    }
}

/// Explains a SOCKS proxy's refusal, which the library reports only in the message.
fn explain(error: Error) -> Error {
    let Error::Io(io) = &error else { return error };
    let said = io.to_string();
    let refused = match said.as_str() {
        "no acceptable auth methods" | "unknown auth method" | "invalid username" | "invalid password" => {
            "the proxy requires a user and a password: write it as socks5h://USER:PASSWORD@HOST:PORT"
        }
        "password authentication failed" => "the proxy refuses the user or the password",
        "connection not allowed by ruleset" => {
            "the proxy refuses to connect to it: allow it there, or add its host to NO_PROXY"
        }
        "invalid response version" | "invalid response code" | "invalid reserved byte" | "unsupported address type" => {
            "the proxy does not speak this version of SOCKS"
        }
        "SOCKS4 does not support IPv6" => "a SOCKS4 proxy cannot connect to an IPv6 address: name a SOCKS5 proxy",
        "general SOCKS server failure"
        | "network unreachable"
        | "host unreachable"
        | "connection refused"
        | "TTL expired"
        | "unknown error"
        | "request rejected or failed" => {
            return Error::ConnectProxyFailed(format!("the proxy cannot connect to it ({said})"));
        }
        _ => return error,
    };
    ProxyRefusal(refused.to_owned()).into()
}
