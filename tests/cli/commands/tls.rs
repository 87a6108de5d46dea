//! Servers with and without TLS: which certificates are trusted, and the errors for others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Output, Sandbox};

pub(crate) fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/tls", name].iter().collect()
}

/// A TaskManager without tasks. It ends with the test.
pub(crate) struct Tasks {
    pub(crate) port: u16,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Tasks {
    /// With this certificate, or without TLS.
    pub(crate) fn start(certificate: Option<&str>) -> Self {
        let config = certificate.map(|name| Arc::new(config(name)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let config = config.clone();
                thread::spawn(move || match config {
                    Some(config) => answer(StreamOwned::new(ServerConnection::new(config).unwrap(), stream)),
                    None => answer(stream),
                });
            }
        });
        Self { port, connections }
    }
}

pub(crate) fn config(certificate: &str) -> ServerConfig {
    let pem = std::fs::read(fixture(certificate)).unwrap();
    let chain = CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap()
}

/// Answers requests until the client closes the connection.
fn answer(mut stream: impl Read + Write) {
    let body = r#"{"success":true,"message":"Success","data":[],"timestamp":1}"#;
    let length = body.len();
    let mut head = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        head.push(byte[0]);
        // This server expects plain HTTP.
        if head.starts_with(b"\x16") || head.ends_with(b"\r\n\r\n") {
            head.clear();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    }
}

fn list(host: &str, tasks: &Tasks, ca_file: Option<PathBuf>) -> Output {
    let sandbox = Sandbox::at(&format!("https://{host}:{}/api", tasks.port));
    let list = sandbox.prismq(["list-tasks", "--json"]);
    match ca_file {
        Some(file) => list.env("PRISMQ_CA_FILE", file.to_str().unwrap()).run(),
        None => list.run(),
    }
}

#[test]
fn certificates_in_ca_file_and_those_they_sign_are_trusted() {
    let [itself, signed] = ["itself.pem", "signed.pem"].map(|name| Tasks::start(Some(name)));
    list("localhost", &itself, Some(fixture("itself.pem"))).exits(0);
    list("127.0.0.1", &itself, Some(fixture("itself.pem"))).exits(0);
    list("localhost", &signed, Some(fixture("authority.pem"))).exits(0);
    list("localhost", &signed, Some(fixture("signed.pem"))).exits(0);
    // As `openssl req -x509` makes it by default, without names.
    let nameless = Tasks::start(Some("nameless.pem"));
    list("localhost", &nameless, Some(fixture("nameless.pem"))).exits(0);
    list("127.0.0.1", &nameless, Some(fixture("nameless.pem"))).exits(0);
}

#[test]
fn http_to_a_tls_server_is_explained_and_not_retried() {
    let nginx = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n\
                 <html>400 The plain HTTP request was sent to HTTPS port</html>";
    let go = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for (answer, expected) in [
        (nginx, "it expects https://, not http://"),
        (go, "it expects https://, not http://"),
        ("\x15\x03\x01\x00\x02\x02\x46", "is it https://, or another port?"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let output = Sandbox::at(&format!("http://localhost:{port}/api")).prismq(["list-tasks"]).run().exits(4);
        assert!(output.stderr.contains(expected), "{}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{}", output.stderr);
    }
}

#[test]
fn a_tls_error_is_explained_and_not_retried() {
    for (certificate, host, ca_file, expected) in [
        (Some("itself.pem"), "localhost", Some("authority.pem"), "self-signed and not trusted: name it"),
        (Some("itself.pem"), "localhost", None, "name it, or the certificate of its issuer, in ca_file"),
        (Some("itself.pem"), "localhost", Some("authority.pem"), "the certificate in that file is a different one"),
        (Some("signed.pem"), "localhost", Some("itself.pem"), "not signed by a trusted authority"),
        (Some("signed.pem"), "localhost", Some("itself.pem"), "the certificate in that file is a different one"),
        (Some("expired.pem"), "localhost", Some("expired.pem"), "has expired, 2021-01-02: renew it"),
        (
            Some("early.pem"),
            "localhost",
            Some("early.pem"),
            "not valid before 2100-01-03: is this machine's clock right?",
        ),
        (Some("nameless.pem"), "localhost", Some("authority.pem"), "self-signed and not trusted: name it"),
        (Some("nameless.pem"), "localhost", None, "name it, or the certificate of its issuer, in ca_file"),
        (
            Some("elsewhere.pem"),
            "localhost",
            Some("authority.pem"),
            "not for localhost but for tasks.example: use that name",
        ),
        (Some("elsewhere.pem"), "localhost", Some("elsewhere.pem"), "not for localhost but for tasks.example"),
        (None, "localhost", Some("itself.pem"), "does not speak TLS: is it http://"),
        (None, "localhost", None, "does not speak TLS: is it http://"),
    ] {
        let tasks = Tasks::start(certificate);
        let output = list(host, &tasks, ca_file.map(fixture)).exits(4);
        let start = format!("cannot connect to the TaskManager at https://{host}:{}/api: ", tasks.port);
        assert!(output.stderr.contains(&start) && output.stderr.contains(expected), "{expected}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert_eq!(tasks.connections.load(Ordering::SeqCst), 1, "{expected}");
    }
}

#[test]
fn a_refusal_by_the_server_is_explained() {
    // It sends first, an alert that the handshake failed, and closes.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused = thread::spawn(move || {
        let refuse = |mut stream: TcpStream| {
            stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        };
        refuse(listener.accept().unwrap().0);
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_err()
    });
    let sandbox = Sandbox::at(&format!("https://localhost:{port}/api"));
    let output = sandbox.prismq(["list-tasks"]).env("PRISMQ_CA_FILE", fixture("itself.pem").to_str().unwrap()).run();
    assert!(output.stderr.contains("it refuses the TLS connection (alert HandshakeFailure)"), "{}", output.stderr);
    output.exits(4);
    assert!(refused.join().unwrap(), "it was tried again");
}
