//! Sends the head and the body of a request in one piece: the library writes each by itself, which costs both sides a
//! system call more, the server a start in vain, and on a network a packet. A proxy that is given the request itself gets
//! it with the whole address in its first line.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

use super::proxy::Proxy;

/// More than this is not held back.
const MOST: usize = 16 << 10;

/// Makes connections that hold back what they are to send until an answer is waited for.
#[derive(Debug)]
pub(super) struct Gathering(pub(super) Option<Arc<Forward>>);

/// What a proxy wants to see in the head of a request that it is to pass on.
pub(super) struct Forward {
    /// Before the path.
    origin: String,
    /// After the first line.
    authorization: String,
}

impl Forward {
    /// For requests to `target` through `proxy`.
    pub(super) fn new(target: &Uri, proxy: &Proxy) -> Self {
        let scheme = target.scheme_str().unwrap_or("http");
        let host = target.authority().map_or("", |it| it.as_str().rsplit('@').next().unwrap_or_default());
        let basic = |it: String| format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(it));
        Self { origin: format!("{scheme}://{host}"), authorization: proxy.credentials().map(basic).unwrap_or_default() }
    }

    /// The beginning of a request as the proxy gets it.
    fn rewrite(&self, begun: &[u8]) -> Vec<u8> {
        let path = begun.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1);
        let line = begun.windows(2).position(|end| end == b"\r\n").map_or(begun.len(), |end| end + 2);
        let parts = [&begun[..path], self.origin.as_bytes(), &begun[path..line], self.authorization.as_bytes()];
        [&parts.concat(), &begun[line..]].concat()
    }
}

/// Shows no password.
impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<In: Transport> Connector<In> for Gathering {
    type Out = Gathered<In>;

    fn connect(&self, _details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let forward = self.0.clone();
        Ok(chained.map(|inner| Gathered { inner, held: Vec::new(), forward, is_begun: false }))
    }
}

#[derive(Debug)]
pub(super) struct Gathered<T> {
    inner: T,
    held: Vec<u8>,
    forward: Option<Arc<Forward>>,
    /// The head of a request has been given to it, and no answer was waited for since.
    is_begun: bool,
}

impl<T: Transport> Gathered<T> {
    fn send(&mut self, timeout: NextTimeout) -> Result<(), Error> {
        let mut held = self.held.as_slice();
        while !held.is_empty() {
            let output = self.inner.buffers().output();
            let (piece, rest) = held.split_at(held.len().min(output.len()));
            output[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
            held = rest;
        }
        self.held.clear();
        Ok(())
    }
}

impl<T: Transport> Transport for Gathered<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let given = &self.inner.buffers().output()[..amount];
        match self.forward.as_ref().filter(|_| !self.is_begun) {
            Some(forward) => self.held = forward.rewrite(given),
            None => self.held.extend_from_slice(given),
        }
        self.is_begun = true;
        if self.held.len() < MOST { Ok(()) } else { self.send(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.send(timeout)?;
        self.is_begun = false;
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

    /// Keeps the pieces that it was given to send.
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

    fn gathered(room: usize, forward: Option<Forward>) -> Gathered<Sent> {
        let inner = Sent(LazyBuffers::new(room, room), Vec::new());
        Gathered { inner, held: Vec::new(), forward: forward.map(Arc::new), is_begun: false }
    }

    #[test]
    fn a_proxy_gets_the_whole_address_and_its_own_credentials() {
        let forward = |authorization: &str| {
            let (origin, authorization) = ("http://a:1".to_owned(), authorization.to_owned());
            gathered(100, Some(Forward { origin, authorization }))
        };
        for (mut gathered, expected) in [
            (forward(""), "POST http://a:1/b c\r\nHost: a\r\n\r\nPOST body"),
            (forward("Proxy: x\r\n"), "POST http://a:1/b c\r\nProxy: x\r\nHost: a\r\n\r\nPOST body"),
        ] {
            for _ in 0..2 {
                write(&mut gathered, b"POST /b c\r\nHost: a\r\n\r\n");
                write(&mut gathered, b"POST body");
                gathered.await_input(NEVER).unwrap();
                gathered.await_input(NEVER).unwrap();
                let sent = std::mem::take(&mut gathered.inner.1).concat();
                assert_eq!(String::from_utf8(sent).unwrap(), expected);
            }
        }
    }

    fn write(to: &mut Gathered<Sent>, text: &[u8]) {
        to.buffers().output()[..text.len()].copy_from_slice(text);
        to.transmit_output(text.len(), NEVER).unwrap();
    }

    #[test]
    fn head_and_body_leave_together_when_an_answer_is_waited_for() {
        let mut gathered = gathered(100, None);
        for _ in 0..2 {
            write(&mut gathered, b"head ");
            write(&mut gathered, b"body");
            assert!(gathered.inner.1.is_empty());
            gathered.await_input(NEVER).unwrap();
            assert_eq!(std::mem::take(&mut gathered.inner.1), [b"head body"]);
            gathered.await_input(NEVER).unwrap();
            assert!(gathered.inner.1.is_empty(), "sent once");
        }
    }

    #[test]
    fn a_long_body_is_not_held_back_whole() {
        let mut gathered = gathered(1000, None);
        for _ in 0..40 {
            write(&mut gathered, &[b'x'; 1000]);
        }
        assert!(gathered.held.len() < MOST);
        gathered.await_input(NEVER).unwrap();
        assert_eq!(gathered.inner.1.concat().len(), 40_000);
    }
}
