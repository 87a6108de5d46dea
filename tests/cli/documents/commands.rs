//! Checks the commands in the prose.

use super::{DOCUMENTS, markdown, read};
use crate::support::Sandbox;

/// Placeholders, each with a value for it.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("COMMAND", "work"),
    ("ID", "12"),
    ("N", "2"),
    ("D", "5s"),
    ("SHELL", "bash"),
    ("TIME", "5s"),
    ("ADDR", "127.0.0.1:9090"),
];

/// The help of a command parses what precedes `--help` as usual: names of commands and options, values, and their
/// number. Nothing is run.
#[test]
fn every_command_in_the_prose_parses() {
    let sandbox = Sandbox::new();
    for document in DOCUMENTS {
        for (line, span) in markdown::spans(&read(document)) {
            let Some(command) = span.strip_prefix("prismq ") else { continue };
            let words = words(command);
            let output = sandbox.prismq(words.iter().map(String::as_str).chain(["--help"])).run();
            assert_eq!(output.code(), 0, "{document}, line {line}: prismq {command}\n{}", output.stderr);
        }
    }
}

/// The words of a command line, with values for placeholders.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    let thing =
        |word: &String| PLACEHOLDERS.iter().find(|(name, _)| name == word).map(|(_, thing)| (*thing).to_owned());
    words.iter().map(|word| thing(word).unwrap_or_else(|| word.clone())).collect()
}
