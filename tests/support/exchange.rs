//! Sends one request on its own connection and reads the complete answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::PATIENCE;

/// An answer.
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

/// Sends a request with `Connection: close` and reads the answer. If the connection ends without one, the error is of
/// kind `UnexpectedEof` if it was closed, `ConnectionReset` if it was reset.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> io::Result<Exchange> {
    let mut answer = String::new();
    send(address, request)?.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Ok(Exchange { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends a request without waiting for the answer.
pub(crate) fn send(address: SocketAddr, request: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}
