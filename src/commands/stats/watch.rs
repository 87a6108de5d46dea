//! `stats --watch`: refreshes the statistics until a signal.
//!
//! Each frame overwrites the previous one on the normal screen with a visible cursor, so that nothing has to be restored
//! however the program ends, including Ctrl-Z and SIGKILL.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use super::{Statistics, print_as_json, text};
use crate::commands::setup::Setup;
use crate::exit::Exit;
use crate::output::{Colour, Look, Stream, print_text};
use crate::shutdown::Phase;

const EVERY: Duration = Duration::from_secs(2);

/// Shows the statistics every two seconds until a signal, which is not an error.
pub(super) fn run(setup: &Setup, gather: impl Fn() -> anyhow::Result<Statistics>) -> anyhow::Result<Exit> {
    setup.install_signal_handlers()?;
    let mut screen = Frames::default();
    loop {
        let statistics = gather()?;
        if setup.json {
            print_as_json(&statistics)?;
        } else {
            screen.show(&statistics)?;
        }
        if setup.shutdown.wait_for(Phase::Draining, EVERY) {
            break;
        }
    }
    Ok(Exit::Done)
}

/// Draws frames: over each other on a terminal, else one after the other.
#[derive(Default)]
struct Frames {
    /// The terminal size of the last frame, and its number of lines.
    last: Option<((u16, u16), usize)>,
}

impl Frames {
    fn show(&mut self, statistics: &Statistics) -> io::Result<()> {
        let look = Look::of(Stream::Stdout);
        let lines = text::lines(statistics, &look);
        let title = format!("{:.0}, every {} s", statistics.now, EVERY.as_secs());
        let Some(size) = size() else { return print_text(format!("{title}\n{}\n\n", lines.join("\n"))) };
        let title = look.paint(&format!("{title}; Ctrl-C to exit"), Colour::Soft);
        let mut lines: Vec<String> = std::iter::once(title).chain(lines).collect();
        cut(&mut lines, size);
        let drawn = frame(&lines, &self.start(size));
        self.last = Some((size, lines.len()));
        print_text(drawn)
    }

    /// Returns the escape codes that move the cursor to the start of the last frame. After a resize, its position is unknown.
    fn start(&self, size: (u16, u16)) -> String {
        match self.last {
            None => String::new(),
            Some((old, count)) if old == size => format!("\x1b[{count}A"),
            Some(_) => "\x1b[H\x1b[2J".to_owned(),
        }
    }
}

/// Returns the size of a terminal with cursor control.
fn size() -> Option<(u16, u16)> {
    if !Stream::Stdout.can_move_cursor() {
        return None;
    }
    console::Term::stdout().size_checked().map(|(rows, columns)| (columns, rows))
}

/// Number of lines that are never cut: the title and the table header.
const HEAD: usize = 2;

/// Cuts lines to the terminal's width, and the first rows of the table, which are the oldest hours or days, to its height.
/// The last row is left for the cursor.
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

/// Returns the output that draws `lines` after `start` and erases old content.
fn frame(lines: &[String], start: &str) -> String {
    let mut drawn = start.to_owned();
    for line in lines {
        // Writing to a String does not fail.
        let _ = write!(drawn, "\r{line}\x1b[K\n");
    }
    drawn + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("line {number}")).collect()
    }

    #[test]
    fn lines_are_cut_to_the_size_of_the_screen() {
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
    fn a_frame_overwrites_the_previous_one() {
        let mut screen = Frames::default();
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
