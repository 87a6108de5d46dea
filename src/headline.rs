//! The line of an error text that says most, for wherever there is room for one line only.
//!
//! Where a program failed, its error text is the end of its standard error, with what it logged first and a stack trace
//! around the message. `docs/handlers.md` has the rule.

use std::borrow::Cow;

use console::strip_ansi_codes;

/// Between what prismq saw itself and what the handler printed before that.
pub(crate) const LAST_WORDS: &str = "; its last words:\n";

/// What a Python traceback begins with. The first line after it that is not indented is the exception.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// What lines begin with that only end a trace, or say how it was made: Go, Node, Bun, Rust, PHP, R.
const TRAILERS: [&str; 9] =
    ["Node.js v", "Bun v", "note: ", "exit status ", "[signal ", "created by ", "#", "Execution halted", "Aborted"];

/// From such a line on, all is trace: Go shows its goroutines, whose frames look like messages.
const GOROUTINE: &str = "goroutine ";

/// `error` without the codes for colours and the cursor that terminals hide: they are no part of what it says.
pub(crate) fn without_colours(error: &str) -> Cow<'_, str> {
    strip_ansi_codes(error)
}

/// `error` in one line: its most telling line first, then the others in their order.
pub(crate) fn in_one_line(error: &str) -> Cow<'_, str> {
    let error = without_colours(error);
    let (headline, rest) = split(&error);
    let rest: Vec<&str> = rest.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if rest.is_empty() {
        return Cow::Owned(headline.into_owned());
    }
    Cow::Owned(format!("{headline} | {}", rest.join(" | ")))
}

/// The most telling line of `error`, which has no colours, and the other lines as they are. A lone carriage return ends a
/// line, too: bars that are drawn over end with one.
pub(crate) fn split(error: &str) -> (Cow<'_, str>, Vec<&str>) {
    let (own, printed) = match error.split_once(LAST_WORDS) {
        Some((own, printed)) if !own.contains('\n') => (own, printed),
        _ => ("", error),
    };
    let mut lines: Vec<&str> = printed.lines().flat_map(|line| line.split('\r')).collect();
    let Some(at) = most_telling(&lines) else { return (Cow::Borrowed(error.trim()), Vec::new()) };
    let line = lines.remove(at).trim_start_matches([' ', '\t', '|']).trim_end();
    let headline = if own.is_empty() { Cow::Borrowed(line) } else { Cow::Owned(format!("{own}: {line}")) };
    (headline, lines)
}

/// Which of `lines` says most; `None` where none says anything.
fn most_telling(lines: &[&str]) -> Option<usize> {
    let is_said = |line: &str| line.contains(char::is_alphanumeric);
    let is_indented = |line: &str| line.starts_with([' ', '\t']);
    if let Some(traceback) = lines.iter().rposition(|line| line.trim_end() == TRACEBACK) {
        let after = lines[traceback + 1..].iter().position(|line| is_said(line) && !is_indented(line));
        if let Some(after) = after {
            return Some(traceback + 1 + after);
        }
    }
    let end = lines.iter().position(|line| line.starts_with(GOROUTINE) && line.ends_with("]:"));
    let lines = &lines[..end.filter(|end| *end > 0).unwrap_or(lines.len())];
    let is_trailer = |line: &str| line.trim_end().ends_with(':') || TRAILERS.iter().any(|it| line.starts_with(it));
    let is_what = |line: &str| line.trim_start().starts_with("what():");
    let tells = |line: &&str| is_said(line) && (is_what(line) || !is_indented(line) && !is_trailer(line));
    lines.iter().rposition(tells).or_else(|| lines.iter().rposition(|line| is_said(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_line_comes_first() {
        for (error, expected) in [
            ("no luck", "no luck"),
            ("  no luck \n\n", "no luck"),
            ("", ""),
            ("***\n", "***"),
            ("loading model\nValueError: no", "ValueError: no"),
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
            // Node, Bun
            ("/x.js:1\nthrow new Error('x')\n^\n\nError: x\n    at f (/x.js:1)\n\nNode.js v20.1.0", "Error: x"),
            ("Error: x\n    at f {\n  code: 'ENOENT'\n}\n\nNode.js v20.1.0", "Error: x"),
            ("1 | throw\n    ^\nerror: x\n      at /x.js:1\n\nBun v1.1 (Linux x64)", "error: x"),
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
            // Colours, bars
            ("\u{1b}[31merror: red\n\u{1b}[0m", "error: red"),
            ("\u{1b}[31mError: x\u{1b}[39m\n\u{1b}[90m    at f (/x.js:1)\u{1b}[39m\n\u{1b}[?25h", "Error: x"),
            (
                "\u{1b}[1mTraceback (most recent call last):\u{1b}[0m\n  File \u{1b}[35m\"x\"\u{1b}[0m\n\u{1b}[1mA\u{1b}[0m: b\nbye",
                "A: b",
            ),
            ("\r 10%\r 50%\rError: x", "Error: x"),
            ("\r 50%\rTraceback (most recent call last):\n  File \"x.py\"\nA: b\nbye", "A: b"),
            ("x.sh: line 3: foo: command not found", "x.sh: line 3: foo: command not found"),
            // prismq itself
            (
                "it took longer than 2s and was ended; its last words:\nloading\nwaiting for x",
                "it took longer than 2s and was ended: waiting for x",
            ),
        ] {
            assert_eq!(split(&without_colours(error)).0, expected, "{error}");
            assert!(in_one_line(error).starts_with(expected), "{error}");
        }
    }

    #[test]
    fn nothing_of_an_error_is_lost_or_said_twice() {
        let error = "loading\nTraceback (most recent call last):\n  File \"x.py\"\nValueError: no\nbye";
        assert_eq!(
            in_one_line(error),
            "ValueError: no | loading | Traceback (most recent call last): | File \"x.py\" | bye"
        );
        assert_eq!(split(error).1, ["loading", TRACEBACK, "  File \"x.py\"", "bye"]);
        assert_eq!(in_one_line("no luck\n"), "no luck");
    }
}
