//! Where live lines are drawn: standard error, where a person looks at it.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use console::Term;
use indicatif::{MultiProgress, ProgressDrawTarget, TermLike};

use super::end;
use crate::output::Stream;

/// How often lines are drawn, at most, in a second.
const OFTEN: u8 = 20;

/// Room for the `^C` that a terminal writes where the cursor is, with a blank.
const ROOM: u16 = 3;

/// The live lines of this process; there are none where nobody could see them.
pub(super) fn screen() -> MultiProgress {
    MultiProgress::with_draw_target(if Stream::Stderr.is_decorated() {
        ProgressDrawTarget::term_like_with_hz(Box::new(Screen::new(Term::buffered_stderr())), OFTEN)
    } else {
        ProgressDrawTarget::hidden()
    })
}

/// The columns that a live line has.
pub(super) fn width() -> usize {
    Screen::new(Term::stderr()).width().into()
}

/// Takes away the `^C` that a terminal has written where the cursor was.
pub(super) fn erase_echo(screen: &MultiProgress) {
    if Stream::Stderr.can_move_cursor() {
        let screen = screen.clone();
        // Where this cannot be written, nobody sees the rest either.
        end::for_a_moment(move || drop(screen.suspend(|| io::stderr().write_all(b"\r\x1b[K"))));
    }
}

/// A terminal that seems a little narrower than it is. Lines are filled up to its width, so on its whole width a `^C`
/// would go to the next line, and that would be taken away in place of the live line.
///
/// One that is gone takes whatever is drawn: whoever draws would panic otherwise, as a program that outlives its terminal
/// must not.
#[derive(Debug)]
struct Screen {
    term: Term,
    is_gone: AtomicBool,
}

impl Screen {
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

impl TermLike for Screen {
    fn width(&self) -> u16 {
        TermLike::width(&self.term).saturating_sub(ROOM).max(1)
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
