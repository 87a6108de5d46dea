//! HTTP proxies, as the environment names them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::tls::{Tasks, config, fixture};
use crate::support::{Output, Rig, Sandbox, at_once, complains, free_port};

const KEY: &str = "a-key-of-the-tests";

/// A proxy that forwards everything to one server, whatever the host, and records the heads.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one for the server at `port`. `refusal` is its answer to what it does not forward.
    fn before(port: u16, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, heads) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass_on(client, port, refusal, &kept));
            }
        });
        Self { port: own, heads }
    }

    /// The request lines since the last call of this.
    fn lines(&self) -> Vec<String> {
        let heads = std::mem::take(&mut *self.heads.lock().unwrap());
        heads.iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

fn pass_on(mut client: TcpStream, port: u16, refusal: Option<&str>, kept: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    kept.lock().unwrap().push(head.clone());
    if let Some(refusal) = refusal {
        client.write_all(refusal.as_bytes())?;
        return client.shutdown(Shutdown::Write);
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // It forwards the request with the path alone and without its own headers.
        let (line, rest) = head.split_once("\r\n").unwrap();
        let url = line.split(' ').nth(1).unwrap();
        let path = &url[url.find("/api").unwrap()..];
        let rest: Vec<_> = rest.split_inclusive("\r\n").filter(|line| !line.starts_with("Proxy-")).collect();
        write!(server, "{}\r\nConnection: close\r\n{}", line.replace(url, path), rest.concat())?;
    }
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

/// `prismq list-tasks` with a TaskManager that only the proxy can reach.
pub(crate) fn list(url: &str, variables: &[(&str, &str)]) -> Output {
    let sandbox = Sandbox::at(url).env("TASKMANAGER_API_KEY", KEY);
    let list =
        sandbox.prismq(["list-tasks", "--json"]).env("PRISMQ_CA_FILE", fixture("authority.pem").to_str().unwrap());
    variables.iter().fold(list, |list, (name, value)| list.env(name, value)).run()
}

#[test]
fn http_requests_are_sent_to_the_proxy() {
    let rig = Rig::with_key(KEY);
    let port = rig.url().rsplit(':').next().unwrap().trim_end_matches("/api").parse().unwrap();
    let proxy = Proxy::before(port, None);
    let address = format!("http://user:p%40ss@127.0.0.1:{}", proxy.port);
    let sandbox =
        Sandbox::at("http://tasks.example:8000/api").env("TASKMANAGER_API_KEY", KEY).env("http_proxy", &address);
    sandbox.prismq(["register-type", "a", "--schema", r#"{"type":"object"}"#]).run().exits(0);
    let params = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    sandbox.prismq(["create-task", "a", "--params", "-"]).stdin(params).run().exits(0);
    let heads = proxy.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for (head, path) in heads.iter().zip(["task-types/register", "tasks"]) {
        assert!(head.starts_with(&format!("POST http://tasks.example:8000/api/{path} HTTP/1.1\r\n")), "{head}");
        // user:p@ss
        assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
        assert!(head.to_lowercase().contains("\r\nhost: tasks.example:8000\r\n"), "{head}");
    }
    proxy.lines();
    // The others are for other schemes. HTTP_PROXY may have been set by a request if a web server runs prismq.
    let exceptions = [("NO_PROXY", "x, example"), ("no_proxy", "*"), ("no_proxy", "tasks.example.")];
    let excepted = exceptions.map(|exception| vec![("http_proxy", address.as_str()), exception]);
    let others = ["https_proxy", "HTTPS_PROXY", "HTTP_PROXY"].map(|name| vec![(name, address.as_str())]);
    at_once(excepted.into_iter().chain(others), |variables| {
        let output = list("http://tasks.example:8000/api", &variables).exits(4);
        assert!(output.stderr.contains("no such host: tasks.example"), "{variables:?}: {}", output.stderr);
    });
    assert!(proxy.lines().is_empty());
}

#[test]
fn localhost_is_reached_through_a_proxy_unless_in_no_proxy() {
    let rig = Rig::with_key(KEY);
    let port = rig.url().rsplit(':').next().unwrap().trim_end_matches("/api").parse().unwrap();
    let proxy = Proxy::before(port, None);
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let localhost = format!("http://localhost:{port}/api");
    for url in [&rig.url(), &localhost] {
        let output = list(url, &[("http_proxy", &address)]).exits(0);
        let through = format!("{url} goes through the proxy {address} of http_proxy: add its host to NO_PROXY");
        assert!(output.stderr.contains(&through), "{}", output.stderr);
        assert_eq!(proxy.lines(), [format!("GET {url}/tasks?limit=52&offset=0 HTTP/1.1")]);
        let output = list(url, &[("http_proxy", &address), ("NO_PROXY", "localhost,127.0.0.0/8")]).exits(0);
        assert_eq!((proxy.lines().len(), output.stderr.as_str()), (0, "no task\n"));
        let health = rig.sandbox.prismq(["health", "--api-url", url]).env("http_proxy", &address);
        let health = health.env("TASKMANAGER_API_KEY", KEY).run();
        let answers = format!("answers at {url} through the proxy {address} of http_proxy in ");
        assert!(health.stdout.contains(&answers), "{health:?}");
        proxy.lines();
    }
}

#[test]
fn a_proxy_that_cannot_reach_the_taskmanager_is_named_with_advice() {
    let url = Rig::new().url();
    // The answer of Squid, which looks for localhost on its own machine.
    let page = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let lost = Proxy::before(1, Some(page));
    for address in ["http://127.0.0.1:1".to_owned(), format!("http://127.0.0.1:{}", lost.port)] {
        let said = |output: Output| {
            let named = format!("{url} through the proxy {address} of http_proxy");
            let said = format!("{}{}", output.stdout, output.stderr);
            assert!(said.contains(&named) && said.contains("add its host to NO_PROXY"), "{said}");
        };
        said(Sandbox::at(&url).prismq(["health"]).env("http_proxy", &address).run().exits(1));
        said(list(&url, &[("http_proxy", &address)]).exits(4));
    }
}

#[test]
fn an_embedded_taskmanager_is_reached_without_a_proxy() {
    let nobody = "http://127.0.0.1:1";
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/api");
    let sandbox = Sandbox::at(&url).env("http_proxy", nobody).env("ALL_PROXY", nobody);
    sandbox.prismq(["demo"]).run().exits(0);
    let worker = ["work", "--embedded", "--drain", "--handle", "example.count=wc -w"];
    let output = sandbox.prismq(worker).run().exits(0);
    assert!(!output.stderr.contains("proxy"), "{}", output.stderr);
}

/// A TLS proxy as `localhost`, which forwards to a plain one. Returns its address.
fn behind_tls(proxy: &Proxy, certificate: &str) -> String {
    let (port, config) = (proxy.port, Arc::new(config(certificate)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), client);
            thread::spawn(move || decrypt(tls, TcpStream::connect(("127.0.0.1", port))?));
        }
    });
    address
}

/// Copies bytes in both directions in one thread until one side ends.
fn decrypt(mut tls: StreamOwned<ServerConnection, TcpStream>, mut plain: TcpStream) -> io::Result<()> {
    let moment = Some(Duration::from_millis(2));
    tls.sock.set_read_timeout(moment)?;
    plain.set_read_timeout(moment)?;
    loop {
        if carry(&mut tls, &mut plain)? || carry(&mut plain, &mut tls)? {
            tls.conn.send_close_notify();
            tls.flush()?;
            return tls.sock.shutdown(Shutdown::Both);
        }
    }
}

/// Whether the stream has ended.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer) {
        Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush()).map(|()| length == 0),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn a_tls_proxy_works_for_http_and_https() {
    let plain = Tasks::start(None);
    let proxy = Proxy::before(plain.port, None);
    let address = behind_tls(&proxy, "signed.pem");
    let with_credentials = address.replace("://", "://user:p%40ss@");
    list("http://tasks.example/api", &[("http_proxy", &with_credentials)]).exits(0);
    let heads = std::mem::take(&mut *proxy.heads.lock().unwrap());
    assert!(heads.len() == 1 && heads[0].starts_with("GET http://tasks.example/api/tasks?"), "{heads:?}");
    assert!(heads[0].contains("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{heads:?}");

    let encrypted = Tasks::start(Some("elsewhere.pem"));
    let proxy = Proxy::before(encrypted.port, None);
    let address = behind_tls(&proxy, "signed.pem");
    list("https://tasks.example/api", &[("https_proxy", &address)]).exits(0);
    assert_eq!(proxy.lines(), ["CONNECT tasks.example:443 HTTP/1.1"]);
    // Whether the proxy's or the server's certificate is refused.
    let output = list("https://other.example/api", &[("https_proxy", &address)]).exits(4);
    assert!(output.stderr.contains("of https_proxy: its certificate is not for other.example"), "{}", output.stderr);
}

#[test]
fn tls_errors_of_a_proxy_name_the_proxy() {
    let proxy = Proxy::before(1, None);
    for (url, certificate, expected) in [
        ("http://tasks.example/api", "expired.pem", "its certificate has expired"),
        ("https://tasks.example/api", "expired.pem", "its certificate has expired"),
        ("http://tasks.example/api", "elsewhere.pem", "its certificate is not for localhost"),
    ] {
        let address = behind_tls(&proxy, certificate);
        let output = list(url, &[("all_proxy", &address)]).exits(4);
        let refused = format!("{url} through the proxy {address} of all_proxy: the proxy cannot be used: {expected}");
        assert!(output.stderr.contains(&refused), "{}", output.stderr);
        assert_eq!(proxy.lines().len(), 0);
    }
    let tasks = Tasks::start(None);
    let plain = format!("https://127.0.0.1:{}", tasks.port);
    let output = list("http://tasks.example/api", &[("all_proxy", &plain)]).exits(4);
    assert!(output.stderr.contains("the proxy cannot be used: it does not speak TLS"), "{}", output.stderr);
    assert_eq!(tasks.connections.load(Ordering::SeqCst), 1, "it is tried once");
}

#[test]
fn https_goes_through_a_tunnel() {
    let tasks = Tasks::start(Some("elsewhere.pem"));
    let proxy = Proxy::before(tasks.port, None);
    let address = format!("http://127.0.0.1:{}", proxy.port);
    list("https://tasks.example/api", &[("https_proxy", &address), ("http_proxy", "http://127.0.0.1:1")]).exits(0);
    assert_eq!(proxy.lines(), ["CONNECT tasks.example:443 HTTP/1.1"]);
    let output = list("https://other.example/api", &[("ALL_PROXY", &address)]).exits(4);
    let words =
        format!("https://other.example/api through the proxy {address} of ALL_PROXY: its certificate is not for");
    assert!(output.stderr.contains(&words), "{}", output.stderr);
    assert_eq!((proxy.lines().len(), tasks.connections.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn a_refusal_by_a_proxy_names_the_proxy() {
    let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let unauthorized = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let page =
        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
    for (url, refusal, expected) in [
        ("https://tasks.example/api", forbidden, "the proxy refuses to connect to it (403)"),
        ("https://tasks.example/api", unauthorized, "the proxy requires a user and a password (407)"),
        ("http://tasks.example/api", unauthorized, "the proxy requires a user and a password (407)"),
        ("http://tasks.example/api", page, "403"),
    ] {
        let proxy = Proxy::before(1, Some(refusal));
        let address = format!("http://127.0.0.1:{}", proxy.port);
        let output = list(url, &[("all_proxy", &address)]);
        let named = format!("{url} through the proxy {address} of all_proxy");
        assert!(output.stderr.contains(&named) && output.stderr.contains(expected), "{}", output.stderr);
        assert_eq!((proxy.lines().len(), output.code()), (1, 4), "{}", output.stderr);
        let health = Sandbox::at(url).prismq(["health"]).env("all_proxy", &address).run().exits(1);
        let said = format!("{}{}", health.stdout, health.stderr);
        assert!(said.contains(&address), "{said}");
    }
    let nobody = list("http://tasks.example/api", &[("http_proxy", "127.0.0.1:1")]).exits(4);
    assert!(
        nobody.stderr.contains("through the proxy http://127.0.0.1:1 of http_proxy: connection refused"),
        "{}",
        nobody.stderr
    );
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_setting_error() {
    let run = |scheme: &str, value: &str| {
        let sandbox = Sandbox::at(&format!("{scheme}://tasks.example/api"));
        sandbox.prismq(["list-tasks"]).env(&format!("{scheme}_proxy"), value).run()
    };
    complains(&run("https", "socks4://user@127.0.0.1:1080"), 2, &["https_proxy", "SOCKS4", "name a SOCKS5 proxy"]);
    complains(&run("https", "socks5h://localhost/run/my.sock"), 2, &["https_proxy", "Unix socket", "HOST:PORT"]);
    let output = run("https", "ftp://user:s3cret@host");
    complains(&output, 2, &["https_proxy is not the address of a proxy", "http://HOST:PORT"]);
    assert!(!output.stderr.contains("s3cret"));
}
