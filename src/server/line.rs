//! What a call and the connection it came on know of each other: that the one waits, that the other is to be broken on
//! purpose.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::PatientListener;

/// The end of a connection, instead of whatever would be sent on it next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Break {
    /// It is closed, as by a program that ended.
    Close,
    /// It is reset, as by a machine that lost it.
    Reset,
}

/// A connection, for a call that came on it.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    broken: OnceLock<Break>,
    held: AtomicUsize,
}

impl Line {
    /// Nothing more is sent on it.
    pub(super) fn break_off(&self, how: Break) {
        // Where it is broken already, it stays so.
        let _ = self.0.broken.set(how);
    }

    /// Until the hold is dropped, nothing happens on it, and it is kept.
    pub(super) fn hold(&self) -> Hold {
        self.0.held.fetch_add(1, Ordering::Relaxed);
        Hold(self.clone())
    }

    pub(super) fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Relaxed) > 0
    }
}

/// A call that waits.
pub(super) struct Hold(Line);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, PatientListener>> for Line {
    fn connect_info(stream: IncomingStream<'_, PatientListener>) -> Self {
        stream.io().line().clone()
    }
}

/// The stream of a line.
pub(super) struct Breakable {
    stream: TcpStream,
    line: Line,
}

impl Breakable {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, line: Line::default() }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Fails where the line is broken. The stream is dropped for it, and so closed.
    fn check(&self) -> io::Result<()> {
        match self.line.0.broken.get() {
            None => return Ok(()),
            Some(Break::Close) => {}
            Some(Break::Reset) => self.stream.set_zero_linger()?,
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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
