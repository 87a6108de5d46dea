//! Processes JSON text before it is parsed: tokens, repairs, pruning.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::OMITTED;

const SUCCESS: &[u8] = b"success";

const BOM: char = '\u{feff}';

/// Whether bytes look like a JSON object or a list of objects, in any encoding. Other formats (templates, TeX, a GUID) also
/// start with `{`, but not with a key; they count only if they contain a key `success`, since they may be an envelope that
/// another language printed.
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

/// Whether there is a key `success`, with any quotes and colours.
fn names_success(bytes: &[u8]) -> bool {
    const BETWEEN: &[u8] = b" \t\r\n\\\"'\x1b[;m0123456789";
    let mut words = bytes.windows(SUCCESS.len()).enumerate().filter(|(_, word)| *word == SUCCESS);
    words.any(|(position, _)| {
        let next = bytes[position + SUCCESS.len()..].iter().find(|byte| !BETWEEN.contains(byte));
        matches!(next, Some(b':' | b'='))
    })
}

/// Removes byte order marks at the start of `text`.
#[must_use]
pub(crate) fn without_bom(text: &str) -> &str {
    // PHP prints one for each included file that has one, possibly with white space between them.
    let rest = text.trim_start_matches(|character: char| character == BOM || character.is_ascii_whitespace());
    if text[..text.len() - rest.len()].contains(BOM) { rest } else { text }
}

/// A token of a JSON text; only the ones of interest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Open,
    Close,
    Comma,
    Number,
    /// The escape of a lone surrogate.
    LoneSurrogate,
    /// A string, with its quotes.
    Text,
}

/// Iterates over the tokens of a JSON text with their ranges. If the text is not JSON, they are meaningless.
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
    /// The start of the current string, if inside of one.
    quote: Option<usize>,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0, quote: None }
    }

    /// Consumes `length` bytes as a token.
    fn take(&mut self, token: Token, length: usize) -> (Token, Range<usize>) {
        let start = self.at;
        self.at += length;
        (token, start..self.at)
    }

    /// Returns the next token inside of a string that started at `quote`; `None` for other characters.
    fn in_string(&mut self, quote: usize) -> Option<(Token, Range<usize>)> {
        let rest = &self.text[self.at..];
        match rest[0] {
            b'"' => {
                self.at += 1;
                self.quote = None;
                return Some((Token::Text, quote..self.at));
            }
            b'\\' => match (utf16_unit(rest), rest.get(6..).and_then(utf16_unit)) {
                (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => self.at += 12,
                (Some(0xd800..=0xdfff), _) => return Some(self.take(Token::LoneSurrogate, 6)),
                _ => self.at += 2,
            },
            _ => self.at += 1,
        }
        None
    }
}

impl Iterator for Tokens<'_> {
    type Item = (Token, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(byte) = self.text.get(self.at) {
            if let Some(quote) = self.quote {
                match self.in_string(quote) {
                    None => continue,
                    token => return token,
                }
            }
            match byte {
                b'"' => self.quote = Some(self.at),
                b'{' | b'[' => return Some(self.take(Token::Open, 1)),
                b'}' | b']' => return Some(self.take(Token::Close, 1)),
                b',' => return Some(self.take(Token::Comma, 1)),
                b'0'..=b'9' | b'-' => {
                    let is_of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                    let length = self.text[self.at..].iter().take_while(is_of_number).count();
                    return Some(self.take(Token::Number, length));
                }
                _ => {}
            }
            self.at += 1;
        }
        None
    }
}

/// Parses the `\u` escape at the start of `text`.
fn utf16_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

/// Returns the range of the first duplicate key in a JSON text.
pub(super) fn duplicate_key(text: &str) -> Option<Range<usize>> {
    // The keys of each enclosing object; `None` for arrays.
    let mut open: Vec<Option<HashSet<Cow<'_, str>>>> = Vec::new();
    let mut is_key = false;
    for (token, place) in Tokens::of(text) {
        match token {
            Token::Open => {
                is_key = text[place].starts_with('{');
                open.push(is_key.then(HashSet::new));
            }
            Token::Close => {
                open.pop();
                is_key = false;
            }
            Token::Comma => is_key = matches!(open.last(), Some(Some(_))),
            Token::Text if is_key => {
                is_key = false;
                let keys = open.last_mut()?.as_mut()?;
                if !keys.insert(unescape(&text[place.clone()])) {
                    return Some(place);
                }
            }
            Token::Number | Token::LoneSurrogate | Token::Text => {}
        }
    }
    None
}

/// Returns the value of a quoted string.
fn unescape(quoted: &str) -> Cow<'_, str> {
    if quoted.contains('\\') {
        serde_json::from_str(&repaired(quoted)).map_or(Cow::Borrowed(quoted), Cow::Owned)
    } else {
        Cow::Borrowed(&quoted[1..quoted.len() - 1])
    }
}

/// Formats the position of a byte offset as the parser does.
pub(super) fn position(text: &str, offset: usize) -> String {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = offset - before.rfind('\n').map_or(0, |end| end + 1) + 1;
    format!(" at line {line} column {column}")
}

/// Replaces escaped lone surrogates by U+FFFD. Positions do not change.
#[must_use]
pub(crate) fn repaired(text: &str) -> Cow<'_, str> {
    let mut repaired = Cow::Borrowed(text);
    if !text.contains("\\u") {
        return repaired;
    }
    for (_, place) in Tokens::of(text).filter(|(token, _)| *token == Token::LoneSurrogate) {
        repaired.to_mut().replace_range(place, "\\ufffd");
    }
    repaired
}

/// Replaces each array and object below `max_depth` by a placeholder that says `why`. Also returns the brackets that close
/// what is still open at the end.
pub(super) fn prune<'a>(text: Cow<'a, str>, max_depth: usize, why: &str) -> (Cow<'a, str>, String) {
    let mut open = Vec::new();
    let mut kept = String::new();
    let mut from = 0;
    for (token, place) in Tokens::of(&text) {
        match token {
            Token::Open => {
                if open.len() == max_depth {
                    kept.push_str(&text[from..place.start]);
                    kept.extend(["\"", OMITTED, why, "]\""]);
                    from = text.len();
                }
                open.push(if text[place].starts_with('{') { '}' } else { ']' });
            }
            Token::Close => {
                open.pop();
                if open.len() == max_depth {
                    from = place.end;
                }
            }
            Token::Comma | Token::Number | Token::LoneSurrogate | Token::Text => {}
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
