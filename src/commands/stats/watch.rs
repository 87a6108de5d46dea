//! `stats --watch`: the numbers again and again, until a signal.
//!
//! A frame is drawn over the one before, in the terminal as it is: its cursor stays visible and no other screen is
//! switched to, so that whatever ends the program, Ctrl-Z and SIGKILL among it, leaves nothing to be put right.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::{Figures, print_as_json, text};
use crate::commands::setup::Setup;
use crate::exit::Exit;
use crate::output::{Colour, Look, Stream, on_stdout};
use crate::shutdown::Phase;

const EVERY: Duration = Duration::from_secs(2);

/// Shows what `look` finds every two seconds. A signal is how it is meant to end.
pub(super) fn run(setup: &Setup, gather: impl Fn() -> anyhow::Result<Figures>) -> anyhow::Result<Exit> {
    setup.heed_signals()?;
    let mut screen = Screen::default();
    loop {
        let figures = gather()?;
        if setup.json {
            print_as_json(&figures)?;
        } else {
            screen.show(&figures)?;
        }
        if setup.shutdown.wait_for(Phase::Draining, EVERY) {
            break;
        }
    }
    Ok(Exit::Done)
}

/// Where frames go: over each other on a terminal, one after the other elsewhere.
#[derive(Default)]
struct Screen {
    /// The width and height that the last frame was drawn for, and its lines.
    last: Option<((u16, u16), usize)>,
}

impl Screen {
    fn show(&mut self, figures: &Figures) -> io::Result<()> {
        let look = Look::of(Stream::Stdout);
        let lines = text::lines(figures, &look);
        let title = format!("{:.0}, every {} s", figures.now, EVERY.as_secs());
        let Some(size) = size() else { return write(&format!("{title}\n{}\n\n", lines.join("\n"))) };
        let title = look.paint(&format!("{title}; Ctrl-C to exit"), Colour::Soft);
        let mut lines: Vec<String> = std::iter::once(title).chain(lines).collect();
        cut(&mut lines, size);
        let drawn = frame(&lines, &self.start(size));
        self.last = Some((size, lines.len()));
        write(&drawn)
    }

    /// What brings the cursor to where the last frame starts. In a terminal of another size nobody knows where that is.
    fn start(&self, size: (u16, u16)) -> String {
        match self.last {
            None => String::new(),
            Some((old, count)) if old == size => format!("\x1b[{count}A"),
            Some(_) => "\x1b[H\x1b[2J".to_owned(),
        }
    }
}

/// The size of a terminal whose cursor can be moved.
fn size() -> Option<(u16, u16)> {
    if !Stream::Stdout.can_move_cursor() {
        return None;
    }
    console::Term::stdout().size_checked().map(|(rows, columns)| (columns, rows))
}

/// The lines that stay: the title, and the heading of the table.
const HEAD: usize = 2;

/// Cuts what has no room: the ends of lines, and the first rows of a table, which are the oldest where it is one of
/// hours or days. The last row of the terminal is the cursor's.
fn cut(lines: &mut Vec<String>, (columns, rows): (u16, u16)) {
    let over = (lines.len() + 1).saturating_sub(rows.into());
    if over > 0 {
        let end = (HEAD + over + 1).min(lines.len());
        lines.splice(HEAD.min(end)..end, [format!("… {} more", over + 1)]);
    }
    for line in lines {
        *line = console::truncate_str(line, columns.into(), "…").into_owned();
    }
}

/// What draws `lines` over whatever is there, after `start`.
fn frame(lines: &[String], start: &str) -> String {
    let mut drawn = start.to_owned();
    for line in lines {
        // Writing to a String does not fail.
        let _ = write!(drawn, "\r{line}\x1b[K\n");
    }
    drawn + "\x1b[J"
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    on_stdout(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn what_has_no_room_is_cut() {
        let mut all = lines(9);
        cut(&mut all, (80, 10));
        assert_eq!(all, lines(9), "nine lines and the cursor's");
        cut(&mut all, (6, 6));
        assert_eq!(all, ["line 0", "line 1", "… 5 m…", "line 7", "line 8"]);
        for rows in 0..6 {
            cut(&mut lines(9), (1, rows));
        }
        let mut painted = vec!["\x1b[32mgreen\x1b[0m".to_owned()];
        cut(&mut painted, (3, 9));
        assert_eq!(console::strip_ansi_codes(&painted[0]), "gr…");
    }

    #[test]
    fn a_frame_covers_the_one_before() {
        let mut screen = Screen::default();
        let mut drawn = |count, size| {
            let drawn = frame(&lines(1), &screen.start(size));
            screen.last = Some((size, count));
            drawn
        };
        let line = "\rline 0\x1b[K\n\x1b[J";
        assert_eq!(drawn(3, (80, 24)), line);
        assert_eq!(drawn(1, (80, 24)), format!("\x1b[3A{line}"));
        assert_eq!(drawn(1, (70, 24)), format!("\x1b[H\x1b[2J{line}"));
    }
}
