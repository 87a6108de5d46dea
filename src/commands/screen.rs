//! Draws live lines on standard error, if it is a terminal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use console::Term;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};

use super::termination;
use crate::output::Stream;

/// Maximum refresh rate, in hertz.
const REFRESH_HZ: u8 = 20;

/// Columns reserved for the `^C` that a terminal echoes, and a blank.
const ECHO_COLUMNS: u16 = 3;

/// Returns the display for live lines, hidden if standard error is not a terminal.
pub(super) fn screen() -> MultiProgress {
    MultiProgress::with_draw_target(if Stream::Stderr.is_decorated() {
        ProgressDrawTarget::term_like_with_hz(Box::new(NarrowTerm::new(Term::buffered_stderr())), REFRESH_HZ)
    } else {
        ProgressDrawTarget::hidden()
    })
}

/// Returns the width of a live line.
pub(super) fn width() -> usize {
    NarrowTerm::new(Term::stderr()).width().into()
}

/// Erases the `^C` that a terminal has echoed.
pub(super) fn erase_echo(screen: &MultiProgress) {
    if Stream::Stderr.can_move_cursor() {
        let screen = screen.clone();
        // If this fails, nothing else is visible either.
        termination::run_briefly(move || drop(screen.suspend(|| io::stderr().write_all(b"\r\x1b[K"))));
    }
}

/// A terminal that reports a slightly smaller width. Lines are padded to the width, so with the full width a `^C` would
/// wrap to the next line, which would be erased instead of the live line.
///
/// Writes to a closed terminal are ignored, since the drawing library would panic, and a program may outlive its terminal.
#[derive(Debug)]
struct NarrowTerm {
    term: Term,
    is_gone: AtomicBool,
}

impl NarrowTerm {
    fn new(term: Term) -> Self {
        Self { term, is_gone: AtomicBool::new(false) }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the callers return it")]
    fn draw(&self, draw: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        if !self.is_gone.load(Ordering::Relaxed) && draw(&self.term).is_err() {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl TermLike for NarrowTerm {
    fn width(&self) -> u16 {
        TermLike::width(&self.term).saturating_sub(ECHO_COLUMNS).max(1)
    }

    fn height(&self) -> u16 {
        TermLike::height(&self.term)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_up(lines))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_down(lines))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_right(columns))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_left(columns))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(Term::clear_line)
    }

    fn flush(&self) -> io::Result<()> {
        self.draw(Term::flush)
    }
}
