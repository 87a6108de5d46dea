//! SOCKS proxies, as the environment names them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::proxy::list;
use super::tls::Tasks;
use crate::support::at_once;

/// A SOCKS proxy that forwards everything to one server, whatever the target, and records the targets.
struct Socks {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Its answers: the authentication that it wants (0 = none, 2 = user and password, 255 = another), whether it accepts a
/// password, and its replies to versions 5 and 4.
#[derive(Clone, Copy)]
struct Manner {
    method: u8,
    accepts: bool,
    reply: u8,
}

const OPEN: Manner = Manner { method: 0, accepts: true, reply: 0 };

impl Socks {
    fn before(port: u16, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass_on(client, port, manner, &kept));
            }
        });
        Self { port: own, asked }
    }

    /// The requests since the last call of this: version, user and target.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn pass_on(mut client: TcpStream, port: u16, manner: Manner, kept: &Mutex<Vec<String>>) -> io::Result<()> {
    let is_open = match read::<1>(&mut client)? {
        [4] => version_4(&mut client, manner, kept)?,
        [5] => version_5(&mut client, manner, kept)?,
        _ => false,
    };
    if !is_open {
        return client.shutdown(Shutdown::Write);
    }
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}

fn version_4(client: &mut TcpStream, manner: Manner, kept: &Mutex<Vec<String>>) -> io::Result<bool> {
    let [1, high, low, address @ ..] = read::<7>(client)? else { return Ok(false) };
    let user = until_nul(client)?;
    let host = match address {
        [0, 0, 0, _] => until_nul(client)?,
        address => IpAddr::from(address).to_string(),
    };
    kept.lock().unwrap().push(format!("4 {user} {host}:{}", u16::from_be_bytes([high, low])));
    client.write_all(&[0, if manner.reply == 0 { 90 } else { 91 }, 0, 0, 0, 0, 0, 0])?;
    Ok(manner.reply == 0)
}

fn version_5(client: &mut TcpStream, manner: Manner, kept: &Mutex<Vec<String>>) -> io::Result<bool> {
    let methods = counted(client)?;
    if !methods.contains(&manner.method) {
        client.write_all(&[5, 255])?;
        return Ok(false);
    }
    client.write_all(&[5, manner.method])?;
    let mut user = String::new();
    if manner.method == 2 {
        read::<1>(client)?;
        user = [counted(client)?, counted(client)?].map(|it| String::from_utf8(it).unwrap()).join(":");
        client.write_all(&[1, u8::from(!manner.accepts)])?;
        if !manner.accepts {
            return Ok(false);
        }
    }
    let host = match read::<4>(client)?[3] {
        1 => IpAddr::from(read::<4>(client)?).to_string(),
        4 => Ipv6Addr::from(read::<16>(client)?).to_string(),
        _ => String::from_utf8(counted(client)?).unwrap(),
    };
    kept.lock().unwrap().push(format!("5 {user} {host}:{}", u16::from_be_bytes(read(client)?)));
    client.write_all(&[5, manner.reply, 0, 1, 0, 0, 0, 0, 0, 0])?;
    Ok(manner.reply == 0)
}

fn read<const LENGTH: usize>(client: &mut TcpStream) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a field that follows its length.
fn counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; read::<1>(client)?[0].into()];
    client.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn until_nul(client: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    loop {
        match read::<1>(client)? {
            [0] => return Ok(text),
            [byte] => text.push(byte.into()),
        }
    }
}

#[test]
fn socks_versions_resolve_names_as_their_scheme_says() {
    let plain = Tasks::start(None);
    let cases = [
        ("socks4a", "http://tasks.example/api", "4  tasks.example:80"),
        ("socks5h", "http://tasks.example:8000/api", "5  tasks.example:8000"),
        ("socks5h", "http://192.0.2.7/api", "5  192.0.2.7:80"),
        ("socks5h", "http://[2001:db8::1]/api", "5  2001:db8::1:80"),
        ("socks5", "http://192.0.2.7:8000/api", "5  192.0.2.7:8000"),
        ("SOCKS4", "http://localhost:8000/api", "4  127.0.0.1:8000"),
        ("socks", "http://localhost:8000/api", "4  127.0.0.1:8000"),
    ];
    at_once(cases, |(scheme, url, expected)| {
        let socks = Socks::before(plain.port, OPEN);
        for variable in ["http_proxy", "ALL_PROXY"] {
            list(url, &[(variable, &format!("{scheme}://127.0.0.1:{}", socks.port))]).exits(0);
            assert_eq!(socks.asked(), [expected], "{scheme} {url}");
        }
    });
    let socks = Socks::before(plain.port, OPEN);
    let address = format!("socks5://localhost:{}", socks.port);
    list("http://localhost:8000/api", &[("http_proxy", &address)]).exits(0);
    let asked = socks.asked();
    assert!(["5  127.0.0.1:8000", "5  ::1:8000"].contains(&asked.concat().as_str()), "{asked:?}");
    let output = list("http://tasks.example/api", &[("http_proxy", &address)]).exits(4);
    assert!(output.stderr.contains("no such host: tasks.example") && socks.asked().is_empty(), "{}", output.stderr);
    let direct = list("http://tasks.example/api", &[("http_proxy", &address), ("NO_PROXY", ".example")]).exits(4);
    assert!(!direct.stderr.contains("proxy"), "{}", direct.stderr);
}

#[test]
fn requests_through_socks_can_be_encrypted_and_authenticated() {
    let encrypted = Tasks::start(Some("elsewhere.pem"));
    let socks = Socks::before(encrypted.port, Manner { method: 2, ..OPEN });
    let address = format!("socks5h://user:p%40ss@127.0.0.1:{}", socks.port);
    list("https://tasks.example/api", &[("https_proxy", &address)]).exits(0);
    assert_eq!(socks.asked(), ["5 user:p@ss tasks.example:443"]);
    let output = list("https://other.example/api", &[("https_proxy", &address)]).exits(4);
    let refused =
        format!("through the proxy socks5h://127.0.0.1:{} of https_proxy: its certificate is not for", socks.port);
    assert!(output.stderr.contains(&refused) && !output.stderr.contains("p@ss"), "{}", output.stderr);
}

#[test]
fn socks_refusals_are_explained_and_unreachable_targets_retried() {
    const URL: &str = "http://tasks.example/api";
    for (scheme, manner, asked, expected) in [
        (
            "socks5h://",
            Manner { method: 2, ..OPEN },
            0,
            "the proxy requires a user and a password: write it as socks5h://",
        ),
        ("socks5h://a:b@", Manner { method: 255, ..OPEN }, 0, "the proxy requires a user and a password"),
        ("socks5h://a:b@", Manner { method: 2, accepts: false, reply: 0 }, 0, "refuses the user or the password"),
        ("socks5h://", Manner { reply: 2, ..OPEN }, 1, "the proxy refuses to connect to it: allow it there"),
        ("socks5h://", Manner { reply: 5, ..OPEN }, 5, "the proxy cannot connect to it (connection refused)"),
        ("socks4a://", Manner { reply: 1, ..OPEN }, 5, "the proxy cannot connect to it (request rejected or failed)"),
    ] {
        let socks = Socks::before(1, manner);
        let output = list(URL, &[("all_proxy", &format!("{scheme}127.0.0.1:{}", socks.port))]).exits(4);
        assert!(output.stderr.contains("of all_proxy: ") && output.stderr.contains(expected), "{}", output.stderr);
        assert_eq!(socks.asked().len(), asked, "{}", output.stderr);
    }
}

#[test]
fn a_server_that_is_not_a_socks_proxy_is_reported_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let _ = client.read(&mut [0; 64]).and_then(|_| client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    for (scheme, host, expected) in [
        ("socks5h", "tasks.example", "the proxy does not speak this version of SOCKS"),
        ("socks4a", "tasks.example", "the proxy does not speak this version of SOCKS"),
        ("socks4", "[::1]:8000", "a SOCKS4 proxy cannot connect to an IPv6 address: name a SOCKS5 proxy"),
    ] {
        let output = list(&format!("http://{host}/api"), &[("all_proxy", &format!("{scheme}://127.0.0.1:{port}"))]);
        assert!(output.stderr.contains(&format!("{port} of all_proxy: {expected}")), "{}", output.stderr);
        assert_eq!(output.code(), 4);
    }
}
