//! A call of the API on a connection of its own.

use std::io;
use std::net::{SocketAddr, TcpStream};

use crate::support::{self, Exchange};

/// Makes a call, whose path is the one below `/api`. Its errors are those of [`support::exchange`].
pub(crate) fn exchange(
    address: SocketAddr,
    request: (&str, &str),
    key: Option<&str>,
    body: &str,
) -> io::Result<Exchange> {
    support::exchange(address, &written(request, key, body))
}

/// Makes a call, and does not wait for the answer.
pub(crate) fn send(address: SocketAddr, request: (&str, &str), key: Option<&str>, body: &str) -> io::Result<TcpStream> {
    support::send(address, &written(request, key, body))
}

fn written((method, path): (&str, &str), key: Option<&str>, body: &str) -> String {
    let key = key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
    let length = body.len();
    let head = format!("{method} /api{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}");
    format!("{head}Content-Length: {length}\r\n\r\n{body}")
}
