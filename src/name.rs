//! Names of task types and ids of workers: what they may consist of, and what makes an id unique.

use std::fmt::{self, Display, Formatter};

/// Returns a number that no other process has, for the id of something of this one's. From the system's randomness:
/// generators that are seeded by the clock give two processes that start in the same nanosecond the same number.
pub(crate) fn unique() -> u64 {
    getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))
}

/// The longest name, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// A character that shows nothing of itself, or changes what is shown around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hidden(char);

impl Display for Hidden {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "U+{:04X}", u32::from(self.0))
    }
}

/// The first hidden character of a name. Two names that look alike would not be the same; one could begin a new line, or
/// turn the direction of all that is shown after it.
pub(crate) fn hidden(name: &str) -> Option<Hidden> {
    name.chars().find(|it| is_hidden(*it)).map(Hidden)
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' // soft hyphen
                | '\u{34f}' // combining grapheme joiner
                | '\u{61c}' // Arabic letter mark
                | '\u{115f}'..='\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
                | '\u{17b4}'..='\u{17b5}' // Khmer vowels that are not shown
                | '\u{180b}'..='\u{180f}' // Mongolian variation selectors
                | '\u{200b}'..='\u{200f}' // zero width, and marks of direction
                | '\u{2028}'..='\u{202e}' // line and paragraph separators, embeddings and overrides
                | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, isolates
                | '\u{feff}' // byte order mark
                | '\u{fff9}'..='\u{fffb}' // interlinear annotation
                | '\u{e0000}'..='\u{e0fff}' // tags
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_hidden() {
        for hidden in "\0\n\u{7f}\u{80}\u{85}\u{9f}\u{ad}\u{200b}\u{200d}\u{200e}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{e0041}".chars()
        {
            assert_eq!(super::hidden(&format!("a{hidden}b")), Some(Hidden(hidden)), "{hidden:?}");
        }
        for name in ["PrismQ.Script.Generate", "worker 1", "späť-7", "作業", "a/b:c@d", "مهمة", "🙂"] {
            assert_eq!(hidden(name), None, "{name}");
        }
        assert_eq!(Hidden('\u{ad}').to_string(), "U+00AD");
    }
}
