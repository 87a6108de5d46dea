//! Validation of names of task types and ids of workers.

use std::fmt::{self, Display, Formatter};

/// Maximum length of a name, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// An invisible or direction-changing character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hidden(char);

impl Display for Hidden {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "U+{:04X}", u32::from(self.0))
    }
}

/// Returns the first hidden character of a name. With such characters, different names could look the same, contain line
/// breaks, or reverse the text after them.
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
    fn invisible_characters_are_detected() {
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
