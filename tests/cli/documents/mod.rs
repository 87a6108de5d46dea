//! Checks README.md, SECURITY.md and docs/: each block is run as a reader would run it, each command parses, each link has a target.
//! docs/development.md describes how blocks are marked.

mod commands;
mod complete;
mod kinds;
mod links;
mod markdown;
mod messages;
mod run_blocks;

use std::fs;
use std::path::{Path, PathBuf};

/// A test for each document, so that they run in parallel.
macro_rules! documents {
    ($($name:ident: $path:literal,)*) => {
        const DOCUMENTS: &[&str] = &[$($path),*];

        $(#[test]
        fn $name() {
            run_blocks::run($path);
        })*
    };
}

documents! {
    the_readme_does_what_it_says: "README.md",
    deploying_does_what_it_says: "deploy/README.md",
    commands_do_what_they_say: "docs/commands.md",
    configuration_does_what_it_says: "docs/configuration.md",
    development_does_what_it_says: "docs/development.md",
    handlers_do_what_they_say: "docs/handlers.md",
    limits_are_what_they_say: "docs/limits.md",
    moving_from_python_does_what_it_says: "docs/moving-from-python.md",
    operations_do_what_they_say: "docs/operations.md",
    performance_does_what_it_says: "docs/performance.md",
    reliability_does_what_it_says: "docs/reliability.md",
    results_do_what_they_say: "docs/results.md",
    the_architecture_is_as_described: "docs/architecture.md",
    security_is_what_it_says: "SECURITY.md",
    status_does_what_it_says: "docs/status.md",
    taskmanagers_do_what_they_say: "docs/taskmanager.md",
    workers_do_what_they_say: "docs/workers.md",
    youtube_does_what_it_says: "docs/youtube.md",
}

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_document_is_tested_and_named_in_the_readme() {
    let readme = read("README.md");
    for folder in ["", "deploy/", "docs/"] {
        for entry in fs::read_dir(repository(folder)).unwrap() {
            let path = format!("{folder}{}", entry.unwrap().file_name().to_str().unwrap());
            let is_document = Path::new(&path).extension() == Some("md".as_ref());
            if is_document && !["CHANGELOG.md", "README.md"].contains(&path.as_str()) {
                assert!(DOCUMENTS.contains(&path.as_str()), "no test runs {path}");
                assert!(readme.contains(&format!("]({path})")), "README.md does not name {path}");
            }
        }
    }
}
