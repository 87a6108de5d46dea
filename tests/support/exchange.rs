//! One request on a connection of its own, and every byte that comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::wait::PATIENCE;

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

/// Sends a request, which asks for the end of the connection, and reads the answer. An error where the connection ends
/// without one: of kind `UnexpectedEof` where it is closed, of kind `ConnectionReset` where it is reset.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> io::Result<Exchange> {
    let mut answer = String::new();
    send(address, request)?.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    Ok(Exchange { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends a request, and does not wait for the answer.
pub(crate) fn send(address: SocketAddr, request: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    Ok(stream)
}
