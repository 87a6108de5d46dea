//! The proxy that the environment names for an address, read as curl reads it, but for two things: this machine is never
//! looked for behind a proxy, and `no_proxy` may name ports.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use ureq::ProxyProtocol;
use ureq::http::Uri;

use super::is_loopback;

/// The port of a proxy that names none.
const DEFAULT_PORT: u16 = 1080;

/// A proxy, and the variable that names it. It is shown without its password.
#[derive(Clone, PartialEq)]
pub(crate) struct Proxy {
    uri: Uri,
    variable: &'static str,
    /// User and password.
    credentials: Option<(String, String)>,
}

impl Proxy {
    /// The proxy for `target`, if there is one. The error is a line for a person.
    pub(crate) fn for_target(target: &Uri) -> Result<Option<Self>, String> {
        Self::by_variables(target, |name| std::env::var(name).ok())
    }

    fn by_variables(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        if is_loopback(target) {
            return Ok(None);
        }
        // Web servers set HTTP_PROXY to the `Proxy:` header of a request, so curl does not read it.
        let (names, default_port): (&[&'static str], _) = match target.scheme_str() {
            Some("https") => (&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"], 443),
            _ => (&["http_proxy", "all_proxy", "ALL_PROXY"], 80),
        };
        let set = |name: &&str| variable(name).filter(|value| !value.trim().is_empty());
        let Some((name, value)) = names.iter().find_map(|name| Some((*name, set(name)?))) else { return Ok(None) };
        let exempt = set(&"no_proxy").or_else(|| set(&"NO_PROXY")).unwrap_or_default();
        let port = target.port_u16().unwrap_or(default_port);
        if is_exempt(&exempt, target.host().unwrap_or_default(), port) {
            return Ok(None);
        }
        Self::parse(name, value.trim()).map(Some)
    }

    /// The value is not shown: it may hold a password.
    fn parse(variable: &'static str, value: &str) -> Result<Self, String> {
        let wrong = || format!("{variable} is not the address of a proxy, such as http://HOST:PORT");
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", DEFAULT_PORT),
            "https" => ("https", 443),
            scheme if scheme.starts_with("socks") => {
                return Err(format!(
                    "{variable} names a SOCKS proxy, which prismq does not speak: name an HTTP proxy, or the host in \
                     NO_PROXY"
                ));
            }
            _ => return Err(wrong()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let uri: Uri = format!("{scheme}://{host}/").parse().map_err(|_| wrong())?;
        let name = uri.host().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        let names_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = if names_port { uri.port_u16().filter(|port| *port > 0).ok_or_else(wrong)? } else { default_port };
        let uri = format!("{scheme}://{name}:{port}/").parse().map_err(|_| wrong())?;
        let decode = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let credentials = match credentials.map(|it| it.split_once(':').unwrap_or((it, ""))) {
            Some((user, password)) => Some(decode(user).zip(decode(password)).ok_or_else(wrong)?),
            None => None,
        };
        Ok(Self { uri, variable, credentials })
    }

    /// Its address, with its port.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// User and password, joined by a colon.
    pub(super) fn credentials(&self) -> Option<String> {
        self.credentials.as_ref().map(|(user, password)| format!("{user}:{password}"))
    }

    /// The same, to be asked for a connection to the target (CONNECT).
    pub(super) fn tunnel(&self) -> Result<ureq::Proxy, String> {
        let is_encrypted = self.uri.scheme_str() == Some("https");
        let protocol = if is_encrypted { ProxyProtocol::Https } else { ProxyProtocol::Http };
        let mut proxy = ureq::Proxy::builder(protocol).host(self.uri.host().unwrap_or_default());
        if let Some(port) = self.uri.port_u16() {
            proxy = proxy.port(port);
        }
        if let Some((user, password)) = &self.credentials {
            proxy = proxy.username(user).password(password);
        }
        proxy.build().map_err(|error| format!("{} cannot be used: {error}", self.variable))
    }

    /// The same, to be given the requests themselves.
    pub(super) fn forward(&self) -> Result<Self, String> {
        if self.uri.scheme_str() == Some("https") {
            return Err(format!(
                "{} names a proxy that speaks TLS, which prismq uses for https:// addresses only: name one that starts with \
                 http://",
                self.variable
            ));
        }
        Ok(self.clone())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.uri.to_string();
        write!(f, "the proxy {} of {}", address.trim_end_matches('/'), self.variable)
    }
}

/// Whether a list, separated by commas or blanks, names a host: itself, a domain that it is in, or a network of addresses.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.');
    list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let Ok(address) = host.parse::<IpAddr>() else { return names_domain(entry, host, port) };
        if let Some((network, bits)) = entry.split_once('/') {
            return is_in_network(network.trim_matches(['[', ']']), bits, address);
        }
        let (name, wanted) = split_port(entry);
        name.parse() == Ok(address) && wanted.is_none_or(|wanted| wanted == port)
    })
}

fn names_domain(entry: &str, host: &str, port: u16) -> bool {
    let (domain, wanted) = split_port(entry);
    let domain = domain.strip_prefix('*').unwrap_or(domain).trim_start_matches('.').trim_end_matches('.');
    let Some(start) = host.len().checked_sub(domain.len()).filter(|_| !domain.is_empty()) else { return false };
    let (before, tail) = (host.as_bytes().get(..start), host.as_bytes().get(start..));
    let is_whole = before.is_some_and(|before| before.is_empty() || before.ends_with(b"."));
    is_whole
        && tail.is_some_and(|tail| tail.eq_ignore_ascii_case(domain.as_bytes()))
        && wanted.is_none_or(|wanted| wanted == port)
}

/// An entry's host, without the brackets of an IPv6 address, and its port.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (entry, None),
        },
        _ => (entry, None),
    };
    (host.trim_matches(['[', ']']), port)
}

fn is_in_network(network: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    // A shift by the whole width is none that the hardware does.
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) if bits <= 32 => {
            (u32::from(network) ^ u32::from(address)).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) if bits <= 128 => {
            (u128::from(network) ^ u128::from(address)).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(target: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        let variable = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        Proxy::by_variables(&target.parse().unwrap(), variable)
    }

    #[test]
    fn each_scheme_has_its_variables() {
        const HTTP: &str = "http://tasks.example/api";
        const HTTPS: &str = "https://tasks.example/api";
        for (target, variables, expected) in [
            (HTTP, &[("http_proxy", "http://p:1")][..], Some("the proxy http://p:1 of http_proxy")),
            (HTTP, &[("HTTP_PROXY", "http://p:1")], None),
            (HTTP, &[("https_proxy", "http://p:1"), ("HTTPS_PROXY", "http://p:1")], None),
            (HTTP, &[("ALL_PROXY", "http://p:1")], Some("the proxy http://p:1 of ALL_PROXY")),
            (HTTP, &[("ALL_PROXY", "http://p:1"), ("http_proxy", "q")], Some("the proxy http://q:1080 of http_proxy")),
            (HTTPS, &[("http_proxy", "http://p:1")], None),
            (HTTPS, &[("HTTPS_PROXY", "p:1")], Some("the proxy http://p:1 of HTTPS_PROXY")),
            (HTTPS, &[("https_proxy", "HTTPS://[::1]")], Some("the proxy https://[::1]:443 of https_proxy")),
            (
                HTTPS,
                &[("https_proxy", " "), ("all_proxy", "http://a:b@p:1/x")],
                Some("the proxy http://p:1 of all_proxy"),
            ),
            (HTTPS, &[("https_proxy", "p:1"), ("no_proxy", "*")], None),
            (HTTPS, &[("https_proxy", "p:1"), ("no_proxy", ""), ("NO_PROXY", "example")], None),
            ("http://localhost:8000/api", &[("http_proxy", "http://p:1")], None),
            ("http://[::1]:8000/api", &[("http_proxy", "http://p:1")], None),
            ("http://LocalHost.:8000/api", &[("http_proxy", "http://p:1")], None),
            ("http://127.0.0.2:8000/api", &[("http_proxy", "http://p:1")], None),
            ("http://[::ffff:127.0.0.1]:8000/api", &[("http_proxy", "http://p:1")], None),
        ] {
            let found = proxy(target, variables).unwrap().map(|proxy| proxy.to_string());
            assert_eq!(found.as_deref(), expected, "{target} {variables:?}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_shown_nowhere() {
        for (value, expected) in [
            ("http://user:p%40ss%3Aw@p:1", Some("user:p@ss:w")),
            ("user:a:b@p:1", Some("user:a:b")),
            ("user@p:1", Some("user:")),
            ("p:1", None),
        ] {
            let proxy = proxy("http://tasks.example/api", &[("http_proxy", value)]).unwrap().unwrap();
            assert_eq!(proxy.credentials().as_deref(), expected);
            assert_eq!(proxy.to_string(), "the proxy http://p:1 of http_proxy");
        }
    }

    #[test]
    fn what_is_no_proxy_is_an_error_that_keeps_the_password() {
        for value in
            ["ftp://a:s3cret@p", "http://a:s3cret@", "http://a:s3cret@p:x", "http://a:s3cret@p:0", "s3cret p", "p:"]
        {
            let error = proxy("http://tasks.example/api", &[("http_proxy", value)]).unwrap_err();
            assert!(
                error.starts_with("http_proxy is not the address of a proxy") && !error.contains("s3cret"),
                "{error}"
            );
        }
        for value in ["socks5://p:1", "SOCKS4A://p", "socks5h://p"] {
            let error = proxy("http://tasks.example/api", &[("ALL_PROXY", value)]).unwrap_err();
            assert!(error.starts_with("ALL_PROXY names a SOCKS proxy"), "{error}");
            assert_eq!(proxy("http://tasks.example/api", &[("ALL_PROXY", value), ("NO_PROXY", "example")]), Ok(None));
        }
        let tls = proxy("http://tasks.example/api", &[("http_proxy", "https://p")]).unwrap().unwrap();
        assert!(tls.forward().unwrap_err().starts_with("http_proxy names a proxy that speaks TLS"));
    }

    #[test]
    fn lists_name_hosts_domains_networks_and_ports() {
        for (list, host, expected) in [
            ("tasks.example", "tasks.example", true),
            ("TASKS.example.", "tasks.EXAMPLE", true),
            ("tasks.example", "tasks.example.", true),
            ("example", "tasks.example", true),
            (".example", "tasks.example", true),
            (".example", "example", true),
            ("*.example", "tasks.example", true),
            ("ample", "tasks.example", false),
            ("a.tasks.example", "tasks.example", false),
            ("other, tasks.example", "tasks.example", true),
            ("other tasks.example\tmore", "tasks.example", true),
            (" , ,", "tasks.example", false),
            ("other,*", "tasks.example", true),
            ("tasks.example:8000", "tasks.example", true),
            ("tasks.example:80", "tasks.example", false),
            (".example:8000", "tasks.example", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7:8000", "192.0.2.7", true),
            ("192.0.2.7:1", "192.0.2.7", false),
            ("2.7", "192.0.2.7", false),
            ("192.0.2.0/24", "192.0.2.7", true),
            ("192.0.2.0/29", "192.0.2.8", false),
            ("0.0.0.0/0", "192.0.2.8", true),
            ("192.0.2.0/33", "192.0.2.8", false),
            ("192.0.2.0/x", "192.0.2.8", false),
            ("192.0.2.0/24", "tasks.example", false),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("[2001:DB8::1]", "[2001:db8:0::1]", true),
            ("[2001:db8::1]:8000", "[2001:db8::1]", true),
            ("[2001:db8::1]:80", "[2001:db8::1]", false),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("[2001:db8::]/32", "[2001:db9::1]", false),
            ("::/0", "192.0.2.7", false),
            ("\u{e9}", "tasks.example", false),
        ] {
            assert_eq!(is_exempt(list, host, 8000), expected, "{list:?} {host}");
        }
    }
}
