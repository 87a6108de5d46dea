//! One request on a connection of its own, and every byte that comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Debug, PartialEq)]
pub(crate) struct Exchange {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Exchange {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Sends a request, whose path is the one below `/api`. An error where the connection ends without an answer: of kind
/// `UnexpectedEof` where it is closed, of kind `ConnectionReset` where it is reset.
pub(crate) fn exchange(
    address: SocketAddr,
    request: (&str, &str),
    key: Option<&str>,
    body: &str,
) -> io::Result<Exchange> {
    let mut answer = Vec::new();
    send(address, request, key, body)?.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Ok(Exchange { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends a request, and does not wait for the answer.
pub(crate) fn send(address: SocketAddr, request: (&str, &str), key: Option<&str>, body: &str) -> io::Result<TcpStream> {
    let (method, path) = request;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let key = key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
    let length = body.len();
    let head = format!("{method} /api{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{key}");
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
    Ok(stream)
}
