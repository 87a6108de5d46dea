//! Finds the most informative line of an error text, to show it first or alone.
//!
//! The error text of a program is its stderr tail, with log lines and a stack trace around the message. The rules are in
//! `docs/handlers.md`.

use std::borrow::Cow;

use console::strip_ansi_codes;

/// Separates prismq's own message from the stderr tail.
pub(crate) const STDERR_SEPARATOR: &str = "; stderr:\n";

/// The separator in results stored by version 0.1.
const STDERR_SEPARATOR_0_1: &str = "; its last words:\n";

/// The first line of a Python traceback.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// Prefixes of lines after a stack trace that are not the message: Go, Node, Bun, Rust, R, libc.
const TRAILERS: [&str; 8] =
    ["Node.js v", "Bun v", "note: ", "exit status ", "[signal ", "created by ", "Execution halted", "Aborted ("];

/// Parts of lines that end with a colon and announce a stack trace.
const ANNOUNCEMENTS: [&str; 5] = ["traceback", "backtrace", "stack trace", "most recent call ", "the above exception"];

/// Prefix of a Go stack trace, whose functions are not indented.
const GOROUTINE: &str = "goroutine ";

/// Removes ANSI escape codes from `error`.
pub(crate) fn without_colours(error: &str) -> Cow<'_, str> {
    strip_ansi_codes(error)
}

/// Formats `error` in one line: its headline, then the other lines in order.
pub(crate) fn in_one_line(error: &str) -> Cow<'_, str> {
    let error = without_colours(error);
    let (headline, rest) = split(&error);
    let rest: Vec<&str> = rest.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if rest.is_empty() {
        return Cow::Owned(headline.into_owned());
    }
    Cow::Owned(format!("{headline} | {}", rest.join(" | ")))
}

/// Splits `error`, which has no escape codes, into its headline and the other lines. A lone carriage return ends a line
/// too, since progress bars end with one.
pub(crate) fn split(error: &str) -> (Cow<'_, str>, Vec<&str>) {
    let parts = error.split_once(STDERR_SEPARATOR).or_else(|| error.split_once(STDERR_SEPARATOR_0_1));
    let (own, printed) = match parts {
        Some((own, printed)) if !own.contains('\n') => (own, printed),
        _ => ("", error),
    };
    let mut lines: Vec<&str> = printed.lines().flat_map(|line| line.split('\r')).collect();
    let Some(at) = headline(&lines) else { return (Cow::Borrowed(error.trim()), Vec::new()) };
    let line = lines.remove(at).trim_start_matches([' ', '\t', '|']).trim_end();
    let headline = if own.is_empty() { Cow::Borrowed(line) } else { Cow::Owned(format!("{own}: {line}")) };
    (headline, lines)
}

/// Returns the index of the headline: the last line with text or, if that ends a stack trace, the one that names the error.
/// `None` if no line has text.
fn headline(lines: &[&str]) -> Option<usize> {
    let lines = before_goroutines(lines);
    let last = lines.iter().rposition(|line| has_text(line))?;
    if ends_stack(&lines[..=last]) {
        return above_stack(&lines[..=last]).or(Some(last));
    }
    // The message of an exception may have several lines; those after the first are usually indented.
    let message = if is_indented(lines[last]) { exception(lines) } else { None };
    message.or(Some(last))
}

fn has_text(line: &str) -> bool {
    line.contains(char::is_alphanumeric)
}

fn is_indented(line: &str) -> bool {
    line.starts_with([' ', '\t'])
}

/// Whether a line that is not indented comes after the message.
fn is_trailer(line: &str) -> bool {
    let is_numbered = line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // `set -x` of a shell
    let traced = line.strip_prefix('+').map(|line| line.trim_start_matches('+').trim());
    let is_exit = traced.is_some_and(|line| ["exit", "return"].contains(&line.split(' ').next().unwrap_or_default()));
    is_numbered || is_exit || announces(line) || TRAILERS.iter().any(|it| line.starts_with(it))
}

fn announces(line: &str) -> bool {
    let line = line.trim_end().to_lowercase();
    line.ends_with(':') && ANNOUNCEMENTS.iter().any(|it| line.contains(it))
}

/// Whether an indented line is a stack frame.
fn is_frame(line: &str) -> bool {
    let line = line.trim();
    ["at ", "File \"", "thrown in ", "[C]: "].iter().any(|it| line.starts_with(it))
        || (line.starts_with("from ") && line.contains(":in "))
        || (line.starts_with("... ") && line.ends_with(" more"))
        || line.contains(" called at ")
}

/// Whether the last line is the end of a stack trace.
fn ends_stack(lines: &[&str]) -> bool {
    let Some((last, above)) = lines.split_last() else { return false };
    if !is_indented(last) {
        return is_trailer(last);
    }
    let mut block = lines.iter().rev().take_while(|line| is_indented(line) || !has_text(line));
    let mut within = above.iter().rev().skip_while(|line| is_indented(line) || !has_text(line) || is_inner(line));
    block.any(|line| is_indented(line) && is_frame(line)) || within.next().is_some_and(|line| announces(line))
}

/// Whether a line is inside of a stack trace although it is not indented.
fn is_inner(line: &str) -> bool {
    is_trailer(line) && !announces(line)
}

/// Returns the index of the line that names the error above a stack trace.
fn above_stack(lines: &[&str]) -> Option<usize> {
    let is_what = |line: &str| line.trim_start().starts_with("what():");
    let is_message = |line: &str| !is_indented(line) && !is_trailer(line) && !line.trim_end().ends_with(':');
    let names = |line: &&str| has_text(line) && (is_what(line) || is_message(line));
    let is_no_stack = |line: &&str| has_text(line) && !is_trailer(line) && !is_frame(line);
    let Some(at) = lines.iter().rposition(names) else { return lines.iter().rposition(is_no_stack) };
    // The end of the message, which may have several lines, is right above the frames.
    let is_message_end = lines.get(at + 1).is_some_and(|line| is_indented(line));
    let mut message = (0..=at).rev().take_while(|at| is_message_end && has_text(lines[*at]));
    message.find(|at| !is_indented(lines[*at]) && names_error(lines[*at])).or(Some(at))
}

/// Whether a line starts with the name of an error, such as `java.io.IOException: …`.
fn names_error(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default().trim_end();
    let word = name.rsplit([' ', '.']).next().unwrap_or_default();
    word.ends_with("Error") || word.ends_with("Exception") || ["error", "panic"].contains(&word)
}

/// Returns the index of the first line of the message of the last Python exception or Rust panic.
fn exception(lines: &[&str]) -> Option<usize> {
    let is_panic = |line: &str| line.starts_with("thread '") && line.contains(" panicked at ") && line.ends_with(':');
    let starts = |line: &&str| line.trim_end() == TRACEBACK || is_panic(line.trim_end());
    let after = lines.iter().rposition(starts)? + 1;
    lines[after..].iter().position(|line| has_text(line) && !is_indented(line)).map(|at| after + at)
}

/// Removes Go stack traces at the end of `lines`.
fn before_goroutines<'a, 'b>(lines: &'a [&'b str]) -> &'a [&'b str] {
    let is_start = |line: &str| line.starts_with(GOROUTINE) && line.trim_end().ends_with("]:");
    let is_place = |at: &usize| lines.get(at + 1).is_some_and(|next| next.starts_with('\t'));
    let is_stack = |at: &usize| {
        let line = lines[*at];
        !has_text(line) || is_indented(line) || is_trailer(line) || is_start(line) || is_place(at)
    };
    let Some(end) = (0..lines.len()).rev().take_while(is_stack).last() else { return lines };
    let start = lines[end..].iter().position(|line| is_start(line)).map(|at| &lines[..end + at]);
    start.filter(|before| before.iter().any(|line| has_text(line))).unwrap_or(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shows_first(cases: &[(&str, &str)]) {
        for (error, expected) in cases {
            assert_eq!(split(&without_colours(error)).0, *expected, "{error}");
            assert!(in_one_line(error).starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_last_line_comes_first_or_the_one_that_names_the_error() {
        shows_first(&[
            ("no luck", "no luck"),
            ("  no luck \n\n", "no luck"),
            ("", ""),
            ("***\n", "***"),
            ("loading model\nValueError: no", "ValueError: no"),
            ("no luck\n# a hint\n", "# a hint"),
            ("Error:\n  cannot open x", "cannot open x"),
            ("cannot open x\ngiven up on:", "given up on:"),
            ("Error: x\nCaused by:\n    0: y\n    1: no such file", "1: no such file"),
            ("Error: x\nCaused by:\n    y\n\nStack backtrace:\n   0: f\n   1: g\n             at /x.rs:1", "Error: x"),
            // Python
            (
                "loading\nTraceback (most recent call last):\n  File \"x.py\", line 1\n    f()\nValueError: no\n",
                "ValueError: no",
            ),
            (
                "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'a'\n\nDuring handling of the above \
                 exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"x.py\"\nA: b",
                "A: b",
            ),
            (
                "Traceback (most recent call last):\n  File \"x.py\"\npydantic.ValidationError: 1 error\nx\n  Input\n",
                "pydantic.ValidationError: 1 error",
            ),
            (
                "  File \"x.py\", line 1\n    f(\n     ^\nSyntaxError: '(' was never closed",
                "SyntaxError: '(' was never closed",
            ),
            (
                "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: g\n  +-+--- 1 ---\n    \
                 | ValueError: 1\n    +-------",
                "ValueError: 1",
            ),
            (
                "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'a'\n\nDuring handling of the above \
              exception, another exception occurred:\n\n",
                "KeyError: 'a'",
            ),
            ("Traceback (most recent call last):\n  File \"x.py\"\nE: x\nexit status 1", "E: x"),
            (
                "Fatal Python error: x\n\nCurrent thread 0x1 (most recent call first):\n  File \"x.py\", line 3",
                "Fatal Python error: x",
            ),
            (
                "Traceback (most recent call last):\n  File \"x.py\"\nKeyError: 'a'\n\nThe above exception was the direct \
                 cause of the following exception:\n",
                "KeyError: 'a'",
            ),
            // Node, Bun
            ("/x.js:1\nthrow new Error('x')\n^\n\nError: x\n    at f (/x.js:1)\n\nNode.js v20.1.0", "Error: x"),
            ("Error: x\n    at f {\n  code: 'ENOENT'\n}\n\nNode.js v20.1.0", "Error: x"),
            ("1 | throw\n    ^\nerror: x\n      at /x.js:1\n\nBun v1.1 (Linux x64)", "error: x"),
            ("hello\n\nError: x\nline two\n    at f (/x.js:1)", "Error: x"),
            (
                "error: Uncaught Error: x\nthrow new Error('x')\n      ^\n    at file:///x.ts:1:7",
                "error: Uncaught Error: x",
            ),
            ("Error: first\n    at f (/x.js:1)\nTypeError: x\n    at f (/x.js:1)\n", "TypeError: x"),
        ]);
    }

    #[test]
    fn stack_traces_of_many_languages_are_skipped() {
        shows_first(&[
            // Java, Ruby, PHP, Lua
            (
                "Exception in thread \"main\" A: a\n\tat M.main(M.java:5)\nCaused by: B: b\n\t... 1 more",
                "Caused by: B: b",
            ),
            ("x.rb:1:in 'f': boom (RuntimeError)\n\tfrom x.rb:3:in '<main>'", "x.rb:1:in 'f': boom (RuntimeError)"),
            (
                "PHP Fatal error:  Uncaught Exception: boom in /x.php:3\nStack trace:\n#0 {main}\n  thrown in /x.php",
                "PHP Fatal error:  Uncaught Exception: boom in /x.php:3",
            ),
            ("lua: x.lua:1: boom\nstack traceback:\n\t[C]: in function 'error'", "lua: x.lua:1: boom"),
            // Go, Rust, C++, R, bash, Perl
            (
                "start\npanic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:4 +0x25\nexit status 2",
                "panic: boom",
            ),
            (
                "panic: nil\n[signal SIGSEGV: segmentation violation]\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go",
                "panic: nil",
            ),
            ("thread 'main' panicked at src/main.rs:2:5:\nboom\nstack backtrace:\n   0: f\nnote: run with `X`", "boom"),
            ("Error: Os { code: 2 }", "Error: Os { code: 2 }"),
            ("terminate called after throwing 'E'\n  what():  boom\nAborted (core dumped)", "what():  boom"),
            ("Error in f() : boom\nExecution halted", "Error in f() : boom"),
            ("thread 'main' panicked at src/main.rs:2:5:\nassertion failed\n  left: 1\n right: 2", "assertion failed"),
            ("+ curl x\ncurl: (7) refused\n+ exit 7", "curl: (7) refused"),
            ("+ test -f x\n++ return 1\n+ exit 1", "+ test -f x"),
            ("+ false", "+ false"),
            ("x.go:5: no mirror\nexit status 1", "x.go:5: no mirror"),
            // Colours, bars
            ("\u{1b}[31merror: red\n\u{1b}[0m", "error: red"),
            ("\u{1b}[31mError: x\u{1b}[39m\n\u{1b}[90m    at f (/x.js:1)\u{1b}[39m\n\u{1b}[?25h", "Error: x"),
            (
                "\u{1b}[1mTraceback (most recent call last):\u{1b}[0m\n  File \u{1b}[35m\"x\"\u{1b}[0m\n\u{1b}[1mA\u{1b}[0m: b\n",
                "A: b",
            ),
            ("\r 10%\r 50%\rError: x\r\n", "Error: x"),
            ("\r 50%\rTraceback (most recent call last):\n  File \"x.py\"\nA: b\r", "A: b"),
            ("x.sh: line 3: foo: command not found", "x.sh: line 3: foo: command not found"),
            // prismq itself
            ("timed out after 2 s; stderr:\nloading\nwaiting for x", "timed out after 2 s: waiting for x"),
            ("ended by signal 9; its last words:\nloading\nwaiting for x", "ended by signal 9: waiting for x"),
        ]);
    }

    #[test]
    fn a_line_after_a_stack_that_was_handled_comes_first() {
        for stack in [
            "Traceback (most recent call last):\n  File \"x.py\", line 1\n    f()\nValueError: x",
            "Error: x\n    at f (/x.js:1)",
            "Error: x\n    at f {\n  code: 'ENOENT'\n}",
            "java.io.IOException: x\n\tat M.main(M.java:5)\nCaused by: B: b\n\t... 1 more",
            "x.rb:1:in 'f': boom (RuntimeError)\n\tfrom x.rb:3:in '<main>'",
            "panic: boom\n\ngoroutine 1 [running]:\nmain.main()\n\t/x.go:4 +0x25\ncreated by x\n\t/x.go:1",
            "thread 'a' panicked at src/main.rs:2:5:\nboom\nnote: run with `RUST_BACKTRACE=1`",
            "thread 'a' panicked at src/main.rs:2:5:\nboom\nstack backtrace:\n   0: f\n             at /x.rs:1",
            "PHP Warning: x\nStack trace:\n#0 {main}\n  thrown in /x.php",
            "lua: x.lua:1: boom\nstack traceback:\n\t[C]: in function 'error'",
            "\u{1b}[1mTraceback (most recent call last):\u{1b}[0m\n  File \u{1b}[35m\"x\"\u{1b}[0m\nA: b",
            "+ exit 1",
        ] {
            for last in ["cannot reach the mirror, giving up", "ERROR:root:given up", "done(1) was the last"] {
                for end in ["", "\n", "\r\n \n\n", "\n\u{1b}[0m\n"] {
                    let error = format!("loading\n{stack}\n{last}{end}");
                    assert_eq!(split(&without_colours(&error)).0, last, "{error}");
                }
            }
        }
    }

    #[test]
    fn nothing_of_an_error_is_lost_or_said_twice() {
        let error = "loading\nTraceback (most recent call last):\n  File \"x.py\"\nValueError: no\nbye";
        assert_eq!(
            in_one_line(error),
            "bye | loading | Traceback (most recent call last): | File \"x.py\" | ValueError: no"
        );
        assert_eq!(split(error).1, ["loading", TRACEBACK, "  File \"x.py\"", "ValueError: no"]);
        assert_eq!(in_one_line("no luck\n"), "no luck");
    }
}
