//! A stream whose client has to keep up: with what it sends, and with what it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::handle::{Break, ConnectionHandle};
use super::page::HEADERS;

/// How many bytes a second a client has to send or take on average: a slow modem's.
const RATE: f64 = 4096.0;

/// A stream with a deadline for the request that is read and for the answer that is sent on it. Each has `timeout` in
/// all, and every byte earns the time that it takes at [`RATE`]; but never more than `timeout` is left, so that a client
/// which stops is soon missed. A call that waits puts the deadline off. What comes between an answer and the next request
/// is the HTTP library's to time.
pub(super) struct Paced {
    stream: TcpStream,
    connection: ConnectionHandle,
    timeout: Duration,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// How many requests and answers had begun when the deadline was set.
    begun: u64,
    /// The client does not take what is sent.
    is_blocked: bool,
    refusal: Option<Refusal>,
}

/// An answer of the HTTP library's own, to what is no request, with the headers that all answers have.
struct Refusal {
    bytes: Vec<u8>,
    sent: usize,
    /// Its length as the library wrote it.
    length: usize,
}

impl Refusal {
    /// `bytes` as they are to be sent, where they are a refusal.
    fn of(bytes: &[u8]) -> Option<Self> {
        let head = bytes.strip_suffix(b"\r\n").filter(|head| head.starts_with(b"HTTP/1.1 4"))?;
        let mut all = head.to_vec();
        for (name, value) in HEADERS {
            all.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        all.extend_from_slice(b"\r\n");
        Some(Self { bytes: all, sent: 0, length: bytes.len() })
    }
}

impl Paced {
    pub(super) fn new(stream: TcpStream, connection: ConnectionHandle, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        let timer = Box::pin(sleep_until(deadline));
        Self { stream, connection, timeout, deadline, timer, begun: 0, is_blocked: false, refusal: None }
    }

    /// Fails if the connection is to be broken. The stream is dropped for it, and so closed.
    fn check_broken(&self) -> io::Result<()> {
        match self.connection.broken() {
            None => return Ok(()),
            Some(Break::Close) => {}
            Some(Break::Reset) => self.stream.set_zero_linger()?,
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn moved(&mut self, bytes: usize) {
        let latest = Instant::now() + self.timeout;
        let begun = self.connection.begun();
        if begun == self.begun {
            #[expect(clippy::cast_precision_loss, reason = "a few bytes more or less do not matter")]
            let earned = Duration::from_secs_f64(bytes as f64 / RATE);
            self.deadline = latest.min(self.deadline + earned);
        } else {
            self.begun = begun;
            self.deadline = latest;
        }
    }

    /// What to say where the stream is not ready.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.timer.as_mut().poll(context).is_ready() {
            if self.connection.begun() != self.begun {
                self.moved(0);
            } else if Instant::now() >= self.deadline {
                if !self.connection.is_held() {
                    if self.is_blocked {
                        // The system would keep what was sent and not taken for as long as the client takes a little. If
                        // this cannot be set, that ends with the client.
                        let _ = self.stream.set_zero_linger();
                    }
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.deadline = Instant::now() + self.timeout;
            }
            self.timer.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }

    /// Sends a refusal of the library's; the length that it had.
    fn send_refusal(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let refusal = self.refusal.as_mut()?;
        let poll = Pin::new(&mut self.stream).poll_write(context, &refusal.bytes[refusal.sent..]);
        match poll {
            Poll::Ready(Ok(sent)) => refusal.sent += sent,
            other => return Some(other),
        }
        if refusal.sent < refusal.bytes.len() {
            // There is room for more, or the stream says when there is.
            return self.send_refusal(context);
        }
        let length = refusal.length;
        self.refusal = None;
        Some(Poll::Ready(Ok(length)))
    }

    fn written(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_blocked = poll.is_pending();
        match poll {
            Poll::Pending => {
                if !self.connection.is_trusted() {
                    self.connection.give_up();
                }
                self.pending(context)
            }
            Poll::Ready(Ok(count)) => {
                self.moved(count);
                Poll::Ready(Ok(count))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    /// Takes up a refusal where `bytes`, the next to be sent, are one.
    fn look_for_refusal(&mut self, bytes: &[u8]) {
        if self.refusal.is_none() && self.connection.is_idle() {
            self.refusal = Refusal::of(bytes);
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                this.moved(buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending if !this.is_blocked && this.connection.rests() => Poll::Pending,
            Poll::Pending => this.pending(context),
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_broken()?;
        self.look_for_refusal(bytes);
        let poll = match self.send_refusal(context) {
            Some(poll) => poll,
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        };
        self.written(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_broken()?;
        if let Some(first) = bytes.first() {
            self.look_for_refusal(first);
        }
        let poll = match self.send_refusal(context) {
            Some(poll) => poll,
            None => Pin::new(&mut self.stream).poll_write_vectored(context, bytes),
        };
        self.written(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
