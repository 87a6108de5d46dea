//! Turns messages of the TOML parser into plain words.

/// The parser's messages, with the expected token if the message alone is ambiguous, and our messages.
const MESSAGES: [(&str, &str); 34] = [
    ("`_` may only go between digits", "`_` in a number must be between digits"),
    ("cannot recurse further; max recursion depth met", "it is nested too deeply"),
    ("carriage return must be followed by newline", "a carriage return without a line feed"),
    ("duplicate key", "the key is defined twice"),
    ("extra `=`", "an extra `=`"),
    ("extra assignment between key-value pairs", "a comma is missing in a table"),
    ("extra comma in array", "an extra comma in a list"),
    ("extra comma in inline table", "an extra comma in a table"),
    ("integers with a radix cannot be signed", "a number with `0x`, `0o` or `0b` cannot have a sign"),
    ("invalid basic string, expected `\"`", "a string is not closed: `\"` is missing"),
    ("invalid basic string", "a control character in a string"),
    ("invalid boolean", "text must be in quotes; the booleans are true and false"),
    ("invalid comment character", "a control character in a comment"),
    ("invalid fraction", "not a number; text must be in quotes"),
    ("invalid key-value pair", "a key is missing"),
    ("invalid literal string, expected `'`", "a string is not closed: `'` is missing"),
    ("invalid literal string", "a control character in a string"),
    ("invalid multi-line basic string, expected `\"`", "a string is not closed: `\"\"\"` is missing"),
    ("invalid multi-line literal string, expected `'`", "a string is not closed: `'''` is missing"),
    ("invalid unquoted key", "a key with other characters than letters, digits, `-` and `_` must be in quotes"),
    ("key with no value", "a key without `=` and a value"),
    ("keys cannot be multi-line basic strings", "a key must be on one line"),
    ("keys cannot be multi-line literal strings", "a key must be on one line"),
    ("missing escaped value", "`\\` before a character that it cannot escape; single quotes keep `\\` as it is"),
    ("missing value for key", "a key without a value"),
    ("radix must be lowercase", "`0x`, `0o` and `0b` must be in lower case"),
    ("recursion limit", "it is nested too deeply"),
    ("redundant numeric sign", "a number with two signs"),
    ("string values must be quoted", "text must be in quotes"),
    ("unclosed array", "a list is not closed: `]` is missing"),
    ("unclosed array table", "a table header is not closed: `]]` is missing"),
    ("unclosed inline table", "a table is not closed: `}` is missing"),
    ("unclosed table", "a table header is not closed: `]` is missing"),
    ("unexpected key or value", "text after the value; write each setting on its own line"),
];

/// Returns a parser's message in our words.
pub(super) fn explain(message: &str) -> String {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let ours = |theirs: &str| MESSAGES.iter().find(|(words, _)| *words == theirs);
    match ours(message).or_else(|| ours(what)) {
        Some((_, words)) => (*words).to_owned(),
        None if expected == "nothing" => what.to_owned(),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    const MISTAKES: [(&str, &str); 35] = [
        ("a = b", "text must be in quotes"),
        ("a = 5x", "text must be in quotes"),
        ("a = \"x", "a string is not closed: `\"` is missing"),
        ("a = 'x", "a string is not closed: `'` is missing"),
        ("a = \"\"\"x", "a string is not closed: `\"\"\"` is missing"),
        ("a = '''x", "a string is not closed: `'''` is missing"),
        ("a = \"\u{1}\"", "a control character in a string"),
        ("# \u{1}", "a control character in a comment"),
        ("a", "a key without `=` and a value"),
        ("a: 5", "a key without `=` and a value"),
        ("[a", "a table header is not closed: `]` is missing"),
        ("[[a", "a table header is not closed: `]]` is missing"),
        ("a = [1", "a list is not closed: `]` is missing"),
        ("a = {b = 1", "a table is not closed: `}` is missing"),
        ("a = 1 b = 2", "text after the value; write each setting on its own line"),
        ("a = \"x\" \"y\"", "text after the value; write each setting on its own line"),
        ("a = [1,,2]", "an extra comma in a list"),
        ("a = {b=1,,c=2}", "an extra comma in a table"),
        ("a = {b = 1 c = 2}", "a comma is missing in a table"),
        ("a == 5", "an extra `=`"),
        ("a = ++5", "a number with two signs"),
        ("a = 5_", "`_` in a number must be between digits"),
        ("a = 0X5", "`0x`, `0o` and `0b` must be in lower case"),
        ("a = +0x5", "a number with `0x`, `0o` or `0b` cannot have a sign"),
        ("a = \"\\q\"", "`\\` before a character that it cannot escape; single quotes keep `\\` as it is"),
        ("ü = 5", "a key with other characters than letters, digits, `-` and `_` must be in quotes"),
        ("\"\"\"a\"\"\" = 5", "a key must be on one line"),
        ("a = tru", "text must be in quotes; the booleans are true and false"),
        ("a = 1..2", "not a number; text must be in quotes"),
        ("a = 1\ra = 2", "a carriage return without a line feed"),
        ("a = 1\na = 2", "the key is defined twice"),
        ("[a]\n[a]", "the key is defined twice"),
        ("{a=1}", "a key is missing"),
        // Plain enough as they are.
        ("a = 05", "unexpected leading zero"),
        ("a = 2020-13-01", "invalid date, expected month between 01 and 12"),
    ];

    #[test]
    fn toml_errors_have_plain_messages() {
        for (text, expected) in MISTAKES {
            assert_eq!(explain(DeTable::parse(text).unwrap_err().message()), expected, "{text}");
        }
        let deep = format!("a = {}", "[".repeat(1000));
        assert_eq!(explain(DeTable::parse(&deep).unwrap_err().message()), "it is nested too deeply");
    }
}
