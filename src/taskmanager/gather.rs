//! Sends the head and the body of a request in one piece: the library writes each by itself, which costs both sides a
//! system call more, the server a start in vain, and on a network a packet.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// More than this is not held back.
const MOST: usize = 16 << 10;

/// Makes connections that hold back what they are to send until an answer is waited for.
#[derive(Debug)]
pub(super) struct Gathering;

impl<In: Transport> Connector<In> for Gathering {
    type Out = Gathered<In>;

    fn connect(&self, _details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Gathered { inner, held: Vec::new() }))
    }
}

#[derive(Debug)]
pub(super) struct Gathered<T> {
    inner: T,
    held: Vec<u8>,
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
        self.held.extend_from_slice(&self.inner.buffers().output()[..amount]);
        if self.held.len() < MOST { Ok(()) } else { self.send(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.send(timeout)?;
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

    fn write(to: &mut Gathered<Sent>, text: &[u8]) {
        to.buffers().output()[..text.len()].copy_from_slice(text);
        to.transmit_output(text.len(), NEVER).unwrap();
    }

    #[test]
    fn head_and_body_leave_together_when_an_answer_is_waited_for() {
        let mut gathered = Gathered { inner: Sent(LazyBuffers::new(100, 100), Vec::new()), held: Vec::new() };
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
        let mut gathered = Gathered { inner: Sent(LazyBuffers::new(1000, 1000), Vec::new()), held: Vec::new() };
        for _ in 0..40 {
            write(&mut gathered, &[b'x'; 1000]);
        }
        assert!(gathered.held.len() < MOST);
        gathered.await_input(NEVER).unwrap();
        assert_eq!(gathered.inner.1.concat().len(), 40_000);
    }
}
