//! Resolves host names of servers and proxies, with a cache.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

use crate::failpoint;
use crate::resources::is_shortage;

/// How long addresses are cached.
const CACHE_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// Caches the last answer. The library's own resolver starts a thread for each call, even if a connection is open.
#[derive(Debug, Default)]
pub(super) struct CachingResolver {
    last: Mutex<Option<CachedAnswer>>,
    /// The proxy to resolve instead, which resolves the server itself.
    proxy: Option<Uri>,
}

#[derive(Debug)]
struct CachedAnswer {
    to: Uri,
    addresses: Vec<SocketAddr>,
    expires_at: Instant,
}

impl CachedAnswer {
    fn matches(&self, uri: &Uri) -> bool {
        self.to.scheme() == uri.scheme() && self.to.authority() == uri.authority()
    }
}

impl Resolver for CachingResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let uri = self.proxy.as_ref().unwrap_or(uri);
        if let Some(addresses) = address_in(uri).or_else(|| self.cached(uri)) {
            let mut resolved = self.empty();
            for address in addresses {
                resolved.push(address);
            }
            return Ok(resolved);
        }
        let resolved = look_up(uri, config, timeout)?;
        let answer =
            CachedAnswer { to: uri.clone(), addresses: resolved.to_vec(), expires_at: Instant::now() + CACHE_TIME };
        *self.last.lock() = Some(answer);
        Ok(resolved)
    }
}

impl CachingResolver {
    pub(super) fn new(proxy: Option<Uri>) -> Self {
        Self { proxy, ..Self::default() }
    }

    fn cached(&self, uri: &Uri) -> Option<Vec<SocketAddr>> {
        let last = self.last.lock();
        let answer = last.as_ref().filter(|answer| answer.matches(uri) && Instant::now() < answer.expires_at)?;
        Some(answer.addresses.clone())
    }
}

/// Resolves a name in another thread, because the system call cannot be interrupted. The library would panic if no thread
/// can be created.
fn look_up(uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
    let (sender, answer) = mpsc::sync_channel(1);
    let (uri, config) = (uri.clone(), config.clone());
    let in_this_thread = NextTimeout { after: Duration::NotHappening, ..timeout };
    let resolve = move || {
        let resolved = DefaultResolver::default().resolve(&uri, &config, in_this_thread);
        resolved.map_err(|error| explain(shortage_or(error), uri.host().unwrap_or_default()))
    };
    // The receiver may have given up.
    let look_up = move || drop(sender.send(resolve()));
    failpoint::check("look-up")?;
    thread::Builder::new().name("look-up".into()).spawn(look_up)?;
    answer.recv_timeout(*timeout.after).map_err(|_| ureq::Error::Timeout(timeout.reason))?
}

/// Returns the shortage instead of `error` if no file can be opened: the system may then report an unknown host name.
fn shortage_or(error: ureq::Error) -> ureq::Error {
    match File::open("/dev/null") {
        Err(shortage) if is_shortage(&shortage) => shortage.into(),
        _ => error,
    }
}

/// Replaces the message of the C library, such as `failed to lookup address information: Name or service not known`.
fn explain(error: ureq::Error, host: &str) -> ureq::Error {
    let said = match &error {
        ureq::Error::HostNotFound => String::new(),
        // Unlike errors of system calls, those of look-ups have no number.
        ureq::Error::Io(error) if error.raw_os_error().is_none() => error.to_string(),
        _ => return error,
    };
    // In the words of glibc and macOS, and of musl.
    let is_temporary = ["emporary failure", "Try again"].iter().any(|it| said.contains(it));
    let words = if is_temporary {
        format!("cannot look up {host}: the name server does not answer")
    } else {
        format!("no such host: {host}")
    };
    io::Error::new(ErrorKind::HostUnreachable, words).into()
}

/// Returns the address if the host of `uri` is an IP address.
fn address_in(uri: &Uri) -> Option<Vec<SocketAddr>> {
    let address: IpAddr = uri.host()?.trim_matches(['[', ']']).parse().ok()?;
    let port = uri.port_u16().or(match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })?;
    Some(vec![SocketAddr::new(address, port)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_own_answer() {
        for (uri, expected) in [
            ("http://127.0.0.1:8000/api", Some("127.0.0.1:8000")),
            ("http://127.0.0.1/api", Some("127.0.0.1:80")),
            ("https://[::1]/api", Some("[::1]:443")),
            ("http://localhost:8000/api", None),
        ] {
            let found = address_in(&uri.parse().unwrap());
            assert_eq!(found, expected.map(|address| vec![address.parse().unwrap()]), "{uri}");
        }
    }

    #[test]
    fn an_answer_is_remembered_for_a_while_and_for_its_host_only() {
        let resolver = CachingResolver::default();
        let remember = |expires_at| {
            let (to, addresses) = ("http://a.example/api".parse().unwrap(), vec!["192.0.2.1:80".parse().unwrap()]);
            *resolver.last.lock() = Some(CachedAnswer { to, addresses, expires_at });
        };
        let cached = |uri: &str| resolver.cached(&uri.parse().unwrap()).is_some();
        remember(Instant::now() + CACHE_TIME);
        assert!(cached("http://a.example/api/health"));
        assert!(!cached("http://a.example:81/api") && !cached("https://a.example/api"));
        remember(Instant::now());
        assert!(!cached("http://a.example/api"), "it is too old");
    }

    /// A process has its open files for all its threads, so the test runs itself in a child.
    #[test]
    fn a_shortage_of_open_files_differs_from_an_unknown_name() {
        const CHILD: &str = "PRISMQ_TEST_WITHOUT_FILES";
        if std::env::var_os(CHILD).is_none() {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "web::resolver::tests::a_shortage_of_open_files_differs_from_an_unknown_name"]);
            let output = child.env(CHILD, "1").output().unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
            return;
        }
        let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
        for uri in ["http://localhost:8000/api", "http://a.invalid/api"] {
            let taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
            let answer =
                CachingResolver::default().resolve(&uri.parse().unwrap(), &Config::default(), NextTimeout::default());
            drop(taken);
            let error = answer.unwrap_err();
            assert!(matches!(&error, ureq::Error::Io(error) if is_shortage(error)), "{uri}: {error:?}");
        }
    }
}
