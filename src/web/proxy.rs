//! Proxies from the environment, with the variables and rules of curl. As before curl 8.9, blanks separate the entries of
//! `no_proxy`, too.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use ureq::ProxyProtocol;
use ureq::http::Uri;

/// A proxy, and the variable that names it. Its password is never shown.
#[derive(Clone, PartialEq)]
pub(crate) struct Proxy {
    protocol: ProxyProtocol,
    uri: Uri,
    variable: &'static str,
    /// User and password.
    credentials: Option<(String, String)>,
}

impl Proxy {
    /// Returns the proxy for `target`, if the environment names one. The error is one line.
    pub(crate) fn for_target(target: &Uri) -> Result<Option<Self>, String> {
        Self::by_variables(target, |name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn by_variables(target: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        // Web servers set HTTP_PROXY to the `Proxy:` header of a request, so curl does not read it.
        let names: &[&'static str] = match target.scheme_str() {
            Some("https") => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
        };
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let value_of = |name: &&'static str| Some((*name, set(name).filter(|value| !value.trim().is_empty())?));
        let Some((name, value)) = names.iter().find_map(value_of) else { return Ok(None) };
        let exempt = set(&"no_proxy").or_else(|| set(&"NO_PROXY")).unwrap_or_default();
        if is_exempt(&exempt, target.host().unwrap_or_default()) {
            return Ok(None);
        }
        Self::parse(name, value.trim()).map(Some)
    }

    /// Parses the value of `variable`. Errors do not contain the value, since it may contain a password.
    fn parse(variable: &'static str, value: &str) -> Result<Self, String> {
        let wrong = || format!("{variable} is not the address of a proxy, such as http://HOST:PORT");
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let scheme = scheme.to_ascii_lowercase();
        let (protocol, default_port) = protocol(&scheme).ok_or_else(wrong)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, authority),
        };
        let host = host.strip_suffix(':').unwrap_or(host);
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
        let proxy = Self { protocol, uri, variable, credentials };
        if let Some(reason) = proxy.unsupported(path) {
            return Err(format!("{variable} names {reason}"));
        }
        Ok(proxy)
    }

    /// Returns what curl supports but prismq does not, and what to do.
    fn unsupported(&self, path: &str) -> Option<&'static str> {
        let is_socks4 = matches!(self.protocol, ProxyProtocol::Socks4 | ProxyProtocol::Socks4A);
        if is_socks4 && self.credentials.is_some() {
            return Some(
                "a user for a SOCKS4 proxy, which prismq does not send: remove the user, or name a SOCKS5 proxy",
            );
        }
        let is_socket = self.is_socks() && path.starts_with('/') && path.len() > 1;
        is_socket.then_some("a SOCKS proxy behind a Unix socket, which prismq does not support: name its HOST:PORT")
    }

    /// Returns its URI, with the port.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it forwards bytes instead of requests.
    pub(super) fn is_socks(&self) -> bool {
        !matches!(self.protocol, ProxyProtocol::Http | ProxyProtocol::Https)
    }

    /// Whether it takes only IPv4 addresses, so that names are resolved here.
    pub(super) fn is_ipv4_only(&self) -> bool {
        self.protocol == ProxyProtocol::Socks4
    }

    /// Returns user and password, joined by a colon.
    pub(super) fn credentials(&self) -> Option<String> {
        self.credentials.as_ref().map(|(user, password)| format!("{user}:{password}"))
    }

    /// Returns the library's proxy, for tunnels by CONNECT or SOCKS.
    pub(super) fn tunnel(&self) -> Result<ureq::Proxy, String> {
        let mut proxy = ureq::Proxy::builder(self.protocol).host(self.uri.host().unwrap_or_default());
        if let Some(port) = self.uri.port_u16() {
            proxy = proxy.port(port);
        }
        if let Some((user, password)) = &self.credentials {
            proxy = proxy.username(user).password(password);
        }
        proxy.build().map_err(|error| format!("{} cannot be used: {error}", self.variable))
    }
}

/// Returns the protocol of a scheme, and its default port.
fn protocol(scheme: &str) -> Option<(ProxyProtocol, u16)> {
    Some(match scheme {
        "http" => (ProxyProtocol::Http, 1080),
        "https" => (ProxyProtocol::Https, 443),
        "socks" | "socks4" => (ProxyProtocol::Socks4, 1080),
        "socks4a" => (ProxyProtocol::Socks4A, 1080),
        "socks5" => (ProxyProtocol::Socks5, 1080),
        "socks5h" => (ProxyProtocol::Socks5h, 1080),
        _ => return None,
    })
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

/// Whether a list, separated by commas or blanks, contains the host, a domain of it, or a network with its address. Only
/// the list `*` matches all hosts.
fn is_exempt(list: &str, host: &str) -> bool {
    let entries = || list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    if list == "*" {
        return true;
    }
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => entries().any(|entry| match entry.split_once('/') {
            Some((network, bits)) => is_in_network(network, bits, address),
            None => entry.parse() == Ok(address),
        }),
        Err(_) => entries().any(|domain| is_in_domain(host, domain)),
    }
}

/// Whether a host is a domain or part of it. A dot before or after the domain is ignored.
fn is_in_domain(host: &str, domain: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let Some(start) = host.len().checked_sub(domain.len()).filter(|_| !domain.is_empty()) else { return false };
    let (before, tail) = host.as_bytes().split_at(start);
    tail.eq_ignore_ascii_case(domain.as_bytes()) && (before.is_empty() || before.ends_with(b"."))
}

fn is_in_network(network: &str, bits: &str, address: IpAddr) -> bool {
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    // With 0 bits, the shift is out of range, and every address matches.
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

    /// As curl 7.88.1 was seen to decide, with `-v` and a listener for each way.
    #[test]
    fn each_scheme_has_its_variables() {
        const HTTP: &str = "http://tasks.example/api";
        const HTTPS: &str = "https://tasks.example/api";
        for (target, variables, expected) in [
            (HTTP, &[("http_proxy", "http://p:1")][..], Some("http://p:1 of http_proxy")),
            (HTTP, &[("HTTP_PROXY", "http://p:1")], None),
            (HTTP, &[("https_proxy", "http://p:1"), ("HTTPS_PROXY", "http://p:1")], None),
            (HTTP, &[("ALL_PROXY", "http://p:1")], Some("http://p:1 of ALL_PROXY")),
            (HTTP, &[("ALL_PROXY", "http://p:1"), ("all_proxy", "http://q:1")], Some("http://q:1 of all_proxy")),
            (HTTP, &[("ALL_PROXY", "http://p:1"), ("http_proxy", "q")], Some("http://q:1080 of http_proxy")),
            (HTTP, &[("http_proxy", ""), ("all_proxy", "http://p:1")], Some("http://p:1 of all_proxy")),
            (HTTPS, &[("http_proxy", "http://p:1")], None),
            (HTTPS, &[("HTTPS_PROXY", "p:1")], Some("http://p:1 of HTTPS_PROXY")),
            (HTTPS, &[("HTTPS_PROXY", "p:1"), ("https_proxy", "q:1")], Some("http://q:1 of https_proxy")),
            (HTTPS, &[("HTTPS_PROXY", "p:1"), ("https_proxy", "")], Some("http://p:1 of HTTPS_PROXY")),
            (HTTPS, &[("ALL_PROXY", "p:1")], Some("http://p:1 of ALL_PROXY")),
            (HTTPS, &[("https_proxy", "p:1"), ("no_proxy", "*")], None),
            (HTTPS, &[("https_proxy", "p:1"), ("no_proxy", ""), ("NO_PROXY", "example")], None),
            (HTTPS, &[("https_proxy", "p:1"), ("no_proxy", "example"), ("NO_PROXY", "other")], None),
            (
                HTTPS,
                &[("https_proxy", "p:1"), ("no_proxy", "other"), ("NO_PROXY", "example")],
                Some("http://p:1 of https_proxy"),
            ),
            (
                HTTPS,
                &[("https_proxy", "p:1"), ("no_proxy", " "), ("NO_PROXY", "example")],
                Some("http://p:1 of https_proxy"),
            ),
            // Addresses of this machine are no exception.
            ("http://localhost:8000/api", &[("http_proxy", "p:1")], Some("http://p:1 of http_proxy")),
            ("http://127.0.0.1:8000/api", &[("http_proxy", "p:1")], Some("http://p:1 of http_proxy")),
            ("http://[::1]:8000/api", &[("http_proxy", "p:1")], Some("http://p:1 of http_proxy")),
        ] {
            let found = proxy(target, variables).unwrap().map(|proxy| proxy.to_string());
            assert_eq!(found, expected.map(|it| format!("the proxy {it}")), "{target} {variables:?}");
        }
    }

    /// As above.
    #[test]
    fn a_proxy_is_named_with_or_without_scheme_and_port() {
        for (value, expected) in [
            ("p", "http://p:1080"),
            ("p:", "http://p:1080"),
            ("localhost:3128", "http://localhost:3128"),
            ("HTTP://p:3128", "http://p:3128"),
            ("http://a:b@p:1/x?y#z", "http://p:1"),
            ("[::1]", "http://[::1]:1080"),
            ("[::1]:3128", "http://[::1]:3128"),
            ("https://p", "https://p:443"),
            ("https://p:1", "https://p:1"),
            ("socks://p", "socks://p:1080"),
            ("socks4://p", "socks4://p:1080"),
            ("SOCKS4A://p:1", "socks4a://p:1"),
            ("socks5://p", "socks5://p:1080"),
            ("socks5h://a:b@[::1]/", "socks5h://[::1]:1080"),
            // curl refuses these; they come from files with CRLF.
            (" p:1\r", "http://p:1"),
        ] {
            let found = proxy("http://tasks.example/api", &[("http_proxy", value)]).unwrap().unwrap();
            assert_eq!(found.to_string(), format!("the proxy {expected} of http_proxy"), "{value:?}");
            assert_eq!(found.protocol == ProxyProtocol::Socks4, ["socks://p", "socks4://p"].contains(&value));
            assert!(found.tunnel().is_ok(), "{value:?}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_shown_nowhere() {
        for (value, expected) in [
            ("http://user:p%40ss%3Aw@p:1", Some("user:p@ss:w")),
            ("user:a:b@p:1", Some("user:a:b")),
            ("user:%zz@p:1", Some("user:%zz")),
            ("user@p:1", Some("user:")),
            ("p:1", None),
        ] {
            let proxy = proxy("http://tasks.example/api", &[("http_proxy", value)]).unwrap().unwrap();
            assert_eq!(proxy.credentials().as_deref(), expected);
            assert_eq!(proxy.to_string(), "the proxy http://p:1 of http_proxy");
        }
    }

    #[test]
    fn invalid_proxies_are_errors_that_hide_the_password() {
        const NO_ADDRESS: &str = "http_proxy is not the address of a proxy";
        for (value, expected) in [
            ("ftp://a:s3cret@p", NO_ADDRESS),
            ("http://a:s3cret@", NO_ADDRESS),
            ("http://a:s3cret@p:x", NO_ADDRESS),
            ("http://a:s3cret@p:0", NO_ADDRESS),
            ("http://a:s3cret@p:99999", NO_ADDRESS),
            ("s3cret p", NO_ADDRESS),
            ("//p:1", NO_ADDRESS),
            ("::1", NO_ADDRESS),
            ("socks6://p:1", NO_ADDRESS),
            ("socks4://s3cret@p", "http_proxy names a user for a SOCKS4 proxy"),
            ("socks4a://a:s3cret@p", "http_proxy names a user for a SOCKS4 proxy"),
            ("socks5h://localhost/s3cret.sock", "http_proxy names a SOCKS proxy behind a Unix socket"),
        ] {
            let error = proxy("http://tasks.example/api", &[("http_proxy", value)]).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("s3cret"), "{error}");
            let exempt = proxy("http://tasks.example/api", &[("http_proxy", value), ("NO_PROXY", "example")]);
            assert_eq!(exempt, Ok(None), "it is not needed");
        }
    }

    /// As curl's manual and its own tests have it, and as 7.88.1 was seen to decide, but for what is marked.
    #[test]
    fn lists_name_hosts_and_domains() {
        check(&[
            ("tasks.example", "tasks.example", true),
            ("TASKS.example.", "tasks.EXAMPLE", true),
            ("tasks.example", "tasks.example.", true),
            ("example", "tasks.example", true),
            (".example", "tasks.example", true),
            (".example", "example", true),
            (".example.", "tasks.example", true),
            ("..example", "tasks.example", false),
            ("example..", "tasks.example", false),
            ("*.example", "tasks.example", false),
            ("ample", "tasks.example", false),
            ("a.tasks.example", "tasks.example", false),
            ("http://tasks.example", "tasks.example", false),
            ("other, tasks.example", "tasks.example", true),
            ("other ,tasks.example", "tasks.example", true),
            (",,tasks.example,", "tasks.example", true),
            // curl 8.9 and later: no.
            ("other tasks.example\tmore", "tasks.example", true),
            ("other\ntasks.example", "tasks.example", false),
            ("other;tasks.example", "tasks.example", false),
            (" , ,", "tasks.example", false),
            (".", "tasks.example", false),
            ("*", "tasks.example", true),
            ("*", "192.0.2.7", true),
            (" * ", "tasks.example", false),
            ("other,*", "tasks.example", false),
            ("tasks.example:8000", "tasks.example", false),
            ("localhost", "localhost", true),
            ("localhost", "localhost.", true),
            ("localhost", "127.0.0.1", false),
            ("127.0.0.1", "localhost", false),
            ("\u{e9}", "tasks.example", false),
        ]);
    }

    /// As above.
    #[test]
    fn lists_name_addresses_and_networks() {
        check(&[
            ("127.0.0.0/8", "127.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7.", "192.0.2.7", false),
            ("192.0.2.7:8000", "192.0.2.7", false),
            ("2.7", "192.0.2.7", false),
            ("192.0.2.0/24", "192.0.2.7", true),
            ("other, 192.0.2.0/24 ", "192.0.2.7", true),
            ("192.0.2.0/29", "192.0.2.8", false),
            ("192.0.2.8/32", "192.0.2.8", true),
            // curl compares all bits here.
            ("0.0.0.0/0", "192.0.2.8", true),
            ("192.0.2.0/33", "192.0.2.8", false),
            ("192.0.2.0/x", "192.0.2.8", false),
            ("192.0.2.0/24x", "192.0.2.8", false),
            ("192.0.2.0/ 24", "192.0.2.8", false),
            ("192.0.2/24", "192.0.2.8", false),
            ("192.0.2.0/24", "tasks.example", false),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("2001:DB8:0::1", "[2001:db8::1]", true),
            ("[2001:db8::1]", "[2001:db8::1]", false),
            ("[2001:db8::1]:8000", "[2001:db8::1]", false),
            ("2001:db8::/32", "[2001:db8:1::1]", true),
            ("2001:db8::/32", "[2001:db9::1]", false),
            ("2001:db8::/65", "[2001:db8::1]", true),
            ("2001:db8::/65", "[2001:db8:8000::1]", false),
            ("::1/129", "[::1]", false),
            ("::/0", "192.0.2.7", false),
            ("192.0.2.7", "[::ffff:192.0.2.7]", false),
        ]);
    }

    /// Whether each list exempts the host.
    #[track_caller]
    fn check(cases: &[(&str, &str, bool)]) {
        for (list, host, expected) in cases {
            assert_eq!(is_exempt(list, host), *expected, "{list:?} {host}");
        }
    }
}
