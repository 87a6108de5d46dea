//! A stream that disconnects clients that send or read too slowly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_handle::{Break, ConnectionHandle};
use super::page::HEADERS;

/// Minimum average rate of a client, in bytes a second.
const MIN_RATE: f64 = 4096.0;

/// A stream with a deadline for each request and each answer: `timeout`, extended for every byte by the time that it
/// takes at [`MIN_RATE`], but never more than `timeout` from now, so that a stalled client is noticed soon. Requests that
/// wait extend the deadline. The time between an answer and the next request is limited by the HTTP library.
pub(super) struct PacedStream {
    stream: TcpStream,
    connection: ConnectionHandle,
    timeout: Duration,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// Number of requests and answers that had started when the deadline was set.
    transfers: u64,
    /// Whether the client does not read what is sent.
    is_blocked: bool,
    error_response: Option<ErrorResponse>,
}

/// The HTTP library's own answer to an invalid request, with the headers of all our answers added.
struct ErrorResponse {
    bytes: Vec<u8>,
    sent: usize,
    /// The length that the library wrote.
    length: usize,
}

impl ErrorResponse {
    /// Adds the headers to `bytes` if they are an error response.
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

impl PacedStream {
    pub(super) fn new(stream: TcpStream, connection: ConnectionHandle, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        let timer = Box::pin(sleep_until(deadline));
        Self { stream, connection, timeout, deadline, timer, transfers: 0, is_blocked: false, error_response: None }
    }

    /// Fails if the connection is to be broken. The library then drops and thereby closes the stream.
    fn check_broken(&self) -> io::Result<()> {
        match self.connection.broken() {
            None => return Ok(()),
            Some(Break::Close) => {}
            Some(Break::Reset) => self.stream.set_zero_linger()?,
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn extend_deadline(&mut self, bytes: usize) {
        let latest = Instant::now() + self.timeout;
        let transfers = self.connection.transfers();
        if transfers == self.transfers {
            #[expect(clippy::cast_precision_loss, reason = "a few bytes more or less do not matter")]
            let earned = Duration::from_secs_f64(bytes as f64 / MIN_RATE);
            self.deadline = latest.min(self.deadline + earned);
        } else {
            self.transfers = transfers;
            self.deadline = latest;
        }
    }

    /// Checks the deadline when the stream is not ready.
    fn check_deadline<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.timer.as_mut().poll(context).is_ready() {
            if self.connection.transfers() != self.transfers {
                self.extend_deadline(0);
            } else if Instant::now() >= self.deadline {
                if !self.connection.is_paused() {
                    if self.is_blocked {
                        // Otherwise the system keeps unread data while the client reads a little from time to time. If this
                        // fails, that lasts until the client disconnects.
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

    /// Sends a captured error response. Returns the length that the library wrote.
    fn send_error_response(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        let error_response = self.error_response.as_mut()?;
        let poll = Pin::new(&mut self.stream).poll_write(context, &error_response.bytes[error_response.sent..]);
        match poll {
            Poll::Ready(Ok(sent)) => error_response.sent += sent,
            other => return Some(other),
        }
        if error_response.sent < error_response.bytes.len() {
            // Send more, or register for when the stream is ready.
            return self.send_error_response(context);
        }
        let length = error_response.length;
        self.error_response = None;
        Some(Poll::Ready(Ok(length)))
    }

    fn finish_write(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.is_blocked = poll.is_pending();
        match poll {
            Poll::Pending => {
                if !self.connection.is_trusted() {
                    self.connection.mark_evictable();
                }
                self.check_deadline(context)
            }
            Poll::Ready(Ok(count)) => {
                self.extend_deadline(count);
                Poll::Ready(Ok(count))
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }

    /// Captures `bytes` if they are an error response of the library.
    fn capture_error_response(&mut self, bytes: &[u8]) {
        if self.error_response.is_none() && self.connection.is_idle() {
            self.error_response = ErrorResponse::of(bytes);
        }
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                this.extend_deadline(buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending if !this.is_blocked && this.connection.mark_idle() => Poll::Pending,
            Poll::Pending => this.check_deadline(context),
        }
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_broken()?;
        self.capture_error_response(bytes);
        let poll = match self.send_error_response(context) {
            Some(poll) => poll,
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        };
        self.finish_write(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_broken()?;
        if let Some(first) = bytes.first() {
            self.capture_error_response(first);
        }
        let poll = match self.send_error_response(context) {
            Some(poll) => poll,
            None => Pin::new(&mut self.stream).poll_write_vectored(context, bytes),
        };
        self.finish_write(context, poll)
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
