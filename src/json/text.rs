//! The text of JSON, before it is parsed: what is in it, and what is mended or left out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::LEFT_OUT;

const SUCCESS: &[u8] = b"success";

const MARK: char = '\u{feff}';

/// Whether bytes begin as JSON that holds an object does, in whatever encoding: with `{`, or as a list of objects. Other
/// things begin so, too (templates, TeX, a GUID), and go on with what no object of JSON does; but they may be an envelope
/// as another language writes it, if there is a key `success` in them.
#[must_use]
pub(crate) fn starts_like_object(bytes: &[u8]) -> bool {
    const SKIPPED: [u8; 6] = [0, 0xfe, 0xff, 0xef, 0xbb, 0xbf]; // of byte order marks, and of wider characters
    let mut start = bytes.iter().filter(|byte| !byte.is_ascii_whitespace() && !SKIPPED.contains(byte));
    let opens = match start.next() {
        Some(b'[') => start.next() == Some(&b'{'),
        first => first == Some(&b'{'),
    };
    opens && (matches!(start.next(), None | Some(b'"' | b'}')) || names_success(bytes))
}

/// Whether there is a key `success`, in the quotes and colours of any language.
fn names_success(bytes: &[u8]) -> bool {
    const BETWEEN: &[u8] = b" \t\r\n\\\"'\x1b[;m0123456789";
    let mut words = bytes.windows(SUCCESS.len()).enumerate().filter(|(_, word)| *word == SUCCESS);
    words.any(|(at, _)| {
        let next = bytes[at + SUCCESS.len()..].iter().find(|byte| !BETWEEN.contains(byte));
        matches!(next, Some(b':' | b'='))
    })
}

/// `text` without the byte order mark at its start.
#[must_use]
pub(crate) fn without_mark(text: &str) -> &str {
    // PHP writes one for each file that carries one, and white space between them.
    let rest = text.trim_start_matches(|character: char| character == MARK || character.is_ascii_whitespace());
    if text[..text.len() - rest.len()].contains(MARK) { rest } else { text }
}

/// What is of interest in a JSON text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Open,
    Close,
    Comma,
    Number,
    /// The escape of half a surrogate pair.
    Half,
    /// A whole text, with its quotes.
    Text,
}

/// The parts of a JSON text, each with its place. In a text that is not JSON, they mean nothing.
pub(super) struct Parts<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the text began in which we are.
    quote: Option<usize>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, quote: None }
    }

    /// Goes on by `length`; the part that is.
    fn take(&mut self, part: Part, length: usize) -> (Part, Range<usize>) {
        let start = self.at;
        self.at += length;
        (part, start..self.at)
    }

    /// The next part inside of a text, which began at `quote`; `None` for a character of no interest.
    fn in_text(&mut self, quote: usize) -> Option<(Part, Range<usize>)> {
        let rest = &self.text[self.at..];
        match rest[0] {
            b'"' => {
                self.at += 1;
                self.quote = None;
                return Some((Part::Text, quote..self.at));
            }
            b'\\' => match (unit(rest), rest.get(6..).and_then(unit)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => self.at += 12,
                (Some(0xd800..=0xdfff), _) => return Some(self.take(Part::Half, 6)),
                _ => self.at += 2,
            },
            _ => self.at += 1,
        }
        None
    }
}

impl Iterator for Parts<'_> {
    type Item = (Part, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(byte) = self.text.get(self.at) {
            if let Some(quote) = self.quote {
                match self.in_text(quote) {
                    None => continue,
                    part => return part,
                }
            }
            match byte {
                b'"' => self.quote = Some(self.at),
                b'{' | b'[' => return Some(self.take(Part::Open, 1)),
                b'}' | b']' => return Some(self.take(Part::Close, 1)),
                b',' => return Some(self.take(Part::Comma, 1)),
                b'0'..=b'9' | b'-' => {
                    let is_of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = self.text[self.at..].iter().take_while(is_of_number).count();
                    return Some(self.take(Part::Number, length));
                }
                _ => {}
            }
            self.at += 1;
        }
        None
    }
}

/// The UTF-16 unit of the escape at the start of `text`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

/// The first key that its object has had before, with its quotes. `text` is JSON.
pub(super) fn repeated_key(text: &str) -> Option<Range<usize>> {
    // The keys of each object around, and nothing for each array.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut is_key = false;
    for (part, place) in Parts::of(text) {
        match part {
            Part::Open => {
                is_key = text[place].starts_with('{');
                open.push(is_key.then(HashSet::new));
            }
            Part::Close => {
                open.pop();
                is_key = false;
            }
            Part::Comma => is_key = matches!(open.last(), Some(Some(_))),
            Part::Text if is_key => {
                is_key = false;
                let keys = open.last_mut()?.as_mut()?;
                if !keys.insert(unescaped(&text[place.clone()])) {
                    return Some(place);
                }
            }
            Part::Number | Part::Half | Part::Text => {}
        }
    }
    None
}

/// What a text of JSON holds.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        serde_json::from_str(&mended(quoted)).map_or(Cow::Borrowed(quoted), Cow::Owned)
    } else {
        Cow::Borrowed(&quoted[1..quoted.len() - 1])
    }
}

/// Where in `text` the byte at `offset` is, in the words of the parser.
pub(super) fn at(text: &str, offset: usize) -> String {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = offset - before.rfind('\n').map_or(0, |end| end + 1) + 1;
    format!(" at line {line} column {column}")
}

/// `text` with U+FFFD for each half of a surrogate pair. Places in it stay the same.
#[must_use]
pub(crate) fn mended(text: &str) -> Cow<'_, str> {
    let mut mended = Cow::Borrowed(text);
    if !text.contains("\\u") {
        return mended;
    }
    for (_, place) in Parts::of(text).filter(|(part, _)| *part == Part::Half) {
        mended.to_mut().replace_range(place, "\\ufffd");
    }
    mended
}

/// `text` with a text, which says `why`, for each array and object below `max_depth`; and what closes those that are
/// still open at its end.
pub(super) fn pruned<'a>(text: Cow<'a, str>, max_depth: usize, why: &str) -> (Cow<'a, str>, String) {
    let mut open = Vec::new();
    let mut kept = String::new();
    let mut from = 0;
    for (part, place) in Parts::of(&text) {
        match part {
            Part::Open => {
                if open.len() == max_depth {
                    kept.push_str(&text[from..place.start]);
                    kept.extend(["\"", LEFT_OUT, why, "]\""]);
                    from = text.len();
                }
                open.push(if text[place].starts_with('{') { '}' } else { ']' });
            }
            Part::Close => {
                open.pop();
                if open.len() == max_depth {
                    from = place.end;
                }
            }
            Part::Comma | Part::Number | Part::Half | Part::Text => {}
        }
    }
    open.truncate(max_depth);
    let end = open.into_iter().rev().collect();
    if kept.is_empty() {
        return (text, end);
    }
    kept.push_str(&text[from..]);
    (Cow::Owned(kept), end)
}
