//! Checks the messages that documents quote.

use std::fs;
use std::path::Path;

use super::{markdown, read, repository};

/// All source files of the program, with texts that run over several lines joined.
fn sources() -> String {
    let mut sources = String::new();
    collect(&repository("src"), &mut sources);
    let mut lines = sources.lines();
    let mut joined = String::new();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while line.ends_with('\\') {
            line.pop();
            line += lines.next().unwrap_or_default().trim_start();
        }
        joined += &line;
        joined.push('\n');
    }
    joined.replace("\\\"", "\"")
}

fn collect(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &fs::read_to_string(path).unwrap();
        }
    }
}

/// The first column of the tables under 'Trouble' quotes messages, with `…` for what differs from case to case.
#[test]
fn quoted_messages_exist_in_the_program() {
    let sources = sources();
    let document = read("docs/operations.md");
    let (before, trouble) =
        document.split_once("\n## Troubleshooting").expect("operations.md has a chapter Troubleshooting");
    let start = before.lines().count() + 1;
    let mut quoted = 0;
    for (number, row) in trouble.lines().enumerate() {
        let Some(cell) = row.strip_prefix("| `") else { continue };
        for (_, message) in markdown::spans(&format!("`{}", cell.split(" | ").next().unwrap())) {
            let missing = message.split('…').map(str::trim).find(|piece| !sources.contains(piece));
            assert_eq!(missing, None, "docs/operations.md, line {}: {message}", start + number + 1);
            quoted += 1;
        }
    }
    assert!(quoted > 20, "{quoted} messages");
}
