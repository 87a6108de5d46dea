//! A stream whose client has to keep up: with what it sends, and with what it takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::line::{Breakable, Line};
use super::page::HEADERS;

/// How many bytes a second a client has to send or take on average: a slow modem's.
const RATE: f64 = 4096.0;

/// A stream with a deadline for the request that is read and for the answer that is sent on it. Each has `patience` in
/// all, and every byte earns the time that it takes at [`RATE`]; but never more than `patience` is left, so that a client
/// which stops is soon missed. A call that waits puts the deadline off. What comes between an answer and the next request
/// is the HTTP library's to time.
pub(super) struct Paced {
    stream: Breakable,
    patience: Duration,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// The line's turns when the deadline began.
    turns: u64,
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
    pub(super) fn new(stream: Breakable, patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        let timer = Box::pin(sleep_until(deadline));
        Self { stream, patience, deadline, timer, turns: 0, is_blocked: false, refusal: None }
    }

    pub(super) fn line(&self) -> &Line {
        self.stream.line()
    }

    fn moved(&mut self, bytes: usize) {
        let latest = Instant::now() + self.patience;
        let turns = self.line().turns();
        if turns == self.turns {
            #[expect(clippy::cast_precision_loss, reason = "a few bytes more or less do not matter")]
            let earned = Duration::from_secs_f64(bytes as f64 / RATE);
            self.deadline = latest.min(self.deadline + earned);
        } else {
            self.turns = turns;
            self.deadline = latest;
        }
    }

    /// What to say where the stream is not ready.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        while self.timer.as_mut().poll(context).is_ready() {
            if self.line().turns() != self.turns {
                self.moved(0);
            } else if Instant::now() >= self.deadline {
                if !self.line().is_held() {
                    if self.is_blocked {
                        self.stream.forget_unsent();
                    }
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.deadline = Instant::now() + self.patience;
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
                if !self.line().is_trusted() {
                    self.line().give_up();
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
        if self.refusal.is_none() && self.line().is_idle() {
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
            Poll::Pending if !this.is_blocked && this.line().rests() => Poll::Pending,
            Poll::Pending => this.pending(context),
        }
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
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
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
