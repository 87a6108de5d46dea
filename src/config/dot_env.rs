//! `.env`: variables for those that the environment does not set.
//!
//! Programs disagree on the syntax of such files: whether `$` names another variable, what `\` does, where a comment
//! begins. A value is accepted only if the parser returns it exactly as it stands in the file.

use std::collections::BTreeMap;
use std::path::Path;

use super::ConfigError;
use super::environment::VariableMap;
use crate::text_file;

const BLANKS: [char; 2] = [' ', '\t'];

/// A parsed `.env`.
#[derive(Debug, Default)]
pub(super) struct DotEnv {
    pub(super) values: VariableMap,
    /// Variables with ambiguous values. They are errors only if somebody asks for them: the file may be for other
    /// programs as well.
    pub(super) refused: BTreeMap<String, ConfigError>,
}

/// Reads the `.env` at `path`; empty if there is no such file. Does not change the process's environment.
pub(super) fn read(path: &Path) -> Result<DotEnv, ConfigError> {
    // A folder of that name is a Python virtual environment.
    if path.is_dir() {
        return Ok(DotEnv::default());
    }
    let found = text_file::read_found(path, text_file::MAX_SETTINGS);
    match found.map_err(|error| ConfigError::unreadable(path.display(), &error))? {
        Some(bytes) => parse(text_file::utf_8_lines(&bytes).map_err(|(line, problem)| at(path, line, problem))?, path),
        None => Ok(DotEnv::default()),
    }
}

fn at(path: &Path, line: usize, problem: impl std::fmt::Display) -> ConfigError {
    ConfigError::at(format_args!("{}:{line}", path.display()), problem)
}

fn parse(text: &str, path: &Path) -> Result<DotEnv, ConfigError> {
    let mut dot_env = DotEnv::default();
    let mut first_lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let error = |problem: &str| at(path, number, problem);
        let mut entry = line.to_owned();
        let (assignment, value) = loop {
            match split(&entry) {
                Some(parts) => break parts,
                // A quoted value goes on to its closing quote.
                None => match lines.next() {
                    Some((_, line)) => entry.extend(["\n", line]),
                    None => return Err(error("not NAME=VALUE: a quote is not closed").hint(QUOTES)),
                },
            }
        };
        if entry.contains(|character: char| character.is_control() && !['\t', '\n'].contains(&character)) {
            return Err(error("contains a control character"));
        }
        let (name, read) = ask(assignment).ok_or_else(|| error("not NAME=VALUE").hint(QUOTES))?;
        if let Some(first) = first_lines.insert(name.clone(), number) {
            dot_env.refused.insert(name.clone(), error(&format!("{name} is set twice, first in line {first}")));
        } else if read.is_none() && !value.contains(['$', '\\']) {
            dot_env.refused.insert(name.clone(), error(&format!("the value of {name} must be in quotes")).hint(QUOTES));
        } else if read.as_deref() != Some(value) {
            dot_env.refused.insert(name.clone(), error(&ambiguous(&name, value)).hint(QUOTES));
        }
        dot_env.values.insert(name, value.to_owned());
    }
    Ok(dot_env)
}

const QUOTES: &str = "put single quotes around a value that contains a space, a double quote, `#`, `$` or `\\`, \
                      and double quotes around one that contains a single quote";

/// Splits an entry into the entry without its comment, and its raw value: between its quotes, or up to the comment.
/// `None` if its quote is still open.
fn split(entry: &str) -> Option<(&str, &str)> {
    let start = entry.find('=').map_or(entry.len(), |equals| equals + 1);
    let value = entry[start..].trim_start_matches(BLANKS);
    let at = entry.len() - value.len();
    let length = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let inside = closing(&value[1..], quote)?;
            let rest = &value[inside + 2..];
            let is_end = rest.trim_matches(BLANKS).is_empty()
                || rest.starts_with(BLANKS) && rest.trim_start_matches(BLANKS).starts_with('#');
            if is_end {
                return Some((&entry[..at + inside + 2], &value[1..=inside]));
            }
            value.len()
        }
        Some('#') if at > start => 0,
        _ => [" #", "\t#"].iter().filter_map(|comment| value.find(comment)).min().unwrap_or(value.len()),
    };
    let value = value[..length].trim_end_matches(BLANKS);
    Some((&entry[..at + value.len()], value))
}

/// Returns where the quote closes. In double quotes, `\"` does not close it.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let closes = character == quote && !is_escaped;
        is_escaped = quote == '"' && character == '\\' && !is_escaped;
        closes.then_some(at)
    })
}

/// Parses `assignment`: its name, and its value if that can be read. `None` if it is not an assignment.
fn ask(assignment: &str) -> Option<(String, Option<String>)> {
    // Each assignment is parsed separately: the parser of whole files mistakes an apostrophe in some comments for a
    // quote.
    let read = |assignment: &str| dotenvy::from_read_iter(format!("{assignment}\n").as_bytes()).next()?.ok();
    let (start, value) = assignment.split_once('=')?;
    let (name, _) = read(&format!("{start}=''"))?;
    let quoted = value.trim_start_matches(BLANKS).strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    // It mistakes a backslash in single quotes for an escape when it looks for the end of a line.
    let value = quoted.filter(|inside| !inside.contains('\'')).map(str::to_owned);
    Some((name, value.or_else(|| read(assignment).map(|(_, value)| value))))
}

/// Says what is wrong with an ambiguous value, without repeating it: it may be a secret.
fn ambiguous(name: &str, value: &str) -> String {
    let culprit = value.chars().find(|character| ['$', '\\', '\'', '"', '#'].contains(character));
    let what = culprit.map_or("an unusual white-space character".to_owned(), |culprit| format!("`{culprit}`"));
    format!("the value of {name} contains {what}, which other programs may read differently")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<DotEnv, ConfigError> {
        parse(text, Path::new(".env"))
    }

    #[test]
    fn errors_name_their_line() {
        for (text, line) in [
            ("A=1\nB C\n", 2),
            ("oops", 1),
            ("# comment\n\n\nA=1\n=x\nB=2\n", 5),
            ("A=1\nB='open\nC=3\nD=4\n", 2),
            ("A='two\nlines'\nB\n", 3),
            ("A=1\nB C # why\nD=1", 2),
            ("A=1\nB=\"open\n", 2),
            ("A=1\nexport B\n", 2),
            ("A=1\nB=a\0b\n", 2),
            ("A=1\rB=2\rC=3", 1),
            ("A=1\nB='a\u{1b}b'\n", 2),
        ] {
            let error = parsed(text).unwrap_err().message;
            assert!(error.starts_with(&format!(".env:{line}: ")), "{text:?}: {error}");
        }
    }

    #[test]
    fn accepted_values_are_read_unchanged() {
        for (text, value) in [
            ("A=x", "x"),
            ("A=x   ", "x"),
            ("A = x", "x"),
            ("A\t=\tx\t", "x"),
            ("  export   A=x", "x"),
            ("A=", ""),
            ("A=   ", ""),
            ("A=''", ""),
            ("A= # nothing", ""),
            ("A=x#y", "x#y"),
            ("A=x # it's why", "x"),
            ("A=x  # it's why", "x"),
            ("A=x\t#\"why", "x"),
            ("A='x y' # it's why", "x y"),
            ("A='x y'\t  #'", "x y"),
            ("A=\"x y\"   # why", "x y"),
            ("A='k3y$ecret'", "k3y$ecret"),
            ("A='${B}\\n\\'", "${B}\\n\\"),
            ("A='a # \"b\"'", "a # \"b\""),
            ("A=\"it's\"", "it's"),
            ("A=a=b==", "a=b=="),
            ("A=~/x", "~/x"),
            ("A=`x`&;|<>(){}[]!%*?,:@^", "`x`&;|<>(){}[]!%*?,:@^"),
            ("A=ž", "ž"),
            ("A='two\r\nlines'", "two\nlines"),
            ("A=\"two\n\n# lines\" # why", "two\n\n# lines"),
        ] {
            let text = format!("BEFORE=1\n{text}\nAFTER=it");
            let dot_env = parsed(&text).unwrap();
            assert_eq!(dot_env.refused.keys().collect::<Vec<_>>(), [] as [&str; 0], "{text}");
            let expected = [("A", value), ("AFTER", "it"), ("BEFORE", "1")];
            assert_eq!(dot_env.values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        }
    }

    #[test]
    fn values_that_the_reader_would_change_are_refused_with_their_line() {
        for (value, culprit) in [
            ("k3y$ecret", "`$`"),
            ("k3y$", "`$`"),
            ("$$", "`$`"),
            ("${HOME}", "`$`"),
            ("\"k3y$ecret\"", "`$`"),
            ("\"a\\\"b\"", "`\\`"),
            ("\"a\\nb\"", "`\\`"),
            ("C:\\new", "`\\`"),
            ("two\\ words", "`\\`"),
            ("k3y\\ecret", "`\\`"),
            ("end\\\\", "`\\`"),
            ("a'b'c", "`'`"),
            ("'a'b", "`'`"),
            ("'a'#b", "`'`"),
            ("'a''b'", "`'`"),
            ("a\"b\"", "`\"`"),
            ("#a", "`#`"),
            ("a\u{a0}", "white-space"),
            ("\u{2003}a", "white-space"),
        ] {
            let dot_env = parsed(&format!("B=1\n\nA={value}\nC=2")).unwrap();
            let error = &dot_env.refused["A"];
            assert!(error.message.starts_with(".env:3: the value of A contains "), "{value}: {error}");
            assert!(error.message.contains(culprit) && error.hint.is_some(), "{value}: {error}");
            assert_eq!(dot_env.values["C"], "2", "{value}");
        }
        for value in ["two words", "two words\r", "'x' y", "don't", "'it's'", "say \"a\" \"b\" c", "a' b"] {
            let dot_env = parsed(&format!("B=1\nA={value}\nC=2")).unwrap();
            assert_eq!(dot_env.refused["A"].message, ".env:2: the value of A must be in quotes", "{value}");
            assert_eq!((dot_env.values["C"].as_str(), dot_env.refused.len()), ("2", 1), "{value}");
        }
        let twice = parsed("A=1\nB=2\nA=1\n").unwrap();
        assert_eq!(twice.refused["A"].message, ".env:3: A is set twice, first in line 1");
    }

    #[test]
    fn reads_variables_of_any_length() {
        let long = "x".repeat(50_000);
        let variables = parsed(&format!("A=1\nexport B='two words' # why\nLONG={long}\n\nC=\n")).unwrap().values;
        let expected = [("A", "1"), ("B", "two words"), ("C", ""), ("LONG", long.as_str())];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }
}
