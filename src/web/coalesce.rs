//! Sends the head and the body of a request in one write. The library writes them separately, which costs extra system
//! calls and packets, and wakes the server too early. For a forwarding proxy, it also rewrites the request line to the
//! absolute form.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::proxy::Proxy;

/// Maximum number of bytes buffered.
const MAX_BUFFERED: usize = 16 << 10;

/// Makes connections that buffer a request until its answer is awaited.
#[derive(Debug)]
pub(super) struct CoalescingConnector(pub(super) Option<Arc<Forward>>);

/// What a forwarding proxy needs in the head of a request.
pub(super) struct Forward {
    /// Inserted before the path.
    origin: String,
    /// Inserted after the first line.
    authorization: String,
}

impl Forward {
    /// Creates the parts for requests to `target` through `proxy`.
    pub(super) fn new(target: &Uri, proxy: &Proxy) -> Self {
        let scheme = target.scheme_str().unwrap_or("http");
        let host = target.authority().map_or("", |it| it.as_str().rsplit('@').next().unwrap_or_default());
        let basic = |it: String| format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(it));
        Self { origin: format!("{scheme}://{host}"), authorization: proxy.credentials().map(basic).unwrap_or_default() }
    }

    /// Rewrites the start of a request for the proxy.
    fn rewrite(&self, start: &[u8]) -> Vec<u8> {
        let path = start.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let line = start.windows(2).position(|end| end == b"\r\n").map_or(start.len(), |end| end + 2);
        let parts = [&start[..path], self.origin.as_bytes(), &start[path..line], self.authorization.as_bytes()];
        [&parts.concat(), &start[line..]].concat()
    }
}

/// Omits the password.
impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for CoalescingConnector {
    type Out = CoalescingTransport<In>;

    fn connect(&self, _details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let forward = self.0.clone();
        Ok(chained.map(|inner| CoalescingTransport { inner, buffered: Vec::new(), forward, is_started: false }))
    }
}

#[derive(Debug)]
pub(super) struct CoalescingTransport<T> {
    inner: T,
    buffered: Vec<u8>,
    forward: Option<Arc<Forward>>,
    /// Whether a request was started whose answer is not awaited yet.
    is_started: bool,
}

impl<T: Transport> CoalescingTransport<T> {
    fn send(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut buffered = self.buffered.as_slice();
        while !buffered.is_empty() {
            let output = self.inner.buffers().output();
            let (piece, rest) = buffered.split_at(buffered.len().min(output.len()));
            output[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
            buffered = rest;
        }
        self.buffered.clear();
        Ok(())
    }
}

impl<T: Transport> Transport for CoalescingTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let given = &self.inner.buffers().output()[..amount];
        match self.forward.as_ref().filter(|_| !self.is_started) {
            Some(forward) => self.buffered = forward.rewrite(given),
            None => self.buffered.extend_from_slice(given),
        }
        self.is_started = true;
        if self.buffered.len() < MAX_BUFFERED { Ok(()) } else { self.send(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.send(timeout)?;
        self.is_started = false;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use ureq::Timeout;
    use ureq::unversioned::transport::LazyBuffers;
    use ureq::unversioned::transport::time::Duration;

    use super::*;

    /// Records what is sent through it.
    #[derive(Debug)]
    struct Sent(LazyBuffers, Vec<Vec<u8>>);

    impl Transport for Sent {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.0
        }

        fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), Error> {
            let piece = self.0.output()[..amount].to_vec();
            self.1.push(piece);
            Ok(())
        }

        fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, Error> {
            Ok(true)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    const NEVER: NextTimeout =
        NextTimeout { after: Duration::NotHappening, reason: Timeout::Global, per_read: None, per_write: None };

    fn transport(room: usize, forward: Option<Forward>) -> CoalescingTransport<Sent> {
        let inner = Sent(LazyBuffers::new(room, room), Vec::new());
        CoalescingTransport { inner, buffered: Vec::new(), forward: forward.map(Arc::new), is_started: false }
    }

    #[test]
    fn a_proxy_gets_the_whole_address_and_its_own_credentials() {
        let forward = |authorization: &str| {
            let (origin, authorization) = ("http://a:1".to_owned(), authorization.to_owned());
            transport(100, Some(Forward { origin, authorization }))
        };
        for (mut transport, expected) in [
            (forward(""), "POST http://a:1/b c\r\nHost: a\r\n\r\nPOST body"),
            (forward("Proxy: x\r\n"), "POST http://a:1/b c\r\nProxy: x\r\nHost: a\r\n\r\nPOST body"),
        ] {
            for _ in 0..2 {
                write(&mut transport, b"POST /b c\r\nHost: a\r\n\r\n");
                write(&mut transport, b"POST body");
                transport.await_input(NEVER).unwrap();
                transport.await_input(NEVER).unwrap();
                let sent = std::mem::take(&mut transport.inner.1).concat();
                assert_eq!(String::from_utf8(sent).unwrap(), expected);
            }
        }
    }

    fn write(to: &mut CoalescingTransport<Sent>, text: &[u8]) {
        to.buffers().output()[..text.len()].copy_from_slice(text);
        to.transmit_output(text.len(), NEVER).unwrap();
    }

    #[test]
    fn head_and_body_leave_together_when_an_answer_is_waited_for() {
        let mut transport = transport(100, None);
        for _ in 0..2 {
            write(&mut transport, b"head ");
            write(&mut transport, b"body");
            assert!(transport.inner.1.is_empty());
            transport.await_input(NEVER).unwrap();
            assert_eq!(std::mem::take(&mut transport.inner.1), [b"head body"]);
            transport.await_input(NEVER).unwrap();
            assert!(transport.inner.1.is_empty(), "sent once");
        }
    }

    #[test]
    fn a_long_body_is_not_held_back_whole() {
        let mut transport = transport(1000, None);
        for _ in 0..40 {
            write(&mut transport, &[b'x'; 1000]);
        }
        assert!(transport.buffered.len() < MAX_BUFFERED);
        transport.await_input(NEVER).unwrap();
        assert_eq!(transport.inner.1.concat().len(), 40_000);
    }
}
