//! What is done with a block that is no command: its language says it.

use std::fs;
use std::path::Path;

use crate::promtool::promtool;
use crate::repository;
use crate::story::Story;

/// Sees that the text of `file`, in a language, is sound.
pub(crate) fn check(story: &mut Story, language: &str, file: &Path) {
    let name = file.to_str().unwrap();
    let text = fs::read_to_string(file).unwrap();
    match language {
        "json" | "jsonl" => is_json(&text),
        "toml" => story.succeeds("prismq", &["config", "--config", name]),
        "python" => story.succeeds("python3", &["-m", "py_compile", name]),
        "js" => story.succeeds("node", &["--check", name]),
        "php" => story.succeeds("php", &["-l", name]),
        "sh" | "bash" => story.succeeds("bash", &["-n", name]),
        "sql" => story.succeeds("sh", &["-c", &format!("sqlite3 -bail ~/.local/share/prismq/results.db < {name}")]),
        "rust" => is_an_example(&text),
        "yaml" => promtool(&["check", "config", "--syntax-only", "/dev/stdin"], &text),
        "ini" => is_a_unit(&text),
        _ => panic!("nobody knows how to try a block of {language:?}"),
    }
}

/// One document, or one a line.
fn is_json(text: &str) {
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        value.unwrap();
    }
}

/// Rust is compiled and run where it stands as an example; the document shows it as it is there.
fn is_an_example(text: &str) {
    let examples = fs::read_dir(repository("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut sources = examples.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let found = sources.any(|path| fs::read_to_string(path).unwrap().contains(text));
    assert!(found, "no file in examples/ holds this, word for word");
}

fn is_a_unit(text: &str) {
    for line in text.lines() {
        let section = line.starts_with('[') && line.ends_with(']');
        assert!(section || line.is_empty() || line.contains('='), "{line:?} is no line of a unit");
    }
}
