//! Checks blocks that are not commands, by their language.

use std::fs;
use std::path::Path;

use super::read;
use super::run_blocks::BlockRunner;
use crate::support::promtool;

/// Asserts that the text of `file`, in a language, is valid.
pub(crate) fn check(runner: &BlockRunner, language: &str, file: &Path) {
    let name = file.to_str().unwrap();
    let text = fs::read_to_string(file).unwrap();
    match language {
        "json" | "jsonl" => is_json(&text),
        "toml" if name.ends_with("Cargo.toml") => _ = text.parse::<toml::Table>().unwrap(),
        "toml" => runner.succeeds("prismq", &["config", "--config", name]),
        "python" => runner.succeeds("python3", &["-m", "py_compile", name]),
        "js" => runner.succeeds("node", &["--check", name]),
        "php" => runner.succeeds("php", &["-l", name]),
        "sh" | "bash" => runner.succeeds("bash", &["-n", name]),
        "sql" => runner.succeeds("sh", &["-c", &format!("sqlite3 -bail ~/.local/share/prismq/results.db < {name}")]),
        "rust" => is_tried_by_rustdoc(runner.document()),
        "yaml" => promtool(&["check", "config", "--syntax-only", "/dev/stdin"], &text),
        "ini" => is_a_unit(&text),
        _ => panic!("nobody knows how to try a block of {language:?}"),
    }
}

/// One JSON document, or one per line.
fn is_json(text: &str) {
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        value.unwrap();
    }
}

/// Rust is compiled with the crate's documentation, which includes the document.
fn is_tried_by_rustdoc(document: &str) {
    let included = read("src/lib.rs").contains(&format!("include_str!(\"../{document}\")"));
    assert!(included, "src/lib.rs does not include {document} for rustdoc to try");
}

fn is_a_unit(text: &str) {
    for line in text.lines() {
        let section = line.starts_with('[') && line.ends_with(']');
        assert!(section || line.is_empty() || line.contains('='), "{line:?} is no line of a unit");
    }
}
